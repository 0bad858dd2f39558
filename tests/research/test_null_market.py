"""The judge of null markets: honest seeds pass, and each kind of dishonesty is caught."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from daemon.domain.failures import InvariantViolated
from daemon.research.null_market import Check, SeedOutcome, covered_bounds, judge
from daemon.statistics.bootstrap import Interval
from daemon.statistics.skill import MeanIc

NAN = float("nan")
DAYS = 60


def ic_of(mean: float, half: float) -> MeanIc:
    return MeanIc(mean, half / 2, mean / (half / 2), mean - half, mean + half, 900, 6)


def seed_of(number: int, *, skill: float = 0.0, flatter: float = 1.0) -> SeedOutcome:
    """Draw what an honest seed shows: estimates scatter as their intervals say, over `flatter`."""
    draw = np.random.default_rng(number)
    error = 0.02
    noise = draw.standard_normal(3) * error
    gross = 0.01 * (draw.standard_normal(DAYS) + skill)
    ratio = float(gross.mean() / gross.std(ddof=1))
    half = 1.96 / np.sqrt(DAYS) / flatter
    rank, score, combined = (ic_of(float(x), 1.96 * error / flatter) for x in noise)
    return SeedOutcome(
        seed=number,
        planted_ic=0.0,
        rank=rank,
        score=score,
        combined=combined,
        gross=Interval(ratio, ratio - half, ratio + half, half / 2, 1.0),
        net=Interval(ratio - 0.5, ratio - 0.5 - half, ratio - 0.5 + half, half / 2, 1.0),
        gross_returns=gross,
        net_returns=gross - 0.005,
        true_ic=0.0,
        pattern=ic_of(NAN, NAN),
    )


def seeds(count: int = 100, *, skill: float = 0.0, flatter: float = 1.0) -> list[SeedOutcome]:
    return [seed_of(1 + k, skill=skill, flatter=flatter) for k in range(count)]


def planted(score: MeanIc, true_ic: float, pattern: MeanIc) -> SeedOutcome:
    found = replace(seed_of(1), planted_ic=0.05, score=score, true_ic=true_ic, pattern=pattern)
    return replace(found, seed=100_001)


def failed(outcomes: Sequence[SeedOutcome]) -> list[str]:
    verdict = judge(outcomes)
    names = [check.name for check in verdict.checks if not check.passed]
    assert verdict.passed is (not names)
    return names


def test_the_bounds_are_ninety_to_ninety_nine_of_a_hundred() -> None:
    assert covered_bounds(100) == (90, 99)
    assert covered_bounds(10) == (8, 10)  # ten of ten happen six times in ten
    assert covered_bounds(1) == (0, 1)
    with pytest.raises(InvariantViolated, match="0 seeds"):
        covered_bounds(0)


def test_honest_seeds_pass_all_checks() -> None:
    verdict = judge(seeds())
    assert failed(seeds()) == []
    assert [check.name for check in verdict.checks] == [
        "RankIC of the hourly forecast",
        "score IC of the hourly forecast",
        "RankIC of the combined signal",
        "gross daily Sharpe ratio",
        "DSR before costs",
        "DSR after costs",
        "PBO",
    ]
    assert "below zero in" in verdict.notes[0]


def test_intervals_that_flatter_and_intervals_that_say_nothing_are_caught() -> None:
    assert failed(seeds(flatter=1.5))[:4] == [c.name for c in judge(seeds()).checks[:4]]
    assert failed(seeds(flatter=0.3))[:4] == [c.name for c in judge(seeds()).checks[:4]]


def test_one_measure_alone_can_fail() -> None:
    off = [replace(one, combined=ic_of(0.1, 0.01)) for one in seeds()]
    assert failed(off) == ["RankIC of the combined signal"]


def test_skill_where_none_can_be_is_caught_by_the_deflated_ratio_and_by_pbo() -> None:
    strange = seeds(30)
    better = seed_of(999, skill=0.8)
    names = failed([*strange[:-1], replace(better, seed=30)])
    assert {"DSR before costs", "PBO"} <= set(names)


def test_few_seeds_are_no_search() -> None:
    verdict = judge(seeds(4))
    assert len(verdict.checks) == 4
    assert any("from 20 null seeds on" in note for note in verdict.notes)
    assert verdict.summary == (
        "the machine passed what 4 null seeds can test; not judged: DSR, PBO, the planted edge"
    )
    flattered = judge(seeds(4, flatter=50.0))
    assert "FAILED its own test (4 null seeds): RankIC" in flattered.summary
    assert flattered.summary.endswith("; not judged: DSR, PBO, the planted edge")
    with pytest.raises(InvariantViolated, match="without seeds"):
        judge([])


@pytest.mark.parametrize(
    ("score", "true", "pattern", "names"),
    [
        (ic_of(0.03, 0.009), 0.028, ic_of(0.048, 0.009), []),
        (ic_of(0.03, 0.009), 0.045, ic_of(0.048, 0.009), ["ridge: true IC"]),
        (ic_of(0.03, 0.02), 0.03, ic_of(0.048, 0.009), ["ridge: precision"]),
        (ic_of(0.005, 0.009), 0.003, ic_of(0.048, 0.009), ["ridge: is found"]),
        (ic_of(0.03, 0.009), 0.03, ic_of(0.03, 0.009), ["planted pattern itself: true IC"]),
        (
            ic_of(NAN, NAN),
            0.03,
            ic_of(0.05, 0.009),
            ["ridge: true IC", "ridge: precision", "ridge: is found"],
        ),
    ],
)
def test_a_planted_edge_must_be_found_narrowly_around_the_truth(
    score: MeanIc, true: float, pattern: MeanIc, names: list[str]
) -> None:
    assert failed([planted(score, true, pattern)]) == names


def test_a_check_says_what_was_found_and_what_was_wanted() -> None:
    found = judge([planted(ic_of(0.03, 0.009), 0.028, ic_of(0.048, 0.009))]).checks[0]
    assert found == Check(
        "ridge: true IC",
        "95 % interval covers the true IC in 1 of 1 seeds: 0.0300 (0.0210 to 0.0390), true 0.0280",
        "1 to 1",
        True,
    )


def test_only_a_campaign_that_judged_everything_passes_all_of_it() -> None:
    edge = planted(ic_of(0.03, 0.009), 0.028, ic_of(0.048, 0.009))
    whole = judge([*seeds(), edge])
    assert (whole.passed, whole.unjudged) == (True, ())
    assert whole.summary == (
        "the machine passed its own test, all of it (100 null seeds and 1 planted seed)"
    )
    assert judge([edge]).unjudged == ("coverage of zero", "DSR", "PBO")
