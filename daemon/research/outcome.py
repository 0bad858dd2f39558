"""What a run up to an instant did, and the first place in which two such runs differ.

Compared are, in this order: the choice of instruments, what the feed showed, the decisions, the
executions, the book at each close. The first of them that differs is the cause that is told.

One price lies on the border of a cut: the open of the bar that begins at it, at which the orders of
the cut itself are filled. Where the later data were removed that price is unknown, and what follows
from it alone may be missing: the last fills, and what they would have changed at the cut. Where the
later data were replaced it is kept, and nothing may differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import zip_longest
from typing import Final

import numpy as np
from msgspec import structs

from daemon.domain.bar import FIELDS, Field, Floats
from daemon.domain.decision import Decision
from daemon.domain.instrument import Instrument
from daemon.domain.messages import (
    BarsClosed,
    FundingPaid,
    FundingRates,
    MarketEvent,
    Revised,
    Transferred,
)
from daemon.domain.order import Fill
from daemon.domain.units import iso
from daemon.report.run import Execution
from daemon.report.run_record import BookRow

ORDER_PARTS: Final = frozenset({"orders", "refusals"})
# What a decision saw of the market; the rest also follows from the book that it found.
MARKET_PARTS: Final = frozenset({"as_of", "bars", "absent", "marks"})
PREDICTION: Final = "prediction_"
BOOK_PARTS: Final = frozenset({"equity", "weights_before"})
UNFILLED_PARTS: Final = frozenset({"book marks", "book funding"})  # of a row: no fill moves them
NOTHING: Final = "nothing"
BAR: Final = "bar"
FILL_PRICE: Final = "fill price"  # the open of the bar that begins
RATE: Final = "funding rate"
NAMES_SHOWN: Final = 6


class Change(StrEnum):
    """Say what was done to the data after the cut."""

    REMOVED = "removed"
    REPLACED = "replaced"


class Aspect(StrEnum):
    """Name what of a run is compared."""

    UNIVERSE = "the choice of instruments"
    SHOWN = "what the feed showed"
    DECISION = "the decision"
    EXECUTION = "what was booked"
    BOOK = "the book"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold what a run from one instant to another was made of and did, each in order.

    shown: the market events, with those that warmed it up. decisions: one that is still being
    carried out at the end is given with the orders sent so far. rows: the book after everything at
    each close.
    """

    instruments: tuple[Instrument, ...]
    shown: Sequence[MarketEvent]
    decisions: Sequence[Decision]
    executions: Sequence[Execution]
    rows: Sequence[tuple[int, BookRow]]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Name the instruments in the order of all (N,) arrays."""
        return tuple(one.key.symbol for one in self.instruments)


@dataclass(frozen=True, slots=True)
class Difference:
    """Name the first place in which two runs differ that must not.

    part: of the aspect, such as a name of `Decision.named_parts`, or `decision` where one run has
    none. symbol: empty where the part is not of one instrument. whole and changed: the values on
    the whole and on the changed data.
    """

    change: Change
    cut_ms: int
    as_of_ms: int
    aspect: Aspect
    part: str
    symbol: str
    whole: str
    changed: str

    def __str__(self) -> str:
        where = f"{self.part} of {self.symbol}" if self.symbol else self.part
        return (
            f"{self.aspect} at {iso(self.as_of_ms)} knows what came after {iso(self.cut_ms)}: "
            f"{where} is {self.whole}, and {self.changed} with the later data {self.change}"
        )


def first_difference(
    whole: Outcome, changed: Outcome, change: Change, cut_ms: int
) -> Difference | None:
    """Find the first aspect, and its first place, in which two runs differ; None when they agree.

    Only what happened up to the cut is compared, whatever else the outcomes hold.
    """
    pair = _Pair(whole, changed, change, cut_ms)
    found = _universe(pair)
    if found is not None:  # with other columns nothing else can be compared
        return found
    return _shown(pair) or _decisions(pair) or _executions(pair) or _rows(pair)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Hold two runs of the same instants."""

    whole: Outcome
    changed: Outcome
    change: Change
    cut_ms: int

    def is_open(self, at_ms: int) -> bool:
        """Tell whether the fills of this instant are missing in the changed run."""
        return self.change is Change.REMOVED and at_ms >= self.cut_ms

    def differs(
        self, aspect: Aspect, at_ms: int, part: str, place: tuple[str, str, str]
    ) -> Difference:
        return Difference(self.change, self.cut_ms, at_ms, aspect, part, *place)


Cell = tuple[tuple[str, int], str]  # (what, index of the instrument or -1), value in words


def _row(what: str, values: Floats) -> Iterator[Cell]:
    return (((what, index), repr(value)) for index, value in enumerate(values.tolist()))


def _located(
    ours: Iterator[Cell], theirs: Iterator[Cell], symbols: Sequence[str]
) -> tuple[str, str, str]:
    """Give instrument and both values of the first cell that differs."""
    left, right = dict(ours), dict(theirs)
    for cell in left | right:
        before, after = left.get(cell, NOTHING), right.get(cell, NOTHING)
        if before != after:
            what, index = cell
            lead = f"{what} " if what else ""
            return symbols[index] if index >= 0 else "", lead + before, lead + after
    return "", "some bits", "other bits"


# ---- which instruments ---------------------------------------------------------------------------


def _universe(pair: _Pair) -> Difference | None:
    ours, theirs = pair.whole.instruments, pair.changed.instruments
    if ours == theirs:
        return None
    if pair.whole.symbols == pair.changed.symbols:
        at = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        place = (ours[at].key.symbol, repr(ours[at].rules), repr(theirs[at].rules))
        return pair.differs(Aspect.UNIVERSE, pair.cut_ms, "trading rules", place)
    place = ("", _names(pair.whole, pair.changed), _names(pair.changed, pair.whole))
    return pair.differs(Aspect.UNIVERSE, pair.cut_ms, "instruments", place)


def _names(one: Outcome, other: Outcome) -> str:
    alone = [s for s in one.symbols if s not in other.symbols]
    more = ", .." if len(alone) > NAMES_SHOWN else ""
    named = f" with {', '.join(alone[:NAMES_SHOWN])}{more}" if alone else " in an order of its own"
    return f"{len(one.symbols)}{named}"


# ---- what was shown ------------------------------------------------------------------------------


def _shown(pair: _Pair) -> Difference | None:
    ours, theirs = (
        [e for e in one.shown if instant_of(e) <= pair.cut_ms] for one in (pair.whole, pair.changed)
    )
    for left, right in zip_longest(ours, theirs):
        found = _event_difference(pair, left, right)
        if found is not None:
            return found
    return None


def instant_of(event: MarketEvent) -> int:
    """Give the instant that a market event belongs to."""
    match event:
        case FundingRates(settle_ms=at_ms):
            return at_ms
        case BarsClosed(close_ms=at_ms) | Revised(close_ms=at_ms):
            return at_ms
        case _:  # notices
            return event.at_ms


def _event_difference(
    pair: _Pair, left: MarketEvent | None, right: MarketEvent | None
) -> Difference | None:
    known = [e for e in (left, right) if e is not None]
    at_ms = min(instant_of(e) for e in known)
    ours, theirs = (dict(_event_parts(e, at_ms)) for e in (left, right))
    for part in ours | theirs:
        before, after = ours.get(part), theirs.get(part)
        if _same(before, after):
            continue
        if part == FILL_PRICE and pair.is_open(at_ms) and _same_where_known(before, after):
            continue
        place = _located(_cells_of(part, before), _cells_of(part, after), pair.whole.symbols)
        return pair.differs(Aspect.SHOWN, at_ms, part, place)
    return None


def _event_parts(event: MarketEvent | None, at_ms: int) -> Iterator[tuple[str, Floats]]:
    if event is None or instant_of(event) != at_ms:
        return
    if isinstance(event, FundingRates):
        yield RATE, event.rates
    elif isinstance(event, BarsClosed):
        yield BAR, event.values
        yield FILL_PRICE, event.opens


def _same(left: Floats | None, right: Floats | None) -> bool:
    if left is None or right is None:
        return left is right
    return np.array_equal(left, right, equal_nan=True)


def _same_where_known(left: Floats | None, right: Floats | None) -> bool:
    """Tell whether the right one holds nothing but unknowns and what the left one holds."""
    if left is None or right is None:
        return False
    known = np.isfinite(right)
    return np.array_equal(left[known], right[known])


def _cells_of(part: str, values: Floats | None) -> Iterator[Cell]:
    if values is None:
        return
    if part != BAR:
        yield from _row("", values)
        return
    for at in range(FIELDS):
        yield from _row(Field(at).name.lower(), values[:, at])


# ---- decisions -----------------------------------------------------------------------------------


def _decisions(pair: _Pair) -> Difference | None:
    """Find the first decision and its first part that differ.

    With the later data removed the orders of the decision at the cut need only begin alike, those
    of the one before are not compared, and a decision at the cut that found another book is
    compared in what it saw of the market.
    """
    whole, changed = (
        [d for d in one.decisions if d.as_of_ms <= pair.cut_ms]
        for one in (pair.whole, pair.changed)
    )
    # The last decision before the cut may have been in progress when the bars of the cut came.
    settled_n = sum(d.as_of_ms < pair.cut_ms for d in whole) - 1
    for at, (left, right) in enumerate(zip_longest(whole, changed)):
        if left is None or right is None or left.as_of_ms != right.as_of_ms:
            first = min(d.as_of_ms for d in (left, right) if d is not None)
            ours, theirs = (
                "taken" if d is not None and d.as_of_ms == first else "not taken"
                for d in (left, right)
            )
            return pair.differs(Aspect.DECISION, first, "decision", ("", ours, theirs))
        if left.digest == right.digest:
            continue
        loose = pair.change is Change.REMOVED and at >= settled_n
        part = _differing(left, right, loose=loose, at_cut=left.as_of_ms == pair.cut_ms)
        if part is not None:
            place = _located(_cells(left, part), _cells(right, part), pair.whole.symbols)
            return pair.differs(Aspect.DECISION, left.as_of_ms, part, place)
    return None


def _differing(left: Decision, right: Decision, *, loose: bool, at_cut: bool) -> str | None:
    """Name the first part that differs and must not, in the order of the digest."""
    ours, theirs = dict(left.named_parts()), dict(right.named_parts())
    names = [n for n in ours | theirs if ours.get(n) != theirs.get(n)]
    if loose and at_cut and BOOK_PARTS & set(names):
        names = [n for n in names if n in MARKET_PARTS or n.startswith(PREDICTION)]
    elif loose and not (at_cut and not _begins_alike(left, right)):
        names = [n for n in names if n not in ORDER_PARTS]
    return names[0] if names else None


def _begins_alike(longer: Decision, shorter: Decision) -> bool:
    orders = [(o.order_id, o.key, o.quantity) for o in longer.orders]
    sent = [(o.order_id, o.key, o.quantity) for o in shorter.orders]
    return orders[: len(sent)] == sent


def _cells(decision: Decision, part: str) -> Iterator[Cell]:
    """Yield the values of a part as text, so that a difference can be shown."""
    target = decision.target
    if part.startswith(PREDICTION):
        for p in decision.predictions:
            if f"{PREDICTION}{p.timeframe.label}" == part:
                yield ("as of", -1), iso(p.as_of_ms)
                yield ("model", -1), p.model_id
                yield from _row("mean", p.mean)
                yield from _row("variance", p.variance)
    elif part in ("marks", "weights_before"):
        yield from _row("", getattr(decision, part))
    elif part == "equity":
        yield ("", -1), repr(decision.equity)
    elif part == "absent":
        yield from ((("", index), "absent") for index in decision.absent)
    elif part == "orders":
        yield from ((("", o.index), f"order {o.order_id} of {o.quantity}") for o in decision.orders)
    elif part == "refusals":
        yield from ((("", r.order.index), str(r.reason)) for r in decision.refusals)
    elif part == "band" and target is not None:
        yield from _row("", target.band)
    elif part == "target" and target is not None:
        yield from _row("weight", target.weights)
        yield from _row("ideal weight", target.ideal)
    elif part == "signals" and target is not None and target.signals is not None:
        for name in target.signals.__struct_fields__:
            values = getattr(target.signals, name)
            if isinstance(values, np.ndarray):
                yield from _row(name, values)
    elif part in ("kind", "bars"):
        yield ("", -1), str(decision.kind if part == "kind" else decision.bars_digest)


# ---- executions ----------------------------------------------------------------------------------


def booked_at(execution: Execution) -> int:
    """Give the instant that an execution belongs to."""
    return execution.settle_ms if isinstance(execution, FundingPaid) else execution.at_ms


def _executions(pair: _Pair) -> Difference | None:
    """Compare fills with prices and fees, funding and transfers, one by one."""
    ours, theirs = (
        [e for e in one.executions if booked_at(e) <= pair.cut_ms]
        for one in (pair.whole, pair.changed)
    )
    last = [_unnumbered(e) for e in ours if isinstance(e, Fill) and pair.is_open(e.at_ms)]
    extra = [e for e in theirs if isinstance(e, Fill) and pair.is_open(e.at_ms)]
    left, right = ([e for e in side if not _is_open_fill(pair, e)] for side in (ours, theirs))
    right += [e for e in extra if _unnumbered(e) not in last]
    for before, after in zip_longest(left, right):
        if before != after:
            known = [e for e in (before, after) if e is not None]
            first = min(known, key=booked_at)
            symbol = "" if isinstance(first, Transferred) else first.key.symbol
            place = symbol, _in_words(before), _in_words(after)
            return pair.differs(Aspect.EXECUTION, booked_at(first), _kind_of(first), place)
    return None


def _is_open_fill(pair: _Pair, execution: Execution) -> bool:
    return isinstance(execution, Fill) and pair.is_open(execution.at_ms)


def _unnumbered(fill: Fill) -> Fill:
    return structs.replace(fill, trade_id="")


def _kind_of(execution: Execution) -> str:
    if isinstance(execution, Fill):
        return "fill"
    return "funding" if isinstance(execution, FundingPaid) else "transfer"


def _in_words(execution: Execution | None) -> str:
    match execution:
        case Fill(quantity=quantity, price=price, fee=fee, at_ms=at_ms):
            return f"{quantity} at {price} with a fee of {fee} at {iso(at_ms)}"
        case FundingPaid(amount=amount, settle_ms=settle_ms):
            return f"{amount} settled at {iso(settle_ms)}"
        case Transferred(amount=amount, at_ms=at_ms):
            return f"{amount} at {iso(at_ms)}"
        case _:
            return NOTHING


# ---- the book ------------------------------------------------------------------------------------


def _rows(pair: _Pair) -> Difference | None:
    """Compare equity, running totals, quantities and marks at each close."""
    ours, theirs = (
        [row for row in one.rows if row[0] <= pair.cut_ms] for one in (pair.whole, pair.changed)
    )
    for left, right in zip_longest(ours, theirs):
        at_ms = min(row[0] for row in (left, right) if row is not None)
        if left is None or right is None or left[0] != right[0]:
            is_left = left is not None and left[0] == at_ms
            words = ("a row", NOTHING) if is_left else (NOTHING, "a row")
            return pair.differs(Aspect.BOOK, at_ms, "book row", ("", *words))
        for name in BookRow._fields:
            part = f"book {name}"
            if pair.is_open(at_ms) and part not in UNFILLED_PARTS:
                continue
            before, after = getattr(left[1], name), getattr(right[1], name)
            if _bits_of(before) != _bits_of(after):
                place = _located(_row_cells(before), _row_cells(after), pair.whole.symbols)
                return pair.differs(Aspect.BOOK, at_ms, part, place)
    return None


def _bits_of(value: object) -> bytes | str:
    return value.tobytes() if isinstance(value, np.ndarray) else repr(value)


def _row_cells(value: object) -> Iterator[Cell]:
    if isinstance(value, np.ndarray):
        yield from _row("", value)
    else:
        yield ("", -1), str(value)
