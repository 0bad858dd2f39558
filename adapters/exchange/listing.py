"""Read a venue's list of markets row by row, so that one odd row hides no other.

ccxt gives the whole list up when one row has a shape that it does not expect, and cannot index a
row without id or symbol. Two of its methods are wrapped on the instance; rows that cannot be used
are left out and kept as they came, so that an instrument is not taken for one that was delisted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adapters.exchange.failures import PAYLOAD_ERRORS


class Listing:
    """Keep the rows of the newest list of markets that could not be read.

    error: what ccxt's own exceptions are derived from.
    """

    def __init__(self, api: Any, error: type[Exception]) -> None:
        self._failures = (*PAYLOAD_ERRORS, error)
        self._parse_market, self._fetch_markets = api.parse_market, api.fetch_markets
        self._reading: list[object] = []
        self._unread: list[object] = []
        self._ids: frozenset[str] = frozenset()
        api.parse_market, api.fetch_markets = self._parsed, self._fetched

    def is_unread(self, market_id: str) -> bool:
        """Tell whether a market that is not listed as we know it has a row all the same.

        That is one that could not be read, or was read as another contract than that of this id.
        """
        if market_id in self._ids:
            return True
        return any(isinstance(row, Mapping) and market_id in row.values() for row in self._unread)

    def _parsed(self, market: Any, *rest: Any) -> Any:
        try:
            parsed = self._parse_market(market, *rest)
        except self._failures:
            parsed = None
        if parsed and _is_name(parsed.get("id")) and _is_name(parsed.get("symbol")):
            return parsed
        self._reading.append(market)
        return None

    async def _fetched(self, *args: Any, **kwargs: Any) -> Any:
        self._reading = []
        rows = await self._fetch_markets(*args, **kwargs)
        usable = [row for row in rows if _is_name(row.get("id")) and _is_name(row.get("symbol"))]
        self._unread, self._ids = self._reading, frozenset(row["id"] for row in usable)
        return usable


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)
