"""Exposures: by hand for small books, against statsmodels and a second computation for the rest."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pytest
from statsmodels.regression.linear_model import OLS
from statsmodels.tools.tools import add_constant

from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.betas import trailing_betas
from daemon.report.exposures import MARKET, column_of, exposures
from daemon.report.market_links import BETA_DAYS_MIN, SIDE_DAYS_MIN, Slope, market_link
from daemon.report.run import Run, RunFacts
from daemon.report.run_record import BookRow, RunRecord
from tests.report.made_runs import World, replayed

Floats = npt.NDArray[np.float64]
MIDNIGHT = 19_000 * DAY_MS


def drawn_marks(
    rows: int, seed: int = 0, betas: tuple[float, ...] = (1.4, 1.0, 0.7, 0.9)
) -> Floats:
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.01, (rows, 1)) * np.array(betas)
    moves += rng.normal(0, 0.005, (rows, len(betas)))
    return np.asarray(100.0 * np.exp(np.cumsum(moves, axis=0)))


def record_of(
    marks: Floats,
    quantities: Floats | None = None,
    equity: Floats | None = None,
    step_ms: int = HOUR_MS,
) -> RunRecord:
    record, zero = RunRecord(), Decimal(0)
    for i, row in enumerate(marks):
        held = np.zeros(len(row)) if quantities is None else quantities[i]
        worth = 1000.0 if equity is None else float(equity[i])
        book = BookRow(worth, 0.0, zero, zero, zero, 0.0, held, row)
        record.add(MIDNIGHT + (i + 1) * step_ms, book)
    return record


def run_of(record: RunRecord, symbols: tuple[str, ...]) -> Run:
    return Run(record, [], [], RunFacts("", "", "", symbols, 0, 0, 0.0, 0.0, 0.0, ""))


def test_gross_net_and_number_of_bets_by_hand() -> None:
    nan = math.nan
    marks = np.array([[10.0, 20.0, nan], [10.0, 20.0, 5.0], [10.0, 20.0, 5.0]])
    held = np.array([[0.0, 0.0, 0.0], [30.0, -5.0, 20.0], [10.0, -5.0, 0.0]])
    found = exposures(run_of(record_of(marks, held), ("A", "B", "C")))
    assert found.gross.tolist() == pytest.approx([0.0, 0.5, 0.2])
    assert found.net.tolist() == pytest.approx([0.0, 0.3, 0.0])
    assert found.beta.tolist() == pytest.approx([0.0, 0.3, 0.0])  # betas unknown, so 1
    # shares .6, .2, .2 of gross; then halves
    assert math.isnan(found.bets[0])
    assert found.bets[1:].tolist() == pytest.approx([1 / 0.44, 2.0])
    assert np.isnan(found.bets_apart).all()
    assert [link.market for link in found.links] == [MARKET]
    assert found.link("BTC") is None


def test_beta_of_the_book_uses_the_betas_of_before() -> None:
    run = replayed(World(bars_n=48 * 10), (0.4, -0.1, -0.1, -0.2))
    found, record = exposures(run), run.record
    weights = record.quantities * record.marks / record.column("equity")[:, None]
    assert found.beta == pytest.approx((weights * trailing_betas(record)).sum(axis=1))
    assert found.gross == pytest.approx(record.column("gross") / record.column("equity"))
    assert found.net == pytest.approx(record.column("net") / record.column("equity"), abs=1e-9)
    assert abs(found.beta[-1] - found.net[-1]) > 0.03  # BTC moves more than the others here
    assert [link.market for link in found.links] == ["BTC/USDT:USDT", "ETH/USDT:USDT", MARKET]


def test_bets_apart_know_that_coins_which_move_as_one_are_one_bet() -> None:
    rows = 24 * 8
    common = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.01, rows)))
    same = np.column_stack([common * 10, common * 20, common * 30])
    held = np.tile([3.0, 1.5, 1.0], (rows, 1))
    one = exposures(run_of(record_of(same, held), ("A", "B", "C")))
    assert one.bets[-1] == pytest.approx(3.0)
    assert one.bets_apart[-1] == pytest.approx(1.0, abs=1e-6)
    # waves that are exactly uncorrelated over a day and equally large: equal weights are two bets
    t = np.arange(rows)
    waves = 1.0 + 0.01 * np.column_stack([np.sin(2 * np.pi * t / 12), np.cos(2 * np.pi * t / 12)])
    level = np.asarray(np.cumprod(waves, axis=0), dtype=np.float64)
    both = exposures(run_of(record_of(level, np.asarray(1.0 / level)), ("A", "B")))
    assert both.bets_apart[-1] == pytest.approx(2.0, abs=0.02)


def test_bets_apart_of_a_drawn_market_by_a_second_computation() -> None:
    rows = 24 * 40
    marks = drawn_marks(rows, seed=3)
    held = np.random.default_rng(1).normal(0, 1, marks.shape)
    record = record_of(marks, held)
    found = exposures(run_of(record, ("A", "B", "C", "D"))).bets_apart
    for row in (24 * 10 + 3, 24 * 36 + 23):  # the latter closes at midnight: its day is over
        end = (row + 1) // 24 * 24
        window = marks[max(end - 30 * 24 - 1, 0) : end]
        covariance = np.cov((window[1:] / window[:-1] - 1).T)
        w = held[row] * marks[row] / 1000.0
        vectors, variances, _ = np.linalg.svd(covariance)
        p = (w @ vectors) ** 2 * variances / (w @ covariance @ w)
        assert p.sum() == pytest.approx(1.0)
        assert found[row] == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-6)
    assert np.isnan(found[: 24 * 4 - 1]).all()


def test_bets_apart_are_unknown_while_a_held_coin_is_new() -> None:
    rows = 24 * 20
    marks, held = drawn_marks(rows), np.ones((rows, 4))
    marks[: 24 * 10, 3] = np.nan
    held[: 24 * 10, 3] = 0.0
    found = exposures(run_of(record_of(marks, held), ("A", "B", "C", "D"))).bets_apart
    assert np.isfinite(found[24 * 10 - 1])  # not held yet
    assert np.isnan(found[24 * 10 : 24 * 14]).all()
    assert np.isfinite(found[-1])


# ---- links to markets ----------------------------------------------------------------------------


def newey_west(design: Floats, y: Floats) -> tuple[Floats, Floats, int]:
    """Give coefficients and their covariance without small-sample factor, by statsmodels."""
    lags = int(4 * (len(y) / 100) ** (2 / 9))
    fit = OLS(y, design).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    return np.asarray(fit.params), np.asarray(fit.cov_params()), len(y)


def check(slope: Slope, beta: float, variance: float, days: int) -> None:
    from scipy.stats import t as student

    error = math.sqrt(variance * days / (days - 2))
    half = float(student.ppf(0.975, days - 2)) * error
    assert slope.days == days
    assert slope.beta == pytest.approx(beta)
    assert slope.t_value == pytest.approx(beta / error)
    assert (slope.low, slope.high) == pytest.approx((beta - half, beta + half))


def test_betas_of_all_up_and_down_days_are_those_of_statsmodels() -> None:
    rng = np.random.default_rng(5)
    x = rng.normal(0, 0.03, 300)
    noise = np.convolve(rng.normal(0, 0.01, 305), np.ones(6) / 3, mode="valid")
    y = 0.001 + 0.1 * x + 0.4 * np.minimum(x, 0) + noise
    y[7], x[11] = np.nan, np.nan
    link = market_link("M", y, x)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    assert (link.market, link.days, link.why) == ("M", 298, "")
    assert link.correlation == pytest.approx(np.corrcoef(x, y)[0, 1])
    beta, covariance, days = newey_west(add_constant(x), y)
    check(link.beta, beta[1], covariance[1, 1], days)
    up = (x >= 0).astype(float)
    design = np.column_stack([up, up * x, 1 - up, (1 - up) * x])
    beta, covariance, _ = newey_west(design, y)
    check(link.beta_up, beta[1], covariance[1, 1], int(up.sum()))
    check(link.beta_down, beta[3], covariance[3, 3], int((1 - up).sum()))
    assert link.beta_down.low > 0.2  # the planted kink is seen


def test_intervals_cover_the_true_beta_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(9)
    covered = 0
    for _ in range(300):
        x = rng.normal(0, 0.03, 120)
        link = market_link("M", 0.2 * x + rng.normal(0, 0.02, 120), x)
        covered += link.beta.low <= 0.2 <= link.beta.high
    assert 270 <= covered <= 296


def test_what_cannot_be_known_says_why() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, BETA_DAYS_MIN - 1))
    short = market_link("M", y, x)
    assert math.isfinite(short.correlation)
    assert short.beta.why == "not defined: 19 daily returns, at least 20 are needed"
    assert math.isnan(short.beta.low)
    two = market_link("M", y[:2], x[:2])
    assert two.why == "not defined: 2 daily returns, at least 3 are needed"
    assert math.isnan(two.correlation)
    rising = market_link("M", rng.normal(size=40), np.abs(rng.normal(size=40)) + 0.1)
    assert rising.beta_up.why == ""
    assert rising.beta_down.why == f"not defined: 0 down days, at least {SIDE_DAYS_MIN} are needed"
    still = market_link("M", rng.normal(size=40), np.zeros(40))
    assert still.why == still.beta.why == "not defined: no variance"
    calm = market_link("M", np.zeros(40), rng.normal(size=40))
    assert (calm.why, calm.beta.beta) == ("not defined: no variance", 0.0)
    assert math.isnan(calm.beta.t_value)


def test_links_are_of_daily_returns_and_find_the_coins_by_name() -> None:
    days = 60
    marks = drawn_marks(days * 24)
    steps = 1 + np.random.default_rng(4).normal(0, 0.001, days * 24)
    equity = np.asarray(1000.0 * np.cumprod(steps), dtype=np.float64)
    run = run_of(record_of(marks, equity=equity), ("SOLUSDT", "ETHUSDT", "BTCUSDT", "XRPUSDT"))
    found = exposures(run)
    assert [link.market for link in found.links] == ["BTCUSDT", "ETHUSDT", MARKET]
    ends = [0, *range(23, days * 24, 24)]  # the opening, then each midnight
    own, coin = equity[ends], marks[ends, 2]
    link = found.link("BTC")
    assert link is not None
    expected = np.corrcoef(own[1:] / own[:-1], coin[1:] / coin[:-1])[0, 1]
    assert link.correlation == pytest.approx(expected)
    assert link.days == days


@pytest.mark.parametrize(
    ("symbols", "at"),
    [
        (("ETHFIUSDT", "ETHWUSDT", "ETHUSDT"), 2),
        (("ETHFI/USDT:USDT", "ETH/USDT:USDT"), 1),
        (("ETHBTC", "ETHUSDC"), 1),
        (("WETHUSDT", "ETHFIUSDT"), None),
    ],
)
def test_a_coin_is_not_taken_for_another_whose_name_begins_so(
    symbols: tuple[str, ...], at: int | None
) -> None:
    assert column_of(symbols, "ETH") == at


def test_an_empty_run_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="no bar closed"):
        exposures(run_of(RunRecord(), ("A",)))
