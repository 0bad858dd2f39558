"""Starting is recovering: newest valid snapshot, then the journal's tail, replayed and checked.

The tail's events are processed again without carrying anything out; the commands they cause must be
the ones the journal recorded, otherwise the state cannot be trusted and the start stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from daemon import codec
from daemon.domain.failures import JournalError
from daemon.domain.messages import Command, Estimate, Recorded
from daemon.engine.engine import Engine
from daemon.ports import Entry, Journal


@dataclass(frozen=True, slots=True)
class Recovered:
    """Report what recovery found: where the snapshot stood and how long the tail was."""

    snapshot_sequence: int
    tail_n: int


@dataclass(frozen=True, slots=True)
class Divergence:
    """Hold the first place where replayed commands differ from the recorded ones."""

    sequence: int
    event: str
    recorded: tuple[str, ...]
    replayed: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"entry {self.sequence} ({self.event}): recorded {list(self.recorded)}, "
            f"replayed {list(self.replayed)}"
        )


def fingerprint(command: Command | Recorded) -> bytes:
    """Give the bytes by which two commands are compared; an Estimate by its windows' digests."""
    kept = codec.recorded(command) if isinstance(command, Estimate) else command
    return codec.encode_message(kept)


def replay_entry(engine: Engine, entry: Entry) -> Divergence | None:
    """Process one recorded event; None when the commands are the recorded ones."""
    replayed = engine.process(entry.event)
    if _same(replayed, entry.commands):
        return None
    return Divergence(
        entry.sequence, type(entry.event).__name__, _names(entry.commands), _names(replayed)
    )


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


def _same(left: Sequence[Command], right: Sequence[Recorded]) -> bool:
    if len(left) != len(right):
        return False
    return all(fingerprint(a) == fingerprint(b) for a, b in zip(left, right, strict=True))


def _names(commands: Sequence[Command | Recorded]) -> tuple[str, ...]:
    return tuple(f"{type(c).__name__}:{fingerprint(c).hex()[-16:]}" for c in commands)
