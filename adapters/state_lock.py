"""Let one process at a time own a state folder.

The lock is an advisory `flock` on a file in the folder: the kernel drops it when the process ends
in any way, `kill -9` included, so a stale lock cannot exist. The file stays and names its owner.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from daemon.domain.failures import AlreadyRunning, ConfigurationError

LOCK_NAME: Final = "daemon.lock"


class StateLock:
    """Hold a state folder from `acquire` to `release`, or as a context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LOCK_NAME
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the folder, creating it if need be.

        Raises AlreadyRunning, naming the owner's process id and the folder, when it is taken, and
        ConfigurationError when the folder cannot be made or written.
        """
        if self._descriptor is not None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as e:
            raise ConfigurationError(
                f"state folder {self.folder}: {e.strerror}; name a folder that can be written"
            ) from e
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise AlreadyRunning(
                f"state folder {self.folder} is in use by process {owner or 'unknown'}: stop it, "
                "or give this one a state folder of its own"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        self._descriptor = descriptor
        _held.add(descriptor)

    def release(self) -> None:
        """Let the folder go; does nothing when it is not held."""
        if self._descriptor in _held:  # not so in a forked child, which has let go already
            _held.discard(self._descriptor)
            os.close(self._descriptor)
        self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


_held: set[int] = set()


def _let_go_in_child() -> None:
    # A forked worker shares the descriptor and would keep the lock alive after our death.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
