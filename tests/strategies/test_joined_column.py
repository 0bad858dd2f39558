"""A contract that has just joined is chosen by no strategy before its windows let it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.bar import FIELDS, Floats, Window
from daemon.domain.forecast import Prediction
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from daemon.ports import Strategy
from strategies.forecast.baselines import Baseline, BaselineEstimator
from strategies.forecast.inputs.newest import FeatureRows
from strategies.forecast.inputs.windows import WINDOW_BARS, channels, forecastable
from strategies.registry import make_strategy

N, BARS = 9, WINDOW_BARS + 40
JOINED = N - 1
H1 = Timeframe(60)
NOW_MS = 1_700_006_400_000
ONE = Decimal(1)
RULES = TradingRules(Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), ONE)
UNIVERSE = Universe(
    tuple(Instrument(InstrumentKey("v", f"C{i}"), f"C{i}", "Q", "Q", RULES) for i in range(N))
)


def bars(known_n: int) -> Floats:
    """Generate hourly bars (BARS, N, 5); the last column has only the newest `known_n`."""
    dice = np.random.default_rng(5)
    closes = 100.0 * np.exp(np.cumsum(0.01 * dice.normal(size=(BARS, N)), axis=0))
    values = np.repeat(closes[:, :, None], FIELDS, axis=2)
    values[:, :, 1] *= 1.001
    values[:, :, 2] *= 0.999
    values[:, :, 4] = 1_000.0 + 100.0 * dice.random((BARS, N))
    values[: BARS - known_n, JOINED] = np.nan
    return values


def decided(
    strategy: Strategy,
    values: Floats,
    predictions: Sequence[Prediction],
) -> TargetPortfolio:
    """Ask for a decision that only the windows and forecasts can hold back."""
    windows = {t: Window(t, NOW_MS, values) for t in {*strategy.windows_needed, H1}}
    view = View(
        as_of_ms=NOW_MS,
        universe=UNIVERSE,
        windows=windows,
        predictions=tuple(predictions),
        disagreement=None,
        marks=values[-1, :, 3],
        weights=np.zeros(N),
        equity=10_000.0,
        eligible=~np.isnan(values[-1, :, 3]),
        cost=np.full(N, 1e-5),
        funding_rates=np.zeros(N),
        gross_multiplier=None,
    )
    return strategy.decide(strategy.initial_state(N), view)[1]


@pytest.mark.parametrize("known_n", [1, 5, 24, 25, 60])
def test_relative_strength_waits_for_both_closes(known_n: int) -> None:
    strategy = make_strategy("relative_strength", {"lookback_bars": 24, "legs_each_side": 4})
    target = decided(strategy, bars(known_n), ())
    assert (target.weights[JOINED] != 0) <= (known_n >= 25)
    assert np.count_nonzero(target.weights[:JOINED]) >= 7, "the others are held all the same"


@pytest.mark.parametrize("baseline", list(Baseline))
def test_a_forecaster_says_nothing_before_its_window_is_there(baseline: Baseline) -> None:
    first = None
    for known_n in range(1, BARS + 1, 4):
        window = Window(H1, NOW_MS, bars(known_n))
        (prediction,) = BaselineEstimator(baseline).estimate(NOW_MS, (window,)).predictions
        assert np.isfinite(prediction.mean[:JOINED]).all()
        if np.isfinite(prediction.mean[JOINED]):
            first = known_n
            break
    assert first is not None, "it never has a forecast"
    assert first > 24, "a forecast was made of less than a day"


def test_the_network_is_shown_nothing_of_a_column_before_its_features_are_whole() -> None:
    known = [n for n in range(1, BARS + 1, 8) if _is_forecastable(bars(n))]
    assert known, "it never becomes forecastable"
    assert known[0] > 24
    assert known == list(range(known[0], BARS + 1, 8)), "once it is, it stays so"


def _is_forecastable(values: Floats) -> bool:
    (rows,) = FeatureRows().newest([Window(H1, NOW_MS, values)])
    there = forecastable(channels(rows))
    assert there[:JOINED].all()
    return bool(there[JOINED])


@pytest.mark.parametrize("known_n", [1, 12, 24, 48, 72, 100, BARS])
def test_neutral_chooses_it_only_with_a_forecast_and_a_measured_risk(known_n: int) -> None:
    knobs = {"timeframes_minutes": [60], "breadth_min": 4, "friction_max": 1e6}
    strategy = make_strategy("neutral", knobs)
    values = bars(known_n)
    window = Window(H1, NOW_MS, values)
    predictions = BaselineEstimator(Baseline.MOMENTUM).estimate(NOW_MS, (window,)).predictions
    forecast = bool(np.isfinite(predictions[0].mean[JOINED]))
    target = decided(strategy, values, predictions)
    assert np.count_nonzero(target.weights[:JOINED]) >= 4, "the others are held all the same"
    if not forecast:
        assert target.weights[JOINED] == 0
        assert target.ideal[JOINED] == 0
    assert known_n > 24 or not forecast
    # A forecast alone is not enough: with hardly any returns its risk is not known.
    loud = predictions[0].mean.copy()
    loud[JOINED] = 10.0 * np.nanmax(np.abs(loud))
    sure = np.full(N, 1e-4)
    told = Prediction(H1, NOW_MS, loud, sure, "loud")
    target = decided(strategy, values, (told,))
    assert known_n > 24 or target.weights[JOINED] == 0
