"""Count how many different things were tried, for the deflated Sharpe ratio.

A hundred settings of one idea are not a hundred independent trials. Rule: trials are joined by
average linkage on 1 - correlation of their returns, and groups whose trials correlate on average at
0.5 or more count as one. Common correlation below that needs no joining: it shrinks the spread of
the ratios, which the luck hurdle multiplies. A fixed line, unlike a number of clusters chosen by a
silhouette, gives N for N independent trials and 1 for N copies, and cannot be searched over.
The idea of counting clusters is from Lopez de Prado and Lewis (2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count, table
from daemon.statistics.sharpe import Sharpe, sharpe_moments
from daemon.statistics.sharpe_inference import deflated_sharpe, luck_hurdle

SAME_TRIAL_CORRELATION = 0.5


def trial_clusters(returns: Floats) -> tuple[int, ...]:
    """Give each of the N columns of (T, N) trial returns its cluster, numbered from 0 as they come.

    Raises for fewer than 3 rows and for a trial whose returns never vary (it never traded).
    """
    x = table(returns, "returns", rows_at_least=3)
    still = np.flatnonzero(x.max(axis=0) == x.min(axis=0))
    require(len(still) == 0, f"returns of trials {still.tolist()} never vary: leave them out")
    if x.shape[1] == 1:
        return (0,)
    distance = np.clip(1.0 - np.corrcoef(x, rowvar=False), 0.0, 2.0)
    tree = linkage(squareform(distance, checks=False), method="average")
    # the tiny allowance keeps a pair at exactly the line together whatever the rounding
    labels = fcluster(tree, 1.0 - SAME_TRIAL_CORRELATION + 1e-12, criterion="distance")
    order = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return tuple(order[label] for label in labels.tolist())


@dataclass(frozen=True, slots=True)
class Deflated:
    """Hold the verdict on the best of many trials; ratios and hurdle are per period."""

    best: int  # column of the trial with the highest ratio
    sharpe: Sharpe
    trials: int
    trials_effective: int
    hurdle: float  # SR0, what the luckiest of as many skill-less trials is expected to show
    dsr: float  # in [0, 1]


def deflate(returns: Floats, *, trials: int | None = None) -> Deflated:
    """Deflate the best Sharpe ratio among (T, N) trial returns of the same T periods.

    `trials` is how many were run if not all left returns; those without returns count in full.
    The variance across trials is the larger of that over all trials and that over the clusters'
    mean ratios, so that many copies of one trial cannot shrink the hurdle.
    """
    clusters = np.array(trial_clusters(returns))
    x = np.asarray(returns, dtype=np.float64)
    run = x.shape[1] if trials is None else trials
    count(run, "trials", at_least=x.shape[1])
    ratios = x.mean(axis=0) / x.std(axis=0, ddof=1)
    groups = int(clusters.max()) + 1
    means = np.array([ratios[clusters == g].mean() for g in range(groups)])
    variance = max(_variance(ratios), _variance(means))
    effective = groups + run - x.shape[1]
    best = int(ratios.argmax())
    seen = sharpe_moments(x[:, best])
    dsr = deflated_sharpe(
        seen.sharpe.ratio,
        len(x),
        trials=effective,
        ratio_variance=variance,
        skewness=seen.skewness,
        kurtosis=seen.kurtosis,
    )
    return Deflated(best, seen.sharpe, run, effective, luck_hurdle(effective, variance), dsr)


def _variance(ratios: Floats) -> float:
    return float(ratios.var(ddof=1)) if len(ratios) > 1 else 0.0
