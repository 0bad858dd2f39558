"""Our order table: what we intended, what the venue admitted, and the allowed transitions as data.

Only open orders are kept; how the last ones ended is remembered in a bounded ring, so that a
repeated or late answer is recognised and changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast

from msgspec import Struct

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.order import (
    Done,
    DoneReason,
    InFlight,
    Order,
    OrderId,
    OrderKind,
    OrderState,
    Resting,
    Uncertain,
)
from daemon.domain.units import HOUR_MS

ENDED_KEPT: Final = 4096
TRADE_IDS_KEPT: Final = 8_192
TOLD_AGAIN_MS: Final = HOUR_MS

TRANSITIONS: Final[Mapping[type, frozenset[type]]] = {
    InFlight: frozenset({Resting, Uncertain, Done}),
    Uncertain: frozenset({Resting, Done}),
    Resting: frozenset({Resting, Uncertain, Done}),
    Done: frozenset(),
}

_IN_FLIGHT = InFlight()
_RESTING = Resting()
_DONE: Final = {why: Done(why) for why in DoneReason}
_FILLED: Final = DoneReason.FILLED  # looking up a member of an enum is slow


class OrderRecord(Struct, gc=False):
    """Hold one open order: the intention, its state and what was filled (signed, base units).

    size: the order's quantity as a float. sent_ms: the market time at which it was handed out.
    """

    order: Order
    state: OrderState
    filled: Decimal
    size: float
    sent_ms: int

    @property
    def left(self) -> Decimal:
        """Give the signed quantity that may still fill."""
        return self.order.quantity - self.filled

    @property
    def is_overfilled(self) -> bool:
        """Tell whether the venue filled more than was ordered, which no venue should."""
        filled, wanted = self.filled, self.order.quantity
        return filled != wanted and abs(filled) > abs(wanted)


class OrderTable:
    """Keep the open orders and enforce the transition table."""

    def __init__(self) -> None:
        self.open: dict[OrderId, OrderRecord] = {}
        self.ended: OrderedDict[OrderId, DoneReason] = OrderedDict()
        self.trade_ids: OrderedDict[str, int] = OrderedDict()  # with when each happened
        self.submitted_n = 0
        self.ended_n = 0

    def submit(
        self, order: Order, size: float | None = None, sent_ms: int | None = None
    ) -> OrderRecord:
        """Enter an approved order as in flight; an id is used once, ever.

        size: its quantity as a float, if the caller has it at hand. sent_ms: now, in market time;
        the instant of its decision unless given.
        """
        order_id = order.order_id
        if order_id in self.open or order_id in self.ended:
            raise InvariantViolated(f"order id {order_id} was used before")
        number = float(order.quantity) if size is None else size
        at_ms = order.as_of_ms if sent_ms is None else sent_ms
        record = OrderRecord(order, _IN_FLIGHT, _ZERO, number, at_ms)
        self.open[order_id] = record
        self.submitted_n += 1
        return record

    def accept(self, order_id: OrderId) -> OrderRecord | None:
        """Note that the venue admitted the order; None when it is not open."""
        record = self.open.get(order_id)
        if record is not None:
            self._move(record, _RESTING)
        return record

    def doubt(self, order_id: OrderId) -> OrderRecord | None:
        """Note that no answer tells what became of the order; None when it is not open."""
        record = self.open.get(order_id)
        if record is not None and not isinstance(record.state, Uncertain):
            self._move(record, Uncertain())
        return record

    def fill(
        self, order_id: OrderId, trade_id: str, quantity: Decimal, at_ms: int = 0
    ) -> OrderRecord | None:
        """Count a fill once per trade id; ends the order when nothing is left. None: not ours."""
        self.trade_ids[trade_id] = at_ms
        record = self.open.get(order_id)
        if record is None:
            return None
        record.filled = filled = record.filled + quantity
        if filled == record.order.quantity or record.is_overfilled:
            self.end(order_id, _FILLED)
        elif not isinstance(record.state, Resting):
            self._move(record, _RESTING)
        return record

    @property
    def all_answered(self) -> bool:
        """Tell whether the venue has said of every open order that it has it."""
        return all(isinstance(r.state, Resting) for r in self.open.values())

    def forget_trades(self, agreed_ms: int) -> None:
        """Forget the oldest trades, once the venue will not tell of them any more.

        Until then every single one is remembered: after a restart the venue tells again all that
        followed the last account we agreed on, and nothing of it may count twice. What happened
        shortly before that account is told again even without a restart.
        """
        trades, before_ms = self.trade_ids, agreed_ms - TOLD_AGAIN_MS
        while len(trades) > TRADE_IDS_KEPT and next(iter(trades.values())) < before_ms:
            trades.popitem(last=False)

    def end(self, order_id: OrderId, why: DoneReason) -> OrderRecord | None:
        """Close an order; None when it was closed before or never ours."""
        record = self.open.pop(order_id, None)
        if record is None:
            return None
        if Done not in TRANSITIONS[type(record.state)]:
            raise _forbidden(record, Done)
        record.state = _DONE[why]
        ended = self.ended
        ended[order_id] = why
        self.ended_n += 1
        if len(ended) > ENDED_KEPT:
            ended.popitem(last=False)
        return record

    def _move(self, record: OrderRecord, to: OrderState) -> None:
        if type(to) not in TRANSITIONS[type(record.state)]:
            raise _forbidden(record, type(to))
        record.state = to

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {
            "open": [_record_to_plain(r) for r in self.open.values()],
            "ended": [[str(i), str(w)] for i, w in self.ended.items()],
            "trade_ids": list(self.trade_ids.items()),
            "submitted_n": self.submitted_n,
            "ended_n": self.ended_n,
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, object]) -> OrderTable:
        """Rebuild the table from `to_plain`."""
        table = cls()
        for row in cast(list[dict[str, object]], plain["open"]):
            record = _record_from_plain(row)
            table.open[record.order.order_id] = record
        for order_id, why in cast(list[list[str]], plain["ended"]):
            table.ended[OrderId(order_id)] = DoneReason(why)
        table.trade_ids.update(cast(list[tuple[str, int]], plain["trade_ids"]))
        table.submitted_n = cast(int, plain["submitted_n"])
        table.ended_n = cast(int, plain["ended_n"])
        return table


def _forbidden(record: OrderRecord, to: type) -> InvariantViolated:
    return InvariantViolated(
        f"order {record.order.order_id}: {type(record.state).__name__} cannot become {to.__name__}"
    )


_ZERO = Decimal(0)
_STATES: Final[dict[str, type]] = {c.__name__: c for c in (InFlight, Resting, Uncertain)}


def _record_to_plain(record: OrderRecord) -> dict[str, object]:
    order = record.order
    doubt = record.state if isinstance(record.state, Uncertain) else Uncertain()
    return {
        "id": str(order.order_id),
        "key": list(order.key),
        "index": order.index,
        "quantity": str(order.quantity),
        "kind": str(order.kind),
        "as_of_ms": order.as_of_ms,
        "reference_price": order.reference_price,
        "limit_price": None if order.limit_price is None else str(order.limit_price),
        "reduce_only": order.reduce_only,
        "post_only": order.post_only,
        "state": type(record.state).__name__,
        "asked": doubt.asked,
        "ask_ms": doubt.ask_ms,
        "filled": str(record.filled),
        "sent_ms": record.sent_ms,
    }


def _record_from_plain(row: Mapping[str, object]) -> OrderRecord:
    limit = cast(str | None, row["limit_price"])
    order = Order(
        order_id=OrderId(cast(str, row["id"])),
        key=InstrumentKey(*cast(list[str], row["key"])),
        index=cast(int, row["index"]),
        quantity=Decimal(cast(str, row["quantity"])),
        kind=OrderKind(cast(str, row["kind"])),
        as_of_ms=cast(int, row["as_of_ms"]),
        reference_price=cast(float, row["reference_price"]),
        limit_price=None if limit is None else Decimal(limit),
        reduce_only=cast(bool, row["reduce_only"]),
        post_only=cast(bool, row["post_only"]),
    )
    kind = _STATES[cast(str, row["state"])]
    asked, ask_ms = cast(int, row["asked"]), cast(int, row["ask_ms"])
    state = Uncertain(asked, ask_ms) if kind is Uncertain else kind()
    filled, sent_ms = Decimal(cast(str, row["filled"])), cast(int, row["sent_ms"])
    return OrderRecord(order, state, filled, float(order.quantity), sent_ms)
