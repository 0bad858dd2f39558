"""Statistical arbitrage: each coin against its like, by the mean reversion of what factors leave.

After Avellaneda and Lee, "Statistical arbitrage in the US equities market", Quantitative Finance 10
(2010) 761-782, on hourly bars and from one window of L returns alone:

    F_j      = sum over i of (v_ij / sigma_i) r_i       eigenportfolios: v_j are the first M
                                                        eigenvectors of the correlation
    r_i      = a_i + sum over j of b_ij F_j + e_i       least squares over the window
    X_i(t)   = sum of e_i up to t                       what is left of the coin, X(L) = 0
    X(t+1)   = c + b X(t) + noise                       an Ornstein-Uhlenbeck process seen hourly
    half-life = log 2 / -log b,  m = c / (1 - b),  s_eq^2 = var(noise) / (1 - b^2)
    s_i      = (X_i(L) - m_i + mean of m) / s_eq,i      their s-score, cut at +-3
    alpha_i  = -IC s_i,  u = IC^2

Pairs and peers need no list of their own: the eigenportfolios are the groups that move together. A
coin whose b is not between 0 and the b of `half_life_hours_max` is not seen to revert, and nothing
is expected of it: alpha 0. With the defaults that asks for L (b - 1) < -14, about what a
Dickey-Fuller test at 5% asks for (MacKinnon 1994). No alpha (NaN) for a coin that is not covered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.view import View
from strategies.book import RISK_TIMEFRAME
from strategies.knobs import check_range, read_settings
from strategies.risk import ResidualRisk
from strategies.scored import SCORE_MAX, Scored, ScoreSettings, carried_returns

COINS_PER_FACTOR: Final = 4  # fewer, and the factors explain each coin by itself
SPREAD_MIN: Final = 1e-12


@dataclass(frozen=True, slots=True)
class PairsSettings(ScoreSettings):
    """Hold the window, the number of factors, and the slowest reversion that counts."""

    OWNER: ClassVar[str] = "pairs"

    alpha_half_life_hours: float = 12.0
    lookback_hours: int = 336
    factors_n: int = 3
    half_life_hours_max: float = 16.0

    def __post_init__(self) -> None:
        ScoreSettings.__post_init__(self)
        check_range(self.OWNER, "lookback_hours", self.lookback_hours, 48, 10_000)
        check_range(self.OWNER, "factors_n", self.factors_n, 1, 50)
        check_range(self.OWNER, "half_life_hours_max", self.half_life_hours_max, 0.1, 10_000)


class Reversion(NamedTuple):
    """Hold the fitted reversion of columns (n,): b an hour, the level m, the spread s_eq."""

    b: Floats
    level: Floats
    spread: Floats


def build(settings: Mapping[str, object]) -> Scored[PairsSettings]:
    """Make the strategy from settings as the configuration file has them."""
    knobs = read_settings(PairsSettings, settings, PairsSettings.OWNER)
    return Scored(
        settings=knobs,
        alpha=alpha,
        variance=knobs.information_coefficient**2,
        bars=knobs.lookback_hours + 1,
    )


def alpha(knobs: PairsSettings, view: View, risk: ResidualRisk, usable: Flags) -> Floats:
    """Give the alphas (N,): against the s-score, 0 where nothing is seen to revert."""
    returns = carried_returns(view.windows[RISK_TIMEFRAME].closes, knobs.lookback_hours)
    moves = np.where(np.isfinite(returns), returns, 0.0).std(axis=0)
    covered = np.flatnonzero(usable & np.isfinite(returns[0]) & (moves > 0))
    found = np.full(len(usable), np.nan)
    factors_n = min(knobs.factors_n, len(covered) // COINS_PER_FACTOR)
    if factors_n == 0:
        return found
    left = left_of_factors(returns[:, covered], factors_n)
    fitted = reversion(left)
    slowest = 0.5 ** (1.0 / knobs.half_life_hours_max)
    reverts = (fitted.b > 0) & (fitted.b <= slowest) & (fitted.spread > SPREAD_MIN)
    score = np.zeros(len(covered))
    if reverts.any():
        apart = left[-1] - fitted.level + float(fitted.level[reverts].mean())
        score[reverts] = (apart / np.where(reverts, fitted.spread, 1.0))[reverts]
    found[covered] = -knobs.information_coefficient * np.clip(score, -SCORE_MAX, SCORE_MAX)
    return found


def left_of_factors(returns: Floats, factors_n: int) -> Floats:
    """Give X (L, n): the running sum of what eigenportfolios leave of returns (L, n)."""
    centred = returns - returns.mean(axis=0)
    sigma = centred.std(axis=0)
    unit = centred / sigma
    correlation = unit.T @ unit / len(unit)
    vectors = np.linalg.eigh(correlation)[1][:, -factors_n:]  #                (n, M)
    # Least squares on eigenportfolios of the very same window: their returns are uncorrelated.
    factors = unit @ vectors  #                                                (L, M)
    slopes = factors.T @ centred / (factors**2).sum(axis=0)[:, None]  #        (M, n)
    return np.asarray(np.cumsum(centred - factors @ slopes, axis=0))


def reversion(levels: Floats) -> Reversion:
    """Fit X(t+1) = c + b X(t) + noise to each column of levels (L, n) by least squares."""
    before, after = levels[:-1], levels[1:]
    x, y = before - before.mean(axis=0), after - after.mean(axis=0)
    power = (x**2).sum(axis=0)
    b = (x * y).sum(axis=0) / np.where(power > 0, power, np.inf)
    inside = (b > 0) & (b < 1)
    c = after.mean(axis=0) - b * before.mean(axis=0)
    noise = ((y - b * x) ** 2).mean(axis=0)
    level = np.where(inside, c / np.where(inside, 1.0 - b, 1.0), 0.0)
    spread = np.where(inside, np.sqrt(noise / np.where(inside, 1.0 - b**2, 1.0)), 0.0)
    return Reversion(b, level, spread)
