"""What a stored sum of trees says of feature rows: for LightGBM and the forest alike.

Each seed and timeframe has its own trees on the regressors of `ridge.design`. With principal
components the trees read x @ projection - offset instead of x. The stated noise is that of labels,
1, as a ridge's: trees say nothing of how sure they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from strategies.forecast.ridge import columns_n, design
from strategies.forecast.trees.arrays import Arrays, Trees, read

PROJECTION: Final = "projection"
OFFSET: Final = "offset"


@dataclass(frozen=True, slots=True)
class TimeframeTrees:
    """Hold one timeframe's trees; projection (P, C) and offset (C,) where they read components."""

    trees: Trees
    projection: Floats | None = None
    offset: Floats | None = None

    def predict(self, x: Floats) -> Floats:
        """Forecast from regressors x (.., P): (..)."""
        flat = x.reshape(-1, x.shape[-1])
        if self.projection is not None and self.offset is not None:
            flat = flat @ self.projection - self.offset  # (S, P) -> (S, C)
        return self.trees.predict(flat).reshape(x.shape[:-1])

    def named(self, prefix: str) -> dict[str, npt.NDArray[Any]]:
        """Give the arrays by name, to be stored."""
        found = self.trees.named(prefix)
        if self.projection is not None and self.offset is not None:
            found |= {f"{prefix}{PROJECTION}": self.projection, f"{prefix}{OFFSET}": self.offset}
        return found


class TreeModel:
    """Forecast with the trees of every seed; see `inference.RawModel`."""

    def __init__(
        self,
        arrays: Arrays,
        *,
        members: int,
        timeframes: int,
        covariates: Sequence[str],
        where: str,
    ) -> None:
        """Read `<member>.<place>.<array>`; raise ModelError, beginning with `where`."""
        columns = columns_n(covariates)
        self._covariates = covariates
        self._trees = [
            [read_timeframe(arrays, f"{m}.{place}.", columns, where) for place in range(timeframes)]
            for m in range(members)
        ]

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Map feature rows (L, N, F) to the seeds' forecasts (M, N) and unit variances (N,)."""
        x = design(rows, 1, self._covariates)[0]  # (N, P)
        means = np.array([mine[timeframe].predict(x) for mine in self._trees])
        return means, np.ones(len(x))


def read_timeframe(arrays: Arrays, prefix: str, columns: int, where: str) -> TimeframeTrees:
    """Take one timeframe's trees on P columns out of stored arrays; ModelError where unsound."""
    projection, offset = arrays.get(f"{prefix}{PROJECTION}"), arrays.get(f"{prefix}{OFFSET}")
    if projection is None:
        return TimeframeTrees(read(arrays, prefix, columns=columns, where=where))
    fits = (
        offset is not None
        and projection.ndim == 2
        and projection.shape[0] == columns
        and offset.shape == projection.shape[1:]
        and bool(np.isfinite(projection).all() and np.isfinite(offset).all())
    )
    if not fits:
        raise ModelError(f"{where}: {prefix}{PROJECTION} does not fit {columns} columns")
    trees = read(arrays, prefix, columns=projection.shape[1], where=where)
    return TimeframeTrees(trees, np.asarray(projection), np.asarray(offset))
