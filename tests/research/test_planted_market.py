"""What arms of a planted market must show, with figures worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from daemon.domain.failures import InvariantViolated
from daemon.research.planted_market import (
    Arm,
    ArmOutcome,
    arm_values,
    judge,
    outcome_of,
    share_of,
)

Floats = NDArray[np.float64]
INSTANTS, COINS = 2200, 20


def outcome(arm: Arm, *, mean: float, share: float, instants: int = INSTANTS) -> ArmOutcome:
    """Make an arm whose ICs have that mean and the spread of 20 coins without skill."""
    ics = np.random.default_rng(1).standard_normal(instants)
    ics = mean + (ics - ics.mean()) / ics.std(ddof=1) / math.sqrt(COINS - 1)
    return ArmOutcome(arm, "made", ics, share, {})


GOOD = (
    outcome(Arm.NETWORK, mean=0.02, share=0.66),
    outcome(Arm.RIDGE, mean=0.003, share=0.1),
    outcome(Arm.MOMENTUM, mean=0.0, share=-0.01),
    outcome(Arm.SHUFFLED, mean=0.01, share=0.02),
    outcome(Arm.FAIR, mean=-0.01, share=float("nan")),
)


def test_a_network_that_finds_two_thirds_and_rivals_that_do_not_pass() -> None:
    verdict = judge(GOOD, 0.03)
    assert verdict.passed, [str(check) for check in verdict.checks]
    assert len(verdict.checks) == 7
    assert verdict.summary == "a planted IC of 0.03: everything was shown"


def test_the_interval_of_2200_decisions_of_20_coins_is_narrow_enough() -> None:
    low, high = GOOD[0].interval
    assert (high - low) / 2 == pytest.approx(1.959964 / math.sqrt(19 * 2200), rel=1e-9)  # 0.00959
    assert GOOD[0].t == pytest.approx(0.02 * math.sqrt(19 * 2200), rel=1e-9)


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        (outcome(Arm.NETWORK, mean=0.02, share=0.59), "network finds the pattern"),
        (outcome(Arm.NETWORK, mean=0.009, share=0.7), "network is above zero"),
        (outcome(Arm.NETWORK, mean=0.03, share=0.7, instants=1800), "network: precision"),
        (outcome(Arm.RIDGE, mean=0.0, share=0.5), "ridge finds little"),
        (outcome(Arm.MOMENTUM, mean=0.0, share=0.7), "momentum finds little"),
        (outcome(Arm.SHUFFLED, mean=0.02, share=0.0), "shuffled labels: nothing is found"),
        (outcome(Arm.FAIR, mean=-0.02, share=float("nan")), "planted 0: nothing is found"),
    ],
)
def test_each_check_fails_alone(changed: ArmOutcome, failed: str) -> None:
    others = [one for one in GOOD if one.arm is not changed.arm]
    verdict = judge([changed, *others], 0.03)
    assert [check.name for check in verdict.checks if not check.passed] == [failed]
    assert verdict.summary == f"a planted IC of 0.03: NOT shown: {failed}"


def test_a_share_is_the_correlation_with_what_is_known_and_no_luck_is_in_it() -> None:
    draw = np.random.default_rng(2)
    alpha = draw.standard_normal((400, COINS))
    noise = draw.standard_normal((400, COINS))
    assert share_of(3.0 * alpha + 7.0, alpha) == pytest.approx(1.0)
    assert share_of(alpha + noise, alpha) == pytest.approx(math.sqrt(0.5), abs=0.02)
    assert share_of(-alpha, alpha) == pytest.approx(-1.0)
    assert math.isnan(share_of(alpha, np.zeros_like(alpha)))
    with_gap = alpha.copy()
    with_gap[:, 0] = np.nan  # a coin without a forecast
    assert share_of(with_gap, alpha) == pytest.approx(1.0)


def test_an_arm_is_scored_by_the_mean_of_its_timeframes() -> None:
    draw = np.random.default_rng(3)
    alpha: Floats = 0.3 * draw.standard_normal((300, COINS))
    label = alpha + draw.standard_normal((300, COINS))
    halves = {"1h": alpha + (noise := draw.standard_normal((300, COINS))), "2h": alpha - noise}
    found = outcome_of(Arm.NETWORK, "made", halves, label, alpha)
    assert found.share == pytest.approx(1.0)
    assert found.shares["1h"] == pytest.approx(0.3 / math.sqrt(1.09), abs=0.03)
    assert found.mean == pytest.approx(0.3 / math.sqrt(1.09), abs=0.03)
    assert found.instants == 300


def test_an_arm_that_forecasts_nothing_found_nothing() -> None:
    still = {"1h": np.zeros((50, COINS))}
    label = np.random.default_rng(4).standard_normal((50, COINS))
    found = outcome_of(Arm.FAIR, "made", still, label, np.zeros_like(label))
    assert (found.instants, found.t) == (0, 0.0)
    assert judge([found], 0.03).passed
    values = arm_values(found)
    assert values["ic"] is None
    assert values["share"] is None
    with pytest.raises(InvariantViolated, match="without forecasts"):
        outcome_of(Arm.FAIR, "made", {}, label, label)
