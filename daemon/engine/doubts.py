"""Orders that nobody can vouch for: asked about, at growing distances, a bounded number of times.

An order that was sent without a clear answer may or may not exist. It is never sent again; the
venue is asked what became of it, at once and then 5, 10, 20, ... seconds of market time later, so
that a venue which is away for a minute does not use up all questions within a second. Silence after
a submit raises the same doubt. Time is what bars and Ticks told, never the stamp of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from daemon.domain.messages import Command, Query
from daemon.domain.order import InFlight, OrderId, Uncertain
from daemon.engine.orders import OrderRecord
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState

ASK_AGAIN_MS: Final = 5_000  # after the first question; doubles with each
DOUBLINGS_MAX: Final = 6  # then every 320 s
SILENCE_MS: Final = 300_000  # after this an order without any answer is asked about


class Doubts:
    """Ask about uncertain orders; what comes back are those that cannot be resolved."""

    def __init__(self, state: EngineState, asks_max: int, out: list[Command]) -> None:
        self._state = state
        self._asks_max = asks_max
        self._out = out

    def raised(self, order_id: OrderId) -> Uncertain | None:
        """Note that no answer tells what became of the order; the first time, ask at once.

        Gives the order's state when all questions have been asked.
        """
        record = self._state.orders.doubt(order_id)
        if record is None or not isinstance(record.state, Uncertain):
            return None
        if record.state.asked == 0:
            self._ask(record, 0)
            return None
        return record.state if record.state.asked >= self._asks_max else None

    def due(self) -> Iterator[tuple[OrderId, Uncertain]]:
        """Ask again where it is time; yield where even the last question got no answer at all."""
        for order_id, record in self._state.orders.open.items():
            silent_ms = self._state.now_ms - record.sent_ms
            if isinstance(record.state, InFlight) and silent_ms >= SILENCE_MS:
                self._state.orders.doubt(order_id)
        for record, state in self._uncertain():
            if state.ask_ms <= self._state.now_ms:
                if state.asked < self._asks_max:
                    self._ask(record, state.asked)
                elif self._state.trading is not TradingState.HALTED:
                    yield record.order.order_id, state

    def ask_all(self) -> None:
        """Ask about every one of them once more, however often they were asked about before."""
        for record, state in self._uncertain():
            self._ask(record, state.asked)

    @property
    def next_ms(self) -> int | None:
        """Give the market time of the next question, None when there is none to ask."""
        live = self._state.trading is not TradingState.HALTED
        earliest: int | None = None
        for record in self._state.orders.open.values():  # after every event: no list is built
            state = record.state
            if type(state) is not Uncertain or not (live or state.asked < self._asks_max):
                continue
            if earliest is None or state.ask_ms < earliest:
                earliest = state.ask_ms
        return earliest

    def _uncertain(self) -> list[tuple[OrderRecord, Uncertain]]:
        records = self._state.orders.open.values()
        return [(r, r.state) for r in records if isinstance(r.state, Uncertain)]

    def _ask(self, record: OrderRecord, asked: int) -> None:
        pause_ms = ASK_AGAIN_MS * 2 ** min(asked, DOUBLINGS_MAX)
        record.state = Uncertain(asked + 1, self._state.now_ms + pause_ms)
        self._out.append(Query(record.order.order_id, record.order.key))
