"""Know when funding settles, and hand out the settled rates at those instants.

The venue says when each symbol settles next (1, 4 or 8 hours, and it may change the interval), so
the timetable is read again every hour of market time. Settled rates come from the funding history;
where ccxt has none, nothing is handed out and that is logged once.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import structlog

from adapters.exchange.carried import Settlements
from adapters.exchange.mapping import Settled
from adapters.exchange.reader import VenueReader
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.instrument import is_spare_symbol
from daemon.domain.messages import FundingRates
from daemon.domain.units import HOUR_MS, MINUTE_MS, iso

FUNDING_UNAVAILABLE: Final = "funding_unavailable"
FUNDING_DELAYED: Final = "funding_delayed"
FUNDING_MISSING: Final = "funding_missing"
RETRY_S: Final = 1.0
READING_MAX_MS: Final = 10 * MINUTE_MS
"""How long (market time) a reading of the timetable may last."""
LATE_MAX_MS: Final = HOUR_MS
"""How long after a settlement (market time) its rates are asked for."""


class FundingTable:
    """Follow the settlements of N symbols after `after_ms`.

    kept: what an earlier table of this feed left unpaid.
    patience_s: transport seconds for which bars of a settlement instant wait for its rates. Later
    rates are handed out when they come, with the instant they belong to. answer_is_final: what an
    answer after the settlement lacks will never come (a market that stands still while we ask).
    """

    def __init__(
        self,
        reader: VenueReader,
        symbols: Sequence[str],
        after_ms: int,
        *,
        patience_s: float,
        available: bool,
        answer_is_final: bool = False,
        news: Callable[[], None] = lambda: None,
        kept: Settlements | None = None,
    ) -> None:
        self._reader = reader
        self._count = len(symbols)
        self._index = {s: i for i, s in enumerate(symbols) if not is_spare_symbol(s)}
        self._symbols = list(self._index)
        self._patience_s = patience_s
        self._available = available
        self._answer_is_final = answer_is_final
        self._read_ms: int | None = None
        kept = Settlements() if kept is None else kept
        self._next_ms = kept.next_ms
        self._known_ms, self._pending = kept.known_ms, kept.pending
        for symbol in self._symbols:
            self._known_ms.setdefault(symbol, after_ms)
        self._since_s: dict[int, float] = {}
        self._retry_s = 0.0
        self._late: set[int] = set()
        self._news = news
        self.busy = False
        """Whether a question is under way."""
        if not available:
            structlog.get_logger().warning(FUNDING_UNAVAILABLE)

    def admit(self, index: int, symbol: str, market_ms: int) -> None:
        """Follow the settlements after `market_ms` of a contract that took a free column."""
        self._index[symbol], self._known_ms[symbol] = index, market_ms
        self._symbols.append(symbol)
        self._read_ms = None  # its timetable is not known

    def holds(self, settle_ms: int, at_s: float) -> bool:
        """Tell whether bars that close at `settle_ms` should still wait for rates."""
        since_s = self._since_s.get(settle_ms)
        return since_s is not None and at_s < since_s + self._patience_s

    def waits_at(self, market_ms: int, at_s: float) -> bool:
        """Tell whether rates up to `market_ms` are still hoped for in time."""
        return any(at <= market_ms and self.holds(at, at_s) for at in self._pending)

    def step(
        self,
        market_ms: int,
        at_s: float,
        group: asyncio.TaskGroup,
        tell: Callable[[FundingRates], None],
    ) -> None:
        """Note what has settled by `market_ms`, and ask for it in the background.

        tell: takes the rates, oldest first, as soon as they are known.
        """
        if not self._available:
            return
        self.reach(market_ms, at_s)
        timetable_due = self._read_ms is None or market_ms // HOUR_MS > self._read_ms // HOUR_MS
        if not self.busy and at_s >= self._retry_s and (self._pending or timetable_due):
            self.busy = True
            group.create_task(self._ask(market_ms, at_s, tell), name="funding")
        self._log_delays(market_ms, at_s)

    async def _ask(self, market_ms: int, at_s: float, tell: Callable[[FundingRates], None]) -> None:
        try:
            for settle_ms in sorted(self._pending):
                await self._read(settle_ms, tell)
            await self._read_timetable(market_ms, tell)
        except (VenueError, BadPayload) as trouble:
            self._retry_s = at_s + RETRY_S
            structlog.get_logger().debug(FUNDING_DELAYED, why=str(trouble))
        finally:
            self.busy = False
            self._news()
        if self._pending:
            self._retry_s = at_s + RETRY_S

    def reach(self, market_ms: int, at_s: float) -> None:
        """Note what has settled by an instant that our clock or the venue's bars have reached."""
        for settle_ms in self._pending:
            self._since_s.setdefault(settle_ms, at_s)
        for symbol, due_ms in list(self._next_ms.items()):
            if due_ms > market_ms:
                continue
            del self._next_ms[symbol]
            if due_ms > self._known_ms[symbol]:
                self._pending.setdefault(due_ms, set()).add(symbol)
                self._since_s.setdefault(due_ms, at_s)
                self._known_ms[symbol] = due_ms
                self._read_ms = None  # the timetable has moved on

    async def _read(self, settle_ms: int, tell: Callable[[FundingRates], None]) -> None:
        waiting = self._pending.get(settle_ms)
        if waiting is None:  # given up while another one was asked about
            return
        found = await self._reader.settled(sorted(waiting, key=self._index.__getitem__), settle_ms)
        waiting -= {entry.symbol for entry in found}
        if not waiting or self._answer_is_final:
            self._forget(settle_ms)
        if found:
            tell(self.message(settle_ms, found))

    def _forget(self, settle_ms: int) -> None:
        self._pending.pop(settle_ms, None)
        self._since_s.pop(settle_ms, None)
        self._late.discard(settle_ms)

    async def _read_timetable(self, market_ms: int, tell: Callable[[FundingRates], None]) -> None:
        """Ask for the next settlements once an hour, and after each of them.

        Settlements that fell in between unknown to us (before the first look, or while the venue
        could not be asked) are read from the history. What settles, and who joins, while we ask
        stays noted, and the timetable is read once more.
        """
        if self._read_ms is not None and market_ms // HOUR_MS <= self._read_ms // HOUR_MS:
            return
        asked = list(self._symbols)
        told: dict[int, list[Settled]] = {}
        self._read_ms = market_ms  # who settles or joins meanwhile wants another reading
        try:
            for symbol in asked:
                known_ms = self._known_ms[symbol]
                if symbol not in self._next_ms and market_ms // HOUR_MS > known_ms // HOUR_MS:
                    for entry in await self._reader.funding_between(symbol, known_ms, market_ms):
                        told.setdefault(entry.settle_ms, []).append(entry)
            next_ms = await self._reader.next_settlements(asked)
        except BaseException:
            self._read_ms = None
            raise
        for symbol in asked:
            self._known_ms[symbol] = max(self._known_ms[symbol], market_ms)
            due_ms = self._next_ms.get(symbol)
            if due_ms is None or due_ms > market_ms + READING_MAX_MS:
                self._next_ms.pop(symbol, None)
                if symbol in next_ms:
                    self._next_ms[symbol] = next_ms[symbol]
            # else: it may have settled since, and the answer name the one after that
        for at in sorted(told):
            tell(self.message(at, told[at]))

    def _log_delays(self, market_ms: int, at_s: float) -> None:
        for settle_ms, waiting in list(self._pending.items()):
            if market_ms - settle_ms > LATE_MAX_MS and not self.holds(settle_ms, at_s):
                self._forget(settle_ms)
                structlog.get_logger().warning(
                    FUNDING_MISSING, settle=iso(settle_ms), symbols=sorted(waiting)
                )
            elif not self.holds(settle_ms, at_s) and settle_ms not in self._late:
                self._late.add(settle_ms)
                structlog.get_logger().info(
                    FUNDING_DELAYED, settle=iso(settle_ms), symbols=sorted(waiting)
                )

    def message(self, settle_ms: int, settled: Sequence[Settled]) -> FundingRates:
        """Put payments of one instant into arrays (N,), NaN where there is none."""
        count = self._count
        rates, marks = np.full(count, math.nan), np.full(count, math.nan)
        for entry in settled:
            place = self._index[entry.symbol]
            rates[place], marks[place] = entry.rate, entry.mark
        return FundingRates(settle_ms, rates, marks)
