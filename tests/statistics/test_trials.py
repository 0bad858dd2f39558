"""Show that no search without skill is called a discovery, and that copies cannot flatter."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.statistics.checks import Floats
from daemon.statistics.sharpe_inference import expected_maximum
from daemon.statistics.trials import (
    deflate,
    effective_trials,
    independent_maximum,
    luck_among,
    luck_unseen,
)

YEAR = 365
SURE = 0.95


def correlated(rng: np.random.Generator, trials: int, rho: float, days: int = YEAR) -> Floats:
    """Draw (T, N) returns without skill of which any two trials correlate by rho."""
    common = rng.standard_normal((days, 1))
    own = rng.standard_normal((days, trials))
    return np.asarray(np.sqrt(rho) * common + np.sqrt(1.0 - rho) * own)


def discoveries(trials: int, rho: float, days: int, searches: int, seed: int = 3) -> int:
    rng = np.random.default_rng(seed)
    return sum(deflate(correlated(rng, trials, rho, days)).dsr >= SURE for _ in range(searches))


def at_most(searches: int, deviations: float = 2.0) -> float:
    """Give how many of so many searches may pass by luck where 5 % do."""
    return 0.05 * searches + deviations * math.sqrt(0.05 * 0.95 * searches)


# ---- how many there are --------------------------------------------------------------------------


def test_the_expected_maximum_by_integration_is_the_known_one() -> None:
    # 1/sqrt(pi) and 1.5/sqrt(pi) are exact; the others are the tabulated normal order statistics
    wanted = {1: 0.0, 2: np.pi**-0.5, 3: 1.5 * np.pi**-0.5, 10: 1.5387527, 100: 2.5075936}
    for n, value in wanted.items():
        assert independent_maximum(n) == pytest.approx(value, abs=1e-7)
    assert independent_maximum(46.0) == pytest.approx(expected_maximum(46.0), rel=0.015)
    with pytest.raises(InvariantViolated, match=r"trials 0\.5: at least 1"):
        independent_maximum(0.5)


@settings(max_examples=10)
@given(seed=st.integers(0, 1_000), trials=st.integers(2, 40))
def test_independent_trials_count_each(seed: int, trials: int) -> None:
    x = np.random.default_rng(seed).standard_normal((600, trials))
    assert effective_trials(x) == pytest.approx(trials, rel=0.06)


def test_copies_count_once() -> None:
    x = np.random.default_rng(1).standard_normal((500, 1))
    seen = luck_among(np.repeat(x, 30, axis=1) * np.arange(1, 31))
    assert (seen.effective, seen.effective_n, seen.hurdle) == (1.0, 1, 0.0)


def test_opposite_trials_are_different_trials() -> None:
    x = np.random.default_rng(1).standard_normal(100)
    assert effective_trials(np.column_stack((x, -x))) == 2.0


def test_correlated_trials_count_less_the_more_they_correlate_but_never_once() -> None:
    rng = np.random.default_rng(2)
    found = [effective_trials(correlated(rng, 60, rho, 2_000)) for rho in (0.0, 0.3, 0.6, 0.9)]
    assert found == sorted(found, reverse=True)
    for rho, effective in zip((0.3, 0.6, 0.9), found[1:], strict=True):
        # of equally correlated normals the expected maximum shrinks by sqrt(1 - rho)
        wanted = np.sqrt(1.0 - rho) * independent_maximum(60)
        assert independent_maximum(effective) == pytest.approx(wanted, rel=0.04)


def test_many_copies_of_one_trial_change_next_to_nothing() -> None:
    x = np.random.default_rng(3).standard_normal((500, 10))
    crowd = np.column_stack((x, np.repeat(x[:, :1], 90, axis=1)))
    assert effective_trials(crowd) == pytest.approx(effective_trials(x), rel=0.05)
    assert deflate(crowd).hurdle >= 0.95 * deflate(x).hurdle


def test_trials_without_returns_count_in_full() -> None:
    x = np.random.default_rng(3).standard_normal((500, 10))
    assert effective_trials(x, unseen=15) == pytest.approx(25, rel=0.05)
    assert deflate(x, trials=25).dsr < deflate(x).dsr
    alone = luck_among(x[:, :1], trials=51)
    assert alone.effective_n == 51
    assert alone.hurdle == luck_unseen(51, 500).hurdle
    assert alone.hurdle == pytest.approx(expected_maximum(51) / np.sqrt(499))


# ---- what luck gives the best --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trials", "rho"), [(2, 0.0), (2, 0.8), (6, 0.5), (10, 0.6), (10, 0.9), (60, 0.6)]
)
def test_no_more_than_one_of_twenty_searches_without_skill_is_a_discovery(
    trials: int, rho: float
) -> None:
    assert discoveries(trials, rho, 90, 150) <= at_most(150)


@pytest.mark.soak
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("days", [90, 365])
@pytest.mark.parametrize("trials", [2, 10, 100])
@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_no_more_than_one_of_twenty_searches_without_skill_is_a_discovery_at_length(
    days: int, trials: int, rho: float
) -> None:
    assert discoveries(trials, rho, days, 1_000) <= at_most(1_000, 3.0)


def test_the_hurdle_of_two_trials_is_not_taken_from_the_spread_of_two_numbers() -> None:
    x = np.random.default_rng(4).standard_normal((44, 2))
    x -= x.mean(axis=0)  # both ratios are 0: they do not scatter at all
    seen = luck_among(x)
    assert seen.hurdle * np.sqrt(43) == pytest.approx(np.pi**-0.5, rel=0.05)


def test_trials_that_scatter_more_than_luck_does_raise_the_hurdle_but_the_winner_does_not() -> None:
    x = np.random.default_rng(5).standard_normal((YEAR, 10))
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)  # ratios of exactly 0
    plain = luck_among(x).hurdle
    winner = x.copy()
    winner[:, 0] += 0.5
    assert luck_among(winner).hurdle == pytest.approx(plain)
    spread = x + np.linspace(-0.5, 0.0, 10)
    wanted = np.linspace(-0.5, 0.0, 10)[:-1].std(ddof=1) * expected_maximum(10)
    assert luck_among(spread).hurdle == pytest.approx(wanted, rel=0.03)
    assert luck_among(spread).hurdle > 2.0 * plain


@pytest.mark.parametrize(("rho", "power"), [(0.0, 0.25), (0.6, 0.55)])
def test_a_true_sharpe_ratio_of_three_among_ten_is_often_found_in_a_year(
    rho: float, power: float
) -> None:
    rng = np.random.default_rng(6)
    found = 0
    for _ in range(120):
        x = correlated(rng, 10, rho)
        x[:, 4] += 3.0 / np.sqrt(YEAR)
        found += deflate(x).dsr >= SURE
    assert found / 120 >= power


def test_a_strong_edge_survives_deflation() -> None:
    x = np.random.default_rng(2).standard_normal((1_000, 20))
    x[:, 7] += 0.2
    seen = deflate(x)
    assert (seen.best, seen.trials, seen.trials_effective) == (7, 20, 20)
    assert seen.dsr > 0.99


def test_a_single_trial_has_no_hurdle() -> None:
    seen = deflate(np.random.default_rng(5).standard_normal((300, 1)))
    assert (seen.trials_effective, seen.hurdle) == (1, 0.0)


def test_the_same_trials_give_the_same_bits() -> None:
    x = np.random.default_rng(5).standard_normal((100, 7))
    assert deflate(x, trials=9) == deflate(x, trials=9)


def test_trials_that_never_traded_and_too_few_trials_are_refused() -> None:
    x = np.random.default_rng(1).standard_normal((50, 3))
    x[:, 1] = 0.0
    with pytest.raises(InvariantViolated, match=r"trials \[1\] never vary"):
        effective_trials(x)
    with pytest.raises(InvariantViolated, match="trials 2: at least 3"):
        deflate(np.random.default_rng(1).standard_normal((50, 3)), trials=2)
    with pytest.raises(InvariantViolated, match="periods 1: at least 2"):
        luck_unseen(5, 1)
