"""Show that copies of a trial count once, different ones each, and that copies cannot flatter."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.statistics.checks import Floats
from daemon.statistics.trials import deflate, trial_clusters


def _families(seed: int, sizes: tuple[int, ...], *, T: int = 600, inner: float = 0.8) -> Floats:
    """Plant families of trials that correlate by `inner` inside and not at all outside."""
    rng = np.random.default_rng(seed)
    columns = []
    for size in sizes:
        common = rng.standard_normal(T)
        for _ in range(size):
            columns.append(np.sqrt(inner) * common + np.sqrt(1 - inner) * rng.standard_normal(T))
    return np.column_stack(columns)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1_000),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6).map(tuple),
)
def test_planted_families_are_found_exactly(seed: int, sizes: tuple[int, ...]) -> None:
    planted = tuple(family for family, size in enumerate(sizes) for _ in range(size))
    assert trial_clusters(_families(seed, sizes)) == planted


def test_independent_trials_count_each_and_copies_count_once() -> None:
    x = np.random.default_rng(1).standard_normal((500, 30))
    assert trial_clusters(x) == tuple(range(30))
    assert trial_clusters(np.repeat(x[:, :1], 30, axis=1) * np.arange(1, 31)) == (0,) * 30


def test_opposite_trials_are_different_trials() -> None:
    x = np.random.default_rng(1).standard_normal(100)
    assert trial_clusters(np.column_stack((x, -x))) == (0, 1)


def test_the_best_of_many_without_skill_is_deflated_to_nothing_special() -> None:
    verdicts = [
        deflate(np.random.default_rng(seed).standard_normal((500, 50))).dsr for seed in range(40)
    ]
    assert 0.3 <= np.mean(verdicts) <= 0.7
    assert np.mean(np.array(verdicts) > 0.95) <= 0.1


def test_a_true_edge_survives_deflation() -> None:
    x = np.random.default_rng(2).standard_normal((1_000, 20))
    x[:, 7] += 0.2
    seen = deflate(x)
    assert seen.best == 7
    assert seen.trials == seen.trials_effective == 20
    assert seen.dsr > 0.99


def test_many_copies_of_one_trial_do_not_shrink_the_hurdle() -> None:
    x = np.random.default_rng(3).standard_normal((500, 10))
    alone = deflate(x)
    crowd = deflate(np.column_stack((x, np.repeat(x[:, :1], 90, axis=1))))
    assert (crowd.trials, crowd.trials_effective) == (100, 10)
    assert crowd.hurdle == pytest.approx(alone.hurdle)


def test_trials_without_returns_count_in_full() -> None:
    x = np.random.default_rng(3).standard_normal((500, 10))
    assert deflate(x, trials=25).trials_effective == 25
    assert deflate(x, trials=25).dsr < deflate(x).dsr


def test_a_single_trial_has_no_hurdle() -> None:
    seen = deflate(np.random.default_rng(5).standard_normal((300, 1)))
    assert (seen.trials_effective, seen.hurdle) == (1, 0.0)


def test_trials_that_never_traded_and_too_few_trials_are_refused() -> None:
    x = np.random.default_rng(1).standard_normal((50, 3))
    x[:, 1] = 0.0
    with pytest.raises(InvariantViolated, match=r"trials \[1\] never vary"):
        trial_clusters(x)
    with pytest.raises(InvariantViolated, match="trials 2: at least 3"):
        deflate(np.random.default_rng(1).standard_normal((50, 3)), trials=2)
