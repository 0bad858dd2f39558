"""The look through the whole store: beside the feed, which does not wait for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import structlog

from adapters.clocks import SystemClock, TransportClock
from adapters.history.locks import only_writer
from adapters.history.parquet_file import last_time, read_times
from adapters.history.recorder import Recorder
from adapters.history.replay_feed import ReplayFeed
from adapters.history.written import lost, record_path
from daemon.domain.failures import CorruptFile
from daemon.domain.messages import FeedNotice, FeedTrouble
from daemon.wiring.cleansed_feed import CleansedFeed
from daemon.wiring.recording import cleansed_feed
from tests.adapters.exchange.feed_rig import until
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of, store
from tests.simulation.market_life import engine_for, script, universe
from tests.simulation.units_life import SOURCE, panel_of, settings


async def test_a_start_does_not_wait_for_the_whole_store_and_a_damaged_file_is_told_later(
    tmp_path: Path,
) -> None:
    clock = SystemClock(TransportClock())
    engine = engine_for(universe())
    names = [i.key.symbol for i in engine.universe.instruments]
    files = [store(tmp_path, "paper", name, bars_of(500)) for name in names]
    damaged = files[-1]
    damaged.write_bytes(damaged.read_bytes()[:700])
    chosen = settings(f"data.folder={tmp_path}", "market.source=30m", "data.record=true")
    inner = ReplayFeed(panel_of(script(1)), SOURCE, universe().instruments)
    looking = only_writer(damaged)  # while this is held nobody can say what is wrong with it
    looking.__enter__()
    try:
        async with asyncio.timeout(5):
            began = cleansed_feed(chosen, inner, engine, (), clock, is_private=False)
            feed = await began.__aenter__()
        assert damaged.exists()
    finally:
        looking.__exit__(None, None, None)
    await until(lambda: not damaged.exists(), "the damaged file is found beside the feed")
    told: list[FeedNotice] = []
    async with asyncio.timeout(5):
        while not told:
            told = await _notices(feed)
    assert [(n.trouble, n.active) for n in told] == [(FeedTrouble.STORE, True)]
    assert str(damaged) in told[0].text
    assert "check-data --repair" in told[0].text
    await began.__aexit__(None, None, None)
    ((_, written),) = lost(damaged)
    assert (written.first_ms, written.rows) == (MIDNIGHT, 500)
    assert all(file.exists() for file in files[:-1])


async def _notices(feed: CleansedFeed) -> list[FeedNotice]:
    """Listen until something is told beside the bars, or for some events."""
    found: list[FeedNotice] = []
    count = 0
    async for event in feed.events(0):
        count += 1
        if isinstance(event, FeedNotice):
            found.append(event)
        if found or count > 20:
            return found
        await asyncio.sleep(0.01)
    return found


def test_the_last_time_of_a_file_is_read_from_its_record_only_where_that_speaks_of_this_content(
    tmp_path: Path,
) -> None:
    path = store(tmp_path, "v", "BTCUSDT", bars_of(500))
    record = record_path(path).read_bytes()
    last_ms = int(read_times(path)[-1])
    assert last_time(path) == last_ms
    store(tmp_path, "v", "BTCUSDT", bars_of(600))
    record_path(path).write_bytes(record)  # as if it had not been replaced yet
    assert last_time(path) == last_ms + 100 * M30.ms
    record_path(path).unlink()
    assert last_time(path) == last_ms + 100 * M30.ms
    record_path(path).write_bytes(record)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(CorruptFile):
        last_time(path)


async def test_one_symbol_that_cannot_be_looked_at_is_told_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [i.key.symbol for i in universe().instruments]
    files = [store(tmp_path, "paper", name, bars_of(50)) for name in names]
    files[-1].write_bytes(files[-1].read_bytes()[:700])
    look, trouble = Recorder.damaged, PermissionError("stat refused")

    def damaged(self: Recorder, symbol: str) -> list[str]:
        if symbol == names[0]:
            raise trouble
        return look(self, symbol)

    monkeypatch.setattr(Recorder, "damaged", damaged)
    chosen = settings(f"data.folder={tmp_path}", "market.source=30m", "data.record=true")
    inner = ReplayFeed(panel_of(script(1)), SOURCE, universe().instruments)
    clock, engine = SystemClock(TransportClock()), engine_for(universe())
    with structlog.testing.capture_logs() as logs:
        async with cleansed_feed(chosen, inner, engine, (), clock, is_private=False) as feed:
            await until(lambda: not files[-1].exists(), "the rest is not looked at")
            told: list[FeedNotice] = []
            async with asyncio.timeout(5):
                while len(told) < 2:
                    told += [e async for e in feed.events(0) if isinstance(e, FeedNotice)]
                    await asyncio.sleep(0.01)  # a replayed feed never waits: nobody else would run
    assert [(n.trouble, n.active) for n in told] == [(FeedTrouble.STORE, True)] * 2
    assert names[0] in told[0].text
    assert "stat refused" in told[0].text
    assert str(files[-1]) in told[1].text
    assert [e["exc_info"] for e in logs if e["event"] == "file_unchecked"] == [trouble]
