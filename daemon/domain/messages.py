"""The closed unions Event (what happened) and Command (what to do).

The engine turns one into the other. Every member is an immutable fact with plain fields, so that
`daemon.codec` can write it to the journal and read it back equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import FIELDS, Floats, Window
from daemon.domain.decision import Decision
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Estimates
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.order import Approved, Fill, OrderId
from daemon.domain.portfolio import AccountSnapshot
from daemon.domain.quick import quickly_made
from daemon.domain.units import Timeframe


@quickly_made
@dataclass(frozen=True, slots=True)
class BarsClosed:
    """Tell which final source bars closed at `close_ms`.

    values: (N, 5), NaN rows are not (yet) known. proof: (N,) uint8 of `Proof`. opens: (N,), the
    first price of the source bars that start at `close_ms` (the paper venue's reference), NaN when
    unknown. Several of these may arrive for one instant; a bar already known is never changed.
    final: nothing more can come for this instant (replay, or every instrument is accounted for).
    """

    close_ms: int
    values: Floats
    proof: npt.NDArray[np.uint8]
    opens: Floats
    final: bool = True

    def __post_init__(self) -> None:
        values, opens, proof = self.values.shape, self.opens.shape, self.proof.shape
        if values != (*opens, FIELDS) or len(opens) != 1 or proof != opens:
            raise InvariantViolated(
                f"values {values}, opens {opens}, proof {proof}: want (N, 5), (N,) and (N,)"
            )


@dataclass(frozen=True, slots=True)
class Revised:
    """Tell that the venue now shows other values for a bar that was already emitted."""

    close_ms: int
    index: int
    before: Floats
    after: Floats


@dataclass(frozen=True, slots=True)
class FundingRates:
    """Tell the funding rates that settle at `settle_ms`: (N,) fractions, longs pay; NaN = none."""

    settle_ms: int
    rates: Floats
    marks: Floats


@dataclass(frozen=True, slots=True)
class Tick:
    """Tell the market time; deadlines are met by these, never by a clock read in the engine."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class EstimatesReady:
    """Bring the answer to an Estimate command."""

    estimates: Estimates


@dataclass(frozen=True, slots=True)
class EstimatesMissing:
    """Tell that no estimates will come for `as_of_ms`, and why (late, worker died, no model)."""

    as_of_ms: int
    why: str


@quickly_made
@dataclass(frozen=True, slots=True)
class OrderAccepted:
    """Tell that the venue admitted the order."""

    order_id: OrderId
    at_ms: int


@dataclass(frozen=True, slots=True)
class OrderRejected:
    """Tell that the venue refused the order, or that it was certainly never sent."""

    order_id: OrderId
    at_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class OrderUncertain:
    """Tell that a send or query ended without the venue's word about the order."""

    order_id: OrderId
    at_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class OrderAbsent:
    """Tell the venue's answer to a Query: it does not know the order."""

    order_id: OrderId
    at_ms: int


@quickly_made
@dataclass(frozen=True, slots=True)
class OrderFilled:
    """Bring one fill; it counts once per venue trade id."""

    fill: Fill


@dataclass(frozen=True, slots=True)
class OrderEnded:
    """Tell that the venue stopped working on the order (cancelled, expired); fills came before."""

    order_id: OrderId
    at_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class FundingPaid:
    """Bring one funding cash flow: negative amount = paid. cashflow_id is unique per venue."""

    cashflow_id: str
    key: InstrumentKey
    cash_key: CashKey
    settle_ms: int
    rate: float
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Transferred:
    """Bring a deposit (positive) or withdrawal (negative)."""

    cashflow_id: str
    cash_key: CashKey
    at_ms: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Snapshotted:
    """Bring the venue's own account of what we hold; reconciliation compares it."""

    snapshot: AccountSnapshot


class OperatorAction(StrEnum):
    """Name what an operator may ask for; `pause`, `flatten` and `kill` are different things."""

    PAUSE = "pause"
    RESUME = "resume"
    REDUCE_ONLY = "reduce_only"
    FLATTEN = "flatten"
    KILL = "kill"


@dataclass(frozen=True, slots=True)
class Operator:
    """Bring an operator's wish; request_id makes it idempotent."""

    action: OperatorAction
    request_id: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Started:
    """Tell that the daemon (re)started: what is in flight must be asked about before trading.

    warming: history follows first, to be seen but not traded on; a second Started ends it.
    """

    at_ms: int
    run_id: str
    warming: bool = False
    note: str = ""


Event = (
    BarsClosed
    | Revised
    | FundingRates
    | Tick
    | EstimatesReady
    | EstimatesMissing
    | OrderAccepted
    | OrderRejected
    | OrderUncertain
    | OrderAbsent
    | OrderFilled
    | OrderEnded
    | FundingPaid
    | Transferred
    | Snapshotted
    | Operator
    | Started
)

MarketEvent = BarsClosed | Revised | FundingRates
VenueEvent = (
    OrderAccepted
    | OrderRejected
    | OrderUncertain
    | OrderAbsent
    | OrderFilled
    | OrderEnded
    | FundingPaid
    | Transferred
    | Snapshotted
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Ask the estimator for forecasts at `as_of_ms` from the windows of the due timeframes."""

    as_of_ms: int
    windows: tuple[Window, ...]


@quickly_made
@dataclass(frozen=True, slots=True)
class Submit:
    """Send an order that risk approved."""

    approved: Approved


@dataclass(frozen=True, slots=True)
class Cancel:
    """Ask the venue to stop working on an order."""

    order_id: OrderId
    key: InstrumentKey


@dataclass(frozen=True, slots=True)
class Query:
    """Ask the venue what became of an order, by our id."""

    order_id: OrderId
    key: InstrumentKey


@dataclass(frozen=True, slots=True)
class AskSnapshot:
    """Ask the venue what we hold and which executions came since the cursor.

    A negative cursor asks for the account only.
    """

    venue: str
    executions_cursor: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Decided:
    """Hand out a finished Decision record for journal, status and comparison."""

    decision: Decision


class AlertKind(StrEnum):
    """Name what an operator must hear about."""

    NO_DECISION = "no_decision"
    ORDER_UNRESOLVED = "order_unresolved"
    RECONCILED = "reconciled_difference"
    HALTED = "halted"
    BAR_REVISED = "bar_revised"
    ESTIMATES_STALE = "estimates_stale"
    ORDER_REFUSED = "order_refused"


@dataclass(frozen=True, slots=True)
class Alert:
    """Tell the operator something; the text names instrument, order or instant."""

    kind: AlertKind
    at_ms: int
    text: str


Command = Estimate | Submit | Cancel | Query | AskSnapshot | Decided | Alert


@dataclass(frozen=True, slots=True)
class WindowDigest:
    """Stand for a Window: its shape (T, N, 5) and the hex sha256 of its values' bytes."""

    timeframe: Timeframe
    newest_ms: int
    shape: tuple[int, int, int]
    digest: str


@dataclass(frozen=True, slots=True)
class RecordedEstimate:
    """Stand in a journal for an Estimate, whose windows follow from the recorded bars anyway."""

    as_of_ms: int
    windows: tuple[WindowDigest, ...]


# What a journal keeps of a command; `daemon.codec.recorded` makes it.
Recorded = RecordedEstimate | Submit | Cancel | Query | AskSnapshot | Decided | Alert
