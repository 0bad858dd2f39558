"""The comparison with a statement: random accounts agree, and no line can change unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import IncomeKind
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.order import Fill, OrderId
from daemon.domain.portfolio import AccountSnapshot, Ledger, Position
from tests.adapters.rehearsal.bank.bank_rig import BTC, ETH, KEY, bank_at, market
from tests.simulation.statement import EVERYTHING, check_statement, statement_differences

CASH = CashKey("v", "USDT")
TINY, ENTRY = Decimal("1e-8"), Decimal("1e-5")
COUNTS = st.lists(st.tuples(st.sampled_from((BTC, ETH)), st.integers(-900, 900)), max_size=25)
PRICES = [(n, f"{1000 + 7 * n % 60}.{n % 10}", "1") for n in range(1, 40)]


def key_of(symbol: str) -> InstrumentKey:
    return InstrumentKey("v", f"{symbol.removesuffix('USDT')}/USDT:USDT")


def booked(bank: Bank, adopted: AccountSnapshot | None = None) -> Ledger:
    """Book trades and cash flows as the daemon would, without any rounding."""
    ledger, begun_ms = Ledger(), -1
    if adopted is not None:
        begun_ms = adopted.at_ms
        ledger.apply_transfer(CASH, adopted.cash[CASH])
        for key, quantity in adopted.quantities.items():
            ledger.apply_adjustment(key, CASH, quantity, Decimal(0))
    for number, trade in enumerate(bank.trades(KEY, limit=EVERYTHING)):
        if trade.at_ms <= begun_ms:
            continue
        key = key_of(trade.symbol)
        fill = Fill(f"{number}", OrderId("o"), key, 0, trade.quantity, trade.price, trade.fee, 0)
        ledger.apply_fill(fill, CASH)
    for line in bank.income(KEY, limit=EVERYTHING):
        if line.at_ms <= begun_ms:
            continue
        if line.kind is IncomeKind.TRANSFER:
            ledger.apply_transfer(CASH, line.amount)
        elif line.kind not in (IncomeKind.REALISED, IncomeKind.COMMISSION):
            ledger.apply_funding(CASH, line.amount)
    return ledger


def told(bank: Bank) -> AccountSnapshot:
    """Tell what the account holds as a venue does: its entry prices are rounded."""
    cash, room, held = bank.balance(KEY, "USDT").cash, TINY, dict[InstrumentKey, Decimal]()
    for view in bank.positions(KEY):
        quantity, cost = view.position.quantity, view.position.cost
        held[key_of(view.symbol)] = quantity
        if quantity:
            cash -= quantity * (cost / quantity).quantize(ENTRY)
            room += abs(quantity) * ENTRY / 2
    held = {key: quantity for key, quantity in held.items() if quantity}
    rounding = {CASH: room + Decimal("0.0001")}
    return AccountSnapshot("v", bank.now_ms, held, {CASH: cash}, cash_rounding=rounding)


def adopting(steps: list[tuple[str, int]], begins_at: int) -> tuple[Bank, AccountSnapshot]:
    """Trade as in `traded`; a book begins after so many steps."""
    seen: list[AccountSnapshot] = []

    def looked(bank: Bank, step: int) -> None:
        if step == begins_at:
            seen.append(told(bank))

    return traded(steps, looked), seen[0]


def traded(
    steps: list[tuple[str, int]], looked: Callable[[Bank, int], None] = lambda bank, step: None
) -> Bank:
    """Trade, be paid funding, deposit, and lose one position to the venue."""
    bank = bank_at(*PRICES, funding=[(n, "0.000137") for n in range(3, 40, 5)])
    for at_ms, (symbol, count) in enumerate(steps, start=1):
        bank.advance(at_ms)
        if count:
            bank.place(KEY, market(f"{Decimal(count) / 1000}", symbol))
        looked(bank, at_ms)
    bank.advance(len(steps) + 1)
    bank.transfer(KEY, "USDT", Decimal("12.34567891"))
    bank.advance(39)
    if any(view.symbol == BTC for view in bank.positions(KEY)):
        bank.liquidate(KEY, BTC)
    return bank


@settings(max_examples=60)
@given(steps=COUNTS)
def test_exact_books_agree_with_a_statement_of_rounded_gains(steps: list[tuple[str, int]]) -> None:
    bank = traded(steps)
    check_statement(booked(bank), bank, KEY)


def _lose_a_fill(ledger: Ledger) -> None:
    ledger.fills -= 1


def _move_a_position(ledger: Ledger) -> None:
    held = ledger.positions[key_of(ETH)]
    ledger.positions[key_of(ETH)] = Position(held.quantity + 1, held.cost)


def _add(name: str) -> Callable[[Ledger], None]:
    return lambda ledger: setattr(ledger, name, getattr(ledger, name) + TINY)


def _cash(ledger: Ledger) -> None:
    ledger.cash[CASH] += TINY


def _other_coin(ledger: Ledger) -> None:
    ledger.other[CashKey("v", "BNB")] = TINY


CHANGES: Final = (
    (_add("fees"), "commission"),
    (_add("funding"), "funding and charges"),
    (_add("transfers"), "transfers"),
    (_add("adjustments"), "adjustments"),
    (_lose_a_fill, "trades"),
    (_move_a_position, "position ETHUSDT"),
    (_cash, "cash in USDT"),
)


@pytest.mark.parametrize(("change", "named"), [*CHANGES, (_other_coin, "cash in BNB")])
def test_the_last_digit_of_anything_is_noticed_and_named(
    change: Callable[[Ledger], None], named: str
) -> None:
    bank = traded([(ETH, 333), (BTC, -777), (ETH, -111), (BTC, 421)])
    ledger = booked(bank)
    assert ledger.funding
    change(ledger)
    (found,) = statement_differences(ledger, bank, KEY)
    assert found.startswith(f"{named}: ours")


def test_a_gain_that_the_venue_rounds_otherwise_is_noticed() -> None:
    bank = traded([(ETH, 333), (ETH, -111)])
    account = bank._desk.state.accounts[KEY]
    at = next(n for n, x in enumerate(account.income) if x.kind is IncomeKind.REALISED)
    line = account.income[at]
    account.income[at] = type(line)(
        line.income_id, line.kind, line.currency, line.amount + TINY, 0, line.symbol, line.trade_id
    )
    (found,) = statement_differences(booked(bank), bank, KEY)
    assert found.startswith(f"gain of trade {line.trade_id}: ours")


# ---- a book that began on an account where others had traded ------------------------------------


@settings(max_examples=60)
@given(steps=COUNTS.filter(bool), data=st.data())
def test_a_book_that_took_over_what_was_told_agrees_from_there_on(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    bank, adopted = adopting(steps, data.draw(st.integers(1, len(steps))))
    check_statement(booked(bank, adopted), bank, KEY, adopted)


STEPS = [(ETH, 333), (BTC, -777), (ETH, -111), (BTC, 421)]


@pytest.mark.parametrize(("change", "named"), CHANGES)
def test_after_an_adoption_the_last_digit_is_noticed_all_the_same(
    change: Callable[[Ledger], None], named: str
) -> None:
    bank, adopted = adopting(STEPS, 3)
    ledger = booked(bank, adopted)
    change(ledger)
    (found,) = statement_differences(ledger, bank, KEY, adopted)
    assert found.startswith(f"{named}: ours")


def test_what_was_adopted_is_held_against_the_statement_itself() -> None:
    bank, adopted = adopting(STEPS, 3)
    room = adopted.cash_rounding[CASH]
    more = replace(adopted, cash={CASH: adopted.cash[CASH] + 2 * room + TINY})
    (found,) = statement_differences(booked(bank, more), bank, KEY, more)
    assert found.startswith("adopted cash in USDT: ours")
    held = {**adopted.quantities, key_of(ETH): adopted.quantities[key_of(ETH)] + 1}
    moved = replace(adopted, quantities=held)
    found, *others = statement_differences(booked(bank, moved), bank, KEY, moved)
    assert found.startswith("adopted position ETHUSDT: ours")
    assert [one.partition(":")[0] for one in others] == ["position ETHUSDT"]


def test_where_time_stands_still_the_trades_that_were_adopted_are_told_from_those_after() -> None:
    bank = bank_at(*PRICES)
    bank.advance(1)
    bank.place(KEY, market("0.3", ETH))
    adopted = told(bank)
    bank.place(KEY, market("-0.3", ETH))
    assert len({trade.at_ms for trade in bank.trades(KEY)}) == 1
    ledger = booked(bank, adopted)
    last = bank.trades(KEY)[-1]
    fill = Fill("1", OrderId("o"), key_of(ETH), 0, last.quantity, last.price, last.fee, 0)
    assert statement_differences(ledger, bank, KEY, adopted) != []
    ledger.apply_fill(fill, CASH)
    check_statement(ledger, bank, KEY, adopted)
