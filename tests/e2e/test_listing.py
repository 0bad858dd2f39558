"""A contract listed while the daemon runs, through real ccxt: found, warmed up, traded, kept."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adapters.history.store import list_bars
from adapters.journal import JournalReader
from adapters.rehearsal.ccxt_options import ccxt_options
from daemon.domain.decision import Decision
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import Alert, AlertKind, Command, Decided, Event, InstrumentChanged
from daemon.domain.units import HOUR_MS
from daemon.engine.engine import Engine
from daemon.settings.exchange import OtherExchange
from daemon.wiring import session
from daemon.wiring.core import universe_of
from daemon.wiring.instruments import read_instruments
from daemon.wiring.recovery import recovered_engine
from daemon.wiring.rehearsal import later_listings, rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from daemon.wiring.verification import read_journal_run, verify_journal
from tests.e2e.books import check_books_agree
from tests.e2e.line import NEUTRAL, SMALL, command, daemon, rehearse, settings_of

COLUMNS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "ADAUSDT")
COINS = (
    "rehearsal.coins=7",
    "universe.symbols=top:6",
    "redis.enabled=false",
)
LEGS = 'strategy.parameters={"legs_each_side": 3}'
LATE = ('rehearsal.listings=[{"symbol": "BNBUSDT", "after_h": 9.5}]',)
SPARE = ("universe.spare=2",)
DEAR = 'strategy.parameters={"breadth_min": 4, "friction_max": 100.0}'
BNB = "BNB/USDT:USDT"


@dataclass
class Ran:
    decisions: list[Decision] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    symbols: tuple[str, ...] = ()


async def run(state: Path, decisions_n: int, *overrides: str) -> Ran:
    """Run the daemon on a rehearsal exchange for some decisions."""
    made, stop = Ran(), asyncio.Event()

    def watch(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        del event
        made.decisions.extend(c.decision for c in commands if isinstance(c, Decided))
        made.alerts.extend(c for c in commands if isinstance(c, Alert))
        made.symbols = engine.universe.symbols
        if len(made.decisions) >= decisions_n:
            stop.set()

    with rehearsal_exchange(settings_of(state, *SMALL, *COINS, *overrides)) as rehearsal:
        async with paper_session(rehearsal.settings, SessionHooks(observers=(watch,))) as shell:
            await shell.run(stop)
    return made


async def test_a_listing_joins_warms_up_trades_and_a_restart_keeps_its_column(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    settings = settings_of(state, *SMALL, *COINS, LEGS, *LATE, *SPARE)
    ((_, _, listed_ms),) = later_listings(settings)
    first = await run(state, 70, LEGS, *LATE, *SPARE)
    assert first.symbols[6:] == (BNB, "(spare 2)")
    joins = [a for a in first.alerts if a.kind is AlertKind.INSTRUMENT and BNB in a.text]
    assert len(joins) == 1
    assert 0 <= joins[0].at_ms - listed_ms <= HOUR_MS
    held = [d for d in first.decisions if d.weights_before[6] != 0]
    ordered = [d for d in first.decisions if any(o.index == 6 for o in d.orders)]
    assert held, "it was never held"
    window_ms = 24 * HOUR_MS
    assert ordered[0].as_of_ms >= listed_ms + window_ms, "it was traded before its window was full"
    assert ordered[0].as_of_ms <= listed_ms + window_ms + 12 * HOUR_MS
    assert all(d.weights_before.shape == (8,) for d in first.decisions)
    assert all(7 not in d.absent for d in first.decisions), "a free column is absent from nothing"

    second = await run(state, 20, LEGS, *LATE, *SPARE)
    assert second.symbols == first.symbols
    assert second.decisions[0].as_of_ms > first.decisions[-1].as_of_ms
    assert not [a for a in second.alerts if a.kind is AlertKind.INSTRUMENT]
    check_books_agree(settings)
    assert verify_journal(state).divergence is None
    begun = [i.key.symbol for i in read_instruments(state)]
    assert begun[6:] == ["(spare 1)", "(spare 2)"], "the file holds the book's beginning"
    shown = read_journal_run(state)
    assert shown.engine.universe.symbols == first.symbols
    stored = {one.symbol: one for one in list_bars(state / "bars")}
    assert set(stored) == {*COLUMNS, "BNBUSDT"}


def orders_of(made: Sequence[Decision]) -> list[list[tuple[str, str, str]]]:
    return [[(o.order_id, str(o.key), str(o.quantity)) for o in one.orders] for one in made]


@pytest.mark.parametrize("strategy", [(LEGS,), (*NEUTRAL, DEAR)])
async def test_spare_columns_that_nobody_takes_change_no_decision(
    tmp_path: Path, strategy: tuple[str, ...]
) -> None:
    plain = await run(tmp_path / "plain", 14, *strategy)
    spare = await run(tmp_path / "spare", 14, *strategy, *SPARE)
    assert spare.symbols == (*plain.symbols, "(spare 1)", "(spare 2)")
    assert sum(len(d.orders) for d in plain.decisions) > 10
    count = min(len(plain.decisions), len(spare.decisions))
    pairs = list(zip(plain.decisions[:count], spare.decisions[:count], strict=True))
    assert orders_of([a for a, _ in pairs]) == orders_of([b for _, b in pairs])
    for a, b in pairs:
        assert (a.equity, a.kind, a.note, a.absent) == (b.equity, b.kind, b.note, b.absent)
        assert (a.weights_before == b.weights_before[:6]).all()


async def test_a_killed_daemon_keeps_who_joined_and_every_command_shows_the_book(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    overrides = (*SMALL, *COINS[:2], LEGS, *LATE, *SPARE)
    for decisions_n in (16, 6):
        async with daemon(*rehearse(state, *overrides), cwd=tmp_path) as running:
            await running.decided(decisions_n)
            running.process.kill()
            await running.process.wait()
    verified = command("replay", "--verify", "--state", state, "--json", cwd=tmp_path)
    assert verified.code == 0, verified.complaint
    shown = read_journal_run(state)
    assert shown.engine.universe.symbols[6:] == (BNB, "(spare 2)")
    joins = [
        entry.event
        for entry in JournalReader(state / "journal.sqlite").read_from(1)
        if isinstance(entry.event, InstrumentChanged) and entry.event.instrument.key.symbol == BNB
    ]
    assert {event.index for event in joins} == {6}
    report = command("report", "--state", state, cwd=tmp_path)
    assert report.code == 0, report.complaint
    check_books_agree(settings_of(state, *overrides))


async def test_a_symbol_added_to_the_settings_takes_a_column_while_there_is_one(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    names = [f'"{name}"' for name in (*COLUMNS, "BNBUSDT", "AVAXUSDT")]
    spare = ("universe.spare=1", "universe.admit_new=false", "rehearsal.coins=8")

    def naming(count: int) -> str:
        return f"universe.symbols=[{', '.join(names[:count])}]"

    first = await run(state, 5, *spare, naming(6))
    assert first.symbols[6:] == ("(spare 1)",)
    second = await run(state, 5, *spare, naming(7))
    assert second.symbols[6:] == (BNB,)
    third = await run(state, 5, *spare, naming(6))
    assert third.symbols[6:] == (BNB,), "a column is taken for good"
    with pytest.raises(ConfigurationError, match=r"has 0 free columns \(universe.spare"):
        await run(state, 5, *spare, naming(8))
    with pytest.raises(ConfigurationError, match=r"trades BTC/USDT:USDT"):
        await run(state, 5, *spare, naming(5))
    assert verify_journal(state).divergence is None


async def test_a_rehearsal_keeps_the_listings_that_it_was_begun_with(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await run(state, 3, *LATE, *SPARE)
    with pytest.raises(ConfigurationError, match=r"rehearsal.listings = \[\]: the book in"):
        await run(state, 3, *SPARE)


async def test_two_venues_each_admit_into_columns_of_their_own(tmp_path: Path) -> None:
    state, made, stop = tmp_path / "state", Ran(), asyncio.Event()

    def watch(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        del event
        made.decisions.extend(c.decision for c in commands if isinstance(c, Decided))
        made.symbols = tuple(str(i.key) for i in engine.universe.instruments)
        if len(made.decisions) >= 16:
            stop.set()

    named = f"universe.symbols={list(COLUMNS[:2])}".replace("'", '"')
    wanted = settings_of(state, *SMALL, *COINS, *LATE, "universe.spare=1", named)
    with rehearsal_exchange(wanted) as rehearsal:
        options = ccxt_options(rehearsal.exchange.rest_url, rehearsal.exchange.ws_url)
        options["options"]["defaultType"] = "swap"
        other = OtherExchange(id="binance", symbols=COLUMNS[2:4], options=options, spare=2)
        exchange = rehearsal.settings.exchange.model_copy(update={"others": (other,)})
        settings = rehearsal.settings.model_copy(update={"exchange": exchange})
        async with paper_session(settings, SessionHooks(observers=(watch,))) as shell:
            await shell.run(stop)
    assert made.symbols == (
        "binanceusdm:BTC/USDT:USDT",
        "binanceusdm:ETH/USDT:USDT",
        f"binanceusdm:{BNB}",
        "binance:SOL/USDT:USDT",
        "binance:XRP/USDT:USDT",
        f"binance:{BNB}",
        "binance:(spare 2)",
    )
    marks = made.decisions[-1].marks
    assert marks[2] == marks[5] > 0, "each column has the bars of its own contract"
    assert verify_journal(state).divergence is None


async def test_snapshots_of_another_build_are_passed_over_and_the_journal_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    with monkeypatch.context() as patched:
        patched.setattr(session, "SCHEMA", 1)
        first = await run(state, 3)
    assert JournalReader(state / "journal.sqlite").last_snapshot() is not None
    second = await run(state, 2)
    assert second.decisions[0].as_of_ms > first.decisions[-1].as_of_ms


async def test_another_age_holds_from_the_next_start(tmp_path: Path) -> None:
    state = tmp_path / "state"
    await run(state, 2)
    older = settings_of(state, *SMALL, *COINS, "universe.age_days_min=3000")
    path = state / "journal.sqlite"
    engine, _ = recovered_engine(older, universe_of(read_instruments(state)), path)
    assert engine.rules.ripeness.age_ms_min == 3000 * 24 * HOUR_MS
