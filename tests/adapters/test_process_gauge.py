"""What we measure of our own process is what the system says of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from adapters.process_gauge import disk_values, process_values


def test_memory_files_and_threads_agree_with_another_reader() -> None:
    values, other = process_values(), psutil.Process()
    assert isinstance(values["rss_bytes"], int)
    assert abs(values["rss_bytes"] - other.memory_info().rss) < 64 << 20
    assert values["fds_n"] == other.num_fds() - 1  # it counts its own look
    assert values["threads_n"] == other.num_threads()


def test_an_open_file_is_counted(tmp_path: Path) -> None:
    before = process_values()["fds_n"]
    descriptor = os.open(tmp_path, os.O_RDONLY)
    after = process_values()["fds_n"]
    os.close(descriptor)
    assert isinstance(before, int)
    assert after == before + 1


def test_the_journal_counts_with_its_log_and_a_missing_one_is_absent(tmp_path: Path) -> None:
    assert "journal_bytes" not in disk_values(tmp_path)
    (tmp_path / "journal.sqlite").write_bytes(b"x" * 1000)
    (tmp_path / "journal.sqlite-wal").write_bytes(b"x" * 500)
    values = disk_values(tmp_path)
    assert values["journal_bytes"] == 1500
    assert values["disk_total_bytes"] == shutil.disk_usage(tmp_path).total


def test_a_folder_that_is_gone_tells_nothing(tmp_path: Path) -> None:
    assert disk_values(tmp_path / "gone") == {}
