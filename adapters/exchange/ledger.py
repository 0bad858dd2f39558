"""What one venue has told so far: a feed begun again leaves nothing out and repeats nothing.

A feed that fails may have told the rates of an instant and not its bars, or the bars of some and
not of all. It is therefore begun again from the last instant up to which everything is complete;
what comes a second time is taken out here, and what differs then is told as a revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Floats, Proof
from daemon.domain.messages import BarsClosed, FundingRates, MarketEvent, Revised
from daemon.domain.units import Timeframe

SETTLEMENTS_KEPT: Final = 1_000


@dataclass(slots=True)
class _Told:
    """Hold what was told of one instant: values (N, 5), NaN where nothing was; opens (N,)."""

    values: Floats
    opens: npt.NDArray[np.bool_]
    final: bool = False


class Ledger:
    """Remember what a venue told, in its own columns, as far back as it may be told again.

    late_max_ms: how long a feed asks for bars that its venue did not have; older instants that
    never became complete are not waited for.
    """

    def __init__(self, after_ms: int, timeframe: Timeframe, late_max_ms: int) -> None:
        self._timeframe = timeframe
        self._late_max_ms = late_max_ms
        self._instants: dict[int, _Told] = {}
        self._rates: dict[int, npt.NDArray[np.bool_]] = {}
        self._newest_ms = after_ms
        self.whole_ms = after_ms
        """Up to here everything was told: from here a feed is to be begun again."""

    @property
    def newest_ms(self) -> int:
        """Give the newest close of which bars were told."""
        return self._newest_ms

    def fresh(self, event: MarketEvent) -> list[MarketEvent]:
        """Note an event; give what of it was not told before (nothing, it, or it and revisions)."""
        match event:
            case BarsClosed():
                return self._bars(event)
            case FundingRates():
                return self._settled(event)
            case Revised():
                told = self._instants.get(event.close_ms)
                if told is not None:
                    told.values[event.index] = event.after
                return [event]
            case _:
                return [event]

    def _bars(self, event: BarsClosed) -> list[MarketEvent]:
        if event.close_ms <= self.whole_ms:
            return [event]  # a late bar of long ago, or the past of a contract that joined
        first = event.close_ms not in self._instants
        told = self._told_of(event)
        there, before = event.proof > 0, ~np.isnan(told.values[:, 0])
        revisions = self._revised(event, told, np.flatnonzero(there & before).tolist())
        new, opens = there & ~before, np.where(told.opens, np.nan, event.opens)
        says_final = event.final and not told.final
        told.values[new] = event.values[new]
        told.opens |= ~np.isnan(event.opens)
        told.final |= event.final
        self._note_whole(event.close_ms)
        if not (first or says_final or new.any() or not np.isnan(opens).all()):
            return revisions
        rest = BarsClosed(
            event.close_ms,
            np.where(new[:, None], event.values, np.nan),
            np.where(new, event.proof, Proof.ABSENT).astype(np.uint8),
            opens,
            says_final,
            None if event.proven_ms is None else np.where(new, event.proven_ms, 0),
        )
        return [rest, *revisions]

    def _told_of(self, event: BarsClosed) -> _Told:
        count = len(event.proof)
        nothing = _Told(np.full((count, FIELDS), np.nan), np.zeros(count, dtype=np.bool_))
        return self._instants.setdefault(event.close_ms, nothing)

    def _revised(self, event: BarsClosed, told: _Told, again: list[int]) -> list[MarketEvent]:
        """Give as revisions what is now said otherwise of bars that were told."""
        found: list[MarketEvent] = []
        for index in again:
            before, after = told.values[index].copy(), event.values[index]
            if np.array_equal(before, after):
                continue
            told.values[index] = after
            seen_ms = event.close_ms if event.proven_ms is None else int(event.proven_ms[index])
            proof = Proof(int(event.proof[index]))
            found.append(Revised(event.close_ms, index, before, after.copy(), proof, seen_ms))
        return found

    def _settled(self, event: FundingRates) -> list[MarketEvent]:
        count = len(event.rates)
        told = self._rates.setdefault(event.settle_ms, np.zeros(count, dtype=np.bool_))
        there = ~np.isnan(event.rates)
        new = there & ~told
        told |= there
        while len(self._rates) > SETTLEMENTS_KEPT:
            del self._rates[min(self._rates)]
        if not new.any():
            return []
        rates, marks = np.where(new, event.rates, np.nan), np.where(new, event.marks, np.nan)
        return [FundingRates(event.settle_ms, rates, marks)]

    def _note_whole(self, close_ms: int) -> None:
        self._newest_ms = max(self._newest_ms, close_ms)
        while True:
            next_ms = self._timeframe.next_close(self.whole_ms)
            told = self._instants.get(next_ms)
            given_up = next_ms <= self._newest_ms - self._late_max_ms
            if not (given_up or (told is not None and told.final)):
                return
            self.whole_ms = next_ms
            self._instants.pop(next_ms, None)
