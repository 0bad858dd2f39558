"""Put distribution-free intervals around forecasts: split conformal and its adaptive form.

Of n calibration scores (say |error|) the ceil((n + 1)(1 - alpha))-th smallest covers a new one with
probability at least 1 - alpha when all are exchangeable (Vovk et al. 2005). Markets are not, so the
level is steered by what was missed (Gibbs and Candes 2021):

    alpha_{t+1} = alpha_t + rate (alpha - missed_t)

whose share of misses over T steps is within (max(alpha_1, 1 - alpha_1) + rate)/(rate T) of alpha
whatever the data do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count, series, share

RATE = 0.005  # reacts to a few hundred instants, and leaves the width calm from one to the next


def conformal_rank(n: int, alpha: float) -> int:
    """Give the rank (1 = smallest) among n scores; n + 1 says that no score is large enough."""
    count(n, "n")
    share(alpha, "alpha")
    # the allowance keeps (100)(0.9) from becoming 91 by rounding
    return math.ceil((n + 1) * (1.0 - alpha) - 1e-9)


def conformal_quantile(scores: Floats, alpha: float) -> float:
    """Give the half-width that covers a new score with 1 - alpha; infinite with too few scores."""
    x = series(scores, "scores")
    rank = conformal_rank(len(x), alpha)
    return float(np.partition(x, rank - 1)[rank - 1]) if rank <= len(x) else math.inf


@dataclass(frozen=True, slots=True)
class AdaptiveConformal:
    """Hold the path of an adaptive conformal run over instants `window` .. T - 1."""

    quantiles: Floats  # (T - window,) half-widths, each known before its score
    alphas: Floats  # (T - window,) the level used; at or below 0 infinite, from 1 on minus infinite
    missed: Floats  # (T - window,) 1 where the score exceeded the half-width, else 0


def adaptive_alpha(alpha: float, missed: bool, *, target: float, rate: float = RATE) -> float:
    """Give the next level after one outcome."""
    return alpha + rate * (target - float(missed))


def adaptive_conformal(
    scores: Floats, *, target: float, window: int, rate: float = RATE
) -> AdaptiveConformal:
    """Run over (T,) scores, each judged by the `window` scores before it; T above window.

    target: the share of misses to aim at; rate: step of the level, above 0.
    """
    count(window, "window")
    share(target, "target")
    x = series(scores, "scores", at_least=window + 1)
    require(rate > 0, f"rate {rate}: above 0 is accepted")
    steps = len(x) - window
    quantiles, alphas, missed = np.empty(steps), np.empty(steps), np.empty(steps)
    alpha = target
    for i in range(steps):
        quantiles[i] = _quantile_at(x[i : i + window], alpha)
        alphas[i], missed[i] = alpha, x[i + window] > quantiles[i]
        alpha = adaptive_alpha(alpha, bool(missed[i]), target=target, rate=rate)
    return AdaptiveConformal(quantiles, alphas, missed)


@dataclass(frozen=True, slots=True)
class PanelConformal:
    """Hold the path of an adaptive conformal run over T instants of N scores each.

    half_widths: (T,) known before the scores of their instant, NaN before the first. missed: (T,)
    share of the instant's scores above it, NaN where there is none.
    """

    half_widths: Floats
    missed: Floats


def panel_conformal(
    scores: Floats,
    known: npt.NDArray[np.int64],
    *,
    target: float,
    window: int,
    instants_min: int,
    rate: float = RATE,
) -> PanelConformal:
    """Run over (T, N) scores whose outcomes come late; NaN scores do not count.

    known: (T,) how many of the first rows are known at each instant, never falling and at most its
    own number. One level serves all scores of an instant and is steered by their share of misses,
    when that becomes known. A half-width rests on the `window` newest known rows, the first one on
    `instants_min`. target, rate: as in `adaptive_conformal`.
    """
    count(window, "window")
    share(target, "target")
    require(rate > 0, f"rate {rate}: above 0 is accepted")
    T = len(scores)
    behind = bool((np.diff(known) >= 0).all()) and bool((known <= np.arange(T)).all())
    require(behind and len(known) == T, "known falls, or an outcome is known before its instant")
    half_widths, missed = np.full(T, np.nan), np.full(T, np.nan)
    alpha, heard = target, 0
    for t in range(T):
        for row in range(heard, int(known[t])):
            if np.isfinite(missed[row]):
                alpha += rate * (target - float(missed[row]))
        heard = int(known[t])
        pool = scores[max(0, heard - window) : heard]
        pool = pool[np.isfinite(pool)]
        if heard < instants_min or not len(pool):
            continue
        half_widths[t] = _quantile_at(pool, alpha)
        mine = scores[t][np.isfinite(scores[t])]
        if len(mine):
            missed[t] = float(np.mean(mine > half_widths[t]))
    return PanelConformal(half_widths, missed)


def _quantile_at(scores: Floats, alpha: float) -> float:
    if alpha <= 0.0:
        return math.inf
    return -math.inf if alpha >= 1.0 else conformal_quantile(scores, alpha)
