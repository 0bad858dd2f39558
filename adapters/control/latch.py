"""The halt latch: while one of its files lies there, nothing may send an order.

There is one in the state folder, and for a real account one more in a folder that all daemons of
that account share. Whoever wants a halt writes the file himself, so that it holds although no
daemon listens; nothing but `clear` takes it away. A latch that cannot be read counts as set.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from adapters.control.files import (
    FILE_MODE,
    force_folder,
    private_folder,
    read_private,
    write_whole,
)
from daemon.domain.failures import CorruptFile
from daemon.domain.units import require

LATCH_NAME: Final = "halt.latch"


class Halt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Say why nothing may be sent. set_ms: UTC of the machine; 0 where the file does not tell.

    request_id: of the operator's request that set it, "" for none.
    """

    reason: str
    request_id: str = ""
    set_ms: int = 0


class Latches:
    """Hold the files of one daemon, that of the state folder first."""

    def __init__(self, files: Sequence[Path]) -> None:
        require(len(files) > 0, "a daemon has at least the latch of its state folder")
        self.files = tuple(files)

    def open(self) -> None:
        """Make the shared folders; the state folder is there."""
        for path in self.files[1:]:
            private_folder(path.parent, parents=True)

    def found(self) -> Halt | None:
        """Give the first latch that is set; one look at each file's name where none is."""
        for path in self.files:
            halt = _look(path)
            if halt is not None:
                return halt
        return None

    def set(self, halt: Halt) -> None:
        """Set every latch; raises OSError, when all were tried, where one could not be set."""
        failures: list[OSError] = []
        for path in self.files:
            try:
                _set(path, msgspec.json.encode(halt))
            except OSError as e:
                failures.append(e)
        if failures:
            raise failures[0]

    def clear(self) -> tuple[Path, ...]:
        """Take every latch away; gives those that were set. Raises OSError where one stays."""
        cleared = []
        for path in self.files:
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            force_folder(path.parent)
            cleared.append(path)
        return tuple(cleared)


def account_latch(shared: Path, venue: str, account: str) -> Path:
    """Name the latch of one account at a venue; the account's own name is not to be seen in it."""
    digest = hashlib.sha256(f"{venue}\n{account}".encode()).hexdigest()[:24]
    return shared / f"{venue}-{digest}.latch"


def _look(path: Path) -> Halt | None:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return None if path.parent.is_dir() else _unread(path, "its folder is gone")
    except OSError as e:
        return _unread(path, e.strerror or str(e))
    try:
        return msgspec.json.decode(read_private(path), type=Halt)
    except FileNotFoundError:  # taken away between the two looks
        return None
    except (CorruptFile, OSError, msgspec.DecodeError) as e:
        return _unread(path, str(e))


def _unread(path: Path, why: str) -> Halt:
    return Halt(f"the halt latch {path} cannot be read, which counts as set: {why}")


def _set(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError:
        # On a full disk an empty file still finds room, and one that says nothing counts as set.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
