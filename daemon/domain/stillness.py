"""Tell a venue that stands still from instruments that nobody trades for a moment.

Most instruments of a venue without a trade in the same bar is an outage; one is not. While some of
a venue have not been told yet, the answer may already be certain: it is, once it is the same
whatever they will show.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Field, Flags, Floats

Counts = npt.NDArray[np.int64]

FEW_STILL_MINUTES: Final = 10  # a venue of fewer instruments than counted is frozen after so long


def is_still(values: Floats) -> Flags:
    """Tell which bars show one price and no volume; NaN rows do not."""
    flat = values[..., Field.HIGH] == values[..., Field.LOW]
    return np.asarray(flat & (values[..., Field.VOLUME] == 0))


def still_runs(still: Flags, sound: Flags, before_n: Counts) -> Counts:
    """Count still bars in a row up to each row, (T, N); absent rows neither count nor end a run."""
    if not still.any() and not before_n.any():
        return np.zeros(still.shape, dtype=np.int64)
    total = before_n[None] + np.cumsum(still, axis=0)
    ended = np.where(sound & ~still, total, 0)
    return np.asarray(total - np.maximum.accumulate(ended, axis=0))


@dataclass(frozen=True, slots=True)
class FrozenWhen:
    """State when a venue stands still: from which share of those that have a bar on, at least n.

    Where fewer have one, all of them must, and the longer the fewer they are. minutes: of a bar.
    """

    share: float
    least_n: int
    minutes: int

    def venues(self, runs: Counts, present: Flags, venues: Counts | None) -> Flags:
        """Tell of which instruments the venue stands still, (T, N).

        runs: for how many bars each has stood still, this one included, 0 where it moves or is
        absent. present: who has a bar. venues (N,): a number for each one's venue, None all one.
        """
        frozen = np.zeros(runs.shape, dtype=np.bool_)
        still: Flags = np.asarray(runs > 0)
        if not still.any():
            return frozen
        group = np.zeros(runs.shape[1], dtype=np.int64) if venues is None else venues
        for venue in np.unique(group).tolist():
            mine = group == venue
            still_n = np.count_nonzero(still[:, mine], axis=1)
            all_n = np.count_nonzero(present[:, mine], axis=1)
            stands = (still_n >= self.least_n) & (still_n >= self.share * all_n)
            few = (all_n < self.least_n) & (still_n == all_n) & (still_n > 0)
            if few.any():
                endless = np.iinfo(np.int64).max
                longest = np.where(still & mine[None], runs * self.minutes, endless)
                wanted = FEW_STILL_MINUTES * (self.least_n - all_n)
                stands |= few & (longest.min(axis=1) >= wanted)
            frozen |= mine[None] & stands[:, None]
        return frozen

    def foreseen(
        self, runs: Counts, present: Flags, untold: Flags, runs_before: Counts, venues: Counts
    ) -> tuple[Flags, Flags]:
        """Tell whose venue may still turn out to stand still, and whose certainly does, (N,) each.

        All (N,): runs and present of what was told of one instant, who is untold, and for how many
        bars each stood still before it.
        """
        may, must = np.zeros_like(present), np.zeros_like(present)
        for venue in np.unique(venues[runs > 0]).tolist():
            mine = venues == venue
            missing = np.flatnonzero(mine & untold & ~present)
            missing = missing[np.argsort(-runs_before[missing], kind="stable")]
            # The first so many of them stand still and the others have no bar; last, all move.
            # Whatever else may come lies between: more that stand still, fewer that move, is worse.
            cases_n = len(missing) + 2
            cases = np.repeat(np.where(mine, runs, 0)[None], cases_n, axis=0)
            there = np.repeat((present & mine)[None], cases_n, axis=0)
            for n in range(1, cases_n - 1):
                stand = missing[:n]
                cases[n, stand], there[n, stand] = runs_before[stand] + 1, True
            there[-1, missing] = True
            stands = self.venues(cases, there, venues)
            may |= mine & stands.any(axis=0)
            must |= mine & stands[-1]
        return may, must
