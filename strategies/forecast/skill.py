"""Score forecasts as cross-sections: RankIC, score IC and the Newey-West t of their means.

RankIC is Spearman's correlation per instant. Score IC is Pearson's correlation of the normal scores
of the forecasts with the label: what a linear book earns.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import ndtri

from daemon.domain.bar import Floats
from daemon.statistics.ranks import mean_ranks
from daemon.statistics.skill import newey_west_lags, newey_west_t
from strategies.forecast.calibration import centred
from strategies.forecast.checkpoint import Skill

_INSTRUMENTS_MIN: Final = 4
_INSTANTS_MIN: Final = 2
_SPREAD_MIN: Final = 1e-12


def skill(forecasts: Floats, outcomes: Floats, *, horizon_bars: int) -> Skill:
    """Score forecasts (M, N) against outcomes (M, N); pairs with a NaN are left out.

    horizon_bars: over how many decisions a label reaches, for the t values. Instants with fewer
    than four pairs or without any spread do not count; with fewer than two instants all is NaN.
    """
    known = np.isfinite(forecasts) & np.isfinite(outcomes)
    known &= known.sum(axis=1, keepdims=True) >= _INSTRUMENTS_MIN
    f, y = np.where(known, forecasts, np.nan), np.where(known, outcomes, np.nan)
    ranks = mean_ranks(f)  # (M, N)
    ranked = _correlations(ranks, mean_ranks(y))  # (M,)
    counted = np.isfinite(ranked)
    if counted.sum() < _INSTANTS_MIN:
        return Skill(int(counted.sum()), *(float("nan"),) * 4)
    a, b = ranked[counted], _correlations(normal_scores(ranks), y)[counted]
    lags = newey_west_lags(len(a), horizon_bars)
    return Skill(
        instants=len(a),
        rank_ic=float(a.mean()),
        rank_ic_t=newey_west_t(a, lags),
        score_ic=float(b.mean()),
        score_ic_t=newey_west_t(b, lags),
    )


def normal_scores(ranks: Floats) -> Floats:
    """Map ranks 1..n of each row to the normal quantiles of rank / (n + 1); NaN stays NaN."""
    return np.asarray(ndtri(ranks / (np.isfinite(ranks).sum(axis=1, keepdims=True) + 1)))


def _correlations(a: Floats, b: Floats) -> Floats:
    """Give Pearson's correlation of each row's finite pairs; NaN where a side does not vary."""
    x, y = (np.where(np.isfinite(rows), centred(rows), 0.0) for rows in (a, b))
    size = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.asarray((x * y).sum(axis=1) / np.where(size > _SPREAD_MIN, size, np.nan))
