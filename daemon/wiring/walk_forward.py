"""Walk-forward: fits over a pool of processes, their forecasts stitched, scored and written.

Each fit (a fold of an arm and a seed) leaves a file named by all that determines it, so that a run
that was killed goes on where it was, and another arm computes nothing twice. Fits always run in
worker processes with one thread: the files are the same bytes with any number of processes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.history.locks import only_writer
from adapters.history.predictions_file import write_predictions
from adapters.history.store import Panel, disk_symbol
from adapters.trial_ledger import Training, TrialLedger
from daemon.domain.bar import Field, Floats
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, instant_ms, iso
from daemon.ports import Share
from daemon.report.files import plain, write_text
from daemon.research.walk_forward.scores import ALL, Score, score_table
from daemon.research.walk_forward.stitching import RawFold, RawPart, Stitched, stitch_rules
from daemon.settings import Settings
from daemon.wiring.arms import workers_of
from daemon.wiring.combining import combining_of
from daemon.wiring.estimator import COMBINATION, ORIGIN
from daemon.wiring.training import (
    SourceBars,
    bars_from_files,
    job_of,
    refuse_untrainable,
)
from daemon.wiring.trials import ledger_of, trial_of_training
from strategies.forecast.alphas import Combining
from strategies.forecast.inputs.labels import HORIZON_MS, label
from strategies.forecast.inputs.windows import window_bars
from strategies.forecast.training.fitting import TRAINERS, settings_for, trainer_of
from strategies.forecast.training.job import Job, fingerprint, write_job
from strategies.forecast.training.splits import Fold, Refits, refit_folds
from strategies.forecast.training.unit import (
    DRAFT,
    Part,
    Unit,
    UnitTask,
    read_unit,
    run_unit,
    unit_path,
)
from strategies.rules import Rule

HORIZONS_MS: Final = (HORIZON_MS, 2 * HORIZON_MS)  # that are scored; no fold may settle the longer
UNITS_FOLDER: Final = "units"
SCORES_FILE: Final = "walkforward.json"
COMMAND: Final = "evaluate walkforward"
Longs = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Hold what a walk-forward over some bars does: its job, when it refits, its folds."""

    job: Job
    data: str  # fingerprint of the bars
    refits: Refits
    folds: tuple[Fold, ...]
    start_ms: int  # the first and the end of the instants that are cut into folds
    end_ms: int

    def refitted(self, every_ms: int) -> Plan:
        """Give the same plan with other times between two fits."""
        refits = replace(self.refits, every_ms=every_ms)
        return replace(self, refits=refits, folds=refit_folds(self.start_ms, self.end_ms, refits))


@dataclass(frozen=True, slots=True)
class ArmResult:
    """Hold what came of one kind of model under one rule that combines its timeframes.

    Its table on disk, its scores, what was computed.
    """

    kind: str
    combination: Rule
    path: Path
    table_id: str
    stitched: Stitched
    scores: tuple[Score, ...]
    fits_n: int
    fitted_n: int  # of those were computed now; the others were there

    @property
    def name(self) -> str:
        """Give the kind and, where it is not the settings' own, the rule; the name of its file."""
        return self.path.stem


@dataclass(frozen=True, slots=True)
class WalkForward:
    """Hold a whole walk-forward."""

    plan: Plan
    arms: tuple[ArmResult, ...]


def bars_to_walk(settings: Settings) -> SourceBars:
    """Read the bars of the backtest's folder and period, all of them."""
    since = settings.backtest.since
    return bars_from_files(settings, since_ms=0 if since is None else instant_ms(since))


def plan_of(settings: Settings, bars: SourceBars) -> Plan:
    """Cut the bars into folds as `[walkforward]` says; raise ModelError for too few of them."""
    chosen = settings.walkforward
    job = job_of(settings, bars, chosen={"folds": 1})  # refits are its folds
    longest_ms = max(t.ms for t in job.timeframes)
    start_ms = int(bars.close_ms[0]) + window_bars(job.settings.sequence_bars) * longest_ms
    end_ms = int(bars.close_ms[-1]) + 1
    refits = Refits(
        first_test_ms=end_ms,
        every_ms=round(chosen.refit_days * DAY_MS),
        train_ms=round(chosen.train_days * DAY_MS) or None,
        stop_ms=round(chosen.stop_days * DAY_MS),
        reach_ms=max(HORIZONS_MS) + job.settings.lag_bars * bars.source.ms,
        embargo_ms=round(chosen.embargo_h * HOUR_MS),
    )
    if chosen.first_test is not None:
        first_ms = instant_ms(chosen.first_test)
    elif refits.train_ms is not None:
        first_ms = start_ms + refits.before_ms + refits.train_ms
    else:
        first_ms = start_ms + (end_ms - start_ms) // 2
    first_ms = -(-first_ms // DAY_MS) * DAY_MS if chosen.first_test is None else first_ms
    earliest_ms = start_ms + refits.before_ms
    if not earliest_ms < first_ms < end_ms:
        raise ModelError(
            f"walkforward.first_test = {iso(first_ms)}: with these bars and parts accepted is after"
            f" {iso(earliest_ms)} and before {iso(end_ms)}; more bars, or shorter parts, give room"
        )
    refits = replace(refits, first_test_ms=first_ms)
    folds = refit_folds(start_ms, end_ms, refits)
    return Plan(job, fingerprint(job), refits, folds, start_ms, end_ms)


def walk_forward(
    settings: Settings,
    bars: SourceBars,
    kinds: Sequence[str],
    out: Path,
    *,
    every_rule: bool = False,
    processes: int | None = None,
    done: Share = lambda share: None,
) -> WalkForward:
    """Fit, stitch, score, write and log each kind; a run that was killed goes on.

    out: folder of the tables, of the fits below `units`, and of `walkforward.json`. every_rule:
    stitch, score and log each kind under every other rule of combination as well, as arms of their
    own. Raises ConfigurationError for unknown kinds and for a ledger that cannot be written, before
    any fit.
    """
    ledger, how = ledger_of(settings), combining_of(settings)
    rules = [how.rule, *(rule for rule in Rule if every_rule and rule is not how.rule)]
    _refuse_unknown(kinds)
    for kind in kinds:
        refuse_untrainable(settings, kind)
    plan = plan_of(settings, bars)
    units = {kind: units_of(plan, kind, plan.folds) for kind in kinds}
    with only_writer(out / SCORES_FILE):  # a second run in the folder waits, and finds all there
        wanted = [unit for mine in units.values() for unit in mine]
        missing = fit_missing(
            settings, plan.job, wanted, out / UNITS_FOLDER, processes=processes, done=done
        )
        stitching = _Stitching(settings, bars, plan, out, how)
        arms = []
        for kind in units:
            computed = sum(unit.kind == kind for unit in missing)
            for arm in stitching.arms(kind, units[kind], rules, computed):
                _log(settings, bars, plan, arm, ledger)
                arms.append(arm)
        return _written(WalkForward(plan, tuple(arms)), out)


def _written(result: WalkForward, out: Path) -> WalkForward:
    text = json.dumps(walk_forward_values(result), indent=1, sort_keys=True, allow_nan=False)
    write_text(out / SCORES_FILE, text + "\n")
    return result


def fit_missing(
    settings: Settings,
    job: Job,
    units: Sequence[Unit],
    folder: Path,
    *,
    processes: int | None,
    done: Share,
    run: Callable[[UnitTask, Share], Path] = run_unit,
) -> list[Unit]:
    """Compute the units that have no file in `folder` yet, in worker processes; give those.

    run: what a worker does for a unit. Nobody else may compute units of the folder meanwhile.
    """
    missing = [unit for unit in units if not unit_path(folder, unit, job).exists()]
    if not missing:
        return missing
    for left in folder.glob(f".*{DRAFT}"):  # of a run that was killed
        left.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="equipoise-walk-") as place:
        written = write_job(job, Path(place))
        tasks = [(_name(unit), UnitTask(unit, written, folder)) for unit in missing]
        workers_of(settings, processes).map(run, tasks, done)
    return missing


def units_of(plan: Plan, kind: str, folds: Sequence[Fold]) -> list[Unit]:
    """Give the fits of an arm over folds: each seed of the ensemble, one where none counts."""
    settings = settings_for(kind, plan.job.settings)
    seeds_n = settings.members if trainer_of(TRAINERS[kind]).SEEDED else 1
    members = [replace(settings, seed=settings.seed + n) for n in range(seeds_n)]
    return [Unit(kind, TRAINERS[kind], fold, one, plan.data) for fold in folds for one in members]


def _name(unit: Unit) -> str:
    return f"{unit.kind}, tested from {iso(unit.fold.test.start_ms)}, seed {unit.settings.seed}"


def _refuse_unknown(kinds: Sequence[str]) -> None:
    strange = [kind for kind in kinds if kind not in TRAINERS]
    if strange or not kinds or len(set(kinds)) != len(kinds):
        raise ConfigurationError(
            f"kinds {', '.join(kinds) or 'none'}: accepted are, each once, {', '.join(TRAINERS)}"
        )


# ---- one arm -------------------------------------------------------------------------------------


class ScoredLabels:
    """Answer with the labels of decisions, of each horizon that is scored."""

    def __init__(self, bars: SourceBars, job: Job) -> None:
        lag_ms = job.settings.lag_bars * bars.source.ms
        self._made = {
            horizon_ms: label(
                bars.close_ms, bars.values, source=bars.source, lag_ms=lag_ms, horizon_ms=horizon_ms
            )
            for horizon_ms in HORIZONS_MS
        }
        names = [disk_symbol(symbol) for symbol in bars.symbols]
        self._sorted = sorted(range(len(names)), key=lambda n: names[n])
        self.close_ms = bars.close_ms

    def at(self, instants_ms: Longs) -> Floats:
        """Give what models learn (M, N), in the order of the bars."""
        return self._made[HORIZON_MS].at(instants_ms)

    def sorted(self) -> dict[int, Floats]:
        """Give all labels (T, N) by horizon, in the order of a table's symbols."""
        return {ms: found.y[:, self._sorted] for ms, found in self._made.items()}


class _Stitching:
    """Make the arms of a walk-forward of fits that are there."""

    def __init__(
        self, settings: Settings, bars: SourceBars, plan: Plan, out: Path, how: Combining
    ) -> None:
        self._bars, self._plan, self._out, self._how = bars, plan, out, how
        self._decision = Timeframe.parse(settings.market.decision)
        self._labels = ScoredLabels(bars, plan.job)

    def arms(
        self, kind: str, units: Sequence[Unit], rules: Sequence[Rule], computed: int
    ) -> Iterator[ArmResult]:
        """Stitch, write and score the fits of a kind under each rule, the settings' own first."""
        folder = self._out / UNITS_FOLDER
        folds = [_raw_fold(self._plan, fold, units, folder) for fold in self._plan.folds]
        made = stitch_rules(
            folds,
            [disk_symbol(symbol) for symbol in self._bars.symbols],
            self._plan.job.timeframes,
            self._labels.at,
            reach_ms=self._plan.refits.reach_ms,
            horizon_ms=HORIZON_MS,
            how=self._how,
            rules=rules,
        )
        for rule, stitched in zip(rules, made, strict=True):
            path = self._out / (f"{kind}.parquet" if rule is rules[0] else f"{kind}-{rule}.parquet")
            facts = {
                "kind": kind,
                COMBINATION: str(rule),
                "made_by": COMMAND,
                ORIGIN: str(self._bars.origin.kind),
                "source": self._bars.source.label,
            }
            timeframes = self._plan.job.timeframes
            table_id = write_predictions(path, [stitched.table], timeframes, facts)
            labels = self._labels
            scores = score_table(stitched.table, labels.sorted(), labels.close_ms, self._decision)
            yield ArmResult(kind, rule, path, table_id, stitched, scores, len(units), computed)


def _raw_fold(plan: Plan, fold: Fold, units: Sequence[Unit], folder: Path) -> RawFold:
    mine = [unit for unit in units if unit.fold == fold]
    said = [read_unit(unit_path(folder, unit, plan.job), plan.job.timeframes) for unit in mine]
    test, stop = (
        {t: joined_members([by[t] for by in parts]) for t in plan.job.timeframes}
        for parts in ([one.test for one in said], [one.stop for one in said])
    )
    return RawFold(fold.test.start_ms, test, stop)


def joined_members(parts: Sequence[Part]) -> RawPart:
    """Put the forecasts of an ensemble's members together; their noise is averaged."""
    members = np.array([part.mean for part in parts])  # (S, M, N)
    return RawPart(parts[0].close_ms, members, np.mean([part.noise for part in parts], axis=0))


# ---- what is kept --------------------------------------------------------------------------------


def _log(
    settings: Settings, bars: SourceBars, plan: Plan, arm: ArmResult, ledger: TrialLedger
) -> None:
    """Log an arm: it shows skill out of sample, and so was tried."""
    panel = Panel(bars.close_ms, bars.values, bars.values[:, :, Field.OPEN])
    made = {
        "kind": arm.kind,
        "origin": f"{bars.origin.kind}: {bars.origin.name}",
        "walkforward": {name: str(value) for name, value in _schedule(plan.refits).items()},
    }
    if arm.combination is not Rule.AUTO:  # the usual one is not named: the trial keeps its id
        made["combination"] = str(arm.combination)
    scores = [plain(one) for one in arm.scores if one.period == ALL]
    facts = Training(arm.table_id, f"{arm.name}, walked forward", scores)
    ledger.append(
        trial_of_training(settings, panel, bars.symbols, bars.source, made, facts, COMMAND)
    )


def _schedule(refits: Refits) -> dict[str, object]:
    return asdict(refits)


def walk_forward_values(result: WalkForward) -> dict[str, Any]:
    """Give a walk-forward as plain values; NaN is None. The same inputs give the same values."""
    plan = result.plan
    folds = [
        {
            "train": [fold.train.start_ms, fold.train.end_ms],
            "stop": [fold.stop.start_ms, fold.stop.end_ms],
            "test": [fold.test.start_ms, fold.test.end_ms],
        }
        for fold in plan.folds
    ]
    arms = [
        {
            "kind": arm.kind,
            "table": arm.table_id,
            "file": arm.path.name,
            "rows": len(arm.stitched.table),
            "combination": str(arm.combination),
            "calibrations": plain(arm.stitched.calibrations),
            "combined": plain(arm.stitched.learned),
            "scores": plain(arm.scores),
        }
        for arm in result.arms
    ]
    return {
        "data": plan.data,
        "symbols": list(plan.job.symbols),
        "timeframes_minutes": [t.minutes for t in plan.job.timeframes],
        "schedule": _schedule(plan.refits),
        "folds": folds,
        "arms": arms,
    }
