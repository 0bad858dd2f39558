"""No trial is lost: not to other processes, not to kill -9, not to a full disk, not silently."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.trial_ledger import (
    TRIAL_LEDGER_BEGUN,
    Logged,
    Training,
    Trial,
    TrialLedger,
)
from daemon.domain.failures import ConfigurationError, CorruptFile, JournalError
from tests.adapters.trial_samples import trial

ROOT = Path(__file__).resolve().parents[2]
LARGE_DAYS = 60_000  # lines of a megabyte, which take long enough to be cut by a kill
KILLS_MAX = 20


def ledger_with(folder: Path, count: int) -> TrialLedger:
    ledger = TrialLedger(folder / "state" / "trials.jsonl")
    for number in range(count):
        ledger.append(trial(number))
    return ledger


def writer(path: Path, first: int, count: int, days: int = 5) -> subprocess.Popen[str]:
    """Start a process that logs trials."""
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.adapters.trial_samples",
            *map(str, (path, first, count, days)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def numbers(logged: Logged) -> list[int]:
    return [int(one.id, 16) for one in logged.trials]


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 3)
    assert ledger.read() == Logged(tuple(expected(n) for n in range(3)))


def expected(number: int) -> Trial:
    """Give a trial as it comes back: sequences are lists then."""
    made = trial(number)
    as_lists = {"symbols": list(made.symbols), "anchors": list(made.anchors)}
    return Trial(**{**{name: getattr(made, name) for name in made.__struct_fields__}, **as_lists})


def test_a_ledger_that_does_not_exist_holds_nothing_and_reading_makes_none(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    assert ledger.read() == Logged(())
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60)
@given(count=st.integers(1, 4), share=st.floats(0, 1), twice=st.booleans())
def test_a_cut_last_line_costs_no_other_one(
    tmp_path_factory: pytest.TempPathFactory, count: int, share: float, *, twice: bool
) -> None:
    ledger = ledger_with(tmp_path_factory.mktemp("cut"), count)
    raw = ledger.path.read_bytes()
    last = raw.rindex(b"\n", 0, -1) + 1 if count > 1 else 0
    end = last + round(share * (len(raw) - last))
    ledger.path.write_bytes(raw[:end])
    whole = count if end >= len(raw) - 1 else count - 1  # a line that lacks its end only is whole
    read = ledger.read()
    assert numbers(read) == list(range(whole))
    assert read.torn_bytes == (0 if whole == count else end - last)
    assert ledger.path.read_bytes() == raw[:end], "reading mends nothing"
    for _ in range(2 if twice else 1):
        ledger.append(trial(9))
    assert numbers(ledger.read()) == [*range(whole), *([9, 9] if twice else [9])]
    assert ledger.read().torn_bytes == 0


@settings(max_examples=100)
@given(at=st.integers(0), flip=st.integers(1, 255))
def test_a_changed_byte_is_never_read_as_another_result(
    tmp_path_factory: pytest.TempPathFactory, at: int, flip: int
) -> None:
    ledger = ledger_with(tmp_path_factory.mktemp("flip"), 3)
    before = ledger.read().trials
    raw = bytearray(ledger.path.read_bytes())
    at %= len(raw)
    raw[at] ^= flip
    ledger.path.write_bytes(raw)
    line = raw[:at].count(b"\n") + 1
    if at == len(raw) - 1:  # the very end of the file: the last line looks cut off
        read = ledger.read()
        assert read.trials == before[:2]
        assert read.torn_bytes > 0
    else:
        with pytest.raises(CorruptFile, match=rf"trials\.jsonl, line {line}: "):
            ledger.read()


def test_a_file_that_is_no_ledger_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary", encoding="utf-8")
    ledger = TrialLedger(path)
    for act in (ledger.prepare, ledger.read, lambda: ledger.append(trial(1))):
        with pytest.raises(CorruptFile, match=r"notes\.txt, line 1: no trial ledger"):
            act()
    assert path.read_text(encoding="utf-8") == "dear diary"


def test_a_foreign_last_line_is_not_cut_away(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 2)
    raw = ledger.path.read_bytes() + b"by hand"
    ledger.path.write_bytes(raw)
    with pytest.raises(CorruptFile, match="last line is no trial"):
        ledger.append(trial(2))
    with pytest.raises(CorruptFile, match="line 3"):
        ledger.read()
    assert ledger.path.read_bytes() == raw


def test_zeros_that_a_power_cut_left_behind_are_taken_away(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 2)
    with ledger.path.open("ab") as file:
        file.write(b'{"crc":"12' + bytes(500))
    assert ledger.read().torn_bytes == 510
    ledger.append(trial(2))
    assert numbers(ledger.read()) == [0, 1, 2]


def test_a_ledger_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"evaluation\.trials_file = '.*file/trials"):
        TrialLedger(tmp_path / "file" / "trials.jsonl").prepare()


def test_processes_that_log_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    writers = [writer(path, 100 * one, 40, days=2_000) for one in range(3)]
    for running in writers:
        running.communicate(timeout=60)
        assert running.returncode == 0
    found = numbers(TrialLedger(path).read())
    for one in range(3):  # each process's own in its order
        assert [n for n in found if n // 100 == one] == list(range(100 * one, 100 * one + 40))
    assert len(found) == 120


def told_by(lines: Iterable[str]) -> list[int]:
    """Give the numbers among the lines; the others are log lines."""
    return [int(line) for line in lines if line.endswith("\n") and line.strip().isdigit()]


def test_kill_9_in_the_middle_of_writing_costs_no_trial_that_was_told(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    told: list[int] = []
    found: list[int] = []
    torn = 0
    for attempt in range(KILLS_MAX):
        with writer(path, 1000 * attempt, 1000, days=LARGE_DAYS) as running:
            assert running.stdout is not None
            while not (first := told_by([running.stdout.readline()])):
                assert running.poll() is None
            size = path.stat().st_size
            while path.stat().st_size == size:  # until it writes the next one
                assert running.poll() is None
            running.send_signal(signal.SIGKILL)
            told += first + told_by(running.stdout.readlines())
        assert running.returncode == -signal.SIGKILL
        read = TrialLedger(path).read()
        torn += read.torn_bytes > 0
        found = numbers(read)
        assert set(told) <= set(found)
        assert len(found) == len(set(found))
        if torn and attempt >= 2:
            break
    # whether a kill hits a write is chance; that a line cut anywhere is repaired has its own test
    TrialLedger(path).append(trial(7))
    after = TrialLedger(path).read()
    assert numbers(after) == [*found, 7]
    assert after.torn_bytes == 0


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    ledger = ledger_with(tmp_path, 2)
    raw = ledger.path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(raw) + 100, hard))
    try:
        with pytest.raises(JournalError, match="cannot be logged: File too large"):
            ledger.append(trial(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ledger.path.read_bytes() == raw
    assert os.access(ledger.path, os.W_OK)


def test_a_new_ledger_is_told_once_because_it_forgets_what_was_tried(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as told:
        ledger = TrialLedger(tmp_path / "state" / "trials.jsonl")
        ledger.prepare()
        ledger.append(trial(1))
        TrialLedger(ledger.path).prepare()
    assert [(one["event"], one["log_level"]) for one in told] == [(TRIAL_LEDGER_BEGUN, "warning")]
    assert told[0]["file"] == str(ledger.path)


def test_a_training_is_read_back_and_lines_from_before_trainings_are_too(tmp_path: Path) -> None:
    ledger = TrialLedger(tmp_path / "trials.jsonl")
    scores = [{"timeframe_minutes": 60, "model": {"rank_ic": 0.01, "rank_ic_t": None}}]
    made = msgspec.structs.replace(trial(1), training=Training("abc", "ridge", scores))
    ledger.append(made)
    (read,) = ledger.read().trials
    assert read.training == made.training
    raw = ledger.path.read_bytes()
    body = raw[raw.index(b'"trial":') + 8 : -2]
    old = re.sub(rb',"training":\{.*\},"schema"', b',"schema"', body)
    assert b"training" not in old
    head = b'{"crc":"' + f"{zlib.crc32(old):08x}".encode() + b'","trial":'
    ledger.path.write_bytes(head + old + b"}\n")
    assert ledger.read().trials[0].training is None
