"""Keep what look-ahead tests showed, one JSON line each, beside the ledger of trials.

Only the latest line of a configuration on its data counts. A last line that a kill cut off is
passed over; any other line that cannot be read is an error that names file and line.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import msgspec

from daemon.domain.failures import ConfigurationError, CorruptFile


class LeakTestEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold one test: of which configuration on which data, by which version, and its verdict."""

    configuration_fingerprint: str
    data_fingerprint: str
    verdict: str
    cuts_n: int
    decisions_n: int
    code_version: str


def leak_tests_path(trials_file: Path) -> Path:
    """Give the file that belongs to a ledger of trials: trials.lookahead.jsonl."""
    return trials_file.with_suffix(f".lookahead{trials_file.suffix}")


def append_leak_test(path: Path, entry: LeakTestEntry) -> None:
    """Write one line and wait for the disk; raises ConfigurationError where that is refused."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)  # what a kill cut off goes
            file.write(msgspec.json.encode(entry) + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as e:
        raise ConfigurationError(
            f"{path}: {e.strerror}; accepted: a file that this user may write"
        ) from e


def read_leak_tests(path: Path) -> list[LeakTestEntry]:
    """Read all whole lines, none where there is no file; raises CorruptFile for damage."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # after the last end only what was cut off
    except FileNotFoundError:
        return []
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(msgspec.json.decode(line, type=LeakTestEntry))
        except msgspec.DecodeError as e:
            raise CorruptFile(f"{path}, line {number}: {e}") from e
    return found
