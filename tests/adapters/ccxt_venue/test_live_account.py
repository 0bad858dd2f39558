"""The account as the live venue tells it: complete, exact, and never 'flat' by mistake."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from adapters.ccxt_venue.listings import WINDOW_MS_MAX, windows
from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.faults import Fault
from daemon.domain.failures import VenueError
from daemon.domain.messages import (
    FundingPaid,
    OrderFilled,
    Snapshotted,
    Transferred,
    VenueEvent,
)
from daemon.domain.order import (
    DELEVERAGING_PREFIX,
    FOREIGN_PREFIX,
    LIQUIDATION_PREFIX,
    SETTLEMENT_PREFIX,
)
from daemon.domain.portfolio import AccountSnapshot, Ledger
from daemon.engine.reconcile import differences, rounding_in
from tests.adapters.ccxt_venue.live_rig import USDT, VENUE, LiveRig, key_of, live, order
from tests.adapters.rehearsal.binance.binance_rig import KEY

E = TypeVar("E", bound=VenueEvent)


def of(events: Sequence[VenueEvent], kind: type[E]) -> list[E]:
    return [e for e in events if isinstance(e, kind)]


def snapshot_in(events: Sequence[VenueEvent]) -> AccountSnapshot:
    (told,) = of(events, Snapshotted)
    assert events[-1] is told, "what happened is told before what it came to"
    return told.snapshot


async def begin(x: LiveRig) -> int:
    """Begin a book at what the account holds now; give the cursor."""
    return snapshot_in(await x.venue.snapshot(0, VENUE)).executions_cursor


def booked(start: AccountSnapshot, events: Sequence[VenueEvent]) -> Ledger:
    """Book events over a beginning, each id once, as the engine does."""
    ledger = Ledger(cash=dict(start.cash))
    seen: set[str] = set()
    for event in events:
        match event:
            case OrderFilled(fill=fill) if fill.trade_id not in seen:
                seen.add(fill.trade_id)
                ledger.apply_fill(fill, USDT)
            case FundingPaid() | Transferred() if event.cashflow_id not in seen:
                seen.add(event.cashflow_id)
                ledger.apply_transfer(event.cash_key, event.amount)
    return ledger


# ---- complete and exact --------------------------------------------------------------------------


async def test_a_book_begins_with_what_is_held_and_nothing_of_before_is_told() -> None:
    async with live() as x:
        await x.r.buy(0.05)
        await x.r.advance(1)
        told = await x.venue.snapshot(0, VENUE)
        first = snapshot_in(told)
        assert len(told) == 1
        assert first.quantities == {key_of("BTC"): Decimal("0.05")}
        assert first.cash[USDT] == x.cash()
        later = await x.venue.snapshot(first.executions_cursor, VENUE)
        assert len(later) == 1, "a fill of before the book would be counted twice"


async def test_fills_funding_transfers_and_foreign_orders_sum_up_to_the_bank_exactly() -> None:
    bank = BankSettings(depth_notional=Decimal(3_000))
    async with live(bank=bank, cash="50000.00000001") as x:
        start = snapshot_in(await x.venue.snapshot(0, VENUE))
        await x.r.advance(1)
        await x.venue.submit([order(1, "0.037"), order(2, "-0.7", "ETH"), order(3, "11", "SOL")])
        await x.r.post("account", key=KEY, deposit="100.01")
        await x.r.fault(Fault.MANUAL_TRADE, symbol="BTCUSDT")
        await x.r.advance(60 * 9)
        await x.venue.submit([order(4, "-0.013"), order(5, "0.7", "ETH")])
        await x.r.post("account", key=KEY, withdraw="3.7")
        await x.r.advance(60)
        told = await x.venue.snapshot(start.executions_cursor, VENUE)
        ledger, end = booked(start, told), snapshot_in(told)
        found = differences(ledger, end)
        assert rounding_in(found, end) == found, found
        assert all(abs(d.theirs - d.ours) < Decimal("1e-7") for d in found)
        assert end.cash[USDT] == x.cash()
        assert {t.amount for t in of(told, Transferred)} == {Decimal("100.01"), Decimal("-3.7")}
        paid = of(told, FundingPaid)
        assert {p.key for p in paid} == {key_of("BTC"), key_of("ETH"), key_of("SOL")}
        assert all(math.isnan(p.rate) for p in paid), "the record does not repeat it"
        orders = {f.fill.order_id for f in of(told, OrderFilled)}
        ours = {o for o in orders if not o.startswith(FOREIGN_PREFIX)}
        assert len(ours) == 5
        assert len(orders - ours) == 1, "the owner's own trade is a fill of a foreign order"


async def test_after_a_restart_fills_are_still_ours_by_the_order_they_belong_to() -> None:
    async with live() as x:
        cursor = await begin(x)
        await x.r.advance(1)
        one = order(1, "0.02")
        await x.venue.submit([one])
        x.venue.desk.ours.clear()  # another process does not remember the venue's numbers
        (fill,) = of(await x.venue.snapshot(cursor, VENUE), OrderFilled)
        assert fill.fill.order_id == one.order_id


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (Fault.LIQUIDATION, LIQUIDATION_PREFIX),
        (Fault.FORCED_REDUCTION, DELEVERAGING_PREFIX),
    ],
)
async def test_what_the_venue_forces_on_us_is_a_fill_that_says_so(fault: Fault, named: str) -> None:
    async with live() as x:
        start = snapshot_in(await x.venue.snapshot(0, VENUE))
        await x.r.advance(1)
        await x.venue.submit([order(1, "0.1")])
        await x.r.fault(fault)
        await x.r.advance(1)
        told = await x.venue.snapshot(start.executions_cursor, VENUE)
        assert any(f.fill.order_id.startswith(named) for f in of(told, OrderFilled))
        assert booked(start, told).quantity(key_of("BTC")) == x.held()
        end = snapshot_in(told)
        assert rounding_in(differences(booked(start, told), end), end) == differences(
            booked(start, told), end
        )


async def test_a_contract_that_ends_is_settled_and_keeps_its_name() -> None:
    """Trap 19: reloading the list would make ccxt forget what we were just settled out of."""
    async with live() as x:
        start = snapshot_in(await x.venue.snapshot(0, VENUE))
        await x.r.advance(1)
        await x.venue.submit([order(1, "20", "SOL")])
        await x.r.fault(Fault.SYMBOL_DELISTED, symbol="SOLUSDT")
        await x.r.advance(1)
        told = await x.venue.snapshot(start.executions_cursor, VENUE)
        last = of(told, OrderFilled)[-1].fill
        assert last.order_id.startswith(SETTLEMENT_PREFIX)
        assert last.fee == 0
        assert booked(start, told).quantity(key_of("SOL")) == 0 == x.held("SOL")


async def test_more_fills_than_a_page_holds_are_all_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with live() as x:
        start = snapshot_in(await x.venue.snapshot(0, VENUE))
        await x.r.advance(1)
        monkeypatch.setattr("adapters.ccxt_venue.quirks.Page.rows_max", 3, raising=False)
        for number in range(8):
            await x.venue.submit([order(number, "0.003")])
        told = await x.venue.snapshot(start.executions_cursor, VENUE)
        assert len(of(told, OrderFilled)) == 8
        assert booked(start, told).quantity(key_of("BTC")) == x.held()


@given(since=st.integers(0, 10**12), span=st.integers(0, 10**10), longest=st.integers(1, 10**10))
def test_windows_cover_a_span_without_gap_or_overlap(since: int, span: int, longest: int) -> None:
    assume(span // longest < 1_000)
    found = list(windows(since, since + span, longest))
    assert found[0][0] == since
    assert found[-1][1] == since + span
    assert all(before[1] + 1 == after[0] for before, after in pairwise(found))
    assert all(0 <= end - start <= min(longest, WINDOW_MS_MAX) for start, end in found)


# ---- never 'flat' by mistake ---------------------------------------------------------------------


@pytest.mark.parametrize("pages_n", [1, 2, 4])
async def test_a_page_instead_of_the_positions_is_never_read_as_flat(pages_n: int) -> None:
    """Trap A: ccxt gives an empty list for a page with status 200."""
    async with live() as x:
        cursor = await begin(x)
        await x.venue.submit([order(1, "0.1")])
        await x.r.fault(Fault.POSITIONS_BROKEN, count=pages_n)
        told = snapshot_in(await x.venue.snapshot(cursor, VENUE))
        assert told.quantities == {key_of("BTC"): Decimal("0.1")}
        assert await x.r.struck(Fault.POSITIONS_BROKEN) == pages_n


@pytest.mark.parametrize("fault", [Fault.NOT_JSON_200, Fault.CUT_JSON_200, Fault.HTTP_503])
async def test_a_venue_that_answers_nonsense_for_long_gives_no_account_at_all(fault: Fault) -> None:
    async with live() as x:
        cursor = await begin(x)
        await x.venue.submit([order(1, "0.1")])
        await x.r.fault(fault, count=50)
        with pytest.raises(VenueError, match="no readable answer"):
            await x.venue.snapshot(cursor, VENUE)


async def test_an_account_that_changes_while_it_is_read_is_read_again() -> None:
    async with live() as x:
        cursor = await begin(x)
        await x.r.advance(1)
        listings = x.venue.account._listings  # the seam at which the owner trades in between
        told, trades = listings.told, [0]

        async def with_a_trade(*args: object) -> object:
            found = await told(*args)  # type: ignore[arg-type]
            if not trades[0]:
                trades[0] = 1
                await x.r.buy(0.02)
            return found

        listings.told = with_a_trade  # type: ignore[method-assign,assignment]
        events = await x.venue.snapshot(cursor, VENUE)
        assert snapshot_in(events).quantities == {key_of("BTC"): Decimal("0.02")}
        assert len(of(events, OrderFilled)) == 1, "a position was told without its fill"


async def test_what_rests_is_named_with_the_account_ours_by_our_id() -> None:
    async with live() as x:
        await x.r.rest(-0.02, newClientOrderId="web_by_hand")
        ours = order(1, "0.01", price=str(round(await x.r.price() * 0.99, 1)))
        await x.venue.submit([ours])
        told = snapshot_in(await x.venue.snapshot(0, VENUE))
        assert {one.key for one in told.open_orders.values()} == {key_of("BTC")}
        assert {one.left for one in told.open_orders.values()} == {Decimal("0.01")}
        assert all(one.price > 0 for one in told.open_orders.values())
        foreign = [o for o in told.open_orders if o.startswith(FOREIGN_PREFIX)]
        assert len(foreign) == 1
        assert set(told.open_orders) - set(foreign) == {ours.order_id}
