"""Hold each conventional strategy to its own pattern, and to what every neutral book promises."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import HOUR_MS
from daemon.domain.view import View
from daemon.ports import Strategy
from strategies.factors import Factor, exposures
from strategies.registry import make_strategy
from strategies.risk import residual_risk
from strategies.scored import carried_returns, standardised, without_market
from tests.strategies import planted
from tests.strategies.planted import COINS_N, HOUR, Market, gains, one, t_value
from tests.strategies.views import make_view

NAMES = ("carry", "low_volatility", "momentum", "pairs", "reversal")
BARS = {"carry": 169, "low_volatility": 169, "momentum": 193, "pairs": 337, "reversal": 169}
PLANTED: tuple[tuple[str, Callable[[float, int, int], Market], float], ...] = (
    ("momentum", planted.drifting, 0.1),
    ("reversal", planted.bouncing, 0.5),
    ("low_volatility", planted.calm_pays, 0.08),
    ("pairs", planted.reverting, 0.08),
)
HOURS = 400


def view_of(market: Market, bars: int, **changes: object) -> View:
    plain: dict[str, object] = {"funding_rates": market.rates, "cost": np.full(COINS_N, 1e-4)}
    return make_view(market.closes[:bars], as_of_ms=bars * HOUR_MS, **(plain | changes))


def some_market(seed: int, bars: int) -> Market:
    """Make coins that revert and that pay funding, so that no strategy is without an opinion."""
    market = planted.reverting(0.08, seed, bars)
    return Market(market.closes, planted.paying(3e-4, seed, bars).rates, market.sigma)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_strategy_that_needs_no_forecasts(name: str) -> None:
    strategy: Strategy = make_strategy(name, {})
    assert strategy.name == name
    assert not strategy.needs_estimates
    assert strategy.windows_needed == {HOUR: BARS[name]}


@pytest.mark.parametrize(("name", "market", "size"), PLANTED, ids=[p[0] for p in PLANTED])
def test_it_earns_by_its_own_pattern_and_by_nothing_else(
    name: str, market: Callable[[float, int, int], Market], size: float
) -> None:
    strategy: Strategy = make_strategy(name, {})
    hours = BARS[name] + HOURS
    there = [t_value(gains(strategy, market(size, seed, hours))) for seed in (1, 2)]
    absent = [t_value(gains(strategy, market(0.0, seed, hours))) for seed in (1, 2)]
    assert sum(there) / 2**0.5 > 4.0, there
    assert abs(sum(absent)) / 2**0.5 < 2.6, absent


def test_carry_is_paid_and_where_all_pay_alike_it_holds_nothing() -> None:
    strategy: Strategy = make_strategy("carry", {})
    there = gains(strategy, planted.paying(3e-4, 1, 300), funding=True)
    assert there.min() > 0.0
    assert not gains(strategy, planted.paying(0.0, 1, 300)).any()


def test_an_unknown_funding_rate_is_no_alpha_and_no_rate_of_zero() -> None:
    strategy: Strategy = make_strategy("carry", {})
    market = some_market(3, 169)
    rates, held = market.rates.copy(), np.zeros(COINS_N)
    rates[4], held[4] = np.nan, 0.07
    view = view_of(market, 169, funding_rates=rates, weights=held)
    _, target = strategy.decide(strategy.initial_state(COINS_N), view)
    assert target.weights[4] == 0.07
    assert "1 kept as they are: no score" in target.note
    assert target.weights.sum() == pytest.approx(0.0, abs=1e-12)
    zero = replace(view, funding_rates=np.where(np.isnan(rates), 0.0, rates))
    _, other = strategy.decide(strategy.initial_state(COINS_N), zero)
    assert other.weights[4] != 0.07
    nothing = replace(view, funding_rates=np.full(COINS_N, np.nan), weights=np.zeros(COINS_N))
    _, empty = strategy.decide(strategy.initial_state(COINS_N), nothing)
    assert empty.note == "hold: 0 usable scores; 6 are needed"


def test_a_rate_is_compared_by_the_hour_whatever_the_interval_of_its_contract() -> None:
    strategy: Strategy = make_strategy("carry", {})
    market = some_market(3, 169)
    hours = np.where(np.arange(COINS_N) % 3 == 0, 8.0, np.where(np.arange(COINS_N) % 3 == 1, 4, 1))
    plain = view_of(market, 169)
    mixed = replace(plain, funding_rates=market.rates * hours / 8.0, funding_hours=hours)
    unseen = replace(plain, funding_hours=np.full(COINS_N, np.nan))
    wanted = strategy.decide(strategy.initial_state(COINS_N), plain)[1].ideal
    for view in (mixed, unseen):
        found = strategy.decide(strategy.initial_state(COINS_N), view)[1].ideal
        assert found == pytest.approx(wanted, abs=1e-12)
    factor = [
        exposures(
            [Factor.FUNDING],
            view,
            residual_risk(view.marks[None], half_life_bars=1),
            half_life_bars=1,
        ).columns
        for view in (plain, mixed)
    ]
    assert factor[0] == pytest.approx(factor[1])


def test_a_carry_alpha_is_the_funding_of_six_hours_over_the_risk_of_six_hours() -> None:
    strategy = make_strategy("carry", {"kept_share": 0.5, "alpha_half_life_hours": 10_000.0})
    view = view_of(some_market(3, 169), 169, funding_rates=np.full(COINS_N, 8e-4))
    volatility = np.full(COINS_N, 0.01)
    risk = type("Risk", (), {"volatility": volatility, "beta": np.ones(COINS_N)})()
    found = strategy.alpha(strategy.settings, view, risk, np.ones(COINS_N, dtype=bool))
    # half of 8 bps per eight hours is 0.5 bp an hour: 3 bps in six, over 1% * sqrt(6)
    assert found == pytest.approx(-3e-4 / (0.01 * 6**0.5), rel=1e-3)


# ---- what every neutral book promises ------------------------------------------------------------


@st.composite
def views(draw: st.DrawFn) -> tuple[str, View]:
    """Make a view with holes, newborn coins, untradable ones and a book that is already held."""
    name = draw(st.sampled_from(NAMES))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    market = some_market(draw(st.integers(0, 50)), BARS[name])
    closes = market.closes.copy()
    closes[rng.random(closes.shape) < draw(st.sampled_from([0.0, 0.02, 0.3]))] = np.nan
    newborn = draw(st.integers(0, 3))
    closes[: BARS[name] - 12, :newborn] = np.nan
    weights = rng.normal(0.0, 0.05, COINS_N) * draw(st.sampled_from([0.0, 1.0]))
    view = make_view(
        closes,
        as_of_ms=BARS[name] * HOUR_MS,
        weights=weights - weights.mean(),
        funding_rates=np.where(rng.random(COINS_N) < 0.1, np.nan, market.rates),
        cost=rng.uniform(0.0, 5e-4, COINS_N),
        eligible=rng.random(COINS_N) > 0.1,
        marks=np.where(np.isfinite(closes[-1]), closes[-1], 100.0),
    )
    return name, view


@settings(max_examples=30)
@given(views())
def test_books_are_neutral_capped_and_leave_the_untradable(case: tuple[str, View]) -> None:
    name, view = case
    strategy: Strategy = make_strategy(name, {})
    state, target = strategy.decide(strategy.initial_state(COINS_N), view)
    assert np.isfinite(target.weights).all()
    assert np.isfinite(target.ideal).all()
    assert np.isfinite(target.band).all()
    assert abs(float(target.weights.sum())) <= 0.01 * float(np.abs(target.weights).sum()) + 1e-12
    assert not target.weights[~view.eligible].any()
    assert (np.abs(target.weights) <= np.maximum(0.2, np.abs(view.weights)) + 1e-12).all()
    assert all(a.dtype == np.float64 for a in state.values())


@settings(max_examples=30)
@given(views(), st.integers(0, 10_000))
def test_permuting_the_coins_permutes_the_book(case: tuple[str, View], seed: int) -> None:
    name, view = case
    strategy: Strategy = make_strategy(name, {})
    order = np.random.default_rng(seed).permutation(COINS_N)
    window = view.windows[HOUR]
    mixed = replace(
        view,
        windows={HOUR: replace(window, values=window.values[:, order])},
        **{
            f: getattr(view, f)[order]
            for f in ("marks", "weights", "eligible", "cost", "funding_rates")
        },
    )
    _, target = strategy.decide(strategy.initial_state(COINS_N), view)
    _, other = strategy.decide(strategy.initial_state(COINS_N), mixed)
    # the gross corridor is found to half a percent only
    assert other.ideal == pytest.approx(target.ideal[order], abs=1e-7)
    assert other.note == target.note
    assert other.weights == pytest.approx(target.weights[order], abs=0.011)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_after_the_window_and_nothing_of_the_future_matters(name: str) -> None:
    strategy: Strategy = make_strategy(name, {})
    market = some_market(2, BARS[name] + 50)
    t = BARS[name] + 3
    changed = market.closes.copy()
    changed[t:] *= 7.0
    other = Market(changed, market.rates, market.sigma)
    state = strategy.initial_state(COINS_N)
    _, target = one(strategy, state, market, t, np.zeros(COINS_N))
    _, again = one(strategy, state, other, t, np.zeros(COINS_N))
    assert np.abs(target.weights).sum() > 0.5
    assert again.weights.tobytes() == target.weights.tobytes()


@pytest.mark.parametrize("name", ["momentum", "pairs"])
def test_a_newborn_coin_has_no_score_until_it_has_a_past(name: str) -> None:
    strategy: Strategy = make_strategy(name, {})
    market = some_market(2, BARS[name])
    market.closes[: BARS[name] - 60, 5] = np.nan
    _, target = strategy.decide(strategy.initial_state(COINS_N), view_of(market, BARS[name]))
    assert target.weights[5] == 0.0
    assert np.abs(target.weights).sum() > 0.5
    assert "1 kept as they are: no score" in target.note


def test_low_volatility_is_long_of_the_calm_and_carries_no_beta() -> None:
    strategy: Strategy = make_strategy("low_volatility", {})
    market = some_market(4, 169)
    _, target = strategy.decide(strategy.initial_state(COINS_N), view_of(market, 169))
    assert np.corrcoef(target.ideal, market.sigma)[0, 1] < -0.5
    assert strategy.settings.beta_neutral  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["low_volatility", "momentum", "reversal"])
@pytest.mark.parametrize("band", ["cube_root", "fixed"])
def test_what_is_traded_to_carries_no_beta_from_hour_to_hour(name: str, band: str) -> None:
    """Bands hold legs away from the ideal book, and betas move under those that rest."""
    strategy: Strategy = make_strategy(
        name, {"beta_neutral": True, "friction_max": 1e9, "band": band, "band_weight": 0.03}
    )
    rng = np.random.default_rng(5)
    hours, coins = 460, 20
    beta, size = rng.uniform(0.4, 1.9, coins), rng.uniform(0.003, 0.012, coins)
    common = rng.normal(0.0, 0.006, (hours, 1))
    moves = common * beta + rng.standard_normal((hours, coins)) * size
    closes = 100.0 * np.exp(np.cumsum(moves, axis=0))
    state, held, rested_n = strategy.initial_state(coins), np.zeros(coins), 0
    for t in range(400, hours):
        view = make_view(closes[t - 399 : t + 1], as_of_ms=t * HOUR_MS, weights=held)
        state, target = strategy.decide(state, view)
        betas = residual_risk(
            view.windows[HOUR].closes,
            half_life_bars=strategy.settings.volatility_half_life_hours,  # type: ignore[attr-defined]
        ).beta
        gross = float(np.abs(target.weights).sum())
        rested_n += int(((target.weights == held) & (held != 0.0)).sum())
        assert abs(float(target.weights.sum())) <= 0.006 * gross, t
        assert abs(float(betas @ target.weights)) <= 0.024 * gross, t
        assert "not neutral" not in target.note
        held = target.weights * np.exp(moves[t + 1]) if t + 1 < hours else target.weights
    assert rested_n > 5 * (hours - 400)  # bands still keep legs as they are, to the bit


def test_momentum_leaves_the_newest_hours_out_and_reversal_takes_the_other_side() -> None:
    market = some_market(4, 169)
    late = market.closes.copy()
    late[-20:, 3] *= 1.3
    jumped = Market(late, market.rates, market.sigma)
    knobs: dict[str, object] = {"lookback_hours": 100, "skip_hours": 24, "residual": False}

    def ideal(name: str, seen: Market) -> Floats:
        strategy = make_strategy(name, knobs)
        view = view_of(seen, 169)
        risk = type("Risk", (), {"volatility": market.sigma, "beta": np.ones(COINS_N)})()
        found: Floats = strategy.alpha(strategy.settings, view, risk, np.ones(COINS_N, dtype=bool))
        return found

    assert ideal("momentum", jumped).tolist() == ideal("momentum", market).tolist()
    assert ideal("reversal", market).tolist() == (-ideal("momentum", market)).tolist()


# ---- the shared parts ----------------------------------------------------------------------------


def test_standard_scores_by_hand() -> None:
    usable = np.array([True, True, True, True, False])
    found = standardised(np.array([1.0, 2.0, 3.0, np.nan, 50.0]), usable)
    assert found[:3].tolist() == [-1.0, 0.0, 1.0]
    assert np.isnan(found[3:]).all()
    assert standardised(np.full(5, 7.0), usable)[:4].tolist() == [0.0] * 4
    assert np.isnan(standardised(np.full(5, np.nan), usable)).all()
    spike = np.zeros(100)
    spike[0] = 1.0
    assert standardised(spike, np.ones(100, dtype=bool))[0] == 3.0


def test_returns_over_a_hole_come_with_the_bar_after_it() -> None:
    closes = np.array([[1.0, 1.0], [2.0, np.nan], [4.0, 4.0], [8.0, 8.0], [8.0, 8.0], [8.0, 8.0]])
    found = carried_returns(closes, 5) / np.log(2.0)
    assert found[:, 0] == pytest.approx([1.0, 1.0, 1.0, 0.0, 0.0])
    assert found[:, 1] == pytest.approx([0.0, 2.0, 1.0, 0.0, 0.0])
    assert np.isfinite(carried_returns(closes, 2)).all()
    assert np.isnan(carried_returns(closes[1:], 4)[:, 1]).all()  # no close at the start
    closes[2:4, 1] = np.nan
    assert np.isnan(carried_returns(closes, 5)[:, 1]).all()  # two bars of five
    assert np.isnan(carried_returns(closes, 9)).all()  # longer than what is there


def test_the_market_is_the_mean_of_what_is_known() -> None:
    returns = np.array([[0.01, 0.03, np.nan]])
    found = without_market(returns, np.array([1.0, 0.5, 1.0]))
    assert found[0, :2].tolist() == pytest.approx([-0.01, 0.02])
    assert np.isnan(found[0, 2])


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("momentum", {"lookback_hours": 0}, "strategy 'momentum': lookback_hours = 0"),
        ("reversal", {"skip_hours": -1}, "strategy 'reversal': skip_hours = -1"),
        ("carry", {"kept_share": 1.5}, "strategy 'carry': kept_share = 1.5"),
        ("carry", {"settlement_hours": 0.0}, "strategy 'carry': settlement_hours"),
        ("pairs", {"factors_n": 0}, "strategy 'pairs': factors_n = 0"),
        ("pairs", {"gross_weight": -1.0}, "strategy 'pairs': gross_weight = -1.0"),
        ("low_volatility", {"information_coefficient": 2.0}, "information_coefficient = 2.0"),
        ("momentum", {"lookback": 5}, "did you mean 'lookback_hours'"),
    ],
)
def test_settings_are_checked_and_name_their_strategy(
    name: str, values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make_strategy(name, values)
