"""Hold PBO to its worked simulations, a slow restatement and its bounds."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from daemon.domain.failures import InvariantViolated
from daemon.statistics.checks import Floats
from daemon.statistics.overfitting import Performance, backtest_overfitting


def _noise(seed: int, T: int = 1_000, N: int = 100) -> Floats:
    return 0.01 * np.random.default_rng(seed).standard_normal((T, N))


@pytest.mark.parametrize(("blocks", "choices"), [(8, 70), (16, 12_870)])
def test_choices_are_as_many_as_the_worked_figures(blocks: int, choices: int) -> None:
    assert len(backtest_overfitting(_noise(1, 64, 3), blocks=blocks).logits) == choices


def test_noise_gives_a_pbo_about_a_half_with_the_worked_spread() -> None:
    # the halves of independent noise know nothing of each other, so the expected value is 1/2; the
    # notes saw 0.55 +- 0.16 on forty draws, and forties do scatter that far
    seen = np.array([backtest_overfitting(_noise(s), blocks=8).probability for s in range(200)])
    forties = seen.reshape(5, 40).mean(axis=1)
    print(f"noise: {seen.mean():.3f} +- {seen.std(ddof=1):.3f}, by forty {forties.round(3)}")
    assert seen.mean() == pytest.approx(0.5, abs=0.036)  # three standard errors
    assert seen.std(ddof=1) == pytest.approx(0.16, abs=0.03)
    assert forties.max() == pytest.approx(0.55, abs=0.01)


def test_demeaned_noise_gives_exactly_one() -> None:
    for seed in range(5):
        x = _noise(seed)
        for performance in Performance:
            seen = backtest_overfitting(x - x.mean(axis=0), blocks=8, performance=performance)
            assert seen.probability == 1.0


def test_one_good_trial_among_noise_lowers_pbo_to_the_worked_figure() -> None:
    seen = []
    for seed in range(40):
        x = _noise(seed)
        x[:, 17] += 0.01 * 2.0 / math.sqrt(365)  # 2 a year of 365 days
        seen.append(backtest_overfitting(x, blocks=8).probability)
    print(f"one good trial: mean {np.mean(seen):.3f}")
    assert np.mean(seen) == pytest.approx(0.26, abs=0.04)


def test_a_dominant_trial_gives_zero() -> None:
    x = _noise(3)
    x[:, 17] += 0.01
    seen = backtest_overfitting(x, blocks=8)
    assert seen.probability == 0.0
    assert set(seen.chosen.tolist()) == {17}
    assert seen.loss_probability == 0.0


@pytest.mark.parametrize("T", [40, 43])
def test_the_fast_form_equals_the_definition_with_unequal_blocks_too(T: int) -> None:
    x = 5.0 + _noise(T, T, 7)
    parts = np.array_split(x, 6)
    logits, outside = [], []
    for pick in combinations(range(6), 3):
        inner = np.concatenate([parts[b] for b in range(6) if b in pick])
        outer = np.concatenate([parts[b] for b in range(6) if b not in pick])
        best = int((inner.mean(axis=0) / inner.std(axis=0, ddof=1)).argmax())
        ratios = outer.mean(axis=0) / outer.std(axis=0, ddof=1)
        w = rankdata(ratios)[best] / 8
        logits.append(math.log(w / (1 - w)))
        outside.append(ratios[best])
    seen = backtest_overfitting(x, blocks=6)
    assert seen.logits == pytest.approx(logits, abs=1e-9)
    assert seen.outside == pytest.approx(outside, rel=1e-9)


def test_a_winner_in_the_very_middle_outside_counts_as_overfitted() -> None:
    seen = backtest_overfitting(_noise(2, 64, 5), blocks=8)
    middle = (seen.logits == 0.0).mean()
    assert middle > 0.0
    assert seen.probability == pytest.approx((seen.logits < 0.0).mean() + middle)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    T=st.integers(8, 60),
    N=st.integers(2, 9),
    performance=st.sampled_from(Performance),
)
def test_pbo_is_a_probability_and_does_not_depend_on_the_order_of_trials(
    seed: int, T: int, N: int, performance: Performance
) -> None:
    x = _noise(seed, T, N)
    seen = backtest_overfitting(x, blocks=4, performance=performance)
    assert 0.0 <= seen.probability <= 1.0
    turned = backtest_overfitting(x[:, ::-1], blocks=4, performance=performance)
    assert turned.probability == pytest.approx(seen.probability)


def test_a_trial_that_trades_late_has_no_ratio_before() -> None:
    for seed in range(10):
        x = _noise(seed, 60, 2)
        x[:30, 0] = 0.0
        x[30:, 0] += 0.01 / 3.0
        x[:, 1] -= 0.02
        seen = backtest_overfitting(x, blocks=2)
        # chosen on the early half, where it has 0 against a loss, and on the late half
        assert seen.chosen.tolist() == [0, 0]
        assert seen.inside[0] == 0.0
        assert seen.outside[1] == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: backtest_overfitting(_noise(1, 64, 3), blocks=7), "blocks 7: an even number"),
        (lambda: backtest_overfitting(_noise(1, 64, 3), blocks=22), "blocks 22: at most 20"),
        (lambda: backtest_overfitting(_noise(1, 64, 3), blocks=0), "blocks 0: at least 2"),
        (lambda: backtest_overfitting(_noise(1, 15, 3), blocks=8), "returns has 15 rows"),
        (lambda: backtest_overfitting(_noise(1, 64, 1), blocks=8), "returns has 1 columns"),
    ],
)
def test_bad_input_is_refused_by_name(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(InvariantViolated, match=message):
        call()
