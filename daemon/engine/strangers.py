"""Orders that rest at a venue and are not open with us: they count at their worst case.

They are learnt with the account, so one counts from the first reading that shows it, and until a
reading without it or the fill that completes it. What rests under a name of ours that no journal
holds open is cancelled; the owner's own is cancelled only where the policy is to flatten. A cancel
that did not end its order is sent again at growing distances, a bounded number of times.

An order of our own that nobody could vouch for, and that an account shows to rest, is asked about
once more: its questions may be used up, and after a halt nothing else would take it back.
"""

from __future__ import annotations

from typing import Final

from daemon.domain.messages import Alert, AlertKind, Cancel, Command, Query
from daemon.domain.order import FOREIGN_PREFIX, OUTSIDE, Fill, OrderId, Uncertain
from daemon.domain.portfolio import AccountSnapshot, OpenOrder
from daemon.engine.state import EngineState, Stranger

CANCEL_AGAIN_MS: Final = 15_000  # doubles
CANCELS_MAX: Final = 8


class Strangers:
    """Keep what rests beside our own orders in the exposure."""

    def __init__(self, state: EngineState, out: list[Command], *, cancels_all: bool) -> None:
        self._state = state
        self._out = out
        self._cancels_all = cancels_all

    def told(self, snapshot: AccountSnapshot) -> None:
        """Count what rests now, name what is new, and stop what must not rest."""
        known, ours = self._state.strangers, self._state.orders.open
        for order_id, one in snapshot.open_orders.items():
            if order_id in ours and isinstance(ours[order_id].state, Uncertain):
                self._out.append(Query(order_id, one.key))
        here = {o: one for o, one in snapshot.open_orders.items() if o not in ours and one.left}
        for order_id, before in list(known.items()):
            if before.order.key.venue == snapshot.venue and here.get(order_id) != before.order:
                self._forget(order_id)
                if order_id in here:  # another part of it is left
                    self._count(order_id, here[order_id], before.cancel_ms, before.cancels_n)
        fresh = [order_id for order_id in here if order_id not in known]
        for order_id in fresh:
            self._count(order_id, here[order_id])
        if fresh:
            named = "; ".join(f"{o} ({here[o].key}, {here[o].left} left)" for o in fresh)
            text = (
                f"rests at {snapshot.venue} and is not open with us: {named}; it counts in the "
                "exposure as if it filled"
            )
            self._out.append(Alert(AlertKind.RECONCILED, snapshot.at_ms, text))
        self._cancel(here, max(self._state.now_ms, snapshot.at_ms))

    def filled(self, fill: Fill) -> None:
        """Count no longer what of a stranger is filled."""
        known = self._state.strangers.get(fill.order_id)
        if known is None:
            return
        one = known.order
        left = one.left - fill.quantity
        self._forget(fill.order_id)
        if left * one.left > 0:
            rest = OpenOrder(one.key, left, one.price)
            self._count(fill.order_id, rest, known.cancel_ms, known.cancels_n)

    def ended(self, order_id: OrderId) -> None:
        """Forget one that is over."""
        if order_id in self._state.strangers:
            self._forget(order_id)

    def _count(
        self, order_id: OrderId, one: OpenOrder, cancel_ms: int = 0, cancels_n: int = 0
    ) -> None:
        book = self._state.book
        index = book.universe.index.get(one.key, OUTSIDE)
        self._state.strangers[order_id] = Stranger(index, one, cancel_ms, cancels_n)
        if index == OUTSIDE:
            book.outside.orders[order_id] = one
            book.recount_outside()
        else:
            book.reserve(index, float(one.left))

    def _forget(self, order_id: OrderId) -> None:
        book, known = self._state.book, self._state.strangers.pop(order_id)
        if known.index == OUTSIDE:
            book.outside.orders.pop(order_id, None)
            book.recount_outside()
        else:
            book.release(known.index, known.order.left)

    def _cancel(self, here: dict[OrderId, OpenOrder], now_ms: int) -> None:
        for order_id, one in here.items():
            known = self._state.strangers[order_id]
            unwanted = self._cancels_all or not order_id.startswith(FOREIGN_PREFIX)
            if not unwanted or known.cancels_n >= CANCELS_MAX or known.cancel_ms > now_ms:
                continue
            known.cancel_ms = now_ms + CANCEL_AGAIN_MS * 2**known.cancels_n
            known.cancels_n += 1
            self._out.append(Cancel(order_id, one.key))
