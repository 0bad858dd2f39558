"""Decisions of a few legs are rounded one by one: the same lots as by the joint way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.domain.lots import FEW_LEGS, FeasibleBook, LotRules, feasible_book

N = FEW_LEGS + 3
RULES = LotRules(np.full(N, 0.01), np.full(N, 0.02), np.full(N, 5.0))


def book(
    weights: list[float], traded: list[bool], *, joint: bool, tolerance: float, mark: float = 100.0
) -> FeasibleBook:
    return feasible_book(
        np.array(weights),
        equity=1_000.0,
        marks=np.full(N, mark),
        quantities=np.linspace(-1.0, 1.0, N).round(2),
        rules=RULES,
        trade=np.array(traded),
        reduce_only=np.zeros(N, dtype=np.bool_) if joint else None,  # asks for the joint way
        net_tolerance=tolerance,
    )


@given(
    st.lists(st.floats(-0.3, 0.3), min_size=N, max_size=N),
    st.lists(st.booleans(), min_size=N, max_size=N),
    st.sampled_from([0.0, 0.5, 10.0]),
)
@example([0.1] * N, [True] * N, 10.0)  # more legs than the short way takes
def test_both_ways_give_the_same_lots(
    weights: list[float], traded: list[bool], tolerance: float
) -> None:
    few = book(weights, traded, joint=False, tolerance=tolerance)
    joint = book(weights, traded, joint=True, tolerance=tolerance)
    assert few.lots.tolist() == joint.lots.tolist()
    assert few.net_error == pytest.approx(joint.net_error, abs=1e-9)
    assert few.dropped.tolist() == joint.dropped.tolist()


@pytest.mark.parametrize(("mark", "weight"), [(0.0, 0.1), (float("nan"), 0.1), (1e-12, 0.1)])
def test_what_no_number_of_lots_can_be_is_refused_either_way(mark: float, weight: float) -> None:
    traded = [True] + [False] * (N - 1)
    for joint in (True, False):
        with pytest.raises(InvariantViolated, match="a traded leg"):
            book([weight * 1e9] * N, traded, joint=joint, tolerance=0.0, mark=mark)
