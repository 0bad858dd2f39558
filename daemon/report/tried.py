"""What luck makes of everything that was tried: one answer for the page and for the terminal.

Both the tear sheet and `evaluate trials` ask here, so that they cannot contradict each other about
one ledger. Trials that never traded have no ratio and still count as tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from daemon.report.figures import counted
from daemon.report.metrics import INTERVAL_RETURNS_MIN
from daemon.report.trials import Trials
from daemon.statistics.checks import Floats
from daemon.statistics.overfitting import backtest_overfitting, blind_share
from daemon.statistics.trials import COPIES_MAX, Luck, effective_trials, luck_among, luck_unseen

DAYS_MIN: Final = INTERVAL_RETURNS_MIN  # below it daily returns say nothing
BLOCK_DAYS_MIN: Final = 8  # a block of PBO shorter than this has no Sharpe ratio worth the name
BLOCKS_MIN: Final = 8  # 70 splits; the 6 of four blocks can only say 0, 17, 33 % and so on
BLOCKS_MOST: Final = 16  # 12,870 splits


@dataclass(frozen=True, slots=True)
class Tried:
    """Hold what was tried; why says what is not known about the hurdle, and is empty otherwise.

    hurdle: the daily Sharpe ratio that the best of all is expected to show by luck; NaN: unknown.
    """

    trials_n: int
    effective_n: int
    hurdle: float
    why: str = ""


def tried(trials: Trials | None, days: int) -> Tried:
    """Count what was tried and set the hurdle; days: of the run, where trials left no returns."""
    if trials is None:
        return Tried(0, 0, math.nan, "Not known: nobody counted what else was tried on this data.")
    varying = moving(trials.returns)
    if trials.tried_n <= 1:
        return Tried(trials.tried_n, trials.tried_n, 0.0)
    if varying.shape[1] == 0 or len(varying) < DAYS_MIN:
        if days < DAYS_MIN:
            why = "Not known: too few days to set a hurdle."
            return Tried(trials.tried_n, trials.tried_n, math.nan, why)
        return _counted(luck_unseen(trials.tried_n, days))
    return _counted(luck_among(varying, trials=trials.tried_n))


def _counted(luck: Luck) -> Tried:
    return Tried(luck.trials, luck.effective_n, luck.hurdle)


@dataclass(frozen=True, slots=True)
class Picked:
    """Hold PBO: how often the best of one half of the days was poor in the other half.

    probability: NaN where why says that it is not known. blind: what picking any trial unseen would
    give, 50 % for an even number of trials and more for an odd one, whose middle counts as poor.
    """

    probability: float
    blind: float
    trials_n: int
    splits_n: int
    why: str = ""


def picked(trials: Trials | None) -> Picked:
    """Find the probability of backtest overfitting among trials, or why it is not known."""
    if trials is None:
        return _unknown("nobody counted what else was tried.")
    x = moving(trials.returns)
    if x.shape[1] < 2:
        return _unknown(f"{counted(x.shape[1], 'trial')} left returns, two are needed.")
    blocks = _blocks(len(x))
    if not blocks:
        least = BLOCKS_MIN * BLOCK_DAYS_MIN
        return _unknown(f"too few days: {len(x)} in common, {least} are needed.")
    if effective_trials(x) <= COPIES_MAX:
        return _unknown("all trials are one idea, so that picking one of them means nothing.")
    found = backtest_overfitting(x, blocks=blocks)
    n = x.shape[1]
    return Picked(found.probability, blind_share(n), n, len(found.logits))


def _unknown(why: str) -> Picked:
    return Picked(math.nan, math.nan, 0, 0, f"Not known: {why}")


def _blocks(days: int) -> int:
    """Give the even number of blocks, each of which has enough days; 0 for too few."""
    most = min(BLOCKS_MOST, days // BLOCK_DAYS_MIN)
    return most - most % 2 if most >= BLOCKS_MIN else 0


def moving(returns: Floats) -> Floats:
    """Leave out trials that never traded."""
    if not returns.size:
        return returns[:, :0]
    return np.asarray(returns[:, returns.max(axis=0) > returns.min(axis=0)])
