"""Run a contender as a child process and measure it from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """Hold what a child process took, its start and imports included, and what it printed."""

    wall_s: float
    cpu_s: float  # user and system, all threads
    peak_mb: float  # resident
    answer: Mapping[str, Any]


class ChildFailed(Exception):  # named after what happened, as ours are
    """A contender ended with an error; the message holds the end of what it complained about."""


def run_child(command: Sequence[str], folder: Path) -> Measured:
    """Run a command that prints one JSON object as its last line; raise ChildFailed if it fails."""
    start = time.perf_counter()
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe) as child:
        # wait4 gives this child's usage alone; the pipes are small enough to be read afterwards
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        out, error = child.communicate()
    if child.returncode:
        tail = error.decode(errors="replace").strip()[-2000:]
        raise ChildFailed(f"{' '.join(command)} ended with {child.returncode}: {tail}")
    # Linux counts in KiB, macOS in bytes
    unit = 1024.0 if sys.platform != "darwin" else 1024.0 * 1024.0
    answer = json.loads(out.decode().strip().splitlines()[-1])
    return Measured(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit, answer)
