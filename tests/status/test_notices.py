"""Who is disturbed by what, and when: written out by hand, instant by instant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.messages import AlertKind
from daemon.domain.units import HOUR_MS, MINUTE_MS
from daemon.status.notices import (
    CRITICAL_PER_HOUR_MAX,
    EPISODES_MAX,
    SEVERITIES,
    Message,
    Notice,
    NoticeDesk,
    NoticeRules,
    QuietHours,
    Severity,
)

NOON = int(datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp() * 1000)
RULES = NoticeRules(least=Severity.INFO, window_ms=10 * MINUTE_MS, per_hour_max=4)
NIGHT = QuietHours(time(22), time(7), ZoneInfo("Europe/Berlin"))


def feed(subject: str = "binance venue_down", *, over: bool = False, text: str = "?") -> Notice:
    return Notice(AlertKind.FEED, NOON, text, subject, over=over)


def halted(*, over: bool = False) -> Notice:
    return Notice(AlertKind.HALTED, NOON, "net is out of bound", "trading", over=over)


def kinds(messages: list[Message]) -> list[tuple[str, int, bool]]:
    return [(one.kind, one.count, one.over) for one in messages]


def minute(number: float) -> int:
    return NOON + round(number * MINUTE_MS)


def test_every_kind_of_alert_has_a_severity() -> None:
    assert set(SEVERITIES) == set(AlertKind)


def test_the_first_is_told_at_once_and_more_of_the_same_are_counted_and_told_as_one() -> None:
    desk = NoticeDesk(RULES)
    assert kinds(desk.take(feed(), minute(0))) == [("feed", 1, False)]
    for number in range(1, 6):
        assert desk.take(feed(text=f"no {number}"), minute(number)) == []
    assert desk.due(minute(9.9)) == []
    [summary] = desk.due(minute(10))
    assert summary.count == 5
    assert summary.text == "5 more; the newest: no 5"
    assert desk.due(minute(20)) == [], "nothing came since"


def test_another_subject_is_another_notice() -> None:
    desk = NoticeDesk(RULES)
    assert desk.take(feed("binance venue_down"), minute(0))
    assert desk.take(feed("bybit venue_down"), minute(0))


def test_the_end_of_what_was_told_is_told_once() -> None:
    desk = NoticeDesk(RULES)
    desk.take(feed(), minute(0))
    [over] = desk.take(feed(over=True, text="it answers"), minute(3))
    assert over.over
    assert over.title("paper") == "[OVER] paper: feed (binance venue_down)"
    assert desk.take(feed(over=True), minute(4)) == []


def test_the_end_of_what_nobody_was_told_is_not_told() -> None:
    assert NoticeDesk(RULES).take(feed(over=True), minute(0)) == []


def test_a_condition_that_comes_and_goes_is_told_as_one_line() -> None:
    desk = NoticeDesk(RULES)
    sent = [*desk.take(feed(), minute(0)), *desk.take(feed(over=True), minute(1))]
    assert len(sent) == 2
    for number in range(2, 9):
        assert desk.take(feed(over=number % 2 == 1), minute(number)) == []
    [summary] = desk.due(minute(10))
    assert summary.count == 7
    assert not summary.over, "its newest word is that it lasts"


def test_what_is_less_grave_than_wished_is_not_told() -> None:
    desk = NoticeDesk(replace(RULES, least=Severity.CRITICAL))
    assert desk.take(feed(), minute(0)) == []
    assert desk.take(halted(), minute(0)) != []


def test_a_person_may_judge_a_kind_otherwise() -> None:
    rules = replace(RULES, severities={**SEVERITIES, AlertKind.FEED: Severity.CRITICAL})
    [told] = NoticeDesk(rules).take(feed(), minute(0))
    assert told.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("utc_hour", "minute_", "covered"),
    [(20, 59, False), (21, 0, True), (5, 59, True), (6, 0, False), (12, 0, False)],
)
def test_quiet_hours_are_those_of_the_named_zone_in_winter(
    utc_hour: int, minute_: int, *, covered: bool
) -> None:
    at = datetime(2026, 1, 15, utc_hour, minute_, tzinfo=UTC)
    assert NIGHT.cover(int(at.timestamp() * 1000)) is covered


def test_quiet_hours_move_with_the_clocks_of_the_zone() -> None:
    at = datetime(2026, 7, 15, 20, 0, tzinfo=UTC)  # 22:00 in Berlin's summer
    assert NIGHT.cover(int(at.timestamp() * 1000))


def test_at_night_only_what_is_critical_comes_and_the_rest_in_the_morning() -> None:
    desk = NoticeDesk(replace(RULES, quiet=NIGHT))
    night = int(datetime(2026, 1, 15, 23, tzinfo=UTC).timestamp() * 1000)
    assert desk.take(feed(), night) == []
    assert desk.take(feed("bybit venue_down"), night) == []
    assert kinds(desk.take(halted(), night)) == [("halted", 1, False)]
    assert kinds(desk.take(halted(over=True), night + 1)) == [("halted", 1, True)]
    assert desk.due(night + 2 * HOUR_MS) == []
    [digest] = desk.due(night + 7 * HOUR_MS)
    assert (digest.kind, digest.count) == ("digest", 2)
    assert digest.text.splitlines()[:2] == [
        "2 held back",
        "warning: feed (binance venue_down) x1, last at 2026-03-02T12:00:00Z: ?",
    ]


def test_the_end_of_what_was_held_back_disturbs_nobody() -> None:
    desk = NoticeDesk(replace(RULES, quiet=NIGHT))
    night = int(datetime(2026, 1, 15, 23, tzinfo=UTC).timestamp() * 1000)
    desk.take(feed(), night)
    assert desk.take(feed(over=True), night + MINUTE_MS) == []


def test_an_hour_brings_no_more_than_the_bound_and_a_digest_of_the_rest() -> None:
    desk = NoticeDesk(RULES)
    sent = [m for n in range(30) for m in desk.take(feed(f"venue {n}"), minute(0))]
    assert len(sent) == 4
    assert desk.due(minute(30)) == [], "the hour is full"
    [digest] = desk.due(minute(60))
    assert digest.kind == "digest"
    assert digest.count == 26


def test_what_is_critical_has_a_bound_of_its_own() -> None:
    desk = NoticeDesk(RULES)
    forced = [Notice(AlertKind.FORCED, NOON, "x", f"coin {n}") for n in range(100)]
    for number in range(10):
        desk.take(feed(f"venue {number}"), minute(0))
    sent = [message for one in forced for message in desk.take(one, minute(0))]
    assert len(sent) == CRITICAL_PER_HOUR_MAX
    [digest] = [m for m in desk.due(minute(61)) if m.kind == "digest"]
    assert digest.count == 100 - CRITICAL_PER_HOUR_MAX + 6


def test_memory_is_bounded_whatever_comes() -> None:
    desk = NoticeDesk(RULES)
    for number in range(3 * EPISODES_MAX):
        desk.take(feed(f"subject {number}"), minute(0))
    assert len(desk._episodes) <= EPISODES_MAX
    assert len(desk._held) + desk.held_lost_n <= 3 * EPISODES_MAX
    assert desk.held_lost_n > 0


def test_a_clock_that_is_set_back_silences_nobody_for_long() -> None:
    desk = NoticeDesk(RULES)
    for number in range(10):
        desk.take(feed(f"venue {number}"), minute(0))
    back = minute(0) - 24 * HOUR_MS
    assert desk.take(feed("venue 99"), back), "the sent ones lie in a future that never was"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.sampled_from(list(AlertKind)), st.integers(0, 3), st.booleans()
        ),
        max_size=120,
    )
)
def test_nothing_is_lost_without_a_count(steps: list[tuple[int, AlertKind, int, bool]]) -> None:
    desk, now_ms, taken, told = NoticeDesk(RULES), NOON, 0, 0
    for minutes, kind, subject, over in steps:
        now_ms += minutes * MINUTE_MS
        told += sum(one.count for one in desk.due(now_ms))
        messages = desk.take(Notice(kind, now_ms, "x", str(subject), over=over), now_ms)
        told += sum(one.count for one in messages)
        # the end of what nobody heard of, long ago or never, needs no word
        known = (kind, str(subject)) in desk._episodes or bool(messages)
        held = any(key[:2] == (str(kind), str(subject)) for key in desk._held)
        taken += known or held or not over
    for _ in range(200):
        now_ms += HOUR_MS
        told += sum(one.count for one in desk.due(now_ms))
    assert told <= taken
    assert told >= sum(not over for *_, over in steps)
    assert not desk._episodes
    assert not desk._held
