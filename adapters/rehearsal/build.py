"""From settings to a market and its starting instant."""

from __future__ import annotations

import zlib
from pathlib import Path

from adapters.rehearsal.market import Market
from adapters.rehearsal.parquet_market import ParquetMarket, open_parquet_market
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.settings import MarketKind, RehearsalSettings
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, iso

_ALWAYS_LISTED = 12
_LISTING_SPREAD_DAYS = 730


def build_market(settings: RehearsalSettings) -> Market:
    """Build the market that the settings describe."""
    if settings.kind is MarketKind.PARQUET:
        return _parquet(settings)
    return seeded_market(settings)


def seeded_market(settings: RehearsalSettings) -> SeededMarket:
    """Build the generated market, with its listings and delistings."""
    symbols = settings.symbols or NAMES[: settings.coins]
    for table, name in ((settings.listings, "listings"), (settings.delistings, "delistings")):
        for symbol in table:
            if symbol not in symbols:
                raise ConfigurationError(f"{name}.{symbol}: not one of {', '.join(symbols)}")
    traits = []
    for place, symbol in enumerate(symbols):
        listed_ms, delisted_ms = settings.origin_ms, None
        if settings.random_listings and place >= _ALWAYS_LISTED:
            listed_ms, delisted_ms = _random_life(settings, symbol)
        listed_ms = settings.listings.get(symbol, listed_ms)
        delisted_ms = settings.delistings.get(symbol, delisted_ms)
        if delisted_ms is not None and delisted_ms <= listed_ms:
            raise ConfigurationError(
                f"delistings.{symbol} {delisted_ms}: accepted is after its listing {listed_ms}"
            )
        traits.append(traits_of(symbol, listed_ms, delisted_ms))
    return SeededMarket(
        traits,
        seed=settings.seed,
        origin_ms=settings.origin_ms,
        step_minutes=settings.step_minutes,
        planted_ic=settings.planted_ic,
        pattern=settings.pattern,
    )


def start_of(market: Market, settings: RehearsalSettings) -> int:
    """Give the instant at which the exchange opens; it must lie inside the market."""
    first_ms, last_ms = market.span_ms
    chosen = [settings.resume_at_ms, settings.start_ms, first_ms + settings.history_days * DAY_MS]
    start_ms = next(at for at in chosen if at is not None)
    if start_ms < first_ms or (last_ms is not None and start_ms > last_ms):
        span = f"{iso(first_ms)} to {'ever' if last_ms is None else iso(last_ms)}"
        raise ConfigurationError(f"start {iso(start_ms)}: accepted is {span}")
    # a book that has reached the end has something to show: its market is over, not mistaken
    begun = settings.resume_at_ms is not None
    if settings.end_ms is not None and settings.end_ms <= start_ms and not begun:
        raise ConfigurationError(
            f"rehearsal.until = {iso(settings.end_ms)}: accepted is after {iso(start_ms)}, where "
            "this market starts; rehearsal.start is computed from the history that training and "
            "the windows need unless it is given"
        )
    return start_ms


def _random_life(settings: RehearsalSettings, symbol: str) -> tuple[int, int | None]:
    """Draw when a coin is listed and, for one in five, delisted: whole days, from its name."""
    number = zlib.crc32(f"{settings.seed}:{symbol}".encode())
    listed_day = number % _LISTING_SPREAD_DAYS
    listed_ms = settings.origin_ms + max(0, listed_day - _LISTING_SPREAD_DAYS // 3) * DAY_MS
    if (number >> 12) % 5:
        return listed_ms, None
    return listed_ms, listed_ms + (60 + (number >> 16) % 400) * DAY_MS


def _parquet(settings: RehearsalSettings) -> ParquetMarket:
    if not settings.parquet_folder:
        raise ConfigurationError(
            "parquet_folder '': accepted is a folder with SYMBOL-TIMEFRAME.parquet files"
        )
    return open_parquet_market(
        Path(settings.parquet_folder),
        timeframe=settings.parquet_timeframe,
        symbols=settings.symbols,
        funding_folder=Path(settings.funding_folder) if settings.funding_folder else None,
        rules_file=Path(settings.rules_file) if settings.rules_file else None,
        end_ms=settings.end_ms,
    )
