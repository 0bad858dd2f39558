"""What an alert is about, when it is over, and which settings of notifications are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import (
    AccountUnread,
    Alert,
    AlertKind,
    FeedNotice,
    FeedTrouble,
    Operator,
    OperatorAction,
    Snapshotted,
)
from daemon.settings import load_settings
from daemon.status.notices import SEVERITIES, Message, NoticeRules, Severity
from daemon.wiring.notifying import Notifier, channels_of, rules_of
from daemon.wiring.runtime_status import DISK_LOW_BYTES, shortages
from tests.engine.world import at, snapshot, trading_engine


class Kept:
    """Be a way that keeps what it is handed."""

    name, server = "kept", "nowhere"

    async def send(self, message: Message) -> str:
        raise AssertionError(message)


def notifier() -> Notifier:
    return Notifier([Kept()], NoticeRules(), "paper")


def told(one: Notifier) -> list[tuple[str, str, bool]]:
    return [(m.kind, m.subject, m.over) for m in one._posts[0]._waiting]


async def test_a_trouble_of_a_feed_and_its_end_have_the_same_subject() -> None:
    engine, one = trading_engine(), notifier()
    for active in (True, False):
        event = FeedNotice(at(1), "venue", FeedTrouble.VENUE_DOWN, active, "it does not answer")
        one.observe(event, engine.process(event), engine)
    subject = "venue venue_down"
    assert told(one) == [("feed", subject, False), ("feed", subject, True)]


async def test_an_account_that_is_read_again_ends_what_was_told() -> None:
    engine, one = trading_engine(), notifier()
    venue = snapshot().snapshot.venue
    unread = AccountUnread(venue, at(2), "it does not answer")
    one.observe(unread, engine.process(unread), engine)
    again: Snapshotted = snapshot()
    again = replace(again, snapshot=replace(again.snapshot, at_ms=at(3)))
    one.observe(again, engine.process(again), engine)
    assert told(one)[:2] == [("account", venue, False), ("account", venue, True)]


async def test_a_halt_is_over_when_trading_goes_on() -> None:
    engine, one = trading_engine(), notifier()
    kill = Operator(OperatorAction.KILL, "k", at(2), "odd")
    one.observe(kill, engine.process(kill), engine)
    assert ("halted", "trading", False) in told(one)
    for event in (Operator(OperatorAction.RESUME, "r", at(3)), snapshot()):
        one.observe(event, engine.process(event), engine)
    assert ("halted", "trading", True) in told(one)


async def test_no_decision_is_over_with_the_next_decision() -> None:
    engine, one = trading_engine(), notifier()
    late_ms = engine.state.decided[-1] + 1 if engine.state.decided else at(1)
    one.alert(Alert(AlertKind.NO_DECISION, late_ms, "none was made"))
    quiet = FeedNotice(at(2), "venue", FeedTrouble.RECONNECTS, False, "well")
    one.observe(quiet, (), engine)
    assert told(one) == [("no_decision", "decision", False)]
    engine.state.decided.append(late_ms + 1)
    one.observe(quiet, (), engine)
    assert told(one)[-1] == ("no_decision", "decision", True)


@pytest.mark.parametrize(
    ("values", "subjects"),
    [
        ({"disk_free_bytes": DISK_LOW_BYTES - 1}, {"disk"}),
        ({"disk_free_bytes": DISK_LOW_BYTES}, set()),
        ({"loop_lag_p99_s": 1.5}, {"event loop"}),
        ({"sinks": {"redis": {"away_s": 121.0}, "mqtt": {"away_s": 5.0}}}, {"sink redis"}),
        ({}, set()),
    ],
)
def test_what_the_process_lacks_is_named(values: dict[str, Any], subjects: set[str]) -> None:
    assert set(shortages(values)) == subjects


def settings(*overrides: str) -> Any:
    return load_settings([], overrides=overrides, environment={})


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["notify.telegram_chat=5"], "and the bot's token are needed together"),
        (["notify.quiet_from=22:00"], "and notify.quiet_until are needed together"),
        (["notify.quiet_from=25:00", "notify.quiet_until=07:00"], "notify.quiet_from"),
        (["notify.quiet_zone=Mars/Olympus"], "no such time zone"),
        (["notify.webhook_url=ftp://h/x"], "notify.webhook_url"),
        (["notify.webhook_url=https://u:p@h/x"], "must not carry a login"),
        (["notify.webhook_url=https://h/x", "notify.webhook_url_env=X"], "exclude each other"),
        (["notify.webhook_secret_env=X"], "is needed with a key that signs"),
        (["notify.webhook_url_env=X", "notify.webhook_url_file=y"], "exclude each other"),
        (["notify.smtp_host=h"], "needs notify.smtp_from and notify.smtp_to"),
        (['notify.smtp_to=["nobody"]'], "not an address"),
        (
            [
                "notify.smtp_host=h",
                "notify.smtp_from=a@b",
                'notify.smtp_to=["a@b"]',
                "notify.smtp_username=u",
                "notify.smtp_password_env=X",
                "notify.smtp_tls=none",
            ],
            "would send the password readably",
        ),
        (['notify.severities={"nonsense": "info"}'], "no kind of alert"),
        (['notify.severities={"feed": "loud"}'], "notify.severities"),
    ],
)
def test_settings_that_would_tell_nobody_are_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(*overrides)
    assert words in str(caught.value)
    assert "u:p" not in str(caught.value)


def test_rules_follow_settings() -> None:
    chosen = settings(
        'notify.severities={"feed": "critical"}',
        "notify.severity_min=info",
        "notify.quiet_from=22:00",
        "notify.quiet_until=07:00",
        "notify.quiet_zone=Europe/Berlin",
        "notify.window_min=2",
    )
    rules = rules_of(chosen)
    assert rules.severities[AlertKind.FEED] is Severity.CRITICAL
    assert rules.severities[AlertKind.HALTED] is SEVERITIES[AlertKind.HALTED]
    assert rules.window_ms == 120_000
    assert rules.quiet is not None
    assert str(rules.quiet.zone) == "Europe/Berlin"
    assert rules_of(settings()).quiet is None


def test_secrets_come_from_files_and_no_error_quotes_one(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("not a token/../x")
    words = ("notify.telegram_chat=5", f"notify.telegram_token_file={file}")
    with pytest.raises(ConfigurationError, match="no token of a bot") as caught:
        channels_of(settings(*words))
    assert "../x" not in str(caught.value)
    file.write_text("ftp://secret-host/x")
    with pytest.raises(ConfigurationError, match="http:// or https://") as caught:
        channels_of(settings(f"notify.webhook_url_file={file}"))
    assert "secret-host" not in str(caught.value)
    assert channels_of(settings()) == []


def test_the_page_has_the_severities_of_the_code(repository_root: Path) -> None:
    page = (repository_root / "docs" / "notifications.md").read_text(encoding="utf-8")
    for kind, severity in SEVERITIES.items():
        assert f"| `{kind}` | {severity} |" in page
