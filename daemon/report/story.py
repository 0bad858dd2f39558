"""What a journal holds of one order or one instrument at one decision, gathered but not judged.

`daemon.wiring.explaining` fills it from a journal, `daemon.report.explanation` puts it into words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from daemon.domain.bar import Floats, Proof
from daemon.domain.decision import Decision
from daemon.domain.instrument import InstrumentKey, TradingRules
from daemon.domain.messages import WindowDigest
from daemon.domain.order import Fill, Order
from daemon.domain.units import Timeframe


@dataclass(frozen=True, slots=True)
class SeenBar:
    """Hold a source bar of the instrument: values (5,), its proof, when it was proven, its entry.

    proven_ms: market time, None where nobody noted it. later: a revision that came afterwards.
    """

    close_ms: int
    values: Floats
    proof: Proof
    proven_ms: int | None
    entry: int
    later: Floats | None = None


@dataclass(frozen=True, slots=True)
class SeenWindow:
    """Hold what was asked of the estimator for one timeframe, and the entry that asked."""

    window: WindowDigest
    entry: int


class AnswerKind(StrEnum):
    """Name what a venue may say of an order besides fills."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNCERTAIN = "uncertain"
    ABSENT = "absent"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold one word of the venue about an order; why: '' where it gave no reason."""

    kind: AnswerKind
    entry: int
    at_ms: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class SeenFill:
    """Hold a fill and its entry."""

    fill: Fill
    entry: int


@dataclass(slots=True)
class OrderLife:
    """Hold an order and all that the journal tells of it; it is filled while entries are read."""

    order: Order
    entry: int
    at_ms: int
    answers: list[Answer] = field(default_factory=list)
    fills: list[SeenFill] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        """Tell whether nothing more can come: it is filled, or the venue said that it ended."""
        ends = (AnswerKind.REJECTED, AnswerKind.ABSENT, AnswerKind.ENDED)
        filled = sum((one.fill.quantity for one in self.fills), start=self.order.quantity * 0)
        return filled == self.order.quantity or any(a.kind in ends for a in self.answers)


@dataclass(frozen=True, slots=True)
class Knobs:
    """Hold the settings that explain a decision; weights are fractions of equity.

    rule: how forecasts are combined, '' where none are read. fee_bps: of the paper venue, None at a
    real one.
    """

    strategy: str
    rule: str
    net_weight_max: float
    gross_weight_max: float
    name_weight_max: float
    order_weight_max: float
    fee_bps: float | None


@dataclass(frozen=True, slots=True)
class Story:
    """Hold the whole chain of one instrument at one decision, as the journal has it.

    asked: in the words of who asked. rules: the trading rules that held, None beside the universe,
    where index, the instrument's column, is OUTSIDE. names_n: instruments in the universe.
    decision: None where its record was never finished. decided_entry: where it is. orders: those
    asked for. siblings_n: all orders of the decision in this instrument. windows, answered: what
    each forecast was made of, and the entry that brought it. models: words by model id.
    """

    asked: str
    key: InstrumentKey
    rules: TradingRules | None
    index: int
    as_of_ms: int
    names_n: int
    decision: Decision | None
    decided_entry: int | None
    bars: tuple[SeenBar, ...]
    windows: Mapping[Timeframe, SeenWindow]
    answered: Mapping[Timeframe, int]
    models: Mapping[str, str]
    orders: tuple[OrderLife, ...]
    siblings_n: int
    knobs: Knobs
