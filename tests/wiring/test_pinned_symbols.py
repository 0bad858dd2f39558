"""Which symbols a start asks for: those of the book, and named ones that take its free columns."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, spare_columns
from daemon.settings import Settings, load_settings
from daemon.wiring.instruments import write_instruments
from daemon.wiring.session import pinned_symbols

VENUE = "binanceusdm"
BOOK = ("BTC/USDT:USDT", "ETH/USDT:USDT")
NEW = "NEW/USDT:USDT"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    one = Decimal(1)
    rules = TradingRules(one, one, one, one)
    begun = [Instrument(InstrumentKey(VENUE, s), s[:3], "USDT", "USDT", rules) for s in BOOK]
    write_instruments(tmp_path, [*begun, *spare_columns(VENUE, "USDT", 1)], begun_ms=1, listed={})
    return tmp_path


def settings(folder: Path, symbols: str) -> Settings:
    chosen = (f"run.state_folder={folder}", f"universe.symbols={symbols}", "universe.spare=1")
    return load_settings((), overrides=chosen, environment={})


@pytest.mark.parametrize("symbols", ["top:2", str([*BOOK]).replace("'", '"')])
def test_a_book_is_asked_for_as_it_was_begun(folder: Path, symbols: str) -> None:
    assert pinned_symbols(settings(folder, symbols)) == BOOK


@pytest.mark.parametrize("first", ['"top:2"', '"BTC/USDT:USDT", "ETH/USDT:USDT"'])
def test_a_symbol_named_in_addition_is_asked_for_too(folder: Path, first: str) -> None:
    assert pinned_symbols(settings(folder, f'[{first}, "{NEW}"]')) == (*BOOK, NEW)


@pytest.mark.parametrize("symbols", ['["top:3", "NEW/USDT:USDT"]', '["BTC/USDT:USDT"]'])
def test_a_book_is_not_asked_for_in_part(folder: Path, symbols: str) -> None:
    with pytest.raises(ConfigurationError, match=r"universe\.symbols = .*name these"):
        pinned_symbols(settings(folder, symbols))


def test_more_than_there_is_room_for_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="has 1 free columns"):
        pinned_symbols(settings(folder, f'["top:2", "{NEW}", "MORE/USDT:USDT"]'))
