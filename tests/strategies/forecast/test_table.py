"""A table as an estimator: the row of the newest close, NaN where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.bar import Window
from daemon.domain.failures import InvariantViolated, ModelError
from daemon.domain.predictions import PredictionTable, rows_of
from daemon.domain.units import HOUR_MS, Timeframe
from strategies.forecast.table import TableEstimator

START_MS = 1_704_067_200_000
HOUR, TWO = Timeframe(60), Timeframe(120)
FIRST = np.array([[1.0, 0.2], [0.2, 1.0]])
LATER = np.array([[1.0, 0.7], [0.7, 1.0]])


def table() -> PredictionTable:
    as_of_ms = START_MS + HOUR_MS * np.array([0, 1, 2], dtype=np.int64)
    prediction = np.array([[0.1, 0.2], [np.nan, 0.4], [0.5, 0.6]])
    mean = np.array([prediction, 10 * prediction])
    mean[1, 1] = np.nan
    held = ((START_MS, FIRST), (START_MS + 2 * HOUR_MS, LATER))
    return rows_of(("BBB", "AAA"), (HOUR, TWO), as_of_ms, prediction, mean, mean**2, held)


def estimator(
    *timeframes: Timeframe, symbols: tuple[str, ...] = ("BBB", "CCC", "AAA")
) -> TableEstimator:
    return TableEstimator(table(), "id", name="t.parquet", symbols=symbols, timeframes=timeframes)


def window(timeframe: Timeframe, newest_ms: int, N: int = 3) -> Window:
    return Window(timeframe, newest_ms, np.ones((4, N, 5)))


def test_each_window_gets_the_row_of_its_newest_close_in_the_order_of_the_windows() -> None:
    said = estimator(HOUR, TWO).estimate(
        START_MS + HOUR_MS, [window(HOUR, START_MS + HOUR_MS), window(TWO, START_MS)]
    )
    hour, two = said.predictions
    assert (hour.model_id, hour.as_of_ms, two.as_of_ms) == ("id", START_MS + HOUR_MS, START_MS)
    np.testing.assert_array_equal(hour.mean, [np.nan, np.nan, 0.4])
    np.testing.assert_array_equal(two.mean, [1.0, np.nan, 2.0])
    np.testing.assert_array_equal(two.variance, [1.0, np.nan, 4.0])


def test_before_and_after_the_table_nothing_is_known() -> None:
    for at_ms in (START_MS - HOUR_MS, START_MS + 3 * HOUR_MS, START_MS + 30 * 60_000):
        (said,) = estimator(HOUR).estimate(at_ms, [window(HOUR, at_ms)]).predictions
        assert np.isnan(said.mean).all()
        assert np.isnan(said.variance).all()


def test_the_correlation_of_errors_is_the_one_that_held_then_for_the_runs_timeframes() -> None:
    asked = estimator(HOUR, TWO)
    assert asked.estimate(START_MS - 1, []).disagreement is None
    for at_ms, held in ((START_MS + HOUR_MS, FIRST), (START_MS + 2 * HOUR_MS, LATER)):
        np.testing.assert_array_equal(asked.estimate(at_ms, []).disagreement, held)
    np.testing.assert_array_equal(estimator(TWO).estimate(START_MS, []).disagreement, [[1.0]])


def test_what_does_not_fit_the_run_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"t\.parquet: it holds predictions of AAA, which this run"
    ):
        estimator(HOUR, symbols=("BBB", "CCC"))
    with pytest.raises(ModelError, match=r"t\.parquet: no 4h forecasts; the table knows 1h, 2h"):
        estimator(HOUR, Timeframe(240))
    with pytest.raises(InvariantViolated, match="windows of 2 instruments, not 3"):
        estimator(HOUR).estimate(START_MS, [window(HOUR, START_MS, N=2)])
    (said,) = estimator(HOUR).estimate(START_MS, [window(Timeframe(240), START_MS)]).predictions
    assert np.isnan(said.mean).all()
