"""The instruments of a book are written once, read back equal, and guarded."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from daemon.domain.failures import CorruptFile, DataError
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.wiring.instruments import (
    FILE,
    has_instruments,
    read_instruments,
    refuse_headless_book,
    write_instruments,
)


def instrument(symbol: str, listed_ms: int | None = None) -> Instrument:
    rules = TradingRules(
        Decimal("0.10"), Decimal("0.00100"), Decimal(0), Decimal("5.0"), Decimal("0.01")
    )
    return Instrument(InstrumentKey("v", symbol), "B", "USDT", "USDC", rules, listed_ms)


BOOK = [instrument("B/USDT:USDC", 7), instrument("A/USDT:USDC")]


def test_what_is_written_is_read_back_equal_and_in_order(tmp_path: Path) -> None:
    assert not has_instruments(tmp_path)
    write_instruments(tmp_path, BOOK)
    assert has_instruments(tmp_path)
    again = read_instruments(tmp_path)
    assert again == BOOK
    assert str(again[0].rules.quantity_step) == "0.00100"
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_a_book_keeps_the_instruments_it_was_begun_with(tmp_path: Path) -> None:
    write_instruments(tmp_path, BOOK)
    write_instruments(tmp_path, [instrument("C/USDT:USDC")])
    assert read_instruments(tmp_path) == BOOK


def test_a_folder_without_a_book_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no book was begun in this folder"):
        read_instruments(tmp_path)


def test_a_journal_without_its_instruments_is_named_and_not_begun_anew(tmp_path: Path) -> None:
    refuse_headless_book(tmp_path)
    (tmp_path / "journal.sqlite").touch()
    with pytest.raises(DataError, match=r"instruments\.json: is missing beside journal\.sqlite"):
        refuse_headless_book(tmp_path)
    write_instruments(tmp_path, [instrument("BTC/USDT:USDT")])
    refuse_headless_book(tmp_path)


def _broken(**changes: Any) -> str:
    row = {
        "venue": "v",
        "symbol": "A",
        "base": "A",
        "quote": "USDT",
        "settle": "USDT",
        "listed_ms": None,
        "price_step": "0.1",
        "quantity_step": "0.1",
        "quantity_min": "0",
        "notional_min": "5",
        "contract_size": "1",
    }
    rows = [{k: v for k, v in (row | changes).items() if v != "gone"}]
    return json.dumps({"instruments": rows})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"instruments": [7]}',
        _broken(price_step="gone"),
        _broken(quantity_step="ten"),
        _broken(quantity_step="-1"),
        _broken(price_step=None),
    ],
    ids=["empty", "cut", "list", "nothing", "number", "missing", "word", "negative", "null"],
)
def test_a_broken_file_is_named_with_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(CorruptFile, match=FILE):
        read_instruments(tmp_path)


def test_bytes_that_are_no_text_are_a_broken_file_too(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CorruptFile, match=FILE):
        read_instruments(tmp_path)
