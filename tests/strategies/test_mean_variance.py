"""The default strategy by a predicted covariance: neutral, capped, followed inside its bands."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Universe
from daemon.domain.units import HOUR_MS
from daemon.domain.view import View
from strategies import mean_variance, programme
from strategies.book import RISK_BARS, risk_now
from strategies.factor_form import factors_of
from strategies.factors import Factor, exposures
from strategies.neutral import NeutralSettings, NeutralStrategy, build
from tests.strategies.test_neutral import N, World

MEAN_VARIANCE = {"weights": "mean_variance"}


def covariance(view: View, *, correlation: float = 0.5, age_hours: int = 0) -> Covariance:
    """Predict one correlation for all, and the residual volatilities that the view has."""
    volatility = risk_now(view, NeutralSettings()).volatility / np.sqrt(1.0 - correlation)
    matrix = np.full((N, N), correlation) + (1.0 - correlation) * np.eye(N)
    return Covariance(view.as_of_ms - age_hours * HOUR_MS, "test", volatility, matrix)


def world(seed: int = 6, t: int = RISK_BARS, **changes: Any) -> View:
    return World.make(60, alpha_sd=0.06, seed=seed).view(t, **changes)


def seen_with(view: View, predicted: Covariance | None) -> View:
    return replace(view, covariance=predicted)


def decided(knobs: Mapping[str, object], view: View) -> Any:
    strategy = build(knobs)
    return strategy.decide(strategy.initial_state(N), view)[1]


def test_with_one_correlation_for_all_it_is_the_closed_form_again() -> None:
    """Under dollar neutrality a common part that is alike for all has no risk.

    Volatilities differ here, so only nearly: the books point the same way.
    """
    view = world()
    view = seen_with(view, covariance(view, correlation=0.0))
    plain, programme = decided({}, view), decided(MEAN_VARIANCE, view)
    assert np.corrcoef(plain.ideal, programme.ideal)[0, 1] > 0.999
    assert np.abs(plain.ideal - programme.ideal).max() < 0.02
    assert programme.solved is not None
    assert programme.solved.fallback == ""


@given(
    seed=st.integers(0, 10_000),
    correlation=st.floats(0.0, 0.9),
    cap=st.floats(0.09, 0.4),
    closed=st.integers(0, 3),
    held=st.booleans(),
)
def test_it_is_neutral_capped_and_keeps_closing_legs_closed(
    seed: int, correlation: float, cap: float, closed: int, held: bool
) -> None:
    rng = np.random.default_rng(seed)
    eligible = np.ones(N, dtype=bool)
    eligible[rng.permutation(N)[:closed]] = False
    weights = rng.normal(0.0, 0.05, N) if held else np.zeros(N)
    weights -= weights.mean()
    view = world(seed % 7, eligible=eligible, weights=weights)
    view = seen_with(view, covariance(view, correlation=correlation))
    target = decided({**MEAN_VARIANCE, "name_weight_max": cap, "beta_neutral": True}, view)
    beta = exposures(
        [Factor.MARKET], view, risk_now(view, NeutralSettings()), half_life_bars=48
    ).columns
    for book in (target.ideal, target.weights):
        assert abs(book.sum()) < 1e-9
        assert abs(float(beta[:, 0] @ book)) < 1e-8
        assert (np.abs(book) <= np.maximum(cap, np.abs(weights)) + 1e-12).all()
        assert np.abs(book).sum() <= 1.1 + 1e-9
    assert (target.weights[~eligible] == 0.0).all()


def test_a_book_inside_its_bands_rests_to_the_bit() -> None:
    view = world()
    view = seen_with(view, covariance(view))
    first = decided(MEAN_VARIANCE, view)
    again = decided(MEAN_VARIANCE, replace(view, weights=first.weights))
    moved = again.weights != first.weights
    far = np.abs(first.weights - again.ideal) > again.band + 1e-9
    assert not (moved & ~far).any()


def test_a_covariance_that_brings_its_factors_gives_the_same_book_to_the_bit() -> None:
    view = world()
    predicted = covariance(view)
    carried = replace(predicted, factors=factors_of(predicted))
    plain = decided(MEAN_VARIANCE, seen_with(view, predicted))
    beside = decided(MEAN_VARIANCE, seen_with(view, carried))
    assert beside.weights.tobytes() == plain.weights.tobytes()
    assert beside.solved == plain.solved
    short = replace(predicted, factors=factors_of(replace(predicted, **_of_first(predicted, 5))))
    assert "factors are of 5 instruments" in decided(MEAN_VARIANCE, seen_with(view, short)).note


def _of_first(whole: Covariance, n: int) -> dict[str, Floats]:
    return {"volatility": whole.volatility[:n], "correlation": whole.correlation[:n, :n]}


def test_a_strategy_that_begins_anew_with_its_state_decides_as_the_one_that_went_on() -> None:
    """What a solver was asked before leaves no trace: a restart changes no book."""
    running, state = build(MEAN_VARIANCE), build(MEAN_VARIANCE).initial_state(N)
    market, held = World.make(60, alpha_sd=0.06, seed=8), np.zeros(N)
    for t in range(RISK_BARS, RISK_BARS + 30):
        view = market.view(t, weights=held)
        view = seen_with(view, covariance(view))
        anew = build(MEAN_VARIANCE).decide({k: v.copy() for k, v in state.items()}, view)
        state, target = running.decide(state, view)
        assert anew[1].weights.tobytes() == target.weights.tobytes()
        assert {k: v.tobytes() for k, v in anew[0].items()} == {
            k: v.tobytes() for k, v in state.items()
        }
        held = target.weights


def test_bands_that_hold_too_little_are_met_by_a_lifted_ideal() -> None:
    view = world()
    view = seen_with(view, covariance(view))
    for cost in (7e-4, 2e-3):
        wanted = {**MEAN_VARIANCE, "friction_max": 100.0}
        target = decided(wanted, replace(view, cost=np.full(N, cost)))
        gross = float(np.abs(target.weights).sum()) / float(np.abs(target.ideal).sum())
        assert "refilled: ideal weights times" in target.note
        assert 0.85 <= gross <= 0.861
        assert abs(target.weights.sum()) < 1e-12


def test_what_is_correlated_is_held_against_each_other() -> None:
    """Of a pair that moves alike the better is bought and the worse sold: a hedge, not two bets."""
    view = world()
    predicted = covariance(view, correlation=0.0)
    order = np.argsort(decided({}, seen_with(view, predicted)).ideal)
    a, b = int(order[-1]), int(order[-2])
    pair = predicted.correlation.copy()
    pair[a, b] = pair[b, a] = 0.95
    twins = Covariance(view.as_of_ms, "test", predicted.volatility, pair)
    plain = decided(MEAN_VARIANCE, seen_with(view, predicted)).ideal
    hedged = decided(MEAN_VARIANCE, seen_with(view, twins)).ideal
    assert hedged[a] + hedged[b] < plain[a] + plain[b]


@pytest.mark.parametrize(
    ("age_hours", "words"), [(None, "no covariance is known"), (5, "the covariance is 5 h old")]
)
def test_without_a_fresh_covariance_the_closed_form_speaks_and_says_so(
    age_hours: int | None, words: str
) -> None:
    view = world()
    if age_hours is not None:
        view = seen_with(view, covariance(view, age_hours=age_hours))
    target = decided(MEAN_VARIANCE, view)
    assert f"closed form: {words}" in target.note
    assert target.solved is None
    assert target.weights.tobytes() == decided({}, view).weights.tobytes()


def test_a_coin_of_unknown_risk_keeps_its_weight_and_is_offset() -> None:
    view = world()
    predicted = covariance(view)
    unknown = predicted.volatility.copy()
    unknown[3] = np.nan
    correlation = predicted.correlation.copy()
    correlation[3, :] = correlation[:, 3] = 0.0
    correlation[3, 3] = 1.0
    target = decided(
        MEAN_VARIANCE,
        seen_with(view, Covariance(view.as_of_ms, "test", unknown, correlation)),
    )
    assert target.weights[3] == 0.0
    assert abs(target.weights.sum()) < 1e-10
    assert np.abs(target.weights).sum() > 0.5


@pytest.mark.parametrize("weights", ["closed_form", "mean_variance"])
def test_the_book_is_neutral_to_every_factor_that_is_named(weights: str) -> None:
    rng = np.random.default_rng(3)
    view = world(funding_rates=rng.normal(1e-4, 1e-4, N))
    values = view.windows[next(iter(view.windows))].values
    values[:, :, -1] = rng.lognormal(5.0, 1.0, N)  # volumes
    view = seen_with(view, covariance(view))
    names = ["market", "size", "momentum", "volatility", "funding"]
    target = decided({"weights": weights, "neutral_to": names, "name_weight_max": 0.5}, view)
    risk = risk_now(view, NeutralSettings())
    X = exposures([Factor(name) for name in names], view, risk, half_life_bars=48.0).columns
    assert np.abs(X).max() > 0.5
    assert np.abs(X.T @ target.ideal).max() < 1e-8
    assert np.abs(target.ideal).sum() > 0.3


def test_beta_to_bitcoin_is_that_of_the_window_and_one_without_bitcoin() -> None:
    view = world()
    risk = risk_now(view, NeutralSettings())
    found = exposures([Factor.BITCOIN], view, risk, half_life_bars=48.0)
    assert found.columns[:, 0].tolist() == [1.0] * N


def test_a_decision_says_which_of_its_exposures_it_is_told_nothing_of() -> None:
    view = world()
    named = [*view.universe.instruments]
    named[3] = dataclasses.replace(named[3], base="BTC")
    view = replace(view, universe=Universe(tuple(named)))
    knobs = {"neutral_to": ["bitcoin", "funding"]}
    assert decided(knobs, view).note.endswith("nothing is known of funding")
    view = replace(view, funding_rates=np.linspace(0.0, 1e-4, N))
    for window in view.windows.values():
        window.values[-24:, 3] = np.nan
    assert decided(knobs, view).note.endswith("no bar of BTC in 24 h: bitcoin by older bars")
    assert "BTC" not in decided({"neutral_to": ["market"]}, view).note


def at_year(view: View, year: int) -> View:
    """Show the same a few years on: predictions and covariance are as old as they were."""
    moved_ms = int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp()) * 1000 - view.as_of_ms
    predictions = tuple(replace(p, as_of_ms=p.as_of_ms + moved_ms) for p in view.predictions)
    predicted = view.covariance
    if predicted is not None:
        predicted = replace(predicted, as_of_ms=predicted.as_of_ms + moved_ms)
    return replace(
        view, as_of_ms=view.as_of_ms + moved_ms, predictions=predictions, covariance=predicted
    )


@pytest.mark.parametrize("weights", ["closed_form", "mean_variance"])
def test_the_book_is_neutral_inside_each_sector(weights: str) -> None:
    view = world()
    view = seen_with(view, covariance(view))
    given = [*view.universe.instruments]
    for k, coin in enumerate(["BTC", "LTC", "BCH", "DOGE", "1000SHIB", "1000PEPE", "ETH", "SOL"]):
        given[k] = dataclasses.replace(given[k], base=coin)
    view = replace(view, universe=Universe(tuple(given)))
    later = at_year(view, 2026)
    risk = risk_now(view, NeutralSettings())
    exposed = exposures([Factor.SECTORS, Factor.MARKET], later, risk, half_life_bars=48.0)
    assert exposed.names == ("sector meme", "sector money", "sector platform", "market")
    assert exposed.columns[:8, 1].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert not exposed.columns[8:, :3].any()  # strangers stand alone
    target = decided({"weights": weights, "neutral_to": ["sectors"], "name_weight_max": 0.4}, later)
    plain = decided({"weights": weights, "name_weight_max": 0.4}, later)
    assert np.abs(exposed.columns[:, :3].T @ target.ideal).max() < 1e-8
    assert np.abs(exposed.columns[:, :3].T @ plain.ideal).max() > 0.01
    assert np.abs(target.ideal[:8]).sum() > 0.05
    before = exposures([Factor.SECTORS], at_year(view, 2019), risk, half_life_bars=48.0)
    assert before.names == ()  # no coin was filed yet
    early = decided({"weights": weights, "neutral_to": ["sectors"]}, at_year(view, 2019))
    assert early.note.endswith("nothing is known of sectors")


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"neutral_to = .*'beta' is none of market"):
        build({"neutral_to": ["beta"]})
    with pytest.raises(ConfigurationError, match="closed_form, mean_variance"):
        build({"weights": "best"})
    assert NeutralStrategy(NeutralSettings(beta_neutral=True)).settings.factors == (Factor.MARKET,)


def test_a_decision_says_when_the_solver_of_its_ideal_book_gave_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    view = world()
    view = seen_with(view, covariance(view))
    assert "closed form" not in decided(MEAN_VARIANCE, view).note
    monkeypatch.setattr(mean_variance, "solve", partial(programme.solve, iterations_max=1))
    first = decided(MEAN_VARIANCE, view)
    assert "ideal by the closed form, because piqp said MAX_ITER_REACHED" in first.note
    assert abs(first.ideal.sum()) < 1e-9
