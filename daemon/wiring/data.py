"""Fetch history from any exchange into the bar store; list what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.clocks import SystemClock, TransportClock, VenueClock
from adapters.exchange.client import VenueClient
from adapters.exchange.feed import CcxtFeed
from adapters.exchange.reader import VenueReader
from adapters.history.download import DownloadReport, Progress, download, download_funding
from adapters.history.store import Listing, data_root, list_bars
from daemon.domain.instrument import Instrument
from daemon.domain.units import Timeframe
from daemon.settings import Settings
from daemon.wiring.session import feed_settings

PARALLEL_REQUESTS = 4
StoredBars = Listing


@dataclass(frozen=True, slots=True)
class Fetched:
    """Report a download: bars, and problems of the funding rates by symbol."""

    bars: DownloadReport
    funding_problems: Mapping[str, str]
    instruments: tuple[Instrument, ...]


@asynccontextmanager
async def _venue(
    settings: Settings,
) -> AsyncIterator[tuple[CcxtFeed, VenueReader, SystemClock | VenueClock]]:
    symbols = settings.universe.symbols
    named = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    transport = TransportClock()
    clock: SystemClock | VenueClock = SystemClock(transport)
    if settings.exchange.market_time != "system":
        clock = VenueClock(lambda: feed.server_time(), transport)
    feed = CcxtFeed(feed_settings(settings, named), clock, transport)
    client = VenueClient(settings.exchange.id, settings.exchange.options)
    source = Timeframe.parse(settings.market.source)
    try:
        if isinstance(clock, VenueClock):
            await clock.measure()
        yield feed, VenueReader(client, clock, source, parallel=PARALLEL_REQUESTS), clock
    finally:
        await client.close()
        await feed.close()


async def fetch_history(
    settings: Settings,
    days: float,
    root: Path,
    progress: Callable[[Progress], None],
    until_ms: int | None = None,
) -> Fetched:
    """Bring the last `days` of bars and funding of the configured universe into the store.

    Resumes after what is stored. Raises VenueError or ConfigurationError when the exchange cannot
    be used; a failing symbol stands in the report.
    """
    source = Timeframe.parse(settings.market.source)
    async with _venue(settings) as (feed, reader, clock):
        instruments = tuple(await feed.instruments())
        symbols = [i.key.symbol for i in instruments]
        end_ms = source.last_close(clock.now() if until_ms is None else until_ms)
        since_ms = end_ms - round(days * 86_400_000)

        async def bars(symbol: str, first_ms: int, limit: int) -> Sequence[Sequence[float]]:
            page = await reader.bars(symbol, first_ms, first_ms + (limit - 1) * source.ms)
            return [(r.open_ms, *r.values) for r in page.readings]

        async def rates(symbol: str, after_ms: int, last_ms: int) -> Sequence[tuple[int, float]]:
            found = await reader.funding_between(symbol, after_ms, last_ms)
            return [(one.settle_ms, one.rate) for one in found]

        venue = settings.exchange.id
        stored = await download(
            bars,
            symbols,
            source,
            since_ms,
            end_ms,
            root,
            progress,
            venue=venue,
            generated=settings.exchange.generated,
        )
        problems = await download_funding(rates, symbols, since_ms, end_ms, root, venue=venue)
    return Fetched(stored, problems, instruments)


def stored_bars(folder: Path, venue: str | None) -> list[Listing]:
    """List what the store holds."""
    return list_bars(data_root(folder), venue)
