"""Playing a journal again: the same engine, the recorded events, the recorded estimates.

Every start of a daemon leaves its effective settings in the journal, so nobody has to remember
them: each stretch of entries is replayed with the settings that were in force.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from adapters.journal import JournalReader
from daemon.domain.bar import Field, Floats
from daemon.domain.decision import Decision
from daemon.domain.failures import BrokenChain, DataError
from daemon.domain.messages import (
    Alert,
    AlertKind,
    BarsClosed,
    Decided,
    Event,
    Recorded,
    Rescaled,
    event_ms,
)
from daemon.domain.order import Fill
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.report.capacity import volumes_met
from daemon.report.new_units import show_in_new_units
from daemon.report.run import Execution, Executions
from daemon.report.run_record import RunRecord
from daemon.runtime.recovery import Divergence, replay_entry
from daemon.settings import Settings
from daemon.wiring.backtest import book_row
from daemon.wiring.core import universe_of
from daemon.wiring.instruments import read_instruments
from daemon.wiring.recovery import Stretches, recorded_settings

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Step:
    """Hold one replayed entry: its number, the engine after it, and how it differs, if it does."""

    sequence: int
    event: Event
    commands: tuple[Recorded, ...]
    engine: Engine
    closed_ms: int | None  # the instant, when the entry closed bars while trading
    decisions: tuple[Decision, ...]
    divergence: Divergence | None


@dataclass(frozen=True, slots=True)
class Verification:
    """Report a replayed journal, up to its end or its first divergence.

    orders: that decisions gave. starts: the first entry of each start of a daemon. first_ms,
    last_ms: the market times it spans, 0 without any. events, commands: how many of each kind.
    """

    entries: int
    decisions: int
    orders: int
    equity: float
    divergence: Divergence | None
    starts: tuple[int, ...] = ()
    first_ms: int = 0
    last_ms: int = 0
    halts: int = 0
    events: Mapping[str, int] = field(default_factory=dict)
    commands: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JournalRun:
    """Hold what a report of a journal is made of; volumes: (F,) that its fills met, by fill."""

    record: RunRecord
    decisions: list[Decision]
    executions: list[Execution]
    engine: Engine
    settings: Settings
    volumes: Floats


def verify_journal(folder: Path, progress: Progress = lambda done, total: None) -> Verification:
    """Process every recorded event from the first and compare the commands it causes.

    The hash chain is checked on the way. Raises BrokenChain, JournalError or DataError for a
    journal that cannot be read.
    """
    reader = _reader(folder)
    events, commands, times = Counter[str](), Counter[str](), list[int]()
    decisions, orders, halts, step = 0, 0, 0, None
    try:
        for step in _steps(reader, folder, progress):
            decisions += len(step.decisions)
            orders += sum(len(d.orders) for d in step.decisions)
            events[type(step.event).__name__] += 1
            commands.update(type(c).__name__ for c in step.commands)
            halts += sum(isinstance(c, Alert) and c.kind is AlertKind.HALTED for c in step.commands)
            times += [at_ms] if (at_ms := event_ms(step.event)) else []
            if step.divergence is not None:
                break
    except BrokenChain as e:
        told = 0 if step is None else step.sequence
        raise BrokenChain(f"{e} (entries 1 to {told} lead to the recorded commands)") from e
    return Verification(
        entries=0 if step is None else step.sequence,
        decisions=decisions,
        orders=orders,
        equity=0.0 if step is None else step.engine.state.book.equity,
        divergence=None if step is None else step.divergence,
        starts=tuple(dict.fromkeys(first for first, _, _ in reader.runs())),
        first_ms=min(times, default=0),
        last_ms=max(times, default=0),
        halts=halts,
        events=dict(events.most_common()),
        commands=dict(commands.most_common()),
    )


def read_journal_run(folder: Path, progress: Progress = lambda done, total: None) -> JournalRun:
    """Replay a journal into the rows and decisions that a report shows.

    Raises DataError for an empty journal, else as `verify_journal`.
    """
    reader = _reader(folder)
    record, decisions, executions = RunRecord(), list[Decision](), Executions()
    last: Step | None = None
    bars: dict[int, Floats] = {}
    closes: dict[int, Floats] = {}
    taken_n = 0
    for step in _steps(reader, folder, progress):
        last = step
        rescaled_n = len(step.engine.state.rescaled)
        if isinstance(step.event, Rescaled) and rescaled_n > taken_n:  # told twice, taken once
            record.rescale(step.event)
            show_in_new_units(step.event, executions.taken, decisions)
            _rescale(bars, step.event.index, step.event.new_n / step.event.old_n)
            _rescale(closes, step.event.index, step.event.old_n / step.event.new_n)
        taken_n = rescaled_n
        if isinstance(step.event, BarsClosed):
            _see(bars, step.event, Field.VOLUME)
            if not record.times_ms:  # what warmed the daemon up stands behind the first betas
                _see(closes, step.event, Field.CLOSE)
        decisions.extend(step.decisions)
        executions.take(step.event)
        if step.closed_ms is not None:
            record.add(step.closed_ms, book_row(step.engine))
    if last is None or not record.times_ms:
        raise DataError(f"{reader.path}: nothing was traded yet, there is nothing to report")
    if closes:
        record.precede(sorted(closes), np.array([closes[at] for at in sorted(closes)]))
    settings = recorded_settings(reader)[-1][1]
    met = _volumes_met(executions.taken, bars)
    return JournalRun(record, decisions, executions.taken, last.engine, settings, met)


def _see(bars: dict[int, Floats], event: BarsClosed, field: Field) -> None:
    """Keep a field (N,) of each close; several events may tell of one, a bar never changes."""
    told = event.values[:, field]
    seen = bars.get(event.close_ms)
    bars[event.close_ms] = told.copy() if seen is None else np.where(seen == seen, seen, told)


def _rescale(bars: dict[int, Floats], index: int, times: float) -> None:
    for row in bars.values():
        row[index] *= times


def _volumes_met(executions: Sequence[Execution], bars: dict[int, Floats]) -> Floats:
    times = sorted(bars)
    fills = [one for one in executions if isinstance(one, Fill)]
    volumes = np.array([bars[at] for at in times])
    return volumes_met(fills, np.array(times, dtype=np.int64), volumes)


def _reader(folder: Path) -> JournalReader:
    path = folder / "journal.sqlite"
    if not path.exists():
        raise DataError(f"{path}: there is no journal; --state names another folder?")
    return JournalReader(path)


def _steps(reader: JournalReader, folder: Path, progress: Progress) -> Iterator[Step]:
    stretches = Stretches(universe_of(read_instruments(folder)), recorded_settings(reader))
    total = reader.entries_n
    for entry in reader.read_from(1):
        engine = stretches.at(entry)
        divergence = replay_entry(engine, entry)
        decided = tuple(c.decision for c in entry.commands if isinstance(c, Decided))
        closed_ms = _closed(engine, entry.event)
        yield Step(
            entry.sequence, entry.event, entry.commands, engine, closed_ms, decided, divergence
        )
        if entry.sequence % 256 == 0:
            progress(entry.sequence, total)


def _closed(engine: Engine, event: object) -> int | None:
    trading = engine.state.trading not in (TradingState.STARTING, TradingState.RECONCILING)
    return event.close_ms if trading and isinstance(event, BarsClosed) else None
