"""The owner trades by hand beside a live daemon: each policy, in both dialects."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest

from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import OrderRequest, Origin
from adapters.rehearsal.server import RunningExchange
from daemon.domain.decision import Decision
from daemon.domain.messages import Alert, AlertKind, Decided, Snapshotted, Submit, Transferred
from daemon.domain.order import OUTSIDE, Order, OrderKind, RefusalReason
from daemon.domain.units import quantise
from daemon.engine.risk import TradingState
from daemon.settings import Settings
from tests.e2e.live_rig import (
    KEY,
    VENUES,
    Seen,
    adopted_by,
    bank_of,
    check_agrees,
    decided_n,
    exchange,
    live_settings,
    run_live,
)

POLICIES = ("adopt", "flatten", "halt")


def by_hand(
    running: RunningExchange, symbol: str, worth: str, *, rests_at: float | None = None
) -> BankOrder:
    """Let the owner buy for so much (negative sells), or leave a limit at this share of the price.

    worth: quote currency.
    """
    bank = bank_of(running)
    rules, price = bank.rules[symbol], bank.last_price(symbol)
    assert price is not None
    quantity = quantise(abs(Decimal(worth)) / price, rules.quantity_step, ROUND_CEILING)
    limit = None
    if rests_at is not None:
        limit = quantise(price * Decimal(str(rests_at)), rules.price_step, ROUND_CEILING)
    request = OrderRequest(
        symbol,
        quantity if Decimal(worth) > 0 else -quantity,
        OrderKind.MARKET if limit is None else OrderKind.LIMIT,
        limit,
        client_id=f"web_{symbol}{bank.now_ms}",
        origin=Origin.OWNER,
    )
    placed = bank.place(KEY, request)
    running.exchange.accounts.say()
    assert isinstance(placed, BankOrder)
    return placed


def held(running: RunningExchange) -> dict[str, Decimal]:
    """Give what the account holds, by the venue's symbol."""
    views = bank_of(running).positions(KEY)
    return {v.symbol: v.position.quantity for v in views if v.position.quantity}


def symbols(running: RunningExchange) -> tuple[list[str], list[str]]:
    """Give the venue's symbols of the universe of a small daemon, and those beside it."""
    listed = list(bank_of(running).rules)
    return listed[:4], listed[4:]


def small(running: RunningExchange, state: Path, policy: str, *more: str) -> Settings:
    """Give settings of a daemon that trades four of the six contracts."""
    ours, _ = symbols(running)
    return live_settings(
        running,
        state,
        f"universe.symbols={json.dumps(ours)}",
        f"live.foreign={policy}",
        "live.open_orders=count",
        "risk.name_weight_max=1.0",
        *more,
    )


def said(seen: Seen, kind: AlertKind) -> str:
    """Give what people were told of a kind."""
    return " | ".join(c.text for c in seen.commands if isinstance(c, Alert) and c.kind is kind)


def sent_beside(seen: Seen) -> list[Order]:
    """List orders in contracts beside the universe."""
    found = [c.approved.order for c in seen.commands if isinstance(c, Submit)]
    return [one for one in found if one.index == OUTSIDE]


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("policy", POLICIES)
async def test_what_an_account_holds_at_the_first_start_is_dealt_with_as_stated(
    tmp_path: Path, policy: str, venue: str
) -> None:
    async with exchange(venue) as running:
        (ours, *_), (beside, other) = symbols(running)
        by_hand(running, ours, "-900")
        by_hand(running, beside, "1500")
        resting = by_hand(running, other, "800", rests_at=0.93)
        before = held(running)
        seen = await run_live(
            small(running, tmp_path / "state", policy), lambda s: decided_n(s) >= 2 or halted(s)
        )
        assert seen.engine is not None
        book, rests = seen.engine.state.book, bank_of(running).open_orders(KEY)
        if policy == "halt":
            assert beside.removesuffix("USDT") in seen.engine.state.halted_why
            assert held(running) == before
            assert not [c for c in seen.commands if isinstance(c, Submit)]
            return
        check_agrees(seen.ledger, running, adopted_by(seen))
        assert seen.engine.state.trading is TradingState.TRADING
        assert "adopted" in said(seen, AlertKind.RECONCILED)
        assert "it counts in the exposure" in said(seen, AlertKind.RECONCILED)
        if policy == "adopt":
            assert held(running)[beside] == before[beside]
            assert book.outside.net > 1000
            assert book.outside.up > 700
            assert [o.order_id for o in rests] == [resting.order_id]
            assert sent_beside(seen) == []
        else:
            assert beside not in held(running)
            assert all(o.reduce_only for o in sent_beside(seen))
            assert sent_beside(seen)
            assert rests == []
            assert book.outside.up == book.outside.net == 0.0


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("policy", POLICIES)
async def test_trades_by_hand_at_a_restart_and_while_trading_are_dealt_with_as_stated(
    tmp_path: Path, policy: str, venue: str
) -> None:
    traded = [False]

    def until(seen: Seen) -> bool:
        if decided_n(seen) == 2 and not traded[0]:
            traded[0] = True
            by_hand(running, ours, "3000")
        return decided_n(seen) >= 5 or halted(seen)

    async with exchange(venue) as running:
        (ours, *_), (beside, _) = symbols(running)
        settings = small(running, tmp_path / "state", policy)
        seen = await run_live(settings, until)
        assert "an order that is not ours" in said(seen, AlertKind.STRANGE_FILL)
        assert halted(seen) is (policy == "halt")
        assert ("closes what others added" in notes(seen)) is (policy == "flatten")
        check_agrees(seen.ledger, running)
        by_hand(running, beside, "1500")
        seen = await run_live(settings, lambda s: decided_n(s) >= 2 or halted(s))
        assert beside.removesuffix("USDT") in said(seen, AlertKind.STRANGE_FILL) + str(
            seen.commands
        )
        assert (beside in held(running)) is (policy != "flatten")
        if policy == "flatten":
            assert [o.reduce_only for o in sent_beside(seen)] == [True]
        check_agrees(seen.ledger, running)


def halted(seen: Seen) -> bool:
    """Tell whether trading is halted."""
    return seen.engine is not None and seen.engine.state.trading is TradingState.HALTED


def notes(seen: Seen) -> str:
    """Give what the decisions say."""
    return " | ".join(c.decision.note for c in seen.commands if isinstance(c, Decided))


@pytest.mark.parametrize("venue", VENUES)
async def test_money_that_comes_and_goes_while_it_trades_is_no_gain_and_no_loss(
    tmp_path: Path, venue: str
) -> None:
    moved: list[int] = []

    def until(seen: Seen) -> bool:
        n = decided_n(seen)
        if n in {2, 4} and n not in moved:
            moved.append(n)
            bank_of(running).transfer(KEY, "USDT", Decimal(-20_000 if n == 2 else 5_000))
            running.exchange.accounts.say()
        return n >= 6

    async with exchange(venue) as running:
        limits = ("risk.day_loss_max=0.05", "risk.drawdown_max=0.06")
        seen = await run_live(small(running, tmp_path / "state", "halt", *limits), until)
        transfers = [e.amount for e in seen.events if isinstance(e, Transferred)]
        assert {Decimal(-20_000), Decimal(5_000)} <= set(transfers)
        assert said(seen, AlertKind.LOSS) == ""
        assert not halted(seen)
        assert seen.engine is not None
        state = seen.engine.state
        assert state.high_equity < 40_000, "the highest equity went with the money"
        check_agrees(seen.ledger, running)


@pytest.mark.parametrize("venue", VENUES)
async def test_a_margin_ratio_past_its_limit_at_the_very_first_start_opens_nothing(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        _, (beside, _) = symbols(running)
        by_hand(running, beside, "9000")  # so that there is a margin to tell
        limits = ("risk.margin_ratio_max=0.0001", "risk.net_weight_max=0.3")
        tight = small(running, tmp_path / "state", "adopt", *limits)
        seen = await run_live(tight, lambda s: decided_n(s) >= 4)
        assert seen.engine is not None
        assert seen.engine.state.margins[venue] > 0.0001
        assert not [c for c in seen.commands if isinstance(c, Submit)]
        assert "margin_ratio_max" in said(seen, AlertKind.ORDER_REFUSED)


@pytest.mark.parametrize("venue", VENUES)
async def test_the_margin_ratio_that_the_venue_tells_holds_back_what_would_open(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        settings = small(running, tmp_path / "state", "halt")
        await run_live(settings, lambda s: decided_n(s) >= 3)
        tight = small(running, tmp_path / "state", "halt", "risk.margin_ratio_max=0.0000001")
        again = await run_live(tight, lambda s: decided_n(s) >= 8)
        ratios = [e.snapshot.margin_ratio for e in again.events if isinstance(e, Snapshotted)]
        views = bank_of(running).positions(KEY)
        assert views
        assert ratios
        assert ratios[0] is not None
        assert 0 < ratios[0] < 0.2
        sent = [c.approved.order for c in again.commands if isinstance(c, Submit)]
        assert all(o.reduce_only for o in sent)
        refused = [r for d in decisions(again) for r in d.refusals]
        assert RefusalReason.MARGIN in {r.reason for r in refused}
        assert "margin_ratio_max" in said(again, AlertKind.ORDER_REFUSED)


def decisions(seen: Seen) -> list[Decision]:
    """Give the decision records."""
    return [c.decision for c in seen.commands if isinstance(c, Decided)]
