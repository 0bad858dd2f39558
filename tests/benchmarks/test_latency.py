"""The latency benchmark's parts add up, and what has a bound is neither forecast nor write."""

from __future__ import annotations

import pytest

from benchmarks.latency import OURS_MS_MAX, table
from benchmarks.latency_stamps import MODEL, PARTS, WRITE, Decision, Moment
from daemon.domain.units import HOUR_MS


def at(ms: float) -> Moment:
    return Moment(ms / 1e3, ms / 2e3)  # half of the time is spent by the processor


def decision(*ends_ms: float) -> Decision:
    """Make a decision whose parts, risk aside, end then; the first is the arrival."""
    names = ("arrived", "put", "gathered", "asked", "answered", "decided", "durable", "submitted")
    one = Decision(HOUR_MS)  # no settlement
    for name, ms in zip((*names, "signed", "first"), ends_ms, strict=True):
        setattr(one, name, at(ms))
    one.judged, one.last = at(1.0), at(ends_ms[-1] + 4.0)
    one.slice_n = one.written_n = 2
    return one


WHOLE = (0.0, 1.0, 2.0, 2.0, 102.0, 106.0, 114.0, 115.0, 116.0, 118.0)


def test_the_parts_add_up_to_the_whole_and_risk_is_taken_out_of_the_decision() -> None:
    one = decision(*WHOLE)
    parts = one.parts_ms()
    assert list(parts) == list(PARTS)
    assert sum(parts.values()) == pytest.approx(118.0)
    assert parts["decision"] == pytest.approx(3.0)
    assert parts["risk"] == pytest.approx(1.0)
    assert one.total_ms == pytest.approx(118.0)
    assert one.last_ms == pytest.approx(122.0)
    assert parts[MODEL] == pytest.approx(100.0)
    assert one.ours_ms() == pytest.approx(118.0 - 100.0 - 8.0)
    assert WRITE in PARTS


def test_a_decision_without_forecasts_has_parts_of_no_length() -> None:
    one = decision(*WHOLE)
    one.asked = one.answered = None
    parts = one.parts_ms()
    assert parts["asking"] == parts[MODEL] == 0.0
    assert sum(parts.values()) == pytest.approx(118.0)
    assert one.is_whole


@pytest.mark.parametrize("missing", ["arrived", "put", "decided", "durable", "signed", "first"])
def test_a_decision_of_which_a_stamp_is_missing_is_not_counted(missing: str) -> None:
    one = decision(*WHOLE)
    assert one.is_whole
    setattr(one, missing, None)
    assert not one.is_whole


@pytest.mark.parametrize("sending_ms", [1.9, 2.1])
def test_the_bound_is_called_kept_only_where_it_is(sending_ms: float) -> None:
    one = decision(*WHOLE[:-1], WHOLE[-2] + sending_ms)
    (found,) = [text for text in table([one], [1.0], [1.0]) if "at most" in text]
    assert ("NOT KEPT" in found) == (one.ours_ms() > OURS_MS_MAX)
    assert ("NOT KEPT" in found) == (sending_ms > 2.0)
