"""Compare what a journal recorded with what came out again: one Check a number.

Exact where the same arithmetic runs over the same inputs. Forecasts of a network may differ in the
last bits on another processor, so that up to FORECAST_TOLERANCE counts as the same and is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

FORECAST_TOLERANCE: Final = 1e-6
Value = float | int | str | Decimal | None


class Outcome(StrEnum):
    """Say how a recomputed value compares with the recorded one."""

    EQUAL = "equal"
    CLOSE = "close"  # within the tolerance stated for it
    DIFFERS = "differs"
    UNKNOWN = "not recomputed"


@dataclass(frozen=True, slots=True)
class Check:
    """Hold one comparison; step: of the chain; why: what stands in the way where it is UNKNOWN."""

    step: str
    name: str
    recorded: Value
    recomputed: Value
    outcome: Outcome
    why: str = ""

    @property
    def difference(self) -> float | None:
        """Give recomputed minus recorded; None for texts and gaps."""
        if isinstance(self.recorded, str | None) or isinstance(self.recomputed, str | None):
            return None
        return float(self.recomputed) - float(self.recorded)

    @property
    def words(self) -> str:
        """Say it in one line."""
        if self.outcome is Outcome.UNKNOWN:
            return f"{self.name}: not recomputed, {self.why}"
        if self.outcome is Outcome.EQUAL:
            return f"{self.name}: equal, {_text(self.recorded)}"
        gap = self.difference
        by = "" if gap is None else f", by {gap:+.3e}"
        near = " (within rounding)" if self.outcome is Outcome.CLOSE else ""
        return (
            f"{self.name}: {self.outcome}{by}{near}: recorded {_text(self.recorded)}, now "
            f"{_text(self.recomputed)}"
        )


def compared(
    step: str, name: str, recorded: Value, recomputed: Value, tolerance: float = 0.0
) -> Check:
    """Compare two values; numbers within `tolerance` of each other are CLOSE, NaN equals NaN."""
    if recorded == recomputed or (_is_gap(recorded) and _is_gap(recomputed)):
        return Check(step, name, recorded, recomputed, Outcome.EQUAL)
    found = Check(step, name, recorded, recomputed, Outcome.DIFFERS)
    gap = found.difference
    if gap is not None and abs(gap) <= tolerance:
        return Check(step, name, recorded, recomputed, Outcome.CLOSE)
    return found


def unknown(step: str, name: str, why: str) -> Check:
    """Say that something could not be computed again, and why."""
    return Check(step, name, None, None, Outcome.UNKNOWN, why)


def _is_gap(value: Value) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _text(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.10g}"
    return "nothing" if value is None else str(value)
