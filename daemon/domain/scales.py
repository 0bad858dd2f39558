"""Another unit for the same thing: splits, redenominations, and the suspicion that there was one.

Where a venue gives `new_n` new units for `old_n` old ones,

    price   = old price * old_n / new_n
    amount  = old amount * new_n / old_n

so that the value of a position stays. What looks like it without anybody having said so is doubted:
between two bars the price jumps by a round factor while the others do not move with it. A doubted
instrument stands still until a person says what it was, the price is back, or there is evidence:

    volume    a change of unit multiplies the amounts traded by the factor; where they changed by
              no more than a quarter of it (in logs) the price has really moved. Asked of factors
              from 5 on, after so many bars and hours that a quiet restart does not pass for it.
    patience  the price stands there for so long, traded in at least half of its bars

A crash falls through prices within bars, so that no gap lies between them and nothing is doubted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from decimal import Context, Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Field, Flags, Floats
from daemon.domain.units import HOUR_MS, MINUTE_MS

Instants = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int64]

FACTORS: Final = np.array(
    [2, 3, 4, 5, 6, 8, 10, 15, 20, 25, 50, 100, 1000, 10_000], dtype=np.float64
)
NEAR_SMALL: Final = 0.03  # how far from a factor below ten, in logs
NEAR_LARGE: Final = 0.1  # .. from ten on
TOGETHER: Final = 0.25  # others move with it that moved by this share of its jump
BACK: Final = 0.25  # back is who opens within this share of the jump from the old price
VOLUME_FACTOR_MIN: Final = 5.0
VOLUME_SHARE: Final = 0.25
VOLUME_BARS_MIN: Final = 8
VOLUME_MS_MIN: Final = 2 * HOUR_MS
RECENT: Final = 16  # bars whose volume says what is usual
_SAVED: Final = ("since_ms", "factor", "anchor", "usual", "traded_n", "logs", "heard_ms")
_EXACT: Final = Context(prec=28)


def rescaled_quantity(quantity: Decimal, new_n: int, old_n: int) -> Decimal:
    """Give an amount in new units, exactly; a third of a unit is rounded at the 28th digit."""
    return _EXACT.divide(_EXACT.multiply(quantity, Decimal(new_n)), Decimal(old_n))


def rescaled_bars(values: Floats, new_n: int, old_n: int) -> Floats:
    """Give bars (..., 5) in new units; NaN stays."""
    shown = values.copy()
    shown[..., : Field.VOLUME] = values[..., : Field.VOLUME] * old_n / new_n
    shown[..., Field.VOLUME] = values[..., Field.VOLUME] * new_n / old_n
    return shown


def guessed_factors(jumps: Floats) -> Floats:
    """Give the round number of new units per old one that each price ratio looks like, 0 for none.

    Of any shape; a price that falls to a tenth is 10, one that rises tenfold 0.1.
    """
    guessed = np.zeros(jumps.shape)
    large: Flags = np.asarray((jumps > 1.9) | (jumps < 1 / 1.9))  # few need a logarithm
    large &= np.isfinite(jumps) & (jumps > 0)
    if not large.any():
        return guessed
    logs = np.log(jumps[large])
    apart = np.abs(np.abs(logs)[:, None] - np.log(FACTORS))
    best = np.argmin(apart, axis=1)
    factors = FACTORS[best]
    near = apart[np.arange(len(best)), best] < np.where(factors < 10, NEAR_SMALL, NEAR_LARGE)
    guessed[large] = np.where(near, np.where(logs < 0, factors, 1 / factors), 0.0)
    return guessed


def suspected(jumps: Floats, known: Flags) -> Floats:
    """Give the guessed factor (T, N) of jumps that the other instruments do not make as well.

    jumps: open over the close before; known: who has one. With nobody beside it, each is suspected.
    """
    guessed = np.where(known, guessed_factors(jumps), 0.0)
    for t in np.flatnonzero(guessed.any(axis=1)).tolist():
        for n in np.flatnonzero(guessed[t]).tolist():
            beside = known[t].copy()
            beside[n] = False
            if not beside.any():
                continue
            size = math.log(jumps[t, n])
            others = float(np.median(np.log(jumps[t, beside])))
            if others * size > 0 and abs(others) >= TOGETHER * abs(size):
                guessed[t, n] = 0.0
    return guessed


@dataclass(frozen=True, slots=True)
class Doubts:
    """Hold whose price is doubted, (N,) each.

    since_ms: the open of the first doubted bar, 0 for none. anchor: the last price believed.
    factor: new units per old one, guessed. usual: mean log of the volumes before, NaN unknown.
    traded_n, logs: count and sum of the log volumes of traded bars since. heard_ms: the close of
    the last bar that counted.
    """

    since_ms: Instants
    anchor: Floats
    factor: Floats
    usual: Floats
    traded_n: Counts
    logs: Floats
    heard_ms: Instants

    @classmethod
    def none(cls, instruments_n: int) -> Doubts:
        """Doubt nobody."""
        whole, real = np.zeros(instruments_n, dtype=np.int64), np.zeros(instruments_n)
        nothing = np.full(instruments_n, np.nan)
        counts, logs = whole.copy(), real.copy()
        return cls(whole, nothing, real, nothing.copy(), counts, logs, whole.copy())

    @property
    def active(self) -> Flags:
        """Tell who is doubted, (N,)."""
        return np.asarray(self.since_ms > 0)

    def of(self, index: int) -> Doubt:
        """Give the doubt of one instrument."""
        return Doubt(*(getattr(self, f.name)[index].item() for f in fields(self)))

    def having(self, index: int, doubt: Doubt) -> Doubts:
        """Give the same with another doubt of one instrument."""
        changed = {f.name: getattr(self, f.name).copy() for f in fields(self)}
        for name, column in changed.items():
            column[index] = getattr(doubt, name)
        return Doubts(**changed)


@dataclass(frozen=True, slots=True)
class Doubt:
    """Hold the doubt of one instrument, as in `Doubts`."""

    since_ms: int = 0
    anchor: float = math.nan
    factor: float = 0.0
    usual: float = math.nan
    traded_n: int = 0
    logs: float = 0.0
    heard_ms: int = 0

    def to_plain(self) -> list[float]:
        """Give a form that a snapshot can hold."""
        return [getattr(self, name) for name in _SAVED]

    @classmethod
    def from_plain(cls, plain: Sequence[float]) -> Doubt:
        """Read `to_plain`; older snapshots hold the first two alone."""
        return cls(**dict(zip(_SAVED, plain, strict=False)))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Turn:
    """Tell that a doubt began, or why it ended, with the bar that closed at `at_ms`."""

    at_ms: int
    index: int
    doubt: Doubt
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Hold what a doubt is judged by, (T,) each: all sound bars of one instrument.

    factor: the suspected one of each jump, 0 for none. before: the close before each bar. recent:
    volumes of before the first bar, oldest first, NaN where there was none.
    """

    index: int
    close_ms: Instants
    bars: Floats
    factor: Floats
    before: Floats
    recent: Floats


def walked(
    column: Column, doubt: Doubt, minutes: int, patience_ms: int
) -> tuple[Flags, list[Turn], Doubt]:
    """Follow one instrument; give which of its bars are doubted (T,), what turned, and the end.

    patience_ms: 0 never believes by time alone.
    """
    doubted: Flags = np.zeros(len(column.close_ms), dtype=np.bool_)
    turns: list[Turn] = []
    row = 0
    while row < len(doubted):
        at_ms = int(column.close_ms[row])
        if not doubt.since_ms:
            ahead = np.flatnonzero(column.factor[row:])
            if not len(ahead):
                break
            row += int(ahead[0])
            at_ms = int(column.close_ms[row])
            doubt = _begun(column, row, minutes)
            turns.append(Turn(at_ms, column.index, doubt))
        if at_ms > doubt.since_ms:  # bars of before it, told once more, say nothing
            why = ""
            if at_ms > doubt.heard_ms:  # nor does one that counted before a restart count twice
                doubt, why = _heard(column.bars[row], at_ms, doubt, minutes, patience_ms)
            if why:
                turns.append(Turn(at_ms, column.index, doubt, why))
                doubt = Doubt()
            else:
                doubted[row] = True
        row += 1
    return doubted, turns, doubt


def _begun(column: Column, row: int, minutes: int) -> Doubt:
    volumes = np.concatenate([column.recent, column.bars[:row, Field.VOLUME]])[-RECENT:]
    traded = volumes[volumes > 0]
    usual = float(np.log(traded).mean()) if len(traded) else math.nan
    since_ms = int(column.close_ms[row]) - minutes * MINUTE_MS
    return Doubt(since_ms, float(column.before[row]), float(column.factor[row]), usual)


def _heard(
    bar: Floats, at_ms: int, doubt: Doubt, minutes: int, patience_ms: int
) -> tuple[Doubt, str]:
    """Count a bar; give why the doubt ends with it, or nothing."""
    size, doubt = math.log(doubt.factor), replace(doubt, heard_ms=at_ms)
    if abs(math.log(bar[Field.OPEN] / doubt.anchor)) < BACK * abs(size):
        return doubt, "the price is back"
    volume = float(bar[Field.VOLUME])
    if volume > 0:
        logs = doubt.logs + math.log(volume)
        doubt = replace(doubt, traded_n=doubt.traded_n + 1, logs=logs)
    stood_ms = at_ms - doubt.since_ms
    if abs(size) >= math.log(VOLUME_FACTOR_MIN) - 1e-9 and (
        doubt.traded_n >= VOLUME_BARS_MIN and stood_ms >= VOLUME_MS_MIN
    ):
        more = doubt.logs / doubt.traded_n - doubt.usual
        if more * math.copysign(1.0, size) < VOLUME_SHARE * abs(size):
            return doubt, "as much is traded as before: the price has really moved"
    half_n = patience_ms / (2 * minutes * MINUTE_MS)
    if patience_ms and stood_ms >= patience_ms and doubt.traded_n >= half_n:
        return doubt, "it has been traded there for so long that it is believed"
    return doubt, ""
