"""Where the time of our run goes: the same run with and without the record, in one process.

Run as `python -m benchmarks.parts SETTINGS`; prints one JSON object of CPU seconds. `feed` plays
the bars to nobody; `bare` runs engine and venue alone; `record` keeps what the ordinary command
keeps as well: journal, decision records and the rows of the report; `digests` hashes all decision
records, which the command does only when it writes them down.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import instruments_from, load_rules
from adapters.history.store import data_root, load_panel
from adapters.journal import MemoryJournal
from adapters.paper import MemoryStore, PaperVenue
from daemon.commands.options import packaged
from daemon.domain.instrument import Universe
from daemon.domain.units import Timeframe, instant_ms
from daemon.engine.engine import Engine
from daemon.report.run_record import RunRecord
from daemon.runtime.collector import collect_rarely
from daemon.runtime.replay import ReplayShell
from daemon.settings import Settings, load_settings
from daemon.wiring.backtest import book_row
from daemon.wiring.bar_files import symbols_of
from daemon.wiring.core import engine_of, paper_settings


def main() -> None:
    """Time the parts one after the other."""
    collect_rarely()  # as the command does
    settings = load_settings([packaged("backtest.toml"), Path(sys.argv[1])])
    clock = time.process_time
    start = clock()
    feed, universe = _load(settings)
    seconds = {"load": clock() - start}

    start = clock()
    for _ in feed.replay(0, feed.last_ms):
        pass
    seconds["feed"] = clock() - start

    seconds["bare"] = _replay(settings, feed, universe, MemoryJournal(keep_digests=False), None)
    journal = MemoryJournal()
    seconds["record"] = _replay(settings, feed, universe, journal, RunRecord())
    start = clock()
    decisions_n = len(journal.decision_digests)
    seconds["digests"] = clock() - start
    print(json.dumps({"seconds": seconds, "decisions": decisions_n}))


def _load(settings: Settings) -> tuple[ReplayFeed, Universe]:
    chosen, symbols = settings.backtest, symbols_of(settings)
    rules = load_rules(Path(chosen.rules_file))
    instruments = instruments_from(rules, settings.exchange.id, symbols).instruments
    source = Timeframe.parse(chosen.source)
    until_ms = None if chosen.until is None else instant_ms(chosen.until)
    root = data_root(Path(chosen.data_folder))
    panel = load_panel(root, chosen.venue, symbols, source, None, until_ms)
    return ReplayFeed(panel, source, instruments), Universe(instruments)


def _replay(
    settings: Settings,
    feed: ReplayFeed,
    universe: Universe,
    journal: MemoryJournal,
    record: RunRecord | None,
) -> float:
    engine = engine_of(settings, universe, Timeframe.parse(settings.backtest.source))
    venue = PaperVenue(universe, paper_settings(settings), MemoryStore())
    observer = None if record is None else _observer(record)
    shell = ReplayShell(engine, venue, None, journal, observer)
    start = time.process_time()
    shell.start(feed.first_ms - engine.rules.cadence.source.ms, "bench")
    shell.run(feed.replay(0, feed.last_ms))
    return time.process_time() - start


def _observer(record: RunRecord) -> Callable[[int, Engine], None]:
    return lambda close_ms, engine: record.add(close_ms, book_row(engine))


if __name__ == "__main__":
    main()
