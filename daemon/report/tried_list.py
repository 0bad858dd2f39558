"""What else was run on the same data, one by one, and whether its pipeline was leak-tested."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SHOWN_MAX: Final = 20
DIFFERENCES_MAX: Final = 5
SAME_SETTINGS: Final = "the same settings"


class LeakStatus(StrEnum):
    """Say what is known of a configuration and the future; `not run` is no verdict."""

    NOT_RUN = "not run"
    CLEAN = "clean"
    LEAK = "leak"
    NOTHING_FILLED = "nothing_filled"
    NOTHING_TRADED = "nothing_traded"


@dataclass(frozen=True, slots=True)
class LeakTest:
    """Hold the latest look-ahead test of a configuration on its data.

    cuts_n, decisions_n: what was compared. code_version: of the program that was tested.
    """

    status: LeakStatus = LeakStatus.NOT_RUN
    cuts_n: int = 0
    decisions_n: int = 0
    code_version: str = ""

    @property
    def text(self) -> str:
        """Say it in a sentence."""
        tested = f"{self.decisions_n:,} decisions before {self.cuts_n:,} cuts"
        by = f" (version {self.code_version})"
        match self.status:
            case LeakStatus.NOT_RUN:
                return (
                    "Not run: nobody has yet shown by equipoise evaluate lookahead that this "
                    "configuration decides without the future."
                )
            case LeakStatus.CLEAN:
                return f"Clean: {tested} were the same without and with another future{by}."
            case LeakStatus.LEAK:
                return f"LEAK: of {tested} some knew what came after{by}. Believe no figure here."
            case LeakStatus.NOTHING_FILLED:
                return f"{tested} were the same, but nothing was filled before any cut{by}."
            case LeakStatus.NOTHING_TRADED:
                return f"{tested} were the same, but no order was placed before any cut{by}."


@dataclass(frozen=True, slots=True)
class TriedRow:
    """Hold one trial beside a run.

    sharpe: annual, over its own days, NaN where it left no returns that vary. days: of returns.
    differences: settings in which it is not the run, as `section.key = value`; what it was where
    settings do not compare. is_this: the trial of the run itself.
    """

    name: str
    command: str
    sharpe: float
    days: int
    differences: tuple[str, ...]
    is_this: bool = False

    @property
    def text(self) -> str:
        """Say in a line how the trial differs."""
        if self.is_this:
            return "this run"
        shown = "; ".join(self.differences[:DIFFERENCES_MAX]) or SAME_SETTINGS
        more = len(self.differences) - DIFFERENCES_MAX
        return f"{shown}; and {more} more" if more > 0 else shown


@dataclass(frozen=True, slots=True)
class TriedList:
    """Hold all trials that count beside a run, the highest Sharpe ratio first, it among them."""

    rows: tuple[TriedRow, ...] = ()
    leak_test: LeakTest = LeakTest()

    @property
    def shown(self) -> tuple[TriedRow, ...]:
        """Give the best of them; the run itself is shown wherever it stands."""
        best = self.rows[:SHOWN_MAX]
        return best + tuple(row for row in self.rows[SHOWN_MAX:] if row.is_this)


def best_first(rows: Sequence[TriedRow]) -> tuple[TriedRow, ...]:
    """Order trials by Sharpe ratio, those without one last, of equals the earlier first."""
    return tuple(sorted(rows, key=lambda row: math.inf if math.isnan(row.sharpe) else -row.sharpe))


def differences(ours: Mapping[str, object], theirs: Mapping[str, object]) -> tuple[str, ...]:
    """Give the settings of theirs that are not ours, as `section.key = value`, by name."""
    one, other = _flat("", ours), _flat("", theirs)
    found = []
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            found.append(f"{name} = {other[name]}" if name in other else f"{name} not set")
    return tuple(found)


def _flat(prefix: str, value: object) -> dict[str, str]:
    if isinstance(value, Mapping) and value:
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _flat(f"{prefix}.{key}" if prefix else str(key), inner)
        return found
    text = str(value)
    # a digest tells nobody anything beyond its first digits
    is_digest = len(text) == 64 and not text.strip("0123456789abcdef")
    return {prefix: text[:12] if is_digest else text}
