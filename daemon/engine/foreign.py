"""What the account holds and we did not bring about: one policy, however it is learnt.

It shows as a fill of an order that is not ours or as a position that differs, at the first start,
at a restart, after a reconnect or while trading. The venue's word moves the book in each case, as
the fill that it was or as an explicit adjustment, and is named. Then the policy acts:

    adopt     trade on from what is held
    flatten   close what was added, with orders that only reduce
    halt      stop until the operator resumes

A change that lessens a position adds nothing, so flattening leaves it to the next decision. What is
held in a contract of the universe is closed as a decision of its own, inside every bound; what is
beside the universe in one order at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_UP, Decimal
from typing import Final

from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import Alert, AlertKind, Command, Submit
from daemon.domain.order import OUTSIDE, Approved, Fill, Order, OrderId, OrderKind
from daemon.engine.limits import RiskLimits
from daemon.engine.reconcile import Difference, ReconcilePolicy
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState
from daemon.engine.watch import OrderWatch

TRIES_MAX: Final = 5  # orders that close one position beside the universe and change nothing
ZERO: Final = Decimal(0)


class Foreign:
    """Apply the policy; keep what is to be closed."""

    def __init__(
        self,
        state: EngineState,
        policy: ReconcilePolicy,
        halt: Callable[[int, str], None],
        out: list[Command],
    ) -> None:
        self._state = state
        self._policy = policy
        self._halt = halt
        self._out = out

    def filled(self, fill: Fill, whose: str, was: Decimal) -> None:
        """Act on a fill that nothing of ours explains, once the book has it; was: held before."""
        text = f"fill {fill.trade_id} of {fill.quantity} {fill.key} belongs to {whose}"
        self._out.append(Alert(AlertKind.STRANGE_FILL, fill.at_ms, text))
        if self._policy is ReconcilePolicy.HALT:
            if not self._state.halted_why:
                self._halt(fill.at_ms, f"{text}; live.foreign = halt")
        elif self._policy is ReconcilePolicy.FLATTEN:
            self._close(fill.key, was, was + fill.quantity)

    def adopted(self, found: tuple[Difference, ...]) -> None:
        """Act on differences that the book has just taken over from the venue."""
        if self._policy is ReconcilePolicy.FLATTEN:
            for one in found:
                if isinstance(one.name, InstrumentKey):
                    self._close(one.name, one.ours, one.theirs)

    def _close(self, key: InstrumentKey, was: Decimal, now: Decimal) -> None:
        """Note what of a position was added, to be closed; nothing where it became smaller."""
        index = self._state.book.universe.index.get(key)
        if index is None:
            self._state.outside_tries.pop(key, None)  # it closes as a whole
            return
        added = now - was if was * now > 0 else now
        wanted = self._state.closing.get(index, ZERO)
        if added * now > 0:
            wanted -= added
        self._state.closing[index] = wanted


class OutsideCloser:
    """Close what is held beside the universe, one reduce-only order at a time."""

    def __init__(
        self, state: EngineState, limits: RiskLimits, prefix: str, out: list[Command]
    ) -> None:
        self._state = state
        self._limits = limits
        self._prefix = prefix
        self._out = out
        self._watch = OrderWatch.of(limits, state.book, state.sent_ms, state.margins)

    @classmethod
    def of(
        cls,
        policy: ReconcilePolicy,
        state: EngineState,
        limits: RiskLimits,
        prefix: str,
        out: list[Command],
    ) -> OutsideCloser | None:
        """Give one where the policy is to flatten."""
        return cls(state, limits, prefix, out) if policy is ReconcilePolicy.FLATTEN else None

    def advance(self) -> None:
        """Send what may leave now."""
        state, outside = self._state, self._state.book.outside
        may = state.trading in (TradingState.TRADING, TradingState.REDUCE_ONLY)
        if not may or state.paused or not state.book.equity > 0:
            return
        under_way = {record.order.key for record in state.orders.open.values()}
        for key, held in outside.held.items():
            tries_n = state.outside_tries.get(key, 0)
            if key in under_way or tries_n >= TRIES_MAX or self._leans(held, key):
                continue
            if self._watch is not None and self._watch.minute_is_full(state.now_ms):
                return  # time will make room
            state.outside_tries[key] = tries_n + 1
            self._send(key, held * outside.marks[key])
            if tries_n + 1 == TRIES_MAX:
                text = f"{key}: the last of {TRIES_MAX} orders to close what is not ours"
                self._out.append(Alert(AlertKind.RECONCILED, state.now_ms, text))

    def _leans(self, held: float, key: InstrumentKey) -> bool:
        """Tell whether without this position the book would lean past its bound, and more."""
        book = self._state.book
        left = book.net - held * book.outside.marks[key]
        bound = self._limits.net_weight_max * book.equity
        return abs(left) > bound and abs(left) > abs(book.net)

    def _send(self, key: InstrumentKey, value: float) -> None:
        state, book = self._state, self._state.book
        held = book.ledger.quantity(key)
        parts_n = max(1, -int(-abs(value) // (self._limits.order_weight_max * book.equity)))
        step = Decimal(1).scaleb(min(int(held.as_tuple().exponent), 0))
        size = (abs(held) / parts_n / step).to_integral_value(ROUND_UP) * step
        state.outside_n += 1
        order = Order(
            OrderId(f"{self._prefix}{state.now_ms // 1000:x}o-{state.outside_n}-1"),
            key,
            OUTSIDE,
            -size if held > 0 else size,
            OrderKind.MARKET,
            state.instant_ms,
            book.outside.marks[key],
            reduce_only=True,
        )
        state.orders.submit(order, sent_ms=state.now_ms)
        if self._watch is not None:
            self._watch.note(state.now_ms)
        self._out.append(Submit(Approved(order)))
