"""Hold what came of a comparison, and write it as plain values.

What the same bars and settings always give stands in `architectures.json`; what hangs on the
machine, seconds and memory, stands apart in `resources.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.report.files import plain
from daemon.report.honesty import Honesty
from daemon.report.metrics import RunMetrics
from daemon.research.architectures.arms import Absent, Arm, Chosen
from daemon.research.architectures.budget import Effort
from daemon.research.architectures.judging import Judged
from daemon.research.architectures.measures import Measured

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Resources:
    """Hold what an arm takes on this machine; NaN and None: nobody knows.

    parameters: of all its models together. train_s: seconds of the processor for all fits that its
    table is made of. decision_ms: of the processor, 95th percentile of forecasting one decision,
    all its models.
    peak_mb: of a process that fits one of them.
    """

    parameters: int | None
    train_s: float
    decision_ms: float
    peak_mb: float


@dataclass(frozen=True)
class Traded:
    """Hold what a backtest over an arm's table brought, net of costs."""

    days: tuple[int, ...]
    returns: tuple[float, ...]
    metrics: RunMetrics
    fills: int
    fingerprint: str
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class ArmReport:
    """Hold an arm and all that came of it; traded and honest: None where it cannot be traded.

    tuned: the settings that each fold chose from the grid, in the order of time. failed_n: fits
    that never forecast numbers; they count as forecasts of zero.
    """

    arm: Arm
    table_id: str
    rows: int
    measured: Measured
    resources: Resources
    tuned: tuple[Chosen, ...]
    failed_n: int = 0
    traded: Traded | None = None
    honest: Honesty | None = None


@dataclass(frozen=True)
class Results:
    """Hold a whole comparison.

    facts: of data, protocol and folds, as plain values. trials_n: in the ledger on this data.
    """

    protocol: str
    effort: Effort
    grid: tuple[Chosen, ...]
    parameters: Mapping[str, int]
    absent: tuple[Absent, ...]
    at_ms: Longs
    arms: tuple[ArmReport, ...]
    judged: Judged
    facts: Mapping[str, object]
    one_way_bps: float

    def arm(self, name: str) -> ArmReport | None:
        """Find an arm by its name."""
        return next((one for one in self.arms if one.arm.name == name), None)

    @property
    def trials_n(self) -> int:
        """Give how many trials the deflated ratios allow for."""
        return max((one.honest.trials_n for one in self.arms if one.honest), default=0)

    @property
    def failures(self) -> tuple[str, ...]:
        """Name the arms of which fits failed, in words."""
        return tuple(
            f"{one.arm.name}: {one.failed_n} of its fits never forecast numbers and count as zero"
            for one in self.arms
            if one.failed_n
        )

    @property
    def caveats(self) -> tuple[str, ...]:
        """List what the backtests say of their data, each once."""
        said = (text for one in self.arms if one.traded for text in one.traded.caveats)
        return tuple(dict.fromkeys(said))


def results_values(results: Results) -> dict[str, Any]:
    """Give everything but what hangs on the machine; NaN is None."""
    judged = results.judged
    values = {
        **results.facts,
        "protocol": results.protocol,
        "effort": results.effort,
        "tuning_grid": results.grid,
        "parameters_of_networks": results.parameters,
        "absent": results.absent,
        "decisions": len(results.at_ms),
        "one_way_bps": results.one_way_bps,
        "trials": results.trials_n,
        "caveats": results.caveats,
        "arms": [_arm_values(one) for one in results.arms],
        "confidence_sets": judged.sets,
        "superior_ability": judged.tests,
        "differences_of_rank_ic": judged.differences,
        "verdicts": judged.verdicts,
    }
    found: dict[str, Any] = plain(values)
    return found


def _arm_values(one: ArmReport) -> dict[str, object]:
    found, gap = one.measured, one.measured.gap
    return {
        "name": one.arm.name,
        "group": str(one.arm.group),
        "kind": one.arm.kind,
        "members": one.arm.described,
        "table": one.table_id,
        "file": one.arm.file_name,
        "rows": one.rows,
        "parameters": one.resources.parameters,
        "tuned": one.tuned,
        "failed_fits": one.failed_n,
        "scores": found.scores,
        "beyond": found.beyond,
        "likelihood": found.likelihood,
        "quality": found.quality,
        "gap": None if gap is None else gap.size,
        "steps": found.steps,
        "money": None if one.traded is None else _money_values(one),
    }


def _money_values(one: ArmReport) -> dict[str, object]:
    traded, honest = one.traded, one.honest
    if traded is None or honest is None:
        return {}
    return {
        "metrics": traded.metrics,
        "fills": traded.fills,
        "days": len(traded.returns),
        "findings": [
            finding
            for finding in honest.findings
            if finding.name in ("sharpe", "probabilistic_sharpe", "deflated_sharpe")
        ],
        "trials": honest.trials_n,
        "trials_effective": honest.trials_effective,
    }


def resources_values(arms: Sequence[ArmReport]) -> dict[str, Any]:
    """Give what arms took on this machine, by name."""
    found: dict[str, Any] = plain({f"{a.arm.group}: {a.arm.name}": a.resources for a in arms})
    return found
