"""What is known at an instant: against a loop that looks at every row, and against pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.covariates import (
    FUNDING_STALE_MS,
    Series,
    hourly_funding,
    last_known,
    newest,
    quiet_from,
    series_of,
    series_problem,
)
from daemon.domain.units import HOUR_MS

STALE = 30


def made(rows: list[tuple[int, int, float]], stale_ms: int = STALE) -> Series:
    ts, known, values = (np.array(c) for c in zip(*rows, strict=True)) if rows else ((),) * 3
    return series_of(
        np.array(ts, dtype=np.int64),
        np.array(known, dtype=np.int64),
        np.array(values, dtype=np.float64),
        stale_ms,
    )


@st.composite
def histories(draw: Any) -> list[tuple[int, int, float]]:
    """Draw observations with lags, late comers and versions; (ts, known) is there once."""
    rows = draw(
        st.dictionaries(
            st.tuples(st.integers(0, 25), st.integers(0, 20)), st.integers(-9, 9), max_size=25
        )
    )
    return [(ts, ts + lag, float(value)) for (ts, lag), value in rows.items()]


def by_looking(rows: list[tuple[int, int, float]], at_ms: int, count: int) -> list[float]:
    """Give the newest values known at an instant the slow way; [] when they are stale."""
    known = [row for row in rows if row[1] <= at_ms]
    if not known:
        return []
    newest_ts = max(ts for ts, _, _ in known)
    if at_ms - min(k for ts, k, _ in known if ts == newest_ts) >= STALE:
        return []
    last = {}
    for ts, _, value in sorted(known, key=lambda row: row[1]):
        last[ts] = value
    return [last[ts] for ts in sorted(last)][-count:]


@given(histories())
def test_the_value_as_of_an_instant_is_what_a_look_at_every_row_finds(
    rows: list[tuple[int, int, float]],
) -> None:
    series = made(rows)
    assert series_problem(series) is None
    at_ms = np.arange(-2, 90, dtype=np.int64)
    found = newest(series).at(at_ms)
    windows, steps = last_known(series, 3)
    for t, value in zip(at_ms.tolist(), found.tolist(), strict=True):
        expected = by_looking(rows, t, 3)
        assert (np.isnan(value) and not expected) or [value] == expected[-1:]
        if expected:
            row = int(np.searchsorted(steps.from_ms, t, side="right")) - 1
            held = windows[row]
            assert held[np.isfinite(held)].tolist() == expected


@given(histories(), st.integers(0, 40))
def test_later_rows_change_nothing_and_a_lag_moves_everything(
    rows: list[tuple[int, int, float]], lag: int
) -> None:
    series = made(rows)
    at_ms = np.arange(-2, 90, dtype=np.int64)
    found = newest(series).at(at_ms)
    np.testing.assert_array_equal(newest(series.known_later(lag)).at(at_ms + lag), found)
    for t in (0, 7, 25, 40):
        early = at_ms <= t
        np.testing.assert_array_equal(newest(series.known_at(t)).at(at_ms[early]), found[early])


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(0, 12))
def test_without_versions_it_is_the_join_that_pandas_makes(steps: list[int], lag: int) -> None:
    ts = np.cumsum(np.array(steps, dtype=np.int64))
    values = np.arange(len(ts), dtype=np.float64)
    at_ms = np.arange(0, int(ts[-1]) + 60, dtype=np.int64)
    right = pd.DataFrame({"t": ts + lag, "value": values})
    joined = pd.merge_asof(pd.DataFrame({"t": at_ms}), right, on="t", tolerance=STALE - 1)
    found = newest(Series(ts, ts + lag, values, STALE)).at(at_ms)
    np.testing.assert_array_equal(found, joined["value"].to_numpy())


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(5, 4, 1.0)], "is known before the instant that it is about"),
        ([(5, 6, float("nan"))], "holds no finite value"),
        ([(5, 6, 1.0), (5, 6, 2.0)], "is there twice"),
    ],
)
def test_a_bad_series_is_described(rows: list[tuple[int, int, float]], said: str) -> None:
    assert said in (series_problem(made(rows)) or "")
    ts, known = np.array([1, 2], dtype=np.int64), np.array([9, 8], dtype=np.int64)
    assert "order of known_ms" in (series_problem(Series(ts, known, np.ones(2), 5)) or "")


def test_funding_is_per_hour_of_its_own_interval_through_a_change_and_a_hole() -> None:
    hours = [0, 8, 16, 20, 24, 25, 26, 200, 201, 205]
    settle_ms = np.array(hours, dtype=np.int64) * HOUR_MS
    rates = np.array([8.0, 8.0, 16.0, 4.0, 8.0, 1.0, 3.0, 2.0, 2.0, 8.0])
    found = hourly_funding(settle_ms, rates)
    # the first has no interval yet; the one after the hole keeps the last one
    assert found.values.tolist() == [1.0, 2.0, 1.0, 2.0, 1.0, 3.0, 2.0, 2.0, 2.0]
    assert (found.known_ms == found.ts).all()
    steps = newest(found)
    at = np.array([8, 24, 25, 26 + FUNDING_STALE_MS // HOUR_MS - 1, 150], dtype=np.int64) * HOUR_MS
    np.testing.assert_array_equal(steps.at(at), [1.0, 2.0, 1.0, 3.0, np.nan])
    np.testing.assert_array_equal(steps.at(at[:1] - 1), [np.nan])
    for cut in range(2, len(hours)):
        before = hourly_funding(settle_ms[:cut], rates[:cut])
        assert before.values.tolist() == found.values.tolist()[: cut - 1]


def test_funding_that_came_late_is_known_from_then_on() -> None:
    settle_ms = np.array([0, 8, 16, 24], dtype=np.int64) * HOUR_MS
    known_ms = settle_ms + np.array([0, 0, 9, 0], dtype=np.int64) * HOUR_MS
    found = hourly_funding(settle_ms, np.full(4, 8.0), known_ms)
    # the one after it says how long its interval was only when both are known
    assert (found.known_ms // HOUR_MS).tolist() == [8, 25, 25]
    assert series_problem(found) is None
    assert len(found.known_at(24 * HOUR_MS)) == 1


def test_a_series_is_late_after_twice_its_longest_pause_and_when_it_is_stale() -> None:
    rows = [(0, 1, 1.0), (2, 3, 1.0), (7, 8, 1.0), (7, 10, 2.0), (9, 12, 1.0), (30, 33, 1.0)]
    # known first at 1, 3, 8, 12 and 33: pauses of 2, 5, 4 and 21; a version is nothing new
    wanted = [1 + STALE, 3 + 4, 8 + 10, 8 + 10, 12 + 10, 33 + STALE]
    assert quiet_from(made(rows)).tolist() == wanted
    assert quiet_from(made([])).tolist() == []


@given(histories())
def test_when_a_series_is_late_depends_on_nothing_that_became_known_later(
    rows: list[tuple[int, int, float]],
) -> None:
    whole = made(rows)
    for at_ms in whole.known_ms.tolist():
        cut = whole.known_at(at_ms)
        np.testing.assert_array_equal(quiet_from(cut), quiet_from(whole)[: len(cut)])
