"""The worked figures of the research notes, and what our functions make of the same input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from daemon.statistics.bootstrap import block_length
from daemon.statistics.calibration import isotonic
from daemon.statistics.checks import Floats
from daemon.statistics.comparison import diebold_mariano, e_process, small_sample_factor
from daemon.statistics.conformal import conformal_rank
from daemon.statistics.densities import gaussian_nll
from daemon.statistics.multiple_comparison import model_confidence_set, superior_predictive_ability
from daemon.statistics.overfitting import backtest_overfitting
from daemon.statistics.sharpe import annualisation_factor, sharpe_standard_error
from daemon.statistics.sharpe_inference import (
    backtest_years_min,
    deflated_sharpe,
    expected_maximum,
    luck_hurdle,
    probabilistic_sharpe,
    track_record_min,
)
from daemon.statistics.skill import ic, kendall_tau, newey_west_t, power_ic, rank_ic
from daemon.statistics.splits import combinatorial_splits, path_count
from strategies.rebalance import cube_root_band
from strategies.weighting import long_short, neutral_projection

D = np.array([0.5, -0.2, 0.1, 0.4, -0.3, 0.2, 0.6, -0.1, 0.0, 0.3])  # rows 11 to 13 and 23
P, R = np.array([0.3, 0.1, -0.2, 0.4, 0.0]), np.array([0.02, -0.01, -0.03, 0.01, 0.0])
ALPHA, BETA = np.array([0.03, 0.01, -0.02, 0.02]), np.array([1.2, 0.9, 1.1, 0.8])
TRIAL_VARIANCE = 0.5 / 250.0  # of daily ratios, rows 4 to 6


@dataclass(frozen=True, slots=True)
class Vector:
    """Hold one worked figure: the expected values, ours, and how far rounding lets them differ.

    tolerance: half of the last digit that was written down, or the sampling error of a figure that
    others drew with other random numbers.
    """

    number: int
    quantity: str
    function: str
    expected: tuple[float, ...]
    tolerance: float
    ours: Callable[[], Sequence[float] | Floats]


# Held where their functions are, by the test that is named.
ELSEWHERE = {
    25: ("GARCH(1,1), S&P 500", "test_the_published_fit_of_the_index_is_found"),
    26: ("EWMA correlation", "test_weights_of_age_are_as_published"),
    27: ("DCC, one step", "test_one_step_is_as_published"),
    28: ("DCC against cDCC", "test_the_correction_makes_the_published_difference"),
    29: ("cDCC recovery", "test_a_planted_process_is_recovered"),
    30: (
        "correlation matrix distance",
        "test_the_distance_of_correlation_matrices_is_the_worked_one",
    ),
    31: ("multivariate losses", "test_losses_of_matrices_are_the_worked_ones"),
    32: ("nearest correlation matrix, 3 x 3", "test_highams_first_example_is_his"),
    33: ("nearest correlation matrix, 4 x 4", "test_highams_second_example_is_his"),
    34: ("Marchenko-Pastur edges", "test_noise_has_the_published_edges"),
    35: ("Ledoit-Wolf and OAS shrinkage", "test_the_published_rows_are_shrunk_as_published"),
    42: ("ListMLE", "test_list_mle_of_vector_42"),
    43: ("ListNet top-1 cross entropy", "test_list_net_of_vector_43"),
    50: ("matrix-log correlation", "test_two_instruments_have_fishers_z"),
}
PENDING = {
    24: ("GARCH(1,1), DEM/GBP benchmark", "none: its 1,974 returns are not at hand"),
    40: ("differential Sharpe ratio", "pending: belongs to sizing by reinforcement learning"),
    47: ("population stability index", "pending: belongs to drift detection"),
    48: ("Page-Hinkley", "pending: belongs to drift detection"),
    49: ("ADWIN cut", "pending: belongs to drift detection"),
}


def _row_3() -> Floats:
    found = [track_record_min(2.0 / year**0.5, benchmark=1.0 / year**0.5) for year in (252, 52, 12)]
    return np.array([*found, *(n / year for n, year in zip(found, (252, 52, 12), strict=True))])


def _row_5(trials: int, skewness: float, kurtosis: float) -> Sequence[float]:
    ratio = 2.5 / 250.0**0.5
    return [
        deflated_sharpe(
            ratio,
            1_250,
            trials=trials,
            ratio_variance=TRIAL_VARIANCE,
            skewness=skewness,
            kurtosis=kurtosis,
        )
    ]


def _row_4() -> Sequence[float]:
    return [luck_hurdle(100, TRIAL_VARIANCE), *_row_5(100, -3.0, 10.0)]


def _row_9() -> Sequence[float]:
    by_t = sharpe_standard_error(0.1, 1_001)  # the first figure divides by T
    return [by_t, sharpe_standard_error(0.1, 1_000, skewness=-1.0, kurtosis=6.0)]


def _row_10() -> Sequence[float]:
    lags = np.arange(1.0, 12.0)
    return [annualisation_factor(12, np.power(base, lags)) for base in (0.2, -0.2)]


def _dm(horizon: int) -> Sequence[float]:
    found = diebold_mariano(D, np.zeros(10), horizon=horizon)
    return [found.statistic, found.adjusted, found.p_value]


def _row_15() -> Sequence[float]:
    found: list[float] = []
    for groups, tests in ((6, 2), (10, 2), (8, 4)):
        splits = combinatorial_splits(120, groups=groups, test_groups=tests, horizon=0, embargo=0)
        found += [len(splits), path_count(groups, tests)]
    return found


def _noise(seed: int, T: int = 1_000, N: int = 100) -> Floats:
    return np.asarray(0.01 * np.random.default_rng(seed).standard_normal((T, N)))


def _row_16() -> Sequence[float]:
    return [len(backtest_overfitting(_noise(1, 64, 3), blocks=b).logits) for b in (8, 16)]


def _row_17() -> Sequence[float]:
    seen = [backtest_overfitting(_noise(seed), blocks=8).probability for seed in range(200)]
    return [float(np.mean(seen)), float(np.std(seen, ddof=1))]


def _row_18() -> Sequence[float]:
    x = _noise(1)
    return [backtest_overfitting(x - x.mean(axis=0), blocks=8).probability]


def _row_19() -> Sequence[float]:
    seen = []
    for seed in range(40):
        x = _noise(seed)
        x[:, 17] += 0.01 * 2.0 / 365.0**0.5
        seen.append(backtest_overfitting(x, blocks=8).probability)
    return [float(np.mean(seen))]


def _row_20() -> Sequence[float]:
    rejected = 0
    for seed in range(60):
        losses = np.random.default_rng(seed).standard_normal((500, 10))
        found = superior_predictive_ability(np.zeros(500), losses, seed=seed, repetitions=300)
        rejected += found.p_consistent <= 0.05
    return [rejected / 60]


def _row_21() -> Sequence[float]:
    gone = 0
    for seed in range(60):
        losses = np.random.default_rng(seed).standard_normal((500, 10))
        losses[:, 4] += 0.3
        gone += 4 not in model_confidence_set(losses, seed=seed, repetitions=300).members(0.10)
    return [gone]


def _row_22() -> Sequence[float]:
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal(20_000)
        for t in range(1, len(x)):
            x[t] += 0.5 * x[t - 1]
        found.append(block_length(x))
    means = (np.mean([b.stationary for b in found]), np.mean([b.circular for b in found]))
    return [float(mean) for mean in means]


def _row_37() -> Floats:
    return long_short(
        ALPHA,
        np.array([0.01, 0.04, 0.02, 0.03]),
        tradable=np.ones(4, dtype=bool),
        gross=1.0,
        weight_max=1.0,
        beta=BETA,
    ).weights


def _band(cost: float, velocity: float, gamma: float, sigma: float) -> float:
    one = np.ones(1)
    return float(cube_root_band(cost * one, velocity**2 * one, gamma, sigma**2 * one)[0])


def _row_38() -> Sequence[float]:
    return [_band(0.005, 0.625 * 0.375, 2.0, 1.0), _band(0.0005, 0.25, 5.0, 1.0)]


def _row_39() -> Sequence[float]:
    c, nu, gamma, sigma = 5e-4, 0.004, 10.0, 0.007
    h = _band(c, nu, gamma, sigma)
    ratio = (c * nu**2 / (2.0 * h)) / (gamma * sigma**2 * h**2 / 6.0)
    dearer, faster = _band(8 * c, nu, gamma, sigma), _band(c, 8 * nu, gamma, sigma)
    return [h, ratio, dearer / h, faster / h, c / (gamma * sigma**2 * h)]


def _row_41() -> Sequence[float]:
    given = (np.array([0.1]), np.array([0.5]), np.array([0.4]))
    return [float(gaussian_nll(*given)[0]), float(gaussian_nll(*given, constant=False)[0])]


VECTORS = (
    Vector(1, "PSR(0), normal", "probabilistic_sharpe", (0.9817,), 5e-5,
           lambda: [probabilistic_sharpe(0.458, 24)]),
    Vector(2, "PSR(0), skewed", "probabilistic_sharpe", (0.9134,), 5e-5,
           lambda: [probabilistic_sharpe(0.458, 24, skewness=-2.448, kurtosis=10.164)]),
    Vector(3, "MinTRL by day, week, month; in years", "track_record_min",
           (688.21, 147.10, 38.878, 2.731, 2.829, 3.240), 5e-3, _row_3),
    Vector(4, "SR0 and DSR, N = 100", "luck_hurdle, deflated_sharpe",
           (0.113172, 0.900397), 5e-7, _row_4),
    Vector(5, "DSR, N = 46", "deflated_sharpe", (0.950502,), 5e-7, partial(_row_5, 46, -3.0, 10.0)),
    Vector(6, "DSR, N = 88, normal", "deflated_sharpe", (0.950491,), 5e-7,
           partial(_row_5, 88, 0.0, 3.0)),
    Vector(7, "E[max of 10, 45, 100, 1000]", "expected_maximum",
           (1.574598, 2.235640, 2.530603, 3.255122), 5e-7,
           lambda: [expected_maximum(n) for n in (10, 45, 100, 1_000)]),
    Vector(8, "MinBTL, N = 45", "backtest_years_min", (4.998,), 5e-4,
           lambda: [backtest_years_min(45, 1.0)]),
    Vector(9, "se(SR)", "sharpe_standard_error", (0.0317017, 0.0333709), 6e-8, _row_9),
    Vector(10, "eta(12)", "annualisation_factor", (2.878849, 4.170848), 5e-7, _row_10),
    Vector(11, "Newey-West t, L = 0 to 3", "newey_west_t",
           (1.651446, 2.126644, 4.187179, 3.292928), 5e-7,
           lambda: [newey_west_t(D, lags) for lags in range(4)]),
    Vector(12, "DM, HLN, p; h = 1", "diebold_mariano", (1.651446, 1.566699, 0.151624), 5e-6,
           partial(_dm, 1)),
    Vector(13, "DM, HLN, p; h = 2", "diebold_mariano", (3.638034, 3.086975, 0.012993), 5e-7,
           partial(_dm, 2)),
    Vector(14, "HLN factor, h = 1, 4", "small_sample_factor", (0.994987, 0.964987), 5e-7,
           lambda: [small_sample_factor(100, h) for h in (1, 4)]),
    Vector(15, "CPCV splits and paths", "combinatorial_splits, path_count",
           (15, 5, 45, 9, 70, 35), 0.0, _row_15),
    Vector(16, "CSCV choices, S = 8, 16", "backtest_overfitting", (70, 12_870), 0.0, _row_16),
    Vector(17, "PBO of noise, mean and sd", "backtest_overfitting", (0.55, 0.16), 0.06,
           _row_17),
    Vector(18, "PBO of demeaned noise", "backtest_overfitting", (1.0,), 0.0, _row_18),
    Vector(19, "PBO, one of 100 is good", "backtest_overfitting", (0.26,), 0.05, _row_19),
    Vector(20, "SPA rejections at 5 %, share of 60", "superior_predictive_ability", (0.067,), 0.07,
           _row_20),
    Vector(21, "MCS drops the worse one, of 60", "model_confidence_set", (60,), 0.0, _row_21),
    Vector(22, "block length, mean of 5 draws", "block_length", (32.9, 37.6), 3.0, _row_22),
    Vector(23, "e-process", "e_process",
           (1.09754, 1.04029, 1.06123, 1.14735, 1.07308, 1.11656, 1.25080, 1.22326, 1.22250,
            1.29709), 5.1e-6, lambda: e_process(D, bound=2.0, stake=0.2)),
    Vector(36, "neutral projection", "strategies.weighting.neutral_projection",
           (0.022, -0.001, -0.029, 0.008), 5e-7,
           lambda: neutral_projection(ALPHA, np.ones(4), np.column_stack([np.ones(4), BETA]))),
    Vector(37, "neutral book of gross 1", "strategies.weighting.long_short",
           (0.374408, 0.002370, -0.5, 0.123223), 5e-7, _row_37),
    Vector(38, "no-trade band, log-type investor", "strategies.rebalance.cube_root_band",
           (0.059059, 0.021086), 5e-7, _row_38),
    Vector(39, "cube-root band: h, ratio, cost x 8, speed x 8, bars",
           "strategies.rebalance.cube_root_band", (0.0290399, 2.0, 2.0, 4.0, 35.138), 5e-4,
           _row_39),
    Vector(41, "Gaussian NLL", "gaussian_nll", (0.405791, -0.513147), 5e-7, _row_41),
    Vector(44, "IC, RankIC, tau, 1.5-power", "ic, rank_ic, kendall_tau, power_ic",
           (0.881895, 0.8, 0.6, 0.792745), 5e-7,
           lambda: [f(P, R) for f in (ic, rank_ic, kendall_tau, power_ic)]),
    Vector(45, "isotonic PAVA", "isotonic", (0.0, 0.4, 0.4, 0.4, 0.85, 0.85), 5e-7,
           lambda: isotonic(np.arange(6.0), np.array([0.0, 0.5, 0.3, 0.4, 1.0, 0.7])).values),
    Vector(46, "conformal rank, n = 99, 20", "conformal_rank", (90, 19), 0.0,
           lambda: [conformal_rank(n, 0.1) for n in (99, 20)]),
)  # fmt: skip
