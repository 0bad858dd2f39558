"""Around a delisting, live over sockets and a backtest over files take the same decisions."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.history.instruments_file import (
    Life,
    instruments_path,
    read_instruments_file,
    write_instruments_file,
)
from adapters.journal import JournalReader
from adapters.rehearsal.dialect import DELISTING_NOTICE_MS
from adapters.rehearsal.launch import LaunchedExchange, launch
from adapters.rehearsal.universe import NAMES
from daemon.domain.instrument import Standing
from daemon.domain.messages import InstrumentChanged
from daemon.domain.order import SETTLEMENT_PREFIX
from daemon.domain.units import DAY_MS, HOUR_MS, iso
from daemon.settings import Settings, effective_toml
from daemon.wiring.decisions import read_run
from daemon.wiring.rehearsal import exchange_settings
from tests.e2e.line import SMALL, command, daemon, sets, settings_of

BEGIN_MS = 1_706_140_800_000  # 2024-01-25
VENUE, DAYS = "binanceusdm", 4
END_MS = BEGIN_MS + 3 * DAY_MS + HOUR_MS
TOLD_MS = END_MS - DELISTING_NOTICE_MS
DIVERGED = 4
ENDS = "SOLUSDT"  # the book holds it when its end is told, which is checked
CHOSEN = (
    *SMALL,
    f"universe.symbols={list(NAMES[:12])}".replace("'", '"'),
    "universe.volume_rank_max=7",  # of twelve, so that some stay out
    "exchange.markets_every_min=90",  # so that no reading falls on a decision
)


@contextmanager
def exchange_with_an_end(state: Path) -> Iterator[tuple[LaunchedExchange, Settings]]:
    settings = settings_of(state, *CHOSEN, f"rehearsal.start={iso(BEGIN_MS)}")
    wanted = replace(exchange_settings(settings, resume_at_ms=None), delistings={ENDS: END_MS})
    with launch(wanted) as exchange:
        led = {
            "id": VENUE,
            "options": exchange.ccxt_options(),
            "market_time": "lockstep",
            "lockstep_url": exchange.rest_url,
            "generated": True,
        }
        chosen = settings.exchange.model_copy(update=led)
        yield exchange, settings.model_copy(update={"exchange": chosen})


def told(state: Path) -> list[InstrumentChanged]:
    """Give what the live run was told of the coin."""
    entries = JournalReader(state / "journal.sqlite").read_from(1)
    return [
        entry.event
        for entry in entries
        if isinstance(entry.event, InstrumentChanged)
        and entry.event.instrument.key.symbol.replace("/", "").startswith(ENDS)
    ]


@pytest.mark.timeout(240)
async def test_a_coin_that_ends_is_left_alike_by_a_live_run_and_a_backtest(tmp_path: Path) -> None:
    state, data = tmp_path / "live", tmp_path / "data"
    with exchange_with_an_end(state) as (exchange, settings):
        file = tmp_path / "exchange.toml"
        file.write_text(effective_toml(settings), encoding="utf-8")
        async with daemon("trade", "--paper", "-c", file, cwd=tmp_path) as live:
            await live.decided(78, seconds=150)
            assert await live.end(signal.SIGTERM) == 0
        words = ["--days", str(DAYS + 10), "--folder", str(data), "--json"]
        done = command("download-data", "-c", file, *words, cwd=tmp_path, seconds=110)
        assert done.code == 0, done.complaint
        assert done.values["problems"] == []
        assert exchange.running
    leaving, gone = [one for one in told(state) if one.standing is not Standing.TRADING]
    assert (leaving.standing, gone.standing) == (Standing.REDUCE_ONLY, Standing.GONE)
    assert TOLD_MS <= leaving.at_ms < TOLD_MS + 2 * HOUR_MS
    assert END_MS <= gone.at_ms < END_MS + 2 * HOUR_MS
    decisions = JournalReader(state / "journal.sqlite").decisions()
    weights = [(d.as_of_ms, float(d.weights_before[leaving.index])) for d in decisions]
    after = [weight for as_of_ms, weight in weights if as_of_ms > leaving.at_ms]
    assert after[0] != 0.0  # it is held when its end is told
    assert set(after[3:]) == {0.0}

    path = instruments_path(data, VENUE)
    noted = read_instruments_file(path, VENUE)
    life = noted.records[ENDS].lives[-1]
    assert life.ended_ms == END_MS  # as the venue told the downloader, afterwards
    assert life.announced_ms is None
    assert compared(tmp_path, state, data) == DIVERGED  # for who does not know when it was told
    known = replace(
        noted.records[ENDS], lives=(Life(life.listed_ms, leaving.at_ms, life.ended_ms),)
    )
    write_instruments_file(path, replace(noted, records={**noted.records, ENDS: known}))
    assert compared(tmp_path, state, data) == 0


def compared(folder: Path, state: Path, data: Path) -> int:
    """Run the backtest of the same book over the files; give how it compares with the live run."""
    out = folder / "backtest.jsonl"
    chosen = [
        *CHOSEN,
        f"backtest.data_folder={data}",
        f"backtest.venue={VENUE}",
        f"backtest.since={iso(read_run(state)[0].as_of_ms - HOUR_MS)}",
        "backtest.report=",
    ]
    words = ["--decisions", str(out), "--book", str(state), "--json"]
    done = command("backtest", *words, *sets(chosen), cwd=folder, seconds=110)
    assert done.code == 0, done.complaint
    assert SETTLEMENT_PREFIX not in done.out
    found = command("compare", state, out, "--json", cwd=folder)
    print(found.values)
    return found.code
