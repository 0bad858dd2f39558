"""Instruments and the universe: keys, rules, columns in a fixed order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import (
    CashKey,
    Instrument,
    InstrumentKey,
    TradingRules,
    Universe,
)

RULES = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.002"), Decimal(5))


def instrument(symbol: str, venue: str = "v", settle: str = "USDC") -> Instrument:
    return Instrument(InstrumentKey(venue, symbol), "BTC", "USDT", settle, RULES)


def test_positions_and_cash_are_named_by_venue() -> None:
    one = instrument("BTC/USDT:USDC")
    assert str(one.key) == "v:BTC/USDT:USDC"
    assert one.cash_key == CashKey("v", "USDC")


def test_columns_stand_in_the_order_of_the_universe() -> None:
    universe = Universe((instrument("B"), instrument("A"), instrument("A", "w")))
    assert len(universe) == 3
    assert universe.symbols == ("B", "A", "A")
    assert universe.index[InstrumentKey("w", "A")] == 2
    assert universe.steps().tolist() == [0.001] * 3
    assert universe.quantity_minima().tolist() == [0.002] * 3
    assert universe.notional_minima().tolist() == [5.0] * 3


def test_an_instrument_is_listed_once_and_a_universe_is_not_empty() -> None:
    with pytest.raises(InvariantViolated, match="twice"):
        Universe((instrument("A"), instrument("A")))
    with pytest.raises(InvariantViolated, match="at least one"):
        Universe(())


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("price_step", "0", "positive"),
        ("quantity_step", "-1", "positive"),
        ("contract_size", "0", "positive"),
        ("quantity_min", "-0.1", "not be negative"),
        ("notional_min", "-5", "not be negative"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(name: str, value: str, accepted: str) -> None:
    good: dict[str, Any] = {
        "price_step": Decimal("0.1"),
        "quantity_step": Decimal("0.1"),
        "quantity_min": Decimal(0),
        "notional_min": Decimal(0),
    }
    TradingRules(**good)
    with pytest.raises(InvariantViolated, match=f"{name} {value} must .*{accepted}"):
        TradingRules(**(good | {name: Decimal(value)}))
