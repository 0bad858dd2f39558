"""The same statistics by well-kept libraries and by us, on the same seeded input."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import purgedcv
import statsmodels.api as sm
from arch.bootstrap import MCS, SPA, RealityCheck, StationaryBootstrap, optimal_block_length
from arch.covariance.kernel import Bartlett, QuadraticSpectral
from scipy import stats
from skfolio.model_selection import CombinatorialPurgedCV
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from statsmodels.tsa.stattools import acovf

from daemon.statistics.bootstrap import block_length, bootstrap_interval
from daemon.statistics.calibration import isotonic, mincer_zarnowitz, reliability
from daemon.statistics.checks import Floats
from daemon.statistics.comparison import diebold_mariano
from daemon.statistics.densities import (
    gaussian_nll,
    gaussian_pit,
    interval_coverage,
    pit_uniformity,
)
from daemon.statistics.dependence import (
    autocovariances,
    bartlett_variance,
    quadratic_spectral_variance,
)
from daemon.statistics.multiple_comparison import (
    McsStatistic,
    model_confidence_set,
    reality_check,
    superior_predictive_ability,
)
from daemon.statistics.overfitting import backtest_overfitting
from daemon.statistics.sharpe import sharpe_moments
from daemon.statistics.sharpe_inference import (
    backtest_years_min,
    deflated_sharpe,
    probabilistic_sharpe,
    track_record_min,
)
from daemon.statistics.skill import ic, kendall_tau, newey_west_error, newey_west_t, rank_ic
from daemon.statistics.splits import combinatorial_splits

Numbers = Sequence[float] | Floats
Pair = tuple[Numbers, Numbers]
BLOCK, REPETITIONS = 8, 300


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hold one comparison: both sides as functions of nothing, ours first."""

    function: str
    library: str
    theirs: str
    inputs: str
    both: Callable[[], Pair]


NO_LIBRARY = {
    "independent_maximum, effective_trials, luck_among, deflate": "purgedcv counts clusters of "
    "*Sharpe ratios*, which says nothing about returns that correlate; held to exact order "
    "statistics and to simulated searches instead",
    "sharpe_difference": "the double bootstrap of Ledoit and Wolf is in no Python library at hand",
    "sharpe_interval, mean_ic, cosine_variance": "statsmodels and arch have no cosine waves",
    "anytime_comparison, e_process": "no library at hand has them; rows 23 and simulations",
    "conformal_quantile, adaptive_conformal": "MAPIE is not installed; row 46 and coverage",
    "power_ic": "the tournament's own package is not installed; row 44",
    "annualisation_factor": "no library at hand has Lo's factor; row 10",
    "performance of runs (Sortino, drawdown)": "empyrical is not installed: it brings Bottleneck, "
    "which changes the sums of pandas everywhere; held to figures worked out by hand",
}


def _returns(seed: int = 1, n: int = 500) -> Floats:
    return np.random.default_rng(seed).standard_t(5, n) * 0.01 + 0.001


def _walk(n: int = 300, memory: float = 0.4, seed: int = 3) -> Floats:
    x = np.random.default_rng(seed).standard_normal(n)
    for t in range(1, n):
        x[t] += memory * x[t - 1]
    return x


def _losses(seed: int = 1, T: int = 200, K: int = 6) -> Floats:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, 1)) + rng.standard_normal((T, K))
    for t in range(1, T):
        x[t] += 0.4 * x[t - 1]
    return np.asarray(x + np.linspace(-0.15, 0.3, K))


def _population(x: Floats) -> tuple[float, float, float]:
    """Give the ratio and the moments as purgedcv takes them: T in one, T - 1 in the others."""
    ratio = sharpe_moments(x).sharpe.ratio * (len(x) / (len(x) - 1)) ** 0.5
    g3, g4 = stats.skew(x, bias=False), stats.kurtosis(x, bias=False, fisher=False)
    return ratio, float(g3), float(g4)


def _psr() -> Pair:
    x = _returns()
    ratio, g3, g4 = _population(x)
    ours = [
        probabilistic_sharpe(ratio, len(x), benchmark=b, skewness=g3, kurtosis=g4)
        for b in (0.0, 0.05)
    ]
    return ours, [purgedcv.probabilistic_sharpe_ratio(x, b) for b in (0.0, 0.05)]


def _dsr() -> Pair:
    x = _returns()
    ratio, g3, g4 = _population(x)
    counts = (2, 46, 1_000)
    ours = [
        deflated_sharpe(ratio, len(x), trials=n, ratio_variance=0.002, skewness=g3, kurtosis=g4)
        for n in counts
    ]
    return ours, [purgedcv.deflated_sharpe_ratio(x, n, 0.002) for n in counts]


def _trl() -> Pair:
    given = (0.1, 0.02, -1.0, 6.0)
    ours = track_record_min(given[0], benchmark=given[1], skewness=given[2], kurtosis=given[3])
    return [math.ceil(ours)], [
        purgedcv.min_track_record_length(given[0], given[1], 0.05, *given[2:])
    ]


def _btl() -> Pair:
    counts = (10, 45, 1_000)
    theirs = [purgedcv.minimum_backtest_length(n, 1.0) for n in counts]
    return [backtest_years_min(n, 1.0) for n in counts], theirs


def _pbo() -> Pair:
    x = 0.01 * np.random.default_rng(5).standard_normal((240, 12))
    ours = backtest_overfitting(x, blocks=8)
    theirs = purgedcv.probability_of_backtest_overfitting(x.T, 8)
    return [ours.probability], [theirs.pbo]


def _hac(x: Floats, lags: int, **more: Any) -> Any:
    kwds = {"maxlags": lags, "use_correction": False, **more}
    return sm.OLS(x, np.ones(len(x))).fit(cov_type="HAC", cov_kwds=kwds)


def _newey_west() -> Pair:
    x = _walk() + 0.1
    fits = [_hac(x, lags) for lags in (0, 2, 5)]
    ours = [f(x, lags) for lags in (0, 2, 5) for f in (newey_west_t, newey_west_error)]
    return ours, [float(v) for fit in fits for v in (fit.tvalues[0], fit.bse[0])]


def _dm() -> Pair:
    noise = np.random.default_rng(3).standard_normal(202)
    d = 0.1 + np.convolve(noise, np.ones(3), mode="valid")
    theirs = float(_hac(d, 2, kernel="uniform").tvalues[0])
    return [diebold_mariano(d, np.zeros(len(d)), horizon=3).statistic], [theirs]


def _kernels() -> Pair:
    x = _walk()
    ours = [bartlett_variance(x, 4), quadratic_spectral_variance(x, 4.0)]
    both = Bartlett(x, bandwidth=4), QuadraticSpectral(x, bandwidth=4.0)
    return ours, [float(kernel.cov.long_run[0, 0]) for kernel in both]


def _acovf() -> Pair:
    x = _walk()
    return autocovariances(x, 20), acovf(x, fft=False)[:21]


def _rc() -> Pair:
    losses = _losses()
    theirs = RealityCheck(losses[:, 2], losses[:, [0, 1, 3]], BLOCK, REPETITIONS, seed=1)
    theirs.compute()
    ours = reality_check(
        losses[:, 2], losses[:, [0, 1, 3]], seed=1, block_mean=BLOCK, repetitions=REPETITIONS
    )
    return [ours.p_value], [float(theirs.pvalues["upper"])]


def _spa() -> Pair:
    losses = _losses()
    theirs = SPA(losses[:, 2], losses[:, :1], BLOCK, REPETITIONS, seed=1)
    theirs.compute()
    ours = superior_predictive_ability(
        losses[:, 2], losses[:, :1], seed=1, block_mean=BLOCK, repetitions=REPETITIONS
    )
    return [ours.p_lower, ours.p_consistent, ours.p_upper], theirs.pvalues.to_list()


def _mcs() -> Pair:
    losses, ours, found = _losses(), [], []
    for statistic, method in ((McsStatistic.MAX, "max"), (McsStatistic.RANGE, "R")):
        theirs = MCS(losses, 0.1, REPETITIONS, BLOCK, method=method, seed=1)
        theirs.compute()
        mine = model_confidence_set(
            losses, seed=1, statistic=statistic, block_mean=BLOCK, repetitions=REPETITIONS
        )
        ours += list(mine.p_values)
        found += theirs.pvalues["Pvalue"].sort_index().to_list()
    return ours, found


def _blocks() -> Pair:
    x = _walk(3_000)
    ours, theirs = block_length(x), optimal_block_length(x).iloc[0]
    return [ours.stationary, ours.circular], [theirs["stationary"], theirs["circular"]]


def _bootstrap() -> Pair:
    x = _walk(200)
    ours = bootstrap_interval(lambda v: float(v.mean()), x, seed=3, block_mean=9.0, repetitions=300)
    theirs = StationaryBootstrap(9, x, seed=3).conf_int(np.mean, 300, method="percentile")
    return [ours.low, ours.high], theirs.ravel()


def _cpcv() -> Pair:
    T = 96
    theirs = CombinatorialPurgedCV(n_folds=8, n_test_folds=4, purged_size=2, embargo_size=3)
    ours = combinatorial_splits(T, groups=8, test_groups=4, horizon=2, embargo=5)
    rows = [row for train, _ in theirs.split(np.zeros((T, 1))) for row in train.tolist()]
    return [row for split in ours for row in split.train.tolist()], rows


def _mz() -> Pair:
    rng = np.random.default_rng(4)
    f = rng.standard_normal(400) * 0.01
    y = 0.7 * f + 0.02 * rng.standard_normal(400)
    kwds = {"maxlags": 3, "use_correction": False}
    fit = sm.OLS(y, sm.add_constant(f)).fit(cov_type="HAC", cov_kwds=kwds)
    seen = mincer_zarnowitz(f, y, lags=3)
    ours = [seen.intercept, seen.slope, seen.intercept_error, seen.slope_error]
    return ours, [*fit.params, *fit.bse]


def _curve() -> Pair:
    rng = np.random.default_rng(1)
    p = rng.random(1_000)
    y = (rng.random(1_000) < p**2).astype(np.float64)
    share, stated = calibration_curve(y, p, n_bins=10, strategy="quantile")
    seen = reliability(p, y, bins=10)
    return [*seen.frequency, *seen.confidence], [*share, *stated]


def _pava() -> Pair:
    rng = np.random.default_rng(2)
    x, y = rng.integers(-5, 6, 60).astype(np.float64), rng.standard_normal(60)
    grid = np.linspace(-6.0, 6.0, 49)
    theirs = IsotonicRegression(out_of_bounds="clip").fit(x, y).predict(grid)
    return isotonic(x, y).apply(grid), theirs


def _ic() -> Pair:
    rng = np.random.default_rng(6)
    f, y = rng.standard_normal(40), np.round(rng.standard_normal(40), 1)
    theirs = (stats.pearsonr(f, y), stats.spearmanr(f, y), stats.kendalltau(f, y))
    return [ic(f, y), rank_ic(f, y), kendall_tau(f, y)], [float(one.statistic) for one in theirs]


def _normal() -> Pair:
    rng = np.random.default_rng(7)
    m, s, y = rng.standard_normal(50), rng.uniform(0.2, 2.0, 50), rng.standard_normal(50)
    law = stats.norm(m, s)
    ours = [*gaussian_nll(m, s, y), *gaussian_pit(m, s, y)]
    return ours, [*(-law.logpdf(y)), *law.cdf(y)]


def _uniform() -> Pair:
    u = np.random.default_rng(8).random(80)
    ours, theirs = pit_uniformity(u), stats.kstest(u, "uniform")
    return [ours.distance, ours.p_value], [float(theirs.statistic), float(theirs.pvalue)]


def _binomial() -> Pair:
    y = np.arange(50.0)
    seen = interval_coverage(np.zeros(50), np.full(50, 41.5), y)
    theirs = stats.binomtest(42, 50).proportion_ci(0.95)
    return [seen.low, seen.high], [float(theirs.low), float(theirs.high)]


COMPARISONS = (
    Comparison("probabilistic_sharpe", "purgedcv", "probabilistic_sharpe_ratio",
               "500 t(5) returns, seed 1; benchmarks 0, 0.05", _psr),
    Comparison("deflated_sharpe", "purgedcv", "deflated_sharpe_ratio",
               "the same; 2, 46, 1000 trials", _dsr),
    Comparison("track_record_min", "purgedcv", "min_track_record_length",
               "SR 0.1 against 0.02, skewness -1, kurtosis 6", _trl),
    Comparison("backtest_years_min", "purgedcv", "minimum_backtest_length",
               "10, 45, 1000 trials", _btl),
    Comparison("backtest_overfitting", "purgedcv", "probability_of_backtest_overfitting",
               "240 x 12 noise, seed 5, 8 blocks", _pbo),
    Comparison("newey_west_t, newey_west_error", "statsmodels", "OLS, HAC",
               "300 of AR(1), seed 3; 0, 2, 5 lags", _newey_west),
    Comparison("diebold_mariano", "statsmodels", "OLS, HAC, uniform kernel",
               "200 overlapping differences, seed 3; h = 3", _dm),
    Comparison("mincer_zarnowitz", "statsmodels", "OLS, HAC", "400 pairs, seed 4; 3 lags", _mz),
    Comparison("autocovariances", "statsmodels", "acovf", "300 of AR(1), seed 3; 20 lags", _acovf),
    Comparison("bartlett_variance, quadratic_spectral_variance", "arch",
               "Bartlett, QuadraticSpectral", "300 of AR(1), seed 3; bandwidth 4", _kernels),
    Comparison("block_length", "arch", "optimal_block_length", "3,000 of AR(1), seed 3", _blocks),
    Comparison("bootstrap_interval", "arch", "StationaryBootstrap.conf_int",
               "200 of AR(1); 300 resamples, seed 3", _bootstrap),
    Comparison("reality_check", "arch", "RealityCheck", "200 x 4 losses, seed 1", _rc),
    Comparison("superior_predictive_ability", "arch", "SPA (equal to ours for one model)",
               "200 x 2 losses, seed 1", _spa),
    Comparison("model_confidence_set", "arch", "MCS, max and R", "200 x 6 losses, seed 1", _mcs),
    Comparison("combinatorial_splits", "skfolio", "CombinatorialPurgedCV",
               "96 rows, (8, 4), purge 2, embargo 5", _cpcv),
    Comparison("reliability", "scikit-learn", "calibration_curve", "1,000 pairs, seed 1", _curve),
    Comparison("isotonic", "scikit-learn", "IsotonicRegression", "60 pairs with ties, seed 2",
               _pava),
    Comparison("ic, rank_ic, kendall_tau", "SciPy", "pearsonr, spearmanr, kendalltau",
               "40 pairs with ties, seed 6", _ic),
    Comparison("gaussian_nll, gaussian_pit", "SciPy", "norm.logpdf, norm.cdf",
               "50 forecasts, seed 7", _normal),
    Comparison("pit_uniformity", "SciPy", "kstest", "80 uniform draws, seed 8", _uniform),
    Comparison("interval_coverage", "SciPy", "binomtest.proportion_ci", "42 of 50", _binomial),
)  # fmt: skip
