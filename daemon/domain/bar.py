"""Bars as columnar cross-sections, and how their finality is proven.

A bar is labelled by its open, usable from its close. Arrays hold the five fields in the order of
`Field`; NaN in a row means 'no bar of this instrument'. Aggregation lives in `bar_builder`.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from daemon.domain.failures import InvariantViolated
from daemon.domain.units import Timeframe

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Field(IntEnum):
    """Name the columns of a bar row."""

    OPEN = 0
    HIGH = 1
    LOW = 2
    CLOSE = 3
    VOLUME = 4


FIELDS = len(Field)
_CLOSE = int(Field.CLOSE)  # as an index a plain number is much faster


class Proof(IntEnum):
    """Say how a bar's finality was proven; ABSENT means there is no bar."""

    ABSENT = 0
    SUCCESSOR = 1  # the stream showed the next bar
    REREAD = 2  # read again by REST after its close
    HISTORY = 3  # read from stored history
    DERIVED = 4  # aggregated from final source bars


class CrossSection(Struct, frozen=True, gc=False):
    """Hold the bars of one timeframe that closed at one instant.

    values: (N, 5) float64, prices in quote currency, volume in base units, NaN rows are absent.
    proof:  (N,) uint8 of `Proof`.
    """

    timeframe: Timeframe
    close_ms: int
    values: Floats
    proof: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        # One is made at every close: the messages are only written when they are needed.
        if not self.timeframe.closes_at(self.close_ms):
            raise InvariantViolated(f"{self.close_ms} is off the bar grid")
        if self.values.shape != (len(self.proof), FIELDS):
            raise InvariantViolated(
                f"values {self.values.shape} and proof {self.proof.shape}: want (N, 5) and (N,)"
            )

    @property
    def present(self) -> Flags:
        """Tell which instruments have a bar, shape (N,)."""
        return np.asarray(self.proof != Proof.ABSENT)


class Window(Struct, frozen=True, gc=False):
    """Hold the last T closed bars of one timeframe for all instruments.

    values: (T, N, 5), oldest first, NaN where a bar is missing. newest_ms is the close of the last
    row; at `as_of` its age is as_of - newest_ms.
    """

    timeframe: Timeframe
    newest_ms: int
    values: Floats

    @property
    def closes(self) -> Floats:
        """Give the close prices, shape (T, N)."""
        return self.values[:, :, _CLOSE]
