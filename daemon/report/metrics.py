"""The figures of a run. Returns are of UTC days; a year has 365 of them.

Sharpe's standard error is Lo's for independent returns; the full inference comes with the
evaluation tools. NaN means 'cannot be known from this run'; `RunMetrics.why_unknown` says why.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.units import DAY_MS
from daemon.report.run_record import RunRecord

Floats = npt.NDArray[np.float64]
YEAR_DAYS = 365.0
SPREAD_RETURNS_MIN = 2  # daily returns below which there is no spread
PAIRED_RETURNS_MIN = 3  # and no correlation


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """Hold the figures; fractions are of equity unless the name says otherwise."""

    days: float
    daily_returns: int  # how many there are
    equity_first: float
    equity_last: float
    total_return: float
    annual_return: float
    annual_volatility: float
    sharpe: float
    sharpe_low: float  # 95 % interval
    sharpe_high: float
    drawdown_max: float
    gross_mean: float
    net_abs_mean: float
    net_abs_max: float
    turnover_per_year: float  # traded notional / mean equity
    fees: float  # quote currency
    funding: float  # quote currency, negative = paid
    shortfall: float  # quote currency, spread, impact and latency
    cost_bps: float  # fees and shortfall per traded notional
    correlation_first: float
    beta_first: float
    correlation_market: float
    beta_market: float

    def why_unknown(self, name: str) -> str:
        """Say why the figure of that name is NaN; empty when it is a number."""
        if math.isfinite(getattr(self, name)):
            return ""
        if name == "cost_bps":
            return "not defined: nothing was traded"
        if name == "annual_return":
            return "not defined: less than a day"
        paired = name.startswith(("correlation", "beta"))
        least = PAIRED_RETURNS_MIN if paired else SPREAD_RETURNS_MIN
        if self.daily_returns < least:
            return f"not defined: fewer than {least} daily returns"
        return "not defined: no variance"


def daily(times_ms: Floats | list[int], values: Floats) -> Floats:
    """Give the last value of each UTC day, in order; the day of an instant is the one it closes."""
    days = (np.asarray(times_ms, dtype=np.int64) - 1) // DAY_MS
    last = np.append(days[1:] != days[:-1], True)
    result: Floats = values[last]
    return result


def drawdown(equity: Floats) -> Floats:
    """Give the fall from the highest value so far, as a fraction <= 0, same shape."""
    return equity / np.maximum.accumulate(equity) - 1.0


def measure(record: RunRecord) -> RunMetrics:
    """Compute the figures of a run; raises ValueError when nothing was recorded."""
    if not record.times_ms:
        raise ValueError("the run recorded nothing: no bar closed in the period")
    equity, gross, net = (record.column(c) for c in ("equity", "gross", "net"))
    fees, funding, turnover, shortfall = (
        float(record.column(c)[-1]) for c in ("fees", "funding", "turnover", "shortfall")
    )
    days = max((record.times_ms[-1] - record.times_ms[0]) / DAY_MS, 1e-9)
    returns = _returns(daily(record.times_ms, equity))
    sharpe, error = _sharpe(returns)
    first = _returns(daily(record.times_ms, record.column("first")))
    market = _returns(daily(record.times_ms, record.column("market")))
    total = equity[-1] / equity[0] - 1.0
    return RunMetrics(
        days=days,
        daily_returns=len(returns),
        equity_first=float(equity[0]),
        equity_last=float(equity[-1]),
        total_return=float(total),
        annual_return=_annual(float(total), days),
        annual_volatility=_std(returns) * math.sqrt(YEAR_DAYS),
        sharpe=sharpe,
        sharpe_low=sharpe - 1.96 * error,
        sharpe_high=sharpe + 1.96 * error,
        drawdown_max=float(drawdown(equity).min()),
        gross_mean=float((gross / equity).mean()),
        net_abs_mean=float(np.abs(net / equity).mean()),
        net_abs_max=float(np.abs(net / equity).max()),
        turnover_per_year=turnover / float(equity.mean()) * YEAR_DAYS / days,
        fees=fees,
        funding=funding,
        shortfall=shortfall,
        cost_bps=(fees + shortfall) / turnover * 1e4 if turnover else math.nan,
        correlation_first=_correlation(returns, first),
        beta_first=_beta(returns, first),
        correlation_market=_correlation(returns, market),
        beta_market=_beta(returns, market),
    )


def _annual(total: float, days: float) -> float:
    """Compound a return to a year; less than a day says nothing about one."""
    if total <= -1.0:
        return -1.0
    return (1.0 + total) ** (YEAR_DAYS / days) - 1.0 if days >= 1.0 else math.nan


def _returns(values: Floats) -> Floats:
    result: Floats = values[1:] / values[:-1] - 1.0
    return result


def _std(returns: Floats) -> float:
    return float(returns.std(ddof=1)) if len(returns) >= SPREAD_RETURNS_MIN else math.nan


def _sharpe(returns: Floats) -> tuple[float, float]:
    """Give the annual Sharpe ratio and its standard error (Lo 2002, independent returns)."""
    spread = _std(returns)
    if not spread > 0:
        return math.nan, math.nan
    per_day = float(returns.mean()) / spread
    error = math.sqrt((1.0 + 0.5 * per_day**2) / len(returns))
    return per_day * math.sqrt(YEAR_DAYS), error * math.sqrt(YEAR_DAYS)


def _both(left: Floats, right: Floats) -> tuple[Floats, Floats]:
    known = (left == left) & (right == right)
    return left[known], right[known]


def _correlation(left: Floats, right: Floats) -> float:
    a, b = _both(left, right)
    if len(a) < PAIRED_RETURNS_MIN or not a.std() > 0 or not b.std() > 0:
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _beta(left: Floats, right: Floats) -> float:
    a, b = _both(left, right)
    if len(a) < PAIRED_RETURNS_MIN or not b.var() > 0:
        return math.nan
    return float(np.cov(a, b)[0, 1] / b.var(ddof=1))
