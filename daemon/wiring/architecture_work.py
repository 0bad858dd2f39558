"""What workers do for a comparison: fit and weigh a model, measure an arm, trade its table."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.predictions_file import write_predictions
from adapters.history.store import disk_symbol
from daemon.domain.bar import Field, Floats
from daemon.domain.instrument import Universe
from daemon.domain.predictions import PredictionTable
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.ports import Share
from daemon.report.files import plain, write_text
from daemon.research.architectures.arms import Arm, Combine
from daemon.research.architectures.book_steps import StepIc, Told, book_steps, strategy_fits
from daemon.research.architectures.measures import (
    Gap,
    Known,
    Measured,
    gap_of,
    measured,
    plain_mean,
)
from daemon.research.architectures.quality import HORIZONS_H
from daemon.research.architectures.results import Traded
from daemon.research.architectures.simple_signals import simple_signals
from daemon.research.walk_forward.scores import laid_out
from daemon.research.walk_forward.stitching import RawFold, RawPart, stitch
from daemon.settings import Settings
from daemon.wiring.arms import Ended, Task, backtest_of, ended
from daemon.wiring.backtest import instruments_of
from daemon.wiring.combining import combining_of
from daemon.wiring.core import combined_timeframes, cost_of, strategy_of
from daemon.wiring.estimator import COMBINATION, ORIGIN
from daemon.wiring.trials import daily_returns
from strategies.combination import DISAGREEMENT_PRIOR
from strategies.forecast.baselines import Baseline
from strategies.forecast.calibration import PRIOR_SLOPE, centred
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.inputs.labels import HORIZON_MS, Labels, label, risk
from strategies.forecast.inputs.windows import on_grid
from strategies.forecast.training.baseline_training import FittedBaseline
from strategies.forecast.training.fitting import Fitted
from strategies.forecast.training.job import Job, Longs, read_job
from strategies.forecast.training.splits import Refits
from strategies.forecast.training.unit import (
    Forecasts,
    Part,
    Unit,
    UnitTask,
    read_unit,
    run_unit,
    tables_of,
    unit_path,
)
from strategies.rules import Rule

COST_SUFFIX: Final = ".cost.json"
DECISIONS_TIMED: Final = 32
_SIZE_FLOOR: Final = 1e-6
_PEAK: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")


# ---- one fit, and what it costs ------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """Hold what one fit took on this machine.

    train_s: seconds of the processor. decision_ms: of the processor as well, of each of the last
    decisions, the forecasts of all timeframes of one instant, features given. peak_mb: most memory
    of the process meanwhile, its inputs included; NaN where the system does not tell. parameters:
    numbers that were learned. failed: it never forecast numbers, and counts as a forecast of zero.
    """

    train_s: float
    decision_ms: tuple[float, ...]
    peak_mb: float
    parameters: int
    failed: bool = False


def cost_path(unit: Path) -> Path:
    """Name the file that says what a unit took."""
    return unit.with_name(f"{unit.name}{COST_SUFFIX}")


def run_costed(task: UnitTask, told: Share) -> Path:
    """Fit a unit as `run_unit` does, and write what it took beside it.

    A fit that never forecasts numbers does not end the comparison: it says zero of everything, so
    that its arm loses by it.
    """
    tables_of(task.job)  # features are no part of a fit
    path = unit_path(task.folder, task.unit, _job_of(task.job))
    frames = task.unit.frames(_job_of(task.job))
    nothing = FittedBaseline(Baseline.ZERO, len(frames), task.unit.settings.sequence_bars)
    _forget_peak()
    started_s = _processor_s()

    def weigh(fitted: Fitted, tables: Sequence[Table]) -> None:
        took = _processor_s() - started_s
        cost = Cost(
            took,
            tuple(decision_ms(fitted, tables)),
            _peak_mb(),
            fitted.parameters_n,
            failed=fitted is nothing,
        )
        task.folder.mkdir(parents=True, exist_ok=True)
        write_text(cost_path(path), json.dumps(plain(cost)) + "\n")

    return run_unit(task, told, weigh, instead=nothing)


def read_cost(unit: Path) -> Cost | None:
    """Read what a unit took; None where nobody has weighed it."""
    try:
        found = json.loads(cost_path(unit).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    peak = found["peak_mb"]
    return Cost(
        found["train_s"],
        tuple(found["decision_ms"]),
        float("nan") if peak is None else peak,
        found["parameters"],
        found.get("failed", False),
    )


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def decision_ms(fitted: Fitted, tables: Sequence[Table]) -> list[float]:
    """Time the newest decisions, at each of which all timeframes are forecast, in ms.

    The processor's time: on a busy machine the clock tells how long a decision had to wait.
    """
    found = []
    rows = [np.flatnonzero(table.allowed.any(axis=1))[-DECISIONS_TIMED:] for table in tables]
    for back in range(min(len(mine) for mine in rows)):
        started_s = _processor_s()
        for table, mine in zip(tables, rows, strict=True):
            fitted.forecast(table, mine[-1 - back :][:1])
        found.append(1e3 * (_processor_s() - started_s))
    return found


def _forget_peak() -> None:
    with contextlib.suppress(OSError):
        _PEAK.write_text("5")


def _peak_mb() -> float:
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM"):
                return float(line.split()[1]) / 1024.0
    return float("nan")


# ---- one arm -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ArmTask:
    """Hand an arm to a worker: the files of its members by fold, and where its table goes.

    units: of each fold, in the order of the members.
    """

    arm: Arm
    units: tuple[tuple[Unit, ...], ...]
    refits: Refits
    job: Path
    folder: Path
    out: Path
    settings: Settings


@dataclass(frozen=True)
class ArmDone:
    """Hold what came of an arm without trading."""

    table_id: str
    rows: int
    at_ms: Longs  # the decisions (M,)
    measured: Measured


def measure_arm(task: ArmTask, share: Share) -> ArmDone:
    """Stitch an arm's forecasts, write its table and measure it; nothing hangs on other arms."""
    job, arm = _job_of(task.job), task.arm
    refits = task.refits
    ground = _ground_of(task.job)
    said = [
        [read_unit(_path(task, unit, job), unit.frames(job)) for unit in fold]
        for fold in task.units
    ]
    folds = [
        _raw_fold(fold[0].fold.test.start_ms, arm, mine)
        for fold, mine in zip(task.units, said, strict=True)
    ]
    sorted_folds = [_sorted(fold, ground.order) for fold in folds]
    how = combining_of(task.settings)
    stitched = stitch(
        folds,
        [disk_symbol(symbol) for symbol in job.symbols],
        arm.timeframes,
        ground.labels[HORIZON_MS // HOUR_MS].at,
        reach_ms=refits.reach_ms,
        horizon_ms=HORIZON_MS,
        how=how,
    )
    table = stitched.table
    if arm.combine is Combine.MEAN:
        table = with_plain_mean(table, sorted_folds)
    table = with_timeframes(table, job.timeframes)
    facts = {
        "kind": arm.kind,
        "arm": arm.name,
        COMBINATION: str(how.rule if arm.combine is Combine.FORMULA else Rule.MEAN),
        "made_by": "evaluate architectures",
        ORIGIN: str(job.origin.kind),
        "source": job.source.label,
    }
    table_id = write_predictions(task.out, [table], job.timeframes, facts)
    share(0.3)
    known = _known(task, job, ground, how.decision)
    found = measured(table, sorted_folds, known, _gap(arm, said, task, ground))
    share(0.5)
    if strategy_fits(task.settings.strategy.name) and arm.combine is Combine.FORMULA:
        seen = with_timeframes(table, combined_timeframes(task.settings))
        steps = _steps(task, job, seen, known, ground, lambda part: share(0.5 + 0.5 * part))
        found = replace(found, steps=steps)
    return ArmDone(table_id, len(table), known.at_ms, found)


def _path(task: ArmTask, unit: Unit, job: Job) -> Path:
    return unit_path(task.folder, unit, job)


def _raw_fold(test_ms: int, arm: Arm, said: Sequence[Forecasts]) -> RawFold:
    """Join the members that know a timeframe, each brought to unit size on its own stop part."""
    test, stop = {}, {}
    for timeframe in arm.timeframes:
        mine = [one for one in said if timeframe in one.test]
        sizes = [_size(one.stop[timeframe]) for one in mine]
        test[timeframe] = _joined([one.test[timeframe] for one in mine], sizes)
        stop[timeframe] = _joined([one.stop[timeframe] for one in mine], sizes)
    return RawFold(test_ms, test, stop)


def _size(part: Part) -> float:
    mean = centred(part.mean)
    known = np.isfinite(mean)
    return max(float(np.sqrt(np.mean(mean[known] ** 2))) if known.any() else 0.0, _SIZE_FLOOR)


def _joined(parts: Sequence[Part], sizes: Sequence[float]) -> RawPart:
    members = np.array([centred(p.mean) / size for p, size in zip(parts, sizes, strict=True)])
    return RawPart(parts[0].close_ms, members, np.mean([part.noise for part in parts], axis=0))


def _sorted(fold: RawFold, order: Sequence[int]) -> RawFold:
    def turned(parts: Mapping[Timeframe, RawPart]) -> dict[Timeframe, RawPart]:
        chosen = list(order)
        return {
            t: RawPart(p.close_ms, p.members[:, :, chosen], p.noise[:, chosen])
            for t, p in parts.items()
        }

    return RawFold(fold.test_ms, turned(fold.test), turned(fold.stop))


def _gap(
    arm: Arm, said: Sequence[Sequence[Forecasts]], task: ArmTask, ground: _Ground
) -> Gap | None:
    """Compare the first timeframe's forecasts where its models learned and where they did not."""
    first, gaps = arm.timeframes[0], []
    for fold in said:
        mine = [one for one in fold if first in one.learned]
        if not mine or any(
            not np.array_equal(one.learned[first].close_ms, mine[0].learned[first].close_ms)
            for one in mine
        ):
            return None
        sizes = [_size(one.stop[first]) for one in mine]
        learned = _joined([one.learned[first] for one in mine], sizes)
        tested = _joined([one.test[first] for one in mine], sizes)
        at = ground.labels[HORIZON_MS // HOUR_MS].at
        gaps.append(gap_of(learned, tested, at(learned.close_ms), at(tested.close_ms)))
    return Gap(
        np.concatenate([one.learned for one in gaps]), np.concatenate([one.tested for one in gaps])
    )


# ---- tables --------------------------------------------------------------------------------------


def with_timeframes(table: PredictionTable, timeframes: Sequence[Timeframe]) -> PredictionTable:
    """Let a table speak of these timeframes in their order; of those that it lacks it says nothing.

    So any run can replay it, and a strategy that combines fewer sees those alone.
    """
    if tuple(timeframes) == table.timeframes:
        return table
    K = len(timeframes)
    to = [k for k, t in enumerate(timeframes) if t in table.timeframes]
    places = [table.timeframes.index(timeframes[k]) for k in to]
    mean, variance = (np.full((K, len(table)), np.nan) for _ in range(2))
    mean[to], variance[to] = table.mean[places], table.variance[places]
    matrices = []
    for from_ms, matrix in table.disagreement:
        found = np.full((K, K), DISAGREEMENT_PRIOR) + (1.0 - DISAGREEMENT_PRIOR) * np.eye(K)
        found[np.ix_(to, to)] = matrix[np.ix_(places, places)]
        matrices.append((from_ms, found))
    readings = []
    for from_ms, reading in table.readings:
        slopes = dict(zip(table.timeframes, reading.slopes, strict=True))
        chosen = tuple(slopes.get(t, 0.0) for t in timeframes)
        readings.append((from_ms, replace(reading, slopes=chosen)))
    return replace(
        table,
        timeframes=tuple(timeframes),
        mean=mean,
        variance=variance,
        disagreement=tuple(matrices),
        readings=tuple(readings),
    )


def with_plain_mean(table: PredictionTable, folds: Sequence[RawFold]) -> PredictionTable:
    """Let `prediction` be the plain mean of the timeframes; folds: in the order of its symbols.

    Of unit size it would be taken for an IC of 1: it counts as what such models are thought to
    reach, which changes no order.
    """
    at_ms, rows = np.unique(table.as_of_ms, return_inverse=True)
    mean = plain_mean(folds, at_ms)[rows, table.place]
    return replace(table, prediction=np.where(np.isfinite(mean), PRIOR_SLOPE * mean, 0.0))


def newest_of(table: PredictionTable, k: int, at_ms: Longs) -> tuple[Floats, Longs]:
    """Give the newest means (M, N) of timeframe k at instants (M,), and their age, -1 for none."""
    return _newest(table, table.mean[k], table.timeframes[k], at_ms)


def _newest(
    table: PredictionTable, values: Floats, timeframe: Timeframe, at_ms: Longs
) -> tuple[Floats, Longs]:
    instants, laid = laid_out(table, values, timeframe)
    known = np.isfinite(laid).any(axis=1)
    instants, laid = instants[known], laid[known]
    if not len(instants):
        return np.full((len(at_ms), len(table.symbols)), np.nan), np.full(len(at_ms), -1)
    rows = np.searchsorted(instants, at_ms, side="right") - 1
    there = rows >= 0
    found = np.where(there[:, None], laid[np.maximum(rows, 0)], np.nan)
    return found, np.where(there, at_ms - instants[np.maximum(rows, 0)], -1)


# ---- what came, and the strategy -----------------------------------------------------------------


@dataclass(frozen=True)
class _Ground:
    """Hold what all arms are judged by, made once in a process; order: of a table's symbols."""

    labels: Mapping[int, Labels]
    close_ms: Longs
    log_closes: Floats
    sigma: Floats
    order: tuple[int, ...]


@lru_cache(maxsize=1)
def _job_of(path: Path) -> Job:
    return read_job(path)


@lru_cache(maxsize=1)
def _ground_of(path: Path) -> _Ground:
    job = _job_of(path)
    close_ms, values = on_grid(*job.bars[job.source], job.source)
    lag_ms = job.settings.lag_bars * job.source.ms
    labels = {
        hours: label(close_ms, values, source=job.source, lag_ms=lag_ms, horizon_ms=hours * HOUR_MS)
        for hours in HORIZONS_H
    }
    closes = values[:, :, Field.CLOSE]
    _, sigma = risk(values, source=job.source)
    names = [disk_symbol(symbol) for symbol in job.symbols]
    order = tuple(sorted(range(len(names)), key=lambda n: names[n]))
    return _Ground(labels, close_ms, np.log(np.where(closes > 0, closes, np.nan)), sigma, order)


def _known(task: ArmTask, job: Job, ground: _Ground, decision: Timeframe) -> Known:
    order, tests = list(ground.order), [fold[0].fold.test for fold in task.units]
    first = -(-tests[0].start_ms // decision.ms) * decision.ms
    last = min(tests[-1].end_ms, int(ground.close_ms[-1]) + 1)
    at_ms = np.arange(first, last, decision.ms, dtype=np.int64)
    rows = np.searchsorted(ground.close_ms, at_ms)
    signals = simple_signals(ground.log_closes, ground.sigma, rows, bar_ms=job.source.ms)
    per_hour = (HOUR_MS / job.source.ms) ** 0.5
    return Known(
        at_ms=at_ms,
        decision=decision,
        outcomes={hours: found.at(at_ms)[:, order] for hours, found in ground.labels.items()},
        signals={name: values[:, order] for name, values in signals.items()},
        sigma=per_hour * ground.sigma[rows][:, order],
        cost=float(cost_of(task.settings, 1)[0]),
        reach_ms=task.refits.reach_ms,
    )


def _steps(
    task: ArmTask,
    job: Job,
    table: PredictionTable,
    known: Known,
    ground: _Ground,
    share: Share,
) -> tuple[StepIc, ...]:
    hour = Timeframe(60)
    if hour not in job.bars:
        return ()
    hourly_ms, hourly = on_grid(*job.bars[hour], hour)
    order = list(ground.order)
    newest = [newest_of(table, k, known.at_ms) for k in range(len(table.timeframes))]
    variance = [
        _newest(table, table.variance[k], t, known.at_ms)[0] for k, t in enumerate(table.timeframes)
    ]
    ages = [
        np.where(age <= t.ms, age, -1) for (_, age), t in zip(newest, table.timeframes, strict=True)
    ]
    told = Told(
        at_ms=known.at_ms,
        timeframes=table.timeframes,
        mean=np.array([mean for mean, _ in newest]),
        variance=np.array(variance),
        age_ms=np.array(ages),
        hourly_ms=hourly_ms,
        hourly=hourly[:, order],
        disagreement=table.disagreement,
        cost=cost_of(task.settings, len(order)),
        sigma=known.sigma,
        readings=table.readings,
    )
    made = instruments_of(task.settings).instruments
    universe = Universe(tuple(sorted(made, key=lambda one: disk_symbol(one.key.symbol))))
    strategy_of(task.settings)  # refuses what it does not know
    parameters = {
        "combination": task.settings.estimator.combination,
        **task.settings.strategy.parameters,
    }
    return book_steps(told, parameters, universe, known.outcomes[HORIZON_MS // HOUR_MS], share)


# ---- money ---------------------------------------------------------------------------------------


def trade(task: Task, share: Share) -> Ended[Traded]:
    """Replay an arm's table and keep its figures."""
    result = backtest_of(task, share)
    facts, (days, returns) = result.run.facts, daily_returns(result.run.record)
    kept = Traded(
        tuple(days),
        tuple(returns),
        result.metrics,
        facts.fills,
        facts.fingerprint,
        tuple(facts.caveats),
    )
    return ended(task, kept, result)
