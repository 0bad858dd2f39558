"""Keep a folder as one tar file that proves itself: a manifest, its hash, then the files.

    manifest.json     what the caller says, and size and SHA-256 of every file
    manifest.sha256   of the manifest
    <name> ...        the files, in the manifest's order, and nothing else

A file appears under its name only when it is whole and on the disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final

from daemon.domain.failures import ConfigurationError, CorruptFile

MANIFEST: Final = "manifest.json"
SEAL: Final = "manifest.sha256"
FORMAT_VERSION: Final = 1
FILE_MODE: Final = 0o600
MANIFEST_BYTES_MAX: Final = 64 << 20
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Contents:
    """Hold what an archive says of itself. files: size in bytes and SHA-256 in hex by name."""

    about: Mapping[str, Any]
    files: Mapping[str, tuple[int, str]]


def pack_archive(folder: Path, about: Mapping[str, object], path: Path) -> Contents:
    """Write all files below `folder` into an archive at `path`, readable by its owner only.

    Raises ConfigurationError when something is at `path` already; it stays as it is.
    """
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    files = {name: _measured(folder / name) for name in names}
    manifest = json.dumps(
        {"format": FORMAT_VERSION, "about": about, "files": files}, indent=1, sort_keys=True
    ).encode()
    seal = f"{hashlib.sha256(manifest).hexdigest()}\n".encode()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        with os.fdopen(descriptor, "wb") as raw:
            with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _put(tar, MANIFEST, len(manifest), io.BytesIO(manifest))
                _put(tar, SEAL, len(seal), io.BytesIO(seal))
                for name, (size, _) in files.items():
                    with (folder / name).open("rb") as content:
                        _put(tar, name, size, content)
            raw.flush()
            os.fsync(raw.fileno())
        os.link(unfinished, path)  # refuses a name that is taken
    except FileExistsError:
        raise ConfigurationError(f"{path}: is there already; name another file") from None
    finally:
        unfinished.unlink(missing_ok=True)
    _force_folder(path.parent)
    return Contents(dict(about), files)


def read_contents(path: Path) -> Contents:
    """Read what an archive says of itself; raises as `unpack_archive`."""
    try:
        with tarfile.open(path, mode="r:") as tar:
            return _contents(tar, path)
    except (tarfile.TarError, EOFError) as e:
        raise _damaged(path, str(e)) from e


def unpack_archive(path: Path, folder: Path) -> Contents:
    """Write the files of an archive into an empty folder, each proven by its size and hash.

    Raises CorruptFile when anything is missing, too much, or not what the manifest says, and
    ConfigurationError for the format of a later version. The caller throws the folder away then.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            contents = _contents(tar, path)
            for name, expected in contents.files.items():
                member = tar.next()
                if member is None or member.name != name or not member.isreg():
                    raise _damaged(path, f"{name} is missing")
                goal = folder / name
                goal.parent.mkdir(parents=True, exist_ok=True)
                if member.size != expected[0] or _written(tar, member, goal) != expected[1]:
                    raise _damaged(path, f"{name} is not the file that the manifest names")
            if tar.next() is not None:
                raise _damaged(path, "it holds a file that the manifest does not name")
    except (tarfile.TarError, EOFError) as e:
        raise _damaged(path, str(e)) from e
    return contents


def _contents(tar: tarfile.TarFile, path: Path) -> Contents:
    manifest, seal = _small(tar, path, MANIFEST), _small(tar, path, SEAL)
    if seal.decode("ascii", "replace").strip() != hashlib.sha256(manifest).hexdigest():
        raise _damaged(path, "the manifest is not the one that was written")
    whole = json.loads(manifest)
    if whole["format"] != FORMAT_VERSION:
        raise ConfigurationError(
            f"{path}: a backup in format {whole['format']}, this version reads {FORMAT_VERSION}; "
            "restore it with the version that wrote it"
        )
    files = {name: (size, digest) for name, (size, digest) in whole["files"].items()}
    for name in files:
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name:
            raise _damaged(path, f"{name!r} would lie outside the folder")
    return Contents(whole["about"], files)


def _small(tar: tarfile.TarFile, path: Path, name: str) -> bytes:
    member = tar.next()
    if member is None or member.name != name or not member.isreg():
        raise _damaged(path, f"it has no {name}, so it is no backup of ours or not a whole one")
    content = tar.extractfile(member) if member.size <= MANIFEST_BYTES_MAX else None
    if content is None:
        raise _damaged(path, f"{name} is too large")
    with content:
        return content.read()


def _put(tar: tarfile.TarFile, name: str, size: int, content: IO[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, FILE_MODE
    tar.addfile(member, content)


def _written(tar: tarfile.TarFile, member: tarfile.TarInfo, goal: Path) -> str:
    """Write one file to the disk and give its SHA-256."""
    digest = hashlib.sha256()
    content = tar.extractfile(member)
    descriptor = os.open(goal, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    with os.fdopen(descriptor, "wb") as raw:
        while content is not None and (chunk := content.read(CHUNK_BYTES)):
            digest.update(chunk)
            raw.write(chunk)
        raw.flush()
        os.fsync(raw.fileno())
    return digest.hexdigest()


def _measured(path: Path) -> tuple[int, str]:
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return path.stat().st_size, digest


def _force_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damaged(path: Path, why: str) -> CorruptFile:
    return CorruptFile(f"{path}: the backup is damaged or cut short: {why}; take another one")
