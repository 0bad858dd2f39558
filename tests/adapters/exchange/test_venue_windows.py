"""Histories of venues that answer windows: nothing that exists may be left out.

The client is ccxt's own class of each venue; what it asks is answered on the loopback by the
venue's rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from adapters.history.absence import APART_MS
from adapters.history.covariates import read_series, series_path
from adapters.history.download import download, download_funding
from adapters.history.parquet_file import read_bars, read_rates
from adapters.history.store import bars_path, funding_path
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.wiring.data import OpenVenue, bars_from, rates_from
from daemon.wiring.pace import cheapest_page
from daemon.wiring.series_download import fetch_one
from tests.adapters.exchange.venues import M30, SYMBOL, Venue, reading

NOW = 1_760_000_400_000 // M30.ms * M30.ms
SINCE = NOW - 60 * DAY_MS
VENUES = ["okx", "bitget", "bybit", "gate"]


def of(exchange: str, days_listed: float, *holes: int, lies_n: int = 0) -> Venue:
    listed_ms = NOW - round(days_listed * DAY_MS) // M30.ms * M30.ms
    return Venue(exchange, listed_ms, NOW, frozenset(holes), lies_n=lies_n)


def since(venue: Venue) -> list[int]:
    return [t for t in venue.opens if t >= SINCE]


# an outage of 19 days is longer than every window; one of 5 hours lies inside one
OUTAGE = range(SINCE + 20 * DAY_MS, SINCE + 39 * DAY_MS, M30.ms)
SHORT = range(SINCE + 50 * DAY_MS, SINCE + 50 * DAY_MS + 10 * M30.ms, M30.ms)


@pytest.mark.parametrize("exchange", VENUES)
@pytest.mark.parametrize("days_listed", [400.0, 31.3])
async def test_a_warm_up_reads_every_bar_of_a_venue_that_answers_windows(
    exchange: str, days_listed: float
) -> None:
    venue = of(exchange, days_listed, *OUTAGE, *SHORT)
    async with reading(venue) as (reader, _):
        page = await reader.bars(SYMBOL, SINCE, NOW - M30.ms)
    assert [r.open_ms for r in page.readings] == since(venue)


@pytest.mark.parametrize("exchange", VENUES)
async def test_a_download_stores_every_bar_of_a_young_coin(exchange: str, tmp_path: Path) -> None:
    venue = of(exchange, 31.3, *OUTAGE, *SHORT)
    async with reading(venue) as (reader, client):
        report = await download(
            bars_from(reader, M30),
            [SYMBOL],
            M30,
            SINCE,
            NOW,
            tmp_path,
            venue=exchange,
            page_bars=cheapest_page(client.api.describe()),
        )
    assert report.problems == ()
    stored = read_bars(bars_path(tmp_path, exchange, SYMBOL, M30), M30)
    assert stored.open_ms.tolist() == since(venue)


@pytest.mark.parametrize("exchange", VENUES)
async def test_an_answer_that_wrongly_holds_nothing_is_asked_for_again(exchange: str) -> None:
    venue = of(exchange, 400.0, lies_n=1)
    async with reading(venue) as (reader, _):
        page = await reader.bars(SYMBOL, SINCE, NOW - M30.ms)
    assert [r.open_ms for r in page.readings] == since(venue)


@dataclass(frozen=True)
class At:
    """Be a clock that stands."""

    at_ms: int

    def now(self) -> int:
        return self.at_ms


async def test_a_venue_that_gives_fewer_than_it_says_is_read_whole() -> None:
    venue = of("bitget", 400.0, *OUTAGE)
    async with reading(venue) as (reader, _):
        reader._window.rows_max = 1000  # 200 is the truth
        page = await reader.bars(SYMBOL, SINCE, NOW - M30.ms)
        assert reader.rows_max <= 200
    assert [r.open_ms for r in page.readings] == since(venue)


@pytest.mark.parametrize("exchange", ["okx", "bitget"])
async def test_pages_of_a_full_history_cost_one_request_each(exchange: str) -> None:
    venue = of(exchange, 400.0)
    async with reading(venue) as (reader, _):
        await reader.bars(SYMBOL, SINCE, NOW - M30.ms)
        assert len(venue.asked) == -(-len(since(venue)) // reader.rows_max)


@pytest.mark.parametrize("exchange", ["bybit", "okx"])
@pytest.mark.parametrize("interval_h", [8, 1])
async def test_the_funding_of_a_young_coin_is_found(
    exchange: str, interval_h: int, tmp_path: Path
) -> None:
    # the venue says that it settles each 8 hours now, which it did not always
    venue = Venue(exchange, NOW - 100 * DAY_MS, NOW, interval_ms=interval_h * HOUR_MS)
    async with reading(venue) as (reader, _):
        problems = await download_funding(
            rates_from(reader), [SYMBOL], NOW - 150 * DAY_MS, NOW, tmp_path, venue=exchange
        )
    assert problems == {}
    stored = read_rates(funding_path(tmp_path, exchange, SYMBOL))
    assert stored.settle_ms.tolist() == venue.settlements()


async def test_a_full_answer_about_funding_that_begins_an_interval_late_is_asked_on(
    tmp_path: Path,
) -> None:
    # a window of 100 intervals with two settlements more: the oldest two do not fit
    first = (NOW - 40 * DAY_MS) // (8 * HOUR_MS) * 8 * HOUR_MS
    venue = Venue("bybit", first, NOW, extra=(first + 2 * HOUR_MS, first + 4 * HOUR_MS))
    async with reading(venue) as (reader, _):
        found = await reader.funding_between(SYMBOL, first - HOUR_MS, NOW)
    assert [one.settle_ms for one in found] == venue.settlements()


async def test_a_symbol_without_any_funding_is_named(tmp_path: Path) -> None:
    venue = Venue("bybit", NOW, NOW)
    async with reading(venue) as (reader, _):
        problems = await download_funding(
            rates_from(reader), [SYMBOL], NOW - 30 * DAY_MS, NOW, tmp_path, venue="bybit"
        )
    assert "no funding rate" in problems[SYMBOL]


@pytest.mark.parametrize("days_listed", [400.0, 31.3])
async def test_the_mark_price_of_a_young_coin_is_found_and_its_outage_asked_for_twice(
    days_listed: float, tmp_path: Path
) -> None:
    venue = of("okx", days_listed, *OUTAGE)
    path = series_path(tmp_path, "okx", SYMBOL, "mark")
    async with reading(venue) as (reader, client):
        for later_ms in (0, APART_MS):
            clock = cast(Any, At(NOW + M30.ms + later_ms))
            there = OpenVenue(cast(Any, None), reader, clock, client, 100)
            one = await fetch_one(there, M30, path, SYMBOL, "mark", SINCE)
            assert one.problem == ""
            asked_n = len(venue.asked)
        await fetch_one(there, M30, path, SYMBOL, "mark", SINCE)
    assert len(venue.asked) - asked_n <= 2, "what is settled is not asked for"
    assert read_series(path).ts.tolist() == since(venue)


async def test_volumes_counted_in_contracts_are_stored_in_coins() -> None:
    venue = of("gate", 2.0)
    async with reading(venue) as (reader, _):
        page = await reader.bars(SYMBOL, NOW - DAY_MS, NOW - M30.ms)
        proof = await reader.reread(SYMBOL, NOW - DAY_MS, NOW - DAY_MS)
    for one in (*page.readings, *proof.readings):
        assert one.values[4] == pytest.approx(1.2345)
