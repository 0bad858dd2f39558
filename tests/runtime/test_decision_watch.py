"""A close without a decision is noticed by the clock alone, once."""

from __future__ import annotations

import pytest

from daemon.domain.failures import InvariantViolated
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.runtime.decision_watch import DecisionWatch

DAY = 19_000 * 24 * HOUR_MS
PATIENCE = 140_000


def watch(begun_ms: int = DAY) -> DecisionWatch:
    return DecisionWatch(Timeframe(60), PATIENCE, begun_ms)


def test_a_close_is_missed_once_its_patience_is_over_and_told_once() -> None:
    one = watch()
    assert one.missed(DAY + HOUR_MS + PATIENCE - 1) is None
    assert one.missed(DAY + HOUR_MS + PATIENCE) == DAY + HOUR_MS
    assert one.missed(DAY + HOUR_MS + PATIENCE + 1) is None
    assert one.missed(DAY + 2 * HOUR_MS + PATIENCE) == DAY + 2 * HOUR_MS
    assert one.missed_n == 2


def test_what_was_decided_is_not_missed() -> None:
    one = watch()
    one.decided(DAY + HOUR_MS)
    assert one.missed(DAY + HOUR_MS + PATIENCE) is None
    assert one.decided_ms == DAY + HOUR_MS


def test_a_close_before_the_start_is_nobodys() -> None:
    one = watch(DAY + 30 * 60_000)
    assert one.missed(DAY + 50 * 60_000) is None


def test_several_closes_that_passed_unseen_are_told_as_one_and_counted() -> None:
    one = watch()
    assert one.missed(DAY + 5 * HOUR_MS + PATIENCE) == DAY + 5 * HOUR_MS
    assert one.missed_n == 5


def test_a_clock_that_goes_back_tells_nothing_twice() -> None:
    one = watch()
    one.missed(DAY + 3 * HOUR_MS + PATIENCE)
    assert one.missed(DAY + HOUR_MS + PATIENCE) is None
    assert one.missed(DAY + 3 * HOUR_MS + PATIENCE) is None


def test_patience_must_be_positive() -> None:
    with pytest.raises(InvariantViolated):
        DecisionWatch(Timeframe(60), 0, DAY)
