"""The figures of a run: by hand, and against pandas and scipy where they know the same figure."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.metrics import daily, drawdown, measure
from daemon.report.run_record import BookRow, RunRecord

MIDNIGHT = 19_000 * DAY_MS


def record_of(
    equity: list[float],
    *,
    step_ms: int = DAY_MS,
    first: list[float] | None = None,
    second: list[float] | None = None,
    gross: float = 0.0,
    net: float = 0.0,
    turnover: float = 0.0,
    fees: float = 0.0,
    shortfall: float = 0.0,
    funding: float = 0.0,
) -> RunRecord:
    """Record equities at one close after another; running totals grow evenly to what is given."""
    record, n = RunRecord(), len(equity)
    for i, value in enumerate(equity):
        share = (i + 1) / n
        marks = np.array([(first or [100.0] * n)[i], (second or [50.0] * n)[i]])
        row = BookRow(
            equity=value,
            net=net,
            fees=Decimal(fees * share),
            funding=Decimal(funding * share),
            turnover=Decimal(turnover * share),
            shortfall=shortfall * share,
            quantity=np.array([gross / marks[0], 0.0]),
            marks=marks,
        )
        record.add(MIDNIGHT + (i + 1) * step_ms, row)
    return record


def test_a_day_ends_at_midnight_and_its_last_value_counts() -> None:
    times = [MIDNIGHT + h * HOUR_MS for h in (12, 24, 25, 48, 49)]
    values = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    assert daily(times, values).tolist() == [2.0, 4.0, 5.0]


def test_drawdown_is_the_fall_from_the_highest_so_far() -> None:
    found = drawdown(np.array([100.0, 110.0, 99.0, 120.0, 90.0]))
    assert found.tolist() == pytest.approx([0.0, 0.0, -0.1, 0.0, -0.25])


def test_the_figures_of_five_days_by_hand() -> None:
    record = record_of(
        [1000.0, 1010.0, 999.9, 1019.898, 1009.69902],
        gross=500.0,
        net=-20.0,
        turnover=5_000.0,
        fees=2.5,
        shortfall=1.0,
        funding=-3.0,
    )
    m = measure(record)
    returns = [0.01, -0.01, 0.02, -0.01]
    mean, spread = 0.0025, math.sqrt(sum((r - 0.0025) ** 2 for r in returns) / 3)
    assert m.days == 4.0
    assert (m.equity_first, m.equity_last) == (1000.0, 1009.69902)
    assert m.total_return == pytest.approx(0.00969902)
    assert m.annual_return == pytest.approx(1.00969902 ** (365 / 4) - 1)
    assert m.annual_volatility == pytest.approx(spread * math.sqrt(365))
    assert m.sharpe == pytest.approx(mean / spread * math.sqrt(365))
    width = 1.96 * math.sqrt((1 + 0.5 * (mean / spread) ** 2) / 4) * math.sqrt(365)
    assert m.sharpe_low == pytest.approx(m.sharpe - width)
    assert m.sharpe_high == pytest.approx(m.sharpe + width)
    assert m.drawdown_max == pytest.approx(-0.01)
    assert m.net_abs_max == pytest.approx(20 / 999.9)
    assert m.gross_mean == pytest.approx(np.mean([500 / e for e in record.column("equity")]))
    assert m.turnover_per_year == pytest.approx(5_000 / 1007.899404 * 365 / 4)
    assert m.cost_bps == pytest.approx(7.0)  # 3.50 of 5,000 traded
    assert (m.fees, m.funding, m.shortfall) == (2.5, -3.0, 1.0)


def test_the_figures_of_hourly_rows_are_those_of_pandas_and_scipy() -> None:
    rng = np.random.default_rng(4)
    n = 40 * 24
    market = np.cumprod(1 + rng.normal(0, 0.01, n)) * 100
    other = np.cumprod(1 + rng.normal(0, 0.01, n)) * 50
    equity = 1e4 * np.cumprod(1 + rng.normal(0.0002, 0.002, n) + 0.1 * np.gradient(market) / market)
    record = record_of(
        equity.tolist(), step_ms=HOUR_MS, first=market.tolist(), second=other.tolist()
    )
    m = measure(record)
    # pandas' days are closed on the left: a millisecond earlier puts midnight where it belongs
    when = pd.to_datetime(np.array(record.times_ms) - 1, unit="ms", utc=True)
    frame = pd.DataFrame({"equity": equity, "first": market}, index=when)
    days = frame.resample("1D").last().pct_change().dropna()
    assert len(days) == 39
    assert m.annual_volatility == pytest.approx(days["equity"].std() * math.sqrt(365))
    assert m.sharpe == pytest.approx(days["equity"].mean() / days["equity"].std() * math.sqrt(365))
    line = stats.linregress(days["first"], days["equity"])
    assert m.beta_first == pytest.approx(line.slope)
    assert m.correlation_first == pytest.approx(line.rvalue)
    falls = frame["equity"] / frame["equity"].cummax() - 1
    assert m.drawdown_max == pytest.approx(falls.min())
    equal = (frame["first"].pct_change() + pd.Series(other, when).pct_change()).fillna(0) / 2
    index = (1 + equal).cumprod()
    assert record.column("market").tolist() == pytest.approx(index.tolist())
    days["market"] = index.resample("1D").last().pct_change().dropna()
    assert m.correlation_market == pytest.approx(days["equity"].corr(days["market"]))
    covariance = days["equity"].cov(days["market"])
    assert m.beta_market == pytest.approx(covariance / days["market"].var())


def test_what_cannot_be_known_is_nan_and_never_zero() -> None:
    m = measure(record_of([1000.0, 1000.0]))
    assert m.total_return == 0.0
    for name in ("sharpe", "sharpe_low", "cost_bps", "correlation_first", "beta_market"):
        assert math.isnan(getattr(m, name))
    flat = measure(record_of([1000.0] * 6, first=[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]))
    assert math.isnan(flat.sharpe)
    assert math.isnan(flat.correlation_first)
    assert flat.beta_first == 0.0


def test_a_single_row_has_figures_too() -> None:
    m = measure(record_of([1000.0]))
    assert m.total_return == 0.0
    assert math.isnan(m.annual_volatility)


def test_a_run_of_an_hour_says_nothing_about_a_year() -> None:
    m = measure(record_of([1000.0, 1100.0], step_ms=HOUR_MS // 2))
    assert m.total_return == pytest.approx(0.1)
    assert math.isnan(m.annual_return)


def test_a_lost_account_loses_everything_a_year_too() -> None:
    m = measure(record_of([1000.0, 500.0, -1.0]))
    assert m.annual_return == -1.0


def test_an_instrument_that_joins_later_moves_the_market_from_its_second_bar() -> None:
    nan = math.nan
    record = record_of([1.0] * 4, first=[100.0, 110.0, 110.0, 110.0], second=[nan, nan, 5.0, 10.0])
    assert record.column("market").tolist() == pytest.approx([1.0, 1.1, 1.1, 1.1 * 1.5])
    late = record_of([1.0] * 5, first=[nan, nan, 3.0, 6.0, 3.0])
    assert math.isnan(measure(late).beta_first)  # two known returns are too few


def test_a_run_without_a_row_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no bar closed"):
        measure(RunRecord())
