"""Instruments and the universe: keys, rules, columns in a fixed order."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import (
    CashKey,
    Instrument,
    InstrumentKey,
    TradingRules,
    Universe,
    spare_columns,
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


# ---- spare columns -------------------------------------------------------------------------------


def with_spares() -> Universe:
    return Universe((instrument("A"), *spare_columns("v", "USDC", 2), *spare_columns("w", "X", 1)))


def test_spare_columns_are_numbered_by_venue_and_say_that_they_are_free() -> None:
    universe = with_spares()
    assert universe.symbols == ("A", "(spare 1)", "(spare 2)", "(spare 1)")
    assert [i.is_spare for i in universe.instruments] == [False, True, True, True]
    assert universe.taken() == ((0, "A"),)
    assert universe.instruments[1].cash_key == CashKey("v", "USDC")


def test_a_spare_column_becomes_a_contract_and_stays_it() -> None:
    taken = with_spares().with_instrument(2, instrument("B"))
    assert taken.taken() == ((0, "A"), (2, "B"))
    assert taken.index[InstrumentKey("v", "B")] == 2
    assert taken.with_instrument(2, instrument("B", settle="USDT")).symbols == taken.symbols
    with pytest.raises(InvariantViolated, match=r"column 2 is v:B: got v:C"):
        taken.with_instrument(2, instrument("C"))
    with pytest.raises(InvariantViolated, match=r"column 1: v:B has column 2 already"):
        taken.with_instrument(1, instrument("B"))
    with pytest.raises(InvariantViolated, match=r"column 1 is of v: got w:C"):
        taken.with_instrument(1, instrument("C", "w"))
    with pytest.raises(InvariantViolated, match=r"column 2 is v:B"):
        taken.with_instrument(2, spare_columns("v", "USDC", 2)[1])
    with pytest.raises(InvariantViolated, match=r"is no contract"):
        taken.with_instrument(1, spare_columns("v", "USDC", 3)[2])


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("ABCDE"), st.sampled_from("vw")), max_size=12
    )
)
def test_no_contract_changes_its_column(
    asked: list[tuple[int, str, str]],
) -> None:
    universe = with_spares()
    for column, symbol, venue in asked:
        before = universe
        with suppress(InvariantViolated):
            universe = before.with_instrument(column, instrument(symbol, venue))
        for n, name in before.taken():
            assert universe.instruments[n].key == before.instruments[n].key, name
        assert len(set(universe.index)) == len(universe) == 4
