"""Causal betas: against a naive slice-and-regress, and blind to everything that comes later."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import numpy.typing as npt
import pytest

from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.report.betas import RETURNS_MIN, WINDOW_DAYS, full_from_ms, trailing_betas
from daemon.report.run_record import BookRow, RunRecord
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


def cut_at(marks: Floats, begin: int, reach: int) -> RunRecord:
    """Make the record of a run that begins at a row, told of `reach` rows before it."""
    whole = record_of(marks)
    zero, late = Decimal(0), RunRecord()
    for at_ms, row in zip(whole.times_ms[begin:], marks[begin:], strict=True):
        late.add(at_ms, BookRow(1000.0, 0.0, zero, zero, zero, 0.0, np.zeros(len(row)), row))
    first = max(0, begin - reach)
    late.precede(whole.times_ms[first:], marks[first:])  # what is not before it is left out
    return late


def test_closes_before_the_run_stand_behind_its_first_betas() -> None:
    marks = drawn_marks(24 * 50)
    begin = 24 * 35
    through = trailing_betas(record_of(marks))[begin:]
    full = cut_at(marks, begin, 24 * 31)
    assert trailing_betas(full) == pytest.approx(through, rel=1e-9)
    assert (through[0] != 1.0).all()
    assert full_from_ms(full) <= full.times_ms[0]
    alone = cut_at(marks, begin, 0)
    assert (trailing_betas(alone)[0] == 1.0).all()
    assert full_from_ms(alone) == MIDNIGHT + (35 + 1 + 30) * DAY_MS


def test_from_when_on_thirty_days_are_there_hangs_on_how_far_the_closes_reach() -> None:
    marks = drawn_marks(24 * 50)
    short = cut_at(marks, 24 * 35, 24 * 10)
    assert full_from_ms(short) == MIDNIGHT + (25 + 1 + 30) * DAY_MS
    marks[: 24 * 30] = np.nan  # nobody was listed yet
    assert full_from_ms(cut_at(marks, 24 * 35, 24 * 31)) == MIDNIGHT + (30 + 1 + 30) * DAY_MS


def test_a_hole_before_the_run_keeps_the_mark_before_it() -> None:
    marks = drawn_marks(24 * 50)
    carried, holed = marks.copy(), marks.copy()
    holed[24 * 20 + 3, 1] = np.nan
    carried[24 * 20 + 3, 1] = marks[24 * 20 + 2, 1]
    begin = 24 * 35
    found = trailing_betas(cut_at(holed, begin, 24 * 31))
    assert found == pytest.approx(trailing_betas(cut_at(carried, begin, 24 * 31)), rel=1e-12)
