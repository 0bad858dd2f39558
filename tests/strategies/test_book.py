"""Hold the shared book maker to its bounds: breadth, concentration, liquidity, who may enter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from msgspec import structs

from daemon.domain.bar import Field, Floats
from daemon.domain.concentration import bets_apart, bets_by_risk
from daemon.domain.covariance import Covariance
from daemon.domain.failures import InvariantViolated
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.view import View
from strategies import book
from strategies.book import Outlook
from strategies.book_memory import fresh_memory, read_memory
from strategies.book_settings import BookSettings, Weights
from strategies.weighting import long_short
from tests.strategies.views import HOUR, make_view

N = 16


def seen(seed: int = 1) -> View:
    """Give a view of a market without any pattern, and cheap to trade."""
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(rng.normal(0.0, 0.008, (book.RISK_BARS, N)), axis=0))
    view = make_view(closes, cost=np.full(N, 1e-5))
    view.windows[HOUR].values[:, :, Field.VOLUME] = 1e4
    return view


def decided(
    knobs: BookSettings, alpha: Floats, view: View | None = None, sides: Floats | None = None
) -> TargetPortfolio:
    view = view or seen()
    outlook = Outlook(
        alpha=alpha,
        variance=np.zeros(N),
        risk=book.risk_now(view, knobs),
        phi=knobs.phi,
        sides=sides,
    )
    return book.decide(knobs, fresh_memory(N), view, outlook)[1]


def alphas(known: int = N) -> Floats:
    found = 0.03 * np.random.default_rng(9).standard_normal(N)
    found[known:] = np.nan
    return found


def gross(target: TargetPortfolio) -> float:
    return float(np.abs(target.ideal).sum())


def test_a_book_of_fewer_names_than_wanted_shrinks_in_proportion_and_says_so() -> None:
    knobs = BookSettings(breadth_full=12)
    assert gross(decided(knobs, alphas())) == pytest.approx(1.0)
    few = decided(knobs, alphas(9))
    assert gross(few) == pytest.approx(9 / 12)
    assert "9 of 12 names: gross times 0.75" in few.note
    assert "smaller than allowed" in few.note
    assert decided(knobs, alphas(5)).note == "hold: 5 usable forecasts; 6 are needed"
    assert gross(decided(BookSettings(), alphas(9))) == pytest.approx(1.0)


def test_too_few_effective_bets_shrink_the_book_and_say_so() -> None:
    lone = np.linspace(-0.001, 0.001, N)
    lone[0] = 0.2
    knobs = BookSettings(name_weight_max=0.5)
    plain = decided(knobs, lone)
    cut = decided(replace(knobs, bets_min=6.0), lone)
    bets = bets_by_risk(plain.ideal, np.full(N, 1.0))
    assert bets < 4.0
    assert gross(cut) < 0.7 * gross(plain)
    assert "of 6 effective bets: gross times" in cut.note
    wide = decided(replace(knobs, bets_min=2.0), alphas())
    assert gross(wide) == pytest.approx(1.0)
    both = decided(replace(knobs, bets_min=6.0, breadth_full=20), lone)
    assert "16 of 20 names" in both.note
    assert "effective bets" in both.note


def test_with_a_predicted_covariance_coins_that_move_as_one_are_one_bet() -> None:
    """Two halves that each move as one: by the risk of each leg alone the book is well spread."""
    alpha = np.repeat([0.05, -0.05], N // 2)
    alpha[0], alpha[-1] = 0.0505, -0.0505
    view = seen()
    block = np.full((N // 2, N // 2), 0.9) + 0.1 * np.eye(N // 2)
    correlation: Floats = np.kron(np.eye(2), block).astype(np.float64)
    predicted = Covariance(view.as_of_ms, "test", np.full(N, 0.008), correlation)
    view = structs.replace(view, covariance=predicted)
    knobs = BookSettings(weights=Weights.MEAN_VARIANCE, bets_min=6.0, name_weight_max=0.08)
    found = decided(knobs, alpha, view)
    assert bets_apart(found.ideal[None], predicted.matrix)[0] < 3.0
    assert bets_by_risk(found.ideal, np.ones(N)) > 6.0
    assert "of 6 effective bets: gross times" in found.note
    assert gross(found) < 0.5
    apart = structs.replace(view, covariance=structs.replace(predicted, correlation=np.eye(N)))
    assert "effective bets" not in decided(knobs, alpha, apart).note


def test_who_is_little_traded_has_a_smaller_cap_or_no_place() -> None:
    view = seen()
    volume = view.windows[HOUR].values[:, :, Field.VOLUME]
    volume[:, 0], volume[:, 1] = 50.0, 0.5
    loud = alphas()
    loud[0], loud[1] = 0.5, 0.5
    knobs = BookSettings(liquidity_tiers_usdt=(100_000, 1_000))
    target = decided(knobs, loud, view)
    assert target.ideal[0] == pytest.approx(0.1)
    assert target.ideal[1] == target.weights[1] == 0.0
    assert target.ideal.sum() == pytest.approx(0.0, abs=1e-12)
    assert gross(target) == pytest.approx(1.0)
    assert "1 left out: too little traded" in target.note
    held = np.zeros(N)
    held[1], held[2] = 0.1, -0.1
    closing = decided(knobs, loud, structs.replace(view, weights=held))
    assert closing.weights[1] == pytest.approx(0.0, abs=1e-3), "what lost its tier is closed"
    assert decided(BookSettings(), loud, view).ideal[1] == pytest.approx(0.2)


def test_caps_of_each_leg_bind_and_the_book_stays_neutral() -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        n = int(rng.integers(4, 30))
        caps = rng.uniform(0.01, 0.3, n)
        alpha, variance = rng.standard_normal(n), rng.uniform(0.5, 2.0, n)
        beta = rng.uniform(0.5, 1.5, n) if rng.random() < 0.3 else None
        made = long_short(
            alpha,
            variance,
            tradable=np.ones(n, dtype=bool),
            gross=1.0,
            weight_max=caps,
            beta=beta,
        )
        assert (np.abs(made.weights) <= caps + 1e-15).all()
        assert made.weights.sum() == pytest.approx(0.0, abs=1e-11)
        assert made.gross <= 1.0 + 1e-9
        assert made.gross >= 1.0 - 1e-6 or made.note
    same = long_short(
        alpha, variance, tradable=np.ones(n, dtype=bool), gross=1.0, weight_max=np.full(n, 0.2)
    )
    one = long_short(alpha, variance, tradable=np.ones(n, dtype=bool), gross=1.0, weight_max=0.2)
    assert same.weights == pytest.approx(one.weights, abs=1e-9)
    with pytest.raises(InvariantViolated, match="must be positive"):
        long_short(
            alpha, variance, tradable=np.ones(n, dtype=bool), gross=1.0, weight_max=np.zeros(n)
        )


def test_only_who_has_a_side_is_held_and_counted_and_on_no_other_side() -> None:
    sides = np.zeros(N)
    sides[:8] = np.sign(alphas()[:8])
    target = decided(BookSettings(), alphas(), sides=sides)
    assert (target.ideal * sides >= 0.0).all()
    assert (target.ideal != 0.0).sum() >= 6
    assert not target.ideal[8:].any()
    assert not target.weights[8:].any()
    sides[3:] = 0.0
    few = decided(BookSettings(), alphas(), sides=sides)
    assert few.note == "hold: 3 usable forecasts; 6 are needed"


def test_a_leg_that_would_stand_on_the_wrong_side_gives_up_its_place() -> None:
    alpha = np.full(N, 0.05)
    alpha[:6] = -0.05
    alpha[6] = 0.01  # above nothing that is long: a neutral book would sell it
    alpha[7:] += np.linspace(0.0, 0.02, N - 7)
    free = decided(BookSettings(), alpha)
    bound = decided(BookSettings(), alpha, sides=np.sign(alpha))
    assert free.ideal[6] < 0.0
    assert bound.ideal[6] == bound.weights[6] == 0.0
    assert bound.ideal.sum() == pytest.approx(0.0, abs=1e-12)


def test_a_strategy_may_not_name_its_arrays_as_the_book_does() -> None:
    state = fresh_memory(3)._asdict()
    with pytest.raises(InvariantViolated, match=r"\['health'\] are called as those of the book"):
        read_memory(state, 3, ("mine", "health"))
    assert read_memory({**state, "mine": np.zeros(1)}, 3, ("mine",)).holds.tolist() == [0.0]
