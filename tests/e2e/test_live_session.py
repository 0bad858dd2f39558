"""A whole daemon with real orders at a rehearsal exchange: its book is the venue's, always."""

from __future__ import annotations

import signal
import socket
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest

from adapters.rehearsal.faults import Fault
from adapters.rehearsal.settings import PaceKind
from adapters.service_notice import ALIVE, READY, STOPPING
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import (
    Alert,
    AlertKind,
    OrderFilled,
    Snapshotted,
    Submit,
    Transferred,
)
from daemon.domain.order import DELEVERAGING_PREFIX
from daemon.domain.units import quantise
from daemon.engine.viewing import view_of
from daemon.settings import effective_toml
from tests.e2e.line import daemon
from tests.e2e.live_rig import (
    KEY,
    SECRET,
    VENUES,
    Seen,
    abandon_live,
    account_of,
    bank_of,
    check_agrees,
    check_once_each,
    decided_n,
    environment_at,
    exchange,
    live_settings,
    run_live,
)

# Market time runs 900 times as fast as the sockets do.
STRANGE = (AlertKind.RECONCILED, AlertKind.HALTED, AlertKind.STRANGE_FILL)
PATIENT = ("market.decision_deadline_s=600",)


@pytest.mark.parametrize("venue", VENUES)
async def test_decisions_trade_and_the_book_is_the_banks_to_the_last_digit(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        settings = live_settings(running, tmp_path / "state")
        seen = await run_live(settings, lambda s: decided_n(s) >= 12)
        sent = [c.approved.order for c in seen.commands if isinstance(c, Submit)]
        fills = [e for e in seen.events if isinstance(e, OrderFilled)]
        assert len(sent) > 20
        assert fills
        at_venue = sorted(one.client_id for one in bank_of(running).orders(KEY))
        assert at_venue == sorted(o.order_id for o in sent), "intents and orders, as multisets"
        check_agrees(seen.ledger, running)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("sends", [1, 9, 30])
async def test_abandoned_in_the_middle_it_goes_on_and_doubles_nothing(
    tmp_path: Path, sends: int, venue: str
) -> None:
    state = tmp_path / "state"

    def sent(seen: Seen) -> bool:
        return sum(isinstance(c, Submit) for c in seen.commands) >= sends

    async with exchange(venue) as running:
        settings = live_settings(running, state)
        await abandon_live(settings, sent)
        seen = await run_live(settings, lambda s: decided_n(s) >= 4)
        check_once_each(state, running)
        check_agrees(seen.ledger, running)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("fault", [Fault.ORDER_LOST_HANG, Fault.ORDER_LOST_RESET])
async def test_abandoned_while_an_answer_is_out_the_order_is_asked_about(
    tmp_path: Path, fault: Fault, venue: str
) -> None:
    state = tmp_path / "state"
    async with exchange(venue) as running:
        settings = live_settings(running, state)
        running.exchange.faults.set(fault.value, 1)
        await abandon_live(settings, lambda s: bool(bank_of(running).orders(KEY)))
        seen = await run_live(settings, lambda s: decided_n(s) >= 3)
        check_once_each(state, running)
        check_agrees(seen.ledger, running)


def filled_n(seen: Seen) -> int:
    """Count the fills that were heard."""
    return sum(isinstance(event, OrderFilled) for event in seen.events)


@pytest.mark.parametrize("venue", VENUES)
async def test_beside_a_running_market_hints_bring_the_fills_and_the_book_is_the_banks(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue, pace=PaceKind.FACTOR, factor=900.0) as running:
        settings = live_settings(
            running,
            tmp_path / "state",
            "live.follow_up_s=1",
            "live.reconcile_s=5",
            "live.dead_man_s=0",  # 120 s there are 0.13 s here
            *PATIENT,
        )
        led = settings.exchange.model_copy(update={"market_time": "venue", "lockstep_url": ""})
        settings = settings.model_copy(update={"exchange": led})
        # On a busy machine an order may have waited longer than it may, and is not sent.
        seen = await run_live(
            settings, lambda s: decided_n(s) >= 2 and filled_n(s) > 0, speed=900.0
        )
        assert any(isinstance(e, Snapshotted) for e in seen.events[len(seen.events) // 2 :])
        odd = [c.text for c in seen.commands if isinstance(c, Alert) and c.kind in STRANGE]
        assert [text for text in odd if f"adopted {venue}:USDT: ours 0" not in text] == []
        check_once_each(tmp_path / "state", running)


@pytest.mark.parametrize("venue", VENUES)
async def test_the_first_start_names_the_account_and_the_next_one_trades_there(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        ours = account_of(running)
        settings = live_settings(running, tmp_path / "state", "live.account=")
        with pytest.raises(ConfigurationError, match=ours):
            await run_live(settings, lambda seen: True)
        assert bank_of(running).orders(KEY) == []
        named = live_settings(running, tmp_path / "state")
        seen = await run_live(named, lambda s: decided_n(s) >= 1)
        check_agrees(seen.ledger, running)
        other = named.model_copy(
            update={"live": named.live.model_copy(update={"account": f"{venue}-0123456789ab"})}
        )
        with pytest.raises(ConfigurationError, match=f"the book in .* is of {ours}"):
            await run_live(other, lambda seen: True)


@pytest.mark.parametrize("venue", VENUES)
async def test_what_the_owner_and_the_venue_do_is_booked_while_the_daemon_is_away(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        settings = live_settings(running, tmp_path / "state", "risk.name_weight_max=1.0")
        await run_live(settings, lambda s: decided_n(s) >= 3)
        bank = bank_of(running)
        bank.transfer(KEY, "USDT", Decimal("123.45"))
        for view in bank.positions(KEY)[:2]:
            step = bank.rules[view.symbol].quantity_step
            half = quantise(abs(view.position.quantity) / 2, step, ROUND_CEILING)
            bank.reduce_forcibly(KEY, view.symbol, half)
        seen = await run_live(settings, lambda s: decided_n(s) >= 2)
        foreign = [
            e
            for e in seen.events
            if isinstance(e, OrderFilled) and e.fill.order_id.startswith(DELEVERAGING_PREFIX)
        ]
        assert foreign
        assert Decimal("123.45") in [e.amount for e in seen.events if isinstance(e, Transferred)]
        adopted = [c.text for c in seen.commands if isinstance(c, Alert) and "adopted" in c.text]
        assert adopted == [], "what explains itself needs no adjustment"
        check_agrees(seen.ledger, running)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    "fault",
    [
        Fault.ORDER_LOST_503,
        Fault.ORDER_LOST_NOT_JSON,
        Fault.ORDER_REFUSED_503,
        Fault.INSUFFICIENT_MARGIN,
        Fault.CLOCK_SKEW,
        Fault.POSITIONS_BROKEN,
        Fault.FORCED_REDUCTION,
    ],
)
async def test_through_every_fault_each_order_is_there_once_and_the_book_is_the_banks(
    tmp_path: Path, fault: Fault, venue: str
) -> None:
    struck = [-1]  # the first time before anything was decided

    def until(seen: Seen) -> bool:
        if decided_n(seen) > struck[0]:
            struck[0] = decided_n(seen)
            running.exchange.faults.set(fault.value, 1)
        return decided_n(seen) >= 3

    async with exchange(venue) as running:
        state = tmp_path / "state"
        seen = await run_live(live_settings(running, state), until)
        assert running.exchange.faults.struck_n[fault] >= 1
        running.exchange.faults.set("none", 1)
        seen = await run_live(live_settings(running, state), lambda s: decided_n(s) >= 1)
        check_once_each(state, running)  # what the stop left in doubt is settled by now too
        check_agrees(seen.ledger, running)


@pytest.mark.parametrize("venue", VENUES)
async def test_the_command_line_trades_live_with_a_key_from_the_environment(
    tmp_path: Path, venue: str
) -> None:
    async with exchange(venue) as running:
        path = tmp_path / "live.toml"
        path.write_text(effective_toml(live_settings(running, tmp_path / "state")))
        chosen = ("trade", "--live", "--config", path)
        around = {**environment_at(tmp_path / "state"), "NOTIFY_SOCKET": str(tmp_path / "n")}
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        manager.bind(around["NOTIFY_SOCKET"])
        async with daemon(*chosen, cwd=tmp_path, extra=around) as process:
            await process.decided(4)
            assert await process.end(signal.SIGTERM) == 0, process.said
            assert KEY not in process.said
            assert "Traceback" not in process.said
        with manager:  # the service manager heard of its beginning, its life and its end
            said = [manager.recv(64) for _ in range(3)]
        assert said[:2] == [READY, ALIVE]
        assert said[2] in {ALIVE, STOPPING}
        check_once_each(tmp_path / "state", running)
        for file in (tmp_path / "state").rglob("*"):
            if file.is_file():
                assert KEY.encode() not in file.read_bytes(), file
                assert SECRET.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("venue", VENUES)
async def test_what_each_way_of_trading_costs_is_measured_live_and_shown_to_the_strategy(
    tmp_path: Path, venue: str
) -> None:
    wishes = ("execution.style=passive", "execution.passive_s=1900", "execution.cost_feedback=true")
    async with exchange(venue) as running:
        settings = live_settings(running, tmp_path / "state", *wishes)
        seen = await run_live(settings, lambda s: decided_n(s) >= 14)
        check_agrees(seen.ledger, running)
    engine = seen.engine
    assert engine is not None
    sums = engine.state.costs
    assert {"passive", "rest"} == {name.split()[0] for name in sums}, "both ways were gone"
    told = [e.fill for e in seen.events if isinstance(e, OrderFilled)]
    fills = {fill.trade_id: fill for fill in told}.values()  # some are told twice
    assert sum(row[0] for row in sums.values()) == len(fills)
    assert sum(row[3] for row in sums.values()) == pytest.approx(float(sum(f.fee for f in fills)))
    view = view_of(engine.universe, engine.state, engine.rules, engine._costs)
    assumed, shown = engine.rules.cost, view.cost
    assert shown.shape == assumed.shape
    assert (abs(shown - assumed) > 1e-6).any(), "the band reckons with what fills cost"
