"""Instants, timeframes and the one border from float to Decimal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, ROUND_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.units import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Timeframe,
    instant_ms,
    iso,
    money,
    quantise,
    require,
    utc,
)

MOMENT_MS = 1_769_866_200_000  # 2026-01-31T13:30:00Z


def test_require_raises_with_its_message_unless_the_condition_holds() -> None:
    require(1, "never shown")
    with pytest.raises(InvariantViolated, match="what was, and what must be"):
        require(0, "what was, and what must be")


def test_instants_and_aware_datetimes_are_the_same_thing() -> None:
    moment = datetime(2026, 1, 31, 13, 30, tzinfo=UTC)
    assert instant_ms(moment) == MOMENT_MS
    assert utc(MOMENT_MS) == moment
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert instant_ms(elsewhere) == MOMENT_MS


def test_a_naive_datetime_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="naive datetime"):
        instant_ms(datetime(2026, 1, 31))  # noqa: DTZ001


def test_an_instant_is_written_with_milliseconds_only_where_there_are_any() -> None:
    assert iso(MOMENT_MS) == "2026-01-31T13:30:00Z"
    assert iso(MOMENT_MS + 7) == "2026-01-31T13:30:00.007Z"


@given(st.integers(0, 4_102_444_800_000))
def test_an_instant_survives_the_way_through_datetime(at_ms: int) -> None:
    assert instant_ms(utc(at_ms)) == at_ms


@pytest.mark.parametrize(
    ("label", "minutes", "written"),
    [
        ("30m", 30, "30m"),
        ("90m", 90, "90m"),
        ("1h", 60, "1h"),
        ("60m", 60, "1h"),
        ("2h", 120, "2h"),
    ],
)
def test_timeframes_are_read_and_written(label: str, minutes: int, written: str) -> None:
    timeframe = Timeframe.parse(label)
    assert timeframe.minutes == minutes
    assert timeframe.label == written
    assert timeframe.ms == minutes * MINUTE_MS


@pytest.mark.parametrize("label", ["", "1", "1d", "h1", "1.5h", "-30m", " 1h", "1h "])
def test_other_writings_are_refused_by_name(label: str) -> None:
    with pytest.raises(ConfigurationError, match="write minutes or hours"):
        Timeframe.parse(label)


@pytest.mark.parametrize("minutes", [0, -60, 7, 50, 2880])
def test_a_length_that_does_not_divide_the_day_is_refused(minutes: int) -> None:
    with pytest.raises(ConfigurationError, match="divide the day"):
        Timeframe(minutes)


def test_closes_are_anchored_at_midnight() -> None:
    frame = Timeframe(90)
    midnight = 20_000 * DAY_MS
    assert frame.closes_at(midnight)
    assert frame.closes_at(midnight + 90 * MINUTE_MS)
    assert not frame.closes_at(midnight + HOUR_MS)
    assert frame.last_close(midnight) == midnight
    assert frame.next_close(midnight) == midnight + frame.ms
    assert frame.last_close(midnight + frame.ms - 1) == midnight
    assert frame.next_close(midnight + frame.ms - 1) == midnight + frame.ms


@pytest.mark.parametrize(
    ("value", "step", "rounding", "expected"),
    [
        (0.3, "0.1", None, "0.3"),  # the shortest writing counts, not 0.299999...
        (0.29999, "0.1", None, "0.2"),
        (-0.29999, "0.1", None, "-0.2"),  # towards zero
        (7.0, "5", None, "5"),
        (0.21, "0.1", ROUND_UP, "0.3"),
        ("2.5", "1", ROUND_HALF_EVEN, "2"),
        (1e-9, "0.00000001", None, "0"),
    ],
)
def test_quantise_rounds_to_whole_steps(
    value: float | str, step: str, rounding: str | None, expected: str
) -> None:
    number = Decimal(value) if isinstance(value, str) else value
    found = (
        quantise(number, Decimal(step))
        if rounding is None
        else quantise(number, Decimal(step), rounding)
    )
    assert found == Decimal(expected)


@given(st.floats(-1e9, 1e9), st.sampled_from(["0.001", "0.05", "1", "25"]))
def test_quantise_gives_a_multiple_that_is_never_larger_and_less_than_a_step_away(
    value: float, text: str
) -> None:
    step = Decimal(text)
    found = quantise(value, step)
    assert found % step == 0
    assert abs(found) <= abs(Decimal(repr(value)))
    assert abs(Decimal(repr(value)) - found) < step


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("-Infinity")])
def test_quantise_refuses_what_is_no_number(value: float | Decimal) -> None:
    with pytest.raises(InvariantViolated, match="finite"):
        quantise(value, Decimal(1))


@pytest.mark.parametrize("step", ["0", "-0.1"])
def test_quantise_refuses_a_step_that_is_not_positive(step: str) -> None:
    with pytest.raises(InvariantViolated, match="positive"):
        quantise(1.0, Decimal(step))


def test_money_is_rounded_half_to_even_at_the_eighth_digit() -> None:
    assert money(Decimal("1.000000005")) == Decimal("1.00000000")
    assert money(Decimal("1.000000015")) == Decimal("1.00000002")
