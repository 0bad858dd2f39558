"""Keep every trial that was ever run, one JSON line each, so that none is forgotten.

Many processes may append at once: each takes the kernel's lock on the file, writes one line with
its CRC-32 and waits for the disk. A line that a kill cut off can only be the last one: readers pass
over it, the next writer takes it away (or ends it, where only the line's end was missing). Any
other damage is an error that names file and line; nothing is guessed and nothing is skipped.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from daemon.domain.failures import ConfigurationError, CorruptFile, JournalError

SCHEMA: Final = 1
TRIAL_LINE_CUT: Final = "trial_line_cut"
TRIAL_LINE_ENDED: Final = "trial_line_ended"
TRIAL_LEDGER_BEGUN: Final = "trial_ledger_begun"
_HEAD: Final = b'{"crc":"'  # every line begins so; nothing that does not is ever cut away
_CRC_DIGITS: Final = 8
_BODY_AT: Final = len(_HEAD) + _CRC_DIGITS + len(b'","trial":')
_CHUNK_BYTES: Final = 1 << 16

_log = structlog.get_logger()


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold what a training printed: its model's id and kind, and its figures by timeframe."""

    model: str
    kind: str
    scores: Sequence[Mapping[str, object]]


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold one trial: what was run on which data, and what it brought on each UTC day.

    id: of configuration and data together; the same twice is a repeat. anchors: samples of the
    market's content, by which two trials are known to have seen the same prices. is_stress: an idea
    that was tried already, in a harsher or milder world, and so no further attempt. days: (T,) days
    since 1970-01-01, rising; returns: (T,) fractions. sharpe: annual, None where it is not defined.
    training: what was trained where nothing was traded, which leaves no days; None otherwise.
    """

    id: str
    command: str
    configuration_fingerprint: str
    data_fingerprint: str
    configuration: Mapping[str, object]
    symbols: Sequence[str]
    anchors: Sequence[str]
    first_ms: int
    last_ms: int
    days: Sequence[int]
    returns: Sequence[float]
    sharpe: float | None
    code_version: str
    logged_ms: int
    is_stress: bool = False
    training: Training | None = None
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Logged:
    """Hold all whole lines in the order of writing; torn_bytes: of a last line that was cut off."""

    trials: tuple[Trial, ...]
    torn_bytes: int = 0


class TrialLedger:
    """Append to and read one ledger file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(self) -> None:
        """Make the file unless it is there, and make sure that it can be written and is a ledger.

        Raises ConfigurationError or CorruptFile. To be called before a long run, not after it.
        """
        with self._opened() as descriptor:
            self._mend(descriptor)

    def append(self, trial: Trial) -> None:
        """Write one line and wait for the disk; what a kill left of another one is taken away."""
        line = _line_of(trial)
        with self._opened() as descriptor:
            self._mend(descriptor)
            start = os.lseek(descriptor, 0, os.SEEK_END)
            try:
                _write_all(descriptor, line)
                os.fsync(descriptor)
            except OSError as e:
                os.ftruncate(descriptor, start)  # a full disk must not leave half a line
                raise JournalError(f"{self.path}: the trial cannot be logged: {e.strerror}") from e

    def read(self) -> Logged:
        """Read all trials, none where there is no file; raises CorruptFile naming file and line."""
        try:
            with self.path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                raw = file.read()
        except FileNotFoundError:
            return Logged(())
        except OSError as e:
            raise JournalError(f"{self.path}: {e.strerror}") from e
        whole, _, rest = raw.rpartition(b"\n")
        if rest and not _is_ours(rest):
            raise self._foreign(raw.count(b"\n") + 1)
        lines = whole.split(b"\n") if whole else []
        trials = [self._trial(line, number) for number, line in enumerate(lines, start=1)]
        if rest and _is_whole(rest):  # only the line's end is missing
            return Logged((*trials, self._trial(rest, len(lines) + 1)))
        return Logged(tuple(trials), len(rest))

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the file for us alone."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as e:
            raise ConfigurationError(
                f"evaluation.trials_file = {str(self.path)!r}: {e.strerror}; accepted: a file that "
                "this user may write"
            ) from e
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if is_new:
                _sync_folder(self.path.parent)
                _log.warning(TRIAL_LEDGER_BEGUN, file=str(self.path))
            yield descriptor
        finally:
            os.close(descriptor)  # lets the lock go, too

    def _mend(self, descriptor: int) -> None:
        """Take away the rest of a line that was never finished; other damage is left as it is."""
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if size and not _is_ours(os.pread(descriptor, len(_HEAD), 0)):
            raise self._foreign(1)
        rest = _after_last_newline(descriptor, size)
        if not rest:
            return
        if not _is_ours(rest):
            raise CorruptFile(f"{self.path}: its last line is no trial; nothing was changed")
        if _is_whole(rest):
            os.pwrite(descriptor, b"\n", size)
            _log.warning(TRIAL_LINE_ENDED, file=str(self.path))
        else:
            os.ftruncate(descriptor, size - len(rest))
            _log.warning(TRIAL_LINE_CUT, file=str(self.path), lost_bytes=len(rest))
        os.fsync(descriptor)

    def _foreign(self, number: int) -> CorruptFile:
        return CorruptFile(
            f"{self.path}, line {number}: no trial ledger; evaluation.trials_file must name one of "
            "ours or a file that does not exist yet"
        )

    def _trial(self, line: bytes, number: int) -> Trial:
        if not _is_whole(line):
            raise CorruptFile(
                f"{self.path}, line {number}: damaged (its checksum does not fit); put back a copy "
                "of the file, or take the line out by hand and say so where results are shown"
            )
        try:
            trial = msgspec.json.decode(line[_BODY_AT:-1], type=Trial)
        except msgspec.DecodeError as e:
            raise CorruptFile(f"{self.path}, line {number}: {e}") from e
        if trial.schema != SCHEMA or len(trial.days) != len(trial.returns):
            raise CorruptFile(
                f"{self.path}, line {number}: schema {trial.schema} with {len(trial.days)} days and"
                f" {len(trial.returns)} returns; accepted: schema {SCHEMA}, as many of both"
            )
        return trial


def _line_of(trial: Trial) -> bytes:
    body = msgspec.json.encode(trial)
    return _head_of(body) + body + b"}\n"


def _head_of(body: bytes) -> bytes:
    return _HEAD + f'{zlib.crc32(body):08x}","trial":'.encode()


def _is_ours(line: bytes) -> bool:
    """Tell whether the line, or as much of it as is there, begins like one of ours."""
    # after a power cut a file may be longer than what reached the disk: the rest reads as zeros
    seen = line.rstrip(b"\0")[: len(_HEAD)]
    return _HEAD.startswith(seen)


def _is_whole(line: bytes) -> bool:
    body = line[_BODY_AT:-1]
    return line[-1:] == b"}" and line[:_BODY_AT] == _head_of(body)


def _after_last_newline(descriptor: int, size: int) -> bytes:
    rest, end = b"", size
    while end:
        start = max(end - _CHUNK_BYTES, 0)
        _, newline, after = os.pread(descriptor, end - start, start).rpartition(b"\n")
        rest, end = after + rest, (0 if newline else start)
    return rest


def _write_all(descriptor: int, line: bytes) -> None:
    left = memoryview(line)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_folder(folder: Path) -> None:
    """Make a new file durable: the folder's own entry must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
