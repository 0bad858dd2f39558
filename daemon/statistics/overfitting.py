"""Estimate how often picking the best of many trials picks one that is poor afterwards.

Combinatorially symmetric cross-validation (Bailey, Borwein, Lopez de Prado, Zhu 2017): cut the T
rows into S blocks; for each half J of the blocks take the trial n* that is best inside J, and its
rank r among the N trials outside J (1 = worst). With w = r / (N + 1) and lambda = ln(w / (1 - w)),

    PBO = share of the C(S, S/2) choices with lambda <= 0.

lambda <= 0 means the lower half of the ranks; the middle one of an odd N belongs to it, so picking
blindly among three trials is poor in 2 of 3 cases (`blind_share`). On noise PBO comes out somewhat
above that, because what one half has the other half lacks.

Where S does not divide T the first blocks are one row longer. Trap: columns demeaned over the whole
sample make every winner a loser outside, so that PBO is 1; demean nothing beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum, unique
from itertools import combinations, islice
from typing import assert_never

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count, table

Ints = npt.NDArray[np.int64]

BLOCKS_MAX = 20  # 184,756 choices; each costs a pass over all trials
_CHUNK = 512


@unique
class Performance(StrEnum):
    """Name the measures by which a trial can be picked."""

    SHARPE = "sharpe"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Overfitting:
    """Hold PBO and what it comes from, per choice of blocks (C = C(S, S/2))."""

    probability: float  # PBO, in [0, 1]
    logits: Floats  # (C,) lambda
    chosen: Ints  # (C,) the trial that was best inside
    inside: Floats  # (C,) its performance there, per period
    outside: Floats  # (C,) its performance outside, per period

    @property
    def loss_probability(self) -> float:
        """Give the share of choices whose winner performs below zero outside."""
        return float((self.outside < 0.0).mean())


def backtest_overfitting(
    returns: Floats, *, blocks: int = 16, performance: Performance = Performance.SHARPE
) -> Overfitting:
    """Run CSCV on (T, N) returns of N >= 2 trials; `blocks` S is even, T at least 2 S.

    A trial without any variation in a half has a Sharpe ratio of 0 there, unless its mean is not 0.
    """
    count(blocks, "blocks", at_least=2)
    require(blocks % 2 == 0, f"blocks {blocks}: an even number is accepted")
    require(blocks <= BLOCKS_MAX, f"blocks {blocks}: at most {BLOCKS_MAX} is accepted")
    x = table(returns, "returns", rows_at_least=2 * blocks, columns_at_least=2)
    # around the column means, because squares of small returns with a large mean lose digits
    centre = x.mean(axis=0)
    parts = np.array_split(x - centre, blocks)
    sizes = np.array([len(part) for part in parts], dtype=np.float64)  # (S,)
    sums = np.stack([part.sum(axis=0) for part in parts])  # (S, N)
    squares = np.stack([(part**2).sum(axis=0) for part in parts])  # (S, N)
    found = [_pick(chunk, sizes, sums, squares, centre, performance) for chunk in _choices(blocks)]
    logits, chosen, inside, outside = (
        np.concatenate(column) for column in zip(*found, strict=True)
    )
    return Overfitting(float((logits <= 0.0).mean()), logits, chosen, inside, outside)


def blind_share(trials: int) -> float:
    """Give the share of poor ranks among N trials: what picking one of them unseen comes to."""
    count(trials, "trials", at_least=2)
    return (trials + 1) // 2 / trials


def _choices(blocks: int) -> Iterator[Floats]:
    """Yield all halves of the blocks as rows of 0 and 1, some hundred at a time to spare memory."""
    halves = combinations(range(blocks), blocks // 2)
    while some := list(islice(halves, _CHUNK)):
        rows = np.zeros((len(some), blocks))
        rows[np.arange(len(some))[:, None], np.array(some)] = 1.0
        yield rows


def _pick(
    inner: Floats, sizes: Floats, sums: Floats, squares: Floats, centre: Floats, by: Performance
) -> tuple[Floats, Ints, Floats, Floats]:
    """Give logit, best trial, its inside and its outside performance for (C, S) choices."""
    outer = 1.0 - inner
    inside = _scores(inner @ sizes, inner @ sums, inner @ squares, centre, by)  # (C, N)
    outside = _scores(outer @ sizes, outer @ sums, outer @ squares, centre, by)
    chosen = inside.argmax(axis=1)
    rows = np.arange(len(inner))
    own = outside[rows, chosen]
    # rank 1 is the worst; equals share their mean rank
    below, equal = (outside < own[:, None]).sum(axis=1), (outside == own[:, None]).sum(axis=1)
    w = (below + (equal + 1) / 2.0) / (outside.shape[1] + 1)
    return np.log(w / (1.0 - w)), chosen, inside[rows, chosen], own


def _scores(n: Floats, sums: Floats, squares: Floats, centre: Floats, by: Performance) -> Floats:
    """Give the (C, N) performance from the number (C,), sums and squares (C, N) around `centre`."""
    offset = sums / n[:, None]
    mean = centre + offset
    # a half without trades has a mean of exactly 0, which shifting to the centre and back may blur
    mean = np.where(np.abs(mean) <= 1e-12 * np.abs(centre), 0.0, mean)
    match by:
        case Performance.MEAN:
            return np.asarray(mean)
        case Performance.SHARPE:
            spread = squares - n[:, None] * offset**2
            # what rounding leaves of a constant column is no spread
            constant = spread <= 1e-12 * squares
            sd = np.sqrt(np.where(constant, 1.0, spread) / (n[:, None] - 1.0))
            still = np.where(mean == 0.0, 0.0, np.copysign(np.inf, mean))
            return np.where(constant, still, mean / sd)
        case _:
            assert_never(by)
