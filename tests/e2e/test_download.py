"""`download-data` from an exchange that counts request weight: fast, killed, resumed, repaired."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from adapters.history.absence import APART_MS, note_empty
from adapters.history.parquet_file import GENERATED, ORIGIN, Bars, read_bars, write_bars
from adapters.history.store import list_bars
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.units import Timeframe
from daemon.wiring.pace import WEIGHT_SHARE
from tests.e2e.line import Finished, command, environment, program

WEIGHT_MINUTE = 2_400  # what the real venue allows
PAGE_BARS, PAGE_WEIGHT = 499, 2  # the cheapest page there
COINS, DAYS, DAY_BARS = 2, 30, 288
BARS = COINS * DAYS * DAY_BARS
SECONDS_MAX = 100


def market() -> RehearsalSettings:
    return RehearsalSettings(
        coins=COINS, history_days=DAYS + 1, source_minutes=5, weight_limit_minute=WEIGHT_MINUTE
    )


def arguments(running: RunningExchange, folder: Path, days: int, *, is_paced: bool) -> list[str]:
    where = ["--days", str(days), "--folder", str(folder), "--json"]
    return ["download-data", *where, *chosen(running, is_paced=is_paced)]


def chosen(running: RunningExchange, *, is_paced: bool = False) -> list[str]:
    paced = ccxt_options(running.rest_url, running.ws_url) | {"enableRateLimit": is_paced}
    options = json.dumps(paced)
    sets = (
        "market.source=5m",
        "universe.symbols=top:2",
        f"exchange.options={options}",
        "exchange.generated=true",
    )
    return [word for one in sets for word in ("--set", one)]


async def ran(*words: str, cwd: Path) -> Finished:
    """Run a command to its end beside the exchange, which this loop serves."""
    return await asyncio.to_thread(command, *words, cwd=cwd, seconds=SECONDS_MAX)


async def fetched(
    running: RunningExchange, folder: Path, days: int = DAYS, *words: str, is_paced: bool = False
) -> Finished:
    asked = arguments(running, folder, days, is_paced=is_paced)
    return await ran(*asked, *words, cwd=folder.parent)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.parquet"))}


async def bars_until(folder: Path, rows: int) -> None:
    """Wait until the store holds bars, as somebody who looks at the folder would."""
    while sum(one.rows for one in list_bars(folder)) < rows:  # noqa: ASYNC110 - no event of a disk
        await asyncio.sleep(0.02)


@pytest.mark.timeout(120)
async def test_killed_half_way_it_resumes_to_the_same_bytes_at_the_venues_own_rate(
    tmp_path: Path,
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    async with await serve(market()) as running:
        done = await fetched(running, straight, is_paced=True)
    assert done.code == 0, done.complaint
    assert done.values["problems"] == []
    assert done.values["refused"] == 0
    assert sum(done.values["rows"].values()) == BARS
    limit = WEIGHT_MINUTE * WEIGHT_SHARE / PAGE_WEIGHT * PAGE_BARS / 60
    pace = BARS / done.values["seconds"]
    print(f"\n{pace:,.0f} bars/s; our part of the venue's limit allows {limit:,.0f}")
    assert pace < 1.1 * limit, "more than the venue allows"
    assert pace > 0.2 * limit, "not even on a busy machine"
    async with await serve(market()) as running:
        process = await asyncio.create_subprocess_exec(
            *program(*arguments(running, killed, DAYS, is_paced=True)),
            env=environment(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(60):
            await bars_until(killed, 1)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        left = list_bars(killed, deep=True)
        assert [one.problem for one in left if one.problem] == []
        assert sum(one.rows for one in left) < BARS, "it was over before it was killed"
        done = await fetched(running, killed)
    assert done.code == 0, done.complaint
    assert content(killed) == content(straight)
    names = [p.name for p in killed.rglob("*") if p.is_file()]
    assert not [name for name in names if "corrupt" in name]


@pytest.mark.timeout(120)
async def test_files_that_were_damaged_are_named_and_fetched_again_whole(tmp_path: Path) -> None:
    async with await serve(market()) as running:
        first = await fetched(running, tmp_path, 5)
        assert first.code == 0, first.complaint
        whole = content(tmp_path)
        bars = next(name for name in whole if "BTCUSDT-5m" in name)
        funding = next(name for name in whole if "ETHUSDT-funding" in name)
        (tmp_path / bars).write_bytes(whole[bars][: len(whole[bars]) // 3])
        (tmp_path / funding).write_bytes(b"")
        again = await fetched(running, tmp_path, 1)
    assert again.code == 0, again.complaint
    told = "; ".join(again.values["repaired"])
    assert "BTCUSDT-5m.parquet" in told
    assert "ETHUSDT-funding.parquet" in told
    assert content(tmp_path) == whole, "five days came back, though one was asked for"


@pytest.mark.timeout(120)
async def test_a_hole_that_was_settled_by_mistake_is_asked_for_again_on_wish(
    tmp_path: Path,
) -> None:
    async with await serve(market()) as running:
        first = await fetched(running, tmp_path, 5)
        assert first.code == 0, first.complaint
        whole = content(tmp_path)
        path = tmp_path / next(name for name in whole if "BTCUSDT-5m" in name)
        source = Timeframe(5)
        bars = read_bars(path, source)
        lacks = Bars(
            np.delete(bars.open_ms, np.s_[100:220]), np.delete(bars.values, np.s_[100:220], 0)
        )
        path.unlink()
        write_bars(path, lacks, source, {"venue": "x", "symbol": "BTCUSDT", ORIGIN: GENERATED})
        span = [(int(bars.open_ms[100]), int(bars.open_ms[220]))]
        note_empty(path, span, int(bars.open_ms[-1]))
        note_empty(path, span, int(bars.open_ms[-1]) + APART_MS)
        for words, rows in (((), len(lacks)), (("--again",), len(bars))):
            done = await fetched(running, tmp_path, 5, *words)
            assert done.code == 0, done.complaint
            assert done.values["rows"]["BTC/USDT:USDT"] == rows
    assert read_bars(path, source).open_ms.tolist() == bars.open_ms.tolist()


def put_aside(folder: Path) -> set[str]:
    return {p.name.partition(".corrupt-")[0] for p in folder.rglob("[!.]*.corrupt-*")}


async def repaired(running: RunningExchange, folder: Path) -> Finished:
    words = ("check-data", "--repair", "--json", "--folder", str(folder), *chosen(running))
    return await ran(*words, cwd=folder.parent)


@pytest.mark.timeout(120)
async def test_a_repair_brings_back_what_dice_destroyed(tmp_path: Path) -> None:
    dice = random.Random(17)
    async with await serve(market()) as running:
        first = await fetched(running, tmp_path, 5)
        assert first.code == 0, first.complaint
        whole = content(tmp_path)
        for name, good in whole.items():
            at = dice.randrange(len(good))
            spoiled = good[:at] + bytes([good[at] ^ dice.randrange(1, 256)]) + good[at + 1 :]
            (tmp_path / name).write_bytes(dice.choice([spoiled, good[:at]]))
        elsewhere = tmp_path / "ohlcv" / "another" / "BTCUSDT-5m.parquet"
        elsewhere.parent.mkdir()
        elsewhere.write_bytes(b"garbage")
        done = await repaired(running, tmp_path)
        assert done.code == 65, "what is of another venue stays broken"
        (problem,) = done.values["problems"]
        assert "say --set exchange.id=another" in problem
        assert len(done.values["repaired"]) == len(whole)
        elsewhere.unlink()
        assert content(tmp_path) == whole
        assert put_aside(tmp_path) == {Path(name).name for name in whole}
        quiet = await repaired(running, tmp_path)
    assert (quiet.code, quiet.values["repaired"], quiet.values["problems"]) == (0, [], [])
