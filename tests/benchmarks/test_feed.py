"""The load test of the feed says where a frame's time goes, and whether bounds are kept."""

from __future__ import annotations

import math
import time

import pytest

from benchmarks.feed import Meter, kept, table

GOOD: dict[str, float | None] = {
    "frames_per_s": 5000.0,
    "core_share": 0.2,
    "handled_p99_ms": 9.0,
    "lag_p99_ms": 4.0,
    "memory_mb": 100.0,
}


def test_the_wait_of_a_frame_behind_others_is_in_its_time() -> None:
    meter = Meter()
    meter.read(2, time.perf_counter() - 5.0)  # both off the socket five seconds ago
    meter.frame()
    meter.judged()
    meter.frame()
    meter.judged()
    assert [round(handled_s) for handled_s in meter.handled_s] == [5, 5]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("frames_per_s", 4900.0),
        ("core_share", 0.36),
        ("handled_p99_ms", 10.1),
        ("handled_p99_ms", math.nan),
        ("handled_p99_ms", None),
        ("lag_p99_ms", 11.0),
    ],
)
def test_a_bound_that_is_not_kept_is_called_so(name: str, value: float | None) -> None:
    assert all(kept(GOOD, 5000).values())
    verdicts = kept(GOOD | {name: value}, 5000)
    assert [key for key, is_kept in verdicts.items() if not is_kept] == [name]
    lines = table(GOOD | {name: value}, 5000)
    assert [line.split()[0] for line in lines if "NOT KEPT" in line] == [name]
    assert sum("kept (" in line for line in lines) == 3
