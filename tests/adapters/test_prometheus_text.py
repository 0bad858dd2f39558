"""Topics become metrics that real parsers read, and what is not known is not there."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import prometheus_client.openmetrics.parser as openmetrics
import prometheus_client.parser as classic
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric

from adapters.prometheus_text import LABEL_CHARS_MAX, SYMBOLS_MAX, TRADING_STATES, exposition
from daemon.engine.risk import TradingState
from tests.adapters.metric_topics import FULL

OPEN = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"
ROOT = Path(__file__).resolve().parents[2]


def read(topics: dict[str, Any], accept: str = OPEN) -> dict[str, Metric]:
    content, kind = exposition(topics, accept)
    parse = openmetrics if "openmetrics" in kind else classic
    return {one.name: one for one in parse.text_string_to_metric_families(content.decode())}


def test_the_states_are_those_of_the_engine() -> None:
    assert set(TRADING_STATES) == set(TradingState)


def test_without_topics_there_is_an_empty_page() -> None:
    content, _ = exposition({}, OPEN)
    assert content == b"# EOF\n"
    assert exposition({})[0] == b""


def test_what_is_not_known_is_absent_and_zero_is_zero() -> None:
    topics = {
        "status": {
            "equity": math.nan,
            "cash": None,
            "net_weight": 0.0,
            "fees": "",
            "funding": "NaN",
        }
    }
    assert set(read(topics)) == {"equipoise_net_exposure_ratio"}


def test_domain_values_and_their_json_are_the_same() -> None:
    domain = exposition({"status": {"equity": 1.5, "cash": Decimal("10000.50")}})
    assert domain == exposition({"status": {"equity": 1.5, "cash": "10000.50"}})
    assert b"equipoise_cash_quote 10000.5\n" in domain[0]


def test_a_counter_never_goes_below_zero_and_says_when_it_began() -> None:
    topics = {"runtime": {"started_ms": 5_000, "counts": {"fills": 3, "turnover": "-1"}}}
    found = read(topics)
    assert "equipoise_turnover_quote" not in found
    values = {s.name: s.value for s in found["equipoise_fills"].samples}
    assert values == {"equipoise_fills_total": 3.0, "equipoise_fills_created": 5.0}


def test_the_state_is_a_set_of_which_one_is_true() -> None:
    family = read({"runtime": {"trading_state": "halted"}})["equipoise_trading_state"]
    assert family.type == "stateset"
    assert {s.labels[family.name] for s in family.samples if s.value} == {"halted"}
    unknown = read({"runtime": {"trading_state": "dreaming"}})["equipoise_trading_state"]
    assert not any(s.value for s in unknown.samples)


def test_a_universe_without_end_is_cut() -> None:
    topics = {"positions": {f"C{n:05}": {"weight": 0.1} for n in range(3 * SYMBOLS_MAX)}}
    assert len(read(topics)["equipoise_position_weight_ratio"].samples) == SYMBOLS_MAX


def test_topics_of_others_are_passed_over() -> None:
    assert exposition({"fill": {"price": 3.0}, "nobody": {"knows": "it"}})[0] == b""


def test_a_topic_of_a_strange_shape_breaks_nothing() -> None:
    shapes: dict[str, Any] = {
        "runtime": {"sinks": [1], "orders": "x", "counts": None, "forecasts": {"1h": 3}},
        "feed": {"binance": "down"},
        "positions": {"BTC": 3},
        "status": {"equity": [1], "covariance": "?", "margin_ratios": 4},
    }
    assert read(shapes) == {}


@given(st.text(max_size=200), st.floats(allow_nan=True, allow_infinity=True))
def test_any_name_and_number_is_read_back_by_both_parsers(name: str, number: float) -> None:
    topics = {"positions": {name: {"weight": number}}}
    for accept in (OPEN, ""):
        found = read(topics, accept)
        if not math.isfinite(number):
            assert found == {}
            continue
        [sample] = found["equipoise_position_weight_ratio"].samples
        assert sample.value == number
        assert len(sample.labels["symbol"]) <= LABEL_CHARS_MAX


def test_the_page_lists_every_metric_with_its_kind_and_no_other() -> None:
    endings = {"counter": "_total", "info": "_info"}
    there = {
        (family.name + endings.get(family.type, ""), family.type) for family in read(FULL).values()
    }
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(equipoise_\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert listed == there


def test_every_metric_says_what_it_holds() -> None:
    for name, family in read(FULL).items():
        assert family.documentation.endswith("."), name
