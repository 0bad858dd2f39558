"""The newest feature row from what was kept: whatever came before, the same as anew, to the bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Field, Floats, Window
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import Timeframe
from strategies.forecast.inputs.features import Prepared, features, prepare
from strategies.forecast.inputs.newest import FeatureRows
from strategies.forecast.inputs.windows import SEQUENCE_BARS, WINDOW_BARS
from tests.strategies.forecast.markets import START_MS, TIMEFRAMES, walk

HOURLY = Timeframe(60)
BARS = WINDOW_BARS + 60


def window(values: Floats, end: int, timeframe: Timeframe = HOURLY) -> Window:
    rows = values[max(0, end - WINDOW_BARS) : end].copy()
    return Window(timeframe, START_MS + end * timeframe.ms, rows)


def anew(asked: Window) -> Floats:
    """Compute the rows with the function that training uses, and nothing kept."""
    missing = np.full((WINDOW_BARS, *asked.values.shape[1:]), np.nan)
    values = np.concatenate([missing, asked.values])[-WINDOW_BARS:]
    return features(
        values, newest_close_ms=asked.newest_ms, timeframe=asked.timeframe, newest=SEQUENCE_BARS
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One change of the market before the next windows are asked for."""

    on: int = 1  # bars until the next window; 0 asks for the same one again
    gap: int = 0  # newest bars of an instrument that are missing
    revised: int = 0  # how far back a bar is revised, 0 is none
    joined: int = 0  # instruments that come in, without a past
    due: int = 7  # timeframes asked for, as bits
    flat: bool = False  # an instrument trades at one price from here on


STEPS = st.builds(
    Step,
    on=st.sampled_from([1, 1, 1, 1, 1, 0, 2, 40]),
    gap=st.sampled_from([0, 0, 0, 1, 3, 7]),
    revised=st.sampled_from([0, 0, 0, 0, 1, 2, 100]),
    joined=st.sampled_from([0, 0, 0, 0, 0, 2]),
    due=st.integers(1, 7),
    flat=st.sampled_from([False, False, False, True]),
)


def changed(bars: Floats, end: int, step: Step) -> Floats:
    """Change the market as a step says, in place but for instruments that join."""
    newest_n = bars.shape[1] - 1
    if step.gap:
        bars[end - step.gap : end, newest_n // 2] = np.nan
    if step.revised:
        bars[end - 1 - step.revised, newest_n] *= 1.01
    if step.flat:
        bars[end - 1 :, 0, : Field.VOLUME] = 100.0
    if step.joined:
        more = walk(len(bars), step.joined, seed=end)
        more[: end - 1] = np.nan
        bars = np.concatenate([bars, more], axis=1)
    return bars


@settings(max_examples=25, deadline=None)
@given(
    instruments_n=st.sampled_from([1, 2, 5]),
    gaps=st.sampled_from([0.0, 0.0, 0.03, 0.5]),
    begin=st.sampled_from([5, 70, WINDOW_BARS - 1, WINDOW_BARS]),
    steps=st.lists(STEPS, min_size=1, max_size=12),
)
def test_any_sequence_of_windows_gives_the_rows_of_a_full_computation(
    instruments_n: int, gaps: float, begin: int, steps: list[Step]
) -> None:
    bars = walk(BARS + 40 * len(steps), instruments_n, gaps=gaps)
    following, end = FeatureRows(), begin
    for step in steps:
        end += step.on
        bars = changed(bars, end, step)
        due = [t for place, t in enumerate(TIMEFRAMES) if step.due >> place & 1]
        asked = [window(bars, end, timeframe) for timeframe in due]
        for one, rows in zip(asked, following.newest(asked), strict=True):
            np.testing.assert_array_equal(rows, anew(one))


def test_a_long_unbroken_run_uses_what_was_kept_and_stays_the_same_to_the_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bars, following, begun = walk(BARS + 80, 6, gaps=0.002), FeatureRows(), 0
    for length in range(2, 7):  # longer holes, up to beyond what a stand-in may cover
        bars[WINDOW_BARS + 9 * length : WINDOW_BARS + 10 * length, length - 1] = np.nan

    def counted(values: Floats) -> Prepared:
        nonlocal begun
        begun += 1
        return prepare(values)

    monkeypatch.setattr("strategies.forecast.inputs.newest.prepare", counted)
    for end in range(WINDOW_BARS, len(bars)):
        asked = [window(bars, end, timeframe) for timeframe in TIMEFRAMES[:2]]
        found = following.newest(asked)
        if end % 3 == 0:
            for one, rows in zip(asked, found, strict=True):
                np.testing.assert_array_equal(rows, anew(one))
    assert begun == 2  # once a timeframe


def test_timeframes_of_unlike_width_are_followed_beside_each_other() -> None:
    wide, narrow, following = walk(BARS, 5), walk(BARS, 3, seed=2), FeatureRows()
    for end in range(WINDOW_BARS, WINDOW_BARS + 4):
        asked = [
            window(wide, end, TIMEFRAMES[0]),
            window(narrow, end, TIMEFRAMES[1]),
            window(wide, end, TIMEFRAMES[2]),
        ]
        for one, rows in zip(asked, following.newest(asked), strict=True):
            np.testing.assert_array_equal(rows, anew(one))


def test_two_windows_of_one_timeframe_at_once_are_refused() -> None:
    asked = window(walk(BARS, 2), WINDOW_BARS)
    with pytest.raises(InvariantViolated, match="two windows of one timeframe"):
        FeatureRows().newest([asked, asked])
