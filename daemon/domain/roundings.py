"""Choose between two whole numbers of lots per leg, so that net and beta come out right together.

Every leg has its number rounded towards zero and, where it may have it, the next one outwards. With
e(lots) the two errors of the book, net and beta, as shares of their bounds, the choice looks for

    the least break of a bound, and among equals for the least e_net^2 + e_beta^2,

exactly where at most EXACT_LEGS legs have a choice: all combinations are tried. Where more have
one, single legs change over while that lowers the sum of squares; then, from coarse lots to fine
ones, all combinations of EXACT_LEGS legs at a time, until both errors are below a thousandth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EXACT_LEGS: Final = 10  # all 1,024 combinations are tried at once
TRIED_LEGS_MAX: Final = 4 * EXACT_LEGS  # of more, every second one (or third ...) by size
ENOUGH: Final = 1e-6  # sum of squares: a thousandth of a bound
NOTHING: Final = 1e-12  # of a bound: what rounding of floats may leave


@dataclass(frozen=True, slots=True)
class Bounds:
    """Say what net and beta a book may end in, and what they are before it trades.

    betas: (N,) by leg. net, beta: before the trades, with whatever is held besides. net_max,
    beta_max: of their sizes afterwards, above 0. All but betas in quote currency.
    """

    betas: Floats
    net: float
    beta: float
    net_max: float
    beta_max: float


@dataclass(frozen=True, slots=True)
class Goal:
    """Hold what lots do to net and beta, both as shares of their bounds.

    effects: (2, N) of one lot. start: (2,) before the trades. aim: (2,) where the weights lead, or
    the bound on the way there.
    """

    effects: Floats
    start: Floats
    aim: Floats

    @classmethod
    def of(cls, bounds: Bounds, betas: Floats, value: Floats, wanted: Floats) -> Goal:
        """Take the beta and value of a lot and the wanted lots of the legs that move, (n,) each."""
        effects = np.array([value / bounds.net_max, value * betas / bounds.beta_max])
        start = np.array([bounds.net / bounds.net_max, bounds.beta / bounds.beta_max])
        return cls(effects, start, np.clip(start + effects @ wanted, -1.0, 1.0))

    def after(self, lots: Floats) -> Floats:
        """Give net and beta after the trades, (2,)."""
        return np.asarray(self.start + self.effects @ lots)

    def rank(self, lots: Floats) -> tuple[float, float]:
        """Give the break of a bound and the sum of squared errors: less is better."""
        breaks, squares = self.judge(*self.after(lots)[:, None])
        return float(breaks[0]), float(squares[0])

    def judge(self, net: Floats, beta: Floats) -> tuple[Floats, Floats]:
        """Give breaks and squares of books with these net and beta, (M,) each.

        A beta that is nearer to zero than what the weights ask for is no error.
        """
        widest = np.maximum(np.abs(net), np.abs(beta)) - 1.0
        breaks = np.where(widest > NOTHING, widest, 0.0)
        return breaks, self.squares(net, beta)

    def squares(self, net: Floats, beta: Floats) -> Floats:
        """Give the sums of squared errors of books with these net and beta, (M,)."""
        off, further = net - self.aim[0], np.abs(beta) - abs(self.aim[1])
        return np.asarray(off * off + np.square(np.maximum(further, 0.0)))


def best(goal: Goal, lots: Floats, outwards: Floats) -> Floats:
    """Give the best choice of lots, (N,).

    lots: where to begin. outwards: the other number of each leg, equal to lots where it has none.
    """
    index = (outwards != lots).nonzero()[0]
    n = index.size
    if not n:
        return lots
    changes = goal.effects[:, index] * (outwards - lots)[index]  #            (2, n)
    taken, start = np.zeros(n, dtype=np.bool_), goal.after(lots)
    now = start if n <= EXACT_LEGS else _descend(goal, start, changes, taken)
    finest_first = np.lexsort((changes[1], changes[0], np.abs(changes).max(axis=0)))
    tried = finest_first[:: -(-n // TRIED_LEGS_MAX)]
    for first in range((len(tried) - 1) // EXACT_LEGS * EXACT_LEGS, -1, -EXACT_LEGS):
        is_near = _try_all(goal, now, changes, taken, tried[first : first + EXACT_LEGS])
        now = start + changes @ taken
        if is_near:
            break
    flips = np.zeros(len(lots), dtype=np.bool_)
    flips[index] = taken
    return np.where(flips, outwards, lots)


def _descend(goal: Goal, now: Floats, changes: Floats, taken: npt.NDArray[np.bool_]) -> Floats:
    """Change single legs over, the best first, while that lowers the sum of squares."""
    moves = changes.copy()
    squares = float(goal.squares(now[:1], now[1:])[0])
    for _ in range(2 * len(taken)):
        tried = goal.squares(now[0] + moves[0], now[1] + moves[1])
        chosen = int(tried.argmin())
        if not tried[chosen] < squares:
            break
        squares, now = float(tried[chosen]), now + moves[:, chosen]
        moves[:, chosen] *= -1.0
        taken[chosen] = not taken[chosen]
    return now


def _try_all(
    goal: Goal,
    now: Floats,
    changes: Floats,
    taken: npt.NDArray[np.bool_],
    legs: npt.NDArray[np.intp],
) -> bool:
    """Try every combination of these legs around what is taken, take the best one, and tell whether
    it is near enough.
    """
    part = changes[:, legs]
    base = now - part @ taken[legs]
    choices = _choices(len(legs))  #                                          (2^n, n)
    after = choices @ part.T + base  #                                        (2^n, 2)
    breaks, squares = goal.judge(after[:, 0], after[:, 1])
    least = breaks.min()
    found = int(np.where(breaks == least, squares, np.inf).argmin())
    taken[legs] = choices[found] > 0.0
    return bool(least == 0.0 and squares[found] <= ENOUGH)


@cache
def _choices(legs_n: int) -> Floats:
    """Give all combinations of so many legs, (2^n, n), not to be written to."""
    rows = np.arange(2**legs_n)[:, None] >> np.arange(legs_n) & 1
    choices = rows.astype(np.float64)
    choices.flags.writeable = False
    return choices
