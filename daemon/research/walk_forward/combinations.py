"""Put the tests of combinatorial folds together to paths and score each: how much a figure moves.

The fits of these folds learn from the future of their tests. A path is no record that anybody could
have had, and its mean is no estimate of skill; the scatter over paths says what the choice of data
alone does to the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.units import Timeframe
from daemon.research.walk_forward.stitching import RawPart
from daemon.statistics.cross_sections import rank_ics, score_ics
from daemon.statistics.splits import Split, assemble_paths
from strategies.forecast.calibration import centred

Longs = npt.NDArray[np.int64]
_SIZE_FLOOR: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Path:
    """Hold one path's mean RankIC and score IC over all instants that count."""

    rank_ic: float
    score_ic: float
    instants: int


def score_paths(
    splits: Sequence[Split],
    tests: Sequence[Mapping[Timeframe, RawPart]],
    at_ms: Longs,
    outcomes: Floats,
) -> tuple[Path, ...]:
    """Score each path against labels (T, N) of the decisions at_ms (T,) that the splits cut.

    tests: what each split's fits said of its tests. The forecast of a decision is the plain mean of
    the timeframes' newest ones, at most one bar of their own length old, each of unit size.
    """
    ranked, scored = [], []
    for split, test in zip(splits, tests, strict=True):
        parts = [_mean_of_timeframes(test, at_ms[rows]) for rows in split.tests]
        ranked.append(
            [rank_ics(f, outcomes[rows]) for f, rows in zip(parts, split.tests, strict=True)]
        )
        scored.append(
            [score_ics(f, outcomes[rows]) for f, rows in zip(parts, split.tests, strict=True)]
        )
    T = len(at_ms)
    paths = zip(assemble_paths(splits, ranked, T), assemble_paths(splits, scored, T), strict=True)
    return tuple(
        Path(_mean(by_rank), _mean(by_score), int(np.isfinite(by_rank).sum()))
        for by_rank, by_score in paths
    )


def _mean_of_timeframes(test: Mapping[Timeframe, RawPart], at_ms: Longs) -> Floats:
    N = next(iter(test.values())).noise.shape[1]
    found = []
    for timeframe, part in test.items():
        mean = centred(part.members.mean(axis=0))
        known = np.isfinite(mean)
        size = float(np.sqrt(np.mean(mean[known] ** 2))) if known.any() else 0.0
        rows = np.searchsorted(part.close_ms, at_ms, side="right") - 1
        inside = np.maximum(rows, 0)
        fresh = rows >= 0
        if len(part.close_ms):
            fresh &= at_ms - part.close_ms[inside] < timeframe.ms
            chosen = mean[inside] / max(size, _SIZE_FLOOR)
        else:
            chosen = np.full((len(at_ms), N), np.nan)
        found.append(np.where(fresh[:, None], chosen, np.nan))
    stacked = np.array(found)  # (K, T, N)
    known = np.isfinite(stacked)
    total = np.where(known, stacked, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
