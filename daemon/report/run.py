"""A run as everything that judges it sees it, whether it was a backtest or a journal replayed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from daemon.domain.decision import Decision
from daemon.domain.instrument import is_spare_symbol
from daemon.domain.messages import Event, FundingPaid, OrderFilled, Transferred
from daemon.domain.order import OUTSIDE, Fill
from daemon.domain.units import iso
from daemon.report.capacity import UNMEASURED, Capacity
from daemon.report.run_record import RunRecord

Execution = Fill | FundingPaid | Transferred


@dataclass(frozen=True, slots=True)
class RunFacts:
    """Hold what a reader must know about a run besides its figures.

    run_seconds: from the first file to the last figure; loading_seconds of them went by before the
    first bar was shown. caveats are shown above the figures; settings are shown at the end as they
    were effective. venue, bar: whose prices and bars of what length; funding_source: whose funding
    rates; book_venue: whose rules and account were simulated. trial_id: in the ledger of trials.
    What nobody knows is empty.
    """

    title: str
    strategy: str
    period: str
    symbols: tuple[str, ...]
    fills: int
    orders: int
    net_weight_worst: float
    run_seconds: float
    memory_mb: float
    fingerprint: str
    loading_seconds: float = 0.0
    caveats: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    venue: str = ""
    bar: str = ""
    funding_source: str = ""
    book_venue: str = ""
    trial_id: str = ""
    code_version: str = ""

    @property
    def taken(self) -> tuple[str, ...]:
        """List the symbols without the columns that are still free."""
        return tuple(symbol for symbol in self.symbols if not is_spare_symbol(symbol))

    @property
    def prices(self) -> str:
        """Name the bars that were traded on, as `binance_spot, 15m bars`."""
        return f"{self.venue}, {self.bar} bars" if self.venue else ""


@dataclass(frozen=True, slots=True)
class Run:
    """Hold what a run did and what must be known about it.

    record: a row for every source close. decisions: in order. executions: fills and cash flows in
    the order in which the ledger booked them; the deposits of the start are among them. capacity:
    worked out by whoever has the bars, because a record does not hold their volumes.
    """

    record: RunRecord
    decisions: Sequence[Decision]
    executions: Sequence[Execution]
    facts: RunFacts
    capacity: Capacity = UNMEASURED


class Executions:
    """Gather executions from events; what a venue tells again after a restart counts once."""

    def __init__(self) -> None:
        self.taken: list[Execution] = []
        self._seen: set[str] = set()

    def take(self, event: Event) -> None:
        """Keep the event if it is an execution not seen before."""
        match event:
            case OrderFilled(fill=fill) if fill.index != OUTSIDE:  # the owner's, of no column
                self._take(f"fill {fill.key.venue} {fill.trade_id}", fill)
            case FundingPaid() | Transferred():
                self._take(f"{event.cash_key.venue} {event.cashflow_id}", event)
            case _:
                pass

    def _take(self, name: str, execution: Execution) -> None:
        if name not in self._seen:
            self._seen.add(name)
            self.taken.append(execution)


def without_orders(run: Run) -> list[str]:
    """Say why a run without a single order had none, in the decisions' own most frequent words."""
    if run.facts.orders or not run.decisions:
        return []
    notes = Counter(decision.note for decision in run.decisions)
    note, count = notes.most_common(1)[0]
    why = note or "the targets were always what was held"
    return [f"no order was placed. {count:,} of {len(run.decisions):,} decisions say: {why}"]


def period_text(times_ms: Sequence[int]) -> str:
    """Write the first and last instant of a run for people."""
    return f"{iso(times_ms[0])} to {iso(times_ms[-1])}"
