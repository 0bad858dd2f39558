"""What was tried on the same data: the material of the deflated Sharpe ratio and of PBO."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LedgerFacts:
    """Say where trials were counted: file as `shown_file` gives it, trials_n: different ones."""

    file: str
    trials_n: int


@dataclass(frozen=True, slots=True)
class Trials:
    """Hold the daily returns of different configurations on the UTC days they have in common.

    days: (T,) days since 1970-01-01, rising. returns: (T, N), finite, one column a trial in the
    order of names. tried_n >= N counts all different configurations that were run on this data,
    those with no common days included; trained_n of them are trainings that printed their skill.
    ledger: None where trials do not come from one.
    """

    names: tuple[str, ...]
    days: npt.NDArray[np.int64]
    returns: Floats
    tried_n: int
    trained_n: int = 0
    ledger: LedgerFacts | None = None


def shown_file(path: Path) -> str:
    """Name a file for a report: relative to the working folder, by its name alone outside of it.

    A report may not tell folders of the machine, and must be the same bytes on every one.
    """
    if path.is_absolute():
        here = Path.cwd()
        return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.name
    return path.name if ".." in path.parts else path.as_posix()
