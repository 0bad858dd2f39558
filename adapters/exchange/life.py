"""Follow what a venue says of its instruments: listings, halts, announced ends, trading rules.

The list of markets is read again every `every_ms` of market time. An instrument is *gone* when its
end has come or the venue no longer lists it, *reduce only* while it is halted or its end is
announced, and trades otherwise. A list that cannot be read, or that lacks everything, says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog

from adapters.exchange.client import VenueClient
from adapters.exchange.mapping import end_ms_of, instrument_of, is_halted
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.instrument import Instrument, Standing
from daemon.domain.messages import InstrumentChanged
from daemon.domain.units import iso

MARKETS_UNREAD: Final = "markets_unread"
MISSING_MAX_SHARE: Final = 0.5  # of ours at once: then the list is wrong, not the market
MISSING_READINGS: Final = 2  # in a row, before an instrument that is not listed counts as gone

_log = structlog.get_logger()


class Life:
    """Tell each change of rules or standing of N instruments once, the first reading in whole."""

    def __init__(
        self,
        client: VenueClient,
        instruments: Sequence[Instrument],
        every_ms: int,
        tell: Callable[[InstrumentChanged], None],
        news: Callable[[], None],
    ) -> None:
        self._client = client
        self._known = list(instruments)
        self._standing: list[Standing | None] = [None] * len(instruments)
        self._missing = [0] * len(instruments)
        self._every_ms = every_ms
        self._tell = tell
        self._news = news
        self._read_ms: int | None = None
        self.busy = False
        """Whether a question is under way."""

    def step(self, market_ms: int, group: asyncio.TaskGroup) -> None:
        """Read the list in the background when it is due; the first time at once."""
        due = self._read_ms is None or market_ms >= self._read_ms + self._every_ms
        if self._every_ms and due and not self.busy:
            self.busy = True
            self._read_ms = market_ms
            group.create_task(self._read(market_ms), name="markets")

    async def _read(self, market_ms: int) -> None:
        try:
            rows, _ = await self._client.ask("fetch_markets")
            self._compare(self._taken_over(rows), market_ms)
        except (VenueError, BadPayload) as trouble:
            _log.debug(MARKETS_UNREAD, exchange=self._client.exchange, why=str(trouble))
        finally:
            self.busy = False
            self._news()

    def _taken_over(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Give a fresh list to the client, and what it says; raises BadPayload for a wrong one.

        The client refuses to ask about a market that its list lacks, and that would read as the
        venue's word: so an instrument of ours stays in its list until it counts as gone.
        """
        listed = {row["symbol"] for row in rows}
        ours = [known.key.symbol for known in self._known]
        missing_n = sum(symbol not in listed for symbol in ours)
        if missing_n > MISSING_MAX_SHARE * len(ours) and missing_n > 1:
            why = f"{missing_n} of {len(ours)} instruments are not in the list"
            raise BadPayload(f"{self._client.exchange}: {why}")
        before = self._client.api.markets or {}
        kept = [
            before[symbol]
            for symbol, missing in zip(ours, self._missing, strict=True)
            if symbol not in listed and symbol in before and missing + 1 < MISSING_READINGS
        ]
        markets = self._client.api.set_markets([*rows, *kept])
        return {symbol: market for symbol, market in markets.items() if symbol in listed}

    def _compare(self, markets: Mapping[str, Any], market_ms: int) -> None:
        for index, known in enumerate(self._known):
            market = markets.get(known.key.symbol)
            self._missing[index] = 0 if market is not None else self._missing[index] + 1
            instrument, standing, why = self._judged(index, known, market, market_ms)
            if standing is None:
                continue
            if (instrument, standing) != (known, self._standing[index]):
                self._known[index], self._standing[index] = instrument, standing
                self._tell(InstrumentChanged(market_ms, index, instrument, standing, why))

    def _judged(
        self, index: int, known: Instrument, market: Mapping[str, Any] | None, market_ms: int
    ) -> tuple[Instrument, Standing | None, str]:
        if market is None:
            gone = self._missing[index] >= MISSING_READINGS or self._standing[index] is None
            why = "the venue no longer lists it"
            return known, Standing.GONE if gone else self._standing[index], why
        instrument = instrument_of(market, self._client.exchange, self._client.api.precisionMode)
        end_ms = end_ms_of(market)
        if end_ms is not None and market_ms >= end_ms:
            return instrument, Standing.GONE, f"it ended{_at(end_ms)}"
        if end_ms is not None:
            return instrument, Standing.REDUCE_ONLY, f"it ends at {iso(end_ms)}"
        if is_halted(market):
            return instrument, Standing.REDUCE_ONLY, "the venue has halted it"
        return instrument, Standing.TRADING, _rules_in_words(known, instrument)


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
