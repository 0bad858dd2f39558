"""Measure the skill of many cross-sections at once: the fast way to `skill.ic_series`.

RankIC is Spearman's correlation of forecast and outcome per instant. Score IC is Pearson's
correlation of the normal scores of the forecasts, Z(rank / (n + 1)), with the outcome itself: what
a book earns whose weights are linear in the scores.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from daemon.domain.units import require
from daemon.statistics.checks import Floats
from daemon.statistics.ranks import mean_ranks
from daemon.statistics.skill import PAIRS_MIN


def rank_ics(forecasts: Floats, outcomes: Floats) -> Floats:
    """Give the RankIC of each of M instants of (M, N) forecasts and outcomes, (M,).

    Pairs with a NaN are left out; NaN with fewer than three pairs or where a side does not vary.
    """
    f, y = _known(forecasts, outcomes)
    return _correlations(mean_ranks(f), mean_ranks(y))


def score_ics(forecasts: Floats, outcomes: Floats) -> Floats:
    """Give the score IC of each instant, (M,); arguments and NaN as in `rank_ics`."""
    f, y = _known(forecasts, outcomes)
    return _correlations(normal_scores(f), y)


def ics(forecasts: Floats, outcomes: Floats) -> Floats:
    """Give Pearson's correlation of each instant, (M,); arguments and NaN as in `rank_ics`."""
    return _correlations(*_known(forecasts, outcomes))


def expected_score_ics(forecasts: Floats, outcomes: Floats, expected: Floats) -> Floats:
    """Give the score IC that each instant was expected to have, (M,), for generated markets.

    expected: (M, N) what the outcomes' mean was, given all that came before. Only the direction of
    the outcomes is replaced by its expectation, not their size, so that the difference to
    `score_ics` is noise with mean zero. NaN as in `rank_ics`.
    """
    f, y = _known(forecasts, np.where(np.isfinite(expected), outcomes, np.nan))
    scores = _centred(normal_scores(f))
    size = np.sqrt((scores * scores).sum(axis=1) * (_centred(y) ** 2).sum(axis=1))
    joint = (scores * _centred(np.where(np.isfinite(f), expected, np.nan))).sum(axis=1)
    return np.asarray(joint / np.where(size > 0, size, np.nan))


def normal_scores(forecasts: Floats) -> Floats:
    """Map each row's finite values to Z(rank / (n + 1)); NaN stays NaN."""
    count = np.isfinite(forecasts).sum(axis=1, keepdims=True)
    return np.asarray(ndtri(mean_ranks(forecasts) / (count + 1)))


def _known(forecasts: Floats, outcomes: Floats) -> tuple[Floats, Floats]:
    require(forecasts.ndim == 2, f"forecasts has shape {forecasts.shape}: (M, N) is accepted")
    require(forecasts.shape == outcomes.shape, "forecasts and outcomes differ in shape")
    both = np.isfinite(forecasts) & np.isfinite(outcomes)
    both &= both.sum(axis=1, keepdims=True) >= PAIRS_MIN
    return np.where(both, forecasts, np.nan), np.where(both, outcomes, np.nan)


def _correlations(a: Floats, b: Floats) -> Floats:
    """Give Pearson's correlation of each row's finite pairs; NaN where a side does not vary."""
    varies = (_spread(a) > 0) & (_spread(b) > 0)
    x, y = _centred(a), _centred(b)
    size = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    return np.asarray((x * y).sum(axis=1) / np.where(varies & (size > 0), size, np.nan))


def _spread(x: Floats) -> Floats:
    """Give largest minus smallest of each row, 0 where nothing is known."""
    low = np.where(np.isfinite(x), x, np.inf).min(axis=1, initial=np.inf)
    high = np.where(np.isfinite(x), x, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(high > low, high - low, 0.0)


def _centred(x: Floats) -> Floats:
    finite = np.isfinite(x)
    count = np.maximum(finite.sum(axis=1, keepdims=True), 1)
    filled = np.where(finite, x, 0.0)
    return np.where(finite, filled - filled.sum(axis=1, keepdims=True) / count, 0.0)
