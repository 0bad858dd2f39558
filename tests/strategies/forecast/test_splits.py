"""Folds: exact borders written out by hand, gaps kept, nothing overlaps."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from strategies.forecast.training.splits import Fold, Span, walk_forward


def test_two_folds_have_the_borders_of_the_docstring() -> None:
    folds = walk_forward(0, 1000, folds=2, gap_ms=10, stop_share=0.1, test_share=0.2)
    assert folds == (
        Fold(Span(0, 690), Span(700, 790), Span(800, 900)),
        Fold(Span(0, 790), Span(800, 890), Span(900, 1000)),
    )


@given(
    st.integers(1, 6), st.integers(0, 50), st.floats(0.05, 0.3), st.floats(0.2, 0.4), st.integers()
)
def test_parts_follow_each_other_with_the_gap_and_tests_do_not_overlap(
    count: int, gap: int, stop: float, test: float, start: int
) -> None:
    folds = walk_forward(
        start, start + 10_000, folds=count, gap_ms=gap, stop_share=stop, test_share=test
    )
    for fold in folds:
        assert fold.train.start_ms == start
        assert fold.train.end_ms + gap == fold.stop.start_ms
        assert fold.stop.end_ms + gap == fold.test.start_ms
    for earlier, later in itertools.pairwise(folds):
        assert earlier.test.end_ms == later.test.start_ms
    assert folds[-1].test.end_ms == start + 10_000


def test_a_gap_that_swallows_a_part_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="empty span"):
        walk_forward(0, 1000, folds=1, gap_ms=200)
