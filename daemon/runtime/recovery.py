"""Starting is recovering: newest valid snapshot, then the journal's tail, replayed and checked.

The tail's events are processed again without carrying anything out; the commands they cause must be
the ones the journal recorded, otherwise the state cannot be trusted and the start stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from daemon import codec
from daemon.domain.failures import JournalError
from daemon.domain.messages import event_ms
from daemon.engine.engine import Engine
from daemon.ports import Entry, Journal
from daemon.runtime.divergence import Divergence as Divergence
from daemon.runtime.divergence import diverged
from daemon.runtime.divergence import fingerprint as fingerprint


@dataclass(frozen=True, slots=True)
class Recovered:
    """Report what recovery found: where the snapshot stood and how long the tail was."""

    snapshot_sequence: int
    tail_n: int


def replay_entry(engine: Engine, entry: Entry) -> Divergence | None:
    """Process one recorded event; None when the commands are the recorded ones."""
    event = entry.event
    replayed = engine.process(event)
    kind = type(event).__name__
    return diverged(entry.sequence, kind, event_ms(event), entry.commands, replayed)


def recover(engine: Engine, journal: Journal) -> Recovered:
    """Bring a fresh engine to where the journal ends.

    Raises JournalError when the replayed commands differ from the recorded ones.
    """
    snapshot = journal.last_snapshot()
    sequence = 0
    if snapshot is not None:
        engine.restore(codec.decode(snapshot.state, dict[str, Any]))
        sequence = snapshot.sequence
    tail_n = 0
    for entry in journal.read_from(sequence + 1):
        divergence = replay_entry(engine, entry)
        if divergence is not None:
            raise JournalError(f"recovery stopped, the journal cannot be reproduced: {divergence}")
        tail_n += 1
    return Recovered(sequence, tail_n)


def save_bytes(engine: Engine) -> bytes:
    """Give the engine's state as bytes for a snapshot."""
    return codec.encode(engine.state.to_plain())
