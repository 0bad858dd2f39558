"""Hold the step from weights to lots to its promises, leg by leg and for the whole book."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.lots import FeasibleBook, LotRules, feasible_book, quantities

EQUITY = 10_000.0
STEPS = ("1", "0.1", "0.01", "0.001", "0.00001", "0.5", "5", "0.025")


class Problem:
    """Hold one drawn problem: exact holdings and steps, their float mirrors, and masks."""

    def __init__(self, seed: int, size: int, *, minima: bool, dust: bool = False) -> None:
        rng = np.random.default_rng(seed)
        self.steps_exact = [Decimal(str(s)) for s in rng.choice(STEPS, size)]
        self.marks = 10.0 ** rng.uniform(-2, 4.5, size)
        lots = np.rint(
            rng.standard_normal(size)
            * 800
            / self.marks
            / np.array([float(s) for s in self.steps_exact])
        )
        self.held_exact = [Decimal(int(n)) * s for n, s in zip(lots, self.steps_exact, strict=True)]
        if dust:
            self.held_exact = [
                q + s / 4 for q, s in zip(self.held_exact, self.steps_exact, strict=True)
            ]
        self.held = np.array([float(q) for q in self.held_exact])
        target = rng.standard_normal(size) * 0.1
        self.weights = target - target.mean()
        self.trade = rng.random(size) < 0.8
        self.reduce_only = rng.random(size) < 0.3
        self.untradable = rng.random(size) < 0.15
        self.rules = LotRules(
            np.array([float(s) for s in self.steps_exact]),
            np.array([float(s) for s in self.steps_exact])
            * (1 + 3 * minima * rng.integers(0, 2, size)),
            np.full(size, 20.0 * minima),
        )

    def solve(self, **changes: object) -> FeasibleBook:
        inputs: dict[str, object] = {
            "equity": EQUITY,
            "marks": self.marks,
            "quantities": self.held,
            "rules": self.rules,
            "trade": self.trade,
        }
        return feasible_book(self.weights, **(inputs | changes))  # type: ignore[arg-type]

    @property
    def wanted(self) -> np.ndarray:
        """The wanted change in lots, (N,)."""
        change = self.weights * EQUITY / self.marks - self.held
        return np.where(self.trade, change / self.rules.steps, 0.0)

    @property
    def value(self) -> np.ndarray:
        return self.marks * self.rules.steps


def simple(
    weights: list[float],
    held: list[float],
    *,
    mark: float = 1.0,
    notional_min: float = 0.0,
    **changes: object,
) -> FeasibleBook:
    """Solve a problem of equal legs: step 1, equity 100."""
    size = len(weights)
    rules = LotRules(np.ones(size), np.ones(size), np.full(size, notional_min))
    inputs: dict[str, object] = {
        "equity": 100.0,
        "marks": np.full(size, mark),
        "quantities": np.array(held),
        "rules": rules,
    }
    return feasible_book(np.array(weights), **(inputs | changes))  # type: ignore[arg-type]


problems = st.builds(Problem, st.integers(0, 2**32 - 1), st.integers(1, 16), minima=st.just(False))
hard_problems = st.builds(
    Problem, st.integers(0, 2**32 - 1), st.integers(1, 16), minima=st.just(True), dust=st.booleans()
)


@given(problems)
def test_every_leg_is_rounded_to_a_neighbouring_whole_lot(problem: Problem) -> None:
    lots = problem.solve().lots
    assert (lots == np.rint(lots)).all()
    assert (np.abs(lots - problem.wanted) < 1.0 + 1e-6).all()
    assert not lots[~problem.trade].any()


@given(problems)
def test_no_single_rounding_would_bring_the_net_nearer(problem: Problem) -> None:
    found = problem.solve()
    wanted, value = problem.wanted, problem.value
    error = float(value @ (found.lots - wanted))
    assert found.net_error == pytest.approx(error, abs=1e-6)
    for i in np.flatnonzero(np.abs(wanted - np.rint(wanted)) > 1e-6):
        lower = np.trunc(wanted[i])
        other = lower if found.lots[i] != lower else lower + np.sign(wanted[i])
        after_sign = (problem.held[i] / problem.rules.steps[i]) + other
        crosses = after_sign * (problem.held[i] / problem.rules.steps[i] + wanted[i]) < 0
        if not crosses:
            assert abs(error + (other - found.lots[i]) * value[i]) >= abs(error) - 1e-6


@given(problems)
def test_the_net_error_is_below_half_the_largest_lot(problem: Problem) -> None:
    found = problem.solve()
    if problem.trade.any():
        assert (
            abs(found.net_error) <= 0.5 * problem.value[problem.trade].max() + 1e-6
            or (
                # a leg that would change sign may not be rounded outwards
                np.abs(problem.held + problem.wanted * problem.rules.steps) < problem.rules.steps
            ).any()
        )


@given(hard_problems)
def test_reduce_only_legs_never_grow_and_never_change_sign(problem: Problem) -> None:
    found = problem.solve(reduce_only=problem.reduce_only)
    after = problem.held + found.lots * problem.rules.steps
    shrinking = problem.reduce_only
    slack = 1e-6 * problem.rules.steps  # floats of decimals
    assert (np.abs(after) <= np.abs(problem.held) + slack)[shrinking].all()
    assert (after * np.sign(problem.held) >= -slack)[shrinking].all()


@given(hard_problems)
def test_untradable_and_resting_legs_do_not_trade(problem: Problem) -> None:
    found = problem.solve(untradable=problem.untradable)
    assert not found.lots[problem.untradable].any()
    assert not found.lots[~problem.trade].any()


@given(hard_problems)
def test_every_trade_is_one_the_venue_takes(problem: Problem) -> None:
    found = problem.solve(reduce_only=problem.reduce_only, untradable=problem.untradable)
    size = np.abs(found.lots)
    after = np.abs(problem.held / problem.rules.steps + found.lots)
    traded = size > 0
    assert (size * problem.rules.steps >= problem.rules.quantity_min * (1 - 1e-9))[traded].all()
    big_enough = size * problem.value >= problem.rules.notional_min - 1e-9
    assert (big_enough | (after < 1.0))[traded].all()


@given(hard_problems)
def test_quantities_are_exact_multiples_of_the_step(problem: Problem) -> None:
    found = problem.solve()
    rules = [TradingRules(Decimal("0.01"), s, s, Decimal(0)) for s in problem.steps_exact]
    exact = quantities(found.lots, rules)
    assert sorted(exact) == np.flatnonzero(found.lots).tolist()
    for i, quantity in exact.items():
        assert quantity % problem.steps_exact[i] == 0
        assert quantity / problem.steps_exact[i] == int(found.lots[i])
        after = problem.held_exact[i] + quantity
        assert float(after) == pytest.approx(
            problem.held[i] + found.lots[i] * problem.rules.steps[i], rel=1e-9, abs=1e-9
        )


@given(problems, st.integers(0, 2**32 - 1))
def test_the_order_of_the_legs_does_not_matter(problem: Problem, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(problem.marks))
    plain = problem.solve()
    rules = LotRules(
        problem.rules.steps[order],
        problem.rules.quantity_min[order],
        problem.rules.notional_min[order],
    )
    shuffled = feasible_book(
        problem.weights[order],
        equity=EQUITY,
        marks=problem.marks[order],
        quantities=problem.held[order],
        rules=rules,
        trade=problem.trade[order],
    )
    assert shuffled.lots.tolist() == plain.lots[order].tolist()


@given(hard_problems)
@example(Problem(1, 12, minima=True))
def test_wanting_what_is_held_trades_nothing(problem: Problem) -> None:
    same = problem.held * problem.marks / EQUITY
    found = feasible_book(
        same, equity=EQUITY, marks=problem.marks, quantities=problem.held, rules=problem.rules
    )
    assert not found.lots.any()
    nothing = problem.solve(trade=np.zeros(len(problem.marks), dtype=bool))
    assert not nothing.lots.any()
    assert nothing.net_error == 0.0


def test_roundings_are_flipped_until_the_book_balances() -> None:
    # +10.6 +10.6 +10.6 -31.8: towards zero this would be 30 against 31
    found = simple([0.106, 0.106, 0.106, -0.318], [0, 0, 0, 0])
    assert found.lots.sum() == 0
    assert np.abs(found.lots - np.array([10.6, 10.6, 10.6, -31.8])).max() < 1


def test_an_error_within_the_tolerance_is_left_alone() -> None:
    found = simple([0.106, -0.109], [0, 0], net_tolerance=1.0)
    assert found.lots.tolist() == [10, -10]
    assert found.net_error == pytest.approx(0.3)


def test_nan_weights_leave_a_leg_untouched_even_without_a_mark() -> None:
    found = simple([0.1, np.nan, -0.1], [0, 5, 0], marks=np.array([1.0, np.nan, 1.0]))
    assert found.lots.tolist() == [10, 0, -10]
    assert not found.dropped.any()


def test_a_leg_below_the_minimum_is_dropped_and_its_counterpart_shrinks() -> None:
    found = simple([0.30, 0.20, -0.04, -0.46], [0, 0, 0, 0], notional_min=5.0)
    assert found.lots[2] == 0
    assert found.dropped.tolist() == [False, False, True, False]
    assert found.lots.sum() == 0
    assert found.lots.tolist() == [28, 18, 0, -46]
    assert "1 leg(s) left as they are" in found.note


def test_when_nothing_is_left_to_shrink_the_other_side_grows() -> None:
    # the only sell closes a position and must happen; the small buy is dropped, the other buy grows
    found = simple([0.04, 0.16, 0.0], [0, 0, 20], notional_min=5.0)
    assert found.lots.tolist() == [0, 20, -20]


def test_a_tiny_leg_is_not_blown_up_to_offset_a_large_one() -> None:
    untradable = np.array([True, False, False])
    found = simple([0.5, -0.4, -0.1], [0, 0, 0], untradable=untradable)
    assert not found.lots.any()  # the sells shrink away with the buy that cannot happen
    only_grow = simple([-0.5, 0.4, 0.1], [0, -40, 0], untradable=untradable)
    assert only_grow.lots[0] == 0
    assert abs(only_grow.lots).sum() <= 2 * 90


@given(hard_problems)
def test_no_leg_trades_more_than_twice_what_it_wants_nor_over_zero(problem: Problem) -> None:
    found = problem.solve(untradable=problem.untradable, reduce_only=problem.reduce_only)
    wanted, held = problem.wanted, problem.held / problem.rules.steps
    assert (np.abs(found.lots) <= 2.0 * np.abs(wanted) + 1.0 + 1e-6).all()
    assert (found.lots * wanted >= 0.0).all()
    reduces = (wanted * held < 0) & (np.abs(wanted) <= np.abs(held))
    assert ((held + found.lots) * np.sign(held) >= -1e-6)[reduces].all()


def test_rounds_of_sharing_out_do_not_grow_a_leg_beyond_twice_what_it_wants() -> None:
    """The large sell cannot happen and two legs close; one small sell made up for everything."""
    untradable = np.array([True, False, False, False, False, False])
    found = simple(
        [-0.50, 0.02, -0.30, 0.0, 0.0, 0.0],
        [0, 0, 0, 30, 30, -100],
        notional_min=5.0,
        untradable=untradable,
    )
    assert found.lots.tolist() == [0, 0, -60, -30, -30, 100]
    assert found.net_error > 0.0  # said, not hidden in a leg of 200


def test_closing_completely_is_allowed_below_the_minimum_and_dust_stays_dust() -> None:
    found = simple([0.0, 0.0], [3.0, -3.4], notional_min=50.0)
    assert found.lots.tolist() == [-3, 3]
    dust = simple([0.0, 0.0], [0.4, -0.3], notional_min=50.0)
    assert not dust.lots.any()


def test_a_close_is_not_rounded_over_zero() -> None:
    # 8 lots would bring the net nearer, but leave a short of 0.4
    assert simple([0.0], [7.6]).lots.tolist() == [-7]
    assert simple([0.001], [0.9]).lots.tolist() == [0]


def test_closing_is_not_shrunk_to_offset_a_dropped_leg() -> None:
    found = simple([0.0, 0.03, 0.12], [-20, 0, 0], notional_min=5.0)
    assert found.lots[0] == 20


def test_a_position_read_as_a_float_closes_to_the_last_lot() -> None:
    rules = LotRules(np.array([0.1, 0.001]), np.array([0.1, 0.001]), np.zeros(2))
    held = np.array([0.3, -1.157])  # 0.3 / 0.1 is just below 3
    found = feasible_book(
        np.zeros(2), equity=100.0, marks=np.array([9.0, 2.0]), quantities=held, rules=rules
    )
    assert found.lots.tolist() == [-3, 1157]


def test_a_leg_asked_to_grow_against_its_flag_stays_and_the_others_make_up_for_it() -> None:
    grow = np.array([True, False, False])
    found = simple([0.30, -0.15, -0.15], [10, 0, 0], reduce_only=grow)
    assert found.lots[0] == 0
    assert found.dropped[0]
    # the wanted change of net is -10: the sells shrink from 15 + 15 to that
    assert found.lots.tolist() == [0, -5, -5]
    no_flag = simple([0.30, -0.15, -0.15], [10, 0, 0], reduce_only=np.zeros(3, dtype=bool))
    assert no_flag.lots.tolist() == [20, -15, -15]


def test_rules_are_read_off_the_universe() -> None:
    rules = TradingRules(Decimal("0.1"), Decimal("0.01"), Decimal("0.03"), Decimal(5))
    instrument = Instrument(InstrumentKey("v", "A/USDT:USDT"), "A", "USDT", "USDT", rules)
    found = LotRules.of(Universe((instrument,)))
    assert found.steps.tolist() == [0.01]
    assert found.lots_min.tolist() == [3.0]
    assert found.notional_min.tolist() == [5.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"equity": 0.0}, "equity 0.0 must be positive"),
        ({"marks": np.array([0.0, 1.0])}, "not positive"),
        ({"marks": np.array([np.nan, 1.0])}, "asks for no number"),
        ({"marks": np.array([1e-16, 1.0])}, r"more than 2\^53"),
        ({"marks": np.array([-1.0, 1.0])}, "not positive"),
    ],
)
def test_senseless_inputs_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvariantViolated, match=message):
        simple([0.1, -0.1], [0, 0], **changes)  # type: ignore[arg-type]
    with pytest.raises(InvariantViolated, match="step is not positive"):
        LotRules(np.zeros(1), np.ones(1), np.ones(1))
