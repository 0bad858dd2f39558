"""A process that trains keeps what it frees: the same pages serve again."""

from __future__ import annotations

import platform
import subprocess
import sys

# Counts the pages that fifty arrays of 40 MB, one after the other, let the system map anew.
PROGRAM = """
import resource, sys
import numpy as np
from strategies.forecast.training.memory import keep_freed_memory

kept = keep_freed_memory() if sys.argv[1] == "keep" else None
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(5_000_000)
before = faults()
for _ in range(50):
    np.ones(5_000_000)
print(kept, faults() - before)
"""


def run(how: str) -> tuple[str, int]:
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True
    )
    kept, faults = answer.stdout.split()
    return kept, int(faults)


def test_memory_that_is_kept_is_not_mapped_again() -> None:
    kept, faults = run("keep")
    glibc = platform.libc_ver()[0] == "glibc"
    assert kept == str(glibc)
    _, without = run("give back")
    assert not glibc or faults < 2_000 < without
