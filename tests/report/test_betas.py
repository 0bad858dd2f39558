"""Causal betas: against a naive slice-and-regress, and blind to everything that comes later."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.betas import RETURNS_MIN, WINDOW_DAYS, trailing_betas
from tests.report.test_exposures import MIDNIGHT, drawn_marks, record_of

Floats = npt.NDArray[np.float64]


def naive(marks: Floats, market: Floats, times: list[int], row: int) -> Floats:
    """Regress the returns that closed in the 30 days before the row's midnight."""
    midnight = times[row] // DAY_MS * DAY_MS
    first = midnight - WINDOW_DAYS * DAY_MS
    inside = [k for k in range(1, len(times)) if first < times[k] <= midnight]
    x = market[inside] / market[[k - 1 for k in inside]] - 1
    betas = []
    for i in range(marks.shape[1]):
        y = marks[inside, i] / marks[[k - 1 for k in inside], i] - 1
        known = np.isfinite(y)
        enough = known.sum() >= RETURNS_MIN
        betas.append(np.cov(x[known], y[known])[0, 1] / x[known].var(ddof=1) if enough else 1.0)
    return np.array(betas)


def test_betas_are_those_of_a_regression_on_what_had_ended() -> None:
    marks = drawn_marks(24 * 50)
    marks[: 24 * 20, 2] = np.nan  # listed later
    record = record_of(marks)
    found, market = trailing_betas(record), record.column("market")
    for row in (0, 23, 24 * 5, 24 * 5 - 1, 24 * 22, 24 * 25 + 7, 24 * 40, 24 * 50 - 1):
        expected = naive(marks, market, record.times_ms, row)
        assert found[row] == pytest.approx(expected, rel=1e-9), row
    assert (found[: 24 * 4 - 1] == 1.0).all()  # 95 returns of four days are not enough
    assert (found[24 * 22, [0, 1, 3]] != 1.0).all()
    assert found[24 * 22, 2] == 1.0
    assert found[24 * 25, 2] != 1.0


def test_nothing_that_comes_later_moves_a_beta() -> None:
    marks = drawn_marks(24 * 30)
    changed = marks.copy()
    changed[24 * 20 :] *= np.exp(np.random.default_rng(1).normal(0, 0.1, changed[24 * 20 :].shape))
    before, after = trailing_betas(record_of(marks)), trailing_betas(record_of(changed))
    assert (before[: 24 * 21 - 1] == after[: 24 * 21 - 1]).all()
    assert (before[24 * 21 :] != after[24 * 21 :]).any()


def test_a_market_that_stands_still_gives_no_beta() -> None:
    assert (trailing_betas(record_of(np.full((24 * 10, 3), 5.0))) == 1.0).all()
    one = record_of(np.full((1, 3), 5.0))
    assert one.times_ms == [MIDNIGHT + HOUR_MS]
    assert (trailing_betas(one) == 1.0).all()
