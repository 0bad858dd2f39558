"""Estimators: deterministic, padded, NaN where there is nothing to say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from daemon.domain.bar import Floats, Window
from daemon.domain.failures import ConfigurationError, InvariantViolated, ModelError
from daemon.domain.units import Timeframe
from strategies.forecast.checkpoint import load
from strategies.forecast.inference import build
from strategies.forecast.inputs.dataset import build_tables
from strategies.forecast.inputs.features import FEATURE_NAMES, features
from strategies.forecast.inputs.windows import WINDOW_BARS
from strategies.forecast.training.job import Job
from strategies.forecast.training.process import Progress
from strategies.rules import RULES
from tests.strategies.forecast.markets import START_MS, TIMEFRAMES, grouped, walk

Trained = tuple[Job, Path, list[Progress]]
HOURLY = Timeframe(60)


def network(trained: Trained):  # type: ignore[no-untyped-def]
    return build({"kind": "network", "model": str(trained[1]), "timeframes_minutes": [60, 90]})


@pytest.fixture(params=["trained", "trained_ridge"], ids=["bilstm", "ridge"])
def stored(request: pytest.FixtureRequest) -> Trained:
    """Give a stored model of each kind."""
    found: Trained = request.getfixturevalue(request.param)
    return found


def window(values: Floats, timeframe: Timeframe = HOURLY, end: int | None = None) -> Window:
    end = len(values) if end is None else end
    rows = values[max(0, end - WINDOW_BARS) : end].copy()
    return Window(timeframe, START_MS + end * timeframe.ms, rows)


def test_the_same_rows_give_the_same_bits_and_one_prediction_per_window(stored: Trained) -> None:
    bars = walk(WINDOW_BARS, 12)
    windows = [window(bars, t) for t in TIMEFRAMES]
    first, again = network(stored).estimate(5, windows), network(stored).estimate(5, windows)
    assert first.as_of_ms == 5
    assert [p.timeframe for p in first.predictions] == list(TIMEFRAMES)
    for a, b, asked in zip(first.predictions, again.predictions, windows, strict=True):
        assert (a.model_id, a.as_of_ms) == (stored[1].name, asked.newest_ms)
        np.testing.assert_array_equal(a.mean, b.mean)
        np.testing.assert_array_equal(a.variance, b.variance)
        assert np.isfinite(a.mean).all()
        assert (a.variance > 0).all()
        assert abs(a.mean.sum()) < 1e-9
        assert 0.001 < a.mean.std() < 0.5


def test_a_network_forecasts_on_one_thread(trained: Trained) -> None:
    torch.set_num_threads(2)
    try:
        network(trained)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(1)


def test_what_a_model_says_of_its_timeframes_is_that_of_the_run_in_its_order(
    stored: Trained,
) -> None:
    manifest = load(stored[1]).manifest
    assert [t.minutes for t in manifest.timeframes] == [60, 90, 120]
    config = {"kind": "network", "model": str(stored[1]), "timeframes_minutes": [120, 60]}
    two = build(config).estimate(5, [window(walk(WINDOW_BARS, 12))])
    assert two.disagreement is not None
    assert two.disagreement[0, 1] == manifest.disagreement[2][0]
    assert two.disagreement.shape == (2, 2)
    assert two.reading is not None
    slopes = tuple(one.slope for one in manifest.calibration)
    assert manifest.reading.slopes == slopes
    assert two.reading.slopes == (slopes[2], slopes[0])
    assert two.reading.rule == manifest.reading.rule


def test_a_reading_is_learned_out_of_sample_and_its_choice_is_told(stored: Trained) -> None:
    manifest = load(stored[1]).manifest
    assert [one.rule for one in manifest.contenders] == list(RULES)
    assert manifest.reading.rule in RULES
    # labels are of unit size; half of the last part was used, of ten instruments
    assert 0.3 < manifest.reading.outcome_variance < 1.5
    assert manifest.contenders[0].instants > 24


def test_rows_kept_from_the_last_window_change_no_bit(stored: Trained) -> None:
    bars = walk(WINDOW_BARS + 30, 7, gaps=0.03)
    following = network(stored)
    for end in range(WINDOW_BARS, WINDOW_BARS + 30):
        asked = [window(bars, end=end)]
        kept = following.estimate(0, asked).predictions[0]
        fresh = network(stored).estimate(0, asked).predictions[0]
        np.testing.assert_array_equal(kept.mean, fresh.mean)
        np.testing.assert_array_equal(kept.variance, fresh.variance)


def test_a_revised_bar_is_noticed_although_rows_are_kept(stored: Trained) -> None:
    bars = walk(WINDOW_BARS + 1, 7)
    following = network(stored)
    following.estimate(0, [window(bars, end=WINDOW_BARS)])
    bars[WINDOW_BARS - 5, 2, :4] *= 1.03
    kept = following.estimate(0, [window(bars)]).predictions[0]
    fresh = network(stored).estimate(0, [window(bars)]).predictions[0]
    np.testing.assert_array_equal(kept.mean, fresh.mean)


@pytest.mark.parametrize("absent", [1, 3, 9])
def test_more_padding_changes_forecasts_by_less_than_a_millionth(
    stored: Trained, absent: int
) -> None:
    bars = walk(WINDOW_BARS, 7)
    nobody = np.full((WINDOW_BARS, absent, 5), np.nan)
    alone = network(stored).estimate(0, [window(bars)]).predictions[0]
    padded = network(stored).estimate(0, [window(np.concatenate([bars, nobody], axis=1))])
    mean = padded.predictions[0].mean
    np.testing.assert_allclose(mean[:7], alone.mean, atol=1e-6)
    assert np.isnan(mean[7:]).all()
    assert np.isnan(padded.predictions[0].variance[7:]).all()


def test_a_missing_newest_bar_or_a_short_history_has_no_forecast(stored: Trained) -> None:
    bars = walk(WINDOW_BARS, 7)
    bars[-1, 2] = np.nan
    bars[:-20, 4] = np.nan
    found = network(stored).estimate(0, [window(bars)]).predictions[0]
    assert np.isnan(found.mean).tolist() == [False, False, True, False, True, False, False]
    few = network(stored).estimate(0, [window(walk(20, 7))]).predictions[0]
    assert np.isnan(few.mean).all()


def test_live_windows_and_training_tables_hold_the_same_inputs(trained: Trained) -> None:
    job = trained[0]
    table = build_tables(job)[1]
    timeframe = TIMEFRAMES[1]
    values = job.bars[timeframe][1]
    for t in (400, 655):
        rows = features(
            values[t - 200 : t + 1], newest_close_ms=int(table.close_ms[t]), timeframe=timeframe
        )
        np.testing.assert_array_equal(rows[-1], table.rows[t])


def test_a_window_of_another_timeframe_is_refused(stored: Trained) -> None:
    daily = Timeframe(240)
    with pytest.raises(InvariantViolated, match="knows no 4h bars"):
        network(stored).estimate(0, [window(walk(WINDOW_BARS, 4), daily)])


def test_windows_too_short_for_the_model_are_refused_at_the_start(stored: Trained) -> None:
    config = {"kind": "network", "model": str(stored[1]), "window_bars": WINDOW_BARS - 1}
    with pytest.raises(ModelError, match=r"windows of 143 bars and market\.window_bars = 142"):
        build(config)
    build(config | {"window_bars": WINDOW_BARS})


def test_another_kind_or_a_missing_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'oracle': accepted is network, zero"):
        build({"kind": "oracle"})
    with pytest.raises(ModelError, match=r"manifest\.json"):
        build({"kind": "network", "model": str(tmp_path)})


def test_baselines_forecast_what_their_names_say() -> None:
    bars = grouped(walk(2 * WINDOW_BARS, 6), 2)
    asked = window(bars)
    rows = features(asked.values, newest_close_ms=asked.newest_ms, timeframe=HOURLY)[-1]
    means = {
        kind: build({"kind": kind}).estimate(1, [asked]).predictions[0].mean
        for kind in ("zero", "last_return", "momentum")
    }
    assert (means["zero"] == 0).all()
    for kind, name in (("last_return", "residual_1"), ("momentum", "residual_24")):
        feature = rows[:, FEATURE_NAMES.index(name)]
        np.testing.assert_allclose(means[kind], 0.02 * (feature - feature.mean()))


def test_baselines_are_silent_about_missing_bars() -> None:
    bars = walk(WINDOW_BARS, 6)
    bars[-1, 1] = np.nan
    for kind in ("zero", "last_return", "momentum"):
        found = build({"kind": kind}).estimate(1, [window(bars)]).predictions[0]
        assert np.isnan(found.mean).tolist() == [False, True] + [False] * 4
        assert np.isnan(found.variance[1])
        assert (found.variance[[0, 2, 3, 4, 5]] > 0).all()
