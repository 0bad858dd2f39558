"""Small private files that are whole or not there, whatever ends the writer in the middle.

A file is written beside its place, forced to the disk, put in its place, and the folder is forced
to the disk too. Names that begin with a dot are such unfinished files; readers pass them over.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from daemon.domain.failures import ConfigurationError, CorruptFile

BYTES_MAX: Final = 16_384
FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
UNFINISHED: Final = "."


def private_folder(folder: Path, *, parents: bool = False) -> None:
    """Make a folder that only its owner may enter, or make an existing one so.

    Raises ConfigurationError when it is no folder or somebody else's.
    """
    folder.mkdir(mode=FOLDER_MODE, parents=parents, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigurationError(f"{folder} must be a folder of the user who runs the daemon")
    if stat.S_IMODE(found.st_mode) != FOLDER_MODE:
        folder.chmod(FOLDER_MODE)


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in its place, over one that is there."""
    unfinished = _unfinished(path, content)
    try:
        unfinished.replace(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    force_folder(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Put a file in its place; raises FileExistsError when one is there, which stays as it is."""
    unfinished = _unfinished(path, content)
    try:
        os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    force_folder(path.parent)


def read_private(path: Path) -> bytes:
    """Read a small file that only we can have written.

    Raises FileNotFoundError, CorruptFile when it is not a plain small file of ours that nobody else
    may write, and OSError where the disk refuses.
    """
    # A named pipe must not hold us up, and a link may lead anywhere.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise CorruptFile(f"{path} is no plain file")
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise CorruptFile(f"{path} can be written by somebody else")
        content = os.read(descriptor, BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > BYTES_MAX:
        raise CorruptFile(f"{path} is longer than {BYTES_MAX} bytes")
    return content


def force_folder(folder: Path) -> None:
    """Make sure that what was put into or taken out of a folder survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unfinished(path: Path, content: bytes) -> Path:
    """Write the content beside its place and force it to the disk."""
    unfinished = path.with_name(f"{UNFINISHED}{path.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, FILE_MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    return unfinished
