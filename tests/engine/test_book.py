"""The book: exact ledger and float mirror side by side, marks, exposure at the worst case."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from daemon import codec
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey, Universe
from daemon.domain.order import Fill, Order, OrderId, OrderKind
from daemon.engine.book import REREAD_EVERY, Book
from tests.engine.world import CASH_KEY, NAN, VENUE, key, universe_of

NOW_MS = 1_000


def funded(cash: str = "1000") -> Book:
    book = Book(universe_of())
    book.cash_flow(CASH_KEY, Decimal(cash), funding=False)
    book.mark(NOW_MS, np.array([100.0, 50.0, 10.0, 1.0]))
    return book


def buy(book: Book, index: int, quantity: str, price: str, fee: str = "0") -> None:
    number = f"t{book.ledger.fills}"
    size, cost = Decimal(quantity), Decimal(price)
    fill = Fill(number, OrderId("o"), key(index), index, size, cost, Decimal(fee), NOW_MS)
    book.fill(fill, float(fill.quantity), float(price), reserved=False)


def order(index: int, quantity: str) -> Order:
    size = Decimal(quantity)
    return Order(OrderId("o"), key(index), index, size, OrderKind.MARKET, NOW_MS, 100.0)


def reserve(book: Book, sent: Order) -> None:
    book.reserve(sent.index, float(sent.quantity))


def test_a_fill_moves_cash_quantity_and_equity_by_hand() -> None:
    book = funded()
    buy(book, 0, "2", "101", fee="0.10")
    assert book.cash == 1000 - 202 - 0.10
    assert book.net == 200.0
    assert book.equity == pytest.approx(997.9)
    assert book.gross == 200.0
    assert book.weights().tolist() == pytest.approx([200 / 997.9, 0.0, 0.0, 0.0])
    buy(book, 1, "-4", "50")
    assert (book.net, book.gross) == (0.0, 400.0)


def test_the_cost_between_sizing_and_fill_is_summed_for_both_sides() -> None:
    book = funded()
    for quantity, price in (("2", "101"), ("-2", "99")):
        fill = Fill(
            quantity, OrderId("o"), key(0), 0, Decimal(quantity), Decimal(price), Decimal(0), 0
        )
        book.fill(fill, float(fill.quantity), 100.0, reserved=False)
    assert book.shortfall == 4.0  # 2 x 1 and -2 x -1


def test_the_worst_net_after_a_single_fill_is_remembered_for_good() -> None:
    book = funded()
    buy(book, 0, "2.5", "100")
    buy(book, 0, "-2.5", "100")
    assert book.net_weight_worst == 0.25


def test_open_orders_count_on_their_own_side_until_they_fill_or_end() -> None:
    book = funded()
    reserve(book, order(0, "3"))
    reserve(book, order(1, "-2"))
    assert book.worst_net() == (300.0, -100.0)
    book.release(0, Decimal(1))
    assert book.worst_net() == (200.0, -100.0)
    fill = Fill("a", OrderId("o"), key(0), 0, Decimal(2), Decimal(100), Decimal(0), NOW_MS)
    book.fill(fill, float(fill.quantity), 100.0, reserved=True)
    assert book.worst_net() == (200.0, 100.0)
    book.release(1, Decimal(-2))
    assert book.worst_net() == (200.0, 200.0)


def test_releasing_more_than_was_reserved_never_makes_room() -> None:
    book = funded()
    reserve(book, order(0, "1"))
    book.release(0, Decimal(5))
    assert book.worst_net() == (0.0, 0.0)
    assert book.pending_buy[0] == 0.0


def test_new_prices_value_open_orders_too() -> None:
    book = funded()
    reserve(book, order(0, "3"))
    reserve(book, order(3, "-10"))
    book.mark(NOW_MS + 1, np.array([200.0, NAN, NAN, 2.0]))
    assert book.worst_net() == (600.0, -20.0)
    assert book.prices == [200.0, 50.0, 10.0, 2.0]
    assert book.worst_name_and_gross(0, 1.0) == (800.0, 820.0)


def test_an_older_price_never_replaces_a_newer_one() -> None:
    book = funded()
    book.mark(NOW_MS - 1, np.full(4, 7.0))
    assert book.prices == [100.0, 50.0, 10.0, 1.0]
    assert book.mark_ms.tolist() == [NOW_MS] * 4


def test_marks_handed_out_are_never_changed_afterwards() -> None:
    book = funded()
    before = book.marks
    book.mark(NOW_MS + 1, np.array([1.0, NAN, 1.0, 1.0]))
    book.mark(NOW_MS + 2, np.full(4, 2.0))
    assert before.tolist() == [100.0, 50.0, 10.0, 1.0]


def test_a_mirror_that_left_the_ledger_stops_everything() -> None:
    book = funded()
    buy(book, 0, "1", "100")
    book.check_mirror()
    book.net += 1e-3
    with pytest.raises(InvariantViolated, match="off the ledger"):
        book.check_mirror()


def check_often(book: Book) -> None:
    for _ in range(REREAD_EVERY):
        book.check_mirror()


def test_a_quantity_that_left_the_ledger_is_found_when_all_are_read_again() -> None:
    book = funded()
    buy(book, 0, "1", "100")
    book.check_mirror()
    book.held[0] = 1.5
    with pytest.raises(InvariantViolated, match="off the ledger"):
        check_often(book)


def test_weights_without_equity_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="not positive"):
        Book(universe_of()).weights()


def test_several_currencies_are_added_up_and_kept_apart() -> None:
    rules = universe_of().instruments[0].rules
    both = tuple(
        Instrument(InstrumentKey(VENUE, f"{c}X"), "X", c, c, rules) for c in ("USDT", "USDC")
    )
    book = Book(Universe(both))
    book.cash_flow(CashKey(VENUE, "USDT"), Decimal(10), funding=False)
    book.cash_flow(CashKey(VENUE, "USDC"), Decimal(5), funding=True)
    book.mark(NOW_MS, np.array([1.0, 1.0]))
    fill = Fill("a", OrderId("o"), both[1].key, 1, Decimal(2), Decimal(1), Decimal("0.5"), NOW_MS)
    book.fill(fill, float(fill.quantity), 1.0, reserved=False)
    assert book.ledger.cash == {
        CashKey(VENUE, "USDT"): Decimal(10),
        CashKey(VENUE, "USDC"): Decimal("2.5"),
    }
    assert book.cash == 12.5


def test_an_adjustment_moves_the_quantity_and_no_cash() -> None:
    book = funded()
    book.adjust(key(2), Decimal(-3))
    assert (book.held[2], book.net, book.cash) == (-3.0, -30.0, 1000.0)
    assert book.ledger.fills == 0


def test_a_book_is_restored_to_the_last_bit() -> None:
    book = funded("1000.1")
    for number in range(7):
        buy(book, number % 3, "0.1", "33.3", fee="0.01")
        reserve(book, order(number % 4, "0.3"))
        book.release(number % 2, Decimal("0.1"))
    plain: dict[str, Any] = codec.decode(codec.encode(book.to_plain()), dict[str, Any])
    again = Book(universe_of())
    again.restore(plain)
    for name in ("net", "cash", "pending_up", "pending_down", "worst", "gross_worst", "held"):
        assert getattr(again, name) == getattr(book, name)
    assert again.ledger == book.ledger
    for one in (book, again):
        one.mark(NOW_MS + 1, np.array([0.1, 0.2, 0.3, NAN]))
        reserve(one, order(3, "0.7"))
    assert again.worst_net() == book.worst_net()
    assert again.gross_worst == book.gross_worst
    assert codec.encode(again.to_plain()) == codec.encode(book.to_plain())


def test_only_positive_marks_of_late_enough_bars_are_eligible() -> None:
    book = funded()
    assert book.eligible(NOW_MS).tolist() == [True] * 4
    assert book.eligible(NOW_MS + 1).tolist() == [False] * 4
    book.mark(NOW_MS + 1, np.array([100.0, NAN, 0.0, 1.0]))
    assert book.eligible(NOW_MS).tolist() == [True, True, False, True]
    assert book.eligible(NOW_MS + 1).tolist() == [True, False, False, True]
    book.mark(NOW_MS + 2, np.array([100.0, 50.0, -1.0, 1.0]))
    assert book.eligible(NOW_MS).tolist() == [True, True, False, True]
    book.mark(NOW_MS + 3, np.array([100.0, 50.0, 10.0, 1.0]))
    assert book.eligible(NOW_MS + 3).tolist() == [True] * 4


def test_the_mirror_is_checked_again_after_every_trade_of_a_position() -> None:
    book = funded()
    buy(book, 0, "2", "100")
    book.check_mirror()
    buy(book, 0, "1", "100")
    book.check_mirror()
    book.ledger.apply_adjustment(key(0), CASH_KEY, Decimal("0.001"), Decimal(0))
    with pytest.raises(InvariantViolated, match="off the ledger"):
        book.check_mirror()
