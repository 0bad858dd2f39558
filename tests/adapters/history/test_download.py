"""Filling the store from an exchange that pages, stops, lies and lists late."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from adapters.history.download import (
    PAGES_PER_SAVE,
    TAIL_BARS,
    Progress,
    download,
    download_funding,
)
from adapters.history.parquet_file import Bars, read_bars, read_rates
from adapters.history.store import bars_path, funding_path
from daemon.domain.failures import BadPayload, InvariantViolated, VenueError
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of, store, without

VENUE = "binanceusdm"
M1 = Timeframe(1)
Row = list[float]


@dataclass
class Exchange:
    """Answer klines like a venue: from `since` on, at most `limit`, the running bar included."""

    series: dict[str, Bars]
    windowed: bool = (
        False  # some venues answer the window [since, since + limit), not the next bars
    )
    page_max: int = 1000
    calls: list[tuple[str, int]] = field(default_factory=list)
    before_call: Callable[[int], None] = lambda n: None

    async def fetch(self, symbol: str, since_ms: int, limit: int) -> Sequence[Row]:
        self.calls.append((symbol, since_ms))
        self.before_call(len(self.calls))
        await asyncio.sleep(0)
        bars = self.series[symbol]
        size = min(limit, self.page_max)
        step = int(bars.open_ms[1] - bars.open_ms[0])
        chosen = bars.open_ms >= since_ms
        if self.windowed:
            chosen &= bars.open_ms < since_ms + size * step
        at = np.flatnonzero(chosen)[:size]
        return [[float(bars.open_ms[i]), *bars.values[i].tolist()] for i in at]


def stored(root: Path, symbol: str = "BTCUSDT", source: Timeframe = M30) -> Bars:
    return read_bars(bars_path(root, VENUE, symbol, source), source)


def equal(left: Bars, right: Bars) -> bool:
    same_times = left.open_ms.tolist() == right.open_ms.tolist()
    return same_times and left.values.tobytes() == right.values.tobytes()


BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"


@pytest.mark.parametrize("windowed", [False, True])
@pytest.mark.parametrize("page_max", [1000, 7])
async def test_all_closed_bars_of_the_range_are_stored_and_the_running_one_is_not(
    tmp_path: Path, windowed: bool, page_max: int
) -> None:
    bars = without(bars_of(400), list(range(100, 160)))
    exchange = Exchange({BTC: bars}, windowed, page_max)
    since, until = MIDNIGHT - DAY_MS, int(bars.open_ms[-1]) + 60_000  # the last bar still runs
    report = await download(
        exchange.fetch,
        ["BTCUSDT"],
        M30,
        since,
        until,
        tmp_path,
        venue=VENUE,
        page_bars=page_max,
    )
    assert equal(stored(tmp_path), Bars(bars.open_ms[:-1], bars.values[:-1]))
    (one,) = report.symbols
    assert report.problems == ()
    assert (one.rows, one.rows_new, one.rows_revised) == (339, 339, 0)
    assert one.first_open_ms == MIDNIGHT
    assert [gap.bars_missing for gap in one.gaps] == [60]


async def test_a_second_run_asks_only_for_what_is_new(tmp_path: Path) -> None:
    bars = bars_of(300)
    exchange = Exchange({BTC: bars})
    until = MIDNIGHT + 200 * M30.ms
    await download(exchange.fetch, [BTC], M30, MIDNIGHT, until, tmp_path, venue=VENUE)
    exchange.calls.clear()
    again = await download(exchange.fetch, [BTC], M30, MIDNIGHT, until, tmp_path, venue=VENUE)
    assert exchange.calls == [(BTC, until - TAIL_BARS * M30.ms)], "the newest bars once more"
    assert again.symbols[0].rows_new == 0

    later = MIDNIGHT + 300 * M30.ms
    exchange.calls.clear()
    more = await download(
        exchange.fetch, [BTC], M30, MIDNIGHT - DAY_MS, later, tmp_path, venue=VENUE
    )
    tail_ms = until - TAIL_BARS * M30.ms
    assert [since for _, since in exchange.calls] == [MIDNIGHT - DAY_MS, tail_ms]
    assert more.symbols[0].rows_new == 100
    assert equal(stored(tmp_path), bars)


@pytest.mark.parametrize("call", [1, PAGES_PER_SAVE + 3, 2 * PAGES_PER_SAVE + 1])
async def test_a_stopped_download_leaves_a_valid_file_and_resumes_to_the_same_bytes(
    tmp_path: Path, call: int
) -> None:
    bars = bars_of(80_000, source=M1)
    until = MIDNIGHT + len(bars) * M1.ms
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    whole = Exchange({BTC: bars})
    await download(whole.fetch, [BTC], M1, MIDNIGHT, until, straight, venue=VENUE)

    def refuse(n: int) -> None:
        if n == call:
            raise ConnectionError("the line is cut")

    broken = Exchange({BTC: bars}, before_call=refuse)
    with pytest.raises(ExceptionGroup, match="unhandled"):
        await download(broken.fetch, [BTC], M1, MIDNIGHT, until, stopped, venue=VENUE)
    path = bars_path(stopped, VENUE, BTC, M1)
    assert path.exists() == (call > 1)
    if call > 1:
        assert equal(
            read_bars(path, M1),
            Bars(bars.open_ms[: (call - 1) * 1000], bars.values[: (call - 1) * 1000]),
        )
    resumed = Exchange({BTC: bars})
    await download(resumed.fetch, [BTC], M1, MIDNIGHT, until, stopped, venue=VENUE)
    again_n = 1 if call > 1 else 0  # the newest stored bars take room in the last page
    assert len(resumed.calls) == 80 - (call - 1) + again_n
    assert path.read_bytes() == bars_path(straight, VENUE, BTC, M1).read_bytes()


async def test_a_cancelled_download_keeps_the_pages_it_has(tmp_path: Path) -> None:
    bars = bars_of(5_000)
    reached = asyncio.Event()

    class Hanging(Exchange):
        async def fetch(self, symbol: str, since_ms: int, limit: int) -> Sequence[Row]:
            if len(self.calls) == 3:
                reached.set()
                await asyncio.Event().wait()
            return await super().fetch(symbol, since_ms, limit)

    exchange = Hanging({BTC: bars})
    until = MIDNIGHT + len(bars) * M30.ms
    task = asyncio.create_task(
        download(exchange.fetch, [BTC], M30, MIDNIGHT, until, tmp_path, venue=VENUE)
    )
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert equal(stored(tmp_path), Bars(bars.open_ms[:3000], bars.values[:3000]))


async def test_one_symbol_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    bars = bars_of(50)
    bad = bars_of(50)
    bad.values[20, 1] = 1.0

    class Refusing(Exchange):
        async def fetch(self, symbol: str, since_ms: int, limit: int) -> Sequence[Row]:
            if symbol == "GONE/USDT:USDT":
                raise VenueError("GONE/USDT:USDT is not listed")
            return await super().fetch(symbol, since_ms, limit)

    corrupt = store(tmp_path, VENUE, "LTCUSDT", bars)
    corrupt.write_bytes(b"garbage")
    series = {BTC: bars, ETH: bad, "LTC/USDT:USDT": bars}
    report = await download(
        Refusing(series).fetch,
        ["GONEUSDT", ETH, "LTCUSDT", BTC],
        M30,
        MIDNIGHT,
        MIDNIGHT + DAY_MS,
        tmp_path,
        venue=VENUE,
    )
    assert [one.symbol for one in report.symbols] == ["GONEUSDT", ETH, "LTCUSDT", BTC]
    gone, high = report.problems
    assert gone == "GONEUSDT: GONE/USDT:USDT is not listed"
    assert "bars of ETH/USDT:USDT" in high
    assert "row 20" in high
    repaired = report.symbols[2].repaired or ""
    assert "LTCUSDT-30m.parquet: is no readable Parquet file" in repaired
    (aside,) = corrupt.parent.glob("LTCUSDT-30m.parquet.corrupt-????????")
    assert aside.name in repaired
    assert aside.read_bytes() == b"garbage"  # kept: a person may want to look
    assert report.symbols[2].rows == 50, "all that it held, not only the day that was asked for"
    assert equal(stored(tmp_path, "LTCUSDT"), bars)
    assert report.symbols[3].rows == 48
    assert not bars_path(tmp_path, VENUE, ETH, M30).exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "row"])
async def test_a_corrupt_file_is_moved_aside_and_fetched_anew_to_the_same_bytes(
    tmp_path: Path, damage: str
) -> None:
    bars = bars_of(3_000)
    exchange = Exchange({BTC: bars})
    until = MIDNIGHT + len(bars) * M30.ms
    await download(exchange.fetch, [BTC], M30, MIDNIGHT, until, tmp_path, venue=VENUE)
    path = bars_path(tmp_path, VENUE, BTC, M30)
    whole = path.read_bytes()
    half = len(whole) // 2
    bad = {
        "cut": whole[:half],
        "flip": whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :],
        "empty": b"",
        "row": whole.replace(b"content_sha256", b"Content_sha256")[:-5],
    }[damage]
    path.write_bytes(bad)
    report = await download(exchange.fetch, [BTC], M30, MIDNIGHT, until, tmp_path, venue=VENUE)
    assert report.problems == ()
    assert str(path) in (report.symbols[0].repaired or "")
    assert path.read_bytes() == whole
    (aside,) = path.parent.glob("*.corrupt-*")
    assert aside.read_bytes() == bad
    again = await download(exchange.fetch, [BTC], M30, MIDNIGHT, until, tmp_path, venue=VENUE)
    assert again.symbols[0].repaired is None


async def test_a_corrupt_file_of_funding_is_moved_aside_too(tmp_path: Path) -> None:
    async def fetch(symbol: str, after_ms: int, until_ms: int) -> Sequence[tuple[int, float]]:
        return [(MIDNIGHT + 8 * HOUR_MS, 1e-4)]

    until = MIDNIGHT + DAY_MS
    path = funding_path(tmp_path, VENUE, BTC)
    await download_funding(fetch, [BTC], MIDNIGHT, until, tmp_path, venue=VENUE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert await download_funding(fetch, [BTC], MIDNIGHT, until, tmp_path, venue=VENUE) == {}
    assert path.read_bytes() == whole
    assert len(list(path.parent.glob("*.corrupt-*"))) == 1


async def test_an_answer_that_is_no_rows_of_numbers_is_a_bad_payload(tmp_path: Path) -> None:
    answers: list[Sequence[Sequence[float]]] = [
        [[float(MIDNIGHT), 1.0, 2.0]],
        [[float(MIDNIGHT), "x", 1.0, 1.0, 1.0, 1.0]],  # type: ignore[list-item]
        [[float(MIDNIGHT), None, 1.0, 1.0, 1.0, 1.0]],  # type: ignore[list-item]
        [[]],
    ]
    for answer in answers:

        async def fetch(
            symbol: str, since_ms: int, limit: int, rows: Sequence[Sequence[float]] = answer
        ) -> Sequence[Sequence[float]]:
            return rows

        report = await download(
            fetch, [BTC], M30, MIDNIGHT, MIDNIGHT + DAY_MS, tmp_path, venue=VENUE
        )
        (problem,) = report.problems
        assert "bars of BTC/USDT:USDT from 2022-01-08T00:00:00Z" in problem


async def test_bars_the_venue_changed_are_counted_and_ours_stay(tmp_path: Path) -> None:
    bars = bars_of(30)
    store(tmp_path, VENUE, "BTCUSDT", Bars(bars.open_ms[5:20], bars.values[5:20]))
    changed = bars.values.copy()
    changed[10] *= 1.01
    exchange = Exchange({BTC: Bars(bars.open_ms, changed)})
    until = MIDNIGHT + 30 * M30.ms
    report = await download(exchange.fetch, [BTC], M30, MIDNIGHT, until, tmp_path, venue=VENUE)
    assert equal(stored(tmp_path), bars)
    assert report.symbols[0].rows_new == 15
    assert report.symbols[0].rows_revised == 1


async def test_progress_ends_at_the_end_and_never_goes_back(tmp_path: Path) -> None:
    exchange = Exchange({s: bars_of(3000) for s in (BTC, ETH)})
    until = MIDNIGHT + 3000 * M30.ms
    told: list[Progress] = []
    await download(
        exchange.fetch, [BTC, ETH], M30, MIDNIGHT, until, tmp_path, told.append, venue=VENUE
    )
    for symbol in (BTC, ETH):
        mine = [p for p in told if p.symbol == symbol]
        reached = [p.reached_ms for p in mine]
        assert reached == sorted(reached)
        assert reached[-1] == until
        assert mine[-1].rows_new == 3000


async def test_no_more_symbols_than_allowed_are_fetched_at_once(tmp_path: Path) -> None:
    running = peak = 0

    async def fetch(symbol: str, since_ms: int, limit: int) -> Sequence[Row]:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        running -= 1
        return []

    symbols = [f"C{n}USDT" for n in range(12)]
    report = await download(
        fetch, symbols, M30, MIDNIGHT, MIDNIGHT + DAY_MS, tmp_path, venue=VENUE, parallel_max=3
    )
    assert peak == 3
    assert [one.rows for one in report.symbols] == [0] * 12
    assert all(not one.path.exists() for one in report.symbols)
    with pytest.raises(InvariantViolated, match="parallel_max 0"):
        await download(fetch, symbols, M30, 0, 1, tmp_path, venue=VENUE, parallel_max=0)


async def test_funding_is_stored_on_the_full_minute_and_goes_on_where_it_stopped(
    tmp_path: Path,
) -> None:
    settlements = [MIDNIGHT + n * 8 * HOUR_MS for n in range(1, 7)]
    asked: list[int] = []  # of BTC

    async def fetch(symbol: str, after_ms: int, until_ms: int) -> Sequence[tuple[int, float]]:
        if symbol == ETH:
            raise BadPayload("no list")
        asked.append(after_ms)
        return [(at + 7, 1e-4) for at in settlements if after_ms < at + 7 <= until_ms + 60_000]

    for until in (settlements[2], settlements[5], settlements[5]):
        problems = await download_funding(fetch, [BTC, ETH], MIDNIGHT, until, tmp_path, venue=VENUE)
        assert problems == {ETH: "no list"}
        rates = read_rates(funding_path(tmp_path, VENUE, BTC))
        assert rates.settle_ms.tolist() == [at for at in settlements if at <= until]
    assert asked == [MIDNIGHT, settlements[2]], "the third time there was nothing to ask for"


async def test_a_funding_rate_that_cannot_be_is_a_problem_of_its_symbol(tmp_path: Path) -> None:
    async def fetch(symbol: str, after_ms: int, until_ms: int) -> Sequence[tuple[int, float]]:
        return [(MIDNIGHT + 8 * HOUR_MS, 9.0)]

    problems = await download_funding(
        fetch, [BTC], MIDNIGHT, MIDNIGHT + DAY_MS, tmp_path, venue=VENUE
    )
    assert "row 0 (2022-01-08T08:00:00Z) has no rate between" in problems[BTC]
