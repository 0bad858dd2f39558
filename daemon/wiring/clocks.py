"""Which clock tells a session its market time, and a refusal of one that runs behind the book."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from adapters.clocks import LockStepClock, SystemClock, TransportClock, VenueClock
from adapters.exchange.several import SeveralFeeds
from daemon.domain.failures import VenueError
from daemon.domain.units import Timeframe, iso
from daemon.runtime.live import LiveShell
from daemon.settings import Settings

MarketClock = SystemClock | VenueClock | LockStepClock


def market_clock(
    settings: Settings,
    transport: TransportClock,
    feed: Callable[[], SeveralFeeds],
    shells: list[LiveShell],
    on_end: Callable[[], None],
    speed: float,
) -> MarketClock:
    """Make the clock that the settings name; on_end is called when its market ends."""

    async def quiesce() -> None:
        if shells:
            await shells[0].quiet()

    async def ask() -> int:
        return await feed().server_time()

    match settings.exchange.market_time:
        case "lockstep":
            return LockStepClock(settings.exchange.lockstep_url, quiesce, on_end=on_end)
        case "system":
            return SystemClock(transport)
        case "venue":
            return VenueClock(ask, transport, speed=speed)


async def start_clock(clock: MarketClock, stack: AsyncExitStack) -> None:
    """Start a clock that asks others for the time, and close it with the stack."""
    if isinstance(clock, LockStepClock):
        stack.push_async_callback(clock.close)
        await clock.start()
    elif isinstance(clock, VenueClock):
        stack.push_async_callback(clock.close)
        await clock.measure()


def refuse_time_before(book_ms: int, clock: MarketClock, settings: Settings) -> None:
    """Raise VenueError where the market's time lies before what the book has seen.

    A bar more or less is the gap that a kill leaves between the venue's ledger and our journal.
    """
    now_ms = clock.now()
    if now_ms < book_ms - Timeframe.parse(settings.market.source).ms:
        raise VenueError(
            f"{settings.exchange.id}: its time is {iso(now_ms)}, but the book in "
            f"{settings.run.state_folder} has seen {iso(book_ms)}: this is another market, or the "
            "journal there was taken away; put it back, or name another run.state_folder"
        )
