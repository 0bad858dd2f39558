"""The full record of one cadence: why these orders.

Two runs agree when the digests of their decisions agree. The digest covers what decided (bars used,
absentees, model, estimates, weights, orders) and nothing that differs by nature between shells
(arrival times, proofs, reconnects).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import StrEnum
from struct import pack

from msgspec import Struct

from daemon.domain.bar import Floats
from daemon.domain.forecast import Prediction, Signals
from daemon.domain.order import Order, Refused
from daemon.domain.portfolio import TargetPortfolio


class DecisionKind(StrEnum):
    """Say what a cadence ended in."""

    TRADED = "traded"
    HELD = "held"  # forecasts too old or breadth too small: keep the book
    REDUCED = "reduced"  # only smaller exposures were allowed
    WARMING = "warming"  # not enough bars yet


class Decision(Struct, frozen=True, gc=False):
    """Hold everything that led from bars to orders at one instant.

    bars_digest: hex sha256 over the newest bar of every window. absent: indices without a source
    bar at this instant. weights_before: (N,) from ledger and marks. equity in quote currency.
    revised: indices in whose windows a bar was revised after it was emitted; not in the digest, as
    a replay of the final bars cannot know it.
    """

    as_of_ms: int
    sequence: int
    kind: DecisionKind
    bars_digest: str
    absent: tuple[int, ...]
    equity: float
    marks: Floats
    weights_before: Floats
    predictions: tuple[Prediction, ...]
    target: TargetPortfolio | None
    orders: tuple[Order, ...]
    refusals: tuple[Refused, ...]
    note: str = ""
    revised: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        """Give the hex sha256 by which two runs compare this decision."""
        content = b"".join([x for part in _named_parts(self) for x in part])
        return hashlib.sha256(content).hexdigest()

    def named_parts(self) -> Iterator[tuple[str, bytes]]:
        """Yield what the digest covers, by name, so that a divergence can be pointed at."""
        return ((name.decode(), part) for name, part in _named_parts(self))


def _named_parts(decision: Decision) -> list[tuple[bytes, bytes]]:
    target = decision.target
    parts = [
        (b"as_of", b"%d" % decision.as_of_ms),
        (b"kind", decision.kind.encode()),
        (b"bars", decision.bars_digest.encode()),
        (b"absent", repr(decision.absent).encode()),
        (b"equity", pack("=d", decision.equity)),
        (b"marks", decision.marks.tobytes()),
        (b"weights_before", decision.weights_before.tobytes()),
    ]
    for p in decision.predictions:
        parts.append((f"prediction_{p.timeframe.label}".encode(), _prediction_bytes(p)))
    if target is not None:
        parts.append((b"target", target.weights.tobytes() + target.ideal.tobytes()))
        parts.append((b"band", target.band.tobytes()))
        if target.signals is not None:
            parts.append((b"signals", _signal_bytes(target.signals)))
    orders = "|".join([f"{o.order_id},{o.key},{o.quantity}" for o in decision.orders])
    refusals = "|".join([f"{r.order.order_id},{r.reason}" for r in decision.refusals])
    parts += (b"orders", orders.encode()), (b"refusals", refusals.encode())
    return parts


def _prediction_bytes(p: Prediction) -> bytes:
    head = f"{p.as_of_ms},{p.model_id},".encode()
    return head + p.mean.tobytes() + p.variance.tobytes()


def _signal_bytes(signals: Signals) -> bytes:
    arrays = [getattr(signals, f) for f in signals.__struct_fields__ if f != "as_of_ms"]
    return b"".join(a.tobytes() for a in arrays if a is not None)
