"""What a venue can list of an account, and the walk through pages and windows that is common.

Every listing is read from exact payloads by the venue's table of readers. A dialect says only which
method lists what, and how it turns pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from adapters.ccxt_venue.rows import Balance, CashFlow, Execution, Holding, OrderRecord
from daemon.domain.failures import VenueError
from daemon.domain.units import DAY_MS, MINUTE_MS

WINDOW_MS_MAX: Final = 7 * DAY_MS - 1  # the narrowest that any of our venues takes
PAGES_MAX: Final = 1_000
RECENT_MS: Final = 2 * DAY_MS  # within these every venue lists the fills of an order by itself
Told = Execution | CashFlow


class Listings(Protocol):
    """List what an account holds and what happened to it; each raises VenueError, never guesses."""

    async def holdings(self) -> tuple[Holding, ...]:
        """List the positions."""
        ...

    async def balances(self) -> tuple[Balance, ...]:
        """List the currencies."""
        ...

    async def margin_ratio(self) -> float | None:
        """Give maintenance margin over margin balance; None where the venue does not tell."""
        ...

    async def open_orders(self) -> tuple[OrderRecord, ...]:
        """List every order that rests, whoever placed it."""
        ...

    async def of_order(self, symbol_id: str, order_id: str, ended_ms: int) -> tuple[Execution, ...]:
        """List the fills of one order, by the venue's id.

        ended_ms: when anything last happened to it; without it venues list the newest days alone.
        """
        ...

    async def told(self, since_ms: int, until_ms: int, symbol_ids: tuple[str, ...]) -> list[Told]:
        """List fills and cash flows with since <= at <= until, in time order.

        symbol_ids: where the venue lists fills per contract, those that are asked for.
        """
        ...

    async def client_id(self, symbol_id: str, order_id: str) -> str:
        """Give the client id of an order by the venue's id, where fills do not name it."""
        ...


def around_end(now_ms: int, ended_ms: int) -> dict[str, int]:
    """Give the span in which an order was filled that ended long ago; {} for a recent one.

    Only then is a span named at all: by the id alone a listing is surest.
    """
    if ended_ms > now_ms - RECENT_MS:
        return {}
    end_ms = ended_ms + MINUTE_MS
    return {"startTime": end_ms - WINDOW_MS_MAX, "endTime": end_ms}


def windows(since_ms: int, until_ms: int, longest_ms: int) -> Iterator[tuple[int, int]]:
    """Cut a span into windows that a venue takes; both ends of each are inside."""
    longest_ms = min(longest_ms, WINDOW_MS_MAX)
    start_ms = since_ms
    while start_ms <= until_ms:
        end_ms = min(start_ms + longest_ms, until_ms)
        yield start_ms, end_ms
        start_ms = end_ms + 1


def bounded_pages(what: str) -> Iterator[int]:
    """Count pages from 1; raises VenueError when a listing never ends."""
    yield from range(1, PAGES_MAX + 1)
    raise VenueError(f"{what}: more than {PAGES_MAX} pages; the venue repeats itself")
