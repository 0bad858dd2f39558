"""An account is flattened from what the venue says alone: any contract, any resting order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from adapters.ccxt_venue import closing
from adapters.ccxt_venue.client_ids import order_id_of
from adapters.ccxt_venue.closing import FLAT_PREFIX, Closer, ClosingRules
from adapters.ccxt_venue.opening import connected
from adapters.ccxt_venue.rows import Holding
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.faults import Fault
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import OrderUncertain, VenueEvent
from daemon.domain.order import Order, OrderId
from tests.adapters.ccxt_venue.live_rig import VENUE, credentials
from tests.adapters.rehearsal.binance.binance_rig import BTC, KEY, Rig, rig

ETH = "ETH/USDT:USDT"
WINDOW_MS = 400
RULES = ClosingRules(within_s=20)


@asynccontextmanager
async def closer(r: Rig, rules: ClosingRules = RULES) -> AsyncIterator[Closer]:
    options = {**ccxt_options(r.running.rest_url, r.running.ws_url), "timeout": 1_000}
    async with connected(VENUE, options, credentials(), (), WINDOW_MS) as link:
        yield Closer(link, rules, r.running.exchange.clock_ms, lambda text: None)


@asynccontextmanager
async def invested() -> AsyncIterator[Rig]:
    """Hold bitcoin long and ether short, and let one order rest."""
    async with rig() as r:
        await r.buy(0.05)
        await r.client.create_order(ETH, "market", "sell", 1.0)
        await r.rest(away=-0.05)
        yield r


def bank_of(r: Rig) -> Any:
    return r.running.exchange.accounts.bank


def held(r: Rig) -> dict[str, Decimal]:
    views = bank_of(r).positions(KEY)
    return {v.symbol: v.position.quantity for v in views if v.position.quantity}


def ours(r: Rig) -> list[Any]:
    return [o for o in bank_of(r).orders(KEY) if o.client_id.startswith(FLAT_PREFIX)]


async def test_contracts_that_nobody_named_are_closed_in_steps_and_what_rests_is_cancelled() -> (
    None
):
    async with invested() as r, closer(r) as one:
        before = held(r)
        done = await one.flatten("mine")
        assert done.flat
        assert done.left == {}
        assert held(r) == {}
        assert bank_of(r).open_orders(KEY) == []
        assert len(done.cancelled) == 1
        assert done.filled == {name: -quantity for name, quantity in before.items()}
        assert len(ours(r)) == len(done.orders) > len(before), "in more than one step"
        assert all(o.reduce_only for o in ours(r))
        names = [o.client_id for o in ours(r)]
        assert len(set(names)) == len(names)
        assert all(order_id_of(VENUE, name) is None for name in names), "no daemon's names"


async def test_an_order_that_was_on_its_way_when_the_latch_came_is_closed_too() -> None:
    """Said to be flat before its receive window is over, the account would hold it unwatched."""
    async with rig() as r, closer(r) as one:
        closing_it = asyncio.create_task(one.flatten("mine"))
        await asyncio.sleep(one._late_s * 0.8)
        assert not closing_it.done(), "what was sent before may still arrive"
        await r.buy(0.05)
        done = await closing_it
        assert done.flat
        assert held(r) == {}
        assert len(ours(r)) == len(done.orders) > 0


async def test_an_empty_list_of_positions_is_not_flat_while_margin_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with invested() as r, closer(r) as one:
        listings, lies = one._link.listings, [0]
        true = listings.holdings

        async def lying() -> tuple[Holding, ...]:
            lies[0] += 1
            return () if lies[0] <= 3 else await true()

        monkeypatch.setattr(listings, "holdings", lying)
        done = await one.flatten("mine")
        assert done.flat
        assert held(r) == {}
        assert any("needs margin" in text for text in done.troubles)


@pytest.mark.parametrize("fault", [Fault.ORDER_LOST_HANG, Fault.ORDER_LOST_CUT])
async def test_an_order_whose_answer_is_lost_is_asked_about_and_not_sent_again(
    fault: Fault,
) -> None:
    async with invested() as r, closer(r, ClosingRules(30, Decimal(10**6))) as one:
        await r.fault(fault, count=1)
        done = await one.flatten("mine")
        assert await r.struck(fault) == 1
        assert done.flat
        assert len(ours(r)) == 2, "one order a contract, the lost one too"


async def test_a_contract_whose_order_stays_uncertain_gets_no_other_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing, "QUESTION_PAUSE_S", 0.01)
    async with invested() as r, closer(r, ClosingRules(30, Decimal(300))) as one:
        true = one._desk.query

        async def nobody_knows(order_id: OrderId, key: InstrumentKey) -> list[VenueEvent]:
            if key.symbol == ETH:
                return await true(order_id, key)
            return [OrderUncertain(order_id, 0, "no answer")]

        monkeypatch.setattr(one._desk, "query", nobody_knows)
        done = await one.flatten("mine")
        assert not done.flat
        sent = [symbol for _, symbol, _ in done.orders]
        assert sent.count(BTC) == 1
        assert sent.count(ETH) > 1, "the others are closed"
        assert set(done.left or {}) == {"BTCUSDT"}
        assert sum("left alone" in text for text in done.troubles) == 1


async def test_a_contract_that_is_refused_again_and_again_is_named() -> None:
    async with invested() as r, closer(r, ClosingRules(30, Decimal(300))) as one:
        await r.fault(Fault.INSUFFICIENT_MARGIN, count=1_000)
        done = await one.flatten("mine")
        assert not done.flat
        assert sum("refused 3 times" in text for text in done.troubles) == 2


@pytest.mark.parametrize("fault", [Fault.ORDER_REFUSED_429, Fault.CLOCK_SKEW])
async def test_what_passes_costs_no_contract_its_orders(fault: Fault) -> None:
    """Flattening is for bad days: 'too often' is no word about a contract, however often said."""
    async with invested() as r, closer(r, ClosingRules(30, Decimal(10**6))) as one:
        submit = one._desk.submit
        strikes = [8]

        async def on_a_bad_day(orders: Sequence[Order]) -> list[VenueEvent]:
            if strikes[0] > 0:
                await r.fault(fault, count=2, seconds=0.3)
            strikes[0] -= len(orders)
            return await submit(orders)

        one._desk.submit = on_a_bad_day  # type: ignore[method-assign]
        done = await one.flatten("mine")
        assert strikes[0] <= 0, "each contract was refused four times"
        assert done.flat
        assert held(r) == {}
        assert not [text for text in done.troubles if "left alone" in text]
