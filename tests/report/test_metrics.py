"""The figures of a run: by hand, and against pandas and scipy where they know the same figure."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.fft import dct

from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.honesty import judge
from daemon.report.metrics import (
    INTERVAL_RETURNS_MIN,
    daily,
    day_ends,
    drawdown,
    information_ratio,
    measure,
    monthly_returns,
    yearly_returns,
)
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
    times = [MIDNIGHT + h * HOUR_MS for h in (0, 12, 24, 25, 48, 49)]
    values = np.array([1.0, 1.5, 2.0, 3.0, 4.0, 5.0])
    assert daily(times, values).tolist() == [1.0, 2.0, 4.0, 5.0]


def test_the_opening_stands_before_the_first_day_wherever_in_it_a_run_begins() -> None:
    first = MIDNIGHT // DAY_MS
    for begin in (0, 1, 13, 23):  # hours after midnight
        times = [MIDNIGHT + h * HOUR_MS for h in (begin, 24, 48)]
        days, rows = day_ends(times)
        assert days.tolist() == [first - 1, first, first + 1]
        assert rows.tolist() == [0, 1, 2]
    days, rows = day_ends([MIDNIGHT, MIDNIGHT + 100 * HOUR_MS])  # nothing came for four days
    assert days.tolist() == [first - 1, first + 4]
    assert day_ends([MIDNIGHT + HOUR_MS])[0].tolist() == [first]


def test_months_and_years_are_chained_from_the_opening() -> None:
    new_year = 1_704_067_200_000  # 2024-01-01
    times = [new_year + d * DAY_MS for d in (-1, 0, 31, 45)]  # December, then January, then half
    values = np.array([100.0, 110.0, 99.0, 101.97])
    months, years = monthly_returns(times, values), yearly_returns(times, values)
    assert months == pytest.approx({"2023-12": 0.1, "2024-01": -0.1, "2024-02": 0.03})
    assert years == pytest.approx({"2023": 0.1, "2024": 0.9 * 1.03 - 1})


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
    assert m.why_unknown("sharpe_low") == "not defined: fewer than 20 daily returns"
    # losses of .01 on two of four days
    assert m.sortino == pytest.approx(mean / math.sqrt(2 * 0.01**2 / 4) * math.sqrt(365))
    # gain 9.69902, and 2.50, 1 and 3 were paid; a fifth of each by the first row
    assert m.gross_gain == pytest.approx(9.69902 + 0.8 * 6.5)
    assert m.fee_share == pytest.approx(2.0 / 14.89902)
    assert m.shortfall_share == pytest.approx(0.8 / 14.89902)
    assert m.funding_share == pytest.approx(2.4 / 14.89902)
    # 1010 on day 1 is reached again on day 3; 1019.898 of day 3 not by day 4
    assert (m.underwater_days_max, m.is_recovered) == (2.0, True)
    assert m.information_ratio == pytest.approx(m.sharpe)  # the market stood still
    assert m.drawdown_max == pytest.approx(-0.01)
    assert m.net_abs_max == pytest.approx(20 / 999.9)
    assert m.gross_mean == pytest.approx(np.mean([500 / e for e in record.column("equity")]))
    # a thousand a day, each over the equity before the day
    before = [1000.0, 1010.0, 999.9, 1019.898]
    assert m.turnover_per_year == pytest.approx(sum(1_000 / e for e in before) * 365 / 4)
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
    ends = frame.resample("1D").last()
    days = pd.concat([frame.iloc[:1], ends]).pct_change().dropna()  # from the opening on
    assert len(days) == 40
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
    closes = pd.concat([index.iloc[:1], index.resample("1D").last()])
    days["market"] = closes.pct_change().dropna()
    assert m.correlation_market == pytest.approx(days["equity"].corr(days["market"]))
    covariance = days["equity"].cov(days["market"])
    assert m.beta_market == pytest.approx(covariance / days["market"].var())


def test_sharpe_interval_is_what_the_statistics_say_of_the_same_returns() -> None:
    rng = np.random.default_rng(2)
    returns = rng.standard_t(4, 300) * 0.01 + 0.002
    for days in (300, INTERVAL_RETURNS_MIN, INTERVAL_RETURNS_MIN - 1):
        x = returns[:days]
        m = measure(record_of((1e4 * np.cumprod(np.append(1.0, 1 + x))).tolist()))
        told = judge(x, trials=None)["sharpe"]
        # by another road: scipy's t, the waves by its cosine transform
        z = (x - x.mean()) / x.std()
        ratio = x.mean() / x.std(ddof=1)
        waves = dct(z - ratio / 2 * (z**2 - 1), type=2)[1 : int(0.4 * days ** (2 / 3)) + 1] / 2
        error = math.sqrt(2 * (waves**2).mean()) / days
        half = stats.t.ppf(0.975, len(waves)) * error
        assert m.sharpe == pytest.approx(ratio * math.sqrt(365))
        assert told.value == pytest.approx(m.sharpe)
        bounds = ((ratio - half) * math.sqrt(365), (ratio + half) * math.sqrt(365))
        if days < INTERVAL_RETURNS_MIN:
            bounds = math.nan, math.nan
        assert (m.sharpe_low, m.sharpe_high) == pytest.approx(bounds, nan_ok=True)
        assert (told.low, told.high) == pytest.approx(bounds, nan_ok=True)


@pytest.mark.parametrize(
    ("equity", "days", "is_recovered"),
    [
        ([100.0, 101.0, 102.0], 0.0, True),
        ([100.0, 100.0, 100.0], 0.0, True),
        ([100.0, 99.0, 98.0, 100.0, 99.0], 3.0, True),  # the later fall is shorter so far
        ([100.0, 99.0, 101.0, 100.0, 100.5, 100.9], 3.0, False),
        ([100.0, 99.0, 100.0, 99.0, 98.0], 2.0, False),  # as long, and nobody knows how it ends
        ([100.0, 99.0], 1.0, False),
        ([100.0], 0.0, True),
    ],
)
def test_time_under_water_ends_where_the_height_is_reached_again(
    equity: list[float], days: float, is_recovered: bool
) -> None:
    m = measure(record_of(equity))
    assert (m.underwater_days_max, m.is_recovered) == (days, is_recovered)


def test_information_ratio_is_the_sharpe_ratio_of_the_difference() -> None:
    own, other = np.array([0.01, 0.03, -0.01, 0.0]), np.array([0.0, 0.01, 0.0, np.nan])
    # differences .01, .02, -.01: mean 1/150, sd sqrt(7/3)/100
    expected = (2 / 3) / math.sqrt(7 / 3) * math.sqrt(365)
    assert information_ratio(own, other) == pytest.approx(expected)
    assert math.isnan(information_ratio(own, own))
    record = record_of([1000.0, 1010.0, 1030.0], first=[100.0, 110.0, 110.0])
    # market: +5 %, 0; own: 1 %, 20/1010
    plain, against = np.array([0.01, 20 / 1010]), np.array([0.05, 0.0])
    assert measure(record).information_ratio == pytest.approx(information_ratio(plain, against))
    zero = measure(record, benchmark=np.zeros(2))
    assert zero.information_ratio == pytest.approx(zero.sharpe)


def test_every_unknown_figure_says_why() -> None:
    lost = measure(record_of([1000.0, 990.0, 970.0], fees=1.0, turnover=10.0))
    assert lost.why_unknown("fee_share") == "not defined: no gain before costs"
    assert lost.gross_gain < 0
    won = measure(record_of([1000.0, 1010.0, 1030.0]))
    assert won.why_unknown("sortino") == "not defined: no losing day"
    assert (won.fee_share, won.why_unknown("fee_share")) == (0.0, "")
    short = measure(record_of([1000.0, 1010.0]))
    for name, least in (
        ("sortino", 2),
        ("information_ratio", 2),
        ("sharpe", 2),
        ("sharpe_high", 20),
    ):
        assert short.why_unknown(name) == f"not defined: fewer than {least} daily returns"
    still = measure(record_of([1000.0, 1000.0, 1000.0]))
    assert still.why_unknown("information_ratio") == "not defined: no variance"
    assert still.why_unknown("sortino") == "not defined: no losing day"
    for figures in (lost, won, short, still):
        for field in dataclasses.fields(figures):
            assert math.isfinite(getattr(figures, field.name)) != bool(
                figures.why_unknown(field.name)
            )


def test_a_deposit_is_neither_gain_nor_return() -> None:
    # 1 % on 1,000; 500 come in while 2 % is lost; 3 % on what is then there
    equity = [1000.0, 1010.0, 1010.0 * 0.98 + 500.0, (1010.0 * 0.98 + 500.0) * 1.03]
    record = record_of(equity, fees=4.0)
    m = measure(record, transfers=np.array([1000.0, 1000.0, 1500.0, 1500.0]))
    plain = measure(record_of([1000.0, 1010.0, 1010.0 * 0.98, 1010.0 * 0.98 * 1.03], fees=4.0))
    for name in ("total_return", "sharpe", "drawdown_max", "sortino"):
        assert getattr(m, name) == pytest.approx(getattr(plain, name)), name
    assert (m.equity_first, m.equity_last) == (equity[0], equity[-1])
    assert m.gross_gain == pytest.approx(equity[-1] - 1500.0 + 3.0)
    assert measure(record).total_return > 0.5  # what it would look like otherwise


def test_a_backtest_and_its_figures_load_nothing_heavy() -> None:
    code = (
        "import sys, daemon.commands.backtest, daemon.report.exposures, daemon.report.attribution\n"
        "import daemon.report.capacity\n"
        "print([m for m in ('scipy', 'statsmodels', 'matplotlib', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_funding_that_was_earned_has_a_negative_share() -> None:
    m = measure(record_of([1000.0, 1010.0, 1020.0], funding=30.0))
    assert m.gross_gain == 0.0  # all of it was funding
    assert math.isnan(m.funding_share)
    more = measure(record_of([1000.0, 1010.0, 1040.0], funding=30.0))
    assert more.funding_share == pytest.approx(-20 / 20)


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
