"""How orders meet the book and the prints: levels, partial fills, latency, priority."""

from decimal import Decimal

import msgspec
import pytest

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import EndReason, OrderFilled, OrderStatus
from adapters.rehearsal.bank.terms import SymbolRules, TimeInForce
from tests.adapters.rehearsal.bank.bank_rig import (
    BTC,
    ETH,
    KEY,
    OTHER,
    PLAIN,
    USDT,
    D,
    PlannedQuotes,
    bank_at,
    cash,
    held,
    limit,
    market,
    now,
    of_kind,
    placed,
    rules,
)


def test_a_large_market_order_fills_in_parts_at_worse_and_worse_prices() -> None:
    bank = bank_at()
    order = placed(bank, market("5"))
    fills = of_kind(bank.take_events(), OrderFilled)
    assert order.status is OrderStatus.FILLED
    prices = [f.trade.price for f in fills]
    # levels lie 10 bps, here 1 USDT, apart; each holds between 0.5 and 1.5
    assert prices == [D(1001 + k) for k in range(len(fills))]
    assert 4 <= len(fills) <= 10
    assert all(D("0.49") <= f.trade.quantity <= D("1.5") for f in fills[:-1])
    assert sum(f.trade.quantity for f in fills) == 5
    assert [f.order.filled for f in fills][-1] == 5
    assert not any(f.trade.is_maker for f in fills)


def test_two_takers_of_one_instant_get_no_more_than_one_would() -> None:
    whole, halves = bank_at(), bank_at()
    placed(whole, market("4"))
    placed(halves, market("2"))
    placed(halves, market("2"), OTHER)
    paid = [sum(t.quantity * t.price for t in whole.trades(KEY))]
    paid.append(sum(t.quantity * t.price for key in (KEY, OTHER) for t in halves.trades(key)))
    assert paid[0] == paid[1]
    halves.advance(1)
    placed(halves, market("0.1"))
    assert halves.trades(KEY)[-1].price == 1001  # the next instant has its own depth


def test_a_seed_changes_the_depth_and_the_same_seed_does_not() -> None:
    def fills(seed: int) -> list[Decimal]:
        bank = bank_at(settings=msgspec.structs.replace(PLAIN, seed=seed))
        placed(bank, market("5"))
        return [t.quantity for t in bank.trades(KEY)]

    assert fills(1) == fills(1)
    assert fills(1) != fills(2)


def test_a_market_order_beyond_the_last_level_expires_with_what_it_got() -> None:
    bank = bank_at(settings=msgspec.structs.replace(PLAIN, levels_n=2))
    order = placed(bank, market("-9"))
    assert (order.status, order.end_reason) == (OrderStatus.EXPIRED, EndReason.NO_DEPTH)
    assert [t.price for t in bank.trades(KEY)] == [999, 998]
    assert held(bank) == order.filled
    assert -3 <= order.filled <= -1


@pytest.mark.parametrize(
    ("tif", "status"),
    [
        (TimeInForce.GTC, OrderStatus.PARTIALLY_FILLED),
        (TimeInForce.IOC, OrderStatus.EXPIRED),
    ],
)
def test_a_crossing_limit_takes_up_to_its_price_and_the_rest_rests_or_expires(
    tif: TimeInForce, status: OrderStatus
) -> None:
    bank = bank_at()
    order = placed(bank, limit("5", "1002", tif))
    assert order.status is status
    assert [t.price for t in bank.trades(KEY)] == [1001, 1002]
    assert len(bank.open_orders(KEY)) == (1 if order.is_open else 0)


def test_fill_or_kill_fills_wholly_or_not_at_all() -> None:
    bank = bank_at()
    killed = placed(bank, limit("5", "1002", TimeInForce.FOK))
    assert (killed.status, killed.filled) == (OrderStatus.EXPIRED, D(0))
    assert bank.trades(KEY) == []
    assert placed(bank, limit("1", "1002", TimeInForce.FOK)).status is OrderStatus.FILLED


def test_prints_fill_a_resting_order_in_parts_at_its_own_price_as_maker() -> None:
    bank = bank_at((1, "960", "9"), (2, "950", "0.3004"), (3, "949", "0.5"), (4, "940", "9"))
    order = placed(bank, limit("1", "950"))
    before = cash(bank)
    bank.advance(1)
    assert now(bank, order).filled == 0  # 960 does not meet a bid of 950
    bank.advance(2)
    assert now(bank, order).filled == D("0.300")  # whole lots only
    bank.advance(10)
    assert now(bank, order).status is OrderStatus.FILLED
    fills = bank.trades(KEY)
    assert [(t.quantity, t.price, t.is_maker, t.at_ms) for t in fills] == [
        (D("0.3"), D(950), True, 2),
        (D("0.5"), D(950), True, 3),
        (D("0.2"), D(950), True, 4),
    ]
    assert [t.fee for t in fills] == [D("0.057"), D("0.095"), D("0.038")]  # 2 bps
    assert cash(bank) == before - D("0.19")
    assert now(bank, order).average_price == 950


def test_a_print_is_shared_by_price_and_age_over_all_accounts() -> None:
    bank = bank_at((5, "950", "1.5"))
    late = placed(bank, limit("1", "950"), OTHER)
    later = placed(bank, limit("1", "950"))
    dearest = placed(bank, limit("1", "951"))
    bank.advance(5)
    assert now(bank, dearest).filled == 1
    assert now(bank, late, OTHER).filled == D("0.5")
    assert now(bank, later).filled == 0


def test_a_resting_sell_is_filled_from_above_only() -> None:
    bank = bank_at((1, "1049.9", "9"), (2, "1050", "9"))
    order = placed(bank, limit("-1", "1050", TimeInForce.POST_ONLY))
    bank.advance(1)
    assert now(bank, order).filled == 0
    bank.advance(2)
    assert now(bank, order).filled == -1


def test_an_order_reaches_the_book_after_the_latency_at_the_price_of_then() -> None:
    slow = msgspec.structs.replace(PLAIN, latency_ms=100)
    bank = bank_at((50, "1040", "1"), (150, "900", "1"), settings=slow)
    taking = placed(bank, market("0.1"))
    posting = placed(bank, limit("-1", "1030", TimeInForce.POST_ONLY))
    recalled = placed(bank, market("0.1", ETH))
    assert taking.status is OrderStatus.NEW
    bank.advance(99)
    assert now(bank, taking).filled == 0
    bank.cancel(KEY, ETH, order_id=recalled.order_id)
    bank.advance(100)
    assert now(bank, taking).status is OrderStatus.FILLED
    assert bank.trades(KEY)[0].price == D("1041.1")  # 1040 and 10 bps, up to the step
    # its price crosses by now: a post-only order ends rather than takes
    assert now(bank, posting).end_reason is EndReason.POST_ONLY
    bank.advance(200)
    assert now(bank, recalled).filled == 0


def test_an_order_cancelled_by_a_timer_as_it_arrives_does_nothing() -> None:
    bank = bank_at(settings=msgspec.structs.replace(PLAIN, latency_ms=100))
    order = placed(bank, market("0.1"))
    bank.set_timer(KEY, 100)
    bank.advance(100)
    assert now(bank, order).end_reason is EndReason.TIMER
    assert bank.trades(KEY) == []


def test_an_order_that_arrives_in_a_halt_expires() -> None:
    bank = bank_at(settings=msgspec.structs.replace(PLAIN, latency_ms=100))
    order = placed(bank, market("0.1"))
    bank.halt(BTC)
    bank.advance(100)
    assert (now(bank, order).status, now(bank, order).end_reason) == (
        OrderStatus.EXPIRED,
        EndReason.HALTED,
    )
    assert bank.trades(KEY) == []


def test_a_reduce_only_order_is_cut_to_the_position_and_ends_with_it() -> None:
    bank = bank_at((5, "1050", "9"))
    placed(bank, market("1"))
    resting = placed(bank, limit("-3", "1050", reduce_only=True))
    second = placed(bank, limit("-1", "1060", reduce_only=True))
    bank.advance(5)
    assert held(bank) == 0
    ended = (now(bank, resting).filled, now(bank, resting).end_reason)
    assert ended == (D(-1), EndReason.REDUCE_ONLY)
    assert now(bank, second).end_reason is EndReason.REDUCE_ONLY


def test_a_reduce_only_market_order_larger_than_the_position_only_closes_it() -> None:
    bank = bank_at()
    placed(bank, market("-1"))
    order = placed(bank, market("3", reduce_only=True))
    assert (order.filled, order.status) == (D(1), OrderStatus.EXPIRED)
    assert held(bank) == 0


def test_trades_are_listed_after_an_id_or_an_instant() -> None:
    bank = bank_at()
    placed(bank, market("0.1"))
    placed(bank, market("0.1", ETH))
    bank.advance(10)
    placed(bank, market("0.2"))
    everything = bank.trades(KEY)
    assert [t.trade_id for t in everything] == [1, 2, 3]
    assert bank.trades(KEY, after_id=1) == everything[1:]
    assert bank.trades(KEY, since_ms=10) == everything[2:]
    assert bank.trades(KEY, BTC, limit=1) == everything[:1]
    assert bank.trades(OTHER) == []


def test_a_fee_coin_is_priced_at_each_fill_however_long_the_step() -> None:
    """One long step must charge what two short ones do."""
    coin = SymbolRules("BNBUSDT", USDT, D("0.1"), D("0.001"), D("0.001"), D(5), 0)
    quotes = PlannedQuotes(
        {
            BTC: [(0, "1000", "1"), (10, "990", "1"), (30, "980", "1")],
            "BNBUSDT": [(0, "100", "1"), (20, "200", "1")],
        }
    )
    charged = []
    for steps in ((40,), (15, 25, 40)):
        terms = msgspec.structs.replace(PLAIN, fee_coin="BNB")
        bank = Bank({**rules(), "BNBUSDT": coin}, quotes, terms)
        bank.open_account(KEY, {USDT: D(10_000), "BNB": D(5)})
        placed(bank, limit("1", "990"))
        placed(bank, limit("1", "980"))
        for now_ms in steps:
            bank.advance(now_ms)
        charged.append([(one.fee, one.currency) for one in bank.trades(KEY)])
    first, second = charged
    assert first == second == [(D("0.00198"), "BNB"), (D("0.00098"), "BNB")]
