"""Name the rules of `strategies.combination`, for those who store or check what was chosen.

Apart from the arithmetic, because that takes a library half as long to load as all else that the
process of a stored model loads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daemon.domain.forecast import Reading


class Rule(StrEnum):
    """Name a rule of combination; AUTO stands for the one that the model names."""

    AUTO = "auto"
    STRENGTH = "strength"
    MEAN = "mean"
    GRINOLD_KAHN = "grinold_kahn"
    KALMAN = "kalman"


RULES: Final[tuple[Rule, ...]] = tuple(rule for rule in Rule if rule is not Rule.AUTO)


@dataclass(frozen=True, slots=True)
class Contender:
    """Hold how a rule did where it was chosen: mean score IC, and its lead over the default rule.

    lead_t: Newey and West's t of the paired lead. NaN without enough instants.
    """

    rule: str
    instants: int
    score_ic: float
    lead: float
    lead_t: float


def reading_problem(reading: Reading, timeframes_n: int) -> str | None:
    """Say in words why a stored reading must not be used, or None."""
    if reading.rule not in RULES:
        return f"rule {reading.rule!r}: known are {', '.join(RULES)}"
    return reading.problem(timeframes_n)
