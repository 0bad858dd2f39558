"""Judge bars one instant after another, in the pieces in which they become known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from daemon.domain.bar import FIELDS, Field, Flags, Floats
from daemon.domain.cleansing import (
    Beside,
    CleansingRule,
    CleansingRules,
    Counts,
    Memory,
    Removal,
    Verdict,
    is_still,
    is_swing,
    judge,
)
from daemon.domain.scales import Turn, guessed_factors


@dataclass(slots=True)
class Cleanser:
    """Judge one instant after another, in the pieces in which it becomes known.

    Whether a venue stands still, or moved as a whole, is known when the whole instant is; so still
    bars and those that jump or swing beyond belief wait for the piece that is final, all others are
    judged at once.
    """

    rules: CleansingRules
    minutes: int
    memory: Memory
    venues: Counts | None = None
    removed_n: dict[CleansingRule, int] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()  # of the piece that was taken last
    _at_ms: int = 0
    _beside: Beside = field(default_factory=lambda: Beside.nothing(0))
    _held: Floats = field(default_factory=lambda: np.empty((0, FIELDS)))

    def take(
        self, close_ms: int, values: Floats, *, is_final: bool
    ) -> tuple[Flags, Flags, Sequence[Removal]]:
        """Judge a piece: which instruments come out now (N,), which wait (N,), what was judged.

        An instrument that waits comes out with the final piece, if it is kept; `held` has its bar.
        """
        if close_ms != self._at_ms:
            self._at_ms = close_ms
            self._beside = Beside.nothing(len(values))
            self._held = np.full_like(values, np.nan)
        there = ~np.isnan(values).all(axis=1)
        waits = there & (is_still(values[None])[0] | self._is_strange(values))
        now = there & ~waits
        self._held[waits] = values[waits]
        piece = np.where(now[:, None], values, np.nan)
        if is_final:
            piece = np.where(now[:, None], piece, self._held)
        at_ms = np.array([close_ms], dtype=np.int64)
        rules, minutes, venues = self.rules, self.minutes, self.venues
        judged = judge(at_ms, piece[None], self.memory, rules, minutes, venues, self._beside)
        self.memory, self.turns = judged.memory, judged.turns
        if judged.newest is not None:
            self._beside = judged.newest.over(self._beside)
        records = tuple(judged.records(at_ms))
        for one in records:
            if one.verdict is Verdict.REMOVE:
                self.removed_n[one.rule] = self.removed_n.get(one.rule, 0) + 1
        out: Flags = np.asarray(~np.isnan(piece).all(axis=1) & ~judged.removed[0])
        held: Flags = np.asarray(~np.isnan(self._held).all(axis=1))
        if is_final:
            self._held = np.full_like(values, np.nan)
            held = np.zeros_like(held)
        return out, held, records

    def _is_strange(self, values: Floats) -> Flags:
        """Tell which bars (N, 5) can only be judged beside the others."""
        with np.errstate(invalid="ignore", divide="ignore"):
            jumps = values[:, Field.OPEN] / self.memory.last[:, Field.CLOSE]
            return np.asarray((guessed_factors(jumps) > 0) | is_swing(values))
