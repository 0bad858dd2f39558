"""The live venue as a session opens it, at both dialects: checks, orders, hints, an exact book."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from adapters.ccxt_venue.opening import opened
from adapters.ccxt_venue.preparing import Wishes
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import BankSettings, OrderRequest, Origin
from adapters.rehearsal.faults import Fault
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import FundingPaid, OrderFilled, OrderRejected, Transferred
from daemon.domain.order import DELEVERAGING_PREFIX, FOREIGN_PREFIX, LIQUIDATION_PREFIX, OrderKind
from tests.adapters.ccxt_venue.both_rig import (
    ACCOUNTS,
    KEY,
    NEWS,
    SECRET,
    VENUES,
    both,
    bringing,
    exchange_of,
    opening_at,
    until,
)
from tests.adapters.ccxt_venue.live_rig import filled, forget, kinds
from tests.simulation.statement import check_statement

pytestmark = pytest.mark.parametrize("venue", VENUES)


# ---- the start -----------------------------------------------------------------------------------


async def test_a_start_sets_what_it_needs_and_reads_it_back(venue: str) -> None:
    async with both(venue) as x:
        assert x.venue.account_name == ACCOUNTS[venue]
        views = [x.bank.position(KEY, f"{name}USDT") for name in ("BTC", "ETH", "SOL")]
        assert [getattr(view, "leverage", None) for view in views] == [3, 3, 3]


async def test_another_account_or_a_key_that_may_withdraw_is_refused(venue: str) -> None:
    async with exchange_of(venue) as running:
        wishes = Wishes("another", 3, "refuse", frozenset())
        with pytest.raises(ConfigurationError, match=ACCOUNTS[venue]):
            async with opened(opening_at(running, wishes=wishes)):
                pass
    mighty = (KeySettings(KEY, SECRET, may_withdraw=True),)
    async with exchange_of(venue, accounts=mighty) as running:
        with pytest.raises(ConfigurationError, match="may withdraw"):
            async with opened(opening_at(running)):
                pass


async def test_orders_that_rest_and_are_in_no_journal_stop_a_start_or_end_with_it(
    venue: str,
) -> None:
    async with exchange_of(venue) as running:
        bank = running.exchange.accounts.bank
        price = (bank.last_price("BTCUSDT") or Decimal(0)) * Decimal("0.99")
        request = OrderRequest(
            "BTCUSDT",
            Decimal("0.01"),
            OrderKind.LIMIT,
            price.quantize(Decimal(1)),
            client_id="by_hand",
            origin=Origin.OWNER,
        )
        assert isinstance(bank.place(KEY, request), BankOrder)
        with pytest.raises(ConfigurationError, match="by_hand"):
            async with opened(opening_at(running)):
                pass
        wishes = replace(opening_at(running).wishes, open_orders="cancel_all")
        async with opened(opening_at(running, wishes=wishes)):
            assert bank.open_orders(KEY) == []


# ---- orders --------------------------------------------------------------------------------------


async def test_orders_are_sent_filled_in_parts_cancelled_and_asked_about(venue: str) -> None:
    async with both(venue, bank=BankSettings(depth_notional=Decimal(2_000))) as x:
        partly = x.order(1, "0.3", price=x.price("1.0002"))
        resting = x.order(2, "-0.5", "ETH", price=x.price("1.02", "ETH"))
        assert kinds(await x.submit(partly, resting)) == ["OrderAccepted"] * 2
        told = await x.venue.query(partly.order_id, partly.key)
        assert 0 < filled(told) < partly.quantity
        assert kinds(told)[-1] == "OrderAccepted"
        for order in (partly, resting):
            told = await x.venue.cancel(order.order_id, order.key)
            x.book(told)
            assert kinds(told)[-1] == "OrderEnded"
        assert x.booked() == x.positions()
        never = x.order(9, "1", "SOL")
        assert kinds(await x.venue.query(never.order_id, never.key)) == ["OrderAbsent"]


async def test_an_id_that_is_there_already_is_in_doubt_and_never_a_second_order(
    venue: str,
) -> None:
    async with both(venue) as x:
        resting = x.order(1, "0.01", price=x.price("0.98"))
        assert kinds(await x.submit(resting)) == ["OrderAccepted"]
        forget(x.venue.desk)
        assert kinds(await x.submit(resting)) == ["OrderUncertain"]
        assert x.orders_at_venue() == [resting.order_id]


@pytest.mark.parametrize("fault", [Fault.ORDER_REFUSED_429, Fault.ORDER_REFUSED_418])
async def test_a_venue_that_is_asked_too_often_is_left_alone(venue: str, fault: Fault) -> None:
    async with both(venue) as x:
        await x.fault(fault, seconds=1)
        await x.submit(x.order(1, "0.01"))
        told = await x.submit(x.order(2, "0.01"))
        assert kinds(told) == ["OrderRejected"]
        assert all("not sent" in e.reason for e in told if isinstance(e, OrderRejected))
        assert x.orders_at_venue() == []


# ---- the account ---------------------------------------------------------------------------------


async def test_fills_funding_transfers_and_foreign_orders_sum_up_to_the_bank_exactly(
    venue: str,
) -> None:
    async with both(venue, bank=BankSettings(depth_notional=Decimal(3_000))) as x:
        cursor = x.running.exchange.now_ms
        await x.submit(x.order(1, "0.037"), x.order(2, "-0.7", "ETH"), x.order(3, "11", "SOL"))
        x.bank.transfer(KEY, "USDT", Decimal("100.01"))
        await x.fault(Fault.MANUAL_TRADE, symbol="BTCUSDT")
        await x.advance(60 * 9)
        await x.fault(Fault.FORCED_REDUCTION, symbol="SOLUSDT")
        await x.fault(Fault.LIQUIDATION, symbol="ETHUSDT")
        x.bank.transfer(KEY, "USDT", Decimal("-3.7"))
        await x.advance(60)
        end = await x.told_account(cursor)
        assert await x.unexplained() == []
        assert x.booked() == x.positions()
        cost = sum((v.position.cost for v in x.bank.positions(KEY)), Decimal(0))
        assert end.cash[x.cash_key] == x.bank.balance(KEY, "USDT").cash - cost
        moved = {e.amount for e in x.events if isinstance(e, Transferred)}
        assert {Decimal("100.01"), Decimal("-3.7")} <= moved
        paid = {e.key for e in x.events if isinstance(e, FundingPaid)}
        assert paid == {x.key("BTC"), x.key("ETH"), x.key("SOL")}
        fills = [e for e in x.events if isinstance(e, OrderFilled)]
        assert {e.fill.key for e in fills if _is_foreign(e)} == paid
        forced = {e.fill.key: e.fill.order_id.partition(":")[0] for e in fills if _is_foreign(e)}
        assert forced[x.key("ETH")] == "liquidation"
        assert forced[x.key("SOL")] == "deleveraging"
        check_statement(x.ledger, x.bank, KEY)


def _is_foreign(event: OrderFilled) -> bool:
    strange = (FOREIGN_PREFIX, LIQUIDATION_PREFIX, DELEVERAGING_PREFIX)
    return event.fill.order_id.startswith(strange)


async def test_a_fill_is_told_as_soon_as_the_stream_names_its_order(venue: str) -> None:
    async with both(venue) as x, bringing(x, replace(NEWS, follow_up_s=60, reconcile_s=600)):
        await x.submit(x.order(1, "0.01"))
        await until(lambda: x.booked() == x.positions() != {})
        assert x.venue.brought is not None
        assert x.venue.brought.followed_n == 0
