"""Follow what a venue says of its instruments: listings, halts, announced ends, trading rules.

The list of markets is read again every `every_ms` of market time. An instrument is *gone* when its
end has come or the venue no longer lists it, *reduce only* while it is halted or its end is
announced, and trades otherwise. A list that cannot be read, or that lacks everything, says nothing;
so does a row that cannot be read, of its own instrument. Who stays unread is told.
A contract that may join the book (see `joining`) takes the first spare column, for good.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import structlog

from adapters.exchange.client import VenueClient
from adapters.exchange.failures import PAYLOAD_ERRORS
from adapters.exchange.joining import Joining
from adapters.exchange.mapping import end_ms_of, instrument_of, is_halted
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.instrument import Instrument, Standing
from daemon.domain.messages import FeedNotice, FeedTrouble, InstrumentChanged
from daemon.domain.units import iso

UNREADABLE: Final = (VenueError, BadPayload, *PAYLOAD_ERRORS)
MARKETS_UNREAD: Final = "markets_unread"
LISTING_UNREAD: Final = "listing_unread"
MISSING_MAX_SHARE: Final = 0.5  # of ours at once: then the list is wrong, not the market
UNREAD_READINGS: Final = 3  # in a row, before people are told that something cannot be read
SHOWN_MAX: Final = 5  # of contracts that find no column, in one notice
MISSING_READINGS: Final = 2  # in a row, before an instrument that is not listed counts as gone

_log = structlog.get_logger()


class Life:
    """Tell each change of rules or standing of N instruments once, the first reading in whole."""

    def __init__(
        self,
        client: VenueClient,
        instruments: Sequence[Instrument],
        every_ms: int,
        tell: Callable[[InstrumentChanged | FeedNotice], None],
        news: Callable[[], None],
        joining: Joining | None = None,
    ) -> None:
        self._client = client
        self._known = list(instruments)
        self._standing: list[Standing | None] = [None] * len(instruments)
        self._missing = [0] * len(instruments)
        self._unread = Unread(lambda active, text: self._tell_listing(active, text))
        self._every_ms = every_ms
        self._tell = tell
        self._news = news
        self._read_ms: int | None = None
        self._joining = joining
        self._without_column: frozenset[str] = frozenset()
        self.joined: list[tuple[int, Instrument]] = []
        """Columns taken that nobody picked up yet."""
        self.busy = False
        """Whether a question is under way."""

    def step(self, market_ms: int, group: asyncio.TaskGroup) -> None:
        """Read the list in the background when it is due; the first time at once."""
        named = self._joining is not None and bool(self._joining.named)
        if self._read_ms is None:
            due = bool(self._every_ms) or named
        else:
            due = bool(self._every_ms) and market_ms >= self._read_ms + self._every_ms
        if due and not self.busy:
            self.busy = True
            self._read_ms = market_ms
            group.create_task(self._read(market_ms), name="markets")

    async def _read(self, market_ms: int) -> None:
        try:
            rows, _ = await self._client.ask("fetch_markets")
            markets = self._taken_over(rows)
            odd = self._compare(markets, market_ms)
            self._admit(markets, market_ms)
            self._unread.noted(odd)
        except UNREADABLE as trouble:
            _log.debug(MARKETS_UNREAD, exchange=self._client.exchange, why=str(trouble))
            self._unread.noted({"": str(trouble)})
        finally:
            self.busy = False
            self._news()

    def _taken_over(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Give a fresh list to the client, and what it says; raises BadPayload for a wrong one.

        The client refuses to ask about a market that its list lacks, and that would read as the
        venue's word: so an instrument of ours stays in its list until it counts as gone.
        """
        listed = {row["symbol"] for row in rows}
        ours = {i: known.key.symbol for i, known in enumerate(self._known) if not known.is_spare}
        missing_n = sum(s not in listed and not self._is_unread(s) for s in ours.values())
        if missing_n > MISSING_MAX_SHARE * len(ours) and missing_n > 1:
            why = f"{missing_n} of {len(ours)} instruments are not in the list"
            raise BadPayload(f"{self._client.exchange}: {why}")
        before = self._client.api.markets or {}
        kept = [
            before[symbol]
            for i, symbol in ours.items()
            if symbol not in listed and symbol in before
            if self._missing[i] + 1 < MISSING_READINGS or self._is_unread(symbol)
        ]
        markets = self._client.api.set_markets([*rows, *kept])
        return {symbol: market for symbol, market in markets.items() if symbol in listed}

    def _is_unread(self, symbol: str) -> bool:
        market_id = self._client.market(symbol).get("id")
        return market_id is not None and self._client.listing.is_unread(market_id)

    def _compare(self, markets: Mapping[str, Any], market_ms: int) -> dict[str, str]:
        """Tell what changed; give the instruments whose rows cannot be read, and why."""
        odd: dict[str, str] = {}
        for index, known in enumerate(self._known):
            symbol = known.key.symbol
            if known.is_spare:
                continue
            market = markets.get(symbol)
            if market is None and self._is_unread(symbol):
                odd[symbol] = "its row has a shape that cannot be read"
                continue
            self._missing[index] = 0 if market is not None else self._missing[index] + 1
            try:
                instrument, standing, why = self._judged(index, known, market, market_ms)
            except UNREADABLE as trouble:  # a halt or an end is told all the same
                odd[symbol] = str(trouble)
                instrument, standing, why = known, *_standing_of(market or {}, market_ms)
            if standing is None:
                continue
            if (instrument, standing) != (known, self._standing[index]):
                self._known[index], self._standing[index] = instrument, standing
                self._tell(InstrumentChanged(market_ms, index, instrument, standing, why))
        return odd

    def _tell_listing(self, active: bool, text: str) -> None:
        venue, at_ms = self._client.exchange, self._read_ms or 0
        self._tell(FeedNotice(at_ms, venue, FeedTrouble.LISTING, active, text))

    def _admit(self, markets: Mapping[str, Any], market_ms: int) -> None:
        """Give spare columns to contracts that may join; say who finds none when that changes."""
        free = [index for index, known in enumerate(self._known) if known.is_spare]
        if self._joining is None:
            return
        known = {instrument.key.symbol for instrument in self._known}
        left: dict[str, str] = {}
        for symbol, why in self._joining.wanted(markets, known):
            if not free:
                left[symbol] = why
                continue
            try:
                found = self._judged(free[0], self._known[free[0]], markets[symbol], market_ms)
            except UNREADABLE as trouble:  # one odd contract stops nobody
                _log.debug(LISTING_UNREAD, symbol=symbol, why=str(trouble))
                continue
            index, instrument, standing = free.pop(0), found[0], found[1] or Standing.TRADING
            self._known[index], self._standing[index] = instrument, standing
            self.joined.append((index, instrument))
            self._tell(InstrumentChanged(market_ms, index, instrument, standing, why))
        self._tell_left(left, market_ms)

    def _tell_left(self, left: Mapping[str, str], market_ms: int) -> None:
        """Name who finds no column, in one notice, whenever it is not who was named last."""
        if left.keys() == self._without_column:
            return
        self._without_column = frozenset(left)
        text, venue = _left_in_words(left), self._client.exchange
        self._tell(FeedNotice(market_ms, venue, FeedTrouble.NO_COLUMN, bool(left), text))

    def _judged(
        self, index: int, known: Instrument, market: Mapping[str, Any] | None, market_ms: int
    ) -> tuple[Instrument, Standing | None, str]:
        if market is None:
            gone = self._missing[index] >= MISSING_READINGS or self._standing[index] is None
            why = "the venue no longer lists it"
            return known, Standing.GONE if gone else self._standing[index], why
        instrument = instrument_of(market, self._client.exchange, self._client.api.precisionMode)
        standing, why = _standing_of(market, market_ms)
        return instrument, standing, why or _rules_in_words(known, instrument)


class Unread:
    """Count readings in a row that left something unread; tell when that lasts, and when it ends.

    "" stands for the whole list.
    """

    def __init__(self, tell: Callable[[bool, str], None]) -> None:
        self._tell = tell
        self._readings: dict[str, int] = {}
        self._told: frozenset[str] = frozenset()

    def noted(self, odd: Mapping[str, str]) -> None:
        """Take what could not be read this time, and why."""
        self._readings = {name: self._readings.get(name, 0) + 1 for name in odd}
        lasting = [name for name, count in self._readings.items() if count >= UNREAD_READINGS]
        if self._told == frozenset(lasting):
            return
        self._told = frozenset(lasting)
        whom = ", ".join(name or "its list of contracts" for name in sorted(lasting))
        why = odd[min(lasting)] if lasting else ""
        told = f"{whom} could not be read {UNREAD_READINGS} times in a row: {why}"
        self._tell(bool(lasting), told if lasting else "its list of contracts can be read again")


def _left_in_words(left: Mapping[str, str]) -> str:
    """Say who finds no column, and why each would join; the first few by name."""
    if not left:
        return "no contract is without a column any more"
    shown = [f"{symbol} ({why})" for symbol, why in islice(left.items(), SHOWN_MAX)]
    more = f" and {len(left) - SHOWN_MAX} more" if len(left) > SHOWN_MAX else ""
    who = "1 contract" if len(left) == 1 else f"{len(left)} contracts"
    names = ", ".join(shown) + more
    return f"{who} cannot join, for no spare column is left in this book: {names}"


def _standing_of(market: Mapping[str, Any], market_ms: int) -> tuple[Standing, str]:
    end_ms = end_ms_of(market)
    if end_ms is not None and market_ms >= end_ms:
        return Standing.GONE, f"it ended{_at(end_ms)}"
    if end_ms is not None:
        return Standing.REDUCE_ONLY, f"it ends at {iso(end_ms)}"
    if is_halted(market):
        return Standing.REDUCE_ONLY, "the venue has halted it"
    return Standing.TRADING, ""


def _at(end_ms: int) -> str:
    return f" at {iso(end_ms)}" if end_ms else ""


def _rules_in_words(before: Instrument, after: Instrument) -> str:
    names = ("price_step", "quantity_step", "quantity_min", "notional_min", "contract_size")
    changed = [
        f"{name.replace('_', ' ')} {getattr(before.rules, name)} to {getattr(after.rules, name)}"
        for name in names
        if getattr(before.rules, name) != getattr(after.rules, name)
    ]
    return ", ".join(changed) or "it trades"
