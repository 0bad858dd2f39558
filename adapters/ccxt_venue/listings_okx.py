"""The listings of OKX v5 linear swaps: fills and bills by pages that end at an older id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.listings import Told, around_end, bounded_pages
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.rows import (
    Balance,
    Execution,
    Holding,
    OrderRecord,
    Row,
    Sizes,
    text,
    text_or_empty,
)
from adapters.ccxt_venue.rows_okx import (
    balances,
    cash_flow,
    execution,
    holdings,
    listed,
    order_record,
)
from daemon.domain.units import DAY_MS

T = TypeVar("T")
_SWAPS = {"instType": "SWAP"}
BILLS_MS: Final = 6 * DAY_MS  # the newer list of bills reaches back a week, the archive months
ROWS_MAX: Final = 100  # of every listing at this venue


class OkxListings:
    """List an account at OKX; sizes: of one contract, by the venue's symbol id."""

    def __init__(self, caller: Caller, sizes: Sizes) -> None:
        self._caller = caller
        self._sizes = sizes
        self._quirks = QUIRKS["okx"]

    async def holdings(self) -> tuple[Holding, ...]:
        """List what is held; flat entries are left out."""
        found = await self._caller.read(
            "privateGetAccountPositions", _SWAPS, lambda p: holdings(p, self._sizes)
        )
        return tuple(one for one in found if one.quantity)

    async def balances(self) -> tuple[Balance, ...]:
        """List the currencies of the account."""
        return await self._caller.read("privateGetAccountBalance", {}, balances)

    async def margin_ratio(self) -> float | None:
        """Give nothing: the venue's own ratio is another one."""
        return None

    async def open_orders(self) -> tuple[OrderRecord, ...]:
        """List every order that rests."""
        found = await self._older(
            "privateGetTradeOrdersPending", _SWAPS, "ordId", lambda r: order_record(r, self._sizes)
        )
        return tuple(found)

    async def of_order(self, symbol_id: str, order_id: str, ended_ms: int) -> tuple[Execution, ...]:
        """List the fills of one order."""
        query = {**_SWAPS, "instId": symbol_id, "ordId": order_id}
        is_old = bool(around_end(self._caller.venue_ms, ended_ms))
        method = self._quirks.executions_method if is_old else "privateGetTradeFills"
        found = await self._older(method, query, "billId", self._execution)
        return tuple(one for one in found if one.order_id == order_id)

    async def told(self, since_ms: int, until_ms: int, symbol_ids: tuple[str, ...]) -> list[Told]:
        """List fills, funding and transfers in time order, of all contracts at once."""
        del symbol_ids
        span = {"begin": since_ms, "end": until_ms}
        quirks = self._quirks
        fills = await self._older(
            quirks.executions_method,
            {**_SWAPS, **span},
            "billId",
            self._execution,
            quirks.executions.rows_max,
        )
        is_old = since_ms < self._caller.venue_ms - BILLS_MS  # the newer list would lack the rest
        method = "privateGetAccountBillsArchive" if is_old else quirks.flows_method
        flows = await self._older(method, span, "billId", cash_flow, quirks.flows.rows_max)
        found: list[Told] = [*fills, *flows]
        found.sort(key=lambda one: one.at_ms)
        return found

    async def client_id(self, symbol_id: str, order_id: str) -> str:
        """Ask for one order's client id: a fill without one belongs to no order of ours."""
        query = {"instId": symbol_id, "ordId": order_id}
        found = await self._caller.read(
            "privateGetTradeOrder",
            query,
            lambda p: [text_or_empty(r, "clOrdId") for r in listed(p)],
        )
        return found[0] if found else ""

    def _execution(self, row: Row) -> Execution:
        return execution(row, self._sizes)

    async def _older(
        self,
        method: str,
        query: Mapping[str, object],
        name: str,
        read: Callable[[Row], T],
        rows_max: int = ROWS_MAX,
    ) -> list[T]:
        """Read pages backwards in time: each ends where the next, older one begins."""
        found: list[T] = []
        after = ""
        for _ in bounded_pages(method):
            asked = {**query, "limit": rows_max, **({"after": after} if after else {})}
            page = await self._caller.read(
                method, asked, lambda p: [(text(r, name), read(r)) for r in listed(p)]
            )
            found += [one for _, one in page]
            if len(page) < rows_max:
                break
            after = page[-1][0]
        return found
