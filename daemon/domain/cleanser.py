"""Judge bars one instant after another, in the pieces in which they become known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from daemon.domain.bar import FIELDS, Field, Flags, Floats
from daemon.domain.cleansing import (
    RULES,
    Beside,
    CleansingRule,
    CleansingRules,
    Counts,
    Judged,
    Memory,
    Removal,
    Verdict,
    is_broken,
    is_swing,
    judge,
)
from daemon.domain.scales import Turn, guessed_factors
from daemon.domain.stillness import is_still
from daemon.domain.units import DAY_MS

ALIVE_MS: Final = DAY_MS  # who has shown no bar for longer is not thought of at a deadline


@dataclass(frozen=True, slots=True)
class Early:
    """Record that an instant was judged before all of it was known: who had no bar yet."""

    close_ms: int
    untold: tuple[int, ...]


@dataclass(slots=True)
class Cleanser:
    """Judge one instant after another, in the pieces in which it becomes known.

    A still bar waits until it is certain whether its venue stands still: until the others of that
    venue were told, or cannot change it any more. A bar that jumps or swings beyond belief waits
    for all others; every other bar is judged at once. What waits is judged at the final piece, or
    at the deadline (`decide`). expected (N,): who may have a bar at all, everybody when None.
    """

    rules: CleansingRules
    minutes: int
    memory: Memory
    venues: Counts | None = None
    expected: Flags | None = None
    removed_n: dict[CleansingRule, int] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()  # of the piece that was taken last
    _at_ms: int = 0
    _beside: Beside = field(default_factory=lambda: Beside.nothing(0))
    _held: Floats = field(default_factory=lambda: np.empty((0, FIELDS)))
    _strange: Flags = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))

    def take(
        self, close_ms: int, values: Floats, *, is_final: bool
    ) -> tuple[Flags, Flags, Sequence[Removal]]:
        """Judge a piece: which instruments come out now (N,), which wait (N,), what was judged.

        Those that come out may have waited since an earlier piece of the instant.
        """
        if close_ms != self._at_ms:
            self._begin(close_ms, values)
        there: Flags = np.asarray(~np.isnan(values).all(axis=1))
        waits = there & self._note(values, there)
        self._held[waits] = values[waits]
        ready = self._waiting() if is_final else self._certain()
        piece = np.where((there & ~waits)[:, None], values, np.nan)
        out, records = self._judged(np.where(ready[:, None], self._held, piece), None)
        self._held[ready] = np.nan
        return out, self._waiting(), records

    def decide(self) -> tuple[Flags, Sequence[Removal], Early | None]:
        """Judge all that waits by what is known: who comes out (N,), what was judged, the record.

        A still bar goes while its venue may stand still for all that is known: of those that were
        not told, whoever had a bar within a day may show anything. None where nothing waited.
        """
        waits = self._waiting()
        if not waits.any():
            return waits, (), None
        last, last_ms = self.memory.last, self.memory.last_ms
        alive = ~np.isnan(last[:, Field.CLOSE]) & (self._at_ms - last_ms <= ALIVE_MS)
        may, must = self._foreseen(alive)
        untold = np.flatnonzero(~self._beside.present & self._expected()).tolist()
        out, records = self._judged(np.where(waits[:, None], self._held, np.nan), may & ~must)
        self._held[:] = np.nan
        return out, records, Early(self._at_ms, tuple(untold))

    # ---- what is known of the instant ------------------------------------------------------------

    def _begin(self, close_ms: int, values: Floats) -> None:
        self._at_ms = close_ms
        self._beside = Beside.nothing(len(values))
        self._held = np.full_like(values, np.nan)
        self._strange = np.zeros(len(values), dtype=np.bool_)

    def _note(self, values: Floats, there: Flags) -> Flags:
        """Note who has a bar and who stands still; give whose bar cannot be judged alone."""
        still = there & is_still(values) & ~is_broken(values)
        strange = there & self._is_strange(values)
        self._strange |= strange
        runs = np.where(still, self.memory.still_n + 1, self._beside.still_n)
        present = self._beside.present | there
        self._beside = replace(self._beside, present=present, still_n=runs)
        if CleansingRule.FROZEN_VENUE in self.rules.off:
            return strange
        return np.asarray(still | strange)

    def _waiting(self) -> Flags:
        return np.asarray(~np.isnan(self._held).all(axis=1))

    def _certain(self) -> Flags:
        """Tell which of those that wait no bar of their venue that may still come can change."""
        waits = self._waiting() & ~self._strange
        if not waits.any():
            return waits
        may, must = self._foreseen(self._expected())
        return waits & (must | ~may)

    def _foreseen(self, thought_of: Flags) -> tuple[Flags, Flags]:
        beside, venues = self._beside, self.venues
        venues = np.zeros(len(beside.present), dtype=np.int64) if venues is None else venues
        return self.rules.frozen_when(self.minutes).foreseen(
            beside.still_n, beside.present, thought_of, self.memory.still_n, venues
        )

    def _expected(self) -> Flags:
        return np.ones_like(self._beside.present) if self.expected is None else self.expected

    def _is_strange(self, values: Floats) -> Flags:
        """Tell which bars (N, 5) can only be judged beside the others."""
        with np.errstate(invalid="ignore", divide="ignore"):
            jumps = values[:, Field.OPEN] / self.memory.last[:, Field.CLOSE]
            return np.asarray((guessed_factors(jumps) > 0) | is_swing(values))

    def _judged(self, piece: Floats, unsure: Flags | None) -> tuple[Flags, Sequence[Removal]]:
        at_ms = np.array([self._at_ms], dtype=np.int64)
        rules, minutes, venues = self.rules, self.minutes, self.venues
        judged = judge(
            at_ms, piece[None], self.memory, rules, minutes, venues, self._beside, unsure
        )
        self.memory, self.turns = judged.memory, judged.turns
        if judged.newest is not None:
            self._beside = judged.newest.over(self._beside)
        records = tuple(judged.records(at_ms))
        for one in records:
            if one.verdict is Verdict.REMOVE:
                self.removed_n[one.rule] = self.removed_n.get(one.rule, 0) + 1
        return np.asarray(~np.isnan(piece).all(axis=1) & ~judged.removed[0]), records


def judge_again(
    early: Early, values: Floats, memory: Memory, rules: CleansingRules, minutes: int
) -> Judged:
    """Judge the bars (N, 5) of an instant as it was judged early, when some were not told yet."""
    cleanser = Cleanser(rules, minutes, memory)
    told = np.ones(len(values), dtype=np.bool_)
    told[list(early.untold)] = False
    code = np.zeros((1, len(values)), dtype=np.uint8)
    turns: list[Turn] = []

    def note(records: Sequence[Removal]) -> None:
        for one in records:
            code[0, one.index] = RULES.index(one.rule) + 1
        turns.extend(cleanser.turns)

    known = np.where(told[:, None], values, np.nan)
    note(cleanser.take(early.close_ms, known, is_final=False)[2])
    cleanser.turns = ()
    note(cleanser.decide()[1])
    rest = np.where(told[:, None], np.nan, values)
    note(cleanser.take(early.close_ms, rest, is_final=True)[2])
    return Judged(code, cleanser.memory, tuple(turns))
