"""Payloads to vocabulary: exact numbers, and nothing guessed."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from adapters.exchange.mapping import (
    DECIMAL_PLACES,
    SIGNIFICANT_DIGITS,
    TICK_SIZE,
    chosen_symbols,
    exact,
    holds_a_list,
    instrument_of,
    next_funding_ms,
    readings_of,
    server_time_of,
    settled_of,
    step_of,
)
from daemon.domain.failures import BadPayload, ConfigurationError, VenueError
from daemon.domain.units import Timeframe

HALF_HOUR = Timeframe(30)
T0 = 1_704_067_200_000


def market(symbol: str = "BTC/USDT:USDT", **changes: Any) -> dict[str, Any]:
    """Write a unified market as ccxt does."""
    base = symbol.partition("/")[0]
    return {
        "id": f"{base}USDT",
        "symbol": symbol,
        "base": base,
        "quote": "USDT",
        "settle": "USDT",
        "swap": True,
        "linear": True,
        "active": True,
        "contractSize": 1.0,
        "created": T0,
        "precision": {"price": 0.1, "amount": 0.001},
        "limits": {"amount": {"min": 0.001}, "cost": {"min": 100.0}},
        **changes,
    }


def test_a_row_becomes_a_reading() -> None:
    (reading,) = readings_of([[T0, 1.0, 3, 0.5, 2.0, 7]], HALF_HOUR, "x")
    assert (reading.open_ms, reading.values) == (T0, (1.0, 3.0, 0.5, 2.0, 7.0))


@pytest.mark.parametrize(
    "rows",
    [
        None,
        "[]",
        {"code": -1},
        [None],
        [[T0, None, None, None, None, None]],
        [[T0, 1.0, 3.0, 0.5, math.nan, 7.0]],
        [[T0 + 1, 1.0, 3.0, 0.5, 2.0, 7.0]],
        [[str(T0), 1.0, 3.0, 0.5, 2.0, 7.0]],
        [[T0, 1.0, 3.0, 0.5, 2.0]],
        [[T0, 1.0, 3.0, 1.5, 2.0, 7.0]],  # the low lies above the open
    ],
)
def test_what_is_no_bar_is_refused_and_never_means_none(rows: object) -> None:
    with pytest.raises(BadPayload):
        readings_of(rows, HALF_HOUR, "x")


def test_one_impossible_row_among_many_counts_as_absent() -> None:
    rows = [[T0 + i * HALF_HOUR.ms, 1.0, 3.0, 0.5, 2.0, 7.0] for i in range(3)]
    rows[1][2] = 1.5  # a high below the close
    assert [r.open_ms for r in readings_of(rows, HALF_HOUR, "x")] == [rows[0][0], rows[2][0]]


def test_only_an_answer_with_a_list_in_it_can_say_none() -> None:
    assert holds_a_list([])
    assert holds_a_list({"result": {"list": []}})
    assert not holds_a_list({})
    assert not holds_a_list({"msg": "busy"})
    assert not holds_a_list("<html>")


def test_trading_rules_are_exact_and_in_base_units() -> None:
    rules = instrument_of(market(contractSize=0.01), "x", TICK_SIZE).rules
    assert rules.price_step == Decimal("0.1")
    assert rules.quantity_step == Decimal("0.00001")  # 0.001 contracts of 0.01 coins
    assert rules.quantity_min == Decimal("0.00001")
    assert str(rules.notional_min) == "100"


def test_an_instrument_keeps_venue_symbol_and_listing() -> None:
    instrument = instrument_of(market(), "binanceusdm", TICK_SIZE)
    assert str(instrument.key) == "binanceusdm:BTC/USDT:USDT"
    assert (instrument.base, instrument.quote, instrument.settle) == ("BTC", "USDT", "USDT")
    assert instrument.listed_ms == T0


def test_what_is_no_linear_perpetual_is_refused() -> None:
    with pytest.raises(VenueError, match="not as a linear perpetual"):
        instrument_of(market(linear=False), "x", TICK_SIZE)


def test_steps_are_read_in_every_mode_that_has_fixed_ones() -> None:
    assert step_of(1e-05, TICK_SIZE, "x") == Decimal("0.00001")
    assert step_of(3, DECIMAL_PLACES, "x") == Decimal("0.001")
    with pytest.raises(VenueError, match="no fixed step"):
        step_of(5, SIGNIFICANT_DIGITS, "x")
    for wrong in (None, 0, "many", True, math.inf):
        with pytest.raises(BadPayload):
            step_of(wrong, TICK_SIZE, "x")


def test_numbers_are_read_as_they_were_published() -> None:
    assert exact(0.1, "x") == Decimal("0.1")
    assert str(exact("100", "x")) == "100"
    assert exact(0, "x") == 0


MARKETS = {
    s: market(s) for s in ("BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT", "XRP/USDT:USDT")
} | {"BTC/USDT": market("BTC/USDT", swap=False, linear=None)}


def test_symbols_are_found_by_unified_name_or_by_id_each_once_in_order() -> None:
    wanted = ["SOLUSDT", "BTC/USDT:USDT", "SOL/USDT:USDT"]
    chosen = chosen_symbols(wanted, MARKETS, "x", settle="USDT")
    assert chosen == ["SOL/USDT:USDT", "BTC/USDT:USDT"]


def test_an_unknown_symbol_names_the_nearest() -> None:
    with pytest.raises(VenueError, match=r"'BTC/USDT'.*did you mean .*BTC/USDT:USDT"):
        chosen_symbols(["BTC/USDT"], MARKETS, "x", settle="USDT")


def test_the_top_is_by_quote_volume_among_active_ones() -> None:
    volumes = {"BTC/USDT:USDT": 9, "ETH/USDT:USDT": 5, "SOL/USDT:USDT": 7, "BTC/USDT": 99}
    tickers = {symbol: {"quoteVolume": volume} for symbol, volume in volumes.items()}
    markets = MARKETS | {"BTC/USDT:USDT": market("BTC/USDT:USDT", active=False)}
    chosen = chosen_symbols(["top:2"], markets, "x", settle="USDT", tickers=tickers)
    assert chosen == ["SOL/USDT:USDT", "ETH/USDT:USDT"]
    with pytest.raises(VenueError, match="trades 2 perpetuals"):
        chosen_symbols(["top:3"], markets, "x", settle="USDT", tickers=tickers)
    with pytest.raises(ConfigurationError, match="top:many"):
        chosen_symbols(["top:many"], markets, "x", settle="USDT", tickers=tickers)


def test_a_settlement_is_put_on_its_minute() -> None:
    entry = {
        "symbol": "BTC/USDT:USDT",
        "timestamp": T0 + 7,
        "fundingRate": -0.0001,
        "info": {"markPrice": "42000.5"},
    }
    settled = settled_of(entry, "x")
    assert (settled.settle_ms, settled.rate, settled.mark) == (T0, -0.0001, 42000.5)
    assert math.isnan(settled_of({**entry, "info": {}}, "x").mark)
    with pytest.raises(BadPayload):
        settled_of({**entry, "fundingRate": None}, "x")


def test_the_next_settlement_may_be_unknown() -> None:
    assert next_funding_ms({"fundingTimestamp": T0}) == T0
    assert next_funding_ms({"fundingTimestamp": None}) is None


def test_a_time_that_is_none_is_refused() -> None:
    assert server_time_of(T0, "x") == T0
    with pytest.raises(BadPayload, match="None"):
        server_time_of(None, "x")
