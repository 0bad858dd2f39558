"""A stated split through the real command line: live over sockets, replayed, and from files."""

from __future__ import annotations

import signal
from pathlib import Path

from adapters.history.parquet_file import Bars, read_bars, write_bars
from adapters.history.store import bars_path
from adapters.journal import JournalReader
from daemon.domain.bar import Field
from daemon.domain.messages import Rescaled
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, iso
from daemon.settings import effective_toml
from daemon.wiring.decisions import read_run
from daemon.wiring.rehearsal import rehearsal_exchange
from tests.e2e.line import SMALL, command, daemon, sets, settings_of
from tests.simulation.paper_line import ORIGIN_MS, generated_market

SOURCE = Timeframe(30)
BEGIN_MS = ORIGIN_MS + 3 * DAY_MS
SPLIT_MS = BEGIN_MS + 9 * HOUR_MS
SYMBOL = "SOLUSDT"
DECISIONS = 16


async def test_live_replay_and_files_agree_over_a_stated_split(tmp_path: Path) -> None:
    data, state = tmp_path / "made", tmp_path / "live"
    generated_market(data, days=5)
    path = bars_path(data, "binanceusdm", SYMBOL, SOURCE)
    bars = read_bars(path, SOURCE)
    values, late = bars.values.copy(), bars.open_ms >= SPLIT_MS
    values[late, : Field.VOLUME] /= 4.0
    values[late, Field.VOLUME] *= 4.0
    write_bars(path, Bars(bars.open_ms, values), SOURCE, {"venue": "binanceusdm"})
    entry = f'[{{"symbol": "{SYMBOL}", "at": "{iso(SPLIT_MS)}", "factor": 4}}]'
    chosen = (
        *SMALL,
        "universe.symbols=top:6",
        f"rehearsal.data_folder={data / 'ohlcv' / 'binanceusdm'}",
        f"rehearsal.start={iso(BEGIN_MS)}",
        f"data.rescaled={entry}",
    )
    with rehearsal_exchange(settings_of(state, *chosen)) as rehearsal:
        file = tmp_path / "exchange.toml"
        file.write_text(effective_toml(rehearsal.settings), encoding="utf-8")
        async with daemon("trade", "--paper", "-c", file, cwd=tmp_path) as live:
            await live.decided(DECISIONS, seconds=120)
            assert await live.end(signal.SIGTERM) == 0
    events = [entry.event for entry in JournalReader(state / "journal.sqlite").read_from(1)]
    told = [event for event in events if isinstance(event, Rescaled)]
    assert {(one.at_ms, one.new_n, one.old_n) for one in told} == {(SPLIT_MS, 4, 1)}
    verified = command("replay", "--state", str(state), "--verify", "--json", cwd=tmp_path)
    assert verified.code == 0, verified.complaint
    decisions = read_run(state)
    assert decisions[-1].as_of_ms > SPLIT_MS
    out = tmp_path / "files.jsonl"
    since = f"backtest.since={iso(decisions[0].as_of_ms - HOUR_MS)}"
    files = [f"backtest.data_folder={data}", "backtest.venue=binanceusdm", "backtest.report="]
    words = ["--decisions", str(out), "--book", str(state), "--json"]
    done = command("backtest", *words, *sets([*chosen, *files, since]), cwd=tmp_path, seconds=60)
    assert done.code == 0, done.complaint
    same = command("compare", str(state), str(out), "--json", cwd=tmp_path)
    assert same.code == 0, same.values["first_difference"]
    assert same.values["equal"] == same.values["compared"] >= DECISIONS
