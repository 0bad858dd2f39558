"""The last word before every submit: each rule refuses what it must, at its edge and not before."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.failures import InvariantViolated
from daemon.domain.order import Approved, Fill, Order, OrderId, OrderKind, RefusalReason, Refused
from daemon.engine.book import Book
from daemon.engine.risk import Risk, RiskLimits, TradingState
from tests.engine.world import CASH_KEY, NAN, key, universe_of

NOW_MS = 10_000_000_000
LIMITS = RiskLimits(
    gross_weight_max=0.8,
    net_weight_max=0.3,
    name_weight_max=0.4,
    order_weight_max=0.25,
    orders_open_max=5,
    mark_age_ms_max=1_000,
)


def order(quantity: str, index: int = 0, *, reduce_only: bool = False) -> Order:
    return Order(
        OrderId(f"o{index}{quantity}"),
        key(index),
        index,
        Decimal(quantity),
        OrderKind.MARKET,
        NOW_MS,
        100.0,
        reduce_only=reduce_only,
    )


def reserve(book: Book, sent: Order) -> None:
    book.reserve(sent.index, float(sent.quantity))


def book_of(*held: str, cash: str = "10000", marks: float = 100.0) -> Book:
    """Give a book whose equity is `cash` plus nothing: positions were bought at their marks."""
    book = Book(universe_of())
    book.cash_flow(CASH_KEY, Decimal(cash), funding=False)
    book.mark(NOW_MS, np.full(4, marks))
    for index, quantity in enumerate(held):
        if Decimal(quantity):
            size, price = Decimal(quantity), Decimal(repr(marks))
            fill = Fill(f"t{index}", OrderId("x"), key(index), index, size, price, Decimal(0), 0)
            book.fill(fill, float(fill.quantity), marks, reserved=False)
    return book


def verdict(
    book: Book,
    wanted: Order,
    *,
    state: TradingState = TradingState.TRADING,
    now_ms: int = NOW_MS,
    open_n: int = 0,
    limits: RiskLimits = LIMITS,
) -> RefusalReason | None:
    found = Risk(limits, book).judge(wanted, float(wanted.quantity), state, now_ms, open_n)
    if isinstance(found, Refused):
        assert found.order is wanted
        assert found.detail
        return found.reason
    assert found == Approved(wanted)
    return None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (TradingState.TRADING, None),
        (TradingState.REDUCE_ONLY, RefusalReason.REDUCE_ONLY),
        (TradingState.STARTING, RefusalReason.HALTED),
        (TradingState.RECONCILING, RefusalReason.HALTED),
        (TradingState.HALTED, RefusalReason.HALTED),
    ],
)
def test_only_the_trading_state_opens_exposure(
    state: TradingState, expected: RefusalReason | None
) -> None:
    assert verdict(book_of(), order("1"), state=state) is expected


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("-5", None),
        ("-10", None),
        ("-10.01", RefusalReason.REDUCE_ONLY),  # would turn the position round
        ("1", RefusalReason.REDUCE_ONLY),
    ],
)
def test_reduce_only_lets_a_position_shrink_and_no_more(
    quantity: str, expected: RefusalReason | None
) -> None:
    found = verdict(book_of("10"), order(quantity), state=TradingState.REDUCE_ONLY)
    assert found is expected


def test_reduce_only_counts_the_reducing_orders_that_are_out_already() -> None:
    book = book_of("10")
    reserve(book, order("-6"))
    state = TradingState.REDUCE_ONLY
    assert verdict(book, order("-4"), state=state) is None
    assert verdict(book, order("-4.01"), state=state) is RefusalReason.REDUCE_ONLY


def test_three_tenths_less_one_and_two_tenths_is_nothing_left() -> None:
    book = book_of("0.3")  # in floats 0.1 + 0.2 is more than 0.3
    reserve(book, order("-0.1"))
    assert verdict(book, order("-0.2"), state=TradingState.REDUCE_ONLY) is None


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        ("0.105", RefusalReason.QUANTITY_STEP),
        ("0", RefusalReason.QUANTITY_MIN),
        ("0.04", RefusalReason.NOTIONAL_MIN),  # 4 USDT of at least 5
        ("0.05", None),
        ("25", None),
        ("25.01", RefusalReason.ORDER_SIZE),  # a quarter of 10,000 USDT is 25 coins
        ("-25.01", RefusalReason.ORDER_SIZE),
    ],
)
def test_sizes_are_held_to_the_venue_s_rules_and_ours(
    quantity: str, expected: RefusalReason | None
) -> None:
    assert verdict(book_of(), order(quantity)) is expected


def test_what_is_below_the_minimum_may_still_close_a_position() -> None:
    assert verdict(book_of("0.04"), order("-0.04")) is None
    assert verdict(book_of("0.08"), order("-0.04")) is RefusalReason.NOTIONAL_MIN
    assert verdict(book_of("0.08"), order("-0.04", reduce_only=True)) is None


def test_without_a_price_nothing_is_traded() -> None:
    book = Book(universe_of())
    book.cash_flow(CASH_KEY, Decimal(10_000), funding=False)
    assert verdict(book, order("1")) is RefusalReason.PRICE
    book.mark(NOW_MS, np.array([NAN, 0.0, -1.0, 100.0]))
    assert verdict(book, order("1", 0)) is RefusalReason.PRICE
    assert verdict(book, order("1", 1)) is RefusalReason.PRICE
    assert verdict(book, order("1", 2)) is RefusalReason.PRICE
    assert verdict(book, order("1", 3)) is None


def test_an_old_price_stops_trading_in_that_instrument() -> None:
    assert verdict(book_of(), order("1"), now_ms=NOW_MS + 1_000) is None
    assert verdict(book_of(), order("1"), now_ms=NOW_MS + 1_001) is RefusalReason.STALE


def test_no_more_orders_are_open_than_allowed() -> None:
    assert verdict(book_of(), order("1"), open_n=4) is None
    assert verdict(book_of(), order("1"), open_n=5) is RefusalReason.ORDER_COUNT


def test_without_equity_nothing_is_traded() -> None:
    assert verdict(book_of(cash="0"), order("1")) is RefusalReason.GROSS


@pytest.mark.parametrize(
    ("held", "pending", "quantity", "expected"),
    [
        # net may be 3,000 USDT either way, less 0.3 x 1 % of what is traded for what it may cost
        (("20", "0"), "0", "9.97", None),
        (("20", "0"), "0", "9.98", RefusalReason.NET),
        (("-20", "0"), "0", "-9.98", RefusalReason.NET),
        (("20", "0"), "5", "4.97", None),  # what is out counts as if it were filled
        (("20", "0"), "5", "4.98", RefusalReason.NET),
        (("20", "0"), "-15", "10.01", RefusalReason.NET),  # but never to our advantage
        (("25", "10"), "0", "-20", None),  # outside, and on the way back in
        (("25", "10"), "0", "0.05", RefusalReason.NET),
    ],
)
def test_net_is_bounded_at_the_worst_case_of_what_is_out(
    held: tuple[str, str], pending: str, quantity: str, expected: RefusalReason | None
) -> None:
    book = book_of(*held)
    if Decimal(pending):
        reserve(book, order(pending, 3))
    index = 0 if Decimal(quantity) < 0 else 2
    assert verdict(book, order(quantity, index)) is expected


@pytest.mark.parametrize(
    ("held", "pending", "quantity", "expected"),
    [
        ("25", "0", "15", None),
        ("25", "0", "15.01", RefusalReason.NAME),  # 40 coins are 0.4 of equity
        ("25", "10", "5", None),
        ("25", "10", "5.01", RefusalReason.NAME),
        ("-25", "0", "-15.01", RefusalReason.NAME),
        ("50", "0", "-10", None),  # too large, but shrinking
        ("25", "-20", "-25", None),  # out together 45 against 25: short 20
        ("25", "-24", "-24", None),
        ("20", "-24", "-24", None),
        ("20", "-40", "-21", RefusalReason.NAME),  # each reduces alone, all of them turn it round
    ],
)
def test_one_name_is_bounded_at_its_worst_case(
    held: str, pending: str, quantity: str, expected: RefusalReason | None
) -> None:
    offset = str(-Decimal(held))
    book = book_of(held, offset)
    if Decimal(pending):
        reserve(book, order(pending))
    limits = RiskLimits(gross_weight_max=9.0, net_weight_max=9.0, name_weight_max=0.4)
    assert verdict(book, order(quantity), limits=limits) is expected


def test_gross_is_bounded_at_its_worst_case_and_shrinking_is_always_allowed() -> None:
    book = book_of("20", "-20", "20")
    assert verdict(book, order("-20", 3)) is None
    assert verdict(book, order("-20.01", 3)) is RefusalReason.GROSS
    reserve(book, order("-15", 3))
    assert verdict(book, order("-5", 3)) is None
    assert verdict(book, order("-5.01", 3)) is RefusalReason.GROSS
    too_large = book_of("25", "-25", "20", "-20")
    assert verdict(too_large, order("-5")) is None
    assert verdict(too_large, order("5", 3)) is None
    assert verdict(too_large, order("0.05")) is RefusalReason.GROSS


@pytest.mark.parametrize(
    "name", ["gross_weight_max", "net_weight_max", "name_weight_max", "order_weight_max"]
)
def test_a_limit_that_is_not_positive_is_refused(name: str) -> None:
    with pytest.raises(InvariantViolated, match=name):
        RiskLimits(**{name: 0.0})  # type: ignore[arg-type]
