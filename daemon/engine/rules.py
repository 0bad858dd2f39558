"""The engine's settings, as one value that the composition root hands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from daemon.domain.bar import Floats
from daemon.domain.units import Timeframe
from daemon.engine.cadence import CadenceRules
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.ripeness import RipenessRules
from daemon.engine.risk import RiskLimits
from daemon.engine.styles import ExecutionRules


@dataclass(frozen=True, slots=True)
class EngineRules:
    """Hold the engine's settings.

    cost: (N,) one-way cost as a fraction of notional, for the strategy's band. uncertain_asks_max:
    questions about one order before trading halts and names it.
    """

    cadence: CadenceRules
    limits: RiskLimits
    cost: Floats
    bars_n: Mapping[Timeframe, int]
    reconcile: ReconcilePolicy = ReconcilePolicy.HALT
    uncertain_asks_max: int = 5
    ripeness: RipenessRules = field(default_factory=RipenessRules)
    id_prefix: str = "eq"
    execution: ExecutionRules = field(default_factory=ExecutionRules)
