"""Capacity: closed forms where there is one, and what must hold for any fills."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec import structs

from daemon.domain.failures import InvariantViolated
from daemon.domain.order import Fill
from daemon.report.capacity import (
    UNLIMITED,
    UNMEASURED,
    capacity,
    capacity_of_run,
    in_words,
    no_capacity,
    rounded,
    volumes_met,
)
from tests.report.made_runs import World, replayed


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


# ---- of a run ------------------------------------------------------------------------------------


def fills_at(*places: tuple[int, int]) -> list[Fill]:
    """Give real fills, moved to these (at_ms, index)."""
    some = [e for e in replayed(World()).executions if isinstance(e, Fill)]
    return [
        structs.replace(fill, at_ms=at_ms, index=index)
        for fill, (at_ms, index) in zip(some, places, strict=False)
    ]


def test_a_fill_meets_the_newest_bar_and_across_a_hole_the_one_before() -> None:
    nan = math.nan
    close_ms = np.array([10, 20, 30], dtype=np.int64)
    volumes = np.array([[1.0, nan], [2.0, 5.0], [nan, nan]])
    fills = fills_at((10, 0), (20, 0), (25, 0), (30, 0), (30, 1), (10, 1), (5, 0))
    found = volumes_met(fills, close_ms, volumes)
    assert found.tolist() == pytest.approx([1.0, 2.0, 2.0, 2.0, 5.0, nan, nan], nan_ok=True)
    assert volumes_met([], close_ms, volumes).tolist() == []
    assert np.isnan(volumes_met(fills, close_ms[:0], volumes[:0])).all()


def test_a_run_without_volumes_fills_or_costs_says_what_stands_in_the_place_of_a_capacity() -> None:
    run = replayed(World())
    fills = [e for e in run.executions if isinstance(e, Fill)]
    unknown = np.full(len(fills), math.nan)
    charged = {"impact_bps": 10.0, "participation_share": 0.1}
    assert run.capacity == UNMEASURED  # whoever has the bars works it out
    assert capacity_of_run(run.record, fills, unknown, **charged) == UNMEASURED
    nothing = capacity_of_run(run.record, [], unknown[:0], **charged)
    assert nothing == no_capacity("not defined: nothing was traded")
    free = capacity_of_run(
        run.record, fills, unknown, impact_bps=0.0, participation_share=None, moved=-1e6
    )
    assert free == UNLIMITED
    lost = capacity_of_run(run.record, fills, unknown + 1e6, **charged, moved=1e6)
    assert lost == UNMEASURED
    lost = capacity_of_run(run.record, fills, np.full(len(fills), 1e6), **charged, moved=1e6)
    assert lost.why == "not defined: no gain before impact"


def test_what_is_filled_at_one_instant_counts_as_one_however_it_is_split() -> None:
    run = replayed(World())
    fills = [e for e in run.executions if isinstance(e, Fill)]
    halves = [structs.replace(f, quantity=f.quantity / 2) for f in fills for _ in range(2)]
    volumes = np.random.default_rng(3).uniform(100.0, 300.0, len(fills))
    whole, split = (
        capacity_of_run(run.record, some, met, impact_bps=10.0, participation_share=0.1, moved=-1e4)
        for some, met in ((fills, volumes), (halves, np.repeat(volumes, 2)))
    )
    assert whole.equity == pytest.approx(split.equity)
    assert math.isfinite(whole.equity)


def test_a_capacity_is_said_in_words() -> None:
    found = capacity(
        equity=10_000.0,
        gain=2.0,
        notionals=np.array([100.0, 300.0]),
        volume_shares=np.array([0.01, 0.04]),
        impact_bps=30.0,
    )
    said = in_words(found, 10_000.0)
    assert "about 230,000 half of the gain would be gone: 50% of the gain to impact and 0%" in said
    assert "more than the 10,000 that this run had on average" in said
    assert "less than the 1 million" in in_words(found, 1e6)
    assert in_words(UNLIMITED, 1.0).startswith("Capacity is not limited: the costs of this run")
    assert in_words(UNMEASURED, 1.0).startswith("Capacity is not known: ")
    assert [rounded(x) for x in (0.123, 48.7, 999.0, 3_449_000.0, 2.55e10, math.inf)] == [
        "0.12",
        "49",
        "1,000",
        "3.4 million",
        "26 billion",
        "no limit",
    ]
