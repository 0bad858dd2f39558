"""What look-ahead tests leave behind: the latest counts, half a line goes, damage is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.leak_tests import (
    LeakTestEntry,
    append_leak_test,
    leak_tests_path,
    read_leak_tests,
)
from daemon.domain.failures import ConfigurationError, CorruptFile


def entry(verdict: str, decisions_n: int = 10) -> LeakTestEntry:
    return LeakTestEntry("c", "d", verdict, 8, decisions_n, "1.0")


def test_lines_come_back_in_order_and_no_file_is_no_test(tmp_path: Path) -> None:
    path = leak_tests_path(tmp_path / "new" / "trials.jsonl")
    assert path.name == "trials.lookahead.jsonl"
    assert read_leak_tests(path) == []
    for one in (entry("clean"), entry("leak", 3)):
        append_leak_test(path, one)
    assert read_leak_tests(path) == [entry("clean"), entry("leak", 3)]


def test_a_line_that_a_kill_cut_off_is_passed_over_and_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    append_leak_test(path, entry("clean"))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert read_leak_tests(path) == [entry("clean")]
    append_leak_test(path, entry("leak"))
    assert read_leak_tests(path) == [entry("clean"), entry("leak")]
    assert path.read_bytes().startswith(whole)


def test_other_damage_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    append_leak_test(path, entry("clean"))
    path.write_bytes(path.read_bytes() + b'{"verdict":"clean"}\n')
    with pytest.raises(CorruptFile, match=r"t\.jsonl, line 2"):
        read_leak_tests(path)


def test_a_file_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="accepted: a file that this user may write"):
        append_leak_test(tmp_path, entry("clean"))
