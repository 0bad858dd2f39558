"""The tests of the registered hypotheses: runs in, a verdict by the registered thresholds out.

Newey-West regression: b = (X'X)^-1 X'y, cov = (X'X)^-1 S (X'X)^-1,
    S = G_0 + sum over j <= L of (1 - j/(L+1)) (G_j + G_j'),
    G_j = sum over t of u_t x_t x'_{t-j} u_{t-j}
Random effects (DerSimonian and Laird 1986): weights 1/(s_i^2 + tau^2),
    tau^2 = max(0, (Q - (k-1)) / (sum w - sum w^2 / sum w)),  I^2 = max(0, (Q - (k-1)) / Q)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from daemon.domain.units import DAY_MS, require
from daemon.report.metrics import YEAR_DAYS
from daemon.research.hypotheses import (
    Hypothesis,
    Judgement,
    Protocol,
    Verdict,
    holm,
    not_testable,
)
from daemon.research.hypothesis_arms import Arm
from daemon.statistics.bootstrap import bootstrap_interval, stationary_indices
from daemon.statistics.skill import mean_ic, newey_west_lags

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Texts = npt.NDArray[np.str_]
Arms = Mapping[str, Arm]
INSTANTS_MIN: Final = 100  # decisions of a quarter or month below which its mean IC says nothing


def at_cost(name: str, bps: float) -> str:
    """Name the run of a plan at a cost."""
    return f"{name} at {bps:g} bps"


# ---- H4 ------------------------------------------------------------------------------------------


def annual_sharpe(returns: Floats) -> float:
    """Give the annual Sharpe ratio of (T,) daily returns; NaN where they do not vary."""
    if len(returns) < 2 or returns.max() == returns.min():
        return math.nan
    return float(returns.mean() / returns.std(ddof=1)) * math.sqrt(YEAR_DAYS)


def _difference(pair: Floats) -> float:
    return annual_sharpe(pair[:, 0]) - annual_sharpe(pair[:, 1])


def tuned(hypothesis: Hypothesis, arms: Arms) -> str:
    """Give the candidate whose tuning run has the best net Sharpe ratio; the first of equals.

    Gives an empty name where no tuning run has a ratio.
    """
    ratios = [annual_sharpe(arms[name].returns) for name in hypothesis.tuning]
    known = [r if math.isfinite(r) else -math.inf for r in ratios]
    best = int(np.argmax(known))
    return hypothesis.candidates[best] if math.isfinite(known[best]) else ""


def rebalancing(hypothesis: Hypothesis, protocol: Protocol, arms: Arms) -> Judgement:
    """Judge H4: the adaptive band against the tuned fixed one, at every cost without retuning."""
    fixed = tuned(hypothesis, arms)
    if not fixed:
        return not_testable("no fixed band traded in the tuning period")
    adaptive, *others = hypothesis.runs
    least = int(hypothesis.threshold("days_min"))
    level = 1.0 - protocol.level / protocol.family_size(hypothesis)
    figures: dict[str, float | int | str] = {"tuned": fixed, "interval_level": level}
    intervals = {}
    for bps in hypothesis.costs_bps:
        pair = _paired(arms[at_cost(adaptive, bps)], arms[at_cost(fixed, bps)])
        if len(pair) < least:
            return not_testable(f"{len(pair)} common days; {least} are needed")
        found = bootstrap_interval(
            _difference,
            pair,
            seed=protocol.seed,
            level=level,
            repetitions=protocol.repetitions,
        )
        intervals[bps] = found
        figures |= {
            f"sharpe_adaptive_{bps:g}bps": annual_sharpe(pair[:, 0]),
            f"sharpe_fixed_{bps:g}bps": annual_sharpe(pair[:, 1]),
            f"difference_{bps:g}bps": found.estimate,
            f"difference_{bps:g}bps_low": found.low,
            f"difference_{bps:g}bps_high": found.high,
        }
    middle = sorted(hypothesis.costs_bps)[len(hypothesis.costs_bps) // 2]
    mine = arms[at_cost(adaptive, middle)].turnover_per_year
    figures["turnover_adaptive"] = mine
    figures["turnover_fixed"] = arms[at_cost(fixed, middle)].turnover_per_year
    for name in others:
        arm = arms[at_cost(name, middle)]
        figures[f"turnover_{name}"] = arm.turnover_per_year
        figures[f"sharpe_{name}_{middle:g}bps"] = annual_sharpe(arm.returns)
    margin = hypothesis.threshold("margin_sharpe")
    if any(found.high < 0.0 for found in intervals.values()):
        return Judgement(
            Verdict.REFUTED, "at one cost at least the adaptive band is surely worse", figures
        )
    safe = all(found.low > -margin for found in intervals.values())
    thrifty = mine < arms[at_cost(others[0], middle)].turnover_per_year
    if safe and thrifty and intervals[middle].estimate >= 0.0:
        return Judgement(
            Verdict.SUPPORTED, "not worse at any cost, and it trades less than in full", figures
        )
    why = [] if safe else [f"an interval reaches below -{margin:g}"]
    why += [] if thrifty else ["it does not trade less than in full"]
    why += [] if intervals[middle].estimate >= 0.0 else [f"below 0 at {middle:g} bps"]
    return Judgement(Verdict.NOT_SHOWN, "; ".join(why), figures)


def _paired(first: Arm, second: Arm) -> Floats:
    """Give (T, 2) returns on the days that both have."""
    _, a, b = np.intersect1d(first.days, second.days, return_indices=True)
    return np.column_stack([first.returns[a], second.returns[b]])


# ---- H11 -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Regression:
    """Hold coefficients (p,) and their covariance (p, p)."""

    coefficients: Floats
    covariance: Floats


def newey_west_regression(y: Floats, X: Floats, lags: int) -> Regression:
    """Regress (T,) on (T, p) by least squares with Bartlett-weighted errors over `lags`."""
    T, p = X.shape
    require(len(y) == T and p < T, f"{len(y)} values on {X.shape}: need as many rows, and p < T")
    inverse = np.linalg.inv(X.T @ X)
    b = inverse @ (X.T @ y)
    scores = X * (y - X @ b)[:, None]  # (T, p)
    S = scores.T @ scores
    for j in range(1, lags + 1):
        G = scores[j:].T @ scores[:-j]
        S += (1.0 - j / (lags + 1)) * (G + G.T)
    return Regression(b, inverse @ S @ inverse)


class _Beta(NamedTuple):
    name: str
    value: float
    error: float
    p_value: float
    degrees: int

    def half(self, level: float) -> float:
        return float(stdtrit(self.degrees, 1.0 - level / 2.0)) * self.error


def neutrality(hypothesis: Hypothesis, protocol: Protocol, arms: Arms) -> Judgement:
    """Judge H11: betas to three markets and what falling ones add."""
    arm, least = arms[hypothesis.runs[0]], int(hypothesis.threshold("days_min"))
    if not arm.returns.any():
        return not_testable("the book never moved")
    terms: list[_Beta] = []
    falling: list[_Beta] = []
    for name, factor in (("btc", arm.btc), ("eth", arm.eth), ("market", arm.market)):
        known = np.isfinite(factor)
        if known.sum() < least:
            return not_testable(f"{int(known.sum())} days with returns of {name}; {least} needed")
        y, x = arm.returns[known], factor[known]
        X = np.column_stack([np.ones(len(x)), x, np.minimum(x, 0.0)])
        fit = newey_west_regression(y, X, newey_west_lags(len(y), 1))
        terms += [_term(f"beta_{name}", fit, np.array([0.0, 1.0, 0.0]), len(y))]
        terms += [_term(f"down_{name}", fit, np.array([0.0, 0.0, 1.0]), len(y))]
        falling += [_term(f"falling_{name}", fit, np.array([0.0, 1.0, 1.0]), len(y))]
    adjusted = holm([t.p_value for t in terms])
    figures: dict[str, float | int | str] = {"days": len(arm.returns)}
    for t, p in zip(terms, adjusted, strict=True):
        figures |= {t.name: t.value, f"{t.name}_error": t.error, f"{t.name}_p_holm": p}
    for t in falling:
        figures |= {t.name: t.value, f"{t.name}_error": t.error}
    window = int(hypothesis.threshold("rolling_days"))
    within = _rolling_within(arm, window, hypothesis.threshold("rolling_bound"))
    figures[f"share_of_{window}_day_betas_within_bound"] = within
    bad = [
        t.name
        for t, p in zip(terms, adjusted, strict=True)
        if p < protocol.level and abs(t.value) >= hypothesis.threshold("beta_material")
    ]
    if bad:
        return Judgement(Verdict.REFUTED, f"significant and material: {', '.join(bad)}", figures)
    bound = hypothesis.threshold("beta_bound")
    checked = [t for t in (*terms, *falling) if not t.name.startswith("down_")]
    wide = [t.name for t in checked if abs(t.value) + t.half(protocol.level) > bound]
    downs = [
        t.name
        for t, p in zip(terms, adjusted, strict=True)
        if t.name.startswith("down_") and p < protocol.level
    ]
    if not wide and not downs:
        return Judgement(
            Verdict.SUPPORTED, f"all betas lie within +-{bound:g} with their intervals", figures
        )
    why = [f"intervals reach beyond +-{bound:g}: {', '.join(wide)}"] if wide else []
    why += [f"falling markets add: {', '.join(downs)}"] if downs else []
    return Judgement(Verdict.NOT_SHOWN, "; ".join(why), figures)


def _term(name: str, fit: Regression, pick: Floats, observations: int) -> _Beta:
    value = float(pick @ fit.coefficients)
    error = math.sqrt(max(float(pick @ fit.covariance @ pick), 0.0))
    degrees = observations - len(pick)
    p = 2.0 * float(stdtr(degrees, -abs(value / error))) if error > 0.0 else 1.0
    return _Beta(name, value, error, p, degrees)


def _rolling_within(arm: Arm, window: int, bound: float) -> float:
    """Give the share of rolling betas to BTC within the bound; NaN without a whole window."""
    known = np.isfinite(arm.btc)
    y, x = arm.returns[known], arm.btc[known]
    if len(y) < window:
        return math.nan
    ys = np.lib.stride_tricks.sliding_window_view(y, window)
    xs = np.lib.stride_tricks.sliding_window_view(x, window)
    dx = xs - xs.mean(axis=1, keepdims=True)
    betas = (dx * ys).sum(axis=1) / (dx**2).sum(axis=1)
    return float((np.abs(betas) < bound).mean())


# ---- H14 -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RandomEffects:
    """Hold a pooled mean, its error, the variance between groups and I^2 in [0, 1]."""

    mean: float
    error: float
    tau2: float
    heterogeneity: float


def random_effects(means: Floats, errors: Floats) -> RandomEffects:
    """Pool (k,) means with positive standard errors, k >= 2 (DerSimonian and Laird)."""
    k = len(means)
    require(k >= 2 and bool((errors > 0).all()), "pooling needs two groups with positive errors")
    w = errors**-2.0
    fixed = float(w @ means / w.sum())
    Q = float(w @ (means - fixed) ** 2)
    tau2 = max(0.0, (Q - (k - 1)) / float(w.sum() - (w**2).sum() / w.sum()))
    v = 1.0 / (errors**2 + tau2)
    i2 = max(0.0, (Q - (k - 1)) / Q) if Q > 0.0 else 0.0
    return RandomEffects(float(v @ means / v.sum()), float(v.sum()) ** -0.5, tau2, i2)


def stability(hypothesis: Hypothesis, protocol: Protocol, arms: Arms) -> Judgement:
    """Judge H14: is the skill there quarter by quarter?"""
    from scipy.stats import binom  # heavy, and most commands do without

    arm = arms[hypothesis.runs[0]]
    figures: dict[str, float | int | str] = {}
    means, errors, gains = [], [], []
    of_instant, of_day = _quarters(arm.instants), _quarters(arm.days * DAY_MS)
    for quarter in np.unique(of_instant).tolist():
        inside = of_instant == quarter
        found = mean_ic(arm.ic[inside], horizon_bars=6)
        if found.instants < INSTANTS_MIN or not found.standard_error > 0.0:
            continue
        means.append(found.mean)
        errors.append(found.standard_error)
        gains.append(float(arm.returns[of_day == quarter].sum()))
        figures |= {f"ic_{quarter}": found.mean, f"ic_{quarter}_t": found.t}
        figures[f"return_{quarter}"] = gains[-1]
    least = max(int(hypothesis.threshold("quarters_min")), 2)
    if len(means) < least:
        return not_testable(f"{len(means)} quarters with enough decisions; {least} are needed")
    pooled = random_effects(np.array(means), np.array(errors))
    positive = int(np.sum(np.array(means) > 0.0))
    share = positive / len(means)
    won = sum(max(gain, 0.0) for gain in gains)
    one = max(gains) / won if won > 0.0 else math.nan
    t = pooled.mean / pooled.error
    half = float(ndtri(1.0 - protocol.level / 2.0)) * pooled.error
    figures |= {
        "quarters": len(means),
        "quarters_positive": positive,
        "sign_test_p": min(1.0, 2.0 * float(binom.sf(positive - 1, len(means), 0.5))),
        "pooled_ic": pooled.mean,
        "pooled_t": t,
        "pooled_p": 2.0 * float(ndtr(-abs(t))),
        "i_squared": pooled.heterogeneity,
        "largest_quarter_share_of_gains": one,
    }
    if pooled.mean + half < 0.0:
        return Judgement(Verdict.REFUTED, "the pooled IC is significantly below 0", figures)
    if share <= hypothesis.threshold("refuted_share_max"):
        return Judgement(
            Verdict.REFUTED, f"{positive} of {len(means)} quarters have a positive IC", figures
        )
    missed = []
    if share < hypothesis.threshold("positive_share_min"):
        missed.append(f"only {positive} of {len(means)} quarters have a positive IC")
    if not t > hypothesis.threshold("t_min"):
        missed.append(f"the pooled t is {t:.2f}")
    if not one <= hypothesis.threshold("one_quarter_share_max"):
        missed.append("no gains" if math.isnan(one) else f"one quarter supplies {one:.0%} of gains")
    if missed:
        return Judgement(Verdict.NOT_SHOWN, "; ".join(missed), figures)
    why = f"{positive} of {len(means)} quarters have a positive IC, pooled t {t:.1f}"
    return Judgement(Verdict.SUPPORTED, why, figures)


def _months(at_ms: Ints) -> Texts:
    """Name the UTC month of each instant, as 2024-03."""
    return np.datetime_as_string(at_ms.astype("datetime64[ms]"), unit="M")


def _quarters(at_ms: Ints) -> Texts:
    """Name the UTC quarter of each instant, as 2024Q1."""
    months = at_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    return np.array([f"{1970 + m // 12}Q{m % 12 // 3 + 1}" for m in months.tolist()])


# ---- H15 -----------------------------------------------------------------------------------------


def accuracy(hypothesis: Hypothesis, protocol: Protocol, arms: Arms) -> Judgement:
    """Judge H15: does IC x dispersion or turnover decide a strategy's month?"""
    months, rows = _monthly([arms[name] for name in hypothesis.runs])
    if len(hypothesis.runs) < hypothesis.threshold("strategies_min"):
        return not_testable(f"{len(hypothesis.runs)} strategies are too few")
    if len(months) < hypothesis.threshold("months_min"):
        least = hypothesis.threshold("months_min")
        return not_testable(f"{len(months)} common months; {least:g} are needed")
    skill, turnover, fit = _slopes(rows)
    if math.isnan(fit):
        return not_testable("a regressor or the profit does not vary")
    rng = np.random.default_rng(protocol.seed)
    draws = stationary_indices(
        rng,
        len(months),
        block_mean=hypothesis.threshold("block_months"),
        repetitions=protocol.repetitions,
    )
    seen = np.array([_slopes(rows[index])[:2] for index in draws])  # (B, 2)
    gaps = np.abs(seen[:, 0]) - np.abs(seen[:, 1])
    tails = [protocol.level / 2.0, 1.0 - protocol.level / 2.0]
    low, high = (float(x) for x in np.quantile(gaps, tails))
    ends = np.quantile(seen, tails, axis=0)
    figures: dict[str, float | int | str] = {
        "months": len(months),
        "strategies": len(hypothesis.runs),
        "slope_ic_x_dispersion": skill,
        "slope_ic_x_dispersion_low": float(ends[0, 0]),
        "slope_ic_x_dispersion_high": float(ends[1, 0]),
        "slope_turnover": turnover,
        "slope_turnover_low": float(ends[0, 1]),
        "slope_turnover_high": float(ends[1, 1]),
        "r_squared": fit,
        "gap": abs(skill) - abs(turnover),
        "gap_low": low,
        "gap_high": high,
    }
    if low > 0.0:
        return Judgement(Verdict.SUPPORTED, "accuracy weighs more than turnover", figures)
    if high < 0.0:
        return Judgement(Verdict.REFUTED, "turnover weighs more than accuracy", figures)
    return Judgement(Verdict.NOT_SHOWN, "the interval of the gap includes 0", figures)


def _monthly(arms: list[Arm]) -> tuple[list[str], Floats]:
    """Give the months that all arms have, and (months, arms, 3): net, IC x dispersion, turnover."""
    tables = [_by_month(arm) for arm in arms]
    common = sorted(set.intersection(*(set(table) for table in tables)))
    rows = [[table[month] for table in tables] for month in common]
    return common, np.array(rows, dtype=np.float64).reshape(len(common), len(arms), 3)


def _by_month(arm: Arm) -> dict[str, tuple[float, float, float]]:
    of_day, of_instant = _months(arm.days * DAY_MS), _months(arm.instants)
    found = {}
    for month in np.unique(of_day).tolist():
        inside, days = of_instant == month, of_day == month
        skill, spread = arm.ic[inside], arm.dispersion[inside]
        known = np.isfinite(skill) & np.isfinite(spread)
        if known.sum() >= INSTANTS_MIN:
            found[month] = (
                float(arm.returns[days].sum()),
                float(skill[known].mean() * spread[known].mean()),
                float(arm.turnover[days].sum()),
            )
    return found


def _slopes(rows: Floats) -> tuple[float, float, float]:
    """Give both standardised slopes and R^2 of (months, arms, 3); NaN where nothing varies."""
    flat = rows.reshape(-1, 3)
    spread = flat.std(axis=0)
    if not (spread > 0.0).all():
        return math.nan, math.nan, math.nan
    z = (flat - flat.mean(axis=0)) / spread
    b, *_ = np.linalg.lstsq(z[:, 1:], z[:, 0], rcond=None)
    rest = z[:, 0] - z[:, 1:] @ b
    return float(b[0]), float(b[1]), 1.0 - float(rest @ rest) / len(z)


# ---- H16 -----------------------------------------------------------------------------------------


def concentration(hypothesis: Hypothesis, protocol: Protocol, arms: Arms) -> Judgement:
    """Judge H16: how many more positions does scaling by volatility leave?"""
    arm = arms[hypothesis.runs[0]]
    daily = _daily_means(arm, np.column_stack([arm.raw_n, arm.scaled_n]))
    least = int(hypothesis.threshold("days_min"))
    if len(daily) < least:
        return not_testable(f"{len(daily)} days with both books; {least} are needed")
    found = bootstrap_interval(
        lambda x: float(x[:, 1].mean() / x[:, 0].mean()),
        daily,
        seed=protocol.seed,
        level=1.0 - protocol.level,
        repetitions=protocol.repetitions,
    )
    figures: dict[str, float | int | str] = {
        "days": len(daily),
        "effective_raw": float(daily[:, 0].mean()),
        "effective_scaled": float(daily[:, 1].mean()),
        "ratio": found.estimate,
        "ratio_low": found.low,
        "ratio_high": found.high,
        "largest_share_raw": float(np.nanmean(arm.raw_share)),
        "largest_share_scaled": float(np.nanmean(arm.scaled_share)),
    }
    line = hypothesis.threshold("ratio_min")
    if found.low > line:
        return Judgement(Verdict.SUPPORTED, f"the ratio lies above {line:g}", figures)
    if found.high < line:
        return Judgement(Verdict.REFUTED, f"the ratio lies below {line:g}", figures)
    return Judgement(Verdict.NOT_SHOWN, f"the interval includes {line:g}", figures)


def _daily_means(arm: Arm, values: Floats) -> Floats:
    """Average (M, k) values of decisions by UTC day, rows with a NaN left out: (T, k)."""
    known = np.isfinite(values).all(axis=1)
    days = (arm.instants[known] - 1) // DAY_MS
    return np.array([values[known][days == day].mean(axis=0) for day in np.unique(days)])


Test = Callable[[Hypothesis, Protocol, Arms], Judgement]
TESTS: Final[Mapping[str, Test]] = {
    "rebalancing": rebalancing,
    "neutrality": neutrality,
    "stability": stability,
    "accuracy": accuracy,
    "concentration": concentration,
}
