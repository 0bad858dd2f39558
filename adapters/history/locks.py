"""Let one writer at a time change a stored file: read it, merge, replace it.

The lock is an advisory `flock` on `.NAME.lock` beside the file, which the kernel drops when the
process ends in any way; the empty lock file stays. Who holds it may be any process or thread of
this machine. Readers need no lock: a file is replaced in one step.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from daemon.domain.failures import DataError

_PART: Final = ".part"
_numbers = itertools.count()


class _Held(threading.local):
    """Remember what this thread holds, so that it may ask again for what it has."""

    def __init__(self) -> None:
        self.paths: set[str] = set()


_held = _Held()


@contextlib.contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Wait until nobody else writes a file, then keep others out; may be nested.

    Nothing may be awaited inside. Raises DataError when the disk refuses the lock file.
    """
    name = str(path.absolute())
    if name in _held.paths:
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise DataError(f"{path}: cannot be written: {e}") from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _held.paths.add(name)
        _drop_leftovers(path)
        yield
    finally:
        _held.paths.discard(name)
        os.close(descriptor)


def lock_path(path: Path) -> Path:
    """Name the lock of a file."""
    return path.with_name(f".{path.name}.lock")


def part_of(path: Path) -> Path:
    """Name a temporary file beside a file that no other writer uses."""
    return path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}{_PART}")


def _drop_leftovers(path: Path) -> None:
    """Remove what killed writers left: while the file is locked nobody else writes one."""
    for left in path.parent.glob(f".{path.name}.*{_PART}"):
        with contextlib.suppress(OSError):  # it only takes room
            left.unlink()
