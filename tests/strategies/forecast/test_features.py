"""Features: the same bits live and in training, blind to the future, fair to all instruments."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.bar import Field
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import Timeframe
from strategies.forecast.inputs.features import (
    FEATURE_MEMORY_BARS,
    FEATURE_NAMES,
    FEATURES_N,
    features,
    usable,
)
from tests.strategies.forecast.markets import START_MS, walk

HOURLY = Timeframe(60)
T = 420


def computed(values: np.ndarray, rows: int | None = None) -> np.ndarray:
    newest = START_MS + len(values) * HOURLY.ms
    return features(values, newest_close_ms=newest, timeframe=HOURLY, newest=rows)


@pytest.mark.parametrize("gaps", [0.0, 0.05])
def test_a_live_window_gives_the_same_bits_as_the_whole_history(gaps: float) -> None:
    bars = walk(T, 9, gaps=gaps)
    whole = computed(bars)
    for t in range(FEATURE_MEMORY_BARS - 1, T, 13):
        window = bars[t + 1 - FEATURE_MEMORY_BARS : t + 1].copy()
        newest = START_MS + (t + 1) * HOURLY.ms
        for rows in (None, 1):
            live = features(window, newest_close_ms=newest, timeframe=HOURLY, newest=rows)
            np.testing.assert_array_equal(live[-1], whole[t])


def test_one_bar_less_than_the_memory_is_not_enough_when_there_are_gaps() -> None:
    bars = walk(T, 9, gaps=0.3)
    whole = computed(bars)
    short = FEATURE_MEMORY_BARS - 5  # a gap of four bars may reach back this far
    differ = [
        not np.array_equal(
            computed(bars[t + 1 - short : t + 1], 1)[-1, :, :20], whole[t, :, :20], equal_nan=True
        )
        for t in range(FEATURE_MEMORY_BARS, T)
    ]
    assert any(differ)


def test_changing_the_future_leaves_the_past_unchanged_to_the_bit() -> None:
    bars = walk(T, 6, gaps=0.02)
    t = 300
    changed = bars.copy()
    changed[t + 1 :] *= np.random.default_rng(3).uniform(0.5, 2.0, changed[t + 1 :].shape)
    changed[t + 5, 2] = np.nan
    np.testing.assert_array_equal(computed(changed)[: t + 1], computed(bars)[: t + 1])
    assert not np.array_equal(computed(changed)[t + 1 :], computed(bars)[t + 1 :], equal_nan=True)


@pytest.mark.parametrize("back", [0, 1, 10, 63, 100])
def test_changing_a_bar_changes_later_features_so_that_the_causality_test_can_fail(
    back: int,
) -> None:
    bars = walk(T, 6)
    changed = bars.copy()
    changed[300 - back, 2, : Field.VOLUME] *= 1.05
    assert not np.array_equal(computed(changed)[300, 2], computed(bars)[300, 2])


def test_reordering_the_instruments_reorders_the_features() -> None:
    bars = walk(T, 7, gaps=0.03)
    order = np.random.default_rng(5).permutation(7)
    np.testing.assert_allclose(computed(bars[:, order]), computed(bars)[:, order], atol=1e-9)


def test_a_missing_bar_has_no_features_and_does_not_blank_its_neighbours() -> None:
    bars = walk(T, 5)
    bars[350, 1] = np.nan
    rows = computed(bars)
    assert np.isnan(rows[350, 1]).all(axis=-1) or not usable(rows)[350, 1]
    assert usable(rows)[350, [0, 2, 3, 4]].all()
    assert np.isfinite(rows[351, 1]).all()
    assert np.isfinite(rows[374, 1]).all()  # 24 bars later the filled close stands in


def test_a_price_that_never_moves_is_unusable_and_disturbs_nobody() -> None:
    bars = walk(T, 5)
    bars[:, 3, : Field.VOLUME] = 100.0
    rows = computed(bars)
    assert not usable(rows)[200:, 3].any()
    assert np.isfinite(rows[200:, [0, 1, 2, 4]]).all()


@pytest.mark.parametrize("bad", [0.0, -1.0, np.inf])
def test_a_price_that_is_no_price_counts_as_missing(bad: float) -> None:
    bars = walk(T, 5)
    bars[300, 0, Field.LOW] = bad
    assert not usable(computed(bars))[300, 0]
    assert usable(computed(bars))[301, 0]


def test_values_stay_within_the_clip_and_the_list_is_complete() -> None:
    bars = walk(T, 5)
    bars[300:, 0, : Field.VOLUME] *= 3.0
    rows = computed(bars)
    assert rows.shape == (T, 5, FEATURES_N)
    assert np.nanmax(np.abs(rows)) == 5.0
    assert len(set(FEATURE_NAMES)) == FEATURES_N == 27


def test_known_features_have_the_values_worked_out_by_hand() -> None:
    bars = walk(T, 3)
    rows = computed(bars)[-1]
    moves = np.diff(np.log(bars[:, :, Field.CLOSE]), axis=0)
    sigma = np.sqrt((moves[-64:] ** 2).mean(axis=0))
    at = FEATURE_NAMES.index
    np.testing.assert_allclose(rows[:, at("return_1")], moves[-1] / sigma)
    expected = moves[-8:].sum(axis=0) / (sigma * np.sqrt(8))
    np.testing.assert_allclose(rows[:, at("return_8")], expected)
    residual = moves[-1] - moves[-1].mean()
    np.testing.assert_allclose(rows[:, at("residual_1")], residual / sigma)
    ranks = np.argsort(np.argsort(residual / sigma)) - 1.0
    np.testing.assert_allclose(rows[:, at("rank_residual_1")], ranks)
    o, h, low, c = np.log(bars[-1, :, : Field.VOLUME]).T
    np.testing.assert_allclose(rows[:, at("close_in_range")], (2 * c - h - low) / (h - low))
    np.testing.assert_allclose(rows[:, at("body")], (c - o) / sigma)
    turnover = np.log1p(bars[:, :, Field.VOLUME] * bars[:, :, Field.CLOSE])[-64:]
    middle = np.median(turnover, axis=0)
    spread = 1.4826 * np.median(np.abs(turnover - middle), axis=0)
    np.testing.assert_allclose(rows[:, at("volume")], (turnover[-1] - middle) / spread)
    angle = 2 * np.pi * ((START_MS // HOURLY.ms + T) % 24) / 24
    np.testing.assert_allclose(rows[:, at("day_sin")], np.sin(angle), atol=1e-12)


def test_equal_values_share_their_rank() -> None:
    bars = walk(T, 4)
    bars[:, 1] = bars[:, 0]
    rows = computed(bars)[-1]
    place = FEATURE_NAMES.index("rank_volatility")
    assert rows[0, place] == rows[1, place]


def test_bars_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(InvariantViolated, match=r"\(T, N, 5\)"):
        computed(np.zeros((10, 3, 4)))
