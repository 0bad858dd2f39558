"""What must hold after every call of any schedule, whoever trades and whatever the market does."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import (
    BankEvent,
    BankOrder,
    IncomeKind,
    OrderFilled,
)
from adapters.rehearsal.bank.terms import (
    BankSettings,
    ClientIds,
    MarginMode,
    OrderRequest,
    Origin,
    TimeInForce,
)
from daemon.domain.failures import InvariantViolated
from daemon.domain.order import OrderKind
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
    frozen,
    held,
    limit,
    market,
    placed,
    rules,
)

STEP_MS = 100
STEPS_N = 60
Op = tuple[int, int, int, int, int]
TIFS = tuple(TimeInForce)

ops = st.lists(
    st.tuples(
        st.integers(0, 19), st.integers(0, 1), st.integers(-40, 40), st.integers(-30, 30),
        st.integers(0, 63),
    ),
    min_size=8,
    max_size=60,
)  # fmt: skip
walks = st.lists(st.integers(-60, 60), min_size=STEPS_N, max_size=STEPS_N)
venues = st.builds(
    BankSettings,
    maker_fee_bps=st.sampled_from([D(2), D("-0.7")]),
    half_spread_bps=st.sampled_from([D(0), D(10)]),
    depth_notional=st.sampled_from([D(700), D(20_000)]),
    levels_n=st.sampled_from([3, 50]),
    latency_ms=st.sampled_from([0, 0, 70, 250]),
    leverage_first=st.sampled_from([3, 50]),
    client_ids=st.sampled_from(list(ClientIds)),
    seed=st.integers(0, 3),
)


def quotes_of(walk: Sequence[int]) -> PlannedQuotes:
    """Let the price walk in steps of a tenth, both symbols differently; funding every second."""
    price, other, btc, eth = 1000, 1000, [(0, "1000", "1")], [(0, "1000", "1")]
    for place, step in enumerate(walk, start=1):
        price, other = max(300, price + 2 * step), max(300, other - step)
        quantity = str(D(abs(step) + 1) / 7)[:7]
        btc.append((place * STEP_MS, str(price), quantity))
        eth.append((place * STEP_MS, str(other), quantity))
    funding = [(s * 1_000, str(D(step) / 7_000)[:12]) for s, step in enumerate(walk[:6], 1)]
    return PlannedQuotes({BTC: btc, ETH: eth}, {BTC: funding, ETH: funding})


def opened(walk: Sequence[int], venue: BankSettings) -> Bank:
    bank = Bank(rules(delisted_ms=5_050), quotes_of(walk), venue)
    bank.open_account(KEY, {USDT: D("1000.12345678")})
    bank.open_account(OTHER, {USDT: D(400)})
    return bank


def act(bank: Bank, op: Op) -> tuple[BankEvent, ...]:
    """Do what five integers say; half of all calls are orders."""
    what, who, size, away, more = op
    key, symbol = (KEY, OTHER)[who], (BTC, ETH)[more % 2]
    if what < 10:
        bank.place(key, request_of(symbol, size, away, more, taking=what < 4))
    elif what == 10:
        bank.cancel(key, symbol, order_id=more)
    elif what == 11:
        bank.cancel_all(key, symbol if more % 3 else "")
    elif what == 12:
        bank.set_timer(key, more * 10, symbol if more % 3 else "")
    elif what == 13:
        bank.transfer(key, USDT, D(10 * size) + D("0.00000001"))
    elif what == 14:
        bank.set_leverage(key, symbol, 1 + more % 50)
        bank.set_margin_mode(key, symbol, tuple(MarginMode)[size % 2])
    elif what == 15 and size:
        bank.reduce_forcibly(key, symbol, D(abs(size)) / 100)
    elif what == 16:
        bank.halt(symbol)
        bank.resume((BTC, ETH)[size % 2])
    else:
        return bank.advance(bank.now_ms + more * 15)
    return bank.take_events()


def request_of(symbol: str, size: int, away: int, more: int, *, taking: bool) -> OrderRequest:
    quantity, reduces = D(size) / 20, more % 4 == 3
    client_id = f"c{more % 8}" if more % 5 == 0 else None
    origin = Origin.OWNER if more % 7 == 0 else Origin.API
    if taking:
        return OrderRequest(
            symbol, quantity, OrderKind.MARKET, None, TimeInForce.GTC, reduces, client_id, origin
        )
    price = D(1000 + 3 * away)
    tif = TIFS[more // 4 % len(TIFS)]
    return OrderRequest(symbol, quantity, OrderKind.LIMIT, price, tif, reduces, client_id, origin)


@dataclass
class Watch:
    """Check what must hold after each call, and remember what must stay."""

    numbers: list[int] = field(default_factory=list)
    held: dict[tuple[str, str], Decimal] = field(default_factory=dict)

    def after(self, bank: Bank, events: Sequence[BankEvent]) -> None:
        self.numbers += [event.number for event in events]
        assert self.numbers == list(range(1, len(self.numbers) + 1))
        for event in events:
            if isinstance(event, OrderFilled):
                self._fill(event)
        for key in (KEY, OTHER):
            lines = bank.income(key, limit=10_000)
            assert sum((x.amount for x in lines), D(0)) == bank.balance(key, USDT).cash
        _sums_to_the_transfers(bank)

    def _fill(self, event: OrderFilled) -> None:
        order, trade = event.order, event.trade
        place = (event.account, order.symbol)
        before = self.held.get(place, D(0))
        after = self.held[place] = before + trade.quantity
        assert abs(order.filled) <= abs(order.quantity)
        assert trade.quantity * order.quantity > 0
        assert trade.quantity % D("0.001") == 0
        if order.reduce_only:
            assert before * trade.quantity < 0
            assert before * after >= 0
        if order.time_in_force is TimeInForce.POST_ONLY:
            assert trade.is_maker
        if order.price is not None:
            worse = trade.price > order.price if order.quantity > 0 else trade.price < order.price
            assert not worse


def _sums_to_the_transfers(bank: Bank) -> None:
    """Hold every account and the house together: only transfers came from outside."""
    house = bank.house
    total = house.cash.get(USDT, D(0))
    quantities = dict(house.quantities)
    transfers = D(0)
    for key in (KEY, OTHER):
        total += bank.balance(key, USDT).cash
        transfers += sum(x.amount for x in bank.income(key, kind=IncomeKind.TRANSFER, limit=10_000))
        for view in bank.positions(key):
            total -= view.position.cost
            quantities[view.symbol] += view.position.quantity
    assert not any(quantities.values())
    assert total == transfers


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(walks, venues, ops)
def test_every_schedule_keeps_the_books(
    walk: list[int], venue: BankSettings, schedule: list[Op]
) -> None:
    bank, watch = opened(walk, venue), Watch()
    watch.after(bank, bank.take_events())
    for op in schedule:
        watch.after(bank, act(bank, op))
    watch.after(bank, bank.advance(max(bank.now_ms, STEPS_N * STEP_MS)))
    for key in (KEY, OTHER):
        for view in bank.positions(key):
            assert watch.held[key, view.symbol] == view.position.quantity
    _ids_are_unique(bank)


def _ids_are_unique(bank: Bank) -> None:
    trades = [t.trade_id for key in (KEY, OTHER) for t in bank.trades(key, limit=10_000)]
    lines = [x.income_id for key in (KEY, OTHER) for x in bank.income(key, limit=10_000)]
    assert len(set(trades)) == len(trades)
    assert len(set(lines)) == len(lines)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(walks, venues, ops, st.integers(0, 40))
def test_a_replay_and_a_restored_bank_have_the_same_future_to_the_byte(
    walk: list[int], venue: BankSettings, schedule: list[Op], cut: int
) -> None:
    first, second = opened(walk, venue), opened(walk, venue)
    for place, op in enumerate(schedule):
        if place == cut:
            # through bytes, as a restarted server would read it
            plain: dict[str, Any] = msgspec.json.decode(frozen(second))
            names = rules(delisted_ms=5_050)
            second = Bank.restore(names, quotes_of(walk), venue, plain)
        said = (act(first, op), act(second, op))
        assert msgspec.json.encode(said[0]) == msgspec.json.encode(said[1])
        assert frozen(first) == frozen(second)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(walks, venues, ops, st.lists(st.integers(1, 500), max_size=10))
def test_many_short_advances_do_what_one_long_one_does(
    walk: list[int], venue: BankSettings, schedule: list[Op], cuts: list[int]
) -> None:
    whole, parts = opened(walk, venue), opened(walk, venue)
    for op in schedule:
        act(whole, op)
        act(parts, op)
    end_ms = whole.now_ms + 2_000
    long = whole.advance(end_ms)
    short: list[BankEvent] = []
    for cut in cuts:
        short += parts.advance(min(end_ms, parts.now_ms + cut))
    short += parts.advance(end_ms)
    assert long == tuple(short)
    assert frozen(whole) == frozen(parts)


def test_the_drawn_schedules_reach_every_kind_of_line_and_event() -> None:
    """Show that the properties above are not about empty books."""
    kinds: set[str] = set()
    venue = BankSettings(leverage_first=50, depth_notional=D(20_000))
    for seed in range(40):
        walk = [((seed + 3) * (n + 5) * 37) % 121 - 60 for n in range(STEPS_N)]
        bank = opened(walk, venue)
        for n in range(60):
            mixed = (seed * 7919 + n * 104_729) % 1_000_003
            op = (mixed % 20, mixed % 2, mixed % 81 - 40, mixed % 61 - 30, mixed % 64)
            kinds |= {type(event).__name__ for event in act(bank, op)}
        kinds |= {x.kind for key in (KEY, OTHER) for x in bank.income(key, limit=10_000)}
    assert kinds >= {kind.value for kind in IncomeKind}
    said = {"OrderUpdated", "OrderFilled", "AccountUpdated", "FundingBooked", "Liquidated"}
    assert kinds >= said | {"TimerFired"}


def test_a_snapshot_whose_cash_is_not_its_statement_is_refused() -> None:
    bank = bank_at()
    plain = bank.snapshot()
    plain["accounts"][KEY]["cash"][USDT] = "10000.00000001"
    with pytest.raises(InvariantViolated, match="differs from the statement"):
        Bank.restore(rules(), quotes_of([]), PLAIN, plain)


def test_a_held_symbol_keeps_its_last_price_over_a_hole_in_the_quotes() -> None:
    class Forgetful(PlannedQuotes):
        def last_price(self, symbol: str, now_ms: int) -> Decimal | None:
            return None if now_ms > 10 else super().last_price(symbol, now_ms)

    bank = Bank(rules(), Forgetful({BTC: [(0, "1000", "1"), (5, "1010", "1")]}), PLAIN)
    bank.open_account(KEY, {USDT: D(100)})
    placed(bank, market("0.1"))
    for at_ms in (8, 20, 30):
        bank.advance(at_ms)
    assert [view.mark for view in bank.positions(KEY)] == [1010]
    placed(bank, market("-0.1"))
    bank.advance(40)
    assert bank.positions(KEY) == []
    assert not isinstance(bank.place(KEY, market("0.1")), BankOrder)  # no price, nothing held


def test_time_cannot_go_back() -> None:
    bank = bank_at()
    placed(bank, limit("1", "950"))
    bank.advance(10)
    with pytest.raises(InvariantViolated, match="cannot go back"):
        bank.advance(9)


def test_the_callers_decimal_context_changes_nothing() -> None:
    plain, coarse = bank_at(), bank_at()
    for bank, digits in ((plain, 28), (coarse, 4)):
        with localcontext() as context:
            context.prec = digits
            placed(bank, market("5"))
            placed(bank, market("-4.321"))
            bank.advance(10)
    assert frozen(plain) == frozen(coarse)
    assert held(plain) == D("0.679")
