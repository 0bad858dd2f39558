"""Say for people where two lists of commands differ: which one, at what, and both in words.

Commands are compared as the bytes that a journal keeps, so what is shown is read from those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from daemon import codec
from daemon.domain.messages import Command, Estimate, Recorded
from daemon.domain.units import iso

WORDS_MAX: Final = 400
NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Divergence:
    """Hold the first place where replayed commands differ from the recorded ones.

    number: of the first command that differs, from 1; commands_n: recorded and replayed. place:
    the field that differs, "" where one side has no such command or another kind. recorded,
    replayed: that command in words.
    """

    sequence: int
    event: str
    at_ms: int
    number: int
    commands_n: tuple[int, int]
    place: str
    values: tuple[str, str]
    recorded: str
    replayed: str

    def __str__(self) -> str:
        return "; ".join(self.lines())

    def lines(self) -> list[str]:
        """Write it for people, a line a fact."""
        there, here = self.commands_n
        at = f" at {iso(self.at_ms)}" if self.at_ms else ""
        where = f": {self.place} was {self.values[0]}, is {self.values[1]}" if self.place else ""
        which = f"command {self.number} of {there} recorded and {here} replayed{where}"
        return [
            f"entry {self.sequence} ({self.event}{at}): {which}",
            f"recorded {self.recorded}",
            f"replayed {self.replayed}",
        ]


def fingerprint(command: Command | Recorded) -> bytes:
    """Give the bytes by which two commands are compared; an Estimate by its windows' digests."""
    kept = codec.recorded(command) if isinstance(command, Estimate) else command
    return codec.encode_message(kept)


def diverged(
    sequence: int,
    event: str,
    at_ms: int,
    recorded: Sequence[Recorded],
    replayed: Sequence[Command],
) -> Divergence | None:
    """Compare to the byte; give the first difference, None without one."""
    ours, theirs = [fingerprint(c) for c in replayed], [fingerprint(c) for c in recorded]
    if ours == theirs:
        return None
    pairs = zip(theirs, ours, strict=False)
    same_n = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    there, here = (some[same_n] if same_n < len(some) else None for some in (theirs, ours))
    place, values = "", ("", "")
    if there is not None and here is not None:
        place, values = _first_difference(there, here)
    return Divergence(
        sequence,
        event,
        at_ms,
        same_n + 1,
        (len(theirs), len(ours)),
        place,
        values,
        _words(there),
        _words(here),
    )


def _words(command: bytes | None) -> str:
    if command is None:
        return NOTHING
    kind, body = codec.decode(command, tuple[str, Any])
    text = f"{kind} {_shown(body)}"
    return text if len(text) <= WORDS_MAX else text[: WORDS_MAX - 3] + "..."


def _shown(value: object) -> str:
    match value:
        case dict():
            told = {
                k: v for k, v in value.items() if not (v is None or (isinstance(v, str) and not v))
            }
            inner = ", ".join(f"{k} {_shown(v)}" for k, v in told.items())
            return "{" + inner + "}"
        case list():
            inner = ", ".join(_shown(one) for one in value[:4])
            return f"[{inner}{', ...' if len(value) > 4 else ''}]"
        case np.ndarray():
            return f"<{'x'.join(map(str, value.shape))} numbers>"
        case _:
            return str(value)


def _first_difference(there: bytes, here: bytes) -> tuple[str, tuple[str, str]]:
    (kind, left), (other, right) = (codec.decode(c, tuple[str, Any]) for c in (there, here))
    if kind != other:
        return "", ("", "")
    found = next(_differences(left, right, ""), None)
    return ("", ("", "")) if found is None else (found[0], (found[1], found[2]))


def _differences(left: object, right: object, place: str) -> Iterator[tuple[str, str, str]]:
    """Yield the fields that differ, in order, with both values exactly."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in dict.fromkeys([*left, *right]):
            yield from _differences(left.get(key), right.get(key), f"{place}.{key}".lstrip("."))
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (a, b) in enumerate(zip(left, right, strict=True)):
            yield from _differences(a, b, f"{place}[{number}]")
    elif isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        yield from _differing_numbers(left, right, place)
    elif codec.encode(left) != codec.encode(right):
        yield place, _exact(left), _exact(right)


def _differing_numbers(
    left: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    right: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    place: str,
) -> Iterator[tuple[str, str, str]]:
    if left.shape != right.shape or left.dtype != right.dtype:
        yield place, f"{left.dtype}{left.shape}", f"{right.dtype}{right.shape}"
        return
    for number, (a, b) in enumerate(zip(left.ravel(), right.ravel(), strict=True)):
        if a.tobytes() != b.tobytes():
            yield f"{place}[{number}]", _exact(a.item()), _exact(b.item())


def _exact(value: object) -> str:
    return _shown(value) if isinstance(value, dict | list) else repr(value)
