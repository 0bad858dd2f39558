"""Logging: one stream, both forms, market time beside wall time, and no secret in any corner."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from daemon.domain.log_events import LogEvent
from daemon.runtime.logs import _CHATTY, configure_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    chatty = {name: logging.getLogger(name).level for name in _CHATTY}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in chatty.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def entries(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_entries_are_one_object_a_line_with_level_and_time() -> None:
    stream = io.StringIO()
    configure_logs(as_json=True, stream=stream)
    structlog.get_logger().info(LogEvent.REDIS_STARTED, pid=7)
    (entry,) = entries(stream)
    assert entry["event"] == "embedded_redis_started"
    assert (entry["level"], entry["pid"]) == ("info", 7)
    assert entry["timestamp"].endswith("Z")
    assert "market_time" not in entry


def test_market_time_stands_beside_wall_time_when_a_clock_is_given() -> None:
    stream = io.StringIO()
    configure_logs(as_json=True, stream=stream, market_time=lambda: 1_704_067_200_000)
    structlog.get_logger().info(LogEvent.REDIS_STARTED)
    logging.getLogger("library").warning("said %s", "something")
    assert [e["market_time"] for e in entries(stream)] == ["2024-01-01T00:00:00Z"] * 2


def test_levels_below_the_chosen_one_are_silent_for_us_and_for_libraries() -> None:
    stream = io.StringIO()
    configure_logs("warning", as_json=True, stream=stream)
    structlog.get_logger().info(LogEvent.REDIS_STARTED)
    logging.getLogger("library").info("nothing")
    structlog.get_logger().warning(LogEvent.REDIS_ENDED)
    logging.getLogger("library").error("odd")
    assert [e["event"] for e in entries(stream)] == ["embedded_redis_ended", "odd"]


def test_chatty_libraries_speak_from_warning_on() -> None:
    stream = io.StringIO()
    configure_logs("debug", as_json=True, stream=stream)
    logging.getLogger("mqtt").info("connecting")
    logging.getLogger("ccxt").warning("rate limit near")
    assert [e["event"] for e in entries(stream)] == ["rate limit near"]


def test_text_for_people_goes_to_stderr_and_leaves_stdout_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs()
    structlog.get_logger().info(LogEvent.REDIS_STARTED, pid=7)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "embedded_redis_started" in shown.err
    assert "pid=7" in shown.err


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_masked_by_value_by_name_in_urls_and_in_tracebacks(as_json: bool) -> None:
    stream = io.StringIO()
    configure_logs(as_json=as_json, stream=stream, secrets=["hunter2"])
    log = structlog.get_logger()
    log.info(LogEvent.REDIS_STARTED, password="open sesame", note="with hunter2 inside")
    log.info(LogEvent.REDIS_STARTED, options={"apiKey": "abcdef", "deep": ["hunter2"]})
    log.info(LogEvent.REDIS_STARTED, url="redis://me:tellnobody@host:1/0")
    log.info(LogEvent.REDIS_STARTED, why=ValueError("hunter2 was wrong"))
    logging.getLogger("library").error("library says %s", "hunter2")
    secret = "hunter2"
    try:
        raise ValueError(f"bad login {secret}")
    except ValueError:
        log.exception(LogEvent.REDIS_ENDED)
    text = stream.getvalue()
    for hidden in ("hunter2", "open sesame", "abcdef", "tellnobody"):
        assert hidden not in text
    assert "Traceback" in text
    assert "redis://***@host:1/0" in text


def test_very_short_secrets_do_not_blot_out_ordinary_words() -> None:
    stream = io.StringIO()
    configure_logs(as_json=True, stream=stream, secrets=["a", ""])
    structlog.get_logger().info(LogEvent.REDIS_STARTED, note="a plain sentence")
    assert entries(stream)[0]["note"] == "a plain sentence"


def test_context_fields_are_added_within_the_context_only() -> None:
    stream = io.StringIO()
    configure_logs(as_json=True, stream=stream)
    with structlog.contextvars.bound_contextvars(decision_id="d1"):
        structlog.get_logger().info(LogEvent.REDIS_STARTED)
    structlog.get_logger().info(LogEvent.REDIS_ENDED)
    first, second = entries(stream)
    assert first["decision_id"] == "d1"
    assert "decision_id" not in second


def test_configuring_again_replaces_the_stream_instead_of_doubling_it() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logs(as_json=True, stream=first)
    configure_logs(as_json=True, stream=second)
    structlog.get_logger().info(LogEvent.REDIS_STARTED)
    assert first.getvalue() == ""
    assert len(entries(second)) == 1


def test_event_names_are_snake_case_and_unique() -> None:
    names = [event.value for event in LogEvent]
    assert len(set(names)) == len(names)
    assert all(name.replace("_", "").isalpha() and name.islower() for name in names)


def test_entries_can_be_captured_after_configuration() -> None:
    configure_logs(as_json=True, stream=io.StringIO())
    with capture_logs() as logs:
        structlog.get_logger().warning(LogEvent.STATUS_SERVER_LOST, server="x")
    assert logs == [{"event": "status_server_lost", "log_level": "warning", "server": "x"}]
