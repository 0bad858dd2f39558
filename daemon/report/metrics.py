"""The figures of a run. Returns are of UTC days; a year has 365 of them.

Sharpe's interval is that of `daemon.statistics.sharpe_interval`, here and wherever one is shown: it
holds on short and on dependent records. What else was tried is in the honest statistics of an
evaluation. With daily returns r:

    Sortino      mean(r) / sqrt(mean(min(r, 0)^2)) * sqrt(365)             Sortino and van der Meer
    information  mean(r - b) / sd(r - b) * sqrt(365),  b: a benchmark's returns, the equal-weight
                 market unless said otherwise
    turnover     sum over days of traded notional / equity before the day, x 365 / days of the run
    shares       fees, funding paid and shortfall, each divided by the gain before all three

NaN means 'cannot be known from this run'; `RunMetrics.why_unknown` says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.units import DAY_MS
from daemon.report.run_record import RunRecord
from daemon.statistics.sharpe import sharpe as sharpe_of
from daemon.statistics.sharpe_interval import sharpe_interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
YEAR_DAYS = 365.0
SPREAD_RETURNS_MIN = 2  # daily returns below which there is no spread
PAIRED_RETURNS_MIN = 3  # and no correlation
INTERVAL_RETURNS_MIN = 20  # and no interval: fewer say nothing about a ratio


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
    sortino: float
    information_ratio: float  # against the benchmark
    drawdown_max: float
    underwater_days_max: float  # longest time below a former height
    is_recovered: bool  # whether that time ended within the run
    gross_mean: float
    net_abs_mean: float
    net_abs_max: float
    turnover_per_year: float  # sum over days of traded notional / the equity before the day
    fees: float  # quote currency
    funding: float  # quote currency, negative = paid
    shortfall: float  # quote currency, spread, impact and latency
    cost_bps: float  # fees and shortfall per traded notional
    gross_gain: float  # quote currency, before fees, funding and shortfall
    fee_share: float  # of gross gain
    funding_share: float  # of gross gain, negative = earned
    shortfall_share: float  # of gross gain
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
        if name.endswith("_share"):
            return "not defined: no gain before costs"
        paired = name.startswith(("correlation", "beta"))
        least = PAIRED_RETURNS_MIN if paired else SPREAD_RETURNS_MIN
        if name in ("sharpe_low", "sharpe_high"):
            least = INTERVAL_RETURNS_MIN
        if self.daily_returns < least:
            return f"not defined: fewer than {least} daily returns"
        return "not defined: no losing day" if name == "sortino" else "not defined: no variance"


def day_ends(times_ms: npt.ArrayLike) -> tuple[Ints, Ints]:
    """Give UTC days since 1970, (D,), and the last row of each; an instant's day is one it closes.

    The first row is the opening of the book. It ends the day before the first one, so that the days
    after it hold all that was gained and paid, also where a run begins at noon.
    """
    days = (np.asarray(times_ms, dtype=np.int64) - 1) // DAY_MS
    if len(days) > 1:
        days[0] = min(days[0], days[1] - 1)
    rows = np.flatnonzero(np.append(days[1:] != days[:-1], True))
    return days[rows], rows


def daily(times_ms: npt.ArrayLike, values: Floats) -> Floats:
    """Give the first value and the last one of each UTC day after it, by `day_ends`, (D,)."""
    result: Floats = values[day_ends(times_ms)[1]]
    return result


def turnovers(record: RunRecord) -> Floats:
    """Give what was traded in each day after the first, over the equity before it, (D-1,)."""
    rows = day_ends(record.times_ms)[1]
    result: Floats = np.diff(record.column("turnover")[rows]) / record.column("equity")[rows[:-1]]
    return result


def monthly_returns(times_ms: npt.ArrayLike, values: Floats) -> dict[str, float]:
    """Give the return of every month such as 2024-03, of (T,) values; the first row opens the book.

    A close at midnight is the end of the month before, as it is of the day before.
    """
    return _period_returns(times_ms, values, "datetime64[M]")


def yearly_returns(times_ms: npt.ArrayLike, values: Floats) -> dict[str, float]:
    """Give the return of every year such as 2024; as `monthly_returns`."""
    return _period_returns(times_ms, values, "datetime64[Y]")


def _period_returns(times_ms: npt.ArrayLike, values: Floats, unit: str) -> dict[str, float]:
    closed = (np.asarray(times_ms, dtype=np.int64) - 1)[1:]
    stamps = closed.astype("datetime64[ms]").astype(unit)
    names, backwards = np.unique(stamps[::-1], return_index=True)
    ends = values[len(values) - 1 - backwards]
    returns = ends / np.append(values[0], ends[:-1]) - 1.0
    return {str(name): float(gain) for name, gain in zip(names, returns, strict=True)}


def drawdown(equity: Floats) -> Floats:
    """Give the fall from the highest value so far, as a fraction <= 0, same shape."""
    return equity / np.maximum.accumulate(equity) - 1.0


def underwater(times_ms: Sequence[int], equity: Floats) -> tuple[float, bool]:
    """Give the longest time in days below a former height, and whether it ended within the run.

    It begins at the last instant at that height and ends where equity reaches it again; an open
    one lasts until the end of the run. (0, True) for equity that never fell.
    """
    times = np.asarray(times_ms, dtype=np.int64)
    heights = np.flatnonzero(equity >= np.maximum.accumulate(equity))
    fell = np.diff(heights) > 1  # rows below lie in between
    ended = int(np.diff(times[heights])[fell].max(initial=0))
    still = int(times[-1] - times[heights[-1]])
    return max(ended, still) / DAY_MS, still == 0 or still < ended


def sortino(returns: Floats) -> float:
    """Give the annual Sortino ratio of (T,) daily returns against zero; NaN where none is lost."""
    if len(returns) < SPREAD_RETURNS_MIN or not (returns < 0).any():
        return math.nan
    below = math.sqrt(float((np.minimum(returns, 0.0) ** 2).mean()))
    return float(returns.mean()) / below * math.sqrt(YEAR_DAYS)


def information_ratio(returns: Floats, benchmark: Floats) -> float:
    """Give the annual information ratio of (T,) daily returns against a benchmark's (T,).

    Days where one of them is NaN are left out; NaN where the difference has no variance.
    """
    own, other = _both(returns, benchmark)
    return sharpe_with_interval(own - other)[0]


def sharpe_with_interval(returns: Floats) -> tuple[float, float, float]:
    """Give the annual Sharpe ratio of (T,) daily returns and the bounds of its 95 % interval.

    NaN where the returns do not vary or are not finite; the bounds also with fewer than 20 of them.
    """
    if not np.isfinite(returns).all() or not _std(returns) > 0:
        return math.nan, math.nan, math.nan
    ratio = sharpe_of(returns).annualised(YEAR_DAYS).ratio
    if len(returns) < INTERVAL_RETURNS_MIN:
        return ratio, math.nan, math.nan
    found, year = sharpe_interval(returns), math.sqrt(YEAR_DAYS)
    return ratio, found.low * year, found.high * year


def performance(equity: Floats, transfers: Floats) -> Floats:
    """Give what the first equity would have become without later deposits and withdrawals, (T,).

    transfers: (T,) running total of deposits less withdrawals. Returns from row to row are chained
    (time-weighted); a transfer counts as made at the end of its interval.
    """
    moved = np.diff(transfers)
    if not moved.any():
        return equity
    kept = (equity[1:] - moved) / equity[:-1]
    result: Floats = equity[0] * np.cumprod(np.append(1.0, kept))
    return result


def measure(
    record: RunRecord, *, benchmark: Floats | None = None, transfers: Floats | None = None
) -> RunMetrics:
    """Compute the figures of a run; raises ValueError when nothing was recorded.

    benchmark: (D,) daily returns of the days after the first, the equal-weight market by default.
    transfers: (T,) running total of deposits less withdrawals (`bookings.later_transfers`), which
    must be neither gain nor loss; none after the first row by default.
    """
    if not record.times_ms:
        raise ValueError("the run recorded nothing: no bar closed in the period")
    equity, gross, net = (record.column(c) for c in ("equity", "gross", "net"))
    flows = np.zeros(len(equity)) if transfers is None else transfers
    value = performance(equity, flows)
    fees, funding, turnover, shortfall = (
        float(record.column(c)[-1]) for c in ("fees", "funding", "turnover", "shortfall")
    )
    days = max((record.times_ms[-1] - record.times_ms[0]) / DAY_MS, 1e-9)
    returns = _returns(daily(record.times_ms, value))
    sharpe, low, high = sharpe_with_interval(returns)
    first = _returns(daily(record.times_ms, record.column("first")))
    market = _returns(daily(record.times_ms, record.column("market")))
    total = value[-1] / value[0] - 1.0
    longest, is_recovered = underwater(record.times_ms, value)
    gain, shares = _cost_shares(record, float(flows[-1] - flows[0]))
    return RunMetrics(
        days=days,
        daily_returns=len(returns),
        equity_first=float(equity[0]),
        equity_last=float(equity[-1]),
        total_return=float(total),
        annual_return=_annual(float(total), days),
        annual_volatility=_std(returns) * math.sqrt(YEAR_DAYS),
        sharpe=sharpe,
        sharpe_low=low,
        sharpe_high=high,
        sortino=sortino(returns),
        information_ratio=information_ratio(returns, market if benchmark is None else benchmark),
        drawdown_max=float(drawdown(value).min()),
        underwater_days_max=longest,
        is_recovered=is_recovered,
        gross_mean=float((gross / equity).mean()),
        net_abs_mean=float(np.abs(net / equity).mean()),
        net_abs_max=float(np.abs(net / equity).max()),
        turnover_per_year=float(turnovers(record).sum()) * YEAR_DAYS / days,
        fees=fees,
        funding=funding,
        shortfall=shortfall,
        cost_bps=(fees + shortfall) / turnover * 1e4 if turnover else math.nan,
        gross_gain=gain,
        fee_share=shares[0],
        funding_share=shares[1],
        shortfall_share=shares[2],
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


def _cost_shares(record: RunRecord, moved: float) -> tuple[float, tuple[float, float, float]]:
    """Give the gain before costs and the shares of fees, funding paid and shortfall in it.

    All from the first row on, whose equity holds what was paid by then; moved: transfers since.
    """
    equity, fees, funding, shortfall = (
        float(values[-1] - values[0])
        for values in map(record.column, ("equity", "fees", "funding", "shortfall"))
    )
    gain = equity - moved + fees - funding + shortfall
    if not gain > 0:
        return gain, (math.nan, math.nan, math.nan)
    return gain, (fees / gain, 0.0 - funding / gain, shortfall / gain)


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
