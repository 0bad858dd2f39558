"""The benchmark of decisions times every decision after the first ones, and they trade."""

import pytest

from benchmarks.decision import measured


@pytest.mark.parametrize("weights", ["closed_form", "mean_variance"])
def test_each_decision_is_timed_whole_and_in_part(weights: str) -> None:
    times = measured(8, weights, 8, 4)
    assert len(times.cpu) == len(times.wall) == len(times.strategy) == 4
    assert all(0 < part <= whole for part, whole in zip(times.strategy, times.cpu, strict=True))
    assert sum(times.orders_n) > 0
