"""The closed unions Event (what happened) and Command (what to do).

The engine turns one into the other. Every member is an immutable fact with plain fields, so that
`daemon.codec` can write it to the journal and read it back equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import assert_never

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from daemon.domain.bar import FIELDS, Floats, Proof, Window
from daemon.domain.decision import Decision
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Estimates
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey, Standing
from daemon.domain.order import Approved, Fill, OrderId
from daemon.domain.portfolio import AccountSnapshot
from daemon.domain.units import Timeframe


class BarsClosed(Struct, frozen=True, gc=False):
    """Tell which final source bars closed at `close_ms`.

    values: (N, 5), NaN rows are not (yet) known. proof: (N,) uint8 of `Proof`. opens: (N,), the
    first price of the source bars that start at `close_ms` (the paper venue's reference), NaN when
    unknown. Several of these may arrive for one instant; a bar already known is never changed.
    final: nothing more can come for this instant (replay, or every instrument is accounted for).
    proven_ms: (N,) int64 market time at which each bar was proven, 0 where there is none; None
    where nobody noted it (history, replay).
    """

    close_ms: int
    values: Floats
    proof: npt.NDArray[np.uint8]
    opens: Floats
    final: bool = True
    proven_ms: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        values, opens, proof = self.values.shape, self.opens.shape, self.proof.shape
        if values != (*opens, FIELDS) or len(opens) != 1 or proof != opens:
            raise InvariantViolated(
                f"values {values}, opens {opens}, proof {proof}: want (N, 5), (N,) and (N,)"
            )


class Revised(Struct, frozen=True):
    """Tell that the venue now shows other values for a bar that was already emitted.

    shown_by: REREAD for an audit, SUCCESSOR for the stream. seen_ms: market time then, 0 unknown.
    """

    close_ms: int
    index: int
    before: Floats
    after: Floats
    shown_by: Proof = Proof.REREAD
    seen_ms: int = 0


class FundingRates(Struct, frozen=True):
    """Tell the funding rates that settle at `settle_ms`: (N,) fractions, longs pay; NaN = none."""

    settle_ms: int
    rates: Floats
    marks: Floats


class FeedTrouble(StrEnum):
    """Name what can be wrong with a feed as a whole."""

    CLOCK_OFFSET = "clock_offset"  # our clock and the venue's differ too much: no risk is opened
    RECONNECTS = "reconnects"  # its sockets break too often
    VENUE_DOWN = "venue_down"  # it does not answer
    SUSPENDED = "suspended"  # this machine stood still
    BARS_MISSING = "bars_missing"  # of some instruments neither stream nor REST brings bars
    STORE = "store"  # what it shows cannot be stored, or what was stored is damaged
    UNSTREAMED = "unstreamed"  # it refuses to stream some contracts; REST reads their bars
    LISTING = "listing"  # its list of contracts, or what it says of ours there, cannot be read
    NO_COLUMN = "no_column"  # a contract was listed, and no spare column is left for it
    DEAD_MAN = "dead_man"  # orders rest without a timer at the venue: no risk is opened


class FeedNotice(Struct, frozen=True):
    """Tell that a trouble of a venue's feed began (active) or ended; text says how bad it is."""

    at_ms: int
    venue: str
    trouble: FeedTrouble
    active: bool
    text: str


class InstrumentChanged(Struct, frozen=True):
    """Tell what a venue now says of the instrument in column `index`: rules and standing; why.

    Of a spare column it tells which contract takes it, for good.
    """

    at_ms: int
    index: int
    instrument: Instrument
    standing: Standing
    why: str


class Rescaled(Struct, frozen=True):
    """Tell that a contract is counted in other units from `at_ms` on: new_n for old_n of before.

    Prices are multiplied by old_n / new_n, amounts by new_n / old_n, and nobody gains by it. With
    1 for 1 it tells that a price which was doubted from then on is a real one. Bars that close at
    `at_ms` or earlier and come afterwards are told in new units already.
    """

    at_ms: int
    index: int
    key: InstrumentKey
    new_n: int
    old_n: int

    def __post_init__(self) -> None:
        if self.new_n < 1 or self.old_n < 1:
            raise InvariantViolated(f"{self.key}: {self.new_n} new units for {self.old_n} old ones")


class PriceDoubted(Struct, frozen=True):
    """Tell that a price jumped as by another unit of the contract (active), or what it was.

    While it lasts no bar of it is told, and each bar that counts for it is: active again, with the
    new counts and no text. since_ms: when it jumped. factor: new units per old one, guessed. text:
    for people, with what they can do. The others are what it is judged by, as in `scales.Doubts`.
    """

    at_ms: int
    index: int
    since_ms: int
    factor: float
    active: bool
    text: str
    anchor: float = math.nan
    usual: float = math.nan
    traded_n: int = 0
    logs: float = 0.0


class Tick(Struct, frozen=True):
    """Tell the market time; deadlines are met by these, never by a clock read in the engine."""

    now_ms: int


class EstimatesReady(Struct, frozen=True):
    """Bring the answer to an Estimate command."""

    estimates: Estimates


class EstimatesMissing(Struct, frozen=True):
    """Tell that no estimates will come for `as_of_ms`, and why (late, worker died, no model)."""

    as_of_ms: int
    why: str


class OrderAccepted(Struct, frozen=True, gc=False):
    """Tell that the venue admitted the order."""

    order_id: OrderId
    at_ms: int


class OrderRejected(Struct, frozen=True):
    """Tell that the venue refused the order, or that it was certainly never sent."""

    order_id: OrderId
    at_ms: int
    reason: str


class OrderUncertain(Struct, frozen=True):
    """Tell that a send or query ended without the venue's word about the order."""

    order_id: OrderId
    at_ms: int
    reason: str


class OrderAbsent(Struct, frozen=True):
    """Tell the venue's answer to a Query: it does not know the order."""

    order_id: OrderId
    at_ms: int


class OrderFilled(Struct, frozen=True, gc=False):
    """Bring one fill; it counts once per venue trade id."""

    fill: Fill


class OrderEnded(Struct, frozen=True):
    """Tell that the venue stopped working on the order (cancelled, expired); fills came before."""

    order_id: OrderId
    at_ms: int
    reason: str


class FundingPaid(Struct, frozen=True):
    """Bring one funding cash flow: negative amount = paid. cashflow_id is unique per venue."""

    cashflow_id: str
    key: InstrumentKey
    cash_key: CashKey
    settle_ms: int
    rate: float
    amount: Decimal


class Transferred(Struct, frozen=True):
    """Bring a deposit (positive) or withdrawal (negative)."""

    cashflow_id: str
    cash_key: CashKey
    at_ms: int
    amount: Decimal


class Snapshotted(Struct, frozen=True):
    """Bring the venue's own account of what we hold; reconciliation compares it."""

    snapshot: AccountSnapshot


class AccountUnread(Struct, frozen=True):
    """Tell that the venue's account could not be read, and why; what we hold is as last known."""

    venue: str
    at_ms: int
    why: str


class OperatorAction(StrEnum):
    """Name what an operator may ask for; `pause`, `flatten` and `kill` are different things."""

    PAUSE = "pause"
    RESUME = "resume"
    REDUCE_ONLY = "reduce_only"
    FLATTEN = "flatten"
    KILL = "kill"
    RELOAD = "reload"


RuleValue = bool | int | float | str | tuple[str, ...] | None


class Operator(Struct, frozen=True):
    """Bring an operator's wish; request_id makes it idempotent.

    reason: why killed, or what is reloaded, for people. rules: the engine's own that a reload
    changes, by name, with their new values.
    """

    action: OperatorAction
    request_id: str
    at_ms: int
    reason: str = ""
    rules: Mapping[str, RuleValue] = {}


class Started(Struct, frozen=True):
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
    | FeedNotice
    | InstrumentChanged
    | Rescaled
    | PriceDoubted
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
    | AccountUnread
    | Operator
    | Started
)

MarketEvent = (
    BarsClosed | Revised | FundingRates | FeedNotice | InstrumentChanged | Rescaled | PriceDoubted
)
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
    | AccountUnread
    | Rescaled  # a paper account books it among its executions
)


def event_ms(event: Event) -> int:
    """Give the market time of an event in ms."""
    match event:
        case BarsClosed() | Revised():
            return event.close_ms
        case FundingRates() | FundingPaid():
            return event.settle_ms
        case Tick():
            return event.now_ms
        case EstimatesReady():
            return event.estimates.as_of_ms
        case EstimatesMissing():
            return event.as_of_ms
        case OrderFilled():
            return event.fill.at_ms
        case Snapshotted():
            return event.snapshot.at_ms
        case (
            FeedNotice()
            | InstrumentChanged()
            | Rescaled()
            | PriceDoubted()
            | OrderAccepted()
            | OrderRejected()
            | OrderUncertain()
            | OrderAbsent()
            | OrderEnded()
            | Transferred()
            | AccountUnread()
            | Operator()
            | Started()
        ):
            return event.at_ms
        case _:
            assert_never(event)


class Estimate(Struct, frozen=True):
    """Ask the estimator for forecasts at `as_of_ms` from the windows of the due timeframes."""

    as_of_ms: int
    windows: tuple[Window, ...]


class Submit(Struct, frozen=True, gc=False):
    """Send an order that risk approved."""

    approved: Approved


class Cancel(Struct, frozen=True):
    """Ask the venue to stop working on an order."""

    order_id: OrderId
    key: InstrumentKey


class Query(Struct, frozen=True):
    """Ask the venue what became of an order, by our id."""

    order_id: OrderId
    key: InstrumentKey


class AskSnapshot(Struct, frozen=True):
    """Ask the venue what we hold and which executions came since the cursor.

    A negative cursor asks for the account only.
    """

    venue: str
    executions_cursor: int


class Decided(Struct, frozen=True, gc=False):
    """Hand out a finished Decision record for journal, status and comparison."""

    decision: Decision


class DecisionsFlagged(Struct, frozen=True):
    """Name past decisions whose windows held the old value of a bar that was revised since.

    index, close_ms: the bar. instants: as_of_ms of the decisions, in order, at least one.
    """

    index: int
    close_ms: int
    instants: tuple[int, ...]


class AlertKind(StrEnum):
    """Name what an operator must hear about."""

    NO_DECISION = "no_decision"
    ORDER_UNRESOLVED = "order_unresolved"
    RECONCILED = "reconciled_difference"
    HALTED = "halted"
    BAR_REVISED = "bar_revised"
    ESTIMATES_STALE = "estimates_stale"
    ORDER_REFUSED = "order_refused"
    STRANGE_FILL = "strange_fill"
    FORCED = "forced"  # the venue liquidated a position or reduced it by force
    ACCOUNT = "account"  # the account at a venue cannot be read, or can again
    FEED = "feed"
    INSTRUMENT = "instrument"
    LOSS = "loss"  # a limit on losses is reached
    COVARIANCE = "covariance"  # its estimator no longer holds, or does again
    DAILY = "daily"  # what a day brought: no trouble
    SERIES = "series"  # a series that a model reads brings nothing new, or does again
    RUNTIME = "runtime"  # the process itself runs short: disk, event loop, a sink of its status
    PAGE = "page"  # the status page cannot be served


class Alert(Struct, frozen=True):
    """Tell the operator something; the text names instrument, order or instant."""

    kind: AlertKind
    at_ms: int
    text: str


Command = Estimate | Submit | Cancel | Query | AskSnapshot | Decided | DecisionsFlagged | Alert


class WindowDigest(Struct, frozen=True):
    """Stand for a Window: its shape (T, N, 5) and the hex sha256 of its values' bytes."""

    timeframe: Timeframe
    newest_ms: int
    shape: tuple[int, int, int]
    digest: str


class RecordedEstimate(Struct, frozen=True):
    """Stand in a journal for an Estimate, whose windows follow from the recorded bars anyway."""

    as_of_ms: int
    windows: tuple[WindowDigest, ...]


# What a journal keeps of a command; `daemon.codec.recorded` makes it.
Recorded = (
    RecordedEstimate | Submit | Cancel | Query | AskSnapshot | Decided | DecisionsFlagged | Alert
)
