"""What happens to an account between the engine's questions: hints, follow-ups, reconciliation.

One worker turns wishes into events:

- orders that frames named are asked about by REST, a few at once;
- an order that rests is asked about when nothing was heard of it for a while, at growing pauses,
  and soon again where nobody answered; if that brings what the stream should have told, the stream
  is deaf and is dialled anew;
- the account is read when a private socket opens, when a frame speaks of orders that are not ours
  or of cash, and every so often anyway.

The stream may lose, repeat, shuffle or invent: it changes only when we ask, not what we believe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Final

import structlog

from adapters.ccxt_venue.calls import Caller, now_s
from adapters.ccxt_venue.client_ids import order_id_of
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.streams import Hint, PrivateStream
from adapters.ccxt_venue.together import Company, side_by_side
from daemon.domain.failures import BadPayload, VenueError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    AccountUnread,
    OrderAccepted,
    OrderFilled,
    OrderUncertain,
    Snapshotted,
    VenueEvent,
)
from daemon.domain.order import OUTSIDE, OrderId

Put = Callable[[VenueEvent], Awaitable[None]]
Named = tuple[OrderId, InstrumentKey]
FOLLOW_UP_S_MAX: Final = 120.0
LOOK_S_MAX: Final = 1.0
FAILED_PAUSE_S: Final = 2.0
GAVE_WAY_PAUSE_S: Final = 0.2

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NewsRules:
    """Bound the news, in seconds of transport time: see the settings of the same names."""

    follow_up_s: float = 5.0
    reconcile_s: float = 300.0
    stream_silence_s: float = 900.0
    listen_key_s: float = 1200.0


@dataclass(frozen=True, slots=True)
class Questions:
    """Hold what is asked: about one order, and about the account as a whole.

    resting: orders of ours that the venue admitted and whose end was not told. held: entered while
    one order is asked about and its answer handed on.
    """

    order: Callable[[OrderId, InstrumentKey], Awaitable[list[VenueEvent]]]
    account: Callable[[], Awaitable[list[VenueEvent]]]
    resting: Callable[[], dict[OrderId, InstrumentKey]]
    now_ms: Callable[[], int]
    held: Callable[[OrderId], AbstractAsyncContextManager[None]]


class News:
    """Bring news of an account for as long as `bring` runs."""

    def __init__(
        self,
        caller: Caller,
        names: Names,
        questions: Questions,
        telling: Company,
        rules: NewsRules,
    ) -> None:
        self._venue = caller.venue
        self._names = names
        self._questions = questions
        self._telling = telling
        self._rules = rules
        self._wake = asyncio.Event()
        self._named: dict[OrderId, InstrumentKey] = {}
        self._account_due_s = now_s() + rules.reconcile_s
        self._account_not_before_s = 0.0
        self._looked: dict[OrderId, tuple[float, float]] = {}  # next look, pause after it
        self.reconciled_n = 0
        self.followed_n = 0
        self.stream = PrivateStream(
            caller,
            silence_s=rules.stream_silence_s,
            renew_s=rules.listen_key_s,
            on_hint=self._heard,
            on_open=self.ask_account,
        )

    async def bring(self, put: Put) -> None:
        """Bring events until cancelled; a venue that does not answer is asked again later."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.stream.run(), name="private stream")
                group.create_task(self.stream.renew(), name="listen key")
                group.create_task(self._work(put), name="account news")
        finally:
            await self.stream.close()

    # ---- hints -----------------------------------------------------------------------------------

    def _heard(self, hint: Hint) -> None:
        for client, symbol in hint.orders:
            ours, key = order_id_of(self._venue, client), self._names.any_key(symbol)
            if ours is None or self._names.index(key) == OUTSIDE:
                self.ask_account()  # without a column for its contract it is no order of ours
                continue
            self._named[ours] = key
            self._looked.pop(ours, None)
        if hint.account:
            self.ask_account()
        if hint.orders:
            self._wake.set()

    def ask_account(self) -> None:
        """Read the account at the next occasion instead of at its time."""
        self._account_due_s = now_s()
        self._wake.set()

    def leave_account(self, seconds: float) -> None:
        """Read the account no sooner than that, whatever is heard: somebody else waits for it."""
        self._account_not_before_s = now_s() + seconds

    # ---- the worker ------------------------------------------------------------------------------

    async def _work(self, put: Put) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._named_orders(put)
                await self._follow_up(put)
                if self._account_wait_s() <= 0:
                    await self._reconcile(put)
            except (VenueError, BadPayload) as e:
                _log.warning("account_news_failed", venue=self._venue, why=str(e))
                await put(AccountUnread(self._venue, self._questions.now_ms(), str(e)))
                await asyncio.sleep(FAILED_PAUSE_S)
                self.ask_account()  # whatever was asked for, this tells it

    def _pause_s(self) -> float:
        return max(0.0, min(LOOK_S_MAX, self._rules.follow_up_s, self._account_wait_s()))

    def _account_wait_s(self) -> float:
        return max(self._account_due_s, self._account_not_before_s) - now_s()

    async def _named_orders(self, put: Put) -> None:
        while self._named:
            named, self._named = list(self._named.items()), {}
            await self._ask(named, put)

    async def _follow_up(self, put: Put) -> None:
        resting, at_s, due = self._questions.resting(), now_s(), list[Named]()
        self._looked = {o: look for o, look in self._looked.items() if o in resting}
        for order_id, key in resting.items():
            if order_id not in self._looked:
                self._looked[order_id] = self._next_look(at_s, self._rules.follow_up_s)
                continue
            due_s, pause_s = self._looked[order_id]
            if due_s > at_s:
                continue
            self._looked[order_id] = self._next_look(at_s, min(FOLLOW_UP_S_MAX, 2 * pause_s))
            due.append((order_id, key))
        self.followed_n += len(due)
        if due and await self._ask(due, put):
            self.stream.drop("REST told of an order what the private stream did not")

    @staticmethod
    def _next_look(at_s: float, pause_s: float) -> tuple[float, float]:
        return at_s + pause_s, pause_s

    async def _ask(self, orders: Sequence[Named], put: Put) -> bool:
        """Ask about orders, a few at once, and hand on what is new; True where one had ended."""
        return any(await side_by_side(lambda one: self._ask_about(*one, put), orders))

    async def _ask_about(self, order_id: OrderId, key: InstrumentKey, put: Put) -> bool:
        async with self._questions.held(order_id):
            told = await self._questions.order(order_id, key)
            news = [e for e in told if not isinstance(e, OrderAccepted | OrderUncertain)]
            for event in news:
                await put(event)
        if any(isinstance(e, OrderUncertain) for e in told):  # nobody answered: soon again
            self._looked[order_id] = self._next_look(now_s(), self._rules.follow_up_s)
        return any(not isinstance(e, OrderFilled) for e in news)

    async def _reconcile(self, put: Put) -> None:
        async with self._telling.alone():
            self._account_due_s = now_s() + self._rules.reconcile_s
            events = await self._questions.account()
            if not any(isinstance(event, Snapshotted) for event in events):
                # It changed meanwhile, or we gave way and read nothing at all.
                self._account_due_s = now_s() + (FAILED_PAUSE_S if events else GAVE_WAY_PAUSE_S)
            for event in events:
                await put(event)
        self.reconciled_n += bool(events)
