"""Playing a journal again: the same engine, the recorded events, the recorded estimates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from adapters.journal import JournalReader
from daemon.domain.failures import DataError
from daemon.domain.messages import Decided
from daemon.domain.units import Timeframe
from daemon.engine.engine import Engine
from daemon.runtime.recovery import Divergence, replay_entry
from daemon.settings import Settings
from daemon.wiring.core import engine_of, universe_of
from daemon.wiring.instruments import read_instruments


@dataclass(frozen=True, slots=True)
class Verification:
    """Report a replayed journal: entries, decisions and orders seen, and the first divergence."""

    entries: int
    decisions: int
    orders: int
    equity: float
    divergence: Divergence | None


def engine_for_journal(settings: Settings) -> Engine:
    """Build the engine whose events a state folder's journal holds."""
    universe = universe_of(read_instruments(settings.run.state_folder))
    return engine_of(settings, universe, Timeframe.parse(settings.market.source))


def verify_journal(
    settings: Settings, progress: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Process every recorded event from the first and compare the commands it causes.

    The hash chain is checked on the way. Raises BrokenChain, JournalError or DataError for a
    journal that cannot be read.
    """
    path = settings.run.state_folder / "journal.sqlite"
    if not path.exists():
        raise DataError(f"{path}: there is no journal; run.state_folder names another folder?")
    reader = JournalReader(path)
    engine = engine_for_journal(settings)
    total, entries, decisions, orders = reader.entries_n, 0, 0, 0
    for entry in reader.read_from(1):
        divergence = replay_entry(engine, entry)
        entries += 1
        if divergence is not None:
            return Verification(entries, decisions, orders, engine.state.book.equity, divergence)
        for command in entry.commands:
            if isinstance(command, Decided):
                decisions += 1
                orders += len(command.decision.orders)
        if entries % 256 == 0:
            progress(entries, total)
    return Verification(entries, decisions, orders, engine.state.book.equity, None)
