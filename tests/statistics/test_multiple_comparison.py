"""Hold Reality Check, SPA and MCS to the library arch on the same draws, and to size and power."""

import numpy as np
import pandas as pd
import pytest
from arch.bootstrap import MCS, SPA, RealityCheck, StationaryBootstrap

from daemon.domain.failures import InvariantViolated
from daemon.statistics.checks import Floats
from daemon.statistics.dependence import stationary_bootstrap_variance
from daemon.statistics.multiple_comparison import (
    McsStatistic,
    model_confidence_set,
    reality_check,
    superior_predictive_ability,
)

BLOCK = 8


def _losses(seed: int, T: int = 200, K: int = 6, *, memory: float = 0.4) -> Floats:
    """Draw (T, K) losses with a common part and memory, models being a little unequal."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((T, 1)) + rng.standard_normal((T, K))
    for t in range(1, T):
        x[t] += memory * x[t - 1]
    return x + np.linspace(-0.15, 0.3, K)


@pytest.mark.parametrize("seed", range(4))
def test_reality_check_equals_arch_on_the_same_draws(seed: int) -> None:
    losses = _losses(seed)
    theirs = RealityCheck(losses[:, 2], losses[:, [0, 1, 3]], BLOCK, 300, seed=seed)
    theirs.compute()
    ours = reality_check(
        losses[:, 2], losses[:, [0, 1, 3]], seed=seed, block_mean=BLOCK, repetitions=300
    )
    assert ours.p_value == pytest.approx(float(theirs.pvalues["upper"]), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_spa_of_one_model_equals_arch_on_the_same_draws(seed: int) -> None:
    # arch 8.0 takes the maximum of the plain means, so the two tests agree where K is 1
    losses = _losses(seed)
    theirs = SPA(losses[:, 2], losses[:, :1], BLOCK, 300, seed=seed)
    theirs.compute()
    ours = superior_predictive_ability(
        losses[:, 2], losses[:, :1], seed=seed, block_mean=BLOCK, repetitions=300
    )
    assert [ours.p_lower, ours.p_consistent, ours.p_upper] == pytest.approx(
        theirs.pvalues.to_list(), abs=1e-12
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_spa_equals_arch_where_losses_are_scaled_to_one_variance(seed: int) -> None:
    # dividing each difference by its own error makes the plain maximum the studentised one
    losses = _losses(seed)
    # two models are so much worse that only the upper bound still centres them
    d = losses[:, [5]] - losses[:, :5] - np.array([0.45, 0.4, 0.7, 0.8, 0.2])
    d = d / np.sqrt(stationary_bootstrap_variance(d, BLOCK))
    theirs = SPA(np.zeros(len(d)), -d, BLOCK, 300, seed=seed)
    theirs.compute()
    ours = superior_predictive_ability(
        np.zeros(len(d)), -d, seed=seed, block_mean=BLOCK, repetitions=300
    )
    assert ours.p_lower < ours.p_consistent < ours.p_upper
    assert ours.statistic == pytest.approx(np.sqrt(len(d)) * d.mean(axis=0).max())
    assert [ours.p_lower, ours.p_consistent, ours.p_upper] == pytest.approx(
        theirs.pvalues.to_list(), abs=1e-12
    )


def test_spa_is_blind_to_the_scale_of_a_model_s_losses() -> None:
    losses = _losses(3)
    d = losses[:, [5]] - losses[:, :5]
    scaled = d * np.array([1.0, 10.0, 0.1, 3.0, 100.0])
    one = superior_predictive_ability(np.zeros(len(d)), -d, seed=1, repetitions=200, block_mean=4)
    other = superior_predictive_ability(
        np.zeros(len(d)), -scaled, seed=1, repetitions=200, block_mean=4
    )
    assert other.p_consistent == one.p_consistent
    assert other.best == one.best


def test_hopeless_models_weaken_the_reality_check_and_not_the_spa() -> None:
    rng = np.random.default_rng(8)
    d = rng.standard_normal((400, 12))
    d[:, 0] += 0.13  # truly better
    d[:, 1:] = 6.0 * d[:, 1:] - 3.0  # far worse and noisy
    spa = superior_predictive_ability(np.zeros(400), -d, seed=1, block_mean=1, repetitions=500)
    white = reality_check(np.zeros(400), -d, seed=1, block_mean=1, repetitions=500)
    assert spa.p_consistent < 0.05 < white.p_value
    assert spa.p_lower <= spa.p_consistent <= spa.p_upper


def test_a_benchmark_that_beats_all_is_never_rejected() -> None:
    d = np.random.default_rng(8).standard_normal((100, 3)) - 2.0
    seen = superior_predictive_ability(np.zeros(100), -d, seed=1, repetitions=100)
    assert (seen.statistic, seen.p_consistent) == (0.0, 1.0)


def _spa_rejections(runs: int, repetitions: int) -> int:
    rejected = 0
    for seed in range(runs):
        d = np.random.default_rng(seed).standard_normal((500, 10))
        p = superior_predictive_ability(np.zeros(500), d, seed=seed, repetitions=repetitions)
        rejected += p.p_consistent <= 0.05
    return rejected


def _mcs_eliminations(runs: int, repetitions: int) -> int:
    gone = 0
    for seed in range(runs):
        losses = np.random.default_rng(seed).standard_normal((500, 10))
        losses[:, 4] += 0.3
        seen = model_confidence_set(losses, seed=seed, repetitions=repetitions)
        gone += 4 not in seen.members(0.10)
    return gone


def test_spa_seldom_rejects_ten_models_without_skill() -> None:
    assert _spa_rejections(30, 200) <= 5  # 1.5 are expected; more than 5 has a chance of 0.3 %


def test_mcs_drops_a_model_that_is_worse_by_a_third_of_the_noise() -> None:
    assert _mcs_eliminations(12, 200) == 12


@pytest.mark.soak
def test_spa_holds_its_size_of_five_per_cent() -> None:
    rejected = _spa_rejections(300, 1_000)
    print(f"SPA: {rejected} of 300 rejections at 5 %")
    assert 4 <= rejected <= 30


@pytest.mark.soak
def test_mcs_drops_the_worse_model_in_sixty_of_sixty() -> None:
    assert _mcs_eliminations(60, 1_000) == 60


@pytest.mark.parametrize("statistic", list(McsStatistic))
@pytest.mark.parametrize("seed", range(3))
def test_mcs_equals_arch_on_the_same_draws(statistic: McsStatistic, seed: int) -> None:
    losses = _losses(seed)
    method = {McsStatistic.MAX: "max", McsStatistic.RANGE: "R"}[statistic]
    theirs = MCS(losses, 0.1, 300, BLOCK, method=method, seed=seed)
    theirs.compute()
    table: pd.DataFrame = theirs.pvalues
    ours = model_confidence_set(
        losses, seed=seed, statistic=statistic, block_mean=BLOCK, repetitions=300
    )
    assert list(ours.eliminated) == table.index.to_list()
    assert [ours.p_values[k] for k in table.index] == pytest.approx(
        table["Pvalue"].to_list(), abs=1e-12
    )
    assert list(ours.members(0.1)) == theirs.included


def test_equal_models_are_not_separated() -> None:
    x = np.random.default_rng(1).standard_normal((100, 1))
    for statistic in McsStatistic:
        seen = model_confidence_set(
            np.repeat(x, 3, axis=1), seed=1, statistic=statistic, repetitions=50
        )
        assert seen.members() == (0, 1, 2)
        worse = np.column_stack((x, x, x + np.random.default_rng(2).random((100, 1))))
        seen = model_confidence_set(worse, seed=1, statistic=statistic, repetitions=200)
        assert seen.members() == (0, 1)


@pytest.mark.parametrize("statistic", list(McsStatistic))
def test_models_that_are_worse_by_a_constant_are_eliminated_the_worst_first(
    statistic: McsStatistic,
) -> None:
    still = np.tile([0.0, 2.0, 1.0], (30, 1))
    moving = still + np.random.default_rng(1).standard_normal((30, 1))
    for losses in (still, moving, still[:, :2]):
        seen = model_confidence_set(losses, seed=1, statistic=statistic, repetitions=100)
        assert seen.members() == (0,)
        assert seen.eliminated[0] == 1
        assert set(seen.p_values[1:]) == {0.0}


def test_the_seed_fixes_the_result_and_arch_s_index_stream_is_ours() -> None:
    losses = _losses(1)
    one = model_confidence_set(losses, seed=4, repetitions=100)
    assert one == model_confidence_set(losses, seed=4, repetitions=100)
    stream = StationaryBootstrap(int(BLOCK), np.arange(5), seed=1)
    assert stream.index.shape == (5,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: superior_predictive_ability(np.ones(9), np.ones((9, 2)), seed=1),
            r"models \[0, 1\] differ from the benchmark by a constant",
        ),
        (lambda: reality_check(np.ones(9), np.ones((8, 2)), seed=1), "have 9 and 8 rows"),
        (lambda: reality_check(np.ones(5), np.ones((5, 2)), seed=1), "has 5 rows: at least 8"),
        (lambda: model_confidence_set(np.ones((9, 1)), seed=1), "losses has 1 columns"),
        (
            lambda: model_confidence_set(np.ones((9, 2)), seed=1).members(10.0),
            "alpha 10.0: accepted is a number between 0 and 1",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvariantViolated, match=message):
        call()
