"""Windows: gaps stay gaps, sequences end where they must."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.failures import ModelError
from daemon.domain.units import Timeframe
from strategies.forecast.inputs.features import FEATURES_N
from strategies.forecast.inputs.windows import (
    SEQUENCE_BARS,
    all_forecastable,
    channels,
    forecastable,
    on_grid,
    sequences,
)
from tests.strategies.forecast.markets import closes, walk

HOURLY = Timeframe(60)


def test_missing_instants_become_missing_bars() -> None:
    at, bars = closes(6, HOURLY), walk(6, 3)
    kept = [0, 1, 4, 5]
    full, spread = on_grid(at[kept], bars[kept], HOURLY)
    np.testing.assert_array_equal(full, at)
    np.testing.assert_array_equal(spread[kept], bars[kept])
    assert np.isnan(spread[[2, 3]]).all()


@pytest.mark.parametrize(
    ("at", "says"),
    [
        (np.array([], dtype=np.int64), "no 1h bars"),
        (closes(3, HOURLY) + 1, "on the grid"),
        (closes(3, HOURLY)[::-1], "must rise"),
        (closes(3, HOURLY)[[0, 0, 1]], "must rise"),
        (closes(4, HOURLY), "4 closes for 3 rows"),
    ],
)
def test_closes_that_are_no_grid_are_refused(at: np.ndarray, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        on_grid(at, walk(3, 2)[: max(len(at), 1) and 3], HOURLY)


def test_unusable_rows_are_all_zero_and_single_gaps_are_zero() -> None:
    rows = np.ones((4, 2, FEATURES_N))
    rows[1, 0] = np.nan
    rows[2, 1, 5] = np.nan
    found = channels(rows)
    assert not found[1, 0].any()
    assert found[2, 1, 5] == 0
    assert found[2, 1, -1] == 1
    assert found[0].all()


def test_a_forecast_needs_the_newest_row_and_half_of_all() -> None:
    sequence = np.ones((SEQUENCE_BARS, 4, FEATURES_N + 1), dtype=np.float32)
    sequence[-1, 1] = 0
    sequence[: SEQUENCE_BARS // 2 + 1, 2] = 0
    sequence[: SEQUENCE_BARS // 2, 3] = 0
    np.testing.assert_array_equal(forecastable(sequence), [True, False, False, True])


@pytest.mark.parametrize("length", [5, 12, 300])
def test_whole_tables_are_told_what_their_sequences_are(length: int) -> None:
    table = np.ones((length, 3, FEATURES_N + 1), dtype=np.float32)
    table[..., -1] = np.random.default_rng(2).random((length, 3)) < 0.6
    found = all_forecastable(table, 12)
    assert not found[:11].any()
    for t in range(11, length):
        np.testing.assert_array_equal(found[t], forecastable(table[t - 11 : t + 1]))
    assert length < 300 or 0.2 < found.mean() < 0.8


def test_sequences_end_at_their_row() -> None:
    table = np.arange(40, dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), dtype=np.float32)
    found = sequences(table, np.array([SEQUENCE_BARS - 1, 30]))
    assert found.shape == (2, SEQUENCE_BARS, 2, 3)
    np.testing.assert_array_equal(found[0, :, 0, 0], np.arange(SEQUENCE_BARS))
    np.testing.assert_array_equal(found[1, :, 1, 2], np.arange(31 - SEQUENCE_BARS, 31))
