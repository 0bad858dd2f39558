"""Products of bars in closed form: what is there is found, and nothing where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.domain.units import Timeframe
from strategies.forecast.inputs.dataset import Table
from strategies.forecast.networks.config import FoundProduct
from strategies.forecast.training.found_products import find_products

Floats = NDArray[np.float64]
HOUR = Timeframe(60)
BARS = 9  # of a sequence
T, N, C = 3000, 8, 7  # the last channel: is the bar usable
ROWS = [np.arange(BARS, T, dtype=np.int64)]


def channels(seed: int, slow: int = 4) -> Floats:
    """Draw channels (T, N, C); two of them are nearly alike, one changes slowly."""
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((T, N, C))
    x[..., 3] = 0.95 * x[..., 2] + 0.3 * x[..., 3] + 0.5
    for t in range(1, T):
        x[t, :, slow] = 0.98 * x[t - 1, :, slow] + 0.2 * x[t, :, slow]
    x[..., -1] = 1.0
    return x


def outcomes(seed: int, hidden: Floats, size: float) -> Floats:
    """Give labels (T, N) of noise that overlaps over six bars, and what is hidden in it."""
    noise = np.random.default_rng(seed).standard_normal((T + 6, N))
    overlapping = np.stack([noise[t : t + 6].sum(axis=0) for t in range(T)]) / np.sqrt(6.0)
    y = overlapping + size * hidden
    found: Floats = y - y.mean(axis=1, keepdims=True)
    return found


def table(x: Floats, y: Floats) -> Table:
    close_ms = HOUR.ms * np.arange(1, T + 1, dtype=np.int64)
    allowed = np.ones((T, N), dtype=bool)
    return Table(HOUR, 0, close_ms, x[..., :-1], x.astype(np.float32), y, y, allowed)


def product(x: Floats) -> Floats:
    """Give what a move says after the order of the two before it, (T, N)."""
    found = np.zeros((T, N))
    found[2:] = np.tanh(x[2:, :, 2]) * np.tanh(0.7 * (x[1:-1, :, 2] - x[:-2, :, 2]))
    return found


def readings(one: FoundProduct, x: Floats) -> tuple[Floats, Floats]:
    """Give what a product reads of the newest bar and of those before it, (T, N) each."""
    newest = x @ np.array(one.newest) + one.newest_level
    reading = x @ np.array(one.earlier)
    earlier = np.full((T, N), one.earlier_level)
    for place, weight in enumerate(one.lags):
        lag = len(one.lags) - place
        earlier[lag:] += weight * reading[:-lag]
    return newest, earlier


def said(one: FoundProduct, x: Floats) -> Floats:
    """Forecast by a product as networks do, (T, N)."""
    newest, earlier = readings(one, x)
    found: Floats = one.size * np.tanh(newest) * np.tanh(earlier)
    return found


def slow_and_fast(x: Floats) -> tuple[Floats, Floats]:
    """Give a move times the level of a slow channel before it, and times another's last, (T, N)."""
    slow, fast = np.zeros((T, N)), np.zeros((T, N))
    for lag in range(1, BARS):
        slow[BARS:] += x[BARS:, :, 2] * x[BARS - lag : T - lag, :, 4] / (BARS - 1)
    fast[1:] = x[1:, :, 0] * x[:-1, :, 1]
    return slow / slow.std(), fast


@pytest.mark.parametrize("seed", [1, 2])
def test_a_product_in_noise_is_found_with_its_channels_lags_and_sign(seed: int) -> None:
    x = channels(seed)
    hidden = product(x)
    (one,) = find_products([table(x, outcomes(seed + 50, hidden, 0.3))], ROWS, BARS)
    assert int(np.abs(one.newest).argmax()) in (2, 3)
    assert one.size > 0
    later, order = one.lags[-2:]  # of the bar two before the newest, and of the one before it
    assert later * order < 0
    assert max(abs(lag) for lag in one.lags[:-2]) < 0.35
    fresh = channels(seed + 9)
    agreed = float(np.corrcoef(said(one, fresh).ravel(), product(fresh).ravel())[0, 1])
    assert agreed > 0.75, agreed


def test_readings_have_a_spread_of_one_and_sizes_are_those_that_fit_best() -> None:
    x = channels(1)
    slow, fast = slow_and_fast(x)
    y = outcomes(51, slow + 0.8 * fast, 0.3)
    found = find_products([table(x, y)], ROWS, BARS)
    assert len(found) == 2
    for one in found:
        for reading in readings(one, x):
            assert reading[BARS:].std() == pytest.approx(1.0, abs=0.05)
    products = np.array([said(one, x)[BARS:].ravel() / one.size for one in found])
    best, *_ = np.linalg.lstsq(products.T, y[BARS:].ravel(), rcond=None)
    assert [one.size for one in found] == pytest.approx(best.tolist(), rel=0.02)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_found_in_noise_nor_in_what_single_bars_say(seed: int) -> None:
    x = channels(seed)
    for hidden in (np.zeros((T, N)), x[..., 2], x[..., 4]):
        assert find_products([table(x, outcomes(seed + 50, hidden, 0.2))], ROWS, BARS) == ()


def test_rows_that_are_not_asked_for_are_not_learned_from() -> None:
    x = channels(1)
    y = outcomes(51, product(x), 0.3)
    half = [np.arange(BARS, T // 2, dtype=np.int64)]
    found = find_products([table(x, y)], half, BARS)
    y[T // 2 :] = np.nan
    x[T // 2 :] = 7.0
    assert find_products([table(x, y)], half, BARS) == found


def test_bars_that_are_not_usable_and_labels_that_are_unknown_do_not_count() -> None:
    x = channels(1)
    y = outcomes(51, product(x), 0.3)
    x[:, 0] = 0.0  # an instrument without bars, its flag down
    y[:, 0] = np.nan
    every = find_products([table(x, y)], ROWS, BARS)
    assert len(every) == 1
    few = [np.arange(BARS, BARS + 20, dtype=np.int64)]
    assert find_products([table(x, y)], few, BARS) == ()


@pytest.mark.parametrize("seed", [1, 7, 19])
def test_noise_that_a_look_at_all_of_the_time_would_take_for_a_product_is_not_kept(
    seed: int,
) -> None:
    """White channels: in these seeds something passed where a start was chosen on all rows."""
    draw = np.random.default_rng(seed)
    length, channels_n = T // 2, 12
    x = draw.standard_normal((length, N, channels_n)).astype(np.float32)
    x[..., -1] = 1.0
    y = draw.standard_normal((length, N))
    close_ms = HOUR.ms * np.arange(1, length + 1, dtype=np.int64)
    allowed = np.ones((length, N), dtype=bool)
    white = Table(HOUR, 0, close_ms, x[..., :-1].astype(np.float64), x, y, y, allowed)
    assert find_products([white], [np.arange(BARS, length, dtype=np.int64)], BARS) == ()
