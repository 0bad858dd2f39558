"""The generated market: the same whatever is asked first, consistent bars, a known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.rehearsal.market import Steps
from adapters.rehearsal.planted import (
    HORIZON_HOURS,
    PlantedTruth,
    drift_scale,
    information_coefficient,
)
from adapters.rehearsal.publication import Publication
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS

ORIGIN_MS = 1_704_067_200_000
Floats = NDArray[np.float64]


def market_of(
    coins: int = 4, *, seed: int = 7, step_minutes: int = 5, planted_ic: float = 0.05
) -> SeededMarket:
    return SeededMarket(
        [traits_of(name, ORIGIN_MS, None) for name in NAMES[:coins]],
        seed=seed,
        origin_ms=ORIGIN_MS,
        step_minutes=step_minutes,
        planted_ic=planted_ic,
    )


def all_columns(steps: Steps) -> Floats:
    return np.array([steps.open, steps.high, steps.low, steps.close, steps.volume])


def columns(market: SeededMarket, symbol: str, first_day: int, last_day: int) -> Floats:
    start_ms, end_ms = ORIGIN_MS + first_day * DAY_MS, ORIGIN_MS + last_day * DAY_MS
    return all_columns(market.steps(symbol, start_ms, end_ms))


def test_extending_the_horizon_changes_nothing_of_the_past() -> None:
    at_once, in_pieces = market_of(), market_of()
    wanted = columns(at_once, "ETHUSDT", 0, 30)
    pieces = [columns(in_pieces, "ETHUSDT", day, day + 3) for day in range(0, 30, 3)]
    assert np.array_equal(wanted, np.concatenate(pieces, axis=1))


def test_the_order_of_questions_does_not_matter() -> None:
    forwards, backwards = market_of(), market_of()
    wanted = [columns(forwards, "SOLUSDT", day, day + 1) for day in range(12)]
    late_first = [columns(backwards, "SOLUSDT", day, day + 1) for day in reversed(range(12))]
    assert np.array_equal(np.array(wanted), np.array(late_first[::-1]))


def test_a_day_that_fell_out_of_the_cache_is_made_again_identically() -> None:
    roomy, tight = market_of(), market_of()
    tight._days_max = 2
    wanted = columns(roomy, "BTCUSDT", 0, 25)
    tight.prepare(ORIGIN_MS + 25 * DAY_MS)
    assert len(tight._days) == 2
    assert np.array_equal(wanted, columns(tight, "BTCUSDT", 0, 25))
    assert len(tight._days) == 2


def test_a_coins_path_does_not_depend_on_the_coins_after_it() -> None:
    few, many = market_of(3), market_of(9)
    for symbol in ("BTCUSDT", "SOLUSDT"):
        assert np.array_equal(columns(few, symbol, 0, 9), columns(many, symbol, 0, 9))


def test_another_seed_gives_another_market() -> None:
    one, other = columns(market_of(), "BTCUSDT", 0, 2), columns(market_of(seed=8), "BTCUSDT", 0, 2)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("step_minutes", [1, 5, 15])
def test_every_step_is_a_bar_on_the_price_grid(step_minutes: int) -> None:
    market = market_of(12, step_minutes=step_minutes)
    for symbol, coin in market.coins.items():
        opened, high, low, closed, volume = columns(market, symbol, 0, 3)
        assert (high >= np.maximum(opened, closed)).all()
        assert (low <= np.minimum(opened, closed)).all()
        assert (low > 0).all()
        assert (volume > 0).all()
        texts = [f"{price:.{coin.price_decimals}f}" for price in closed]
        assert np.array_equal(np.array([float(text) for text in texts]), closed)
        ticks = closed / float(coin.price_step)
        assert np.abs(ticks - np.rint(ticks)).max() < 1e-6
        # The first trade of a step is at most one tick from the last one before it.
        gaps = np.abs(opened[1:] - closed[:-1]) / float(coin.price_step)
        assert gaps.max() < 1.5
        assert gaps.max() > 0.5  # so that an open is not simply the close before


@pytest.mark.parametrize("minutes", [15, 30, 60, 120, 240, 1440])
def test_every_interval_is_the_sum_of_its_steps(minutes: int) -> None:
    market = market_of(2)
    now_ms = ORIGIN_MS + 4 * DAY_MS
    k = minutes // 5
    for symbol in market.coins:
        klines = Publication(market).klines(
            symbol, minutes * MINUTE_MS, now_ms - 1, start_ms=ORIGIN_MS, limit=2000
        )
        steps = columns(market, symbol, 0, 4)
        assert len(klines) == 4 * 1440 // minutes
        for row in range(len(klines) - 1):  # the last one is still running
            opened, high, low, closed, volume = steps[:, row * k : (row + 1) * k]
            assert klines.open_ms[row] == ORIGIN_MS + row * minutes * MINUTE_MS
            assert klines.open[row] == opened[0]
            assert klines.high[row] == high.max()
            assert klines.low[row] == low.min()
            assert klines.close[row] == closed[-1]
            assert klines.volume[row] == pytest.approx(volume.sum(), rel=1e-12)


def test_one_kline_equals_the_same_row_of_many() -> None:
    market = market_of(3)
    publication = Publication(market)
    now_ms = ORIGIN_MS + DAY_MS + 17 * MINUTE_MS
    for symbol in market.coins:
        for minutes in (5, 30, 60):
            many = publication.klines(symbol, minutes * MINUTE_MS, now_ms, limit=9)
            for row in range(len(many)):
                one = publication.kline(symbol, minutes * MINUTE_MS, int(many.open_ms[row]), now_ms)
                assert one is not None
                assert (one.open, one.high, one.low, one.close, one.volume) == (
                    many.open[row],
                    many.high[row],
                    many.low[row],
                    many.close[row],
                    many.volume[row],
                )


def test_volatility_clusters_and_volume_follows_it() -> None:
    market = market_of(6, step_minutes=30)
    publication = Publication(market)
    now_ms = ORIGIN_MS + 250 * DAY_MS
    memory, follows, tails = [], [], []
    for symbol in market.coins:
        klines = publication.klines(symbol, HOUR_MS, now_ms, limit=5900)
        returns = np.diff(np.log(klines.close))
        size = np.abs(returns)
        memory.append(np.corrcoef(size[1:], size[:-1])[0, 1])
        follows.append(np.corrcoef(np.log(klines.volume[1:]), size)[0, 1])
        tails.append((returns**4).mean() / (returns**2).mean() ** 2)
    assert min(memory) > 0.05
    assert min(follows) > 0.1
    assert min(tails) > 4.0


def test_funding_follows_past_returns_and_comes_back() -> None:
    market = market_of(6, step_minutes=30)
    end_ms = ORIGIN_MS + 300 * DAY_MS
    settled = market.settlements("SOLUSDT", ORIGIN_MS + DAY_MS, end_ms)
    rates = np.array([item.rate for item in settled])
    assert {item.time_ms % (8 * HOUR_MS) for item in settled} == {0}
    closes = market.steps("SOLUSDT", ORIGIN_MS, end_ms).close
    # A rate paid at T was announced at T - 8 h, from the day before that.
    at = [(item.time_ms - ORIGIN_MS) // (30 * MINUTE_MS) - 16 for item in settled]
    gains = np.array([closes[i - 1] / closes[max(0, i - 49)] - 1 for i in at[9:]])
    assert np.corrcoef(gains, rates[9:])[0, 1] > 0.3
    deviation = rates - rates.mean()
    assert 0.2 < np.corrcoef(deviation[1:], deviation[:-1])[0, 1] < 0.95
    assert np.abs(rates).max() <= 3e-3


def test_the_announced_rate_is_the_one_that_is_paid_next() -> None:
    market = market_of(6)
    for symbol in ("BTCUSDT", "DOGEUSDT"):  # eight and four hours
        every_ms = market.coins[symbol].funding_interval_ms
        for item in market.settlements(symbol, ORIGIN_MS + DAY_MS, ORIGIN_MS + 4 * DAY_MS):
            assert market.funding_estimate(symbol, item.time_ms - 1) == item.rate
            assert market.funding_estimate(symbol, item.time_ms - every_ms) == item.rate
    assert market.coins["DOGEUSDT"].funding_interval_ms == 4 * HOUR_MS


def test_a_coin_exists_between_listing_and_delisting_only() -> None:
    listed_ms, delisted_ms = ORIGIN_MS + 2 * DAY_MS, ORIGIN_MS + 3 * DAY_MS + HOUR_MS
    traits = [
        traits_of("BTCUSDT", ORIGIN_MS, None),
        traits_of("ETHUSDT", listed_ms, delisted_ms),
    ]
    market = SeededMarket(traits, seed=7, origin_ms=ORIGIN_MS)
    closes = columns(market, "ETHUSDT", 0, 5)[3]
    opens_ms = ORIGIN_MS + 5 * MINUTE_MS * np.arange(len(closes))
    lives = (opens_ms >= listed_ms) & (opens_ms < delisted_ms)
    assert np.array_equal(~np.isnan(closes), lives)
    always = columns(market_of(2), "ETHUSDT", 0, 5)[3]
    assert np.array_equal(closes[lives], always[lives])
    times = [s.time_ms for s in market.settlements("ETHUSDT", ORIGIN_MS, ORIGIN_MS + 5 * DAY_MS)]
    assert times[0] == listed_ms
    assert times[-1] == ORIGIN_MS + 3 * DAY_MS


# ---- the planted pattern -------------------------------------------------------------------------

LONG_DAYS = 500
LONG_COINS = 40


@pytest.fixture(scope="module")
def planted() -> SeededMarket:
    return market_of(LONG_COINS, step_minutes=30, planted_ic=0.05)


@pytest.fixture(scope="module")
def fair() -> SeededMarket:
    return market_of(LONG_COINS, step_minutes=30, planted_ic=0.0)


def long_truth(market: SeededMarket) -> PlantedTruth:
    return market.planted_truth(ORIGIN_MS + 2 * DAY_MS, ORIGIN_MS + LONG_DAYS * DAY_MS)


def error_of(truth: PlantedTruth) -> float:
    """Give the standard error of an IC: alpha and label both overlap over six hours."""
    ramp = np.arange(HORIZON_HOURS, 0, -1.0)
    alpha = [float(ramp[lag:] @ ramp[: HORIZON_HOURS - lag]) / 91.0 for lag in range(1, 6)]
    inflation = 1 + 2 * sum(a * (1 - lag / HORIZON_HOURS) for lag, a in enumerate(alpha, 1))
    return math.sqrt(inflation / truth.alpha.size)


@pytest.mark.parametrize("wanted", [0.03, 0.10])
def test_the_true_information_coefficient_is_the_knob(wanted: float) -> None:
    market = market_of(LONG_COINS, step_minutes=30, planted_ic=wanted)
    truth = long_truth(market)
    found = information_coefficient(truth)
    error = error_of(truth)
    print(f"planted {wanted}: true IC {found:.4f}, standard error {error:.4f}")
    assert error < 0.004
    assert abs(found - wanted) < 3 * error
    # alpha is the label's expectation, not merely proportional to it: slope one.
    slope = np.nansum(truth.alpha * truth.label) / np.nansum(truth.alpha**2)
    assert abs(slope - 1) < 3 * error / wanted


def test_with_the_knob_at_zero_there_is_nothing(planted: SeededMarket, fair: SeededMarket) -> None:
    truth = long_truth(fair)
    assert (truth.alpha == 0).all()
    # Both markets share their shocks, so the pattern of the one is looked for in the other.
    looked_for = PlantedTruth(truth.close_ms, truth.symbols, long_truth(planted).alpha, truth.label)
    t = information_coefficient(looked_for) / error_of(truth)
    print(f"planted 0: t of the pattern {t:.2f}")
    assert abs(t) < 3


def hourly_residuals(market: SeededMarket) -> Floats:
    """Measure each coin's hourly residual return from public klines alone, in deviations: (T, N).

    Residual of the equal-weighted market by the coin's own regression, scaled by its own spread
    of the last week.
    """
    now_ms = ORIGIN_MS + LONG_DAYS * DAY_MS
    publication = Publication(market)
    closes = [
        publication.klines(s, HOUR_MS, now_ms, limit=LONG_DAYS * 24 + 1).close for s in market.coins
    ]
    returns = np.diff(np.log(np.array(closes).T), axis=0)
    common = returns.mean(axis=1, keepdims=True)
    beta = (returns * common).sum(axis=0) / (common**2).sum()
    residual = returns - beta * common
    squares = np.cumsum(np.pad(residual**2, ((1, 0), (0, 0))), axis=0)
    spread = np.sqrt((squares[168:-1] - squares[:-169]) / 168)
    scaled: Floats = residual[168:] / spread
    return scaled


def out_of_sample_ic(features: Floats, label: Floats, ridge: float) -> float:
    """Fit a ridge on the first half of the hours and correlate it with the second half."""
    half = len(label) // 2
    gap = HORIZON_HOURS
    x = features[: half - gap].reshape(-1, features.shape[2])  # (T, N, F) -> (T N, F)
    y = label[: half - gap].ravel()
    weights = np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)
    forecast = features[half:] @ weights
    truth = PlantedTruth(np.empty(0, dtype=np.int64), (), forecast, label[half:])
    return information_coefficient(truth)


def sums(values: Floats, hours: int) -> Floats:
    """Sum the last `hours` rows up to and with each row, (T, N) -> (T, N)."""
    total = np.cumsum(np.pad(values, ((hours, 0), (0, 0))), axis=0)
    result: Floats = total[hours:] - total[: len(values)]
    return result


def test_a_ridge_on_lagged_returns_sees_less_than_a_third(planted: SeededMarket) -> None:
    residual = np.clip(hourly_residuals(planted), -6, 6)
    ahead = sums(residual, HORIZON_HOURS)[30 + HORIZON_HOURS :] / math.sqrt(HORIZON_HOURS)
    known = slice(30, len(residual) - HORIZON_HOURS)
    lags = [np.roll(residual, lag, axis=0)[known] for lag in range(24)]
    moves = [sums(residual, hours)[known] / math.sqrt(hours) for hours in (2, 4, 8, 24)]
    linear = out_of_sample_ic(np.stack(lags + moves, axis=2), ahead, ridge=1000.0)
    # The same public data hold the pattern: products of the last hours with the day before them.
    day = np.tanh(1.5 * np.roll(sums(residual, 24), 1, axis=0) / math.sqrt(24))
    pattern = np.tanh(2 * residual) * day
    ramp = [np.roll(pattern, lag, axis=0)[known] for lag in range(HORIZON_HOURS)]
    seeing = out_of_sample_ic(np.stack(ramp, axis=2), ahead, ridge=1000.0)
    print(f"planted 0.05: ridge on lags {linear:.4f}, on the pattern's products {seeing:.4f}")
    assert abs(linear) < 0.05 / 3
    assert seeing > 0.6 * 0.05


def test_a_planted_ic_outside_its_range_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"planted_ic 0\.7.*0\.\.0\.5"):
        drift_scale(0.7)


def test_a_step_that_does_not_divide_the_hour_is_named() -> None:
    with pytest.raises(ConfigurationError, match="step_minutes 7"):
        market_of(step_minutes=7)
