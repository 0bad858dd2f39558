"""Live over sockets and a backtest over files take the same decisions, to the hash."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from adapters.history.parquet_file import read_bars, write_bars
from adapters.history.store import bars_path
from adapters.journal import JournalReader
from adapters.rehearsal.launch import LaunchedExchange
from daemon.domain.bar import Field, Flags
from daemon.domain.messages import BarsClosed
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, iso
from daemon.settings import effective_toml
from daemon.wiring.decisions import read_run
from daemon.wiring.instruments import read_instruments
from daemon.wiring.rehearsal import rehearsal_exchange
from tests.e2e.line import NEUTRAL, SMALL, Values, command, daemon, sets, settings_of

BEGIN_MS = 1_706_140_800_000  # 2024-01-25
ABSENT = {"kind": "absent", "symbol": "BTCUSDT", "open": "2024-01-26T03:30:00Z"}
LATE = {"kind": "late", "symbol": "SOLUSDT", "open": "2024-01-27T04:30:00Z", "delay_s": 9.0}
ABSENT_AT_MS = BEGIN_MS + DAY_MS + 4 * HOUR_MS  # its close, when a decision falls
LATE_AT_MS = BEGIN_MS + 2 * DAY_MS + 5 * HOUR_MS  # likewise
DIVERGED = 4
SOURCE = Timeframe(30)
TICK = 0.01  # of ETHUSDT at the rehearsal exchange
LAST_MAY_BE_CUT = 2  # the stop may fall between an instant and its decision


@dataclass(frozen=True, slots=True)
class Played:
    """Hold the two runs of a parity test, and what the backtest reads."""

    state: Path
    data: Path
    options: tuple[str, ...]

    def backtest(self, cwd: Path, name: str, data: Path) -> Path:
        """Run the backtest over files; give the file of its decisions."""
        out = cwd / f"{name}.jsonl"
        since = iso(read_run(self.state)[0].as_of_ms - HOUR_MS)
        chosen = [
            *self.options,
            f"backtest.data_folder={data}",
            "backtest.venue=binanceusdm",
            f"backtest.since={since}",
            "backtest.report=",
        ]
        words = ["--decisions", str(out), "--book", str(self.state), "--json"]
        done = command("backtest", *words, *sets(chosen), cwd=cwd, seconds=110)
        assert done.code == 0, done.complaint
        return out


async def play(folder: Path, days: int, options: tuple[str, ...]) -> Played:
    """Trade so many days in lock-step through the command line, then download the same bars."""
    state, data = folder / "live", folder / "data"
    script = json.dumps([ABSENT, LATE])
    chosen = [*options, f"rehearsal.start={iso(BEGIN_MS)}", f"rehearsal.irregularities={script}"]
    with rehearsal_exchange(settings_of(state, *chosen)) as rehearsal:
        file = folder / "exchange.toml"
        file.write_text(effective_toml(rehearsal.settings), encoding="utf-8")
        async with daemon("trade", "--paper", "-c", file, cwd=folder) as live:
            await live.decided(days * 24 + LAST_MAY_BE_CUT, seconds=300)
            assert await live.end(signal.SIGTERM) == 0
        assert rehearsal.exchange.running
        fetch(folder, file, data, days, rehearsal.exchange)
    return Played(state, data, options)


def fetch(folder: Path, file: Path, data: Path, days: int, exchange: LaunchedExchange) -> Values:
    """Download what the live run saw, and its warm-up, from the very exchange it traded on."""
    words = ["--days", str(days + 10), "--folder", str(data), "--json"]
    done = command("download-data", "-c", file, *words, cwd=folder, seconds=110)
    assert done.code == 0, done.complaint
    assert exchange.running
    assert len(done.values["rows"]) == 12
    assert done.values["problems"] == []
    return done.values


def compared(folder: Path, left: Path, right: Path) -> tuple[int, Values]:
    """Run `compare`; give its exit code and what it found."""
    done = command("compare", left, right, "--json", cwd=folder)
    return done.code, done.values


def with_one_bar_changed(data: Path, copy: Path, at_ms: int) -> Path:
    """Copy the store and move the close of one bar by one tick, staying inside the bar."""
    shutil.copytree(data, copy)
    path = bars_path(copy, "binanceusdm", "ETHUSDT", SOURCE)
    bars = read_bars(path, SOURCE)
    row = bars.values[int(np.flatnonzero(bars.open_ms == at_ms)[0])]
    row[Field.CLOSE] += TICK if row[Field.CLOSE] + TICK <= row[Field.HIGH] else -TICK
    write_bars(path, bars, SOURCE, {"venue": "binanceusdm", "symbol": "ETHUSDT"})
    return copy


def check_the_script_was_played(state: Path) -> None:
    """Check that one bar never came and another one last, and that decisions fell on both."""
    journal = JournalReader(state / "journal.sqlite")
    symbols = [i.key.symbol for i in read_instruments(state)]
    btc, sol = symbols.index("BTC/USDT:USDT"), symbols.index("SOL/USDT:USDT")
    came: dict[int, list[Flags]] = {ABSENT_AT_MS: [], LATE_AT_MS: []}  # by message, of whom
    for entry in journal.read_from(1):
        if isinstance(entry.event, BarsClosed) and entry.event.close_ms in came:
            came[entry.event.close_ms].append(np.isfinite(entry.event.values[:, Field.CLOSE]))
    assert np.count_nonzero(came[ABSENT_AT_MS][0]) == len(symbols) - 1
    assert not any(flags[btc] for flags in came[ABSENT_AT_MS])
    assert [bool(flags[sol]) for flags in came[LATE_AT_MS]] == [False, True]
    absent = {d.as_of_ms: d.absent for d in journal.decisions()}
    assert absent[ABSENT_AT_MS] == (btc,)
    assert absent[LATE_AT_MS] == ()


async def check_parity(folder: Path, days: int, options: tuple[str, ...]) -> Values:
    played = await play(folder, days, options)
    check_the_script_was_played(played.state)
    same = played.backtest(folder, "same", played.data)
    code, found = compared(folder, played.state, same)
    assert (code, found["first_difference"]) == (0, "")
    assert found["same"]
    assert found["compared"] == found["equal"] >= days * 24
    decided_ms = BEGIN_MS + 2 * DAY_MS + 7 * HOUR_MS  # the close of the changed bar
    other = with_one_bar_changed(played.data, folder / "changed", decided_ms - SOURCE.ms)
    code, wrong = compared(folder, played.state, played.backtest(folder, "changed", other))
    assert code == DIVERGED
    first = wrong["first_difference"]
    assert iso(decided_ms) in first
    assert "bars" in first
    assert wrong["equal"] < wrong["compared"]
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("days", [4, pytest.param(14, marks=pytest.mark.soak)])
async def test_days_live_over_sockets_are_decided_as_in_a_backtest_over_files(
    tmp_path: Path, days: int
) -> None:
    found = await check_parity(tmp_path, days, SMALL)
    assert found["orders"] >= 14 * days


async def test_days_with_forecasts_of_the_worker_are_decided_as_in_a_backtest(
    tmp_path: Path,
) -> None:
    found = await check_parity(tmp_path, 3, NEUTRAL)
    assert found["orders"] > 0


@pytest.mark.soak(minutes=4)
@pytest.mark.timeout(1800)
async def test_a_month_with_forecasts_of_the_worker_is_decided_as_in_a_backtest(
    tmp_path: Path,
) -> None:
    found = await check_parity(tmp_path, 30, NEUTRAL)
    assert found["orders"] >= 100
    print(found)
