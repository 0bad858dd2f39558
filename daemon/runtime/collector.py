"""Tune the collector of reference cycles for processes that compute one thing and end."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

COLLECT_EVERY: Final = 1_000_000  # new objects


def collect_rarely() -> None:
    """Look for cycles rarely, and not at all when the process ends.

    A backtest makes millions of small values that live to its end and are in no cycle: looking at
    them again and again costs a twentieth of its time, and once more at the end. For the top of a
    process only: it holds for everything in it.
    """
    gc.set_threshold(COLLECT_EVERY)
    atexit.register(gc.freeze)


@contextmanager
def not_collecting() -> Iterator[None]:
    """Look for no cycles while modules are imported: what they make is there to stay."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def settle_down() -> None:
    """Collect now, and leave what is there out of all later looks for cycles.

    For a process of months, once it has started: modules, markets and a warmed-up book stay until
    it ends, and a look at all of them holds the loop up for 0.1 to 0.2 s whenever one is due, which
    is as likely between a bar and its orders as anywhere else. For the top of a process only.
    """
    gc.collect()
    gc.freeze()
