"""Keep freed memory in a process that trains, instead of giving it back after every step.

A step of training drops arrays of many megabytes and asks for the same sizes at once. glibc hands
such arrays back to the system, which clears and maps every page anew at the next step: a third of
the CPU time of training a two-layer LSTM on one thread.
"""

from __future__ import annotations

import ctypes
from typing import Final

# mallopt's names of what it sets, from glibc's malloc.h; they are part of its binary interface
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
_NEVER: Final = -1


def keep_freed_memory() -> bool:
    """Let this process keep what it frees until it ends; False where the C library has no such way.

    Call it at the start of a process that ends with its work: its size stays at its largest.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return False
    from_heap = mallopt(_M_MMAP_MAX, 0)
    never_trimmed = mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return bool(from_heap and never_trimmed)
