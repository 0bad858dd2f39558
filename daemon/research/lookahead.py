"""Prove that decisions do not depend on the future: cut the data, decide again, compare to the bit.

A pipeline is whatever turns data into decisions. It runs on the whole data up to an instant, then
on data in which everything after that instant is absent, then on data in which it is different.
Every decision up to the instant must be the same to the last bit. The same holds for what training
makes of the bars up to an instant.

One price lies on the border: the open of the bar that begins at the cut, at which the orders of the
cut itself are filled. It is absent in the first comparison, and there a decision at the cut may
differ in what follows from its own fills; in the second it is kept, and nothing may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, assert_never

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.failures import DataError
from daemon.domain.units import iso, require
from daemon.research.worlds import Data, removed, replaced

ORDER_PARTS: Final = frozenset({"orders", "refusals"})
# What a decision saw of the market; the rest also follows from the book that it found.
MARKET_PARTS: Final = frozenset({"as_of", "bars", "absent", "marks"})
PREDICTION: Final = "prediction_"
BOOK_PARTS: Final = frozenset({"equity", "weights_before"})
NOTHING: Final = "nothing"


class Change(StrEnum):
    """Say what was done to the data after the cut."""

    REMOVED = "removed"
    REPLACED = "replaced"


@dataclass(frozen=True, slots=True)
class Cut:
    """Hold one comparison: decisions after start_ms up to at_ms, data known until at_ms."""

    start_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Name the first place in which two runs differ that must not.

    part: of `Decision.named_parts`, or `decision` where one run has none. symbol: empty where the
    part is not of one instrument. whole and changed: the values on the whole and changed data.
    """

    change: Change
    cut_ms: int
    as_of_ms: int
    part: str
    symbol: str
    whole: str
    changed: str

    def __str__(self) -> str:
        where = f"{self.part} of {self.symbol}" if self.symbol else self.part
        return (
            f"the decision at {iso(self.as_of_ms)} knows what came after {iso(self.cut_ms)}: "
            f"{where} is {self.whole}, and {self.changed} with the later data {self.change}"
        )


@dataclass(frozen=True, slots=True)
class CutResult:
    """Hold what one cut showed; traded_n: decisions that were more than waiting for bars."""

    cut: Cut
    decisions_n: int
    traded_n: int
    orders_n: int
    differences: tuple[Difference, ...]


# (data, start_ms, until_ms) -> the decisions with start < as_of <= until, in order; a decision that
# is still being carried out at the end is given with the orders sent so far.
Pipeline = Callable[[Data, int, int], Sequence[Decision]]
# (data, until_ms) -> digests, by name, of all that training on what was known at until_ms made
Trainer = Callable[[Data, int], Mapping[str, str]]
Told = Callable[[int], None]  # instants replayed by a run that has just ended


# ---- where to cut --------------------------------------------------------------------------------


def choose_cuts(
    data: Data, *, first_ms: int, cuts_n: int, seed: int, decision_ms: int, window_ms: int
) -> tuple[Cut, ...]:
    """Draw cuts, one in each equal stretch of what follows first_ms, in order.

    Every other cut lies on a decision, the others in the middle of a bar as long as the cadence,
    where the source has such instants. Something must be left after each cut. window_ms: decisions
    are compared over that long before a cut; 0 compares from first_ms on. Raises DataError.
    """
    require(cuts_n >= 1, f"{cuts_n} cuts: at least one")
    chosen = data.close_ms[data.rows_until(first_ms) : -1]
    on = chosen[chosen % decision_ms == 0]
    if len(on) < cuts_n:
        raise DataError(
            f"{len(on)} decisions lie between {iso(first_ms)} and the end of the data; {cuts_n} "
            "cuts need as many: take fewer, or a longer period"
        )
    within = chosen[(chosen % decision_ms != 0) & (chosen > on[0])]
    draw, cuts = np.random.default_rng(seed), []
    for number in range(cuts_n):
        pool = within if number % 2 and len(within) >= cuts_n else on
        low, high = number * len(pool) // cuts_n, (number + 1) * len(pool) // cuts_n
        at_ms = int(pool[int(draw.integers(low, max(high, low + 1)))])
        start_ms = max(first_ms, at_ms - window_ms) if window_ms else first_ms
        cuts.append(Cut(start_ms, at_ms))
    return tuple(cuts)


# ---- the comparison ------------------------------------------------------------------------------


def check_pipeline(
    pipeline: Pipeline,
    data: Data,
    cuts: Sequence[Cut],
    seed: int,
    told: Told = lambda instants: None,
) -> tuple[CutResult, ...]:
    """Run the pipeline three times for each cut and compare; deterministic in data, cuts, seed."""
    return tuple(
        check_cut(pipeline, data, cut, np.random.default_rng((seed, number)), told)
        for number, cut in enumerate(cuts)
    )


def check_cut(
    pipeline: Pipeline, data: Data, cut: Cut, draw: np.random.Generator, told: Told
) -> CutResult:
    """Compare the decisions up to one cut with those of both changed worlds."""
    rows = data.rows_until(cut.at_ms) - data.rows_until(cut.start_ms)

    def run(world: Data) -> list[Decision]:
        taken = [d for d in pipeline(world, cut.start_ms, cut.at_ms) if d.as_of_ms <= cut.at_ms]
        told(rows)
        return taken

    whole, found = run(data), []
    for change in Change:  # one other world at a time is held in memory
        world = changed_world(change, data, cut.at_ms, draw)
        difference = first_difference(whole, run(world), change, cut.at_ms, data.symbols)
        found += [difference] if difference is not None else []
    working = [d for d in whole if d.kind is not DecisionKind.WARMING]
    orders_n = sum(len(d.orders) for d in working)
    return CutResult(cut, len(whole), len(working), orders_n, tuple(found))


def changed_world(change: Change, data: Data, cut_ms: int, draw: np.random.Generator) -> Data:
    """Give the data as it would be without what came after the cut, or with something else."""
    match change:
        case Change.REMOVED:
            return removed(data, cut_ms)
        case Change.REPLACED:
            return replaced(data, cut_ms, draw)
        case _:
            assert_never(change)


def first_difference(
    whole: Sequence[Decision],
    changed: Sequence[Decision],
    change: Change,
    cut_ms: int,
    symbols: Sequence[str],
) -> Difference | None:
    """Find the first decision and its first part that differ; None when there is none.

    With the later data removed the fills at the price of the cut are missing. There the orders of
    the decision at the cut need only begin alike, those of the one before are not compared, and a
    decision at the cut that found another book is compared in what it saw of the market.
    """
    # The last decision before the cut may have been in progress when the bars of the cut came.
    settled_n = sum(d.as_of_ms < cut_ms for d in whole) - 1
    for at, (left, right) in enumerate(zip(whole, changed, strict=False)):
        if left.as_of_ms != right.as_of_ms:
            first = min(left.as_of_ms, right.as_of_ms)
            ours, theirs = (_taken(d.as_of_ms == first) for d in (left, right))
            return Difference(change, cut_ms, first, "decision", "", ours, theirs)
        if left.digest == right.digest:
            continue
        loose = change is Change.REMOVED and at >= settled_n
        part = _differing(left, right, loose=loose, at_cut=left.as_of_ms == cut_ms)
        if part is not None:
            place = _located(left, right, part, symbols)
            return Difference(change, cut_ms, left.as_of_ms, part, *place)
    if len(whole) == len(changed):
        return None
    is_left = len(whole) > len(changed)
    extra = (whole if is_left else changed)[min(len(whole), len(changed))]
    ours, theirs = _taken(is_left), _taken(not is_left)
    return Difference(change, cut_ms, extra.as_of_ms, "decision", "", ours, theirs)


def _taken(is_there: bool) -> str:
    return "taken" if is_there else "not taken"


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


def _located(
    left: Decision, right: Decision, part: str, symbols: Sequence[str]
) -> tuple[str, str, str]:
    """Give instrument and both values of the first cell of a part that differs."""
    ours, theirs = dict(_cells(left, part)), dict(_cells(right, part))
    for cell in ours | theirs:
        before, after = ours.get(cell, NOTHING), theirs.get(cell, NOTHING)
        if before != after:
            what, index = cell
            lead = f"{what} " if what else ""
            return symbols[index] if index >= 0 else "", lead + before, lead + after
    return "", "some bits", "other bits"


_Cell = tuple[tuple[str, int], str]  # (what, index of the instrument or -1), value in words


def _cells(decision: Decision, part: str) -> Iterator[_Cell]:
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
            if name != "as_of_ms":
                yield from _row(name, getattr(target.signals, name))
    elif part in ("kind", "bars"):
        yield ("", -1), str(decision.kind if part == "kind" else decision.bars_digest)


def _row(what: str, values: Floats) -> Iterator[_Cell]:
    return (((what, index), repr(value)) for index, value in enumerate(values.tolist()))


# ---- training ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainingDifference:
    """Name what training made differently of the same known bars."""

    change: Change
    cut_ms: int
    name: str
    whole: str
    changed: str

    def __str__(self) -> str:
        return (
            f"training until {iso(self.cut_ms)} knows what came after: {self.name} is {self.whole},"
            f" and {self.changed} with the later data {self.change}"
        )


def check_training(
    trainer: Trainer,
    data: Data,
    cuts_ms: Sequence[int],
    seed: int,
    told: Told = lambda runs: None,
) -> tuple[TrainingDifference, ...]:
    """Train until each cut on the whole and on both changed worlds; give all that differs."""
    found: list[TrainingDifference] = []
    for number, cut_ms in enumerate(cuts_ms):
        draw = np.random.default_rng((seed, number, 1))
        whole = trainer(data, cut_ms)
        told(1)
        for change in Change:
            made = trainer(changed_world(change, data, cut_ms, draw), cut_ms)
            told(1)
            found += [
                TrainingDifference(change, cut_ms, n, whole.get(n, NOTHING), made.get(n, NOTHING))
                for n in dict.fromkeys((*whole, *made))
                if whole.get(n) != made.get(n)
            ]
    return tuple(found)
