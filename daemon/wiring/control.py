"""Operators beside a running session: take their requests, obey the halt latch, answer.

A request becomes an Operator event. It is answered once that event is in the journal, with what the
engine stands at then. A latch halts the engine and keeps every order from the venue before that.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from msgspec.structs import replace

from adapters.clocks import TransportClock
from adapters.control import (
    LATCH_NAME,
    Answer,
    LatchedOrders,
    Latches,
    Request,
    Spool,
    account_latch,
)
from daemon.domain.failures import ConfigurationError, CorruptFile
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Command, Event, Operator, OperatorAction, RuleValue
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.ports import Clock, OrderEntry
from daemon.runtime.live import LiveShell
from daemon.wiring.core import LIVE_FILE

POLL_S: Final = 0.2
STALE_S: Final = 120.0  # an older wish to resume or to flatten surprises whoever had it
AGES: Final = frozenset({OperatorAction.RESUME, OperatorAction.FLATTEN})
KILLED: Final = "killed by the operator"
Reread = Callable[[Engine], tuple[Mapping[str, RuleValue], str]]
"""Reads the settings again: the rules that change, and words for people; see `reloading`."""

log = structlog.get_logger()


def latches_of(state_folder: Path, account: Path | None = None) -> Latches:
    """Give the latches of a daemon.

    account: `account_latch(shared_latches(...), venue, name)` for a real account, which all its
    daemons share; a paper account is its state folder's alone.
    """
    own = state_folder / LATCH_NAME
    return Latches((own,) if account is None else (own, account))


def live_latches(
    state_folder: Path, account: str, environment: Mapping[str, str] | None = None
) -> Latches:
    """Give the latches of a daemon with real orders, that of its account included.

    account: its name, which begins with the venue's. environment: our own unless given.
    """
    shared = shared_latches(os.environ if environment is None else environment)
    return _with_account(state_folder, account, shared)


def latches_at(state_folder: Path, environment: Mapping[str, str] | None = None) -> Latches:
    """Give the latches of whoever runs in a state folder, as an operator sets and clears them.

    Raises CorruptFile where the folder does not say which account its book is of.
    """
    account, shared = _book_of(state_folder)
    if not account:
        return latches_of(state_folder)
    if shared is None:
        return live_latches(state_folder, account, environment)
    return _with_account(state_folder, account, shared)


def account_at(state_folder: Path) -> str:
    """Name the real account that the book in a folder is of, "" for none; raises CorruptFile."""
    return _book_of(state_folder)[0]


def _with_account(state_folder: Path, account: str, shared: Path) -> Latches:
    venue = account.rpartition("-")[0]
    return latches_of(state_folder, account_latch(shared, venue, account))


def _book_of(state_folder: Path) -> tuple[str, Path | None]:
    """Read the account of a book, and where its daemon looks for the account's latch."""
    path = state_folder / LIVE_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        shared = found.get("latches")
        return str(found["account"]), Path(shared) if shared else None
    except FileNotFoundError:
        return "", None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise CorruptFile(f"{path}: does not say which account the book is of: {e}") from e


def shared_latches(environment: Mapping[str, str]) -> Path:
    """Name the folder of the accounts' latches, common to all daemons of this user."""
    base = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "equipoise" / "latches"


class OperatorControl:
    """Stand between operators and one session."""

    def __init__(
        self,
        folder: Path,
        latches: Latches,
        clock: Clock,
        transport: TransportClock,
        reread: Reread | None = None,
    ) -> None:
        self._reread = reread
        self._spool = Spool(folder)
        self._latches = latches
        self._clock = clock
        self._transport = transport
        self._begun = asyncio.Event()
        self._awaited: dict[str, asyncio.Future[Answer]] = {}
        self._unwritten: dict[str, Answer] = {}  # obeyed, but the disk took no answer
        self._unheard = False

    def open(self) -> None:
        """Make the folders; raises ConfigurationError or OSError where that cannot be."""
        self._spool.open()
        self._latches.open()

    def guarded(self, orders: OrderEntry) -> OrderEntry:
        """Give the venue's order entry, closed while a latch is set."""
        return LatchedOrders(orders, self._latches, self._clock.now)

    def observe(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Hear of what is in the journal: only then is a request answered."""
        if isinstance(event, Operator):
            waiting = self._awaited.get(event.request_id)
            if waiting is not None and not waiting.done():
                note = event.reason if event.action is OperatorAction.RELOAD else ""
                told = _answer(event.request_id, event.action, event.at_ms, engine)
                waiting.set_result(replace(told, note=note))

    async def begin(self, shell: LiveShell) -> None:
        """Obey what was asked for while nothing ran, before this run may trade."""
        await self._look(shell)
        self._begun.set()

    async def listen(self, shell: LiveShell) -> None:
        """Obey latch and requests until cancelled."""
        await self._begun.wait()
        with self._hearing_hangups():
            while True:
                await asyncio.sleep(POLL_S)
                await self._look(shell)

    @contextmanager
    def _hearing_hangups(self) -> Iterator[None]:
        """Take a SIGHUP for a request to reload, as service managers mean it."""
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        except (ValueError, RuntimeError):  # not in the main thread: nobody sends us signals
            yield
            return
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGHUP)

    def _hung_up(self) -> None:
        asked_ms = self._transport.wall_ms()
        try:
            self._spool.send(Request(OperatorAction.RELOAD, f"hangup-{asked_ms}", asked_ms))
        except OSError as e:
            self._note_unheard(str(e))

    async def _look(self, shell: LiveShell) -> None:
        await self._obey_latch(shell)
        try:
            await self._take(shell)
        except OSError as e:
            self._note_unheard(str(e))
        else:
            self._note_heard()

    async def _obey_latch(self, shell: LiveShell) -> None:
        halt, state = self._latches.found(), shell.engine.state
        if halt is None or state.halted_why:
            return
        name = halt.request_id or "latch"
        if name in state.operator_requests:  # obeyed once, resumed since: obeyed again
            name = f"{name}~{self._transport.wall_ms()}"
        kill = Operator(OperatorAction.KILL, name, self._clock.now(), halt.reason)
        await self._hand(shell, kill)

    async def _take(self, shell: LiveShell) -> None:
        """Deal with what waits, one after another, as it was asked."""
        found = await asyncio.to_thread(self._spool.waiting)
        for name, why in found.aside:
            log.warning(LogEvent.FILE_SET_ASIDE, file=name, why=why)
        for request in found.requests:
            name = request.request_id
            answer = self._unwritten.get(name) or await self._dealt_with(shell, request)
            self._unwritten[name] = answer
            await asyncio.to_thread(self._spool.settle, answer)
            del self._unwritten[name]

    async def _dealt_with(self, shell: LiveShell, request: Request) -> Answer:
        engine, at_ms = shell.engine, self._clock.now()
        name, action = request.request_id, request.action
        if action is OperatorAction.KILL:  # also one whose id was obeyed and resumed before
            await self._obey_latch(shell)
        known = name in engine.state.operator_requests
        why = "" if known else self._refusal(request, engine)
        if why:
            log.warning(LogEvent.OPERATOR_REFUSED, action=str(action), request_id=name, why=why)
            return _answer(name, action, at_ms, engine, refused=why)
        halt = self._latches.found() if action is OperatorAction.KILL else None
        wish = Operator(action, name, at_ms, "" if halt is None else halt.reason)
        if action is OperatorAction.RELOAD and not known:
            try:
                wish = await asyncio.to_thread(self._reloaded, wish, engine)
            except ConfigurationError as e:
                log.warning(LogEvent.OPERATOR_REFUSED, action="reload", request_id=name, why=str(e))
                return _answer(name, action, at_ms, engine, refused=str(e))
        answer = await self._hand(shell, wish)
        log.info(LogEvent.OPERATOR_OBEYED, action=str(action), request_id=name, known=known)
        return answer

    def _reloaded(self, wish: Operator, engine: Engine) -> Operator:
        """Give a wish to reload with what it changes; raises ConfigurationError where none may."""
        if self._reread is None:
            raise ConfigurationError("this run has no settings files to read again")
        rules, note = self._reread(engine)
        return Operator(wish.action, wish.request_id, wish.at_ms, note, rules)

    async def _hand(self, shell: LiveShell, wish: Operator) -> Answer:
        """Queue a wish and wait until it is in the journal."""
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._awaited[wish.request_id] = waiting
        try:
            await shell.operator(wish)
            return await waiting
        finally:
            del self._awaited[wish.request_id]

    def _refusal(self, request: Request, engine: Engine) -> str:
        """Say why a request is not obeyed, "" when it is."""
        action, state = request.action, engine.state
        age_s = (self._transport.wall_ms() - request.asked_ms) / 1000
        if action in AGES and abs(age_s) > STALE_S:
            return f"asked {age_s:,.0f} s ago, which is over {STALE_S:.0f} s: ask again"
        halt = self._latches.found()
        if action is OperatorAction.RESUME and halt is not None:
            return f"the halt latch is set ({halt.reason}): resume with --clear-latch"
        if action is OperatorAction.FLATTEN and (halt is not None or state.halted_why):
            why = state.halted_why or (halt.reason if halt is not None else "")
            return f"trading is halted ({why}), nothing can be sent: resume first, then flatten"
        return ""

    def _note_unheard(self, why: str) -> None:
        if not self._unheard:
            self._unheard = True
            log.warning(LogEvent.OPERATORS_UNHEARD, why=why, folder=str(self._spool.folder))

    def _note_heard(self) -> None:
        if self._unheard:
            self._unheard = False
            log.warning(LogEvent.OPERATORS_HEARD_AGAIN, folder=str(self._spool.folder))


def _answer(
    request_id: str, action: OperatorAction, at_ms: int, engine: Engine, *, refused: str = ""
) -> Answer:
    state = engine.state
    return Answer(
        request_id=request_id,
        action=action,
        obeyed=not refused,
        why=refused,
        at_ms=at_ms,
        trading=str(state.trading),
        paused=state.paused,
        flattening=state.flattening,
        reduce_only=state.operator_reduce_only or state.trading is TradingState.REDUCE_ONLY,
        halted_why=state.halted_why,
        orders_open_n=len(state.orders.open),
        positions_n=sum(1 for quantity in state.book.held if quantity),
    )
