"""Values become text in one way: exact, gaps as nothing, nested ones as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import AlertKind
from daemon.domain.units import Timeframe
from daemon.status.codec import from_fields, plain, to_fields, to_json


@dataclass(frozen=True, slots=True)
class Pair:
    left: int
    right: Decimal


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (np.bool_(False), "false"),
        (7, "7"),
        (np.int64(7), "7"),
        (0.1, "0.1"),
        (np.float64(0.1) + 0.2, "0.30000000000000004"),
        (float("nan"), ""),
        (float("-inf"), ""),
        (Decimal("1E-7"), "0.0000001"),
        (Decimal("10.50"), "10.50"),
        (Decimal("NaN"), ""),
        ("text with {", "text with {"),
        (AlertKind.HALTED, "halted"),
        (Timeframe(90), "90m"),
        (InstrumentKey("v", "BTC/USDT:USDT"), "v:BTC/USDT:USDT"),
        (datetime(2024, 1, 1, tzinfo=UTC), "2024-01-01T00:00:00Z"),
        ([1, Decimal("2.0"), float("nan")], '[1,"2.0",null]'),
        (np.array([[1.5, np.nan]]), "[[1.5,null]]"),
        ({"b", "a"}, '["a","b"]'),
        (Pair(1, Decimal("2.5")), '{"left":1,"right":"2.5"}'),
        ({Timeframe(60): {1: None}}, '{"1h":{"1":null}}'),
    ],
)
def test_a_value_becomes_text(value: object, text: str) -> None:
    assert to_fields({"x": value}) == {"x": text}


def test_what_nobody_could_read_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="cannot show a object"):
        plain({"deep": [object()]})


def test_json_keeps_numbers_as_numbers_and_decimals_as_exact_texts() -> None:
    values = {"n": 1.5, "d": Decimal("0.10"), "gap": float("nan"), "symbol": "Ü"}
    assert to_json(values) == '{"n":1.5,"d":"0.10","gap":null,"symbol":"Ü"}'


def test_nested_fields_come_back_as_tables_and_others_stay_exact_texts() -> None:
    values = {"cash": Decimal("10.50"), "row": {"weight": 0.25, "ranks": [1, None]}, "odd": "[x"}
    assert from_fields(to_fields(values)) == {
        "cash": "10.50",
        "row": {"weight": 0.25, "ranks": [1, None]},
        "odd": "[x",
    }


finite = st.floats(allow_nan=False, allow_infinity=False)
leaf = st.none() | st.booleans() | st.integers() | finite | st.text(max_size=5)
row = st.dictionaries(st.text(max_size=5), leaf | st.lists(leaf, max_size=3), max_size=4)


@given(st.dictionaries(st.text(max_size=5), row | st.lists(leaf, max_size=3), max_size=3))
def test_nested_json_values_survive_the_way_there_and_back(values: dict[str, object]) -> None:
    assert from_fields(to_fields(values)) == json.loads(to_json(values))
