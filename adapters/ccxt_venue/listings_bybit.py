"""The listings of Bybit v5 linear contracts: one account, pages by cursor, funding among fills.

Executions tell funding as well as fills; the transaction log repeats both and is read for transfers
and what else moves cash, never for those two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.listings import Told, around_end, bounded_pages, windows
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.rows import (
    Balance,
    CashFlow,
    CashKind,
    Execution,
    Holding,
    OrderRecord,
    Row,
    exact,
    row_of,
    text_or_empty,
)
from adapters.ccxt_venue.rows_bybit import (
    balances,
    cash_flow,
    execution,
    holdings,
    listed,
    order_record,
)
from daemon.domain.failures import BadPayload

T = TypeVar("T")
# Both kinds of linear contracts share the margin, and a list without a contract's name is of one.
_SETTLES = ("USDT", "USDC")


class BybitListings:
    """List a unified account at Bybit."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._quirks = QUIRKS["bybit"]

    async def holdings(self) -> tuple[Holding, ...]:
        """List what is held, every page of it; flat entries are left out."""
        found = await self._of_all(
            "privateGetV5PositionList", {"limit": 200}, lambda p: list(holdings(p))
        )
        return tuple(one for one in found if one.quantity)

    async def balances(self) -> tuple[Balance, ...]:
        """List the coins of the wallet."""
        query = {"accountType": "UNIFIED"}
        return await self._caller.read("privateGetV5AccountWalletBalance", query, balances)

    async def margin_ratio(self) -> float | None:
        """Give maintenance margin over margin balance; the venue says so itself."""

        def read(payload: object) -> float | None:
            (row,) = listed(payload) or ({},)
            told = row.get("accountMMRate")
            return float(exact(row, "accountMMRate")) if told else None

        query = {"accountType": "UNIFIED"}
        return await self._caller.read("privateGetV5AccountWalletBalance", query, read)

    async def open_orders(self) -> tuple[OrderRecord, ...]:
        """List every order that rests; the venue gives 20 a page unless asked for 50."""
        query: dict[str, object] = {"openOnly": 0, "limit": 50}
        found = await self._of_all("privateGetV5OrderRealtime", query, _each(order_record))
        return tuple(one for one in found if one.done is None)

    async def of_order(self, symbol_id: str, order_id: str, ended_ms: int) -> tuple[Execution, ...]:
        """List the fills of one order."""
        asked = {"category": "linear", "symbol": symbol_id, "orderId": order_id, "limit": 100}
        query = {**asked, **around_end(self._caller.venue_ms, ended_ms)}
        found = await self._paged(self._quirks.executions_method, query, _each(execution))
        return tuple(
            one for one in found if isinstance(one, Execution) and one.order_id == order_id
        )

    async def told(self, since_ms: int, until_ms: int, symbol_ids: tuple[str, ...]) -> list[Told]:
        """List fills, funding and transfers in time order, of all contracts at once."""
        del symbol_ids
        found: list[Told] = []
        for start_ms, end_ms in windows(since_ms, until_ms, self._quirks.executions.window_ms):
            span = {"startTime": start_ms, "endTime": end_ms}
            query = {**self._quirks.executions_fixed, **span}
            found += await self._paged(
                self._quirks.executions_method,
                {**query, "limit": self._quirks.executions.rows_max},
                _each(execution),
            )
            found += await self._others(span)
        found.sort(key=lambda one: one.at_ms)
        return found

    async def client_id(self, symbol_id: str, order_id: str) -> str:
        """Ask for one order's client id: a fill without one belongs to no order of ours."""
        query = {"category": "linear", "symbol": symbol_id, "orderId": order_id}
        found = await self._caller.read(
            "privateGetV5OrderHistory",
            query,
            lambda p: [text_or_empty(r, "orderLinkId") for r in listed(p)],
        )
        return found[0] if found else ""

    async def _others(self, span: dict[str, int]) -> list[CashFlow]:
        """List what moved cash and is told nowhere else."""
        query = {"accountType": "UNIFIED", **span, "limit": self._quirks.flows.rows_max}
        found = await self._paged(
            self._quirks.flows_method, query, lambda p: [cash_flow(r) for r in listed(p)]
        )
        told_there = {CashKind.FUNDING, CashKind.TRADE}
        return [one for one in found if one.kind not in told_there]

    async def _of_all(
        self, method: str, query: dict[str, object], reader: Callable[[object], list[T]]
    ) -> list[T]:
        """List the linear contracts of every currency that they settle in."""
        found: list[T] = []
        for coin in _SETTLES:
            fixed = {"category": "linear", "settleCoin": coin}
            found += await self._paged(method, {**fixed, **query}, reader)
        return found

    async def _paged(
        self, method: str, query: dict[str, object], reader: Callable[[object], list[T]]
    ) -> list[T]:
        found: list[T] = []
        cursor = ""
        for _ in bounded_pages(method):
            asked = {**query, **({"cursor": cursor} if cursor else {})}
            rows, cursor = await self._caller.read(method, asked, lambda p: (reader(p), _next(p)))
            found += rows
            if not cursor:
                break
        return found


def _next(payload: object) -> str:
    """Read where the next page begins; empty where this was the last."""
    result = row_of(row_of(payload).get("result"))
    value = result.get("nextPageCursor")
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadPayload(f"nextPageCursor: {value!r} is no text")
    return value


def _each(read: Callable[[Row], T]) -> Callable[[object], list[T]]:
    return lambda payload: [read(row) for row in listed(payload)]
