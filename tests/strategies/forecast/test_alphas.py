"""Tables, replays and the live strategy make the same alphas of the same forecasts, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.forecast import Prediction, Reading, is_usable
from daemon.domain.units import HOUR_MS, Timeframe
from strategies import combination
from strategies.forecast.alphas import Alphas, Combining, Fresh, joined
from strategies.neutral import RISK_BARS, NeutralSettings, NeutralStrategy
from strategies.rules import RULES, Rule
from tests.strategies.views import make_view

FRAMES = (Timeframe(60), Timeframe(90), Timeframe(120))
START_MS = 480_000 * HOUR_MS
HALF_HOUR_MS = HOUR_MS // 2
N = 7
SLOPES = (0.03, 0.02, 0.01)
DISAGREEMENT = np.array([[1.0, 0.6, 0.4], [0.6, 1.0, 0.7], [0.4, 0.7, 1.0]])


def forecasts_at(as_of_ms: int) -> Fresh:
    """Make what closes at an instant; instruments and whole timeframes are missing at times."""
    draw = np.random.default_rng(as_of_ms // HALF_HOUR_MS)
    fresh: dict[Timeframe, tuple[Floats, Floats]] = {}
    for timeframe in FRAMES:
        if not timeframe.closes_at(as_of_ms):
            continue
        mean = 0.05 * draw.standard_normal(N)
        mean[draw.random(N) < 0.15] = np.nan
        if draw.random() < 0.2 or 30 <= (as_of_ms - START_MS) // HOUR_MS < 36:
            mean[:] = np.nan  # the estimator had nothing to say, for six hours of nobody
        if draw.random() < 0.8:  # else the answer came too late, and what was said before ages
            fresh[timeframe] = (mean, draw.uniform(1e-4, 9e-4, N))
    return fresh


@pytest.mark.parametrize("rule", [*RULES, Rule.AUTO])
def test_a_table_says_what_the_strategy_says(rule: Rule) -> None:
    knobs = NeutralSettings(combination=rule, alpha_half_life_hours=7.0, breadth_min=3)
    strategy, how = NeutralStrategy(knobs), Combining(rule=rule, phi=knobs.phi)
    reading = Reading("kalman", SLOPES, scale=1.7, outcome_variance=2.0)
    closes = np.exp(0.01 * np.random.default_rng(2).standard_normal((RISK_BARS, N)).cumsum(axis=0))
    alphas, state = Alphas(FRAMES, N, how), strategy.initial_state(N)
    chosen, read = combination.resolved(rule, reading)
    newest: dict[Timeframe, Prediction] = {}
    decided = held = 0
    for as_of_ms in range(START_MS, START_MS + 60 * HOUR_MS, HALF_HOUR_MS):
        fresh = forecasts_at(as_of_ms)
        for timeframe, (mean, variance) in fresh.items():
            newest[timeframe] = Prediction(timeframe, as_of_ms, mean, variance, "m")
        if not any(timeframe.closes_at(as_of_ms) for timeframe in FRAMES):
            continue
        made = alphas.step(as_of_ms, fresh, DISAGREEMENT)
        said = combination.read(combination.signals(made, as_of_ms, chosen, SLOPES), read)
        if as_of_ms % HOUR_MS:
            continue
        usable = tuple(p for p in newest.values() if is_usable(p.timeframe, p.as_of_ms, as_of_ms))
        view = make_view(
            closes,
            as_of_ms=as_of_ms,
            predictions=usable,
            disagreement=DISAGREEMENT,
            reading=reading,
        )
        state, target = strategy.decide(state, view)
        if target.signals is None:
            assert np.isnan(said.alpha).all()
            held += 1
            continue
        decided += 1
        for name in ("alpha", "variance", "strength", "probability"):
            ours, theirs = getattr(said, name), getattr(target.signals, name)
            assert ours.tobytes() == theirs.tobytes(), (as_of_ms, name)
        assert (target.signals.up is None) is (rule not in (Rule.AUTO, Rule.KALMAN))
    assert decided > 40
    assert held > 2, "nobody had anything to say for a while"


def test_between_decisions_the_rules_speak_and_nothing_is_remembered() -> None:
    fresh = {FRAMES[1]: (np.full(N, 0.1), np.full(N, 1e-4))}
    spread = {FRAMES[0]: (np.linspace(-0.1, 0.1, N), np.full(N, 1e-4))}
    quiet, loud = Alphas(FRAMES, N), Alphas(FRAMES, N)
    for one in (quiet, loud):
        one.step(START_MS, spread, None)
    between = loud.step(START_MS + HALF_HOUR_MS, {}, None)
    assert np.isfinite(combination.signals(between, 0, Rule.KALMAN).alpha).all()
    after = [one.step(START_MS + HOUR_MS, fresh, None) for one in (quiet, loud)]
    assert after[0].tau2 == after[1].tau2
    assert np.array_equal(after[0].filtered[0], after[1].filtered[0])


def test_a_forecast_ages_and_bridges_one_bar_of_its_length() -> None:
    mean, variance = np.array([0.2, -0.1, 0.1, np.nan]), np.array([1e-4] * 3 + [np.nan])
    two_hours = Timeframe(120)
    alphas = Alphas((two_hours,), 4, Combining(phi=0.9))
    made = [alphas.step(START_MS, {two_hours: (mean, variance)}, None)]
    made += [alphas.step(START_MS + n * HOUR_MS, {}, None) for n in (1, 3, 4)]
    said = [combination.signals(one, 0, Rule.MEAN).alpha for one in made]
    assert said[0][:3] == pytest.approx([0.2, -0.1, 0.1])
    assert said[1][:3] == pytest.approx([0.18, -0.09, 0.09])
    assert said[2][:3] == pytest.approx([0.1458, -0.0729, 0.0729])
    assert np.isnan(said[3]).all(), "one missing successor is bridged, two are not"
    assert np.isnan([one[3] for one in said]).all()


def test_the_future_changes_no_alpha_before_it_under_any_rule() -> None:
    def parts(factor: float) -> dict[Timeframe, tuple[np.ndarray, Floats, Floats]]:
        found = {}
        for timeframe in FRAMES:
            closes = np.arange(START_MS, START_MS + 48 * HOUR_MS, timeframe.ms, dtype=np.int64)
            draw = np.random.default_rng(timeframe.minutes)
            mean = 0.1 * draw.standard_normal((len(closes), N))
            late = closes > START_MS + 24 * HOUR_MS
            mean[late] *= factor
            found[timeframe] = (closes, mean, np.full(mean.shape, 4e-4))
        return found

    plain, other = (
        joined(
            Alphas(FRAMES, N),
            FRAMES,
            parts(factor),
            instruments_n=N,
            disagreement=DISAGREEMENT,
            slopes=SLOPES,
        )
        for factor in (1.0, -5.0)
    )
    before = plain.at_ms <= START_MS + 24 * HOUR_MS
    for rule in RULES:
        ours, theirs = plain.alphas[rule], other.alphas[rule]
        assert ours[before].tobytes() == theirs[before].tobytes(), rule
        assert not np.array_equal(ours[~before], theirs[~before]), rule
