"""Count how many different things were tried, and say what luck alone gives the best of them.

A hundred settings of one idea are not a hundred independent trials, and not one trial either: the
best of a hundred correlated curves is still the luckiest of a hundred. The number that counts is

    N_eff: as many independent trials as would have the same expected maximum
    SR0 = sqrt(V) E[max of N_eff],   V = max(1 / (T - 1), variance of the other trials' ratios)
    DSR = PSR(SR0)                                                Bailey, Lopez de Prado 2014

The expected maximum of N standard normals with the trials' own correlations is measured by seeded
draws: 1 for copies, N for independent trials, in between without a line to be searched over. Groups
of trials that correlate above a line, counted as one each, called every second search without skill
a discovery (docs/decisions/017). V is at least what skill-less ratios over T periods scatter by:
the spread of two or three ratios, or of correlated ones, says less. The best is left out of V, or a
winner would raise its own hurdle. Where no trial has skill, the best then passes DSR >= 0.95 in at
most 5 of 100 searches, whatever the correlation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import log_ndtr, ndtri

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count, table
from daemon.statistics.sharpe import Sharpe, sharpe_moments
from daemon.statistics.sharpe_inference import expected_maximum, probabilistic_sharpe

COPIES_MAX: Final = 1.05  # an effective number up to here is one trial and copies of it
_SEED: Final = 20140707
_NUMBERS: Final = 400_000  # drawn at most, if that leaves at least
_DRAWS_MIN, _DRAWS_MAX = 2_000, 5_000  # pairs of z and -z
_GRID: Final = np.linspace(-10.0, 10.0, 2_001)
_LOG_BELOW: Final = log_ndtr(_GRID)


def effective_trials(returns: Floats, *, unseen: int = 0) -> float:
    """Give N_eff of (T, N) trial returns and of `unseen` further trials that left none.

    Between 1 and N + unseen; unseen trials count as independent ones. Raises for fewer than 3 rows
    and for a trial whose returns never vary (it never traded).
    """
    x = table(returns, "returns", rows_at_least=3)
    count(unseen, "unseen", at_least=0)
    still = np.flatnonzero(x.max(axis=0) == x.min(axis=0))
    require(len(still) == 0, f"returns of trials {still.tolist()} never vary: leave them out")
    seen = x.shape[1]
    if seen == 1:
        return float(1 + unseen)
    return _as_many(_correlated_maximum(x, unseen), seen + unseen)


def independent_maximum(trials: float) -> float:
    """Give the expected largest of N >= 1 independent standard normals, by integration.

    The formula of the deflated Sharpe ratio approximates it from above for N > 3 (by 2 % at 10) and
    fails below 2; N may be fractional.
    """
    require(math.isfinite(trials) and trials >= 1.0, f"trials {trials}: at least 1 is accepted")
    below = np.exp(trials * _LOG_BELOW)  # P(all of N are below)
    step = float(_GRID[1] - _GRID[0])
    upper, lower = _GRID >= 0.0, _GRID <= 0.0
    gain = float(np.trapezoid(1.0 - below[upper], dx=step))
    return gain - float(np.trapezoid(below[lower], dx=step))


def _as_many(maximum: float, most: int) -> float:
    """Invert `independent_maximum` between 1 and `most` trials."""
    from scipy.optimize import brentq  # heavy, and most commands do without

    if maximum <= independent_maximum(1.0) + 1e-9:
        return 1.0
    if maximum >= independent_maximum(float(most)):
        return float(most)
    return float(brentq(lambda n: independent_maximum(n) - maximum, 1.0, float(most), xtol=1e-6))


def _correlated_maximum(x: Floats, unseen: int) -> float:
    """Measure the expected largest of normals that correlate as the (T, N) columns do."""
    scaled = (x - x.mean(axis=0)) / (x.std(axis=0) * math.sqrt(len(x)))
    factor = np.linalg.qr(scaled, mode="r")  # factor' factor: the correlations
    pairs = min(max(_NUMBERS // len(factor), _DRAWS_MIN), _DRAWS_MAX)
    rng = np.random.default_rng(_SEED)
    drawn = rng.standard_normal((pairs, len(factor))) @ factor  # (pairs, N)
    highest, lowest = drawn.max(axis=1), -drawn.min(axis=1)
    if unseen:  # the largest of so many independent ones has the distribution Phi^unseen
        u = rng.random(pairs)
        highest = np.maximum(highest, ndtri(u ** (1.0 / unseen)))
        lowest = np.maximum(lowest, ndtri((1.0 - u) ** (1.0 / unseen)))
    return float(highest.mean() + lowest.mean()) / 2.0


@dataclass(frozen=True, slots=True)
class Luck:
    """Hold what luck alone gives the best of many trials; hurdle: SR0, a ratio per period."""

    trials: int
    effective: float  # N_eff, 1 to trials
    hurdle: float

    @property
    def effective_n(self) -> int:
        """Give N_eff in whole trials; more than one wherever there is a hurdle."""
        return 1 if self.effective == 1.0 else min(max(int(self.effective + 0.5), 2), self.trials)


def luck_among(returns: Floats, *, trials: int | None = None) -> Luck:
    """Find the hurdle that luck sets among (T, N) trial returns of the same T periods.

    `trials` is how many were run if not all left returns; those without returns count in full.
    """
    effective = effective_trials(returns, unseen=_unseen(returns, trials))
    effective = 1.0 if effective <= COPIES_MAX else effective
    x = np.asarray(returns, dtype=np.float64)
    run = x.shape[1] if trials is None else trials
    return Luck(run, effective, _hurdle(effective, max(_spread(x), 1.0 / (len(x) - 1))))


def _spread(x: Floats) -> float:
    """Give the variance of the ratios of (T, N) trials without the best; 0 where too few differ.

    A trial weighs one over its sum of squared correlations, so that copies weigh as one.
    """
    ratios = x.mean(axis=0) / x.std(axis=0, ddof=1)
    others = np.delete(np.arange(len(ratios)), int(ratios.argmax()))
    if len(others) < 2:
        return 0.0
    weights = 1.0 / (np.corrcoef(x[:, others], rowvar=False) ** 2).sum(axis=1)
    different = float(weights.sum())
    if different < 2.0 - 1e-9:
        return 0.0
    mean = float(np.average(ratios[others], weights=weights))
    variance = float(np.average((ratios[others] - mean) ** 2, weights=weights))
    return variance * different / (different - 1.0)


def luck_unseen(trials: int, periods: int) -> Luck:
    """Find the hurdle among N trials that left no returns: they scatter as luck does over T."""
    count(trials, "trials")
    count(periods, "periods", at_least=2)
    return Luck(trials, float(trials), _hurdle(float(trials), 1.0 / (periods - 1)))


def _hurdle(effective: float, variance: float) -> float:
    # below two trials the published formula falls to 0, where the integral still knows
    return math.sqrt(variance) * max(independent_maximum(effective), expected_maximum(effective))


def _unseen(returns: Floats, trials: int | None) -> int:
    columns = int(np.asarray(returns).shape[-1])
    run = columns if trials is None else trials
    count(run, "trials", at_least=columns)
    return run - columns


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
    """Deflate the best Sharpe ratio among (T, N) trial returns; `trials` as in `luck_among`."""
    luck = luck_among(returns, trials=trials)
    x = np.asarray(returns, dtype=np.float64)
    best = int((x.mean(axis=0) / x.std(axis=0, ddof=1)).argmax())
    seen = sharpe_moments(x[:, best])
    dsr = probabilistic_sharpe(
        seen.sharpe.ratio,
        len(x),
        benchmark=luck.hurdle,
        skewness=seen.skewness,
        kurtosis=seen.kurtosis,
    )
    return Deflated(best, seen.sharpe, luck.trials, luck.effective_n, luck.hurdle, dsr)
