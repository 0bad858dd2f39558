"""What a feed has seen and suffered, counted: for status, alarms and reports.

Seconds are transport time. Counts begin with the feed and only grow.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from daemon.domain.bar import Proof

FINALITY_KEPT: Final = 4096


@dataclass(slots=True)
class FeedHealth:
    """Count bars by proof, how long they took to be final, and what went wrong.

    revisions_n: emitted bars that the venue showed otherwise later. absent_n: bars due that the
    venue denied. replaced_n: sockets given up as deaf or silent; rotated_n: replaced for their age;
    broken_n: connections that ended by themselves. suspended_n: times this machine stood still.
    offset_ms, offset_error_ms: venue time minus ours at the last measurement, None before it.
    """

    venue: str
    bars_n: dict[Proof, int] = field(default_factory=dict)
    revisions_n: int = 0
    absent_n: int = 0
    replaced_n: int = 0
    rotated_n: int = 0
    broken_n: int = 0
    rows_unreadable_n: int = 0
    rest_failures_n: int = 0
    suspended_n: int = 0
    offset_ms: float | None = None
    offset_error_ms: float = 0.0
    _finality_s: deque[float] = field(default_factory=lambda: deque(maxlen=FINALITY_KEPT))

    def proven(self, proof: Proof, waited_s: float) -> None:
        """Count a final bar, and how long after its close (as we saw it) it was proven."""
        self.bars_n[proof] = self.bars_n.get(proof, 0) + 1
        self._finality_s.append(max(waited_s, 0.0))

    @property
    def proven_n(self) -> int:
        """Count the final bars."""
        return sum(self.bars_n.values())

    @property
    def stream_share(self) -> float | None:
        """Give the share of bars that the stream proved; None before the first."""
        return self.bars_n.get(Proof.SUCCESSOR, 0) / self.proven_n if self.proven_n else None

    @property
    def revision_rate(self) -> float | None:
        """Give revisions per final bar; None before the first bar."""
        return self.revisions_n / self.proven_n if self.proven_n else None

    def finality_s(self, share: float) -> float | None:
        """Give a quantile of the newest waits for proof, in seconds; None before the first."""
        waits = sorted(self._finality_s)
        return waits[min(int(share * len(waits)), len(waits) - 1)] if waits else None

    def values(self) -> dict[str, object]:
        """Give what people are shown; None is not known (yet)."""
        return {
            "bars_by_stream_n": self.bars_n.get(Proof.SUCCESSOR, 0),
            "bars_by_reread_n": self.bars_n.get(Proof.REREAD, 0),
            "stream_share": self.stream_share,
            "absent_n": self.absent_n,
            "revisions_n": self.revisions_n,
            "revision_rate": self.revision_rate,
            "finality_p50_s": self.finality_s(0.5),
            "finality_p99_s": self.finality_s(0.99),
            "sockets_replaced_n": self.replaced_n,
            "sockets_rotated_n": self.rotated_n,
            "sockets_broken_n": self.broken_n,
            "rows_unreadable_n": self.rows_unreadable_n,
            "rest_failures_n": self.rest_failures_n,
            "suspended_n": self.suspended_n,
            "clock_offset_ms": self.offset_ms,
            "clock_error_ms": self.offset_error_ms if self.offset_ms is not None else None,
        }
