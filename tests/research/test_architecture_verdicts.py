"""Every outcome of every verdict, by hand; and the sets and tests that they stand on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from daemon.domain.units import HOUR_MS, Timeframe
from daemon.research.architectures.arms import (
    COMBINED_NAME,
    MEAN_NAME,
    NETWORKS,
    Arm,
    Group,
    Member,
)
from daemon.research.architectures.comparison import beats, confidence_set, paired
from daemon.research.architectures.judging import Compared, judge
from daemon.research.architectures.measures import Gap, Losses
from daemon.research.architectures.verdicts import (
    Beaten,
    Finding,
    Steps,
    judge_h2,
    judge_h5,
    judge_h6,
)
from daemon.statistics.checks import Floats

YEARS = {"2023": ["bilstm"], "2024": ["bilstm"], "2025": ["bilstm", "gru"]}


@pytest.mark.parametrize(
    ("members", "peers", "years", "likely", "finding", "said"),
    [
        (["bilstm"], ["bilstm"], YEARS, ["bilstm", "ridge"], Finding.SUPPORT, "in 2 of 3 years"),
        (
            ["bilstm", "gru"],
            ["bilstm", "gru"],
            YEARS,
            ["bilstm"],
            Finding.NO_EVIDENCE,
            "gru may be the best as well",
        ),
        (["lightgbm"], ["gru"], YEARS, ["bilstm"], Finding.REFUTED, "may be the best: gru"),
        (
            ["lightgbm"],
            ["bilstm", "gru"],
            YEARS,
            ["bilstm"],
            Finding.NO_EVIDENCE,
            "of the networks bilstm, gru may be the best, but of all models lightgbm",
        ),
        (
            ["bilstm"],
            ["bilstm"],
            {"2023": ["bilstm"], "2024": ["bilstm", "tcn"]},
            ["bilstm"],
            Finding.NO_EVIDENCE,
            "in 1 of 2 years only",
        ),
        (["bilstm"], ["bilstm"], YEARS, ["ridge"], Finding.NO_EVIDENCE, "ridge are likelier"),
        (["bilstm"], ["bilstm"], {}, ["bilstm"], Finding.NO_EVIDENCE, "in 0 of 0 years"),
    ],
)
def test_a_bilstm_must_be_alone_in_the_set_over_all_and_in_most_years(
    members: list[str],
    peers: list[str],
    years: dict[str, list[str]],
    likely: list[str],
    finding: Finding,
    said: str,
) -> None:
    verdict = judge_h5("bilstm", members, peers, years, likely)
    assert verdict.finding is finding
    assert said in verdict.why


BEATEN = Beaten(single=0.01, control=0.02, combined=0.9, best_single="2h alone")


@pytest.mark.parametrize(
    ("change", "finding", "said"),
    [
        ({}, Finding.SUPPORT, "beats 2h alone (p 0.010) and as many models"),
        (
            {"control": 0.05},
            Finding.NO_EVIDENCE,
            "may be that of several models, not of timeframes",
        ),
        ({"single": 0.2, "combined": 0.01}, Finding.REFUTED, "a single timeframe beats it"),
        ({"single": 0.2}, Finding.NO_EVIDENCE, "not shown to beat 2h alone"),
        ({"control": float("nan")}, Finding.NOT_TESTED, "too few"),
    ],
)
def test_timeframes_must_beat_the_best_of_them_and_as_many_models_of_one(
    change: dict[str, float], finding: Finding, said: str
) -> None:
    verdict = judge_h2(replace(BEATEN, **change))  # type: ignore[arg-type]
    assert verdict.finding is finding
    assert said in verdict.why


STEPS = Steps(gap_low=0.01, gap_high=0.03, ic=0.002, ic_p=0.3, ensemble=0.004, ensemble_p=0.01)


@pytest.mark.parametrize(
    ("change", "finding", "said"),
    [
        ({}, Finding.SUPPORT, "better than the ensemble alone"),
        ({"ic": -0.004, "ic_p": 0.01}, Finding.REFUTED, "cost RankIC"),
        ({"gap_low": -0.03, "gap_high": -0.01}, Finding.REFUTED, "larger with all rungs"),
        ({"gap_low": -0.01}, Finding.NO_EVIDENCE, "not shown to be smaller"),
        ({"ensemble": -0.004}, Finding.REFUTED, "an ensemble of seeds alone forecasts better"),
        (
            {"ensemble": -0.0001, "ensemble_p": 0.95},
            Finding.NO_EVIDENCE,
            "not shown to be better than an ensemble",
        ),
        ({"ensemble_p": 0.2}, Finding.NO_EVIDENCE, "not shown to be better than an ensemble"),
        ({"ic": -0.004, "ic_p": 0.2}, Finding.SUPPORT, "no RankIC is lost"),
        ({"gap_low": float("nan")}, Finding.NOT_TESTED, "too few"),
    ],
)
def test_regularisation_must_close_the_gap_and_be_more_than_an_ensemble(
    change: dict[str, float], finding: Finding, said: str
) -> None:
    verdict = judge_h6(replace(STEPS, **change))
    assert verdict.finding is finding
    assert said in verdict.why


# ---- sets and tests ------------------------------------------------------------------------------

HOURS = 1_200


def overlapping(seed: int, mean: float = 0.0) -> Floats:
    """Give losses of labels that reach over six instants."""
    draw = np.random.default_rng(seed).standard_normal(HOURS + 5)
    return np.convolve(draw, np.ones(6) / 6.0, mode="valid") * 0.2 + mean


def test_a_worse_arm_leaves_the_set_and_equal_ones_stay() -> None:
    shared = overlapping(1)
    losses = {
        "good": shared + 0.1 * overlapping(2),
        "equal": shared + 0.1 * (overlapping(3) - overlapping(3).mean() + overlapping(2).mean()),
        "bad": shared + 0.1 * overlapping(4, mean=0.2),
    }
    found = confidence_set(losses, horizon=6, seed=7, repetitions=400)
    assert found is not None
    assert found.members == ("good", "equal")
    assert found.p_values["bad"] < 0.01
    assert found.block >= 12.0, "labels over six instants need blocks of twelve"
    assert found.instants == HOURS


def test_instants_that_an_arm_lacks_are_left_out_for_all_and_few_are_too_few() -> None:
    one, other = overlapping(1), overlapping(2)
    one[:200] = np.nan
    found = confidence_set({"one": one, "other": other}, horizon=6, seed=7, repetitions=50)
    assert found is not None
    assert found.instants == HOURS - 200
    assert confidence_set({"one": one[:250], "other": other[:250]}, horizon=6, seed=7) is None
    assert confidence_set({"one": one}, horizon=6, seed=7) is None


def test_spa_tells_who_is_beaten_and_takes_copies_for_none() -> None:
    shared = overlapping(1)
    losses = {
        "bench": shared,
        "better": shared + 0.1 * overlapping(2, mean=-0.3),
        "same": shared + 0.1 * overlapping(3),
        "copy": shared.copy(),
    }

    def p(*rivals: str) -> float:
        return beats(losses, "bench", rivals, horizon=6, seed=7, repetitions=400)

    assert p("better") < 0.01
    assert p("better", "same", "copy") < 0.02
    assert p("same") > 0.05
    assert p("copy") == 1.0


def test_a_paired_difference_has_an_interval_and_a_two_sided_p() -> None:
    base = overlapping(5)
    found = paired(base + 0.05 + 0.1 * overlapping(6), base, horizon=6)
    assert found.difference.low < 0.05 < found.difference.high
    assert found.p_value < 0.001
    assert np.isnan(paired(base[:50], base[:50] + 1.0, horizon=6).p_value)


# ---- a whole comparison of arms whose truth is known ---------------------------------------------

AT_MS = 1_704_067_200_000 + HOUR_MS * np.arange(HOURS, dtype=np.int64)
FRAMES = (Timeframe(60), Timeframe(90), Timeframe(120))


def compared(
    name: str,
    group: Group,
    skill: float,
    noise: int,
    *,
    gap: float = 0.0,
    tuned: bool = False,
    base: str = "bilstm",
) -> Compared:
    """Make an arm whose losses are those of all plus its own small noise, less its skill."""
    member = Member(name if group is Group.ARCHITECTURES else base, FRAMES, 7)
    losses = overlapping(1) + 0.1 * overlapping(noise, mean=-10.0 * skill)
    learned = np.full(60, gap) - losses[:60] + 0.001 * overlapping(noise + 50)[:60]
    arm = Arm(name, group, (member,), tuned=tuned)
    return Compared(arm, Losses(losses, losses, 1.4 + losses), Gap(learned, -losses))


def test_the_arms_of_all_groups_give_one_verdict_a_claim() -> None:
    arms = [
        compared("bilstm", Group.ARCHITECTURES, 0.05, 2, tuned=True),
        *(
            compared(name, Group.ARCHITECTURES, 0.0, 20 + n, tuned=True)
            for n, name in enumerate(("lstm", "gru", "tcn", "transformer"))
        ),
        compared("ridge", Group.ARCHITECTURES, 0.0, 4),
        compared("momentum", Group.ARCHITECTURES, 0.2, 5),  # no model: it is in no set
        compared("1h alone", Group.TIMEFRAMES, 0.0, 6),
        compared("90m alone", Group.TIMEFRAMES, 0.01, 7),
        compared(COMBINED_NAME, Group.TIMEFRAMES, 0.05, 8),
        compared(MEAN_NAME, Group.TIMEFRAMES, 0.04, 9),
        compared("control: 3 x 1h", Group.TIMEFRAMES, 0.05, 10),
        compared("no rung", Group.LADDER, 0.0, 11, gap=0.3),
        compared("+ dropout", Group.LADDER, 0.0, 12, gap=0.2),
        compared("+ ensemble", Group.LADDER, 0.0, 13, gap=0.3),
        compared("all rungs", Group.LADDER, 0.05, 14, gap=0.1),
        compared("- dropout", Group.LADDER, 0.05, 15, gap=0.1),
        compared("all inputs", Group.INPUTS, 0.05, 16),
        compared("- volume", Group.INPUTS, 0.0, 17),
    ]
    found = judge(arms, AT_MS, horizon=6, seed=7)
    said = {one.claim: one.finding for one in found.verdicts}
    assert said == {"H5": Finding.SUPPORT, "H2": Finding.NO_EVIDENCE, "H6": Finding.SUPPORT}
    assert found.differences["- volume less all inputs"].difference.high < 0.0
    assert list(found.sets) == ["score", "rank", "likelihood", "networks"]
    assert set(found.sets["networks"]["all"].p_values) == set(NETWORKS)
    (text,) = (one.text for one in found.verdicts if one.claim == "H2")
    assert text == "1h and 90m together forecast better than any alone"
    assert list(found.sets["score"]) == ["all", "2024"], "no quarters"
    assert "momentum" not in found.sets["score"]["all"].p_values
    assert found.tests["no network beats ridge"] < 0.05
    assert found.tests["no network beats momentum"] > 0.05
    assert {"+ dropout less no rung", "- dropout less all rungs"} <= set(found.differences)


def test_groups_that_were_not_run_and_rivals_that_took_no_part_leave_a_claim_untested() -> None:
    arms = [
        compared("bilstm", Group.ARCHITECTURES, 0.05, 2, tuned=True),
        compared("ridge", Group.ARCHITECTURES, 0.0, 4),
    ]
    (verdict,) = judge(arms, AT_MS, horizon=6, seed=7).verdicts
    assert (verdict.claim, verdict.finding) == ("H5", Finding.NOT_TESTED)
    assert verdict.why == "not all networks took part: lstm, gru, tcn, transformer did not"
    (alone,) = judge(arms[:1], AT_MS, horizon=6, seed=7).verdicts
    assert alone.why == "too few decisions, or no rivals"


def test_a_tree_that_beats_all_networks_does_not_refute_that_one_network_beats_the_others() -> None:
    arms = [
        compared("bilstm", Group.ARCHITECTURES, 0.05, 2, tuned=True),
        *(
            compared(name, Group.ARCHITECTURES, 0.0, 20 + n, tuned=True)
            for n, name in enumerate(("lstm", "gru", "tcn", "transformer"))
        ),
        compared("lightgbm", Group.ARCHITECTURES, 0.2, 4),
    ]
    judged = judge(arms, AT_MS, horizon=6, seed=7)
    assert judged.sets["score"]["all"].members == ("lightgbm",)
    (verdict,) = judged.verdicts
    assert verdict.finding is Finding.NO_EVIDENCE
    assert verdict.why == "of the networks bilstm may be the best, but of all models lightgbm"


def test_the_ladder_of_another_network_says_nothing_of_a_bilstm() -> None:
    names = ("no rung", "+ ensemble", "all rungs")
    arms = [
        compared(name, Group.LADDER, 0.02 * n, 11 + n, gap=0.3 - 0.1 * n, base="gru")
        for n, name in enumerate(names)
    ]
    (verdict,) = judge(arms, AT_MS, horizon=6, seed=7).verdicts
    assert verdict.finding is Finding.NOT_TESTED
    assert verdict.why == "the ladder is that of another network, gru"
