"""Holes between stored bars, pages that hold nothing, and bars that changed after a download."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.history.absence import (
    APART_MS,
    Absence,
    absence_path,
    absent_spans,
    common,
    read_absence,
    together,
    without,
)
from adapters.history.download import TAIL_BARS, download
from adapters.history.parquet_file import Bars, read_bars
from adapters.history.store import bars_path
from daemon.domain.units import DAY_MS
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of, store
from tests.adapters.history.samples import without as bars_without

VENUE, BTC = "binanceusdm", "BTC/USDT:USDT"
PAGE = 50
END = MIDNIGHT + 1_000 * M30.ms


class Windowed:
    """Answer the bars of the window that was asked for, as wiring promises; `lie` says when not."""

    def __init__(self, bars: Bars, lie: Callable[[int], bool] = lambda n: False) -> None:
        self.bars, self.lie = bars, lie
        self.calls: list[int] = []

    async def fetch(self, symbol: str, since_ms: int, limit: int) -> Sequence[list[float]]:
        self.calls.append(since_ms)
        if self.lie(len(self.calls)):
            return []
        opens = self.bars.open_ms
        at = np.flatnonzero((opens >= since_ms) & (opens < since_ms + limit * M30.ms))
        return [[float(opens[i]), *self.bars.values[i].tolist()] for i in at]


async def fetched(
    root: Path, venue: Windowed, *, holes: bool = False, later_ms: int = 0
) -> list[int]:
    report = await download(
        venue.fetch,
        [BTC],
        M30,
        MIDNIGHT - DAY_MS,
        END,
        root,
        venue=VENUE,
        page_bars=PAGE,
        holes=holes,
        now_ms=END + later_ms,
    )
    assert report.problems == ()
    return [int(at) for at in read_bars(bars_path(root, VENUE, BTC, M30), M30).open_ms]


@pytest.mark.parametrize("first", range(95, 105))
@pytest.mark.parametrize("missing", [PAGE, PAGE + 1, 2 * PAGE + 7, 3 * PAGE])
async def test_an_empty_page_covers_no_more_than_was_asked_for(
    tmp_path: Path, first: int, missing: int
) -> None:
    bars = bars_without(bars_of(1_000), list(range(first, first + missing)))
    assert await fetched(tmp_path, Windowed(bars)) == bars.open_ms.tolist()


async def test_what_a_lie_left_out_is_asked_for_by_the_next_download(tmp_path: Path) -> None:
    bars = bars_of(1_000)
    had = await fetched(tmp_path, Windowed(bars, lambda n: n in (4, 5, 9)))
    assert len(had) == 1_000 - 3 * PAGE
    assert await fetched(tmp_path, Windowed(bars)) == bars.open_ms.tolist()


async def test_bars_between_two_recordings_are_fetched(tmp_path: Path) -> None:
    bars = bars_of(1_000)
    store(tmp_path, VENUE, "BTCUSDT", bars_without(bars, list(range(300, 700))))
    assert await fetched(tmp_path, Windowed(bars)) == bars.open_ms.tolist()


async def test_what_two_downloads_found_empty_is_not_asked_for_but_on_wish(tmp_path: Path) -> None:
    bars = bars_without(bars_of(1_000), [*range(100, 160), 500])
    hole = int(bars_of(1_000).open_ms[100])
    await fetched(tmp_path, Windowed(bars))
    path = bars_path(tmp_path, VENUE, BTC, M30)
    assert read_absence(path).settled == ()
    second, third = Windowed(bars), Windowed(bars)
    await fetched(tmp_path, second, later_ms=APART_MS)
    assert hole in second.calls, "once is not enough"
    assert len(read_absence(path).settled) == 3, "before the first bar, and two holes"
    await fetched(tmp_path, third, later_ms=2 * APART_MS)
    assert third.calls == [END - TAIL_BARS * M30.ms, END - (TAIL_BARS - PAGE) * M30.ms]
    late = bars_of(1_000)
    assert await fetched(tmp_path, Windowed(late), holes=True) == late.open_ms.tolist()


@pytest.mark.parametrize(
    ("later_ms", "are_two"), [(0, False), (APART_MS - 1, False), (APART_MS, True)]
)
async def test_answers_in_quick_succession_settle_nothing(
    tmp_path: Path, later_ms: int, are_two: bool
) -> None:
    bars = bars_of(1_000)
    lagging = bars_without(bars, list(range(300, 420)))
    span = (int(bars.open_ms[300]), int(bars.open_ms[420]))
    path = bars_path(tmp_path, VENUE, BTC, M30)
    for again_ms in (0, later_ms // 3, later_ms // 2, later_ms):
        await fetched(tmp_path, Windowed(lagging), later_ms=again_ms)
    assert (span in read_absence(path).settled) is are_two
    assert (span in read_absence(path).once) is not are_two
    assert {at for *_, at in read_absence(path).found} <= {END}, "the first time counts"
    had = await fetched(tmp_path, Windowed(bars), later_ms=later_ms)
    assert (had == bars.open_ms.tolist()) is not are_two
    assert await fetched(tmp_path, Windowed(bars), holes=True) == bars.open_ms.tolist()


async def test_the_newest_bars_are_not_called_absent_while_they_are_late(tmp_path: Path) -> None:
    bars = bars_of(1_000)
    early = Windowed(bars_without(bars, list(range(990, 1_000))))
    for _ in range(3):
        await fetched(tmp_path, early)
    known = read_absence(bars_path(tmp_path, VENUE, BTC, M30))
    assert [end for _, end in (*known.once, *known.settled)] == [MIDNIGHT]
    assert await fetched(tmp_path, Windowed(bars)) == bars.open_ms.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"found": 3, "settled": []}',
        '{"found": [[2, 1, 0]]',
        f'{{"once": [], "settled": [[0, {END}]]}}',
        f'{{"found": [[0, 9, 5], [3, {END}, 5]], "settled": [[0, {END}]]}}',
    ],
)
async def test_a_note_of_absence_that_is_no_note_is_as_none(tmp_path: Path, text: str) -> None:
    bars = bars_of(1_000)
    store(tmp_path, VENUE, "BTCUSDT", bars_without(bars, [500]))
    absence_path(bars_path(tmp_path, VENUE, BTC, M30)).write_text(text)
    assert await fetched(tmp_path, Windowed(bars)) == bars.open_ms.tolist()


@pytest.mark.parametrize(
    ("at", "audit", "seen"), [(950, False, 1), (400, False, 0), (400, True, 1)]
)
async def test_a_revision_of_a_stored_bar_is_counted(
    tmp_path: Path, at: int, audit: bool, seen: int
) -> None:
    bars = bars_of(1_000)
    await fetched(tmp_path, Windowed(bars))
    values = bars.values.copy()
    values[at, 4] += 1.0
    report = await download(
        Windowed(Bars(bars.open_ms, values)).fetch,
        [BTC],
        M30,
        MIDNIGHT,
        END,
        tmp_path,
        venue=VENUE,
        page_bars=PAGE,
        audit=audit,
    )
    assert (report.symbols[0].rows_revised, report.symbols[0].rows_new) == (seen, 0)
    path = bars_path(tmp_path, VENUE, BTC, M30)
    assert np.array_equal(read_bars(path, M30).values, bars.values), "ours stay"


Spans = list[tuple[int, int]]
spans = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda s: (s[0], sum(s))))


def points(some: Sequence[tuple[int, int]]) -> set[int]:
    return {n for first, end in some for n in range(first, end)}


@given(spans, spans)
def test_spans_are_sets_of_instants(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    assert points(together(one)) == points(one)
    assert points(common(one, other)) == points(one) & points(other)
    assert points(without(one, other)) == points(one) - points(other)
    known = Absence().found_empty(one, 7).found_empty(other, 7 + APART_MS)
    assert points(known.settled) == points(one) & points(other)
    assert points(known.once) == points(one) ^ points(other)
    soon = Absence().found_empty(one, 7).found_empty(other, 6 + APART_MS)
    assert soon.settled == ()
    for first_ms, spans in ((7, one), (6 + APART_MS, other)):
        found = [(a, b) for a, b, at_ms in soon.found if at_ms == first_ms]
        assert points(found) == points(spans) - (points(one) if spans is other else set())


def test_absent_is_what_was_read_and_is_not_there() -> None:
    ms = M30.ms
    opens = np.array([3, 4, 7], dtype=np.int64) * ms
    read = [(0, 5 * ms), (6 * ms, 9 * ms)]
    assert absent_spans(read, opens, M30) == [(0, 3 * ms), (6 * ms, 7 * ms), (8 * ms, 9 * ms)]
