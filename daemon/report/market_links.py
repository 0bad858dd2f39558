"""How a run's daily returns moved with a market, with intervals that allow for dependence.

    y_t = a + b x_t                         the beta
    y_t = a+ + b+ x_t where x_t >= 0,       the betas of up days and of down days, each with its own
          a- + b- x_t elsewhere             mean (Ang, Chen and Xing 2006, with zero as the border)

by least squares. Their covariance is the sandwich (X'X)^-1 S (X'X)^-1 T/(T - p) with

    S = G_0 + sum over j = 1..L of (1 - j/(L+1)) (G_j + G_j'),  G_j = sum x_t u_t u_{t-j} x_{t-j}'

(Newey and West 1987), L = floor(4 (T/100)^(2/9)); intervals from Student's t(T - p).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.statistics.checks import same_length

Floats = npt.NDArray[np.float64]

CORRELATION_DAYS_MIN: Final = 3
BETA_DAYS_MIN: Final = 20
SIDE_DAYS_MIN: Final = 15  # up days, and down days as many
LEVEL: Final = 0.95


@dataclass(frozen=True, slots=True)
class Slope:
    """Hold a beta with its Newey-West t value and two-sided 95 % interval; NaN where `why`."""

    beta: float
    t_value: float
    low: float
    high: float
    days: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class MarketLink:
    """Hold how daily returns moved with one market; correlation is NaN where `why` says so.

    days: with a return on both sides.
    """

    market: str
    days: int
    correlation: float
    beta: Slope
    beta_up: Slope
    beta_down: Slope
    why: str = ""


def market_link(name: str, returns: Floats, market: Floats) -> MarketLink:
    """Link (D,) daily returns to a market's (D,); days where one of them is NaN are left out."""
    same_length(returns, market, "returns, market")
    known = np.isfinite(returns) & np.isfinite(market)
    y, x = returns[known], market[known]
    why = _too_few(len(y), CORRELATION_DAYS_MIN, "daily returns") or _still(y, x)
    correlation = math.nan if why else float(np.corrcoef(x, y)[0, 1])
    up = x >= 0
    return MarketLink(
        name,
        len(y),
        correlation,
        _beta(x, y),
        _side(x, y, up, "up"),
        _side(x, y, ~up, "down"),
        why,
    )


def _beta(x: Floats, y: Floats) -> Slope:
    why = _too_few(len(y), BETA_DAYS_MIN, "daily returns") or _still(x)
    return _unknown(len(y), why) if why else _slope(np.column_stack((np.ones(len(x)), x)), y)


def _side(x: Floats, y: Floats, side: npt.NDArray[np.bool_], name: str) -> Slope:
    days = int(side.sum())
    why = _too_few(days, SIDE_DAYS_MIN, f"{name} days") or _still(x[side])
    if why:
        return _unknown(days, why)
    # The days of a side keep their places in time, so that lags count days and not up days.
    own = side.astype(np.float64)
    slope = _slope(np.column_stack((own, own * x)), y * own)
    return Slope(slope.beta, slope.t_value, slope.low, slope.high, days)


def _slope(design: Floats, y: Floats) -> Slope:
    """Give the last coefficient of (T, p) regressors; rows of zeros are days that do not count."""
    from scipy.special import stdtrit  # heavy, and a plain backtest does without

    weights = design.any(axis=1)
    T, p = int(weights.sum()), design.shape[1]
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ (design.T @ y)
    scores = design * (y - design @ beta)[:, None]  # (T, p)
    lags = min(int(4.0 * (len(y) / 100.0) ** (2.0 / 9.0)), len(y) - 1)
    middle = scores.T @ scores
    for j in range(1, lags + 1):
        g = scores[j:].T @ scores[:-j]
        middle += (1.0 - j / (lags + 1)) * (g + g.T)
    variance = float((inverse @ middle @ inverse)[-1, -1]) * T / (T - p)
    error, found = math.sqrt(max(variance, 0.0)), float(beta[-1])
    half = float(stdtrit(T - p, 0.5 + LEVEL / 2.0)) * error
    t_value = found / error if error > 0.0 else math.nan
    return Slope(found, t_value, found - half, found + half, T)


def _unknown(days: int, why: str) -> Slope:
    return Slope(math.nan, math.nan, math.nan, math.nan, days, why)


def _too_few(days: int, least: int, what: str) -> str:
    return f"not defined: {days} {what}, at least {least} are needed" if days < least else ""


def _still(*sides: Floats) -> str:
    moves = all(float(np.ptp(side)) > 0.0 for side in sides)
    return "" if moves else "not defined: no variance"
