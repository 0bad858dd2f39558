"""Measure our own process and the disk under its state: memory, files, threads, bytes.

Linux tells most of it in /proc; elsewhere what is not told is left out, never zero. A disk that
hangs makes this hang too, so that callers run it in a thread.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import threading
from pathlib import Path
from typing import Final

JOURNAL_FILES: Final = ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm")
_SELF: Final = Path("/proc/self")


def process_values() -> dict[str, object]:
    """Give rss_bytes, cpu_s, fds_n, fds_max and threads_n of this process, as far as known."""
    times = os.times()
    found: dict[str, object] = {
        "cpu_s": times.user + times.system,
        "threads_n": threading.active_count(),
        "fds_max": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }
    try:
        pages = int((_SELF / "statm").read_text(encoding="ascii").split()[1])
        found["rss_bytes"] = pages * resource.getpagesize()
        found["fds_n"] = (
            sum(1 for _ in (_SELF / "fd").iterdir()) - 1
        )  # one of them is this very look
        found["threads_n"] = sum(1 for _ in (_SELF / "task").iterdir())
    except (OSError, ValueError, IndexError):
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found["rss_peak_bytes"] = most if sys.platform == "darwin" else most * 1024
    return found


def disk_values(state_folder: Path) -> dict[str, object]:
    """Give journal_bytes, disk_free_bytes and disk_total_bytes of the state folder's disk."""
    sizes = []
    for name in JOURNAL_FILES:
        try:
            sizes.append((state_folder / name).stat().st_size)
        except OSError:
            continue  # the write-ahead log comes and goes
    found: dict[str, object] = {"journal_bytes": sum(sizes)} if sizes else {}
    try:
        usage = shutil.disk_usage(state_folder)
    except OSError:
        return found
    return {**found, "disk_free_bytes": usage.free, "disk_total_bytes": usage.total}
