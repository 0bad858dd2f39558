"""Net and beta come out inside their bounds together, after lots, minima and what cannot trade."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.lot_problem import GROWTH_MAX
from daemon.domain.lots import FeasibleBook, LotRules, feasible_book
from daemon.domain.roundings import EXACT_LEGS, Bounds

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
EQUITY = 10_000.0
SLACK = 1e-9


@dataclass
class Case:
    """Hold one drawn universe: everything that a decision is rounded by."""

    weights: Floats
    marks: Floats
    held: Floats  # base units
    rules: LotRules
    betas: Floats
    trade: Flags
    untradable: Flags
    reduce_only: Flags
    net_max: float
    beta_max: float

    @property
    def value(self) -> Floats:
        return self.marks * self.rules.steps

    @property
    def wanted(self) -> Floats:
        change = self.weights * EQUITY / self.value - self.held / self.rules.steps
        return np.where(self.trade, change, 0.0)

    @property
    def allowed(self) -> Floats:
        """The wanted lots, without what untradable and reduce-only legs may not do."""
        held = self.held / self.rules.steps
        low, high = np.minimum(-held, 0.0), np.maximum(-held, 0.0)
        kept = np.where(self.reduce_only, np.clip(self.wanted, low, high), self.wanted)
        return np.where(self.untradable, 0.0, kept)

    @property
    def bounds(self) -> Bounds:
        notional = self.held * self.marks
        now = float(notional.sum()), float(notional @ self.betas)
        return Bounds(self.betas, *now, self.net_max, self.beta_max)

    def solve(self, order: npt.NDArray[np.intp] | None = None) -> FeasibleBook:
        o = np.arange(len(self.marks)) if order is None else order
        bounds = self.bounds
        rules = self.rules
        return feasible_book(
            self.weights[o],
            equity=EQUITY,
            marks=self.marks[o],
            quantities=self.held[o],
            rules=LotRules(rules.steps[o], rules.quantity_min[o], rules.notional_min[o]),
            trade=self.trade[o],
            untradable=self.untradable[o],
            reduce_only=self.reduce_only[o],
            bounds=Bounds(self.betas[o], bounds.net, bounds.beta, bounds.net_max, bounds.beta_max),
        )

    def after(self, lots: Floats) -> tuple[float, float]:
        """Net and beta after the trades, as shares of their bounds."""
        notional = self.held * self.marks + lots * self.value
        return float(notional.sum()) / self.net_max, float(notional @ self.betas) / self.beta_max

    def judged(self, lots: Floats) -> tuple[float, float]:
        """By how much a bound is broken, and the sum of squared errors; written down anew."""
        net, beta = self.after(lots)
        net_aim, beta_aim = np.clip(self.after(self.wanted), -1.0, 1.0)
        broken = max(0.0, abs(net) - 1.0, abs(beta) - 1.0)
        return broken, (net - net_aim) ** 2 + max(0.0, abs(beta) - abs(beta_aim)) ** 2

    def takes(self, index: int, lots: float) -> bool:
        """Whether the venue takes this trade, and our own flags and the target's side allow it."""
        held, step = self.held[index] / self.rules.steps[index], self.value[index]
        closes = lots != 0 and abs(held + lots) < 1.0 - SLACK
        target = held + self.allowed[index]
        return lots == 0 or bool(
            abs(lots) >= self.rules.lots_min[index]
            and (abs(lots) * step >= self.rules.notional_min[index] or closes)
            and (target * (held + lots) >= 0 or abs(held + lots) < SLACK)
            and (abs(target) > SLACK or abs(lots) <= abs(self.allowed[index]) + SLACK)
            and not (self.reduce_only[index] and abs(lots) > abs(held) + SLACK)
        )

    def alone(self) -> Floats:
        """Every leg rounded towards zero by itself; what is too small is left."""
        lots = np.trunc(self.allowed + np.copysign(SLACK, self.allowed))
        return np.array([n if self.takes(i, n) else 0.0 for i, n in enumerate(lots)])

    def neighbours(self) -> list[tuple[float, ...]]:
        """Give the numbers next to what each leg may want that a venue takes, or zero."""
        found = []
        for i, exact in enumerate(self.allowed):
            low = float(np.trunc(exact + np.copysign(SLACK, exact)))
            near = [low] if abs(exact - low) <= SLACK else [low, low + float(np.sign(exact))]
            found.append(tuple(n for n in near if self.takes(i, n)) or (0.0,))
        return found


def drawn(seed: int, size: int, *, hard: bool) -> Case:
    """Draw a universe; a hard one has minima, dust, and legs that cannot do what they should."""
    rng = np.random.default_rng(seed)
    lot = 10.0 ** rng.uniform(-1, 2.3, size)  # its value, quote currency
    steps = 10.0 ** rng.integers(-3, 2, size).astype(float)
    marks = lot / steps
    held = np.rint(rng.normal(0, 600, size) / lot) * (rng.random(size) < 0.7)
    held += hard * 0.3 * (rng.random(size) < 0.2)
    weights = rng.normal(0, 0.1, size)
    betas = 0.3 + 0.7 * rng.uniform(-0.2, 2.2, size)
    weights -= weights.mean()
    if rng.random() < 0.5 and size > 2:  # neutral to both
        both = np.array([np.ones(size), betas])
        weights -= both.T @ np.linalg.lstsq(both @ both.T, both @ weights, rcond=None)[0]
    return Case(
        weights,
        marks,
        held * steps,
        LotRules(
            steps,
            steps * (1 + 2 * hard * rng.integers(0, 2, size)),
            np.full(size, hard * rng.choice([0.0, 5.0, 100.0])),
        ),
        betas,
        trade=rng.random(size) < 0.9,
        untradable=hard * (rng.random(size) < 0.15) > 0,
        reduce_only=hard * (rng.random(size) < 0.25) > 0,
        net_max=float(rng.choice([30.0, 200.0, 1_000.0])),
        beta_max=float(rng.choice([30.0, 200.0, 1_000.0])),
    )


seeds = st.integers(0, 2**32 - 1)
cases = st.builds(drawn, seeds, st.integers(1, 24), hard=st.booleans())
small_cases = st.builds(drawn, seeds, st.integers(1, 5), hard=st.booleans())


@given(small_cases)
def test_a_book_inside_both_bounds_is_found_wherever_single_roundings_give_one(case: Case) -> None:
    least = min(case.judged(np.array(lots))[0] for lots in product(*case.neighbours()))
    assert case.judged(case.solve().lots)[0] <= least + SLACK


@given(st.builds(drawn, seeds, st.integers(1, 8), hard=st.just(False)))
@settings(max_examples=50)
def test_of_all_roundings_of_a_small_book_none_is_better(case: Case) -> None:
    best = min(case.judged(np.array(lots)) for lots in product(*case.neighbours()))
    broken, squares = case.judged(case.solve().lots)
    assert broken <= best[0] + SLACK
    if broken == best[0] == 0.0:
        assert squares <= best[1] + SLACK


@given(cases)
def test_it_is_never_worse_than_rounding_each_leg_by_itself(case: Case) -> None:
    broken, squares = case.judged(case.solve().lots)
    broken_alone, squares_alone = case.judged(case.alone())
    assert broken <= broken_alone + SLACK
    if broken_alone == 0.0:
        assert squares <= squares_alone + SLACK


@given(cases)
def test_each_trade_is_allowed_and_no_leg_passes_its_target_or_changes_side(case: Case) -> None:
    found = case.solve()
    held = case.held / case.rules.steps
    assert (found.lots == np.rint(found.lots)).all()
    for i, lots in enumerate(found.lots):
        assert lots == 0 or abs(lots) >= case.rules.lots_min[i]
        enough = abs(lots) * case.value[i] >= case.rules.notional_min[i] - SLACK
        assert lots == 0 or enough or abs(held[i] + lots) < 1.0
        assert lots * case.allowed[i] >= 0
        assert abs(lots) <= np.ceil(GROWTH_MAX * abs(case.allowed[i]) + SLACK)
        # between what is held and what is wanted there is no third side
        target, after = held[i] + case.allowed[i], held[i] + lots
        assert abs(after) < SLACK or np.sign(after) in {np.sign(held[i]), np.sign(target)}
    assert not found.lots[case.untradable | ~case.trade].any()
    after = held + found.lots
    shrinking = case.reduce_only
    assert (np.abs(after) <= np.abs(held) + SLACK)[shrinking].all()
    assert (after * np.sign(held) >= -SLACK)[shrinking].all()


@given(cases, seeds)
def test_the_order_of_the_legs_does_not_matter(case: Case, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(case.marks))
    assert case.solve(order).lots.tolist() == case.solve().lots[order].tolist()


def plain(
    weights: list[float],
    betas: list[float],
    held: list[float] | None = None,
    *,
    beta_max: float = 1e9,
    net_max: float = 100.0,
    mark: float | list[float] = 1.0,
    notional_min: float = 0.0,
    quantity_min: float = 1.0,
) -> FeasibleBook:
    """Solve a problem of legs of one coin each: step 1, equity 100."""
    size = len(weights)
    marks = np.broadcast_to(np.array(mark, dtype=float), size).copy()
    quantities = np.zeros(size) if held is None else np.array(held)
    now = quantities * marks
    bounds = Bounds(
        np.array(betas), float(now.sum()), float(now @ np.array(betas)), net_max, beta_max
    )
    return feasible_book(
        np.array(weights),
        equity=100.0,
        marks=marks,
        quantities=quantities,
        rules=LotRules(np.ones(size), np.full(size, quantity_min), np.full(size, notional_min)),
        bounds=bounds,
    )


def test_among_roundings_of_one_net_the_one_without_beta_is_taken() -> None:
    # 20.5 and 20.5 against 41: one of the two buys is rounded up, and beta says which one
    for light, heavy in ((0, 1), (1, 0)):
        betas = [2.0, 2.0, 1.5]
        betas[light] = 1.0
        found = plain([0.205, 0.205, -0.41], betas, beta_max=10.0)
        assert found.lots[heavy] == 20
        assert found.lots[light] == 21
        assert found.lots.sum() == 0


def test_targets_past_the_bound_on_beta_shrink_to_it_and_it_is_said_by_how_much() -> None:
    found = plain([0.40, -0.40], [2.0, 1.0], beta_max=30.0)
    assert found.lots.tolist() == [30, -30]
    assert found.shrunk == pytest.approx(20.0)
    inside = plain([0.40, -0.40], [2.0, 1.0], beta_max=40.0)
    assert inside.lots.tolist() == [40, -40]
    assert inside.shrunk == 0.0


def test_dust_is_named_kept_and_offset() -> None:
    # 2 coins may not be sold where 3 are the least; the other long shrinks by them
    found = plain([0.0, 0.40, -0.40], [1.0, 1.0, 1.0], [2.0, 0.0, 0.0], quantity_min=3.0)
    assert list(found.dust) == [0]
    assert found.lots.tolist() == [0, 38, -40]
    closed = plain([0.0, 0.40, -0.40], [1.0, 1.0, 1.0], [2.0, 0.0, 0.0], notional_min=3.0)
    assert closed.lots.tolist() == [-2, 40, -40]
    assert not closed.dust


def test_closes_are_never_shrunk_for_a_bound() -> None:
    found = plain([0.0, 0.0], [2.0, 0.5], [40.0, -40.0], beta_max=1.0, net_max=1.0)
    assert found.lots.tolist() == [-40, 40]


def test_many_legs_come_out_much_nearer_than_by_net_alone() -> None:
    both, alone = [], []
    for seed in range(40):
        case = drawn(seed, EXACT_LEGS * 3, hard=False)
        case.net_max = case.beta_max = 200.0
        case.trade[:] = True
        rows = np.array([np.ones(len(case.betas)), case.betas])
        case.weights -= rows.T @ np.linalg.solve(rows @ rows.T, rows @ case.weights)
        net_only = feasible_book(
            case.weights,
            equity=EQUITY,
            marks=case.marks,
            quantities=case.held,
            rules=case.rules,
        )
        both.append(case.judged(case.solve().lots)[1] ** 0.5)
        alone.append(case.judged(net_only.lots)[1] ** 0.5)
    assert np.median(both) <= 0.01  # of a bound of 200, where lots are worth 0.1 to 200
    assert np.median(both) <= 0.1 * np.median(alone)
