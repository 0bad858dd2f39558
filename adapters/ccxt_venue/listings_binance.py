"""The listings of Binance USDM futures: fills per contract, cash flows for the whole account."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.listings import (
    Told,
    around_end,
    bounded_pages,
    windows,
)
from adapters.ccxt_venue.pacing import Kind, meant_as
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.rows import (
    Balance,
    CashFlow,
    Execution,
    Holding,
    OrderRecord,
    Row,
    exact,
    row_of,
    rows_of,
    text,
)
from adapters.ccxt_venue.rows_binance import (
    balances,
    cash_flow,
    execution,
    holdings,
    order_record,
)
from adapters.ccxt_venue.together import side_by_side

T = TypeVar("T")


class BinanceListings:
    """List an account of Binance USDM futures."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._quirks = QUIRKS["binanceusdm"]

    async def holdings(self) -> tuple[Holding, ...]:
        """List what is held; an answer that is no list is no account without positions."""
        return await self._caller.read("fapiPrivateV3GetPositionRisk", {}, holdings)

    async def balances(self) -> tuple[Balance, ...]:
        """List the currencies of the wallet."""
        return await self._caller.read("fapiPrivateV3GetAccount", {}, balances)

    async def margin_ratio(self) -> float | None:
        """Give maintenance margin over margin balance."""

        def read(payload: object) -> float | None:
            row = row_of(payload)
            balance = exact(row, "totalMarginBalance")
            return float(exact(row, "totalMaintMargin") / balance) if balance > 0 else None

        return await self._caller.read("fapiPrivateV3GetAccount", {}, read)

    async def open_orders(self) -> tuple[OrderRecord, ...]:
        """List every order that rests, of all contracts."""
        return await self._caller.read("fapiPrivateGetOpenOrders", {}, _each(order_record))

    async def of_order(self, symbol_id: str, order_id: str, ended_ms: int) -> tuple[Execution, ...]:
        """List the fills of one order."""
        span = around_end(self._caller.venue_ms, ended_ms)
        query = {"symbol": symbol_id, "orderId": order_id, "limit": 1000, **span}
        method = self._quirks.executions_method
        found = await self._caller.read(method, query, _each(execution))
        return tuple(one for one in found if one.order_id == order_id)

    async def told(self, since_ms: int, until_ms: int, symbol_ids: tuple[str, ...]) -> list[Told]:
        """List fills and cash flows in time order, both ends inside."""
        found: list[Told] = []
        for start_ms, end_ms in windows(since_ms, until_ms, self._quirks.executions.window_ms):
            fills = partial(self._fills, start_ms=start_ms, end_ms=end_ms)
            with meant_as(Kind.LISTING):
                for told in await side_by_side(fills, symbol_ids):
                    found += told
                found += await self._flows(start_ms, end_ms)
        found.sort(key=lambda one: one.at_ms)
        return found

    async def client_id(self, symbol_id: str, order_id: str) -> str:
        """Ask for one order by the venue's id: fills do not name the client id here."""
        query = {"symbol": symbol_id, "orderId": order_id}
        return await self._caller.read(
            "fapiPrivateGetOrder", query, lambda payload: text(row_of(payload), "clientOrderId")
        )

    async def _fills(self, symbol_id: str, start_ms: int, end_ms: int) -> list[Execution]:
        rows_max = self._quirks.executions.rows_max
        query: dict[str, object] = {"startTime": start_ms, "endTime": end_ms}
        found: dict[str, Execution] = {}
        for _ in bounded_pages(f"fills of {symbol_id}"):
            page = await self._caller.read(
                self._quirks.executions_method,
                {"symbol": symbol_id, "limit": rows_max, **query},
                lambda payload: [(int(text(r, "id")), execution(r)) for r in rows_of(payload)],
            )
            found.update((one.trade_id, one) for _, one in page if one.at_ms <= end_ms)
            if len(page) < rows_max or page[-1][1].at_ms > end_ms:
                break
            # Several fills share a millisecond, so the next page begins at a number, not a time.
            query = {"fromId": max(number for number, _ in page) + 1}
        return list(found.values())

    async def _flows(self, start_ms: int, end_ms: int) -> list[CashFlow]:
        rows_max, found = self._quirks.flows.rows_max, []
        for number in bounded_pages("cash flows"):
            query = {"startTime": start_ms, "endTime": end_ms, "limit": rows_max, "page": number}
            page = await self._caller.read(
                self._quirks.flows_method,
                query,
                lambda payload: [*map(cash_flow, rows_of(payload))],
            )
            found += page
            if len(page) < rows_max:
                break
        return found


def _each(read: Callable[[Row], T]) -> Callable[[object], tuple[T, ...]]:
    return lambda payload: tuple(read(row) for row in rows_of(payload))
