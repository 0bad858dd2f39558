"""Folds: exact borders written out by hand, gaps kept, nothing overlaps."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated, ModelError
from daemon.domain.units import HOUR_MS
from strategies.forecast.training.splits import (
    Fold,
    Refits,
    Span,
    Spans,
    combinatorial,
    refit_folds,
    walk_forward,
)


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


REFITS = Refits(first_test_ms=600, every_ms=250, train_ms=300, stop_ms=90, reach_ms=6, embargo_ms=4)


def test_refits_have_the_borders_of_the_docstring() -> None:
    assert refit_folds(0, 1000, REFITS) == (
        Fold(Span(190, 490), Span(500, 590), Span(600, 850)),
        Fold(Span(440, 740), Span(750, 840), Span(850, 1000)),
    )
    rest = refit_folds(0, 970, REFITS)
    assert [fold.test for fold in rest] == [Span(600, 970)], "120 of 250 are no fit of their own"
    expanding = refit_folds(0, 1000, replace(REFITS, train_ms=None))
    assert [fold.train for fold in expanding] == [Span(0, 490), Span(0, 740)]


@given(
    st.integers(-500, 500),
    st.integers(50, 2000),
    st.integers(1, 700),
    st.one_of(st.none(), st.integers(1, 900)),
    st.integers(1, 200),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(1, 400),
)
def test_no_label_that_is_learned_from_meets_a_test_and_each_instant_is_forecast_once(
    start: int,
    tested: int,
    every: int,
    train: int | None,
    stop: int,
    reach: int,
    embargo: int,
    before: int,
) -> None:
    refits = Refits(0, every, train, stop, reach, embargo)
    refits = replace(refits, first_test_ms=start + refits.before_ms + before)
    end = refits.first_test_ms + tested
    folds = refit_folds(start, end, refits)
    instants = np.arange(start, end)
    forecasts = np.sum([fold.test.holds(instants) for fold in folds], axis=0)
    assert (forecasts == (instants >= refits.first_test_ms)).all(), "each instant once, no hole"
    for fold in folds:
        test = instants[fold.test.holds(instants)]
        for learned, later in ((fold.train, fold.stop), (fold.train, fold.test)):
            decisions = instants[learned.holds(instants)]
            assert decisions[-1] + reach < instants[later.holds(instants)][0] - embargo
        stops = instants[fold.stop.holds(instants)]
        assert stops[-1] + reach < test[0] - embargo
        assert len(stops) == stop
        assert fold.train.start_ms >= start
        if train is not None:
            assert fold.train.end_ms - fold.train.start_ms <= train
        assert isinstance(fold.learned, Span)
        assert (fold.learned.start_ms, fold.learned.end_ms) == (
            fold.train.start_ms,
            fold.stop.end_ms,
        )


@pytest.mark.parametrize("first", [0, 209, 1000, 1200])
def test_a_first_test_without_a_past_or_beyond_the_end_is_refused(first: int) -> None:
    refits = replace(REFITS, first_test_ms=first, stop_ms=190)
    with pytest.raises(InvariantViolated, match="first test"):
        refit_folds(0, 1000, refits)


@pytest.mark.parametrize(
    "changed", [{"every_ms": 0}, {"stop_ms": 0}, {"reach_ms": -1}, {"embargo_ms": -1}]
)
def test_refits_that_make_no_sense_are_refused(changed: dict[str, int]) -> None:
    with pytest.raises(InvariantViolated, match="must"):
        replace(REFITS, **changed)
    with pytest.raises(InvariantViolated, match="must"):
        replace(REFITS, train_ms=0)


@given(st.integers(3, 7), st.integers(1, 2), st.integers(0, 30), st.integers(0, 40))
def test_combinations_learn_nothing_that_a_test_settles(
    groups: int, test_groups: int, reach: int, embargo: int
) -> None:
    at_ms = np.arange(0, 10_000, 10, dtype=np.int64)
    if test_groups >= groups - 1:
        return
    found = combinatorial(
        at_ms,
        groups=groups,
        test_groups=test_groups,
        reach_ms=reach,
        embargo_ms=embargo,
        stop_ms=40,
    )
    assert len(found) == math.comb(groups, test_groups)
    tested = np.zeros(len(at_ms), dtype=np.int64)
    for one in found:
        fold = one.fold
        tested += fold.test.holds(at_ms)
        assert isinstance(fold.test, Spans)
        assert [np.flatnonzero(part.holds(at_ms)).tolist() for part in fold.test.parts] == [
            rows.tolist() for rows in one.split.tests
        ]
        stops = at_ms[fold.stop.holds(at_ms)]
        assert not (fold.train.holds(at_ms) & fold.stop.holds(at_ms)).any()
        for part in fold.test.parts:
            for learned in (at_ms[fold.train.holds(at_ms)], stops):
                before = learned[learned < part.start_ms]
                after = learned[learned >= part.end_ms]
                assert (before + reach < part.start_ms).all()
                assert (after > part.end_ms - 10 + reach + embargo).all()
        earlier = at_ms[fold.train.holds(at_ms) & (at_ms < stops[0])]
        assert (earlier + reach + embargo <= stops[0]).all()
        assert (fold.learned.holds(at_ms) == fold.train.holds(at_ms) | fold.stop.holds(at_ms)).all()
    assert (tested == math.comb(groups - 1, test_groups - 1)).all()


def test_combinations_that_leave_no_room_to_stop_say_what_would() -> None:
    at_ms = np.arange(0, 100 * HOUR_MS, HOUR_MS, dtype=np.int64)
    stop_ms = 20 * HOUR_MS
    with pytest.raises(ModelError, match=r"10 groups, 4 tested: .* has 0\.7 days, .* takes 1\.0"):
        combinatorial(
            at_ms,
            groups=10,
            test_groups=4,
            reach_ms=HOUR_MS,
            embargo_ms=2 * HOUR_MS,
            stop_ms=stop_ms,
        )


def test_decisions_off_an_even_grid_and_spans_out_of_order_are_refused() -> None:
    with pytest.raises(InvariantViolated, match="even grid"):
        combinatorial(
            np.array([0, 1, 3]), groups=3, test_groups=1, reach_ms=0, embargo_ms=0, stop_ms=1
        )
    with pytest.raises(InvariantViolated, match="out of order"):
        Spans((Span(5, 9), Span(0, 5)))
    with pytest.raises(InvariantViolated, match="at least one"):
        Spans(())
    both = Spans((Span(0, 5), Span(7, 9)))
    assert (both.start_ms, both.end_ms) == (0, 9)
