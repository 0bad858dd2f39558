"""Ask one venue for what it shows beside its bars: open interest, mark and index price, as of now.

Through the client of the feed, so that weights, pauses after 429 and 418 and the pace of requests
are shared, and one question at a time, so that a bar never waits behind more than one of them. What
a venue does not tell is left out: nothing here is ever an error for who trades.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from adapters.exchange.client import VenueClient
from adapters.exchange.failures import Unanswered
from daemon.domain.failures import BadPayload, VenueError

OPEN_INTEREST: Final = "open_interest"
MARK: Final = "mark"
INDEX: Final = "index"
GAUGES: Final = (OPEN_INTEREST, MARK, INDEX)
_FIELDS: Final = {MARK: "markPrice", INDEX: "indexPrice"}
_AT_ONCE: Final = (  # in the order of preference: feature and method that answer for all at once
    ("fetchFundingRates", "fetch_funding_rates"),
    ("fetchMarkPrices", "fetch_mark_prices"),
    ("fetchTickers", "fetch_tickers"),
)
_HISTORY_STEP: Final = "5m"  # where only a history tells the open interest


@dataclass(frozen=True, slots=True)
class Gauge:
    """Hold what a venue shows of a symbol: the value and the time it names, None for none."""

    symbol: str
    name: str
    value: float
    ts_ms: int | None


@dataclass(slots=True)
class GaugeRound:
    """Hold what one round of questions brought; `trouble` is what ended or thinned it."""

    gauges: list[Gauge]
    trouble: str = ""


class GaugeReader:
    """Read the gauges of one venue."""

    def __init__(self, client: VenueClient, names: Sequence[str]) -> None:
        self._client = client
        self._names = [name for name in GAUGES if name in names]
        self._sources = [(f, m) for f, m in _AT_ONCE if client.has(f)]

    def offered(self) -> list[str]:
        """Name what can be asked here at all, of what is wanted."""
        client = self._client
        interest = ("fetchOpenInterests", "fetchOpenInterest", "fetchOpenInterestHistory")
        there = {OPEN_INTEREST: any(client.has(one) for one in interest)}
        prices = bool(self._sources) or client.has("fetchFundingRate")
        return [name for name in self._names if there.get(name, prices)]

    async def read(self, symbols: Sequence[str]) -> GaugeRound:
        """Ask for all symbols once; what was told before a refusal is kept."""
        found = GaugeRound([])
        try:
            await self._prices(list(symbols), found)
            if OPEN_INTEREST in self._names:
                await self._interest(list(symbols), found)
        except Unanswered as trouble:  # it wants to be left alone, or does not answer
            found.trouble = str(trouble)
        return found

    async def _prices(self, symbols: list[str], found: GaugeRound) -> None:
        wanted = [name for name in self._names if name in _FIELDS]
        missing = {(symbol, name) for symbol in symbols for name in wanted}
        for source in list(self._sources):
            if not missing:
                return
            entries = _by_symbol(await self._asked(source[1], found, symbols))
            told = self._noted(entries, missing, found)
            if entries and not told:  # it never tells these here
                self._sources.remove(source)
        if missing and not self._sources and self._client.has("fetchFundingRate"):
            for symbol in sorted({symbol for symbol, _ in missing}):
                entry = await self._asked("fetch_funding_rate", found, symbol)
                self._noted({symbol: entry}, missing, found)

    def _noted(
        self, entries: Mapping[str, Any], missing: set[tuple[str, str]], found: GaugeRound
    ) -> int:
        before_n = len(missing)
        for symbol, name in sorted(missing):
            entry = entries.get(symbol)
            if isinstance(entry, Mapping):
                gauge = gauge_of(symbol, name, entry.get(_FIELDS[name]), entry.get("timestamp"))
                if gauge is not None:
                    found.gauges.append(gauge)
                    missing.discard((symbol, name))
        return before_n - len(missing)

    async def _interest(self, symbols: list[str], found: GaugeRound) -> None:
        entries: Mapping[str, Any] = {}
        if self._client.has("fetchOpenInterests"):
            entries = _by_symbol(await self._asked("fetch_open_interests", found, symbols))
        for symbol in symbols:
            entry = entries.get(symbol)
            if entry is None and self._client.has("fetchOpenInterest"):
                entry = await self._asked("fetch_open_interest", found, symbol)
            elif entry is None and self._client.has("fetchOpenInterestHistory"):
                asked = (symbol, _HISTORY_STEP, None, 1)
                rows = await self._asked("fetch_open_interest_history", found, *asked)
                entry = rows[-1] if isinstance(rows, list) and rows else None
            if isinstance(entry, Mapping):
                told = entry.get("openInterestAmount"), entry.get("timestamp")
                gauge = gauge_of(symbol, OPEN_INTEREST, *told)
                found.gauges += [] if gauge is None else [gauge]

    async def _asked(self, method: str, found: GaugeRound, *args: object) -> Any:
        """Ask once; what is no answer gives {}, a venue that does not answer ends the round."""
        try:
            answer, _ = await self._client.ask(method, *args)
        except Unanswered:
            raise
        except (VenueError, BadPayload) as trouble:  # of one symbol, or of one kind of question
            found.trouble = found.trouble or str(trouble)
            return {}
        return answer or {}


def _by_symbol(answer: object) -> Mapping[str, Any]:
    return answer if isinstance(answer, Mapping) else {}


def gauge_of(symbol: str, name: str, value: object, ts: object) -> Gauge | None:
    """Read a value and its time; None for what is no positive finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if not math.isfinite(value) or value <= 0:
        return None
    stamp = ts if isinstance(ts, int) and not isinstance(ts, bool) and ts > 0 else None
    return Gauge(symbol, name, float(value), stamp)
