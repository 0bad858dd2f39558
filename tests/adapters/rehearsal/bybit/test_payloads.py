"""Texts, ids and pages in Bybit's words: what must hold for all of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.rehearsal.bank.terms import Refusal, RefusalReason
from adapters.rehearsal.bybit.answers import BybitError, limit_of, plain, refused
from adapters.rehearsal.bybit.asking import _page
from adapters.rehearsal.bybit.payloads import bank_order_id, venue_order_id
from adapters.rehearsal.bybit.public_payloads import INTERVALS, VENUE_INTERVALS
from adapters.rehearsal.bybit.words import parse_topic
from adapters.rehearsal.dialect import INTERVALS_MS
from daemon.domain.failures import InvariantViolated


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8))
def test_a_text_of_a_number_is_exact_and_has_no_exponent(number: Decimal) -> None:
    text = plain(number)
    assert Decimal(text) == number
    assert set(text) <= set("-.0123456789")
    assert "." not in text or not text.endswith("0")


@given(st.integers(1, 16**12 - 1))
def test_an_orders_number_comes_back_from_its_id(number: int) -> None:
    text = venue_order_id(number)
    assert len(text) == 36
    assert bank_order_id(text) == number


@given(st.text())
def test_what_is_no_id_is_no_orders_number(text: str) -> None:
    assert bank_order_id(text) == 0


@given(st.sets(st.integers(1, 500)), st.integers(1, 50))
def test_pages_hold_each_row_once_and_newest_first(numbers: set[int], limit: int) -> None:
    rows = sorted(numbers, reverse=True)
    seen: list[int] = []
    query: dict[str, str] = {}
    while True:
        page, cursor = _page(rows, lambda row: row, query, limit)
        assert len(page) <= limit
        seen += page
        if not cursor:
            break
        query = {"cursor": cursor}
    assert seen == rows


def test_every_interval_has_the_venues_name_and_back() -> None:
    assert set(VENUE_INTERVALS) == set(INTERVALS_MS)
    for theirs, ours in INTERVALS.items():
        stream = parse_topic(f"kline.{theirs}.BTCUSDT")
        assert stream is not None
        assert (stream.interval, stream.symbol) == (ours, "BTCUSDT")
    assert (INTERVALS["30"], INTERVALS["240"], INTERVALS["D"]) == ("30m", "4h", "1d")


@given(st.integers(1, 10_000))
def test_no_more_rows_than_the_venue_gives(wanted: int) -> None:
    assert limit_of({"limit": str(wanted)}, 20, 50) == min(wanted, 50)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5", "²"])
def test_an_odd_limit_is_refused(text: str) -> None:
    query: dict[str, Any] = {"limit": text}
    with pytest.raises(BybitError) as caught:
        limit_of(query, 20, 50)
    assert caught.value.code == 10001


_ELSEWHERE = {RefusalReason.NO_CHANGE, RefusalReason.MODE_LOCKED, RefusalReason.POST_ONLY}


@pytest.mark.parametrize("reason", list(RefusalReason))
def test_every_refusal_of_the_bank_has_a_code(reason: RefusalReason) -> None:
    refusal = Refusal(reason, "for a test")
    if reason in _ELSEWHERE:
        with pytest.raises(InvariantViolated):
            refused(refusal)
    else:
        assert refused(refusal).code in {10001, 110001, 110003, 110007, 110012, 110013} | {
            110017,
            110020,
            110072,
            110074,
            110094,
        }
