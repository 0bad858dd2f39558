"""Fetch history from any exchange into the bar store; list what is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.clocks import SystemClock, TransportClock, VenueClock
from adapters.exchange.client import VenueClient
from adapters.exchange.feed import CcxtFeed
from adapters.exchange.reader import VenueReader
from adapters.history.download import (
    DownloadReport,
    FetchBars,
    FetchRates,
    Progress,
    download,
    download_funding,
)
from adapters.history.funding_listing import FundingListing, list_funding
from adapters.history.store import Listing, data_root, list_bars
from daemon.domain.instrument import Instrument
from daemon.domain.units import Timeframe
from daemon.settings import Settings
from daemon.wiring.lives import note_instruments
from daemon.wiring.pace import cheapest_page, paced_options
from daemon.wiring.session import feed_settings

PARALLEL_REQUESTS = 4
StoredBars = Listing
StoredFunding = FundingListing


@dataclass(frozen=True, slots=True)
class Fetched:
    """Report a download: bars, and problems of the funding rates by symbol.

    repaired: damaged files, of bars and of funding, that were fetched again.
    """

    bars: DownloadReport
    funding_problems: Mapping[str, str]
    repaired: tuple[str, ...]
    instruments: tuple[Instrument, ...]
    requests_n: int = 0
    refused_n: int = 0  # answered with 429 or 418
    bars_s: float = 0.0  # wall time that the bars took


@dataclass(frozen=True, slots=True)
class OpenVenue:
    """Hold a venue that is open for reading; page_bars is the page that costs least."""

    feed: CcxtFeed
    reader: VenueReader
    clock: SystemClock | VenueClock
    client: VenueClient
    page_bars: int


@asynccontextmanager
async def open_venue(settings: Settings) -> AsyncIterator[OpenVenue]:
    """Open the configured venue for reading within its rate limit; closed at the end."""
    symbols = settings.universe.symbols
    named = (symbols,) if isinstance(symbols, str) else tuple(symbols)
    transport = TransportClock()
    clock: SystemClock | VenueClock = SystemClock(transport)
    if settings.exchange.market_time != "system":
        clock = VenueClock(lambda: feed.server_time(), transport)
    feed = CcxtFeed(feed_settings(settings, named), clock, transport)
    source = Timeframe.parse(settings.market.source)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(feed.close)
        client = await _paced_client(settings, stack)
        if isinstance(clock, VenueClock):
            await clock.measure()
        reader = VenueReader(client, clock, source, parallel=PARALLEL_REQUESTS)
        yield OpenVenue(feed, reader, clock, client, cheapest_page(client.api.describe()))


async def _paced_client(settings: Settings, stack: AsyncExitStack) -> VenueClient:
    exchange = settings.exchange
    probe = VenueClient(exchange.id, exchange.options)
    try:
        options = await paced_options(exchange.id, exchange.options, probe)
    finally:
        await probe.close()
    client = VenueClient(exchange.id, options)
    stack.push_async_callback(client.close)
    return client


async def fetch_history(
    settings: Settings,
    days: float,
    root: Path,
    progress: Callable[[Progress], None],
    until_ms: int | None = None,
    *,
    audit: bool = False,
    again: bool = False,
) -> Fetched:
    """Bring the last `days` of bars and funding of the configured universe into the store.

    Resumes after what is stored; `audit` reads all of it again, `again` asks for bars that are
    settled as absent too. Raises VenueError or ConfigurationError when the exchange cannot be used;
    a failing symbol stands in the report.
    """
    source = Timeframe.parse(settings.market.source)
    async with open_venue(settings) as there:
        reader, clock = there.reader, there.clock
        instruments = tuple(await there.feed.instruments())
        symbols = [i.key.symbol for i in instruments]
        end_ms = source.last_close(clock.now() if until_ms is None else until_ms)
        since_ms = end_ms - round(days * 86_400_000)

        venue, transport = settings.exchange.id, TransportClock()
        began_s = transport.monotonic()
        stored = await download(
            bars_from(reader, source),
            symbols,
            source,
            since_ms,
            end_ms,
            root,
            progress,
            venue=venue,
            generated=settings.exchange.generated,
            page_bars=there.page_bars,
            audit=audit,
            holes=again,
            now_ms=clock.now(),
        )
        took_s = transport.monotonic() - began_s
        repaired = [one.repaired for one in stored.symbols if one.repaired]
        problems = await download_funding(
            rates_from(reader),
            symbols,
            since_ms,
            end_ms,
            root,
            venue=venue,
            on_repaired=repaired.append,
        )
        markets = there.feed.client.api.markets or {}
        unnoted = note_instruments(root, venue, instruments, markets, clock.now())
        problems = {**problems, **({"instruments": unnoted} if unnoted else {})}
    usage = there.client.usage
    told = tuple(repaired)
    return Fetched(stored, problems, told, instruments, usage.requests_n, usage.refused_n, took_s)


def bars_from(reader: VenueReader, source: Timeframe) -> FetchBars:
    """Ask a venue for pages of bars as a download wants them."""

    async def bars(symbol: str, first_ms: int, limit: int) -> Sequence[Sequence[float]]:
        page = await reader.bars(symbol, first_ms, first_ms + (limit - 1) * source.ms)
        return [(r.open_ms, *r.values) for r in page.readings]

    return bars


def rates_from(reader: VenueReader) -> FetchRates:
    """Ask a venue for settled rates as a download wants them."""

    async def rates(symbol: str, after_ms: int, last_ms: int) -> Sequence[tuple[int, float]]:
        found = await reader.funding_between(symbol, after_ms, last_ms)
        return [(one.settle_ms, one.rate) for one in found]

    return rates


def stored_bars(folder: Path, venue: str | None, *, deep: bool = False) -> list[Listing]:
    """List what the store holds; `deep` reads and checks every value."""
    return list_bars(data_root(folder), venue, deep=deep)


def stored_funding(folder: Path, venue: str | None) -> list[FundingListing]:
    """List the funding that the store holds; every value is read and checked."""
    return list_funding(data_root(folder), venue)
