"""Every fault of an account against a whole live session: seen, made safe, reconciled.

A session is what `trade --live` runs: settings, feed, engine, journal, risk and the live venue,
through real ccxt and sockets, at a rehearsal exchange. Its market waits for the session and jumps
when that has come to rest; orders and account are told by private streams as in a real market.
It holds a full book that it turns over each hour. One fault after another strikes it in the middle
of a rebalance, at the second wave of orders. Measured is in seconds of transport time:

    seen     the first event or alert that tells of it; "-" where there is nothing to notice
    safe     no order is in doubt and the net is inside its bound and the book the venue's, or the
             session only reduces or has halted, where that is its stated reaction
    equal    positions, fees, funding, transfers and cash are the venue's statement to the last
             digit, and what rests is known

The engine's own waits (between two questions, say) are in market time and therefore short here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from adapters.ccxt_venue.venue import CcxtVenue
from adapters.rehearsal.bank.terms import Origin
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.server import RunningExchange
from daemon.domain.messages import Command, Decided, Event, Operator, OperatorAction, Submit
from daemon.domain.order import Uncertain
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.runtime.live import LiveShell
from daemon.settings import Settings
from daemon.wiring.control import live_latches
from daemon.wiring.live_session import _live_venue, refuse_unfit
from daemon.wiring.session import OpenedVenue, SessionHooks, trading_session
from tests.e2e.live_rig import (
    KEY,
    bank_of,
    check_once_each,
    environment_at,
    exchange,
    live_settings,
)
from tests.simulation.fault_reactions import REACTIONS, Reaction, has_stream
from tests.simulation.statement import check_statement, statement_differences

TOLD_S_MAX: Final = 2.0
STEP_S: Final = 0.03  # of transport time at each step of market time, while a fault is followed
STEP_AWAY_S: Final = 0.5  # the same while a venue is away: prices must not run away meanwhile
DRIFT: Final = 1.05  # by how much prices may carry a net past the bound that was kept
LOOK_S: Final = 0.005
READY_S_MAX: Final = 40.0
SAFE_S_MAX: Final = 20.0
FULL: Final = 0.5  # gross weight from which a book counts as full
OUTAGE_S: Final = 0.5  # how long an outage goes on once the session is safe
OVERRIDES: Final = (
    "strategy.name=relative_strength",
    'strategy.parameters={"lookback_bars": 3, "legs_each_side": 2, "band_weight": 0.0}',
    "market.window_bars=4",
    "live.follow_up_s=0.5",
    "live.reconcile_s=5",
    "live.stream_silence_s=30",
    "live.dead_man_s=0",
    "risk.uncertain_queries_max=100",  # they follow each other in market time
    "live.unread_max_s=86400",
)


@dataclass(frozen=True, slots=True)
class Row:
    """Hold what one fault came to; times in seconds from when it was switched on."""

    venue: str
    fault: Fault
    struck_n: int
    seen_s: float | None
    safe_s: float
    equal_s: float
    trading: str
    told: str


@dataclass
class FaultSession:
    """Hold a running session, and everything that it tells, with its times."""

    running: RunningExchange
    shell: LiveShell
    settings: Settings
    told: list[tuple[float, Event | Command]] = field(default_factory=list)
    waves_n: int = 0  # of orders since the last decision
    arm: Callable[[], None] | None = None
    decided_n: int = 0
    step_s: float = 0.0  # of transport time at each step of market time
    past: list[str] = field(default_factory=list)  # orders that could lead past the net bound

    @property
    def engine(self) -> Engine:
        return self.shell.engine

    @property
    def venue(self) -> CcxtVenue:
        return cast(CcxtVenue, self.shell._parts.account)

    def observe(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Note what happened, and strike at the second wave of orders of a full book."""
        at_s = asyncio.get_running_loop().time()
        self.told += [(at_s, one) for one in (event, *commands)]
        decided = any(isinstance(c, Decided) for c in commands)
        self.decided_n += decided
        if any(isinstance(c, Submit) for c in commands):
            self.waves_n += 1
            if self.arm is not None and self.waves_n > 1 and self.is_full():
                strike, self.arm = self.arm, None
                strike()
        if decided:
            self.waves_n = 0

    def watch_orders(self) -> None:
        """Note orders after which some subset of fills, unknown ones included, is past the bound.

        What prices do to a book that nobody may trade for hours proves nothing: then an order may
        only lead back, so that its own side of the worst case counts.
        """
        engine, process = self.engine, self.engine.process

        def watched(event: Event) -> tuple[Command, ...]:
            commands = process(event)
            book = engine.state.book
            high, low = book.worst_net()
            bound = engine.rules.limits.net_weight_max * book.equity
            for order in (c.approved.order for c in commands if isinstance(c, Submit)):
                worst = high if order.quantity > 0 else -low
                if worst > bound:
                    text = f"{order.order_id} {order.quantity}: {worst:.2f} of {bound:.2f}"
                    self.past.append(f"{text} at {type(event).__name__}")
            return commands

        engine.process = watched  # type: ignore[method-assign]

    def is_full(self) -> bool:
        """Tell whether a full book is traded."""
        book = self.engine.state.book
        trading = self.engine.state.trading is TradingState.TRADING
        return trading and book.equity > 0 and book.gross / book.equity >= FULL

    def pace(self) -> None:
        """Let market time go on only when all that was sent has been told, and not too fast."""
        quiet = self.shell.quiet

        async def paced() -> None:
            await quiet()
            with suppress(TimeoutError):
                async with asyncio.timeout(TOLD_S_MAX):
                    while self.venue.desk.open:  # noqa: ASYNC110 - frames and follow-ups end it
                        await asyncio.sleep(LOOK_S)
            await asyncio.sleep(self.step_s)
            await quiet()

        vars(self.shell)["quiet"] = paced

    # ---- what is so now --------------------------------------------------------------------------

    def doubts(self) -> bool:
        orders = self.engine.state.orders.open.values()
        return any(isinstance(one.state, Uncertain) for one in orders)

    def inside(self) -> bool:
        """Tell whether the net is inside its bound."""
        book = self.engine.state.book
        return abs(book.net) <= self.engine.rules.limits.net_weight_max * book.equity * DRIFT

    def is_the_venues(self) -> bool:
        ledger = self.engine.state.book.ledger
        ours = {k.symbol.split("/")[0] + "USDT": p.quantity for k, p in ledger.positions.items()}
        views = bank_of(self.running).positions(KEY)
        theirs = {v.symbol: v.position.quantity for v in views if v.position.quantity}
        return {name: q for name, q in ours.items() if q} == theirs

    def differs(self) -> list[str]:
        """List what keeps the book from being the venue's account."""
        bank = bank_of(self.running)
        found = statement_differences(self.engine.state.book.ledger, bank, KEY)
        resting = [o.client_id for o in bank.open_orders(KEY) if o.origin is Origin.API]
        strange = set(resting) - set(self.engine.state.orders.open)
        return [*found, *(f"{name} rests and is not ours" for name in sorted(strange))]

    def is_over(self) -> bool:
        """Tell whether nothing is open or unwritten, and the book is the venue's account."""
        at_rest = not self.shell._outstanding.count and not self.engine.state.orders.open
        return at_rest and not self.differs()

    def opened_n(self) -> int:
        """Count the private sockets so far."""
        brought = self.venue.brought
        return 0 if brought is None else brought.stream.opened_n

    # ---- one fault -------------------------------------------------------------------------------

    def symbol(self) -> str:
        """Name the contract with the largest position."""
        views = bank_of(self.running).positions(KEY)
        return max(views, key=lambda v: abs(v.position.cost)).symbol

    async def struck(self, fault: Fault) -> Row:
        """Let a fault strike in the middle of a rebalance and follow it until all is well."""
        loop, reaction = asyncio.get_running_loop(), REACTIONS[fault]
        begun: asyncio.Future[float] = loop.create_future()
        opened_n, faults = self.opened_n(), self.running.exchange.faults
        before_n = faults.struck_n[fault]
        settling: list[asyncio.Task[None]] = []

        def strike() -> None:
            symbol = self.symbol() if reaction.of_symbol else ""
            faults.set(fault.value, reaction.count, symbol=symbol, seconds=0.3)
            begun.set_result(loop.time())
            settling.append(asyncio.create_task(self.running.private.settle()))

        self.arm = strike
        await self._until(begun.done, READY_S_MAX, f"{fault}: no rebalance of a full book")
        begun_s = begun.result()
        self.step_s = STEP_AWAY_S if reaction.lasts else STEP_S

        def seen() -> float | None:
            if reaction.reopens:
                return loop.time() if self.opened_n() > opened_n else None
            since = [(at, one) for at, one in self.told if at >= begun_s]
            return next((at for at, one in since if reaction.is_sign(one)), None)

        def safe() -> bool:
            if reaction.is_seen and seen() is None:
                return False
            if faults.struck_n[fault] <= before_n:
                return False
            return self._is_safe(reaction)

        await self._until(safe, SAFE_S_MAX, f"{fault}: not safe")
        safe_s, trading = loop.time() - begun_s, self.engine.state.trading
        seen_s = seen()
        if reaction.lasts:
            await asyncio.sleep(OUTAGE_S)
        faults.set("none", 1)
        if fault is Fault.SYMBOL_HALTED:
            faults.set("symbol_resumed", 1, symbol=self.symbol())
            bank = bank_of(self.running)
            for name in list(bank._desk.state.halted):
                bank.resume(name)
            faults.set("none", 1)
        await self._until(lambda: not self.differs() and not self.doubts(), SAFE_S_MAX, fault)
        equal_s = loop.time() - begun_s
        told = next((one for at, one in self.told if at == seen_s and reaction.is_sign(one)), None)
        row = Row(
            self.venue.venue,
            fault,
            faults.struck_n[fault] - before_n,
            None if seen_s is None else seen_s - begun_s,
            safe_s,
            equal_s,
            str(trading),
            _words(told) if told is not None else ("dialled anew" if reaction.reopens else ""),
        )
        self.step_s = 0.0
        await self._trade_on()
        return row

    def _is_safe(self, reaction: Reaction) -> bool:
        trading = self.engine.state.trading
        if reaction.trading is not None and trading is not reaction.trading:
            return False
        if trading is TradingState.HALTED:
            return not self.engine.state.orders.open
        if reaction.lasts:  # nothing more can be known while the venue is away
            return trading is TradingState.REDUCE_ONLY
        return not self.doubts() and self.inside() and self.is_the_venues()

    async def _trade_on(self) -> None:
        """Resume where trading stopped, as an operator who has read why."""
        state = self.engine.state
        if state.trading is TradingState.HALTED or state.operator_reduce_only:
            now_ms = self.running.exchange.clock_ms()
            wish = Operator(OperatorAction.RESUME, f"resume-{now_ms}", now_ms)
            await self.shell.operator(wish)
        before_n = self.decided_n
        await self._until(
            lambda: self.decided_n > before_n and state.trading is TradingState.TRADING,
            READY_S_MAX,
            "trading did not go on",
        )

    async def _until(self, so: Callable[[], object], seconds: float, what: str) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not so():  # noqa: ASYNC110 - many things are waited for
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise AssertionError(f"{what}: {self.story()}") from None

    def story(self) -> str:
        """Say how things stand, for whoever reads a failure."""
        state = self.engine.state
        book = state.book
        return (
            f"trading {state.trading} ({state.halted_why}), holds {state.holds}, net "
            f"{book.net / book.equity:+.4f} (at worst {book.worst_net()}), gross "
            f"{book.gross / book.equity:.3f}, open "
            f"{list(state.orders.open)}, differs {self.differs()}, last told "
            f"{[_words(one) for _, one in self.told[-8:]]}"
        )


def _words(one: Event | Command) -> str:
    text = getattr(one, "text", None) or getattr(one, "reason", None) or ""
    name = str(getattr(one, "kind", "") or type(one).__name__)
    return " ".join(f"{name}: {text}".split())[:110] if text else name


# ---- a session -----------------------------------------------------------------------------------


@asynccontextmanager
async def session_at(venue: str, folder: Path, seed: int) -> AsyncIterator[FaultSession]:
    """Run a whole live session at an exchange of a dialect, and stop it at the end."""
    async with exchange(venue, seed=seed) as running:
        settings = live_settings(running, folder / "state", *OVERRIDES)
        seen: list[FaultSession] = []

        def observe(event: Event, commands: Sequence[Command], engine: Engine) -> None:
            if seen:
                seen[0].observe(event, commands, engine)

        hooks = SessionHooks(observers=(observe,), is_rehearsal=True)
        around = environment_at(settings.run.state_folder)
        keys = refuse_unfit(settings, around)
        latches = live_latches(settings.run.state_folder, settings.live.account, around)

        async def make(chosen: Settings, *parts: Any) -> OpenedVenue:
            led = chosen.exchange.model_copy(update={"market_time": "venue"})
            streamed = chosen.model_copy(update={"exchange": led})
            return await _live_venue(keys, latches, streamed, *parts)

        stop = asyncio.Event()
        async with trading_session(settings, hooks, make, latches) as shell:
            seen.append(FaultSession(running, shell, settings))
            seen[0].pace()
            seen[0].watch_orders()
            task = asyncio.create_task(shell.run(stop))
            try:
                yield seen[0]
                assert not task.done(), task
            finally:
                stop.set()
                await task


async def rows_of(venue: str, faults: Sequence[Fault], folder: Path, seed: int) -> list[Row]:
    """Let faults strike one session one after another; what ends a contract comes last.

    At the end the orders at the venue are the intents, and the book is its statement; none of them
    could lead the net past its bound.
    """
    order = list(faults)
    random.Random(seed).shuffle(order)
    order.sort(key=lambda fault: fault is Fault.SYMBOL_DELISTED)
    async with session_at(venue, folder, seed) as session:
        rows = [await session.struck(fault) for fault in order]
        await session._until(session.is_over, SAFE_S_MAX, "at the end")
        check_statement(session.engine.state.book.ledger, bank_of(session.running), KEY)
        check_once_each(session.settings.run.state_folder, session.running)
        assert not session.past, session.past
    return rows


async def at_once(
    venue: str, faults: Sequence[Fault], folder: Path, seed: int, sessions_n: int
) -> list[Row]:
    """Share faults out among sessions that run beside each other."""
    shares = [faults[n::sessions_n] for n in range(sessions_n)]
    runs = [rows_of(venue, one, folder / f"{n}", seed) for n, one in enumerate(shares)]
    return [row for rows in await asyncio.gather(*runs) for row in rows]


def faults_of(venue: str) -> tuple[Fault, ...]:
    """List what can go wrong with an account at a venue."""
    return tuple(f for f in sorted(REACTIONS) if has_stream(venue, f))


def table(rows: Sequence[Row]) -> str:
    """Write what was found, a fault a line."""
    head = f"{'venue':12} {'fault':20} {'struck':>6} {'seen s':>7} {'safe s':>7} {'equal s':>7}  "
    lines = [f"{head}{'safe as':11} told as"]
    for row in sorted(rows, key=lambda one: (one.venue, one.fault)):
        seen = "-" if row.seen_s is None else f"{row.seen_s:.3f}"
        lines.append(
            f"{row.venue:12} {row.fault.value:20} {row.struck_n:6d} {seen:>7} {row.safe_s:7.3f} "
            f"{row.equal_s:7.3f}  {row.trading:11} {row.told}"
        )
    return "\n".join(lines)
