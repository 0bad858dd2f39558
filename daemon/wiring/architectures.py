"""Compare architectures, timeframes, regularisation and inputs over one walk-forward, all alike.

Everything is decided before the first fit (`architecture_plan`). Each fit leaves a file, as in a
walk-forward: a run that was killed goes on where it was. Tuning looks at the folds' own stop parts,
never at a test, and each setting that was tried is a trial of the ledger, as is every arm.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.locks import only_writer
from adapters.history.store import Panel
from adapters.trial_ledger import Training, TrialLedger
from daemon.domain.bar import Field
from daemon.domain.units import Timeframe, utc
from daemon.ports import Share
from daemon.report.files import plain, write_text
from daemon.report.honesty import judge as judge_returns
from daemon.research.architectures.arms import Arm, Chosen, Combine, Group, Sizes
from daemon.research.architectures.judging import Compared, judge
from daemon.research.architectures.page import page_of
from daemon.research.architectures.results import (
    ArmReport,
    Resources,
    Results,
    Traded,
    resources_values,
    results_values,
)
from daemon.research.walk_forward.scores import ALL
from daemon.settings import Settings
from daemon.wiring.architecture_plan import Campaign, campaign_of
from daemon.wiring.architecture_work import (
    ArmDone,
    ArmTask,
    Cost,
    measure_arm,
    read_cost,
    run_costed,
    trade,
)
from daemon.wiring.arms import Task, run_arms, workers_of
from daemon.wiring.combining import combining_of
from daemon.wiring.core import cost_of
from daemon.wiring.training import SourceBars
from daemon.wiring.trials import ledger_of, read_trials, trial_of_training
from daemon.wiring.walk_forward import UNITS_FOLDER, fit_missing
from strategies.forecast.calibration import centred
from strategies.forecast.inputs.labels import HORIZON_MS, Labels, label
from strategies.forecast.inputs.windows import on_grid
from strategies.forecast.skill import skill
from strategies.forecast.training.job import write_job
from strategies.forecast.training.splits import Fold
from strategies.forecast.training.unit import Unit, read_unit, unit_path
from strategies.rules import Rule

VALUES_FILE: Final = "architectures.json"
RESOURCES_FILE: Final = "resources.json"
PAGE_FILE: Final = "architectures.html"
PARTS: Final = ("train", "stop", "test")  # of a fold
TABLES_FOLDER: Final = "predictions"
COMMAND: Final = "evaluate architectures"
MEASURE_S: Final = 30.0  # of an arm, for what is shown of the time that is left
TRADE_S: Final = 60.0


def compare(
    settings: Settings,
    bars: SourceBars,
    groups: Sequence[Group],
    out: Path,
    *,
    kinds: Sequence[str] = (),
    processes: int | None = None,
    sizes: Sizes | None = None,
    told: Callable[[Campaign], None] = lambda campaign: None,
    done: Share = lambda share: None,
) -> Results:
    """Fit, stitch, measure, trade and judge all arms of some groups; a killed run goes on.

    kinds: of the architectures, none: all. sizes: else those of the protocol. told: hears what was
    decided before the first fit. Raises ConfigurationError for unknown kinds, a ledger that
    cannot be written, hours that do not suffice and a size at which not every network can be built,
    before anything is fitted.
    """
    ledger = ledger_of(settings)
    campaign = campaign_of(settings, bars, groups, kinds, sizes)
    told(campaign)
    with only_writer(out / VALUES_FILE):
        return _Run(settings, bars, campaign, out, ledger, processes, done).result()


class _Run:
    """Carry a comparison out, one stage after the other."""

    def __init__(
        self,
        settings: Settings,
        bars: SourceBars,
        campaign: Campaign,
        out: Path,
        ledger: TrialLedger,
        processes: int | None,
        done: Share,
    ) -> None:
        self._settings, self._bars, self._campaign = settings, bars, campaign
        self._out, self._folder = out, out / UNITS_FOLDER
        self._ledger, self._processes = ledger, processes
        self._job = campaign.plan.job
        self._progress = _Progress(done, campaign)

    def result(self) -> Results:
        """Do everything, and write what is kept."""
        chosen = self._fitted()
        with tempfile.TemporaryDirectory(prefix="equipoise-arms-") as place:
            found = self._measured(chosen, write_job(self._job, Path(place)))
        traded = self._traded(found)
        reports = tuple(
            _with_money(self._settings, self._report(arm, one, chosen), traded.get(arm))
            for arm, one in found.items()
        )
        at_ms = next(iter(found.values())).at_ms
        judged = judge(
            [Compared(one.arm, one.measured.losses, one.measured.gap) for one in reports],
            at_ms,
            horizon=max(1, HORIZON_MS // Timeframe.parse(self._settings.market.decision).ms),
            seed=self._settings.evaluation.seed,
        )
        results = Results(
            protocol=self._settings.architectures.protocol,
            effort=self._campaign.effort,
            grid=self._campaign.grid,
            parameters=self._campaign.parameters,
            absent=self._campaign.absent,
            at_ms=at_ms,
            arms=reports,
            judged=judged,
            facts=self._facts(),
            one_way_bps=1e4 * float(cost_of(self._settings, 1)[0]),
        )
        self._write(results)
        return results

    def _report(self, arm: Arm, one: ArmDone, chosen: _Choices) -> ArmReport:
        costs = self._costs(arm, chosen)
        return ArmReport(
            arm,
            one.table_id,
            one.rows,
            one.measured,
            _resources(costs),
            chosen.tuned(arm),
            sum(cost.failed for fold in costs for cost in fold if cost is not None),
        )

    def _facts(self) -> dict[str, object]:
        plan, bars = self._campaign.plan, self._bars
        folds = [
            {name: [getattr(f, name).start_ms, getattr(f, name).end_ms] for name in PARTS}
            for f in plan.folds
        ]
        return {
            "bars": f"{bars.origin.name}",
            "origin": str(bars.origin.kind),
            "data": plan.data,
            "symbols": list(plan.job.symbols),
            "timeframes_minutes": [t.minutes for t in plan.job.timeframes],
            "decision": self._settings.market.decision,
            "schedule": plain(plan.refits),
            "folds": folds,
        }

    def _write(self, results: Results) -> None:
        for name, values in (
            (VALUES_FILE, results_values(results)),
            (RESOURCES_FILE, resources_values(results.arms)),
        ):
            text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False)
            write_text(self._out / name, text + "\n")
        write_text(self._out / PAGE_FILE, page_of(results))

    # ---- fits ----

    def _fitted(self) -> _Choices:
        """Fit everything; the settings of tuned arms are chosen in between, fold by fold."""
        campaign, folds = self._campaign, self._campaign.plan.folds
        tries = {
            (arm, fold): [campaign.unit(arm.members[0], fold, one) for one in campaign.grid]
            for arm in campaign.arms
            if arm.tuned
            for fold in folds
        }
        plainly = [
            campaign.unit(member, fold)
            for arm in campaign.arms
            if not arm.tuned
            for fold in folds
            for member in arm.members
        ]
        self._fit([*(unit for mine in tries.values() for unit in mine), *plainly], 0)
        choices = _Choices(campaign, self._tuned(tries))
        rest = [
            unit
            for arm in campaign.arms
            if arm.tuned
            for fold in folds
            for unit in choices.units(arm, fold)
        ]
        self._fit(rest, 1)
        return choices

    def _fit(self, units: Sequence[Unit], stage: int) -> None:
        unique = list({unit_path(self._folder, unit, self._job): unit for unit in units}.values())
        fit_missing(
            self._settings,
            self._job,
            unique,
            self._folder,
            processes=self._processes,
            done=self._progress.stage(stage),
            run=run_costed,
        )

    def _tuned(
        self, tries: Mapping[tuple[Arm, Fold], Sequence[Unit]]
    ) -> dict[tuple[Arm, Fold], int]:
        """Choose of the grid what orders the fold's own stop part best; log all that was tried."""
        if not tries:
            return {}
        labels = self._labels()
        scored = {
            key: [self._stop_ic(unit, labels) for unit in units] for key, units in tries.items()
        }
        for arm in dict.fromkeys(arm for arm, _ in tries):
            mine = [key for key in tries if key[0] == arm]
            for number, chosen in enumerate(self._campaign.grid):
                first = unit_path(self._folder, tries[mine[0]][number], self._job).stem
                self._log_tuning(arm, chosen, first, [scored[key][number] for key in mine])
        return {
            key: int(np.argmax(np.where(np.isnan(scores), -np.inf, scores)))
            for key, scores in scored.items()
        }

    def _stop_ic(self, unit: Unit, labels: Labels) -> float:
        """Give the mean RankIC on the stop part; NaN where it tells no instruments apart."""
        said = read_unit(unit_path(self._folder, unit, self._job), unit.frames(self._job)).stop
        found = [
            skill(
                centred(part.mean),
                labels.at(part.close_ms),
                horizon_bars=max(1, HORIZON_MS // timeframe.ms),
            ).rank_ic
            for timeframe, part in said.items()
        ]
        return float(np.nanmean(found)) if np.isfinite(found).any() else float("nan")

    def _labels(self) -> Labels:
        job = self._job
        close_ms, values = on_grid(*job.bars[job.source], job.source)
        lag_ms = job.settings.lag_bars * job.source.ms
        return label(close_ms, values, source=job.source, lag_ms=lag_ms)

    # ---- arms ----

    def _measured(self, choices: _Choices, job: Path) -> dict[Arm, ArmDone]:
        arms, refits = self._campaign.arms, self._campaign.plan.refits
        tasks = [
            (
                arm.name,
                ArmTask(
                    arm,
                    tuple(tuple(choices.units(arm, f)) for f in self._campaign.plan.folds),
                    refits,
                    job,
                    self._folder,
                    self._out / TABLES_FOLDER / arm.file_name,
                    self._settings,
                ),
            )
            for arm in arms
        ]
        workers = workers_of(self._settings, self._processes)
        made = workers.map(measure_arm, tasks, self._progress.stage(2))
        found = dict(zip(arms, made, strict=True))
        for arm, one in found.items():
            self._log_arm(arm, one)
        return found

    def _traded(self, found: Mapping[Arm, ArmDone]) -> dict[Arm, Traded]:
        """Replay the tables of the arms that a strategy can read."""
        arms = [arm for arm in found if arm.combine is Combine.FORMULA]
        first_ms = self._campaign.plan.folds[0].test.start_ms
        tasks = [
            Task(arm.name, replayed(self._settings, self._table(arm), first_ms), COMMAND)
            for arm in arms
        ]
        workers = workers_of(self._settings, self._processes)
        made = run_arms(workers, trade, tasks, self._progress.stage(3))
        return dict(zip(arms, made, strict=True))

    def _table(self, arm: Arm) -> Path:
        return self._out / TABLES_FOLDER / arm.file_name

    def _costs(self, arm: Arm, choices: _Choices) -> list[list[Cost | None]]:
        """Read what the fits of an arm took, fold by fold; None where nobody has weighed it."""
        folds = [choices.units(arm, fold) for fold in self._campaign.plan.folds]
        return [
            [read_cost(unit_path(self._folder, unit, self._job)) for unit in fold] for fold in folds
        ]

    # ---- the ledger ----

    def _log_arm(self, arm: Arm, one: ArmDone) -> None:
        scores = [plain(score) for score in one.measured.scores if score.period == ALL]
        made = {"arm": f"{arm.group}: {arm.name}", "members": plain(arm.described)}
        self._log(Training(one.table_id, f"{arm.name}, compared", scores), made)

    def _log_tuning(self, arm: Arm, chosen: Chosen, model: str, ics: Sequence[float]) -> None:
        made = {"arm": f"{arm.group}: {arm.name}", "tried": dict(chosen)}
        scores = [plain({"rank_ic_of_stop_part": ic}) for ic in ics]
        self._log(Training(model, f"{arm.name}, tuned", scores), made)

    def _log(self, facts: Training, more: Mapping[str, object]) -> None:
        bars, plan = self._bars, self._campaign.plan
        panel = Panel(bars.close_ms, bars.values, bars.values[:, :, Field.OPEN])
        made = {
            **more,
            "kind": facts.kind,
            "origin": f"{bars.origin.kind}: {bars.origin.name}",
            "steps": self._campaign.effort.steps,
            "walkforward": plain(plan.refits),
        }
        rule = combining_of(self._settings).rule
        if rule is not Rule.AUTO:  # the usual one is not named: the trial keeps its id
            made["combination"] = str(rule)
        self._ledger.append(
            trial_of_training(
                self._settings, panel, bars.symbols, bars.source, made, facts, COMMAND
            )
        )


@dataclass(frozen=True)
class _Choices:
    """Answer which fits an arm is made of in a fold, once tuning is done."""

    campaign: Campaign
    best: Mapping[tuple[Arm, Fold], int]

    def units(self, arm: Arm, fold: Fold) -> list[Unit]:
        """Give the fits of all its members."""
        at = self.best.get((arm, fold))
        chosen = None if at is None else self.campaign.grid[at]
        return [self.campaign.unit(member, fold, chosen) for member in arm.members]

    def tuned(self, arm: Arm) -> tuple[Chosen, ...]:
        """Give what each fold chose; nothing for an arm that is not tuned."""
        return tuple(
            self.campaign.grid[self.best[arm, fold]]
            for fold in self.campaign.plan.folds
            if (arm, fold) in self.best
        )


def replayed(settings: Settings, table: Path, since_ms: int) -> Settings:
    """Give the settings under which a backtest replays a table from its first decision on."""
    changes: Mapping[str, Mapping[str, object]] = {
        "estimator": {"kind": "table", "table": str(table)},
        "backtest": {"since": utc(since_ms), "report": ""},
    }
    chosen = {
        section: getattr(settings, section).model_copy(update=update)
        for section, update in changes.items()
    }
    return settings.model_copy(update=chosen)


def _resources(each: Sequence[Sequence[Cost | None]]) -> Resources:
    known = [cost for fold in each for cost in fold if cost is not None]
    last = [cost for cost in each[-1] if cost is not None]
    if len(known) < sum(map(len, each)) or not known:
        train_s = float("nan")
    else:
        train_s = sum(cost.train_s for cost in known)
    counted = [cost.parameters for cost in last]
    return Resources(
        sum(counted) if counted else None,
        train_s,
        float(sum(np.quantile(one.decision_ms, 0.95) for one in last if one.decision_ms))
        if last
        else float("nan"),
        max((cost.peak_mb for cost in known), default=float("nan")),
    )


def _with_money(settings: Settings, one: ArmReport, traded: Traded | None) -> ArmReport:
    if traded is None:
        return one
    trials = read_trials(Path(settings.evaluation.trials_file), data_fingerprint=traded.fingerprint)
    honest = judge_returns(traded.returns, trials=trials)
    return replace(one, traded=traded, honest=honest)


class _Progress:
    """Turn the progress of the stages into that of the whole, by what each is thought to take."""

    def __init__(self, done: Share, campaign: Campaign) -> None:
        arms = len(campaign.arms)
        fits, tuned = campaign.effort.core_s, sum(arm.tuned for arm in campaign.arms)
        later = 0.3 if tuned else 0.0
        self._weights = (fits * (1.0 - later), fits * later, MEASURE_S * arms, TRADE_S * arms)
        self._done = done

    def stage(self, number: int) -> Share:
        """Give the progress of one stage."""
        whole = sum(self._weights)
        before, mine = sum(self._weights[:number]), self._weights[number]
        self._done(before / whole)
        return lambda share: self._done((before + share * mine) / whole)
