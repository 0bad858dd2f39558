"""Whatever happens to the bytes of a stored file, the next download gives back the same store."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as draw

from adapters.history.download import download, download_funding
from adapters.history.parquet_file import (
    Rates,
    read_bars,
    read_rates,
    set_aside,
    write_bars,
    write_rates,
)
from adapters.history.store import bars_path, funding_path
from adapters.history.written import lost, read_record, record_path
from daemon.domain.failures import CorruptFile
from daemon.domain.units import DAY_MS, HOUR_MS
from tests.adapters.history.samples import FACTS, M30, MIDNIGHT, bars_of, without
from tests.adapters.history.test_download import BTC, VENUE, Exchange

DAYS = 40
BARS = without(bars_of(DAYS * 48), list(range(700, 730)))
UNTIL_MS = MIDNIGHT + DAYS * DAY_MS
SETTLED = [(MIDNIGHT + n * 8 * HOUR_MS, 1e-4 * (n % 7 - 3)) for n in range(1, 3 * DAYS)]


async def rates(symbol: str, after_ms: int, until_ms: int) -> Sequence[tuple[int, float]]:
    return [(at, rate) for at, rate in SETTLED if after_ms < at <= until_ms]


async def brought(root: Path, days: float) -> tuple[list[str], list[str]]:
    """Download the last days of bars and funding; give what was repaired, and the problems."""
    since_ms = UNTIL_MS - round(days * DAY_MS)
    told: list[str] = []
    exchange = Exchange({BTC: BARS})
    found = await download(exchange.fetch, [BTC], M30, since_ms, UNTIL_MS, root, venue=VENUE)
    wrong = await download_funding(
        rates, [BTC], since_ms, UNTIL_MS, root, venue=VENUE, on_repaired=told.append
    )
    told += [one.repaired for one in found.symbols if one.repaired]
    return told, [*found.problems, *wrong.values()]


def content(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(root.rglob("*.parquet"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    assert asyncio.run(brought(root, DAYS)) == ([], [])
    return root


FILES = (bars_path(Path(), VENUE, BTC, M30), funding_path(Path(), VENUE, BTC))
OFTEN = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@OFTEN
@given(
    which=draw.sampled_from(FILES),
    place=draw.floats(0, 1, exclude_max=True),
    flip=draw.integers(0, 255),
    kind=draw.sampled_from(["flip", "cut", "zeros"]),
)
def test_any_damage_is_named_and_all_that_was_there_comes_back_to_the_byte(
    whole: Path, which: Path, place: float, flip: int, kind: str
) -> None:
    path, before = whole / which, content(whole)
    good = path.read_bytes()
    at = int(place * len(good))
    bad = {
        "flip": good[:at] + bytes([good[at] ^ (flip or 1)]) + good[at + 1 :],
        "cut": good[:at],
        "zeros": good[:at] + bytes(len(good) - at),
    }[kind]
    if bad == good:
        return
    path.write_bytes(bad)
    told, problems = asyncio.run(brought(whole, 1))
    assert problems == []
    (text,) = told
    assert str(path) in text
    assert content(whole) == before
    (aside,) = (p for p in path.parent.glob(f"{path.name}.corrupt-*") if p.name[0] != ".")
    assert aside.read_bytes() == bad, "a person can look at it"
    aside.unlink()
    assert asyncio.run(brought(whole, 1)) == ([], [])


def test_no_byte_of_a_small_file_changes_unnoticed(whole: Path) -> None:
    path = whole / funding_path(Path(), VENUE, BTC)
    good = path.read_bytes()
    unnoticed = []
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << at % 8
        path.write_bytes(bad)
        try:
            read_rates(path)
        except CorruptFile:
            continue
        unnoticed.append(at)
    path.write_bytes(good)
    assert unnoticed == []


async def test_without_a_record_the_file_itself_or_its_neighbours_say_what_is_lost(
    tmp_path: Path,
) -> None:
    await brought(tmp_path, DAYS)
    path = bars_path(tmp_path, VENUE, BTC, M30)
    good = path.read_bytes()
    record_path(path).unlink()
    path.write_bytes(good[: len(good) // 2] + b"\0" + good[len(good) // 2 + 1 :])
    with pytest.raises(CorruptFile):
        read_bars(path, M30)
    assert (await brought(tmp_path, 1))[1] == []
    assert path.read_bytes() == good, "its times could still be read"
    other = bars_path(tmp_path, VENUE, "ETHUSDT", M30)
    write_bars(other, BARS, M30, FACTS)
    record_path(path).write_text("{}")
    path.write_bytes(b"")
    assert (await brought(tmp_path, 1))[1] == []
    assert path.read_bytes() == good, "fetched as far back as its neighbour reaches"


async def test_a_repair_that_is_cut_short_goes_on_the_next_time(tmp_path: Path) -> None:
    await brought(tmp_path, DAYS)
    path = bars_path(tmp_path, VENUE, BTC, M30)
    good = path.read_bytes()
    path.write_bytes(good[:99])

    def refuse(call: int) -> None:
        if call == 2:
            raise ConnectionError("the line is cut")

    broken = Exchange({BTC: BARS}, before_call=refuse)
    with pytest.raises(ExceptionGroup):
        await download(
            broken.fetch, [BTC], M30, UNTIL_MS - DAY_MS, UNTIL_MS, tmp_path, venue=VENUE,
            page_bars=500,
        )  # fmt: skip
    assert 0 < len(read_bars(path, M30)) < len(BARS)
    told, problems = await brought(tmp_path, 1)
    assert (len(told), problems) == (1, [])
    assert path.read_bytes() == good
    assert lost(path) == []


async def test_what_the_venue_no_longer_gives_is_said_once_and_the_file_is_kept(
    tmp_path: Path,
) -> None:
    await brought(tmp_path, DAYS)
    path = bars_path(tmp_path, VENUE, BTC, M30)
    path.write_bytes(b"not a file of bars")
    late = Exchange({BTC: without(BARS, list(range(100)))})
    asked = ([BTC], M30, UNTIL_MS - DAY_MS, UNTIL_MS, tmp_path)
    (problem,) = (await download(late.fetch, *asked, venue=VENUE)).problems
    assert f"had held {len(BARS):,} rows" in problem
    assert f"the venue gives {len(BARS) - 100:,}" in problem
    assert (await download(late.fetch, *asked, venue=VENUE)).problems == ()


async def test_a_hole_before_the_time_asked_for_is_filled_only_on_wish(tmp_path: Path) -> None:
    path = bars_path(tmp_path, VENUE, BTC, M30)
    write_bars(path, without(BARS, list(range(300, 420))), M30, {"venue": VENUE, "symbol": "x"})
    exchange = Exchange({BTC: BARS})
    asked = ([BTC], M30, UNTIL_MS - DAY_MS, UNTIL_MS, tmp_path)
    await download(exchange.fetch, *asked, venue=VENUE)
    assert [since for _, since in exchange.calls] == [UNTIL_MS - DAY_MS]
    (one,) = (await download(exchange.fetch, *asked, venue=VENUE, holes=True)).symbols
    assert one.rows_new == 120
    assert read_bars(path, M30).open_ms.tolist() == BARS.open_ms.tolist()


async def test_bars_that_somebody_else_wrote_meanwhile_are_not_lost(tmp_path: Path) -> None:
    path = bars_path(tmp_path, VENUE, BTC, M30)
    head = without(BARS, list(range(600, len(BARS))))
    write_bars(path, head, M30, FACTS)

    def meanwhile(call: int) -> None:
        if call == 1:  # a running daemon records its newest bars
            tail = without(BARS, list(range(600, len(BARS) - 10)))
            write_bars(path, tail, M30, FACTS)

    exchange = Exchange({BTC: without(BARS, list(range(1500, len(BARS))))}, before_call=meanwhile)
    asked = ([BTC], M30, MIDNIGHT, UNTIL_MS - 20 * DAY_MS, tmp_path)
    await download(exchange.fetch, *asked, venue=VENUE)
    stored = read_bars(path, M30).open_ms.tolist()
    assert stored[-10:] == BARS.open_ms[-10:].tolist()


def test_a_record_is_believed_only_if_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-30m.parquet"
    write_bars(path, BARS, M30, FACTS)
    found = read_record(path)
    assert found is not None
    assert (found.first_ms, found.rows) == (MIDNIGHT, len(BARS))
    text = record_path(path).read_text()
    for wrong in (text[:-9], text.replace(str(MIDNIGHT), "0"), "[]", '{"seal": 1}', ""):
        record_path(path).write_text(wrong)
        assert read_record(path) is None
    told = json.loads(text)
    record_path(path).write_text(json.dumps(told | {"rows": told["rows"] + 1}))
    assert read_record(path) is None
    read_bars(path, M30)  # a file without a record is as valid


def test_a_record_of_other_content_says_nothing(tmp_path: Path) -> None:
    """Killed between a file and its record, the new file is still good."""
    path = tmp_path / "BTCUSDT-30m.parquet"
    write_bars(path, bars_of(50), M30, FACTS)
    old = record_path(path).read_text()
    write_bars(path, bars_of(60), M30, FACTS)
    record_path(path).write_text(old)
    assert len(read_bars(path, M30)) == 60


def test_a_flip_where_no_number_lies_is_found_as_well(tmp_path: Path) -> None:
    path = funding_path(tmp_path, VENUE, BTC)
    write_rates(path, Rates.from_pairs(SETTLED), {"venue": VENUE})
    good = path.read_bytes()
    at = good.rindex(VENUE.encode())
    path.write_bytes(good[:at] + b"B" + good[at + 1 :])
    with pytest.raises(CorruptFile, match="SHA-256"):
        read_rates(path)
    assert set_aside(path).exists()
