"""Differences: over the union of both sides, of one venue, named in a stable order."""

from __future__ import annotations

from decimal import Decimal

from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.portfolio import AccountSnapshot, Ledger, Position
from daemon.engine.reconcile import differences, rounding_in
from tests.engine.world import CASH_KEY, VENUE, key, universe_of


def account(
    quantities: dict[InstrumentKey, Decimal], cash: dict[CashKey, Decimal]
) -> AccountSnapshot:
    return AccountSnapshot(VENUE, 0, quantities, cash)


def test_equal_books_differ_in_nothing_and_zero_is_the_same_as_absent() -> None:
    ledger = Ledger()
    ledger.positions[key(0)] = Position(Decimal("1.0"), Decimal(5))
    ledger.positions[key(1)] = Position()
    ledger.cash[CASH_KEY] = Decimal("7.50")
    same = account(
        {key(0): Decimal(1)}, {CASH_KEY: Decimal("7.5"), CashKey(VENUE, "BNB"): Decimal(0)}
    )
    assert differences(ledger, same) == ()


def test_what_only_one_side_has_is_a_difference_too() -> None:
    ledger = Ledger()
    ledger.positions[key(1)] = Position(Decimal(-2), Decimal(-5))
    ledger.cash[CASH_KEY] = Decimal(7)
    found = differences(ledger, account({key(0): Decimal(1)}, {CashKey(VENUE, "USDC"): Decimal(3)}))
    assert [str(d) for d in found] == [
        "paper:BTC/USDT:USDT: ours 0, venue 1",
        "paper:ETH/USDT:USDT: ours -2, venue 0",
        "paper:USDC: ours 0, venue 3",
        "paper:USDT: ours 7, venue 0",
    ]
    assert [d.is_ours(universe_of(1)) for d in found] == [True, False, True, True]


def test_another_venue_s_account_is_none_of_this_one_s_business() -> None:
    ledger = Ledger()
    elsewhere = InstrumentKey("other", "BTC/USDT:USDT")
    ledger.positions[elsewhere] = Position(Decimal(9), Decimal(9))
    ledger.cash[CashKey("other", "USDT")] = Decimal(9)
    assert differences(ledger, account({}, {})) == ()


def test_cash_that_differs_by_the_venues_rounding_alone_is_told_apart() -> None:
    cash = CashKey("v", "USDT")
    held = InstrumentKey("v", "BTC/USDT:USDT")
    ledger = Ledger(cash={cash: Decimal(100)})

    def rounding(theirs: str, quantity: str = "0") -> bool:
        told = AccountSnapshot(
            "v",
            0,
            {held: Decimal(quantity)},
            {cash: Decimal(theirs)},
            cash_rounding={cash: Decimal("0.01")},
        )
        found = differences(ledger, told)
        return rounding_in(found, told) == found

    assert rounding("100.01")
    assert rounding("99.99")
    assert not rounding("100.02")
    assert not rounding("100.01", "1"), "a position is never rounding"


def test_the_last_digits_of_a_years_fills_are_rounding_and_never_a_difference() -> None:
    """800 fills a day, each rounded the same way: past a fixed allowance after a fortnight."""
    cash, fills_n = CashKey("v", "USDT"), 300_000
    ledger = Ledger(cash={cash: Decimal(100)})

    def rounding(theirs: str, allowed: str = "0.0001") -> bool:
        told = AccountSnapshot(
            "v", 0, {}, {cash: Decimal(theirs)}, cash_rounding={cash: Decimal(allowed)}
        )
        found = differences(ledger, told)
        return rounding_in(found, told, fills_n) == found

    assert rounding("99.9970")
    assert not rounding("99.9968")
    assert not rounding("99.9970", "0"), "a venue that rounds nothing explains nothing"
