"""Capacity: closed forms where there is one, and what must hold for any fills."""

from __future__ import annotations

import math

import numpy as np
import pytest

from daemon.domain.failures import InvariantViolated
from daemon.report.capacity import capacity


def test_impact_alone_has_a_closed_form() -> None:
    # impact now: 100 x 30 bps x sqrt(.01) + 300 x 30 bps x sqrt(.04) = .03 + .18 = .21 of a gain
    # of 2; it takes half of the gain where sqrt(m) = 1 / .21
    found = capacity(
        equity=10_000.0,
        gain=2.0,
        notionals=np.array([100.0, 300.0]),
        volume_shares=np.array([0.01, 0.04]),
        impact_bps=30.0,
    )
    assert found.equity == pytest.approx(10_000 / 0.21**2)
    assert (found.unfilled, found.impact) == pytest.approx((0.0, 0.5))


def test_the_cap_alone_has_a_closed_form() -> None:
    # everything took 1 % of the volume and 10 % is allowed: 20 times as much fills to one half
    found = capacity(
        equity=1_000.0,
        gain=5.0,
        notionals=np.array([10.0, 20.0]),
        volume_shares=np.array([0.01, 0.01]),
        impact_bps=0.0,
        participation_share=0.1,
    )
    assert found.equity == pytest.approx(20_000.0)
    assert (found.unfilled, found.impact) == pytest.approx((0.5, 0.0))


def test_both_together_bind_before_either() -> None:
    rng = np.random.default_rng(0)
    notionals, shares = rng.uniform(10, 100, 200), rng.uniform(1e-4, 0.05, 200)

    def at(impact_bps: float, cap: float | None) -> float:
        return capacity(
            equity=1e4,
            gain=20.0,
            notionals=notionals,
            volume_shares=shares,
            impact_bps=impact_bps,
            participation_share=cap,
        ).equity

    both = at(30.0, 0.1)
    assert both < min(at(30.0, None), at(0.0, 0.1))
    assert at(60.0, 0.1) < both
    assert at(30.0, 0.2) > both
    # and there the shares of the gain that each takes sum to one half, computed anew
    m = both / 1e4
    filled = np.minimum(1.0, 0.1 / (m * shares))
    unfilled = 1 - (notionals * filled).sum() / notionals.sum()
    paid = (notionals * filled * 30e-4 * np.sqrt(m * filled * shares)).sum() / 20.0
    assert unfilled + paid == pytest.approx(0.5)


def test_nothing_to_eat_and_nothing_that_eats() -> None:
    n, x = np.array([1.0]), np.array([0.1])
    none = capacity(equity=1.0, gain=-1.0, notionals=n, volume_shares=x, impact_bps=1.0)
    assert math.isnan(none.equity)
    assert none.why == "not defined: no gain before impact"
    free = capacity(equity=1.0, gain=1.0, notionals=n, volume_shares=x, impact_bps=0.0)
    assert free.equity == math.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"equity": 0.0}, "equity 0.0"),
        ({"impact_bps": -1.0}, "impact_bps -1.0"),
        ({"participation_share": 0.0}, "participation_share 0.0"),
        ({"notionals": np.array([0.0])}, "not above 0"),
        ({"volume_shares": np.array([0.1, 0.1])}, "1 and 2 rows"),
        ({"notionals": np.array([math.nan])}, "finite"),
        ({"notionals": np.zeros(0), "volume_shares": np.zeros(0)}, "0 rows"),
    ],
)
def test_wrong_input_is_named(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "equity": 1.0,
        "gain": 1.0,
        "notionals": np.array([1.0]),
        "volume_shares": np.array([0.1]),
        "impact_bps": 1.0,
    }
    with pytest.raises(InvariantViolated, match=message):
        capacity(**{**good, **change})  # type: ignore[arg-type]
