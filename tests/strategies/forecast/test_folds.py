"""Several folds: all their members are kept, none is judged by what it had seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Window
from daemon.domain.failures import InvariantViolated, ModelError
from strategies.forecast import checkpoint
from strategies.forecast.calibration import calibrate
from strategies.forecast.inference import build
from strategies.forecast.inputs.dataset import build_tables, cut_folds
from strategies.forecast.training.evaluation import OutOfSample
from strategies.forecast.training.job import Job, Tune
from strategies.forecast.training.network_training import train_model
from strategies.forecast.training.process import Progress
from strategies.forecast.training.ridge_training import train_ridge
from tests.strategies.forecast.conftest import SETTINGS
from tests.strategies.forecast.markets import START_MS, TIMEFRAMES, grouped, job, reverting

FOLDED = replace(SETTINGS, steps=4, members=2, folds=3, test_share=0.4, hidden=4, embedding=4)
SOURCE_BARS = reverting(130, 5, 0.05)


def asked(out: Path) -> Job:
    return job(SOURCE_BARS, out, FOLDED)


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_model(asked(tmp_path_factory.mktemp("folded")))


def test_members_of_all_folds_are_kept_each_with_its_own_end_of_learning(folded: Path) -> None:
    manifest = checkpoint.load(folded).manifest
    small = asked(folded.parent)
    folds = cut_folds(small, build_tables(small))
    assert manifest.shape.members == 6
    assert [one.members for one in manifest.learned] == [2, 2, 2]
    told = [(one.learned_until_ms, one.stopped_until_ms) for one in manifest.learned]
    assert told == [(fold.train.end_ms, fold.stop.end_ms) for fold in folds]
    for one in manifest.learned:
        assert one.learned_until_ms < one.stopped_until_ms < one.tested_from_ms
    assert manifest.data.learned_until_ms == folds[-1].train.end_ms
    assert [score.fold for score in manifest.scores] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_killed_training_of_folds_goes_on_to_the_same_model(folded: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done_steps == 18:  # amid the third fold
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(asked(tmp_path), progress=stop)
    told: list[Progress] = []
    assert train_model(asked(tmp_path), progress=told.append).name == folded.name
    assert told[0].done_steps > 16


def test_ridges_of_several_folds_answer_live_with_their_mean(tmp_path: Path) -> None:
    folder = train_ridge(asked(tmp_path))
    loaded = checkpoint.load(folder)
    assert sorted(loaded.weights) == [f"{m}.coefficients" for m in range(3)]
    hourly = grouped(SOURCE_BARS, 2)
    window = Window(TIMEFRAMES[0], START_MS + len(hourly) * TIMEFRAMES[0].ms, hourly[-151:])
    estimates = build({"kind": "network", "model": str(folder)}).estimate(0, [window])
    assert np.isfinite(estimates.predictions[0].mean).all()


def test_a_test_is_never_forecast_by_what_learned_from_it(tmp_path: Path) -> None:
    small = asked(tmp_path)
    tables = build_tables(small)
    first = cut_folds(small, tables)[0]
    outcome = OutOfSample(tables)
    with pytest.raises(InvariantViolated, match="learned until"):
        outcome.add(
            0,
            first,
            lambda table, rows: table.y[rows][None],
            learned_until_ms=first.test.start_ms + 1,
        )


def test_slope_size_and_spread_are_those_of_the_whole_ensemble(tmp_path: Path) -> None:
    small = asked(tmp_path)
    tables = build_tables(small)
    outcome = OutOfSample(tables)
    noise = [np.random.default_rng(k).normal(size=(6, *t.y.shape)) for k, t in enumerate(tables)]
    for number, fold in enumerate(cut_folds(small, tables)):
        outcome.add(
            number,
            fold,
            lambda table, rows, n=2 * (number + 1): np.where(  # type: ignore[misc]
                np.isfinite(table.y[rows]), noise[table.place][:n, rows], np.nan
            ),
            learned_until_ms=fold.train.end_ms,
        )
    rows = [table.within(cut_folds(small, tables)[-1].test) for table in tables]
    alone = calibrate(
        [
            np.where(np.isfinite(t.y[r]), noise[t.place][:, r], np.nan)
            for t, r in zip(tables, rows, strict=True)
        ],
        [t.y[r] for t, r in zip(tables, rows, strict=True)],
        lags=[t.horizon_bars for t in tables],
    )
    for found, last in zip(outcome.calibration(), alone, strict=True):
        # a mean of 2 of 6 is 1.7 times as large: unmended, the scale would be 0.8 of this
        assert found.scale == pytest.approx(last.scale, rel=0.05)
        assert found.spread * last.scale**2 == pytest.approx(last.spread * found.scale**2)


def test_tuning_takes_one_fold(folded: Path) -> None:
    settings = replace(FOLDED, tune=Tune.RECALIBRATE, members=6)
    with pytest.raises(ModelError, match="tuned on one fold, and the job asks for 3"):
        train_model(replace(asked(folded.parent), settings=settings, parent=folded))
