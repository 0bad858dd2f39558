"""Let one process at a time own a state folder, or an account.

The lock is an advisory `flock` on a file in the folder: the kernel drops it when the process ends
in any way, `kill -9` included, so a stale lock cannot exist. The file stays and names its owner.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from daemon.domain.failures import AlreadyRunning, ConfigurationError

LOCK_NAME: Final = "daemon.lock"


class StateLock:
    """Hold a state folder from `acquire` to `release`, or as a context.

    account: held instead, by a file of this name in a folder that all its daemons share.
    """

    def __init__(self, folder: Path, name: str = LOCK_NAME, account: str = "") -> None:
        self.folder = folder
        self.path = folder / name
        self._what = f"account {account}" if account else f"state folder {folder}"
        self._instead = "an account" if account else "a state folder"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the folder, creating it if need be.

        Raises AlreadyRunning, naming the owner's process id and what it holds, and
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
                f"{self._what} is in use by process {owner or 'unknown'}: stop it, or give this "
                f"one {self._instead} of its own"
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


def owner_of(folder: Path) -> int | None:
    """Give the id of the process that holds a state folder, None while nobody does.

    Raises ConfigurationError where the lock cannot be read or does not name its holder.
    """
    path = folder / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ConfigurationError(f"{path}: {e.strerror}") from e
    try:
        if _is_free(descriptor):
            return None
        text = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigurationError(f"{path} is held, and does not name by whom: {text!r}")
    return int(text)


def end_owner(folder: Path, number: signal.Signals) -> bool:
    """Send a signal to the process that holds a state folder; False when nobody does.

    The id alone is not believed: the signal goes to a process that has this very lock open, by a
    handle that no later process can inherit. Raises ConfigurationError where that is not so.
    """
    pid = owner_of(folder)
    if pid is None:
        return False
    if sys.platform != "linux":
        raise ConfigurationError(f"process {pid} must be ended by hand on this system")
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return owner_of(folder) is not None and _stranger(folder, pid)
    try:
        if owner_of(folder) is None:
            return False
        if not _has_open(pid, folder / LOCK_NAME):
            return _stranger(folder, pid)
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return False
    except PermissionError as e:
        raise ConfigurationError(f"process {pid} is another user's: {e.strerror}") from e
    finally:
        os.close(handle)
    return True


def _is_free(descriptor: int) -> bool:
    """Tell whether nobody holds the lock, which is ours for that instant only."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def _has_open(pid: int, path: Path) -> bool:
    wanted = path.stat()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = descriptor.stat()
        except OSError:  # it was closed meanwhile
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return True
    return False


def _stranger(folder: Path, pid: int) -> bool:
    raise ConfigurationError(
        f"the lock of {folder} is held, but not by process {pid} as it says (another container?): "
        "end the daemon by hand"
    )


_held: set[int] = set()


def _let_go_in_child() -> None:
    # A forked worker shares the descriptor and would keep the lock alive after our death.
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
