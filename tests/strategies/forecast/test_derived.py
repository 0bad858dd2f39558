"""Columns made of the bars for models that ask for them: the same live, blind to the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Field, Floats, Window
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import Timeframe
from strategies.forecast import checkpoint
from strategies.forecast.inference import ModelEstimator
from strategies.forecast.inputs import derived
from strategies.forecast.inputs.covariates import CovariateTable, column_names, with_covariates
from strategies.forecast.inputs.dataset import build_tables
from strategies.forecast.inputs.features import FEATURE_NAMES, FEATURES_N, feature_hash, features
from strategies.forecast.inputs.windows import SEQUENCE_BARS, WINDOW_BARS
from strategies.forecast.stretch import forecast_stretch
from strategies.forecast.training.job import Job, TrainSettings, fingerprint, read_job, write_job
from strategies.forecast.training.network_training import train_model
from strategies.forecast.training.ridge_training import train_ridge
from tests.strategies.forecast import markets

HOURLY = Timeframe(60)
NAMES = tuple(derived.DERIVED)
T, N = 420, 6
SYMBOLS = tuple(f"C{n:02d}" for n in range(N))


def columns(values: Floats, name: str, rows: int | None = None) -> Floats:
    """Give the columns (T, N, C) of the last rows, as training and worker get them."""
    newest_ms = markets.START_MS + len(values) * HOURLY.ms
    found = features(values, newest_close_ms=newest_ms, timeframe=HOURLY, newest=rows)
    close_ms = newest_ms + HOURLY.ms * np.arange(1 - len(found), 1, dtype=np.int64)
    table = CovariateTable([name], {}, values.shape[1])
    return with_covariates(found, table, close_ms, values)[:, :, FEATURES_N:]


def window(values: Floats, t: int, bars: int = WINDOW_BARS) -> Floats:
    return values[t + 1 - bars : t + 1].copy()


def is_blind(name: str) -> bool:
    """Tell whether columns up to a bar stay the same to the bit when what follows changes."""
    values = markets.walk(T, N, seed=4, gaps=0.02)
    changed, t = values.copy(), 300
    changed[t + 1 :] *= np.random.default_rng(3).uniform(0.5, 2.0, changed[t + 1 :].shape)
    changed[t + 5, 2] = np.nan
    before, after = columns(values, name), columns(changed, name)
    assert not np.array_equal(before[t + 1 :], after[t + 1 :], equal_nan=True)
    return np.array_equal(before[: t + 1], after[: t + 1], equal_nan=True)


# ---- of every name -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gaps", [0.0, 0.05])
def test_a_live_window_gives_the_same_bits_as_the_whole_history(name: str, gaps: float) -> None:
    values = markets.walk(T, N, seed=5, gaps=gaps)
    whole = columns(values, name)
    assert whole.shape == (T, N, len(column_names([name])))
    assert np.isfinite(whole[200:]).mean(axis=(0, 1)).min() > 0.5, "every column says something"
    for t in range(WINDOW_BARS - 1, T, 13):
        for bars in (WINDOW_BARS, min(t + 1, 200)):
            live = columns(window(values, t, bars), name, SEQUENCE_BARS)
            np.testing.assert_array_equal(live, whole[t + 1 - SEQUENCE_BARS : t + 1])


@pytest.mark.parametrize("name", NAMES)
def test_a_window_that_is_too_short_gives_what_is_known_and_nothing_else(name: str) -> None:
    values = markets.walk(T, N, seed=5)
    assert columns(values[:5], name).shape == (5, N, len(column_names([name])))


@pytest.mark.parametrize("name", NAMES)
def test_changing_the_future_leaves_the_past_unchanged_to_the_bit(name: str) -> None:
    assert is_blind(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_leak_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = derived.derived

    def early(name: str, shown: derived.Shown) -> list[Floats]:
        return [np.roll(column, -1, axis=0) for column in honest(name, shown)]

    monkeypatch.setattr("strategies.forecast.inputs.covariates.derived", early)
    assert not is_blind(name)


@pytest.mark.parametrize("name", NAMES)
def test_values_stay_within_the_clip(name: str) -> None:
    values = markets.walk(T, N, seed=6)
    values[300:, 0, : Field.VOLUME] *= 3.0
    assert np.nanmax(np.abs(columns(values, name))) <= 5.0


def test_no_name_changes_what_a_model_without_it_reads() -> None:
    """The hash of the features is that of before these names were there."""
    assert feature_hash() == "dc385d1db0f04c40"
    asked = {feature_hash(column_names([name])) for name in NAMES}
    assert len(asked | {feature_hash()}) == len(NAMES) + 1
    assert len(set(column_names(NAMES))) == len(column_names(NAMES))
    assert not set(column_names(NAMES)) & set(FEATURE_NAMES)


def test_what_is_made_of_bars_cannot_be_made_without_them() -> None:
    with pytest.raises(InvariantViolated, match="ranks is made of bars"):
        CovariateTable(["ranks"], {}, N).rows(np.array([markets.START_MS]))


# ---- a model -------------------------------------------------------------------------------------


class Beside:
    def __init__(self, name: str) -> None:
        self._name = name

    def table(self) -> CovariateTable:
        return CovariateTable([self._name], {}, N)


def job_of(name: str, out: Path) -> Job:
    values = markets.reverting(60, N, strength=0.02, seed=1)
    small = TrainSettings(seed=8, members=1, steps=20, hidden=8, embedding=8)
    plain = markets.job(values, out, small)
    bars = {frame: plain.bars[frame] for frame in (plain.source, HOURLY)}
    return Job(bars, SYMBOLS, plain.source, (HOURLY,), plain.origin, out, small, covariates=(name,))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["ridge", "bilstm"])
def test_a_model_that_reads_them_forecasts_live_as_over_a_stretch(
    name: str, kind: str, tmp_path: Path
) -> None:
    job = job_of(name, tmp_path)
    model = checkpoint.load({"ridge": train_ridge, "bilstm": train_model}[kind](job))
    assert model.manifest.covariates == (name,)
    live = ModelEstimator(model, Beside(name))
    values = job.bars[HOURLY][1]
    newest_ms = int(job.bars[HOURLY][0][-1])
    table = CovariateTable([name], {}, N)
    close_ms, means, _ = forecast_stretch(
        live, values, newest_close_ms=newest_ms, timeframe=HOURLY, beside=table
    )
    assert (np.nan_to_num(means) != 0.0).any(), "it says something"
    for back in (7, 3, 2, 1, 0):
        t = len(values) - 1 - back
        at_ms = newest_ms - back * HOURLY.ms
        shown = Window(HOURLY, at_ms, window(values, t, 200))
        (said,) = live.estimate(at_ms, [shown]).predictions
        row = int(np.searchsorted(close_ms, at_ms))
        np.testing.assert_array_equal(said.mean, means[row])


@pytest.mark.parametrize("name", NAMES)
def test_the_tables_of_a_training_hold_what_inference_makes(name: str, tmp_path: Path) -> None:
    job = job_of(name, tmp_path)
    (table,) = build_tables(read_job(write_job(job, tmp_path / "job")))
    found = columns(job.bars[HOURLY][1], name)
    np.testing.assert_array_equal(table.rows[:, :, FEATURES_N:], found)
    assert fingerprint(job) == fingerprint(read_job(tmp_path / "job" / "job.json"))


# ---- ranks ---------------------------------------------------------------------------------------


def test_every_feature_of_one_instrument_has_its_rank_over_instruments() -> None:
    values = markets.walk(T, N, seed=7)
    rows = features(values, newest_close_ms=markets.START_MS + T * HOURLY.ms, timeframe=HOURLY)
    found = columns(values, "ranks")
    for place, name in enumerate(column_names(["ranks"])):
        of = rows[-1, :, FEATURE_NAMES.index(name.removeprefix("rank:"))]
        smaller = (of[:, None] > of[None, :]).sum(axis=1)
        same = (of[:, None] == of[None, :]).sum(axis=1) - 1
        wanted = (smaller + 0.5 * same) * 2.0 / (N - 1) - 1.0
        np.testing.assert_allclose(found[-1, :, place], wanted, atol=1e-12, err_msg=name)
    shared = ("day_", "market_", "rank_", "residual_", "volume")  # residuals and volume have one
    others = [name for name in FEATURE_NAMES if not name.startswith(shared)]
    assert column_names(["ranks"]) == tuple(f"rank:{name}" for name in others)
