"""One fit as a file: which timeframes it learns from, at what it is asked, who watches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from daemon.domain.units import DAY_MS, Timeframe
from daemon.wiring.architecture_work import read_cost, run_costed
from strategies.forecast.baselines import Baseline, raw_forecast
from strategies.forecast.inputs.blocks import BARS, blanked, blocks_of
from strategies.forecast.inputs.dataset import Table, build_tables
from strategies.forecast.inputs.windows import channels
from strategies.forecast.ridge import COEFFICIENTS, column_names_of
from strategies.forecast.training.baseline_training import BASELINES
from strategies.forecast.training.fitting import Fitted, NoNumbers, Told, trainer_of
from strategies.forecast.training.job import Job, TrainSettings, fingerprint, write_job
from strategies.forecast.training.splits import Fold, Span
from strategies.forecast.training.unit import Unit, UnitTask, read_unit, run_unit, unit_path
from tests.strategies.forecast.markets import job as job_of
from tests.strategies.forecast.markets import walk

RIDGE = "strategies.forecast.training.ridge_training"


def untold(share: float) -> None:
    """Hear nothing of the progress."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("models")
    return job_of(walk(30 * 48, 5), folder, TrainSettings(sequence_bars=18))


@pytest.fixture(scope="module")
def fold(job: Job) -> Fold:
    tables = build_tables(job)
    start = max(int(t.close_ms[t.usable][0]) for t in tables)
    end = int(tables[0].close_ms[-1])
    cut = [start + (end - start) * part // 10 for part in (0, 6, 7, 8, 9, 10)]
    return Fold(Span(cut[0], cut[1]), Span(cut[2], cut[3]), Span(cut[4], cut[5] + 1))


def unit_of(job: Job, fold: Fold, module: str = RIDGE, **changes: object) -> Unit:
    unit = Unit("ridge", module, fold, TrainSettings(sequence_bars=12), fingerprint(job))
    return replace(unit, **changes)  # type: ignore[arg-type]


def test_a_unit_learns_from_the_timeframes_that_it_names_as_if_there_were_no_others(
    job: Job, fold: Fold, tmp_path: Path
) -> None:
    written, longest = write_job(job, tmp_path / "job"), job.timeframes[-1]
    one = run_unit(UnitTask(unit_of(job, fold, timeframes=(longest,)), written, tmp_path), untold)
    every = run_unit(UnitTask(unit_of(job, fold), written, tmp_path), untold)
    assert one != every
    alone, among = read_unit(one, [longest]), read_unit(every, job.timeframes)
    assert list(alone.test) == [longest]
    assert np.array_equal(alone.test[longest].mean, among.test[longest].mean, equal_nan=True)
    assert among.learned == {}


def test_probes_are_spread_over_the_training_part_and_name_the_file(
    job: Job, fold: Fold, tmp_path: Path
) -> None:
    written = write_job(job, tmp_path / "job")
    unit = unit_of(job, fold, probes=9)
    learned = read_unit(run_unit(UnitTask(unit, written, tmp_path), untold), job.timeframes).learned
    for timeframe, part in learned.items():
        assert len(part.close_ms) == 9
        assert fold.train.holds(part.close_ms).all()
        assert (
            np.ptp(part.close_ms) > 0.9 * (fold.train.end_ms - fold.train.start_ms) - timeframe.ms
        )
    assert list(learned) == list(job.timeframes)
    assert unit_path(tmp_path, unit_of(job, fold), job) != unit_path(tmp_path, unit, job)


@pytest.mark.parametrize("block", blocks_of(()))
def test_a_block_that_is_blanked_has_no_say_and_changes_not_who_is_forecast(
    job: Job, fold: Fold, tmp_path: Path, block: str
) -> None:
    written, weights = write_job(job, tmp_path / "job"), list[Floats]()
    unit = unit_of(job, fold, blanked=(block,))

    def watch(fitted: Fitted, tables: Sequence[Table]) -> None:
        weights.append(fitted.weights()[COEFFICIENTS])

    for one in (unit, unit_of(job, fold)):
        run_unit(UnitTask(one, written, tmp_path), untold, watch)
    names = column_names_of(())
    gone = [any(word in BARS[block] for word in name.split(" ")) for name in names]
    assert sum(gone) >= 2
    assert not weights[0][:, gone].any()
    assert weights[0][:, ~np.array(gone)].any()
    less, every = (
        read_unit(unit_path(tmp_path, one, job), job.timeframes).test[job.timeframes[0]]
        for one in (unit, unit_of(job, fold))
    )
    assert np.array_equal(np.isfinite(less.mean), np.isfinite(every.mean))
    assert np.isfinite(less.mean).any()
    table = build_tables(job)[0]
    without = blanked(table, [block], ())
    assert np.array_equal(without.inputs, channels(without.rows)), "both say the same"
    assert np.array_equal(without.inputs[..., -1], table.inputs[..., -1])


def test_the_instants_that_count_are_the_jobs_and_in_the_name(job: Job, fold: Fold) -> None:
    shorter = replace(job, settings=replace(job.settings, sequence_bars=12))
    unit, here = unit_of(job, fold), Path()
    assert unit_path(here, unit, job) != unit_path(here, unit, shorter)


def test_who_watches_sees_the_model_before_its_file_and_not_again(
    job: Job, fold: Fold, tmp_path: Path
) -> None:
    written, seen = write_job(job, tmp_path / "job"), list[bool]()
    task = UnitTask(unit_of(job, fold), written, tmp_path / "units")

    def watch(fitted: Fitted, tables: Sequence[Table]) -> None:
        mean, _ = fitted.forecast(tables[0], tables[0].usable[-1:])
        assert np.isfinite(mean).any()
        seen.append((tmp_path / "units").exists())

    for _ in range(2):
        run_unit(task, untold, watch)
    assert seen == [False]


class Diverging:
    """Fit what never forecasts numbers."""

    LIBRARIES = ("numpy",)
    SEEDED = False

    def fit_fold(
        self, job: Job, tables: Sequence[Table], fold: Fold, *, seed: int, told: Told
    ) -> Fitted:
        raise NoNumbers("the forecasts of a network are no numbers")


DIVERGING = Diverging()


def test_a_fit_without_numbers_is_told_or_counts_as_zero_and_is_marked(
    job: Job, fold: Fold, tmp_path: Path
) -> None:
    written, unit = write_job(job, tmp_path / "job"), unit_of(job, fold, f"{__name__}:DIVERGING")
    task = UnitTask(unit, written, tmp_path / "units")
    with pytest.raises(ModelError, match="are no numbers"):
        run_unit(task, untold)
    assert not (tmp_path / "units").exists()
    path = run_costed(task, untold)
    cost = read_cost(path)
    assert cost is not None
    assert cost.failed
    for part in read_unit(path, job.timeframes).test.values():
        assert np.isfinite(part.mean).any()
        assert not part.mean[np.isfinite(part.mean)].any()
    honest = run_costed(UnitTask(unit_of(job, fold), written, tmp_path), untold)
    weighed = read_cost(honest)
    assert weighed is not None
    assert not weighed.failed


@pytest.mark.parametrize("baseline", list(Baseline))
def test_a_baseline_walks_forward_like_a_model(
    job: Job, fold: Fold, tmp_path: Path, baseline: Baseline
) -> None:
    module = BASELINES[baseline.value]
    assert not trainer_of(module).SEEDED
    written = write_job(job, tmp_path / "job")
    path = run_unit(UnitTask(unit_of(job, fold, module), written, tmp_path), untold)
    first = job.timeframes[0]
    part = read_unit(path, job.timeframes).test[first]
    table = build_tables(job)[0]
    rows = np.searchsorted(table.close_ms, part.close_ms)
    said = np.where(table.allowed[rows], raw_forecast(baseline, table.rows[rows]), np.nan)
    assert np.array_equal(part.mean, said, equal_nan=True)
    assert Timeframe(60) == first
    assert np.ptp(part.close_ms) > DAY_MS
