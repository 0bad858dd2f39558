"""The guards behind the rules: what no path may do stops the bank, whoever wrote the path."""

from decimal import Decimal

import pytest

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.ledger import book_fill, book_transfer, post
from adapters.rehearsal.bank.records import (
    Account,
    BankOrder,
    BankState,
    EndReason,
    IncomeKind,
    OrderStatus,
    TimerFired,
)
from adapters.rehearsal.bank.terms import OrderRequest, SymbolRules
from daemon.domain.failures import InvariantViolated
from tests.adapters.rehearsal.bank.bank_rig import (
    BTC,
    KEY,
    PLAIN,
    USDT,
    D,
    PlannedQuotes,
    limit,
    market,
    rules,
)


def desk_and_account() -> tuple[Desk, Account]:
    quotes = PlannedQuotes({BTC: [(0, "1000", "1")]})
    desk = Desk(rules(), quotes, PLAIN, BankState(0))
    account = desk.state.accounts[KEY] = Account(KEY)
    book_transfer(desk, account, USDT, D(1_000))
    return desk, account


def entered(desk: Desk, account: Account, request: OrderRequest) -> BankOrder:
    return desk.enter_order(account, request, 0)


@pytest.mark.parametrize(
    ("quantity", "words"),
    [(D("1.001"), "too much"), (D("-0.1"), "backwards"), (D(0), "by nothing")],
)
def test_a_fill_that_does_not_fit_its_order_stops_the_bank(quantity: Decimal, words: str) -> None:
    desk, account = desk_and_account()
    order = entered(desk, account, limit("1", "1000"))
    with pytest.raises(InvariantViolated, match=words):
        book_fill(desk, account, order, quantity, D(1_000), is_maker=True)
    assert account.trades == []


@pytest.mark.parametrize("quantity", [D("-0.6"), D("0.1")])
def test_a_reduce_only_fill_that_would_open_or_flip_stops_the_bank(quantity: Decimal) -> None:
    desk, account = desk_and_account()
    opening = entered(desk, account, market("0.5"))
    book_fill(desk, account, opening, D("0.5"), D(1_000), is_maker=False)
    order = entered(desk, account, market("1" if quantity > 0 else "-1", reduce_only=True))
    with pytest.raises(InvariantViolated, match="reduce-only"):
        book_fill(desk, account, order, quantity, D(1_000), is_maker=False)


def test_an_ended_order_can_neither_fill_nor_end_again() -> None:
    desk, account = desk_and_account()
    order = entered(desk, account, limit("1", "1000"))
    ended = desk.end_order(account, order, OrderStatus.CANCELLED, EndReason.REQUESTED)
    with pytest.raises(InvariantViolated, match="has ended"):
        book_fill(desk, account, ended, D(1), D(1_000), is_maker=True)
    with pytest.raises(InvariantViolated, match="ended before"):
        desk.end_order(account, ended, OrderStatus.EXPIRED, EndReason.TIMER)


def test_an_event_is_announced_under_the_number_just_drawn() -> None:
    desk, _ = desk_and_account()
    number = desk.next_event()
    desk.say(TimerFired(number, KEY, 0, "", 0))
    with pytest.raises(InvariantViolated, match="announced"):
        desk.say(TimerFired(number + 1, KEY, 0, "", 0))


def test_an_amount_finer_than_the_statement_is_no_line() -> None:
    desk, account = desk_and_account()
    with pytest.raises(InvariantViolated, match="eight decimals"):
        post(desk, account, IncomeKind.FUNDING, USDT, D("0.000000001"))


def test_dust_beyond_eight_decimals_goes_to_the_house_and_not_astray() -> None:
    fine = SymbolRules(BTC, USDT, D("0.000001"), D("0.00001"), D("0.00001"), D(0), 0)
    prints = [(0, "1.000003", "1"), (5, "1.100007", "1")]
    bank = Bank({BTC: fine}, PlannedQuotes({BTC: prints}), PLAIN)
    bank.open_account(KEY, {USDT: D(100)})
    for quantity in ("3.00001", "-1.00003", "-1.99998"):
        bank.place(KEY, market(quantity))
        bank.advance(bank.now_ms + 5)
    assert bank.positions(KEY) == []
    cash = bank.balance(KEY, USDT).cash
    assert cash == sum(line.amount for line in bank.income(KEY))
    # the trades' notionals have eleven decimals: the house holds what the statement cannot show
    traded = sum(t.quantity * t.price for t in bank.trades(KEY))
    assert traded != round(traded, 8)
    assert cash + bank.house.cash[USDT] == 100
