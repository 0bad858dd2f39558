"""Prove that nothing depends on the future: cut the data, run again, compare to the bit.

A pipeline is whatever turns data into decisions and their executions. It runs on the whole data up
to an instant, then on data in which everything after that instant is absent, then on data in which
it is different. All that `outcome` compares must be the same to the last bit up to the instant. The
same holds for what training makes of the bars up to an instant.

Cuts are not only random: a leak of one bar shows at the cut alone, so that some lie where orders
are filled, and some on the last close before a settlement of funding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

import numpy as np

from daemon.domain.decision import DecisionKind
from daemon.domain.failures import DataError
from daemon.domain.messages import FundingPaid
from daemon.domain.order import Fill
from daemon.domain.units import DAY_MS, iso, require
from daemon.research.outcome import (
    NOTHING,
    Change,
    Difference,
    Outcome,
    booked_at,
    first_difference,
)
from daemon.research.worlds import Data, Instants, removed, replaced

FUTURE_MS: Final = 60 * DAY_MS  # of another future; more of it would only take longer
RUNS_A_CUT: Final = 3  # the whole data, the later ones removed, the later ones replaced


class Place(StrEnum):
    """Say where a cut lies."""

    DECISION = "decision"
    WITHIN = "within a bar"
    FILL = "fill"  # the last one up to the instant drawn, found by a run of its own
    SETTLEMENT = "settlement"  # the last close before one


@dataclass(frozen=True, slots=True)
class Cut:
    """Hold one comparison: what was done after start_ms up to at_ms, data known until at_ms."""

    start_ms: int
    at_ms: int
    place: Place = Place.DECISION

    @property
    def runs_n(self) -> int:
        """Count the runs that it takes."""
        return RUNS_A_CUT + (self.place is Place.FILL)


@dataclass(frozen=True, slots=True)
class CutResult:
    """Hold what one cut showed; traded_n: decisions that were more than waiting for bars.

    fills_n, funding_n: executions compared, of fills and of funding.
    """

    cut: Cut
    decisions_n: int
    traded_n: int
    orders_n: int
    fills_n: int
    funding_n: int
    differences: tuple[Difference, ...]


Pipeline = Callable[[Data, int, int], Outcome]  # (data, start_ms, until_ms) -> what was done
# (data, until_ms) -> digests, by name, of all that training on what was known at until_ms made
Trainer = Callable[[Data, int], Mapping[str, str]]
Told = Callable[[int], None]  # instants replayed by a run that has just ended


# ---- where to cut --------------------------------------------------------------------------------


def choose_cuts(
    data: Data,
    *,
    first_ms: int,
    cuts_n: int,
    seed: int,
    decision_ms: int,
    window_ms: int,
    until_ms: int | None = None,
) -> tuple[Cut, ...]:
    """Draw cuts from first_ms to until_ms or the end of the data, in order.

    They are on a decision, in the middle of a bar as long as the cadence, at a fill, before a
    settlement of funding, and so on in turn; on a decision where the data have no such instants.
    Each is drawn from its own equal stretch of such instants. A bar closed at each, and something
    is left after it. window_ms: runs are compared over that long before a cut; 0 compares from
    first_ms on. Raises DataError.
    """
    require(cuts_n >= 1, f"{cuts_n} cuts: at least one")
    last = len(data.close_ms) if until_ms is None else data.rows_until(until_ms)
    rows = np.arange(data.rows_until(first_ms), max(last - 1, 0))
    chosen = data.close_ms[rows[data.has_bar(rows)]]
    on = chosen[chosen % decision_ms == 0]
    if len(on) < cuts_n:
        raise DataError(
            f"{len(on)} decisions lie between {iso(first_ms)} and the end of the data; {cuts_n} "
            "cuts need as many: take fewer, or a longer period"
        )
    pools = {
        Place.DECISION: on,
        Place.WITHIN: chosen[(chosen % decision_ms != 0) & (chosen > on[0])],
        Place.FILL: on,
        Place.SETTLEMENT: _before_settlements(data, chosen),
    }
    draw, cuts = np.random.default_rng(seed), []
    for number in range(cuts_n):
        place = tuple(Place)[number % len(Place)]
        place = place if len(pools[place]) >= cuts_n else Place.DECISION
        pool = pools[place]
        low, high = number * len(pool) // cuts_n, (number + 1) * len(pool) // cuts_n
        at_ms = int(pool[int(draw.integers(low, max(high, low + 1)))])
        start_ms = max(first_ms, at_ms - window_ms) if window_ms else first_ms
        cuts.append(Cut(start_ms, at_ms, place))
    return tuple(sorted(cuts, key=lambda cut: cut.at_ms))


def _before_settlements(data: Data, chosen: Instants) -> Instants:
    """Give the closes that are the last before a settlement with a known rate."""
    settled = data.settle_ms[np.isfinite(data.rates).any(axis=1)]
    before = np.searchsorted(data.close_ms, settled, side="left") - 1
    return chosen[np.isin(chosen, data.close_ms[before[before >= 0]])]


# ---- the comparison ------------------------------------------------------------------------------


def check_pipeline(
    pipeline: Pipeline,
    data: Data,
    cuts: Sequence[Cut],
    seed: int,
    told: Told = lambda instants: None,
) -> tuple[CutResult, ...]:
    """Run the pipeline on each cut's three worlds and compare; deterministic in data, cuts, seed.

    The whole world is handed over as `data` itself, so that a pipeline can tell it.
    """
    return tuple(
        check_cut(pipeline, data, cut, np.random.default_rng((seed, number)), told)
        for number, cut in enumerate(cuts)
    )


def check_cut(
    pipeline: Pipeline, data: Data, cut: Cut, draw: np.random.Generator, told: Told
) -> CutResult:
    """Compare what was done up to one cut with what both changed worlds make of it."""
    rows = data.rows_until(cut.at_ms) - data.rows_until(cut.start_ms)

    def run(world: Data) -> Outcome:
        made = pipeline(world, cut.start_ms, cut.at_ms)
        told(rows)
        return made

    if cut.place is Place.FILL:
        cut = at_a_fill(cut, run(data), data)
    whole, found = run(data), []
    for change in Change:  # one other world at a time is held in memory
        changed = run(changed_world(change, data, cut.at_ms, draw))
        difference = first_difference(whole, changed, change, cut.at_ms)
        found += [difference] if difference is not None else []
    taken = [d for d in whole.decisions if d.as_of_ms <= cut.at_ms]
    working = [d for d in taken if d.kind is not DecisionKind.WARMING]
    booked = [e for e in whole.executions if booked_at(e) <= cut.at_ms]
    return CutResult(
        cut=cut,
        decisions_n=len(taken),
        traded_n=len(working),
        orders_n=sum(len(d.orders) for d in working),
        fills_n=sum(isinstance(e, Fill) for e in booked),
        funding_n=sum(isinstance(e, FundingPaid) for e in booked),
        differences=tuple(found),
    )


def at_a_fill(cut: Cut, whole: Outcome, data: Data) -> Cut:
    """Move a cut back to the last fill before it at which a bar closed; leave it if none is."""
    filled = np.array(
        sorted({e.at_ms for e in whole.executions if isinstance(e, Fill) and e.at_ms <= cut.at_ms}),
        dtype=np.int64,
    )
    filled = filled[(filled > cut.start_ms) & np.isin(filled, data.close_ms)]
    filled = filled[data.has_bar(np.searchsorted(data.close_ms, filled))]
    return replace(cut, at_ms=int(filled[-1])) if len(filled) else cut


def changed_world(change: Change, data: Data, cut_ms: int, draw: np.random.Generator) -> Data:
    """Give the data as it would be without what came after the cut, or with something else."""
    match change:
        case Change.REMOVED:
            return removed(data, cut_ms)
        case Change.REPLACED:
            near = removed(data, cut_ms + FUTURE_MS, with_open=True)
            return replaced(near, cut_ms, draw)
        case _:
            assert_never(change)


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
