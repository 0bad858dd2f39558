"""Turn journal entries into rows of bytes and back, and link them into a chain.

    chain_0 = sha256("equipoise journal 1")
    chain_n = sha256(chain_(n-1) | n as 8 bytes, big end first | body_n)

The body is MessagePack of (event, [commands]), each written by `daemon.codec`. Estimate commands
are kept as RecordedEstimate: their windows follow from the recorded bars and would fill the disk.
On disk a body is one mark (0 plain, 1 zlib) and its bytes; the chain is over the plain bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

from daemon import codec
from daemon.domain import messages
from daemon.domain.failures import BadPayload
from daemon.domain.messages import Command, Event, Recorded, event_ms
from daemon.ports import Entry

_PLAIN: Final = b"\0"
_ZLIB: Final = b"\1"
_ZLIB_LEVEL: Final = 1  # bodies are mostly floats and field names: higher levels win little
_ZLIB_FROM_BYTES: Final = 256
GENESIS: Final = hashlib.sha256(b"equipoise journal 1").digest()


@dataclass(frozen=True, slots=True)
class Row:
    """Hold an encoded entry whose place in the chain is not known yet.

    kind: the event's type. at_ms: its market time. decided_ms: as_of of a Decided among the
    commands, or None. The three are only there to find entries; the body is what counts.
    """

    kind: str
    at_ms: int
    decided_ms: int | None
    body: bytes


def encode_row(event: Event, commands: Sequence[Command]) -> Row:
    """Write an event and its commands as one row."""
    kept = [codec.recorded(command) for command in commands]
    encoded = [codec.encode_message(command) for command in kept]
    body = codec.encode((codec.encode_message(event), encoded))
    return Row(type(event).__name__, event_ms(event), decided_ms(kept), body)


def decode_body(body: bytes) -> tuple[Event, tuple[Recorded, ...]]:
    """Read what `encode_row` wrote; raise BadPayload when it is something else."""
    head, tail = codec.decode(body, tuple[bytes, list[bytes]])
    event = codec.decode_message(head)
    if not isinstance(event, Event):
        raise BadPayload(f"a {type(event).__name__} stands where an event must be")
    commands = [codec.decode_message(raw) for raw in tail]
    strange = [type(c).__name__ for c in commands if not isinstance(c, Recorded)]
    if strange:
        raise BadPayload(f"{', '.join(strange)} among the commands")
    return event, cast("tuple[Recorded, ...]", tuple(commands))


def pack(body: bytes) -> bytes:
    """Give the form in which a body lies on the disk."""
    if len(body) < _ZLIB_FROM_BYTES:
        return _PLAIN + body
    return _ZLIB + zlib.compress(body, _ZLIB_LEVEL)


def unpack(stored: object) -> bytes | None:
    """Read what `pack` made; None when it is something else."""
    if not isinstance(stored, bytes):
        return None
    if stored[:1] == _PLAIN:
        return stored[1:]
    try:
        return zlib.decompress(stored[1:]) if stored[:1] == _ZLIB else None
    except zlib.error:
        return None


def link(previous: bytes, sequence: int, body: bytes) -> bytes:
    """Give the chain value of entry `sequence`, which follows the value `previous`."""
    return hashlib.sha256(previous + sequence.to_bytes(8, "big") + body).digest()


def make_entry(sequence: int, body: bytes, chain: bytes) -> Entry:
    """Read a row back as an Entry."""
    event, commands = decode_body(body)
    return Entry(sequence, event, commands, chain)


def decided_ms(commands: Sequence[Recorded]) -> int | None:
    """Give the instant of the decision among the commands, or None."""
    for command in commands:
        if isinstance(command, messages.Decided):
            return command.decision.as_of_ms
    return None
