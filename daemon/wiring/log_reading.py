"""Read the log that a daemon keeps, and follow it while it is written, rotated and begun anew."""

from __future__ import annotations

import asyncio
import json
import os
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from daemon.domain.failures import DataError
from daemon.domain.units import instant_ms
from daemon.runtime.log_file import FILES_KEPT, log_path

LOOK_S: Final = 0.25  # between two looks at a file that tells nobody of changes
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LINE_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LogEntry:
    """Hold an entry; values are empty where the line is none of ours. at_ms: 0 where not known."""

    line: str
    values: Mapping[str, Any]
    at_ms: int

    @property
    def level(self) -> str:
        """Give the level, `info` where it is not known."""
        return str(self.values.get("level", "info"))


def entry_of(line: str) -> LogEntry:
    """Read a line."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return LogEntry(line, {}, 0)
    if not isinstance(values, dict):
        return LogEntry(line, {}, 0)
    try:
        at_ms = instant_ms(datetime.fromisoformat(str(values.get("timestamp", ""))))
    except ValueError:
        at_ms = 0
    return LogEntry(line, values, at_ms)


def kept_entries(
    state_folder: Path, *, level: str, since_ms: int, count: int | None
) -> list[LogEntry]:
    """Give the newest entries of all kept files, oldest first; DataError where there is no log."""
    path = log_path(state_folder)
    files = [path.with_name(f"{path.name}.{n}") for n in range(FILES_KEPT, 0, -1)] + [path]
    there = [file for file in files if file.exists()]
    if not there:
        raise DataError(f"{path}: there is no log; a daemon writes it while it runs")
    wanted = (e for file in there for e in _entries(file) if _is_wanted(e, level, since_ms))
    return list(wanted if count is None else deque(wanted, maxlen=count))


def _entries(file: Path) -> Iterator[LogEntry]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            yield entry_of(line.rstrip("\n"))


def _is_wanted(entry: LogEntry, level: str, since_ms: int) -> bool:
    grave = entry.level not in LEVELS or LEVELS.index(entry.level) >= LEVELS.index(level)
    return grave and entry.at_ms >= since_ms


async def following(state_folder: Path, *, level: str) -> AsyncIterator[LogEntry]:
    """Yield what is logged from now on, through rotations, restarts and a file that is not there.

    What was written between the end of an old file and its renaming is read before the new one.
    """
    path = log_path(state_folder)
    tail = _Tail(path, from_end=True)
    try:
        while True:
            for line in tail.lines():
                entry = entry_of(line)
                if _is_wanted(entry, level, 0):
                    yield entry
            await asyncio.sleep(LOOK_S)
    finally:
        tail.close()


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None


class _Tail:
    """Read a growing file by whole lines, and its follower once it was renamed or cut."""

    def __init__(self, path: Path, *, from_end: bool) -> None:
        self._path = path
        self._file = _opened(path)
        self._part = b""
        if self._file is not None and from_end:
            os.lseek(self._file, 0, os.SEEK_END)

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that came since the last call."""
        while True:
            yield from self._rest()
            if not self._is_replaced():
                return
            yield from self._rest()  # what came between the last look and the renaming
            self.close()
            self._file = _opened(self._path)
            if self._file is None:
                return

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            os.close(self._file)
        self._file, self._part = None, b""

    def _rest(self) -> Iterator[str]:
        while self._file is not None and (read := os.read(self._file, LINE_BYTES_MAX)):
            *whole, self._part = (self._part + read).split(b"\n")
            yield from (line.decode("utf-8", errors="replace") for line in whole)

    def _is_replaced(self) -> bool:
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False
        if self._file is None:
            return True
        ours = os.fstat(self._file)
        is_other = (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)
        return is_other or now.st_size < os.lseek(self._file, 0, os.SEEK_CUR)
