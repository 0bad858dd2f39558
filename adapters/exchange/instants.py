"""Which bars are due at which instant, and what became of each: pure bookkeeping of the feed.

An instant is a close of the source grid. Each of its N bars is open (nobody told yet), proven, or
denied (the venue's own word that it has none). An instant goes out in time order, when no bar is
open any more, or when those still open were asked about in vain; a bar that turns up later goes out
by itself, for the same instant. At the newest instant nobody waits for others longer than
`EARLY_S`: what is proven goes out then, and what is proven later in batches of that length. Seconds
are transport time, milliseconds market time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Floats, Proof
from daemon.domain.finality import FinalBar
from daemon.domain.messages import BarsClosed
from daemon.domain.units import Timeframe

RETRY_S: Final = 0.5
EARLY_S: Final = 1.0
"""How long a proven bar of the newest instant waits for those of other instruments."""
UNPROVEN_MAX_S: Final = 30.0
"""The longest pause before a bar is asked for again that the venue may not have closed yet."""
NEVER_MS: Final = 1 << 62  # the listing of a column that is still free


class Fate(IntEnum):
    """Say what became of a bar that was due."""

    OPEN = 0
    PROVEN = 1
    DENIED = 2
    NOT_LISTED = 3


@dataclass(slots=True)
class _Instant:
    """Hold one instant: fate, values and proof of its N bars, and what is still to be sent.

    proven_ms: (N,) market time of each proof, 0 without one. fresh_since_s: since when something
    proven waits to be sent. told_whole: the word that nothing more can come was sent.
    """

    close_ms: int
    due_s: float
    fate: npt.NDArray[np.uint8]
    values: Floats
    proof: npt.NDArray[np.uint8]
    opens_sent: npt.NDArray[np.bool_]
    proven_ms: npt.NDArray[np.int64]
    fresh: set[int] = field(default_factory=set)
    asked: set[int] = field(default_factory=set)
    retry_s: dict[int, float] = field(default_factory=dict)
    unproven_n: dict[int, int] = field(default_factory=dict)
    emitted: bool = False
    told_whole: bool = False
    fresh_since_s: float = 0.0

    def open_indices(self) -> list[int]:
        return [int(i) for i in np.flatnonzero(self.fate == Fate.OPEN)]


class Instants:
    """Follow the instants after `after_ms` of N instruments.

    listed_ms: when each instrument was listed, None if unknown, NEVER_MS of a free column. An
    instrument that was denied `dormant_after` times in a row (delisted, halted) is asked about at
    once, and no longer keeps an instant from being called complete.
    """

    def __init__(
        self,
        timeframe: Timeframe,
        after_ms: int,
        listed_ms: Sequence[int | None],
        *,
        patience_s: float,
        late_max_ms: int,
        dormant_after: int = 3,
    ) -> None:
        self._timeframe = timeframe
        self._listed_ms = list(listed_ms)
        self._patience_s = patience_s
        self._late_max_ms = late_max_ms
        self._dormant_after = dormant_after
        self._reached_ms = timeframe.last_close(after_ms)
        self._instants: dict[int, _Instant] = {}
        self._denied_in_row = [0] * len(listed_ms)
        self._owed: set[tuple[int, int]] = set()  # instruments and closes of before this feed

    @property
    def reached_ms(self) -> int:
        """Give the newest instant that is due."""
        return self._reached_ms

    def admit(self, index: int, from_ms: int) -> None:
        """Expect the bars of a column that closes after `from_ms`."""
        self._listed_ms[index] = from_ms

    def owe(self, index: int, close_ms: int, at_s: float) -> None:
        """Wait for a bar of an instant that went out without it, before this feed was there."""
        if close_ms not in self._instants:
            told = self._new(close_ms, at_s)
            told.fate[:] = Fate.NOT_LISTED  # nothing is awaited from the others
            told.emitted = told.told_whole = True
            self._instants = dict(sorted({**self._instants, close_ms: told}.items()))
        self._instants[close_ms].fate[index] = Fate.OPEN
        self._owed.add((index, close_ms))

    def _new(self, close_ms: int, at_s: float) -> _Instant:
        count = len(self._listed_ms)
        return _Instant(
            close_ms,
            at_s,
            np.full(count, Fate.OPEN, dtype=np.uint8),
            np.full((count, FIELDS), np.nan),
            np.full(count, Proof.ABSENT, dtype=np.uint8),
            np.zeros(count, dtype=np.bool_),
            np.zeros(count, dtype=np.int64),
        )

    def reach(self, market_ms: int, at_s: float) -> None:
        """Note that market time is at least `market_ms`: instants up to it are due."""
        while (close_ms := self._timeframe.next_close(self._reached_ms)) <= market_ms:
            instant = self._instants[close_ms] = self._new(close_ms, at_s)
            for index, listed_ms in enumerate(self._listed_ms):
                if listed_ms is not None and listed_ms >= close_ms:
                    instant.fate[index] = Fate.NOT_LISTED
            self._reached_ms = close_ms
        self._forget_old()

    def _forget_old(self) -> None:
        """Drop instants that went out and are too old for late bars."""
        for instant in list(self._instants.values()):
            if self._reached_ms - instant.close_ms <= self._late_max_ms or not instant.emitted:
                return
            if not instant.fresh:
                del self._instants[instant.close_ms]

    def prove(self, bar: FinalBar, at_s: float, market_ms: int = 0) -> None:
        """Take a final bar; one that is ahead of our market time makes its instant due.

        market_ms: when it was proven; its close at the earliest.
        """
        self.reach(bar.close_ms, at_s)
        instant = self._instants.get(bar.close_ms)
        if instant is None or instant.fate[bar.index] == Fate.PROVEN:
            return
        instant.fate[bar.index] = Fate.PROVEN
        instant.values[bar.index] = bar.values
        instant.proof[bar.index] = bar.proof
        instant.proven_ms[bar.index] = max(market_ms, bar.close_ms)
        if not instant.fresh:
            instant.fresh_since_s = at_s
        instant.fresh.add(bar.index)
        self._denied_in_row[bar.index] = 0

    def deny(self, index: int, close_ms: int) -> bool:
        """Take the venue's word that it has no such bar (now); tell whether that is news."""
        instant = self._instants.get(close_ms)
        if instant is None or instant.fate[index] != Fate.OPEN:
            return False
        instant.fate[index] = Fate.DENIED
        # of before this feed there are none because it lags or lagged, not because it stands still
        self._denied_in_row[index] += (index, close_ms) not in self._owed
        return True

    def waits_for(self, index: int, closes: Sequence[int]) -> bool:
        """Tell whether any of these bars is neither proven nor denied."""
        due = (self._instants.get(close_ms) for close_ms in closes)
        return any(instant is not None and instant.fate[index] == Fate.OPEN for instant in due)

    def waited_s(self, close_ms: int, at_s: float) -> float:
        """Give for how long an instant has been due, 0 if it is not yet."""
        instant = self._instants.get(close_ms)
        return 0.0 if instant is None else at_s - instant.due_s

    def asked_in_vain(self, index: int, close_ms: int, retry_s: float) -> None:
        """Note that asking gave neither bar nor denial, and when (transport s) to ask again."""
        instant = self._instants.get(close_ms)
        if instant is not None:
            instant.asked.add(index)
            instant.retry_s[index] = retry_s

    def unproven(self, index: int, close_ms: int, at_s: float) -> None:
        """Note that nothing shows whether a bar has closed: ask again after a growing pause."""
        instant = self._instants.get(close_ms)
        if instant is not None:
            times = instant.unproven_n[index] = instant.unproven_n.get(index, 0) + 1
            pause_s = min(UNPROVEN_MAX_S, RETRY_S * 2.0 ** min(times - 1, 10))
            self.asked_in_vain(index, close_ms, at_s + pause_s)

    def to_ask(self, at_s: float, hopeless: Callable[[int, int], bool]) -> dict[int, list[int]]:
        """Give the closes to read by REST now, by instrument.

        `hopeless(index, close_ms)` tells that waiting for the stream is in vain.
        """
        found: dict[int, list[int]] = {}
        for instant in self._instants.values():
            patient = at_s < instant.due_s + self._patience_s
            for index in instant.open_indices():
                if at_s < instant.retry_s.get(index, 0.0):
                    continue
                if not patient or self._dormant(index) or hopeless(index, instant.close_ms):
                    found.setdefault(index, []).append(instant.close_ms)
        return found

    def denied(self, market_ms: int) -> dict[int, list[int]]:
        """Give the closes that were denied and may still turn up late, by instrument."""
        found: dict[int, list[int]] = {}
        for instant in self._instants.values():
            if not 0 < market_ms - instant.close_ms <= self._late_max_ms:
                continue
            for index in np.flatnonzero(instant.fate == Fate.DENIED):
                if not self._dormant(int(index)):
                    found.setdefault(int(index), []).append(instant.close_ms)
        return found

    def waits_at(self, market_ms: int) -> bool:
        """Tell whether a bar due by `market_ms` is neither proven nor denied."""
        return any(
            instant.close_ms <= market_ms and bool((instant.fate == Fate.OPEN).any())
            for instant in self._instants.values()
        )

    def waits(self, index: int, market_ms: int) -> bool:
        """Tell whether a bar of one instrument due by `market_ms` is neither proven nor denied."""
        return any(
            instant.close_ms <= market_ms and instant.fate[index] == Fate.OPEN
            for instant in self._instants.values()
        )

    def streamed_n(self, close_ms: int) -> int:
        """Count the bars of an instant that the stream proved."""
        instant = self._instants.get(close_ms)
        return 0 if instant is None else int((instant.proof == Proof.SUCCESSOR).sum())

    def dark(self, bars_n: int) -> list[int]:
        """Give who has shown none of the `bars_n` instants before the newest, and is not denied."""
        length_ms = self._timeframe.ms
        closes = [self._reached_ms - k * length_ms for k in range(1, bars_n + 1)]
        instants = [self._instants[at] for at in closes if at in self._instants]
        if len(instants) < bars_n:
            return []
        still = np.logical_and.reduce([instant.fate == Fate.OPEN for instant in instants])
        return [int(index) for index in np.flatnonzero(still)]

    def unsent_until(self, market_ms: int) -> bool:
        """Tell whether anything due by `market_ms` is still to be sent."""
        return any(
            instant.close_ms <= market_ms and (not instant.emitted or bool(instant.fresh))
            for instant in self._instants.values()
        )

    def take_sendable(
        self,
        opens_at: Callable[[int], Floats],
        held: Callable[[int], bool],
        hangs: Callable[[int], bool] = lambda index: False,
        at_s: float = 0.0,
    ) -> Iterator[BarsClosed]:
        """Give what can go out now, in time order; `held(close_ms)` holds a first sending back.

        hangs(index): a question about this instrument gets no answer; nobody waits for it.
        """
        for instant in list(self._instants.values()):
            newest = instant.close_ms == self._reached_ms
            if instant.emitted:
                ends = newest and not instant.told_whole and self._is_complete(instant)
                if ends or (instant.fresh and self._is_ready(instant, hangs, at_s)):
                    yield self._message(instant, opens_at(instant.close_ms))
                continue
            # splitting an old instant would help no decision
            if not self._is_ready(instant, hangs, at_s if newest else 0.0):
                return
            if held(instant.close_ms):
                return
            instant.emitted = True
            yield self._message(instant, opens_at(instant.close_ms))

    def _is_ready(self, instant: _Instant, hangs: Callable[[int], bool], at_s: float) -> bool:
        """Tell whether what is proven waits for nobody any more, or has waited long enough."""
        if instant.fresh and at_s >= instant.fresh_since_s + EARLY_S:
            return True
        return {i for i in instant.open_indices() if not hangs(i)} <= instant.asked

    def _message(self, instant: _Instant, opens: Floats) -> BarsClosed:
        """Write what is new at an instant: bars and opens that were sent before stay NaN."""
        rows = sorted(instant.fresh)
        instant.fresh.clear()
        values = np.full_like(instant.values, np.nan)
        proof = np.full_like(instant.proof, Proof.ABSENT)
        values[rows], proof[rows] = instant.values[rows], instant.proof[rows]
        opens = np.where(instant.opens_sent, np.nan, opens)
        instant.opens_sent |= ~np.isnan(opens)
        proven_ms = np.zeros_like(instant.proven_ms)
        proven_ms[rows] = instant.proven_ms[rows]
        whole = instant.told_whole = self._is_complete(instant)
        return BarsClosed(instant.close_ms, values, proof, opens, whole, proven_ms)

    def _is_complete(self, instant: _Instant) -> bool:
        told = (instant.fate == Fate.PROVEN) | (instant.fate == Fate.NOT_LISTED)
        return all(self._dormant(int(index)) for index in np.flatnonzero(~told))

    def _dormant(self, index: int) -> bool:
        return self._denied_in_row[index] >= self._dormant_after
