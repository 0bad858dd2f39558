"""Hold resampling to the library arch, draw by draw, and its intervals to their promise."""

import numpy as np
import pytest
from arch.bootstrap import CircularBlockBootstrap, StationaryBootstrap, optimal_block_length
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.statistics.bootstrap import (
    block_length,
    bootstrap_interval,
    circular_indices,
    stationary_indices,
)
from daemon.statistics.checks import Floats


def _ar(r: float, T: int, seed: int) -> Floats:
    noise = np.random.default_rng(seed).standard_normal(T)
    x = np.zeros(T)
    for t in range(1, T):
        x[t] = r * x[t - 1] + noise[t]
    return x


def _mean(x: Floats) -> float:
    return float(x.mean())


@pytest.mark.parametrize("block", [1, 4, 25])
def test_stationary_indices_equal_those_of_arch_from_the_same_seed(block: int) -> None:
    theirs = StationaryBootstrap(block, np.arange(60), seed=8).bootstrap(30)
    ours = stationary_indices(np.random.default_rng(8), 60, block_mean=block, repetitions=30)
    for mine, (their, _) in zip(ours, theirs, strict=True):
        assert mine.tolist() == their[0].tolist()


@pytest.mark.parametrize("block", [1, 7, 60])
def test_circular_indices_equal_those_of_arch_from_the_same_seed(block: int) -> None:
    theirs = CircularBlockBootstrap(block, np.arange(60), seed=8).bootstrap(30)
    ours = circular_indices(np.random.default_rng(8), 60, block=block, repetitions=30)
    for mine, (their, _) in zip(ours, theirs, strict=True):
        assert mine.tolist() == their[0].tolist()


@settings(max_examples=40)
@given(T=st.integers(1, 50), block=st.floats(1.0, 80.0), seed=st.integers(0, 10_000))
def test_indices_stay_inside_and_blocks_have_the_mean_length(
    T: int, block: float, seed: int
) -> None:
    draws = stationary_indices(np.random.default_rng(seed), T, block_mean=block, repetitions=3)
    for index in draws:
        assert index.shape == (T,)
        assert index.min() >= 0
        assert index.max() < T


def test_blocks_have_the_mean_length_that_was_asked_for() -> None:
    (index,) = stationary_indices(np.random.default_rng(1), 200_000, block_mean=20.0, repetitions=1)
    joints = int(((np.diff(index) != 1) & (np.diff(index) != 1 - 200_000)).sum())
    assert 200_000 / (joints + 1) == pytest.approx(20.0, rel=0.03)


@pytest.mark.parametrize("r", [0.0, 0.3, 0.5, 0.8, -0.4])
@pytest.mark.parametrize("T", [100, 500, 3_000])
def test_automatic_block_length_equals_that_of_arch(r: float, T: int) -> None:
    for seed in range(5):
        x = _ar(r, T, seed)
        ours, theirs = block_length(x), optimal_block_length(x).iloc[0]
        assert ours.stationary == pytest.approx(max(theirs["stationary"], 1.0), rel=1e-10)
        assert ours.circular == pytest.approx(max(theirs["circular"], 1.0), rel=1e-10)


def test_automatic_block_length_of_an_ar_process_is_near_its_formula() -> None:
    r, T = 0.5, 20_000
    formula = (2 * r / (1 - r**2)) ** (2 / 3) * T ** (1 / 3)
    assert formula == pytest.approx(32.9, abs=0.05)
    assert 1.5 ** (1 / 3) * formula == pytest.approx(37.6, abs=0.1)
    seen = [block_length(_ar(r, T, seed)) for seed in range(5)]
    assert np.mean([b.stationary for b in seen]) == pytest.approx(formula, rel=0.15)
    assert seen[0].circular / seen[0].stationary == pytest.approx(1.5 ** (1 / 3))


def test_a_series_that_does_not_vary_needs_no_blocks() -> None:
    assert block_length(np.full(50, 3.0)).stationary == 1.0


def test_interval_of_a_mean_is_that_of_the_textbook_where_draws_are_independent() -> None:
    x = np.random.default_rng(4).standard_normal(400)
    seen = bootstrap_interval(_mean, x, seed=1, block_mean=1.0)
    error = x.std() / 20.0
    assert seen.estimate == pytest.approx(x.mean())
    assert seen.standard_error == pytest.approx(error, rel=0.05)
    assert (seen.low, seen.high) == pytest.approx(
        (x.mean() - 1.96 * error, x.mean() + 1.96 * error), abs=0.2 * error
    )


def test_interval_equals_the_percentiles_of_arch_from_the_same_seed() -> None:
    x = _ar(0.4, 200, 6)
    ours = bootstrap_interval(_mean, x, seed=3, block_mean=9.0, repetitions=300)
    theirs = StationaryBootstrap(9, x, seed=3).conf_int(_mean, 300, method="percentile")
    assert [ours.low, ours.high] == pytest.approx(theirs.ravel().tolist(), rel=1e-12)


def test_dependence_widens_the_interval_and_the_seed_fixes_it() -> None:
    x = _ar(0.6, 600, 2)
    naive = bootstrap_interval(_mean, x, seed=5, block_mean=1.0, repetitions=400)
    blocks = bootstrap_interval(_mean, x, seed=5, repetitions=400)
    assert blocks.high - blocks.low > 1.4 * (naive.high - naive.low)
    assert blocks == bootstrap_interval(_mean, x, seed=5, repetitions=400)
    assert blocks != bootstrap_interval(_mean, x, seed=6, repetitions=400)


def test_pairs_are_drawn_together() -> None:
    x = _ar(0.2, 100, 1)
    pair = np.column_stack((x, x + 1.0))
    seen = bootstrap_interval(
        lambda rows: float((rows[:, 1] - rows[:, 0]).mean()), pair, seed=1, repetitions=50
    )
    assert (seen.low, seen.high) == pytest.approx((1.0, 1.0))


def test_a_statistic_that_fails_on_a_resample_leaves_no_interval() -> None:
    x = np.arange(20.0)
    seen = bootstrap_interval(
        lambda rows: float("nan") if rows[0] == 3.0 else 1.0, x, seed=1, repetitions=200
    )
    assert seen.estimate == 1.0
    assert np.isnan([seen.low, seen.high, seen.standard_error]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(_mean, np.ones(5), seed=1), "values has 5 rows: at least 8"),
        (lambda: bootstrap_interval(_mean, np.ones(9), seed=1, level=95.0), "level 95.0"),
        (
            lambda: bootstrap_interval(_mean, np.array([0.0] * 8 + [np.nan]), seed=1),
            "values at 8, 0 is nan",
        ),
        (
            lambda: stationary_indices(np.random.default_rng(1), 5, block_mean=0.5, repetitions=1),
            "block_mean 0.5: at least 1",
        ),
        (
            lambda: circular_indices(np.random.default_rng(1), 5, block=6, repetitions=1),
            "block 6: at most the 5 observations",
        ),
        (lambda: block_length(np.ones((9, 2))), r"values has shape \(9, 2\)"),
    ],
)
def test_bad_input_is_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvariantViolated, match=message):
        call()


@pytest.mark.soak
@pytest.mark.parametrize(("r", "T"), [(0.0, 250), (0.3, 250), (0.3, 1_000), (0.6, 1_000)])
def test_intervals_cover_the_truth_about_as_often_as_they_say(r: float, T: int) -> None:
    inside = 0
    for seed in range(300):
        seen = bootstrap_interval(_mean, _ar(r, T + 50, seed)[50:], seed=seed, repetitions=500)
        inside += seen.low <= 0.0 <= seen.high
    print(f"r {r}, T {T}: {inside / 300:.3f}")
    assert 0.90 <= inside / 300 <= 0.98
