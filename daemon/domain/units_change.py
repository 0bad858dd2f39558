"""Changes of units that a person stated, applied to bars: as a run sees them, and on one scale.

A run is told of a change at its instant and sees each bar in the units of its time: bars that close
by the instant and are told afterwards come in new units already, so that an instant shows one unit.
Training sees everything in the newest units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from daemon.domain.bar import Field, Flags, Floats
from daemon.domain.cleanser import Early, judge_again
from daemon.domain.cleansing import (
    CleansingRules,
    Codes,
    Instants,
    Judged,
    Memory,
    judge,
)
from daemon.domain.messages import Rescaled
from daemon.domain.scales import Turn, guessed_factors, rescaled_bars


@dataclass(frozen=True, slots=True)
class Change:
    """Hold a stated change; is_cut: it lies within the bar that closes at its instant."""

    event: Rescaled
    is_cut: bool = False

    @property
    def at_ms(self) -> int:
        """Give the first close that is told in new units."""
        return self.event.at_ms

    def shown(self, bars: Floats) -> Floats:
        """Give bars (..., 5) of before in new units."""
        return rescaled_bars(bars, self.event.new_n, self.event.old_n)

    def remembered(self, memory: Memory) -> Memory:
        """Let the cleansing compare what comes with what was, in new units."""
        event = self.event
        if event.new_n == event.old_n:
            return memory.believing(event.index)
        return memory.rescaled(event.index, event.new_n, event.old_n)


def judged_in_units(
    close_ms: Instants,
    values: Floats,
    rules: CleansingRules,
    minutes: int,
    changes: Sequence[Change],
    early: Sequence[Early] = (),
) -> tuple[Floats, Judged]:
    """Judge bars (T, N, 5) as `judge` does from nothing on; give what a run sees of them as well.

    changes: in time order. early: the instants that a live run judged before it knew all of them.
    """
    shown, memory, row = values, Memory.empty(values.shape[1]), 0
    codes: list[Codes] = []
    turns: list[Turn] = []

    early_rows = {int(np.searchsorted(close_ms, one.close_ms)): one for one in early}

    def note(judged: Judged, end: int) -> None:
        nonlocal memory, row
        codes.append(judged.rule)
        turns.extend(judged.turns)
        memory, row = judged.memory, end

    def take(end: int) -> None:
        for at in sorted(at for at in early_rows if row <= at < end):
            if close_ms[at] == early_rows[at].close_ms:
                note(judge(close_ms[row:at], shown[row:at], memory, rules, minutes), at)
                note(judge_again(early_rows[at], shown[at], memory, rules, minutes), at + 1)
        note(judge(close_ms[row:end], shown[row:end], memory, rules, minutes), end)

    for change in changes:
        first = int(np.searchsorted(close_ms, change.at_ms))
        take(first)
        memory = change.remembered(memory)
        if first < len(close_ms) and close_ms[first] == change.at_ms:
            shown = shown.copy() if shown is values else shown
            old = shown[first, change.event.index]
            shown[first, change.event.index] = np.nan if change.is_cut else change.shown(old)
    take(len(close_ms))
    return shown, Judged(np.concatenate(codes), memory, tuple(turns))


def on_one_scale(close_ms: Instants, shown: Floats, changes: Iterable[Change]) -> Floats:
    """Give what a run sees (T, N, 5) in the newest units throughout."""
    whole = shown
    for change in changes:
        rows = int(np.searchsorted(close_ms, change.at_ms))
        if rows and change.event.new_n != change.event.old_n:
            whole = whole.copy() if whole is shown else whole
            whole[:rows, change.event.index] = change.shown(whole[:rows, change.event.index])
    return whole


def strange_opens(
    close_ms: Instants, values: Floats, opens: Floats, turns: Iterable[Turn]
) -> Flags:
    """Tell at which prices (T, N) nobody trades: in doubt, or a round factor from the last close.

    values: as a run sees them, doubted bars included.
    """
    closes = values[:, :, Field.CLOSE]
    rows = np.where(np.isnan(closes), 0, np.arange(len(closes))[:, None])
    newest = np.take_along_axis(closes, np.maximum.accumulate(rows, axis=0), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        strange: Flags = np.asarray(guessed_factors(opens / newest) > 0)
    doubted = np.zeros_like(strange)
    for turn in turns:
        first = int(np.searchsorted(close_ms, turn.at_ms))
        doubted[first:, turn.index] = not turn.ended
    return np.asarray(strange | doubted)
