"""Limits beside size: venue share, price collar, orders a minute, margin ratio."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest

from daemon.domain.messages import Snapshotted, Tick
from daemon.domain.order import OrderKind, RefusalReason, Refused
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.risk import Risk, RiskLimits, TradingState
from tests.engine.test_risk import NOW_MS, book_of, order, verdict
from tests.engine.world import (
    CASH_KEY,
    NAN,
    VENUE,
    FixedWeights,
    at,
    bars,
    decided,
    feed,
    fill_of,
    submitted,
    trading_engine,
)

WIDE = RiskLimits(gross_weight_max=9, net_weight_max=9, name_weight_max=9, order_weight_max=9)


@pytest.mark.parametrize(
    ("limit", "off_bps", "expected"),
    [(None, 500, None), (50.0, 49, None), (50.0, 51, RefusalReason.COLLAR)],
)
@pytest.mark.parametrize("side", [1, -1])
def test_no_price_further_from_the_mark_than_the_collar_leaves(
    limit: float | None, off_bps: int, expected: RefusalReason | None, side: int
) -> None:
    limits = replace(WIDE, collar_bps=limit)
    price = 100 * (1 + side * Decimal(off_bps) / 10_000)
    wanted = msgspec.structs.replace(order("1"), kind=OrderKind.LIMIT, limit_price=price)
    assert verdict(book_of(), wanted, limits=limits) is expected
    moved = msgspec.structs.replace(order("1"), reference_price=float(price))
    assert verdict(book_of(), moved, limits=limits) is expected


@pytest.mark.parametrize(
    ("held", "quantity", "expected"),
    [
        ("40", "10", None),
        ("40", "10.01", RefusalReason.VENUE),
        ("60", "-60", None),  # shrinking is always allowed
        ("60", "1", RefusalReason.VENUE),
    ],
)
def test_one_venue_holds_no_more_than_its_share(
    held: str, quantity: str, expected: RefusalReason | None
) -> None:
    book = book_of(held)
    limits = replace(WIDE, venue_weight_max=0.5)
    index = 0 if Decimal(quantity) < 0 else 1
    assert verdict(book, order(quantity, index), limits=limits) is expected


def test_beyond_its_margin_ratio_a_venue_opens_nothing_and_still_reduces() -> None:
    book, limits = book_of("10"), replace(WIDE, margin_ratio_max=0.4)
    for ratio, expected in ((0.39, None), (0.41, RefusalReason.MARGIN)):
        risk = Risk(limits, book, [], {VENUE: ratio})
        found = risk.judge(order("1"), 1.0, TradingState.TRADING, NOW_MS, 0)
        assert (found.reason if isinstance(found, Refused) else None) is expected
        closing = risk.judge(order("-10"), -10.0, TradingState.TRADING, NOW_MS, 0)
        assert not isinstance(closing, Refused)


def test_the_ratio_comes_with_the_account_and_outlives_a_restart() -> None:
    engine = trading_engine(limits=replace(WIDE, margin_ratio_max=0.4))
    account = AccountSnapshot(VENUE, at(2), {}, {CASH_KEY: Decimal(10_000)}, 0, 0.5)
    feed(engine, Snapshotted(account))
    again = trading_engine(limits=replace(WIDE, margin_ratio_max=0.4))
    again.restore(engine.state.to_plain())
    assert again.state.margins == {VENUE: 0.5}


def test_orders_beyond_the_count_of_a_minute_wait_for_time_and_none_is_refused() -> None:
    wanted = FixedWeights(lambda _: [0.1, -0.1, 0.1, -0.1])
    engine = trading_engine(wanted, limits=replace(WIDE, orders_minute_max=3))
    feed(engine, bars(3))
    told = feed(engine, bars(4))
    sent = submitted(told)
    assert len(sent) == 3
    assert decided(told) == []
    assert engine.wake_ms == at(4) + 60_000
    told = feed(engine, *(fill_of(o, f"t{o.order_id}") for o in sent), Tick(at(4) + 59_999))
    assert submitted(told) == []
    told = feed(engine, Tick(at(4) + 60_000))
    assert len(submitted(told)) == 1
    assert decided(told)[0].refusals == ()


def test_whoever_sends_past_the_count_all_the_same_is_refused() -> None:
    risk = Risk(replace(WIDE, orders_minute_max=2), book_of(), [NOW_MS - 59_999, NOW_MS])
    found = risk.judge(order("1"), 1.0, TradingState.TRADING, NOW_MS, 0)
    assert isinstance(found, Refused)
    assert found.reason is RefusalReason.ORDERS_MINUTE
    later = risk.judge(order("1"), 1.0, TradingState.TRADING, NOW_MS + 1, 0)
    assert not isinstance(later, Refused)


def test_while_bars_are_gathered_nobody_asks_for_a_tick_that_could_change_nothing() -> None:
    wanted = FixedWeights(lambda _: [0.1, -0.1, 0.1, -0.1])
    engine = trading_engine(wanted, limits=replace(WIDE, orders_minute_max=3))
    feed(engine, bars(3), bars(4), bars(5, [100.0, 100.0, 100.0, NAN], final=False))
    assert engine.wake_ms > at(5)
