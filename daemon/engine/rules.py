"""The engine's settings, as one value that the composition root hands in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from daemon.domain.bar import Floats
from daemon.domain.messages import RuleValue
from daemon.domain.units import Timeframe, require
from daemon.engine.cadence import CadenceRules
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.ripeness import RipenessRules
from daemon.engine.risk import RiskLimits
from daemon.engine.styles import ExecutionRules, Style


@dataclass(frozen=True, slots=True)
class EngineRules:
    """Hold the engine's settings.

    cost: (N,) one-way cost as a fraction of notional, for the strategy's band. uncertain_asks_max:
    questions about one order before trading halts and names it. unread_max_ms: market time after
    which an account that cannot be read halts trading.
    """

    cadence: CadenceRules
    limits: RiskLimits
    cost: Floats
    bars_n: Mapping[Timeframe, int]
    reconcile: ReconcilePolicy = ReconcilePolicy.HALT
    uncertain_asks_max: int = 5
    unread_max_ms: int = 600_000
    ripeness: RipenessRules = field(default_factory=RipenessRules)
    id_prefix: str = "eq"
    execution: ExecutionRules = field(default_factory=ExecutionRules)


_GROUPS: Final = ("limits", "execution")
_STALE: Final = "cadence.stale_decisions_max"
_SINGLE: Final = ("reconcile", "uncertain_asks_max")
_READ: Final[Mapping[str, Any]] = {
    "reconcile": ReconcilePolicy,
    "execution.style": Style,
    "execution.hedges": tuple,
}


def changes(before: EngineRules, after: EngineRules) -> dict[str, RuleValue]:
    """Give what differs of the rules that may change while a book is open, by name."""
    old, new = _plain(before), _plain(after)
    return {name: value for name, value in new.items() if old[name] != value}


def changed(rules: EngineRules, new: Mapping[str, RuleValue]) -> EngineRules:
    """Give the rules with other values; raises InvariantViolated for a name that cannot change."""
    known = _plain(rules)
    strange = [name for name in new if name not in known]
    require(not strange, f"rules that may not change while a book is open: {strange}")
    values: dict[str, Any] = {
        name: _READ[name](value) if name in _READ else value for name, value in new.items()
    }
    groups = {group: _of(group, values) for group in _GROUPS}
    single = {name: value for name, value in values.items() if "." not in name}
    if _STALE in values:
        single["cadence"] = replace(rules.cadence, stale_decisions_max=values[_STALE])
    for group, within in groups.items():
        single[group] = replace(getattr(rules, group), **within)
    return replace(rules, **single)


def _of(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    start = f"{group}."
    return {name[len(start) :]: value for name, value in values.items() if name.startswith(start)}


def _plain(rules: EngineRules) -> dict[str, RuleValue]:
    found: dict[str, Any] = {name: getattr(rules, name) for name in _SINGLE}
    for group in _GROUPS:
        part = getattr(rules, group)
        found |= {f"{group}.{one.name}": getattr(part, one.name) for one in fields(part)}
    # texts, as a journal keeps them
    found[_STALE] = rules.cadence.stale_decisions_max
    return {name: str(v) if isinstance(v, str) else v for name, v in found.items()}
