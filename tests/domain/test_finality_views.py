"""What the gate of finality tells about bars besides its verdicts."""

from __future__ import annotations

import numpy as np

from daemon.domain.finality import FINAL_BARS_KEPT, FinalityGate, Reading
from daemon.domain.units import Timeframe

HALF_HOUR = Timeframe(30)
STEP = HALF_HOUR.ms
T0 = 1_704_067_200_000


def row(place: int, close: float, *, confirmed: bool = False) -> Reading:
    values = (100.0, 101.0, 99.0, close, float(place + 1))
    return Reading(T0 + place * STEP, values, confirmed)


def close_of(place: int) -> int:
    return T0 + (place + 1) * STEP


def gate_at(place: int) -> FinalityGate:
    """Make a gate of two instruments whose first one has shown the bars 0 to `place`."""
    gate = FinalityGate(2, HALF_HOUR, T0, confirms=True)
    gate.subscribed(0)
    for number in range(place + 1):
        gate.see_stream(0, [row(number, 100.0 + number / 1000, confirmed=number < place)])
    return gate


def test_nothing_shown_settles_nothing() -> None:
    assert gate_at(1).see_stream(0, []) == []


def test_values_of_a_told_bar_can_be_asked_for_and_others_are_none() -> None:
    gate = gate_at(3)
    known = [gate.final_values(0, close_of(n)) for n in range(4)]
    assert known[2] == (100.0, 101.0, 99.0, 100.002, 3.0)
    assert known[3] is None  # still forming
    assert gate.final_values(1, close_of(2)) is None
    assert [gate.is_final(0, close_of(n)) for n in (2, 3)] == [True, False]


def test_a_bar_was_shown_when_it_or_anything_after_it_was_seen() -> None:
    gate = gate_at(3)
    assert gate.shown(0, close_of(2))
    assert gate.shown(0, close_of(3))  # forming now
    assert not gate.shown(0, close_of(4))
    assert not gate.shown(1, close_of(0))


def test_the_open_of_the_bar_that_starts_at_an_instant_is_known_while_it_forms() -> None:
    opens = gate_at(3).opens_at(T0 + 3 * STEP)
    assert np.array_equal(opens, [100.0, np.nan], equal_nan=True)


def test_rows_from_before_what_is_remembered_are_ignored() -> None:
    gate = gate_at(FINAL_BARS_KEPT + 5)
    assert gate.see_stream(0, [row(0, 55.0)]) == []
    assert gate.final_values(0, close_of(0)) is None
    left = gate_at(0)  # a bar that a broken stream never proved
    left.subscribed(0)
    for number in range(1, FINAL_BARS_KEPT + 6):
        left.see_stream(0, [row(number, 100.0, confirmed=True)])
    assert left.see_reread(0, [row(0, 55.0)], read_ms=close_of(FINAL_BARS_KEPT)) == []
    early = FinalityGate(1, HALF_HOUR, T0 + 10 * STEP, confirms=False)
    assert early.see_stream(0, [row(3, 55.0), row(4, 56.0)]) == []
