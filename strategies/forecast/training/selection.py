"""Choose columns and principal components, from the rows of one training part alone.

Everything here is linear and looks at differences between instruments: columns and labels are
centred over the instruments of each instant, columns then scaled to unit size. A column that is the
same for all instruments is therefore never chosen; trees lose it as context.

    correlation  columns whose IC has |t| of at least 2 (Newey-West), the strongest first, none that
                 correlates with one before it by more than 0.95
    elimination  a ridge loses its weakest column again and again
    lasso        the columns that a penalty on the sum of |coefficients| leaves

The last two fit on the first 70 % of the instants and look at the rest, a label's reach later. They
keep the fewest columns whose squared error there is within one standard error (Newey-West) of the
least, which is few where little can be known. The number or the penalty found is then used on all
instants. At least one column stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.statistics.skill import newey_west_error, newey_west_lags, newey_west_t
from strategies.forecast.ridge import penalty_of, standardised
from strategies.forecast.training.job import Selection

T_MIN: Final = 2.0
ALIKE_MIN: Final = 0.95
FITTED_SHARE: Final = 0.7
PENALTIES_N: Final = 24
PENALTY_SMALLEST: Final = 0.01  # beside the penalty at which the first column appears
SWEEPS_MAX: Final = 500
SWEEP_ENOUGH: Final = 1e-9  # largest change of a coefficient, beside the largest coefficient

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Reduction:
    """Say what is read of P columns: `columns` (Q,), or components z = x @ projection - offset.

    projection: (P, C), 0 for columns that were not chosen; offset: (C,).
    """

    columns: Longs
    projection: Floats | None = None
    offset: Floats | None = None

    def apply(self, x: Floats) -> Floats:
        """Reduce x (.., P) to (.., Q) columns or (.., C) components."""
        if self.projection is not None and self.offset is not None:
            return np.asarray(x @ self.projection - self.offset)
        is_all = len(self.columns) == x.shape[-1]
        return x if is_all else np.ascontiguousarray(x[..., self.columns])

    def expanded(self, coefficients: Floats, columns: int) -> Floats:
        """Give what coefficients (Q,) or (C,) are for all P columns, without the constant."""
        if self.projection is not None:
            return np.asarray(self.projection @ coefficients)
        out = np.zeros(columns)
        out[self.columns] = coefficients
        return out


def reduction(
    x: Floats, y: Floats, selection: Selection, components: int, *, horizon_bars: int, gap: int
) -> Reduction:
    """Choose among the columns of x (T, N, P) for labels y (T, N), NaN = no label.

    horizon_bars: instants that share a label. gap: instants that a label reaches. components: how
    many principal components of the chosen columns are read in their place, 0 for none. Raises
    ModelError without any label.
    """
    columns = choose(x, y, selection, horizon_bars=horizon_bars, gap=gap)
    if not components:
        return Reduction(columns)
    rows = x[np.isfinite(y)][:, columns]  # (S, Q)
    level, size = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(size > 1e-12, 1.0 / np.where(size > 1e-12, size, 1.0), 0.0)
    z = (rows - level) * scale
    _, vectors = np.linalg.eigh(z.T @ z)  # the largest last
    chosen = vectors[:, ::-1][:, :components]  # (Q, C)
    largest = np.abs(chosen).argmax(axis=0)
    chosen = chosen * np.sign(chosen[largest, np.arange(chosen.shape[1])])
    projection = np.zeros((x.shape[-1], chosen.shape[1]))
    projection[columns] = scale[:, None] * chosen
    return Reduction(columns, projection, (level * scale) @ chosen)


def choose(x: Floats, y: Floats, selection: Selection, *, horizon_bars: int, gap: int) -> Longs:
    """Give the places (Q,) of the columns that are kept, rising; see `reduction`."""
    match selection:
        case Selection.NONE:
            return np.arange(x.shape[-1])
        case Selection.CORRELATION:
            return _correlated(x, y, horizon_bars)
        case Selection.ELIMINATION:
            return _validated(x, y, horizon_bars, gap, _eliminated)
        case Selection.LASSO:
            return _validated(x, y, horizon_bars, gap, _lasso)
        case _:
            assert_never(selection)


# ---- correlation ---------------------------------------------------------------------------------


def _correlated(x: Floats, y: Floats, horizon_bars: int) -> Longs:
    known = np.isfinite(y)
    z, outcomes, _ = standardised(x, y)  # (S, P), (S,)
    instant = np.repeat(np.arange(len(y)), known.sum(axis=1))  # of each row
    starts = np.flatnonzero(np.diff(instant, prepend=-1))
    joint = np.add.reduceat(z * outcomes[:, None], starts)  # (T', P)
    sizes = np.add.reduceat(z * z, starts) * np.add.reduceat(outcomes**2, starts)[:, None]
    strength = np.zeros(x.shape[-1])
    for p in range(x.shape[-1]):
        counted = sizes[:, p] > 1e-18
        if counted.sum() > 2:
            ic = joint[counted, p] / np.sqrt(sizes[counted, p])
            t = newey_west_t(ic, newey_west_lags(len(ic), horizon_bars))
            strength[p] = abs(t) if np.isfinite(t) else 0.0
    alike = np.abs(z.T @ z) / len(z)  # columns have unit mean square
    kept: list[int] = []
    for p in np.argsort(-strength, kind="stable").tolist():
        if kept and (strength[p] < T_MIN or alike[p, kept].max() > ALIKE_MIN):
            continue
        kept.append(p)
    return np.sort(np.array(kept, dtype=np.int64))


# ---- what an inner part of time decides ----------------------------------------------------------

# (gram (P, P), joint (P,), a ridge's penalty) -> coefficients (P,) from many to few columns
_Path = Callable[[Floats, Floats, float], Sequence[Floats]]


def _validated(x: Floats, y: Floats, horizon_bars: int, gap: int, path: _Path) -> Longs:
    """Find how far to go along a path on a later part, then go as far on all instants."""
    cut = round(FITTED_SHARE * len(y))
    penalty = penalty_of(horizon_bars, x.shape[-1])
    z, outcomes, scale = standardised(x[:cut], y[:cut])
    found = path(z.T @ z, z.T @ outcomes, penalty)
    step = 0
    later = y[cut + gap :]
    if np.isfinite(later).any():
        step = _fewest([_errors(x[cut + gap :], later, scale * w) for w in found], horizon_bars)
    z, outcomes, _ = standardised(x, y)
    whole = path(z.T @ z, z.T @ outcomes, penalty)
    kept = np.flatnonzero(whole[min(step, len(whole) - 1)])
    return kept if len(kept) else np.array([int(np.abs(z.T @ outcomes).argmax())])


def _errors(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Give the mean squared error of each instant that has labels (T',)."""
    known = np.isfinite(y)
    count = known.sum(axis=1)
    f = np.where(known, x @ weights, 0.0)
    f = np.where(known, f - (f.sum(axis=1) / np.maximum(count, 1))[:, None], 0.0)
    error = np.where(known, (f - y) ** 2, 0.0).sum(axis=1)
    return np.asarray(error[count > 0] / count[count > 0])


def _fewest(errors: Sequence[Floats], horizon_bars: int) -> int:
    """Give the last step whose error is within one standard error of the least."""
    best = min(errors, key=lambda one: float(one.mean()))
    chosen = 0
    for step, mine in enumerate(errors):
        worse = mine - best
        if len(worse) < 2 or np.ptp(worse) == 0.0:
            close = worse.mean() <= 0
        else:
            lags = newey_west_lags(len(worse), horizon_bars)
            close = worse.mean() <= newey_west_error(worse, lags)
        chosen = step if close else chosen
    return chosen


def _eliminated(gram: Floats, joint: Floats, penalty: float) -> list[Floats]:
    """Give the ridges on P, P - 1, .. 1 columns; the smallest coefficient leaves each time."""
    left = np.flatnonzero(np.diag(gram) > 0)
    found = []
    while len(left):
        mine = gram[np.ix_(left, left)] + penalty * np.eye(len(left))
        weights = np.linalg.solve(mine, joint[left])
        found.append(np.zeros(len(joint)))
        found[-1][left] = weights
        left = np.delete(left, int(np.abs(weights).argmin()))
    return found or [np.zeros(len(joint))]


def _lasso(gram: Floats, joint: Floats, penalty: float) -> list[Floats]:
    """Give coefficients along falling numbers of columns, by coordinate descent on the moments.

    They minimise |y - z w|^2 / 2 + s |w|_1 for s from small to the one that leaves nothing.
    """
    largest = float(np.abs(joint).max())
    shares = np.geomspace(PENALTY_SMALLEST, 1.0, PENALTIES_N, endpoint=False)
    weights, found = np.zeros(len(joint)), []
    for share in shares[::-1]:  # begun with few columns, each goes on from the one before
        weights = descend(gram, joint, share * largest, weights)
        found.append(weights)
    return found[::-1]


def descend(gram: Floats, joint: Floats, penalty: float, start: Floats) -> Floats:
    """Minimise w' gram w / 2 - joint' w + penalty |w|_1, one coefficient after the other."""
    weights, power = start.copy(), np.diag(gram)
    slope = joint - gram @ weights
    for _ in range(SWEEPS_MAX):
        moved = 0.0
        for p in np.flatnonzero(power > 0).tolist():
            pulled = slope[p] + power[p] * weights[p]
            wanted = np.sign(pulled) * max(abs(pulled) - penalty, 0.0) / power[p]
            change = wanted - weights[p]
            if change != 0.0:
                weights[p] = wanted
                slope = slope - gram[:, p] * change
                moved = max(moved, abs(change))
        if moved <= SWEEP_ENOUGH * float(np.abs(weights).max(initial=1e-300)):
            break
    return weights
