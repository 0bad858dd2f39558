"""A first real model: ridge regression in closed form on the ordinary features. No torch here.

    w = (X'X + penalty I)^-1 X'y

per timeframe, X (S, P) standardised to unit mean square, X and y centred over the instruments of
each instant, since the label has no market part. A linear model cannot see that a move counts
only in the context of a longer one, so the products of the residual ranks join the features, at
the newest bar and the five before it. What is the same for all instruments tells none from another,
so that the score of an outside series joins as its products with the ranks. The penalty is the one
that a normal prior of the coefficients implies: with signals worth an information coefficient r
altogether each of the P coefficients has variance r^2 / P, so that penalty = H P / r^2, where H
instants share a label.

What the worker needs stands here; `ridge_training` makes and stores a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from daemon.domain.units import require
from strategies.forecast.inputs.covariates import column_names, is_outside
from strategies.forecast.inputs.features import FEATURE_NAMES, FEATURES_N, usable

IC_PRIOR: Final = 0.03
PRODUCT_BARS: Final = 6  # the newest bar and the five before it
_RANKS: Final = [i for i, name in enumerate(FEATURE_NAMES) if name.startswith("rank_residual_")]
_PAIRS: Final = tuple(combinations(_RANKS, 2))
COLUMN_NAMES: Final = (
    *FEATURE_NAMES,
    *(
        f"{FEATURE_NAMES[a]} * {FEATURE_NAMES[b]} [-{lag}]"
        for lag in range(PRODUCT_BARS)
        for a, b in _PAIRS
    ),
)
COLUMNS_N: Final = len(COLUMN_NAMES)
COEFFICIENTS: Final = "coefficients"


def columns_n(covariates: Sequence[str] = ()) -> int:
    """Count the regressors of a ridge with these covariates."""
    outside = sum(is_outside(name) for name in covariates)
    return COLUMNS_N + len(column_names(covariates)) + outside * len(_RANKS)


def column_names_of(covariates: Sequence[str] = ()) -> tuple[str, ...]:
    """Name the regressors of a ridge with these covariates."""
    scores = [name for name in covariates if is_outside(name)]
    products = [f"{name} * {FEATURE_NAMES[rank]}" for name in scores for rank in _RANKS]
    more = column_names(covariates)
    return (*FEATURE_NAMES, *more, *COLUMN_NAMES[FEATURES_N:], *products)


def design(rows: Floats, newest: int, covariates: Sequence[str] = ()) -> Floats:
    """Turn feature rows (T, N, F) into regressors of the last `newest` rows, (newest, N, P).

    covariates: names of those whose columns follow the ordinary features in `rows`. What is
    unknown is 0, the middle of every feature; rows before the first count as unknown.
    """
    T, N, F = rows.shape
    more = column_names(covariates)
    wanted = FEATURES_N + len(more)
    require((wanted == F) and newest <= T, f"rows of shape {rows.shape}, newest {newest}")
    known = np.where(np.isfinite(rows) & usable(rows)[..., None], rows, 0.0)
    out = np.empty((newest, N, columns_n(covariates)))
    out[:, :, :F] = known[T - newest :]
    place = F
    for lag in range(PRODUCT_BARS):
        for a, b in _PAIRS:
            product = known[:, :, a] * known[:, :, b]  # (T, N)
            shifted = np.concatenate([np.zeros((lag, N)), product])[T - newest : T]
            out[:, :, place] = shifted
            place += 1
    for name in filter(is_outside, covariates):
        score = known[T - newest :, :, FEATURES_N + more.index(name)]
        for rank in _RANKS:
            out[:, :, place] = score * known[T - newest :, :, rank]
            place += 1
    return out


def penalty_of(horizon_bars: int, columns: int = COLUMNS_N) -> float:
    """Give the ridge penalty in squared standardised units; see the module."""
    return horizon_bars * columns / IC_PRIOR**2


def fit(x: Floats, y: Floats, penalty: float) -> Floats:
    """Fit the coefficients (P,) of raw regressors x (T, N, P) on labels y (T, N), NaN = no label.

    A column that never varies within an instant gets 0. Raises ModelError without any label.
    """
    z, outcomes, scale = standardised(x, y)
    weights = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ outcomes)
    return np.asarray(scale * weights)


def standardised(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Give rows (S, P) with a label, centred within instants and scaled, labels (S,), scales (P,).

    The rows are those of x (T, N, P) where y (T, N) is known, in their order. A column that never
    varies within an instant becomes 0 and has scale 0. Raises ModelError without any label.
    """
    known = np.isfinite(y)
    if not known.any():
        raise ModelError("too few bars: no label to fit a ridge on")
    count = np.maximum(known.sum(axis=1), 1)[:, None]  # (T, 1)
    means = np.where(known[:, :, None], x, 0.0).sum(axis=1) / count  # (T, P)
    level = np.where(known, y, 0.0).sum(axis=1, keepdims=True) / count
    rows, outcomes = (x - means[:, None, :])[known], (y - level)[known]  # (S, P), (S,)
    sizes = np.sqrt((rows * rows).mean(axis=0))
    scale = np.where(sizes > 1e-12, 1.0 / np.where(sizes > 1e-12, sizes, 1.0), 0.0)
    return rows * scale, outcomes, scale
