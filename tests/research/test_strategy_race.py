"""The rules by which a race of strategies is judged, on returns whose truth is known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from daemon.report.market_links import market_link
from daemon.research.strategy_race import (
    BLEND,
    Absent,
    Lap,
    Race,
    RaceArm,
    Role,
    in_the_set,
    race_csv,
    race_days_csv,
    race_json,
    returns_of,
    tuned_band,
    verdicts,
)
from daemon.research.stress import Days, figures_of

D = 700


def lap(
    name: str, role: Role, mean: float, *, bps: float = 7.0, seed: int = 1, paid: float = 0.0
) -> Lap:
    """Draw daily returns of 1 % volatility with that mean (of annual Sharpe about 19 x mean%).

    paid: costs as a fraction of what is traded, which is the whole book each day.
    """
    rng = np.random.default_rng([seed, *name.encode()])
    drawn = rng.standard_normal(D)
    returns = 0.01 * (drawn - drawn.mean()) / drawn.std() + mean
    market = 0.02 * rng.standard_normal(D)
    one = np.ones(D)
    days = Days(
        days=np.arange(D),
        returns=returns,
        market=market,
        traded=one,
        costs=paid * one,
        equity=one,
        gross=one,
        volatility=one,
        dispersion=one,
        lengths=one,
    )
    arm = RaceArm(name, role, "neutral")
    return Lap(arm, bps, days, figures_of(days), 10, market_link("BTC", returns, market))


def race(*laps: Lap) -> Race:
    return Race(0, 1, ("BTC",), "print", "table", (), laps, (Absent("carry", "why not"),), seed=3)


def finding(found: Race, claim: str) -> str:
    return next(v.finding for v in verdicts(found) if v.claim == claim)


OLD = (lap("momentum", Role.CONVENTIONAL, 0.0), lap("reversal", Role.CONVENTIONAL, 0.0))


@pytest.mark.parametrize(
    ("mean", "expected"), [(0.003, "support"), (-0.003, "refuted"), (0.0002, "no evidence")]
)
def test_forecasts_are_judged_beside_the_blend(mean: float, expected: str) -> None:
    found = race(lap("neutral", Role.FORECASTS, mean), *OLD)
    assert finding(found, "H1") == expected
    blend = returns_of(found, BLEND, 7.0)
    assert blend is not None
    np.testing.assert_allclose(blend, (OLD[0].days.returns + OLD[1].days.returns) / 2)


def test_what_did_not_run_is_not_judged() -> None:
    assert finding(race(*OLD), "H1") == "not tested"
    assert finding(race(lap("neutral", Role.FORECASTS, 0.001)), "H4") == "not tested"


def test_the_fixed_band_is_chosen_on_the_first_half_alone() -> None:
    first = lap("fixed 0.01", Role.FIXED, 0.0)
    first.days.returns[: D // 2] += 0.004
    first.days.returns[D // 2 :] -= 0.004
    second = lap("fixed 0.05", Role.FIXED, 0.0)
    second.days.returns[D // 2 :] += 0.01
    found = race(lap("neutral", Role.FORECASTS, 0.0), first, second)
    assert tuned_band(found) == "fixed 0.01"
    assert finding(found, "H4") == "support"


def test_an_adaptive_band_that_loses_is_refuted_and_one_cost_is_enough_to_deny_support() -> None:
    fixed = [lap("fixed 0.01", Role.FIXED, 0.004, bps=bps) for bps in (3.0, 7.0)]
    losing = [lap("neutral", Role.FORECASTS, -0.002, bps=bps) for bps in (3.0, 7.0)]
    assert finding(race(*fixed, *losing), "H4") == "refuted"
    mixed = [losing[0], lap("neutral", Role.FORECASTS, 0.006, bps=7.0)]
    assert finding(race(*fixed, *mixed), "H4") == "no evidence"


def test_the_set_of_the_best_leaves_out_what_is_clearly_worse_whatever_its_size() -> None:
    poor = lap("reversal", Role.CONVENTIONAL, -0.004)
    poor.days.returns[:] *= 0.01  # small is not safe
    found = race(lap("neutral", Role.FORECASTS, 0.003), poor)
    assert in_the_set(found, 7.0) == ("neutral",)


def test_what_is_written_can_be_read_and_names_what_was_left_out() -> None:
    found = race(lap("neutral", Role.FORECASTS, 0.001), *OLD)
    values = json.loads(race_json(found))
    assert [one["arm"] for one in values["laps"]] == ["neutral", "momentum", "reversal"]
    assert values["absent"] == [{"name": "carry", "why": "why not"}]
    assert {v["claim"] for v in values["verdicts"]} == {"H1", "H4"}
    assert values[BLEND][0]["nominal_bps"] == 7.0
    rows = race_csv(found).splitlines()
    assert rows[0].startswith("arm,role,nominal_bps,fills,days")
    assert len(rows) == 4


def test_the_cost_that_was_set_stands_beside_the_one_that_was_paid() -> None:
    found = race(lap("neutral", Role.FORECASTS, 0.001, paid=0.0009), *OLD)
    one = json.loads(race_json(found))["laps"][0]
    assert (one["nominal_bps"], one["paid_bps"]) == (7.0, pytest.approx(9.0))
    assert "cost_bps" not in one
    heads, first = (row.split(",") for row in race_csv(found).splitlines()[:2])
    assert len(set(heads)) == len(heads)
    read = dict(zip(heads, first, strict=True))
    assert float(read["nominal_bps"]) == 7.0
    assert float(read["paid_bps"]) == pytest.approx(9.0)


def test_each_arm_is_paired_with_the_first_that_forecasts_at_its_cost() -> None:
    better = lap("threshold", Role.FORECASTS, 0.004)
    found = race(
        lap("neutral", Role.FORECASTS, 0.0),
        better,
        *OLD,
        lap("neutral", Role.FORECASTS, 0.0, bps=3.0),
    )
    rows = json.loads(race_json(found))["beside"]
    assert [(row["arm"], row["nominal_bps"]) for row in rows] == [
        ("threshold", 7.0),
        ("momentum", 7.0),
        ("reversal", 7.0),
        (BLEND, 7.0),
    ]
    assert {row["less"] for row in rows} == {"neutral"}
    assert rows[0]["sharpe"] == pytest.approx(0.4 * 365**0.5, rel=0.01)
    assert rows[0]["low"] > 0
    assert json.loads(race_json(race(*OLD)))["beside"] == []


def test_the_days_of_all_laps_are_written() -> None:
    found = race(lap("neutral", Role.FORECASTS, 0.001), OLD[0])
    rows = [row.split(",") for row in race_days_csv(found).splitlines()]
    assert rows[0] == ["day", "neutral @ 7", "momentum @ 7"]
    assert rows[2][0] == "1970-01-02"
    written = np.array([[float(cell) for cell in row[1:]] for row in rows[1:]])
    np.testing.assert_array_equal(
        written, np.column_stack([one.days.returns for one in found.laps])
    )
