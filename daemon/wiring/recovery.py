"""Where a book stands: its journal replayed, each stretch with the settings it was made with.

Settings may change between two starts. What was journalled is replayed as it was; only then the
state moves into an engine with today's settings, before anything new is written. What cannot move
(other bars, other timeframes) is refused with the key's name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog

from adapters.journal import JournalReader
from daemon import codec
from daemon.domain.failures import ConfigurationError, JournalError
from daemon.domain.instrument import Universe
from daemon.domain.log_events import LogEvent
from daemon.domain.units import Timeframe
from daemon.engine.engine import Engine
from daemon.engine.state import SCHEMA
from daemon.ports import Entry
from daemon.runtime.recovery import Recovered, replay_entry
from daemon.settings import Settings, load_settings
from daemon.wiring.core import engine_of

log = structlog.get_logger()


def recorded_settings(reader: JournalReader) -> list[tuple[int, Settings]]:
    """Give the settings of each start and the first entry they were in force at.

    Raises JournalError when this version cannot read them: then it cannot replay either.
    """
    found = []
    for first, _, text in reader.runs():
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / f"settings recorded at entry {first}.toml"
            path.write_text(text, encoding="utf-8")
            try:
                found.append((first, load_settings([path], environment={})))
            except ConfigurationError as e:
                raise JournalError(
                    f"{reader.path}: recorded by another version, with settings that this one does "
                    f"not have; name another run.state_folder for a new book\n{e}"
                ) from e
    return found


def recovered_engine(
    settings: Settings, universe: Universe, path: Path
) -> tuple[Engine, Recovered]:
    """Bring an engine with today's settings to where the journal at `path` ends.

    Raises JournalError when a recorded entry cannot be reproduced, ConfigurationError when the
    state cannot move into today's settings; nothing has been written then.
    """
    if not path.exists():
        return _engine(settings, universe), Recovered(0, 0)
    reader = JournalReader(path)
    starts = recorded_settings(reader)
    snapshot = reader.last_snapshot()
    for problem in reader.snapshot_problems:
        log.warning(LogEvent.SNAPSHOT_PASSED_OVER, problem=problem)
    if snapshot is not None and snapshot.schema != SCHEMA:  # the journal has it all
        problem = f"snapshot {snapshot.sequence} has schema {snapshot.schema}, this is {SCHEMA}"
        log.warning(LogEvent.SNAPSHOT_PASSED_OVER, problem=problem)
        snapshot = None
    sequence = snapshot.sequence if snapshot is not None else 0
    before = [s for first, s in starts if first <= sequence]
    stretch = Stretches(universe, [s for s in starts if s[0] > sequence])
    stretch.begin(before[-1] if before else (starts[0][1] if starts else settings))
    if snapshot is not None:
        stretch.engine.restore(codec.decode(snapshot.state, dict[str, Any]))
    tail_n = 0
    for entry in reader.read_from(sequence + 1):
        divergence = replay_entry(stretch.at(entry), entry)
        if divergence is not None:
            raise JournalError(f"recovery stopped, the journal cannot be reproduced: {divergence}")
        tail_n += 1
    return stretch.moved_to(settings), Recovered(sequence, tail_n)


class Stretches:
    """Hold the engine of the present stretch and move its state on at every recorded start."""

    def __init__(self, universe: Universe, starts: list[tuple[int, Settings]]) -> None:
        self._universe = universe
        self._starts: Iterator[tuple[int, Settings]] = iter(starts)
        self._next = next(self._starts, None)
        self._settings: Settings | None = None
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """Give the engine of the present stretch; raises JournalError before the first start."""
        if self._engine is None:
            raise JournalError("no start of a daemon is recorded before the first entry")
        return self._engine

    def begin(self, settings: Settings) -> None:
        """Start with a fresh engine."""
        self._engine, self._settings = _engine(settings, self._universe), settings

    def at(self, entry: Entry) -> Engine:
        """Give the engine that this entry belongs to."""
        while self._next is not None and self._next[0] <= entry.sequence:
            self.moved_to(self._next[1])
            self._next = next(self._starts, None)
        return self.engine

    def moved_to(self, settings: Settings) -> Engine:
        """Move the state into an engine with other settings; the same engine if nothing changed.

        What was reloaded meanwhile ends with it: a start goes by the settings it was given.
        """
        if self._engine is None or self._settings is None:
            self.begin(settings)
        elif deciding(settings) != deciding(self._settings) or self._engine.state.changed:
            refuse_other_bars(settings, self._settings)
            before = self._engine
            self.begin(settings)
            self.engine.take_over(before)
        self._settings = settings
        return self.engine


def deciding(settings: Settings) -> dict[str, Any]:
    """Give the part of the settings that an engine is built from."""
    sections = (
        settings.market,
        settings.strategy,
        settings.risk,
        settings.paper,
        settings.execution,
    )
    ripe = settings.universe.model_dump(
        include={"age_days_min", "day_volume_min", "volume_rank_max"}
    )
    account = settings.live.model_dump(include={"foreign", "unread_max_s"})
    rest = {"ripeness": ripe, "live": account}
    return {**{type(s).__name__: s.model_dump() for s in sections}, **rest}


def refuse_other_bars(wanted: Settings, book: Settings) -> None:
    """Raise ConfigurationError when settings ask for other bars than a book was begun with."""
    for key in ("source", "timeframes"):
        new, old = getattr(wanted.market, key), getattr(book.market, key)
        if new != old:
            raise ConfigurationError(
                f"market.{key} = {_text(new)}: this book was begun with {_text(old)}; keep that, "
                "or name another run.state_folder for a new book"
            )


def _text(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)


def _engine(settings: Settings, universe: Universe) -> Engine:
    return engine_of(settings, universe, Timeframe.parse(settings.market.source))
