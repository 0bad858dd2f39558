"""Combinatorial purged cross-validation beside a walk-forward: the scatter of its figures.

The fits know the future of their tests, so that nothing here goes into a table or a headline.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.history.locks import only_writer
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import Timeframe
from daemon.ports import Share
from daemon.report.files import plain, write_text
from daemon.research.walk_forward.combinations import Path as TestedPath
from daemon.research.walk_forward.combinations import score_paths
from daemon.settings import Settings
from daemon.wiring.training import SourceBars
from daemon.wiring.walk_forward import (
    SCORES_FILE,
    UNITS_FOLDER,
    Plan,
    fit_missing,
    joined_members,
    units_of,
)
from strategies.forecast.inputs.labels import HORIZON_MS, label
from strategies.forecast.training.splits import combinatorial
from strategies.forecast.training.unit import read_unit, unit_path

FILE: Final = "cpcv.json"
WARNING: Final = "combinatorial folds learn from the future of their tests: a scatter, not a record"
GROUPS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Scatter:
    """Hold the paths of each kind, in the order asked for."""

    groups: int
    test_groups: int
    paths: dict[str, tuple[TestedPath, ...]]


def combinations_of(text: str) -> tuple[int, int]:
    """Read `GROUPS,TESTED`; raise ConfigurationError saying what is accepted."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        groups, tested = (int(part) for part in parts)
        if 3 <= groups <= GROUPS_MAX and 1 <= tested < groups - 1:
            return groups, tested
    raise ConfigurationError(
        f"--cpcv {text}: accepted is GROUPS,TESTED as 6,2: 3 to {GROUPS_MAX} groups, and at least"
        " two that are not tested"
    )


def cross_validate(
    settings: Settings,
    bars: SourceBars,
    plan: Plan,
    kinds: Sequence[str],
    out: Path,
    combination: tuple[int, int],
    *,
    processes: int | None = None,
    done: Share = lambda share: None,
) -> Scatter:
    """Fit all combinations of a walk-forward's bars and score their paths at 6 hours.

    It shows no more skill of the same models on the same bars, and is no trial of its own.
    """
    groups, test_groups = combination
    decision = Timeframe.parse(settings.market.decision)
    start_ms = plan.folds[0].train.start_ms
    first_ms = -(-start_ms // decision.ms) * decision.ms
    at_ms = np.arange(first_ms, int(bars.close_ms[-1]) + 1, decision.ms, dtype=np.int64)
    refits = plan.refits
    found = combinatorial(
        at_ms,
        groups=groups,
        test_groups=test_groups,
        reach_ms=refits.reach_ms,
        embargo_ms=refits.embargo_ms,
        stop_ms=refits.stop_ms,
    )
    folds = [one.fold for one in found]
    units = {kind: units_of(plan, kind, folds) for kind in kinds}
    folder = out / UNITS_FOLDER
    wanted = [unit for mine in units.values() for unit in mine]
    with only_writer(out / SCORES_FILE):
        fit_missing(settings, plan.job, wanted, folder, processes=processes, done=done)
    lag_ms = plan.job.settings.lag_bars * bars.source.ms
    labels = label(bars.close_ms, bars.values, source=bars.source, lag_ms=lag_ms)
    outcomes, timeframes = labels.at(at_ms), plan.job.timeframes
    paths = {}
    for kind in kinds:
        tests = []
        for fold in folds:
            mine = [u for u in units[kind] if u.fold == fold]
            said = [read_unit(unit_path(folder, u, plan.job), timeframes).test for u in mine]
            tests.append({t: joined_members([one[t] for one in said]) for t in timeframes})
        paths[kind] = score_paths([one.split for one in found], tests, at_ms, outcomes)
    scatter = Scatter(groups, test_groups, paths)
    text = json.dumps(scatter_values(scatter), indent=1, sort_keys=True, allow_nan=False)
    write_text(out / FILE, text + "\n")
    return scatter


def scatter_values(scatter: Scatter) -> dict[str, Any]:
    """Give the scatter as plain values, the warning first of all."""
    return {
        "warning": WARNING,
        "horizon_h": HORIZON_MS // 3_600_000,
        "groups": scatter.groups,
        "test_groups": scatter.test_groups,
        "paths": {kind: plain(paths) for kind, paths in scatter.paths.items()},
    }
