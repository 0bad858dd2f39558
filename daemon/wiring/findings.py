"""What a check of `doctor` gives: a verdict in plain words, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from daemon.domain.failures import EquipoiseError


class Verdict(StrEnum):
    """Grade one check."""

    GOOD = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """Hold one check's outcome in plain words; remedy: what to do, '' where nothing is to be."""

    name: str
    verdict: Verdict
    text: str
    remedy: str = ""


def attempt(name: str, check: Callable[[], Finding], remedy: str = "") -> Finding:
    """Make a check whose failure is a finding, never an exception."""
    try:
        return check()
    except (EquipoiseError, OSError) as e:
        return Finding(name, Verdict.BAD, str(e), remedy)
