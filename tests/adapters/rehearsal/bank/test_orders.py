"""What is admitted, what is refused and why, and how orders are found and ended."""

from decimal import Decimal

import msgspec
import pytest

from adapters.rehearsal.bank.records import EndReason, OrderStatus, OrderUpdated, TimerFired
from adapters.rehearsal.bank.terms import (
    ClientIds,
    OrderRequest,
    Origin,
    PositionMode,
    RefusalReason,
    TimeInForce,
    UnknownAccount,
)
from daemon.domain.failures import InvariantViolated
from daemon.domain.order import OrderKind
from tests.adapters.rehearsal.bank.bank_rig import (
    BTC,
    ETH,
    KEY,
    OTHER,
    PLAIN,
    bank_at,
    frozen,
    limit,
    market,
    now,
    of_kind,
    placed,
    reason,
)

POST = TimeInForce.POST_ONLY


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (market("1", "DOGEUSDT"), RefusalReason.UNKNOWN_SYMBOL),
        (market("0.0015"), RefusalReason.QUANTITY_PRECISION),
        (market("0"), RefusalReason.QUANTITY_MIN),
        (limit("1", "900.05"), RefusalReason.PRICE_PRECISION),
        (limit("1", "-900"), RefusalReason.PRICE_PRECISION),
        (OrderRequest(BTC, Decimal(1), OrderKind.LIMIT), RefusalReason.PRICE_MISSING),
        (market("0.004"), RefusalReason.NOTIONAL_MIN),  # 0.004 x 1000 = 4 < 5
        (limit("-1", "899.9"), RefusalReason.PRICE_BAND),  # over 10 % away
        (limit("1", "1100.1"), RefusalReason.PRICE_BAND),
        (market("1", reduce_only=True), RefusalReason.REDUCE_ONLY),
        (limit("1", "1001", POST), RefusalReason.POST_ONLY),  # the best ask is 1001
        (limit("-1", "999", POST), RefusalReason.POST_ONLY),
        (market("101"), RefusalReason.MARGIN),  # 101 000 at leverage 10 needs 10 100
    ],
)
def test_a_refusal_has_its_reason_and_leaves_no_trace(
    request_: OrderRequest, expected: RefusalReason
) -> None:
    bank = bank_at()
    before = frozen(bank)
    assert reason(bank.place(KEY, request_)) is expected
    assert frozen(bank) == before


@pytest.mark.parametrize(
    "request_",
    [
        market("0.005"),
        limit("1", "900"),
        limit("1", "1100"),
        limit("1", "500"),  # only dearer bids and cheaper offers than the market's can do harm
        limit("-1", "5000"),
        limit("1", "1000.9", POST),
        limit("-1", "999.1", POST),
        market("99"),
    ],
)
def test_what_lies_just_inside_the_rules_is_admitted(request_: OrderRequest) -> None:
    placed(bank_at(), request_)


def test_a_reduce_only_order_may_be_below_the_least_notional_and_not_grow_a_position() -> None:
    bank = bank_at()
    placed(bank, market("0.006"))
    assert reason(bank.place(KEY, market("0.002", reduce_only=True))) is RefusalReason.REDUCE_ONLY
    assert placed(bank, market("-0.002", reduce_only=True)).status is OrderStatus.FILLED


def test_a_client_id_is_free_again_once_its_order_ended() -> None:
    bank = bank_at()
    placed(bank, limit("1", "950", client_id="a"))
    duplicate = bank.place(KEY, limit("1", "951", client_id="a"))
    assert reason(duplicate) is RefusalReason.DUPLICATE_CLIENT_ID
    placed(bank, limit("1", "950", client_id="a"), OTHER)  # ids are each account's own
    bank.cancel(KEY, BTC, client_id="a")
    again = placed(bank, limit("1", "952", client_id="a"))
    assert bank.query(KEY, BTC, client_id="a") == again


def test_a_client_id_stays_taken_for_ever_where_the_venue_says_so() -> None:
    for_ever = msgspec.structs.replace(PLAIN, client_ids=ClientIds.UNIQUE_FOR_EVER)
    bank = bank_at(settings=for_ever)
    assert placed(bank, market("0.1", client_id="a")).status is OrderStatus.FILLED
    again = bank.place(KEY, market("0.1", client_id="a"))
    assert reason(again) is RefusalReason.DUPLICATE_CLIENT_ID


def test_a_symbol_takes_so_many_open_orders_and_no_more() -> None:
    bank = bank_at(settings=msgspec.structs.replace(PLAIN, orders_open_max=2))
    first = placed(bank, limit("0.1", "950"))
    placed(bank, limit("0.1", "950"))
    assert reason(bank.place(KEY, limit("0.1", "950"))) is RefusalReason.ORDERS_MAX
    placed(bank, limit("0.1", "950", symbol=ETH))
    bank.cancel(KEY, BTC, order_id=first.order_id)
    placed(bank, limit("0.1", "950"))


def test_a_halted_symbol_admits_and_fills_nothing_until_it_is_resumed() -> None:
    bank = bank_at((1_000, "940", "5"), (2_000, "940", "5"))
    resting = placed(bank, limit("1", "950"))
    bank.halt(BTC)
    assert reason(bank.place(KEY, market("1"))) is RefusalReason.HALTED
    bank.advance(1_500)
    assert now(bank, resting).filled == 0
    bank.resume(BTC)
    bank.advance(2_500)
    assert now(bank, resting).status is OrderStatus.FILLED


def test_one_way_orders_are_refused_in_hedge_mode_and_the_mode_is_locked_by_orders() -> None:
    bank = bank_at()
    assert reason(bank.set_position_mode(KEY, PositionMode.ONE_WAY)) is RefusalReason.NO_CHANGE
    order = placed(bank, limit("1", "950"))
    locked = bank.set_position_mode(KEY, PositionMode.HEDGE)
    assert reason(locked) is RefusalReason.MODE_LOCKED
    bank.cancel(KEY, BTC, order_id=order.order_id)
    assert bank.set_position_mode(KEY, PositionMode.HEDGE) is None
    assert bank.position_mode(KEY) is PositionMode.HEDGE
    assert reason(bank.place(KEY, market("1"))) is RefusalReason.POSITION_MODE


def test_orders_are_cancelled_one_by_one_by_symbol_and_all_together() -> None:
    bank = bank_at()
    one, two = placed(bank, limit("1", "950")), placed(bank, limit("1", "951"))
    three = placed(bank, limit("1", "952", symbol=ETH))
    four = placed(bank, limit("1", "953", symbol=ETH, client_id="mine"))
    gone = bank.cancel(KEY, BTC, order_id=one.order_id)
    assert gone == now(bank, one)
    assert (now(bank, one).status, now(bank, one).end_reason) == ("cancelled", "requested")
    again = bank.cancel(KEY, BTC, order_id=one.order_id)
    assert reason(again) is RefusalReason.ORDER_ENDED
    assert reason(bank.cancel(KEY, BTC, order_id=99)) is RefusalReason.UNKNOWN_ORDER
    wrong_symbol = bank.cancel(KEY, BTC, client_id="mine")
    assert reason(wrong_symbol) is RefusalReason.UNKNOWN_ORDER
    assert [o.order_id for o in bank.cancel_all(KEY, ETH)] == [three.order_id, four.order_id]
    assert bank.open_orders(KEY) == [two]
    assert [o.order_id for o in bank.cancel_all(KEY)] == [two.order_id]
    assert bank.open_orders(KEY) == []


def test_a_cancel_timer_fires_once_unless_it_is_rearmed_or_cleared() -> None:
    bank = bank_at()
    order = placed(bank, limit("1", "950"))
    other = placed(bank, limit("1", "950"), OTHER)
    bank.take_events()
    assert bank.set_timer(KEY, 5_000) == 5_000
    bank.advance(4_000)
    assert bank.set_timer(KEY, 5_000) == 9_000
    bank.advance(8_999)
    assert now(bank, order).is_open
    events = bank.advance(9_000)
    assert now(bank, order).end_reason is EndReason.TIMER
    assert [(e.symbol, e.cancelled_n, e.at_ms) for e in of_kind(events, TimerFired)] == [
        ("", 1, 9_000)
    ]
    assert [e.order.status for e in of_kind(events, OrderUpdated)] == [OrderStatus.CANCELLED]
    placed(bank, limit("1", "950"))
    assert bank.set_timer(KEY, 1_000, BTC) == 10_000
    assert bank.set_timer(KEY, 0, BTC) is None
    assert bank.advance(60_000)[0].at_ms == 9_000  # the new order's admission, nothing since
    assert len(bank.open_orders(KEY)) == 1
    assert now(bank, other, OTHER).is_open


def test_a_symbols_timer_leaves_other_symbols_alone() -> None:
    bank = bank_at()
    btc, eth = placed(bank, limit("1", "950")), placed(bank, limit("1", "950", symbol=ETH))
    bank.set_timer(KEY, 1_000, ETH)
    assert reason(bank.set_timer(KEY, 1, "DOGEUSDT")) is RefusalReason.UNKNOWN_SYMBOL
    bank.advance(1_000)
    assert now(bank, btc).is_open
    assert not now(bank, eth).is_open


def test_the_owner_trades_through_the_same_door_and_the_venues_origins_are_its_own() -> None:
    bank = bank_at()
    order = placed(bank, market("0.1", origin=Origin.OWNER))
    assert order.client_id.startswith("owner-")
    assert bank.trades(KEY)[0].order_id == order.order_id
    with pytest.raises(InvariantViolated, match="the venue's own"):
        bank.place(KEY, market("0.1", origin=Origin.LIQUIDATION))


def test_an_unknown_key_is_told_without_repeating_it() -> None:
    bank = bank_at()
    assert bank.has_account(KEY)
    assert not bank.has_account("secret-key")
    with pytest.raises(UnknownAccount) as raised:
        bank.open_orders("secret-key")
    assert "secret-key" not in str(raised.value)
