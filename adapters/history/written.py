"""Remember beside each stored file what was written into it, so that a damaged one can be replaced.

`.NAME.written` is one JSON object with the span, the number of rows and two SHA-256: of the content
as the file itself names it, and of all its bytes. It is a help, not a condition: a file without a
record is as valid, and a record that cannot be believed is as if it were not there. A file that was
moved aside takes its record along, which then names what has to be fetched again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from adapters.history.locks import part_of

ASIDE: Final = ".corrupt-"
_SUFFIX: Final = ".written"
_SEAL: Final = "seal"


@dataclass(frozen=True, slots=True)
class Written:
    """Say what a file held: first and last `ts` in ms and rows (0 unknown), and both SHA-256."""

    first_ms: int
    last_ms: int
    rows: int
    content: str = ""
    whole: str = ""


def record_path(path: Path) -> Path:
    """Name the record of a file."""
    return path.with_name(f".{path.name}{_SUFFIX}")


def write_record(path: Path, written: Written) -> None:
    """Replace the record of a file in one step; raises OSError."""
    text = json.dumps(asdict(written), sort_keys=True)
    record = record_path(path)
    temporary = part_of(path)
    temporary.write_text(json.dumps({**asdict(written), _SEAL: _seal(text)}), encoding="utf-8")
    temporary.replace(record)


def read_record(path: Path) -> Written | None:
    """Read the record of a file; None where there is none, or none that can be believed."""
    try:
        found = json.loads(record_path(path).read_text(encoding="utf-8"))
        seal = found.pop(_SEAL)
        written = Written(**found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return written if seal == _seal(json.dumps(found, sort_keys=True)) else None


def spoiled_bytes(path: Path, content: str | None, whole: bytes) -> str | None:
    """Say how the bytes of a file are not those that were written, or None.

    content: the SHA-256 that the file names, None where it names none. A record of other content
    says nothing: the file was replaced and its record not yet. A file in which the recorded
    content stands without being named is the recorded one with the name spoiled.
    """
    written = read_record(path)
    if written is None:
        return None
    if content is None and written.content and written.content.encode() in whole:
        content = written.content
    if content != written.content:
        return None
    found = hashlib.sha256(whole).hexdigest()
    if found == written.whole:
        return None
    return f"its {len(whole)} bytes have SHA-256 {found[:12]}.., written was {written.whole[:12]}.."


def move_record(path: Path, aside: Path, span: tuple[int, int] | None) -> None:
    """Let a record follow its file aside; raises OSError.

    span: what the damaged file still says of its first and last `ts`, for want of a record. Where
    nothing is known its neighbours are the best guess: files of one folder and kind are fetched
    together.
    """
    written = read_record(path) or (None if span is None else Written(*span, rows=0))
    written = written or _like_neighbours(path)
    record_path(path).unlink(missing_ok=True)
    if written is not None:
        write_record(aside, written)


def lost(path: Path) -> list[tuple[Path, Written]]:
    """List what files of this name that were moved aside had held and nobody fetched again yet."""
    names = sorted(path.parent.glob(f".{path.name}{ASIDE}*{_SUFFIX}"))
    asides = (p.with_name(p.name[1:].removesuffix(_SUFFIX)) for p in names)
    return [(one, w) for one in asides if (w := read_record(one)) is not None]


def lost_files(folder: Path, ending: str) -> list[Path]:
    """List the files of a folder, by the end of their names, of which something is lost."""
    found = set()
    for record in folder.glob(f".*{ending}{ASIDE}*{_SUFFIX}"):
        found.add(record.with_name(record.name[1:].partition(ASIDE)[0]))
    return sorted(found)


def forget(asides: Iterable[Path]) -> None:
    """Drop the records of files that were fetched again; the files stay for a person to look at."""
    for aside in asides:
        record_path(aside).unlink(missing_ok=True)


def span_of(written: Sequence[Written]) -> tuple[int, int] | None:
    """Give the first and last `ts` of several records, None without any."""
    if not written:
        return None
    return min(one.first_ms for one in written), max(one.last_ms for one in written)


def _like_neighbours(path: Path) -> Written | None:
    ending = path.name.rpartition("-")[2]
    there = (p for p in path.parent.glob(f"*-{ending}") if p != path)
    span = span_of([w for p in there if (w := read_record(p)) is not None])
    return None if span is None else Written(*span, rows=0)


def _seal(text: str) -> str:
    return hashlib.sha256(f"written/1 {text}".encode()).hexdigest()[:16]
