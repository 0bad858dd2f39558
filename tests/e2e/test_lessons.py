"""What others lost money by, played with a whole live daemon; see docs/lessons.md."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from adapters.rehearsal.dialect import DELISTING_NOTICE_MS
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.server import RunningExchange
from daemon.domain.instrument import CashKey
from daemon.domain.messages import Alert, AlertKind, OrderFilled, Submit
from tests.e2e.live_rig import (
    EVERYTHING,
    KEY,
    VENUES,
    Seen,
    abandon_live,
    adopted_by,
    bank_of,
    check_agrees,
    check_once_each,
    decided_n,
    exchange,
    journalled,
    live_settings,
    run_live,
    venue_of,
)

START_MS, HOUR_MS = 1_705_104_000_000, 3_600_000
SOL = "SOL/USDT:USDT"

pytestmark = pytest.mark.parametrize("venue", VENUES)


def decided(n: int) -> Callable[[Seen], bool]:
    return lambda seen: decided_n(seen) >= n


def held_at(running: RunningExchange) -> dict[str, Decimal]:
    views = bank_of(running).positions(KEY)
    return {v.symbol: v.position.quantity for v in views if v.position.quantity}


def held_by(seen: Seen) -> dict[str, Decimal]:
    assert seen.ledger is not None
    found = {
        k.symbol.partition(":")[0].replace("/", ""): p for k, p in seen.ledger.positions.items()
    }
    return {name: one.quantity for name, one in found.items() if one.quantity}


def value_at(running: RunningExchange, quantities: dict[str, Decimal]) -> dict[str, Decimal]:
    """Give notionals at the venue's last prices."""
    bank = bank_of(running)
    prices = {name: bank.last_price(name) for name in quantities}
    return {name: q * (prices[name] or Decimal(0)) for name, q in quantities.items()}


def equity_at(running: RunningExchange) -> Decimal:
    bank = bank_of(running)
    cost = sum((v.position.cost for v in bank.positions(KEY)), Decimal(0))
    value = sum(value_at(running, held_at(running)).values(), Decimal(0))
    return bank.balance(KEY, "USDT").cash - cost + value


async def test_restart_after_restart_invents_no_trade(tmp_path: Path, venue: str) -> None:
    state = tmp_path / "state"
    async with exchange(venue) as running:
        settings = live_settings(running, state)
        await run_live(settings, decided(2))
        for _ in range(2):
            await abandon_live(settings, decided(1))
        seen = await run_live(settings, decided(1))
        events, _ = journalled(state)
        ours = {e.fill.trade_id for e in events if isinstance(e, OrderFilled)}
        bank = bank_of(running)
        trades = [t for s in bank.rules for t in bank.trades(KEY, s, limit=EVERYTHING)]
        assert len(ours) == len(trades), "each trade of the venue once, and nothing besides"
        check_once_each(state, running)
        check_agrees(seen.ledger, running)


async def test_a_book_that_begins_on_an_account_with_positions_trades_the_difference_only(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        await run_live(live_settings(running, tmp_path / "one"), decided(3))
        before = held_at(running)
        assert before
        settings = live_settings(running, tmp_path / "two", "live.foreign=adopt")
        seen = await run_live(settings, decided(2))
        first = [e for e in seen.events if isinstance(e, OrderFilled)]
        sent = [c.approved.order for c in seen.commands if isinstance(c, Submit)]
        assert {e.fill.order_id for e in first} <= {o.order_id for o in sent}, "none was made up"
        check_agrees(seen.ledger, running, adopted_by(seen))
        gross = sum(abs(value) for value in value_at(running, held_at(running)).values())
        was = sum(abs(value) for value in value_at(running, before).values())
        assert gross < equity_at(running) * Decimal("1.1"), "the old book was not counted as flat"
        assert gross < was * Decimal("1.5")


@pytest.mark.parametrize("sends", [4, 12])
async def test_stopped_in_the_middle_of_a_rebalance_no_leg_stands_alone(
    tmp_path: Path, venue: str, sends: int
) -> None:
    """All orders of one coin are lost on their way, so that its partners' fills stand alone."""

    def sent(seen: Seen) -> bool:
        return sum(isinstance(c, Submit) for c in seen.commands) >= sends

    async with exchange(venue) as running:
        alone = "execution.mends_max=0"  # nothing is hedged afterwards: the bound must do
        settings = live_settings(running, tmp_path / "state", alone)
        running.exchange.faults.set(Fault.ORDER_REFUSED_503.value, 50, symbol="ETHUSDT")
        await run_live(settings, sent)
        assert held_at(running)
        values = value_at(running, held_at(running))
        net = abs(sum(values.values(), Decimal(0))) / equity_at(running)
        bound = Decimal(str(settings.risk.net_weight_max))
        assert net <= bound * Decimal("1.05"), f"{net} is out; prices moved a little since"


def traded_since(seen: Seen, as_of_ms: int) -> set[str]:
    orders = [c.approved.order for c in seen.commands if isinstance(c, Submit)]
    return {o.key.symbol for o in orders if o.as_of_ms >= as_of_ms}


def halts(seen: Seen) -> list[str]:
    return [c.text for c in seen.commands if isinstance(c, Alert) and c.kind is AlertKind.HALTED]


async def test_a_contract_that_ends_is_not_opened_any_more_and_the_rest_trades_on(
    tmp_path: Path, venue: str
) -> None:
    end_ms = START_MS + 4 * HOUR_MS
    async with exchange(venue, delistings={"SOLUSDT": end_ms}) as running:
        seen = await run_live(live_settings(running, tmp_path / "state"), decided(7))
        assert running.exchange.now_ms > end_ms + HOUR_MS
        assert halts(seen) == []
        assert SOL not in traded_since(seen, 0)
        assert len(traded_since(seen, end_ms)) >= 2
        assert held_by(seen) == held_at(running)
        check_once_each(tmp_path / "state", running)


async def test_once_an_end_is_told_what_is_held_only_shrinks_and_the_rest_trades_on(
    tmp_path: Path, venue: str
) -> None:
    sizes: list[tuple[int, Decimal]] = []

    def until(seen: Seen) -> bool:
        held = held_at(running).get("SOLUSDT", Decimal(0))
        sizes.append((running.exchange.now_ms, abs(held)))
        return decided_n(seen) >= 8

    told_ms = START_MS + 2 * HOUR_MS + HOUR_MS // 2
    ends = {"SOLUSDT": told_ms + DELISTING_NOTICE_MS}
    async with exchange(venue, delistings=ends) as running:
        seen = await run_live(live_settings(running, tmp_path / "state"), until)
        assert any(size for at_ms, size in sizes if at_ms < told_ms)
        later = [size for at_ms, size in sizes if at_ms > told_ms + HOUR_MS // 2]
        assert all(after <= before for before, after in pairwise(later))
        assert halts(seen) == []
        assert len(traded_since(seen, told_ms + HOUR_MS) - {SOL}) >= 2
        assert held_by(seen) == held_at(running)


async def test_while_a_contract_is_halted_the_rest_of_the_book_trades_on(
    tmp_path: Path, venue: str
) -> None:
    struck = [0]

    def until(seen: Seen) -> bool:
        if decided_n(seen) == 2 and not struck[0]:
            struck[0] = running.exchange.now_ms
            running.exchange.faults.set(Fault.SYMBOL_HALTED.value, 1, symbol="SOLUSDT")
        return decided_n(seen) >= 7

    async with exchange(venue) as running:
        seen = await run_live(live_settings(running, tmp_path / "state"), until)
        assert running.exchange.faults.struck_n[Fault.SYMBOL_HALTED] == 1
        assert halts(seen) == []
        assert len(traded_since(seen, struck[0]) - {SOL}) >= 2
        assert held_by(seen) == held_at(running)
        check_once_each(tmp_path / "state", running)


@pytest.mark.parametrize("fault", [Fault.LIQUIDATION, Fault.MANUAL_TRADE])
async def test_what_others_trade_on_the_account_is_booked_and_named_and_nothing_is_opened_after(
    tmp_path: Path, venue: str, fault: Fault
) -> None:
    def until(seen: Seen) -> bool:
        if decided_n(seen) == 2 and not running.exchange.faults.struck_n[fault]:
            running.exchange.faults.set(fault.value, 1, symbol="SOLUSDT")
        return decided_n(seen) >= 5

    async with exchange(venue) as running:
        seen = await run_live(live_settings(running, tmp_path / "state"), until)
        assert running.exchange.faults.struck_n[fault] == 1
        is_forced = fault is Fault.LIQUIDATION
        at = next(n for n, c in enumerate(seen.commands) if _tells(c, is_forced))
        told = seen.commands[at]
        assert isinstance(told, Alert)
        assert "SOL/USDT" in told.text
        assert bool(halts(seen)) is not is_forced, "a liquidation leaves reducing to be done"
        sent = [c.approved.order for c in seen.commands[at:] if isinstance(c, Submit)]
        assert all(order.reduce_only for order in sent)
        assert is_forced or not sent, "what is halted does nothing at all"
        check_agrees(seen.ledger, running)


def _tells(command: object, is_forced: bool) -> bool:
    kind = AlertKind.FORCED if is_forced else AlertKind.HALTED
    return isinstance(command, Alert) and command.kind is kind


async def test_before_the_first_trade_no_limit_trips_whatever_is_paid_in_or_out(
    tmp_path: Path, venue: str
) -> None:
    paid = [0]

    def until(seen: Seen) -> bool:
        if decided_n(seen) > paid[0]:
            paid[0] = decided_n(seen)
            bank_of(running).transfer(KEY, "USDT", Decimal(-4_000))
        return decided_n(seen) >= 4

    limits = ("risk.day_loss_max=0.02", "risk.drawdown_max=0.05")
    unable = ("risk.order_weight_max=0.00001",)  # nothing so small can be sent
    async with exchange(venue) as running:
        settings = live_settings(running, tmp_path / "state", *limits, *unable)
        seen = await run_live(settings, until)
        told = {c.kind for c in seen.commands if isinstance(c, Alert)}
        assert not told & {AlertKind.LOSS, AlertKind.HALTED}
        assert held_at(running) == {}
        assert seen.ledger is not None
        cash = seen.ledger.cash[CashKey(venue_of(running), "USDT")]
        assert cash <= Decimal(50_000) - 3 * 4_000
