"""The contract with readers: complete, written down as it is, and strict."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from daemon.status.codec import SCHEMA_VERSION, from_fields, to_fields
from daemon.status.contract import FILL, KEYS, TOPICS, undescribed
from daemon.status.contract_pages import (
    PAGE,
    SCHEMA,
    event_schema,
    redis_schema,
    schema_text,
    written_page,
)
from tests.status.schema_check import adapter_of

FILLED = {
    "at": "2024-01-24T01:00:00Z",
    "at_ms": 1706058000000,
    "trade_id": "1",
    "order_id": "o",
    "venue": "binanceusdm",
    "symbol": "BTC/USDT:USDT",
    "quantity": "-0.1",
    "price": "40000.50",
    "fee": "0",
}


def test_every_topic_is_described() -> None:
    assert undescribed() == set()


def test_page_and_schema_are_as_the_contract_writes_them(repository_root: Path) -> None:
    page = (repository_root / PAGE).read_text(encoding="utf-8")
    assert page == written_page(page), "run `python -m daemon.status`"
    assert (repository_root / SCHEMA).read_text(encoding="utf-8") == schema_text()
    assert json.loads(schema_text())["x-schema-version"] == SCHEMA_VERSION


def test_the_examples_of_users_let_a_reader_see_all_that_is_shown(repository_root: Path) -> None:
    users = (repository_root / "deploy" / "redis-users.acl").read_text(encoding="utf-8")
    (reader,) = [line for line in users.splitlines() if line.startswith("user reader ")]
    shown = {key.name for key in KEYS} - {"commands", "answers"}
    assert set(re.findall(r"%R~equipoise:paper:(\S+)", reader)) == shown
    topics = (repository_root / "deploy" / "mosquitto.acl").read_text(encoding="utf-8")
    told = {topic.name for topic in TOPICS if not topic.name.startswith("cmd")}
    for user in ("publisher", "reader"):
        part = topics.partition(f"user {user}\n")[2].partition("\n\n")[0]
        verb = "write" if user == "publisher" else "read"
        named = set(re.findall(rf"topic {verb} equipoise/paper/(\S+)", part))
        assert named - {"cmd/answer/#"} == told, user


def test_no_field_of_a_key_is_named_twice() -> None:
    for key in KEYS:
        names = [one.name for one in key.fields]
        assert len(names) == len(set(names)), key.name
    assert len({topic.name for topic in TOPICS}) == len(TOPICS)


@pytest.mark.parametrize(
    "broken",
    [
        {"price": "forty"},
        {"price": ""},
        {"at": "2024-01-24 01:00"},
        {"at_ms": "1.5"},
        {"more": "1"},
    ],
)
def test_the_schema_refuses_what_is_not_in_it(broken: dict[str, str]) -> None:
    entry = adapter_of(redis_schema()["properties"]["fills"]["items"])
    right = from_fields(to_fields(FILLED))
    entry.validate_python(right)
    with pytest.raises(ValidationError):
        entry.validate_python({**right, **broken})
    with pytest.raises(ValidationError):
        entry.validate_python({name: right[name] for name in list(right)[1:]})


def test_an_event_over_mqtt_has_the_fields_of_its_stream_as_json() -> None:
    told: dict[str, Any] = {"topic": "fill", **FILLED}
    adapter_of(event_schema("fill")).validate_python(told)
    with pytest.raises(ValidationError):
        adapter_of(event_schema("fill")).validate_python({**told, "at_ms": "1706058000000"})
    assert {one.name for one in FILL} == set(FILLED)
