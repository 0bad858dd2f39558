"""What is due when: closes, decisions, and how long a forecast may stand in for a missing one."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.forecast import Prediction, is_usable
from daemon.domain.units import Timeframe
from daemon.engine.cadence import CadenceRules, usable_predictions
from tests.engine.world import H1, H2, M30, M90, MIDNIGHT_MS, at

RULES = CadenceRules(M30, (H1, M90, H2))


def prediction(timeframe: Timeframe, as_of_ms: int) -> Prediction:
    return Prediction(timeframe, as_of_ms, np.zeros(1), np.zeros(1), "m")


@pytest.mark.parametrize(
    ("bar", "due", "decides"),
    [
        (1, (), False),
        (2, (H1,), True),
        (3, (M90,), False),
        (4, (H1, H2), True),
        (6, (H1, M90), True),
        (9, (M90,), False),
        (12, (H1, M90, H2), True),  # all three close together every six hours
        (48, (H1, M90, H2), True),
    ],
)
def test_timeframes_close_on_the_grid_of_the_day(
    bar: int, due: tuple[Timeframe, ...], decides: bool
) -> None:
    assert RULES.due(at(bar)) == due
    assert RULES.decides_at(at(bar)) is decides


def test_over_a_day_there_are_24_16_and_12_closes() -> None:
    due = [t for bar in range(1, 49) for t in RULES.due(at(bar))]
    assert [due.count(t) for t in (H1, M90, H2)] == [24, 16, 12]


@pytest.mark.parametrize("timeframe", [H1, M90, H2])
def test_a_forecast_lives_for_its_own_bar_and_bridges_one_more(timeframe: Timeframe) -> None:
    newest = {timeframe: prediction(timeframe, MIDNIGHT_MS)}
    for late_ms, is_there in ((2 * timeframe.ms - 1, True), (2 * timeframe.ms, False)):
        as_of_ms = MIDNIGHT_MS + late_ms
        assert is_usable(timeframe, MIDNIGHT_MS, as_of_ms) is is_there
        assert bool(usable_predictions(newest, (H1, M90, H2), as_of_ms)) is is_there


def test_usable_forecasts_come_in_the_order_of_the_settings() -> None:
    newest = {H2: prediction(H2, at(4)), H1: prediction(H1, at(2)), M90: prediction(M90, at(3))}
    found = usable_predictions(newest, (H1, M90, H2), at(6))
    assert [p.timeframe for p in found] == [M90, H2]
    assert usable_predictions({}, (H1, M90, H2), at(6)) == ()
