"""What is measured of an arm: each figure beside a market whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from adapters.rehearsal.universe import NAMES
from daemon.domain.bar import Floats
from daemon.domain.failures import ConfigurationError
from daemon.domain.predictions import rows_of
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.research.architectures.arms import (
    BASELINES,
    DEFAULT,
    FULL,
    NETWORKS,
    Absent,
    Arm,
    Ground,
    Group,
    arms_of,
    grid,
    groups_of,
    left_out,
    lookback_of,
)
from daemon.research.architectures.budget import RESERVED_SHARE, FitCost, effort_of
from daemon.research.architectures.measures import Known, measured
from daemon.research.architectures.quality import friction_number, quality_of
from daemon.research.architectures.simple_signals import beyond, simple_signals
from daemon.research.walk_forward.scores import ALL, COMBINED
from daemon.research.walk_forward.stitching import RawFold, RawPart
from daemon.statistics.cross_sections import normal_scores, rank_ics

T, N = 600, 20
H1, M90, H2 = Timeframe(60), Timeframe(90), Timeframe(120)
START_MS = 1_704_067_200_000
DRAW = np.random.default_rng(11)


# ---- what is compared ----------------------------------------------------------------------------

GROUND = Ground(
    kinds=[*NETWORKS, "ridge", "lightgbm"],
    hidden=dict.fromkeys(NETWORKS, 8) | {"lstm": 13},
    timeframes=(H1, M90, H2),
    seed=7,
    seeded=frozenset((*NETWORKS, "lightgbm")),
)


def test_every_kind_is_an_arm_of_equal_size_and_only_networks_are_tuned() -> None:
    arms = arms_of([Group.ARCHITECTURES], GROUND, DEFAULT)
    assert [arm.name for arm in arms] == [*NETWORKS, "ridge", "lightgbm", *BASELINES]
    assert [arm.name for arm in arms if arm.tuned] == list(NETWORKS)
    by_name = {arm.name: arm for arm in arms}
    assert dict(by_name["lstm"].members[0].chosen)["hidden"] == 13
    assert [member.seed for member in by_name["gru"].members] == [7, 8]
    assert len(by_name["ridge"].members) == 1, "a seed changes nothing"
    assert len(by_name["lightgbm"].members) == 2


def test_the_control_has_as_many_models_that_look_back_as_far_but_at_one_timeframe() -> None:
    arms = {arm.name: arm for arm in arms_of([Group.TIMEFRAMES], GROUND, DEFAULT)}
    control, every = arms["control: 3 x 1h"], arms["all timeframes"]
    assert {member.timeframes for member in control.members} == {(H1,)}
    assert [dict(m.chosen)["sequence_bars"] for m in control.members] == [12, 18, 24]
    assert len({member.seed for member in control.members}) == 3
    assert [member.timeframes for member in every.members] == [(H1,), (M90,), (H2,)]
    assert control.members[0] == arms["1h alone"].members[0] == every.members[0]
    assert lookback_of(12, M90, H1) == 18


def test_the_ladder_adds_each_rung_to_none_and_takes_each_from_all() -> None:
    arms = {arm.name: arm for arm in arms_of([Group.LADDER], GROUND, FULL)}

    def on(arm: Arm) -> set[str]:
        chosen = dict(arm.members[0].chosen)
        return {name for name in chosen if chosen[name] and name not in ("hidden", "sequence_bars")}

    assert on(arms["no rung"]) == set()
    assert on(arms["+ zoneout"]) == {"zoneout"}
    assert on(arms["all rungs"]) - on(arms["- weight drop"]) == {"weight_drop"}
    assert [len(arms[n].members) for n in ("no rung", "+ ensemble", "all rungs")] == [1, 5, 5]
    assert len(arms["- ensemble"].members) == 1
    short = {arm.name for arm in arms_of([Group.LADDER], GROUND, DEFAULT)}
    assert not any("zoneout" in name for name in short)
    (absent,) = left_out([Group.LADDER], DEFAULT)
    assert absent == Absent("rung zoneout", absent.why)
    assert left_out([Group.LADDER], FULL) == ()


def test_a_ladder_of_what_has_no_recurrent_states_names_the_rungs_that_it_lacks() -> None:
    arms = arms_of([Group.LADDER], replace(GROUND, base="tcn"), FULL)
    assert not any("zoneout" in arm.name or "weight drop" in arm.name for arm in arms)
    for arm in arms:
        chosen = dict(arm.members[0].chosen)
        assert (chosen["zoneout"], chosen["weight_drop"]) == (0.0, 0.0)
    absent = left_out([Group.LADDER], FULL, "tcn")
    assert [one.name for one in absent] == ["rung weight drop", "rung zoneout"]
    assert "a tcn has no recurrent states" in absent[0].why


def test_inputs_are_taken_away_block_by_block_and_whoever_reads_all_is_described_as_ever() -> None:
    ground = replace(GROUND, covariates=("funding", "series:vix"))
    arms = {arm.name: arm for arm in arms_of([Group.INPUTS], ground, DEFAULT)}
    assert list(arms) == [
        "all inputs",
        "- returns",
        "- residual returns",
        "- range and body",
        "- volume",
        "- volatility",
        "- time of day",
        "- state of the market",
        "- funding",
        "- series:vix",
    ]
    every, less = arms["all inputs"], arms["- volume"]
    assert [one.blanked for one in less.members] == [("volume",)] * 2
    assert [replace(one, blanked=()) for one in less.members] == list(every.members)
    assert "blanked" not in every.described[0]
    assert less.described[0] == {**every.described[0], "blanked": ("volume",)}


def test_every_network_is_tried_with_the_same_settings_the_default_one_in_front() -> None:
    assert grid(1) == ({"learning_rate": 0.003, "feature_dropout": 0.3, "weight_decay": 0.1},)
    assert len({tuple(one.items()) for one in grid(40)}) == 40
    assert grid(3) == grid(40)[:3]
    # few trials reach to both sides of the usual rate: a kind that needs a lower one has a say
    assert [one["learning_rate"] for one in grid(3)] == [0.003, 0.001, 0.01]
    assert all(len({one["learning_rate"] for one in grid(40)[n : n + 5]}) == 5 for n in (0, 5, 35))
    with pytest.raises(ConfigurationError, match=r"41 trials of tuning: accepted is 1 \.\. 40"):
        grid(41)


@pytest.mark.parametrize("text", ["", "ladders", "ladder,ladder"])
def test_unknown_groups_are_refused(text: str) -> None:
    assert groups_of("ladder, timeframes") == (Group.LADDER, Group.TIMEFRAMES)
    with pytest.raises(ConfigurationError, match=r"--arms .*: accepted are, each once"):
        groups_of(text)


# ---- how much is learned -------------------------------------------------------------------------


def costs(days: float) -> tuple[int, list[FitCost]]:
    folds = max(1, round(360 / days))
    return folds, [FitCost(10.0, 0.03125)] * folds * 4


def test_hours_that_do_not_suffice_buy_fewer_steps_then_fewer_refits_for_all_alike() -> None:
    rich = effort_of(costs, refit_days=60.0, steps_max=4_000, core_hours=0.0)
    assert (rich.steps, rich.folds_n, rich.fits_n, rich.reason) == (4_000, 6, 24, "")
    less = effort_of(costs, refit_days=60.0, steps_max=4_000, core_hours=0.5)
    seconds = 1_800.0 * (1.0 - RESERVED_SHARE)
    assert less.steps == int((seconds - 240) / 0.75)
    assert less.folds_n == 6
    assert less.reason == f"every network learns {less.steps:,} steps instead of 4,000"
    assert less.core_s <= seconds
    few = effort_of(costs, refit_days=60.0, steps_max=4_000, core_hours=0.2)
    assert (few.folds_n, few.refit_days) == (3, 120.0)
    assert few.steps == int((3_600.0 * 0.2 * (1.0 - RESERVED_SHARE) - 120) / 0.375)
    assert "fitted again every 120 days instead of 60, and" in few.reason


def test_hours_in_which_nothing_can_be_compared_are_refused_with_what_is_needed() -> None:
    with pytest.raises(ConfigurationError, match=r"core_hours = 0.01: these arms need 0\.0\d"):
        effort_of(costs, refit_days=60.0, steps_max=1_000, core_hours=0.01)


# ---- simple signals ------------------------------------------------------------------------------


def test_simple_signals_are_past_moves_and_low_volatility() -> None:
    closes = np.log(np.arange(1.0, 601.0))[:, None] * np.array([[1.0, 2.0]])
    sigma = np.full((600, 2), 0.5)
    rows = np.array([10, 400])
    found = simple_signals(closes, sigma, rows, bar_ms=HOUR_MS // 4)
    assert list(found) == ["1 h reversal", "24 h momentum", "72 h momentum", "low volatility"]
    assert found["1 h reversal"][1, 1] == pytest.approx(-2 * np.log(401 / 397))
    assert found["72 h momentum"][1, 0] == pytest.approx(np.log(401 / 113))
    assert np.isnan(found["24 h momentum"][0]).all(), "no close so long ago"
    assert (found["low volatility"] == -0.5).all()


def test_a_forecast_that_is_a_simple_signal_has_nothing_left_and_other_skill_stays() -> None:
    signals = {name: DRAW.standard_normal((T, N)) for name in ("reversal", "momentum")}
    other = DRAW.standard_normal((T, N))
    assert np.isnan(beyond(signals["reversal"], signals)).all()
    both = normal_scores(signals["reversal"]) + normal_scores(other)
    left = beyond(both, signals)
    assert rank_ics(left, signals["reversal"]).mean() == pytest.approx(0.0, abs=0.02)
    assert rank_ics(left, other).mean() > 0.6
    for values in signals.values():  # orthogonal at every instant, not on average only
        scores = normal_scores(values)
        assert np.abs((left * scores).sum(axis=1)).max() < 1e-9


def test_what_is_missing_is_left_out_and_too_few_instruments_say_nothing() -> None:
    signals = {"momentum": DRAW.standard_normal((4, N))}
    forecasts = DRAW.standard_normal((4, N))
    forecasts[0, 3], signals["momentum"][1, 5] = np.nan, np.nan
    forecasts[2, 4:] = np.nan
    left = beyond(forecasts, signals)
    assert np.isnan(left[0, 3])
    assert np.isnan(left[1, 5])
    assert np.isfinite(left[:2]).sum() == 2 * N - 2
    assert np.isnan(left[2]).all()


# ---- quality -------------------------------------------------------------------------------------


def decaying(phi: float) -> Floats:
    """Give a signal (T, N) whose correlation with itself an hour before is phi."""
    out = np.empty((T, N))
    out[0] = DRAW.standard_normal(N)
    for t in range(1, T):
        out[t] = phi * out[t - 1] + np.sqrt(1 - phi**2) * DRAW.standard_normal(N)
    return out


def test_persistence_turnover_and_friction_are_those_of_the_signal() -> None:
    phi, ic, sigma, cost = 0.9, 0.3, 0.01, 0.0005
    signal = decaying(phi)
    y = ic * signal + np.sqrt(1 - ic**2) * DRAW.standard_normal((T, N))
    outcomes = dict.fromkeys((1, 6, 12, 24), y)
    found = quality_of(signal, outcomes, np.full((T, N), sigma), cost=cost, step_h=1)
    assert found.persistence == pytest.approx(phi, abs=0.02)
    expected = cost * (1 - phi**6) / (ic * 6**0.5 * sigma)
    assert found.friction == pytest.approx(expected, rel=0.15)
    assert [at.hours for at in found.ages] == [0, 1, 2, 4, 8, 12, 24]
    aged = [at.score_ic.mean for at in found.ages]
    assert aged[3] == pytest.approx(aged[0] * phi**4, abs=0.02)
    still = quality_of(
        np.tile(signal[:1], (T, 1)), outcomes, np.full((T, N), sigma), cost=cost, step_h=1
    )
    assert still.turnover == pytest.approx(0.0, abs=1e-12)
    restless = quality_of(
        DRAW.standard_normal((T, N)), outcomes, np.full((T, N), sigma), cost=cost, step_h=1
    )
    assert restless.turnover > found.turnover > 0.0
    turned = np.where(np.arange(T)[:, None] % 2, -signal[:1], signal[:1])
    sides = quality_of(turned, outcomes, np.full((T, N), sigma), cost=cost, step_h=1)
    assert sides.turnover == pytest.approx(48.0), "each hour all is sold and its opposite bought"
    against = quality_of(-signal, outcomes, np.full((T, N), sigma), cost=cost, step_h=1)
    assert against.friction == float("inf")
    silent = quality_of(np.zeros((T, N)), outcomes, np.full((T, N), sigma), cost=cost, step_h=1)
    assert np.isnan(silent.friction)
    assert np.isnan(silent.persistence)


@pytest.mark.parametrize(("half_life_h", "growth"), [(3, 1.48), (6, 1.87), (12, 2.13), (24, 2.28)])
def test_friction_from_the_ic_of_six_hours_is_that_of_one_hour(
    half_life_h: float, growth: float
) -> None:
    """SCIENCE 2b: the IC grows so from 1 to 6 hours; F = c (1 - phi) / (rho sigma)."""
    phi, rho, sigma, cost = 0.5 ** (1 / half_life_h), 0.01, 0.007, 0.0005
    ic = rho * (1 - phi**6) / ((1 - phi) * 6**0.5)
    assert ic / rho == pytest.approx(growth, abs=0.005)
    expected = cost * (1 - phi) / (rho * sigma)
    assert friction_number(ic, phi, sigma, cost) == pytest.approx(expected, rel=1e-12)
    assert friction_number(-ic, phi, sigma, cost) == float("inf")


# ---- a whole arm ---------------------------------------------------------------------------------


def known_of(y: Floats, signals: dict[str, Floats]) -> Known:
    return Known(
        at_ms=START_MS + HOUR_MS * np.arange(T, dtype=np.int64),
        decision=H1,
        outcomes=dict.fromkeys((1, 6, 12, 24), y),
        signals=signals,
        sigma=np.full((T, N), 0.01),
        cost=0.0006,
        reach_ms=7 * HOUR_MS,
    )


def arm_of(forecasts: Floats, noise: Floats, at_ms: np.ndarray[tuple[int], np.dtype[np.int64]]):  # type: ignore[no-untyped-def]
    symbols = sorted(NAMES[:N])
    table = rows_of(symbols, [H1], at_ms, forecasts, forecasts[None], np.full((1, T, N), 1e-4))
    half = T // 2
    part = [
        RawPart(at_ms[s], forecasts[None, s], noise[s]) for s in (slice(0, half), slice(half, T))
    ]
    folds = [RawFold(int(p.close_ms[0]), {H1: p}, {H1: p}) for p in part]
    return table, folds


def test_an_arm_is_measured_as_it_is_and_beyond_the_simple_signals() -> None:
    momentum, own = DRAW.standard_normal((T, N)), DRAW.standard_normal((T, N))
    size = np.exp(0.5 * DRAW.standard_normal((T, N)))
    y = 0.1 * momentum + 0.1 * own + size * DRAW.standard_normal((T, N))
    known = known_of(y, {"momentum": momentum})
    table, folds = arm_of(0.1 * momentum + 0.1 * own, size**2, known.at_ms)
    found = measured(table, folds, known, None)
    whole = next(s for s in found.scores if (s.signal, s.period, s.horizon_h) == (COMBINED, ALL, 6))
    left = next(s for s in found.beyond if s.period == ALL)
    assert whole.rank_ic.mean > left.rank_ic.mean > 0.03
    assert left.rank_ic.low > 0.0
    assert [s.signal for s in found.scores if s.period == ALL] == [COMBINED, COMBINED, "1h"]
    # who knows the size of the noise is likelier than who says one for all
    _, blunt = arm_of(0.1 * momentum + 0.1 * own, np.ones((T, N)), known.at_ms)
    assert found.likelihood.mean < measured(table, blunt, known, None).likelihood.mean - 0.05
    assert found.losses.rank.mean() == pytest.approx(-whole.rank_ic.mean)


def test_the_scale_of_stated_variances_is_learned_from_tests_before_and_never_from_their_own() -> (
    None
):
    y = 3.0 * DRAW.standard_normal((T, N))
    known = known_of(y, {"momentum": DRAW.standard_normal((T, N))})
    table, folds = arm_of(np.zeros((T, N)), np.full((T, N), 0.01), known.at_ms)
    loss = measured(table, folds, known, None).losses.likelihood
    assert loss[T // 2 :].mean() == pytest.approx(
        0.5 * np.log(2 * np.pi) + np.log(3) + 0.5, abs=0.02
    )
    assert loss[: T // 2].mean() > loss[T // 2 :].mean() + 1.0, (
        "the first fold knows unit size only"
    )
    later = y.copy()
    later[T // 2 :] *= 5.0
    changed = measured(table, folds, known_of(later, dict(known.signals)), None).losses.likelihood
    assert np.array_equal(changed[: T // 2], loss[: T // 2])


def test_who_says_nothing_earns_nothing_and_is_compared_all_the_same() -> None:
    y = DRAW.standard_normal((T, N))
    known = known_of(y, {"momentum": DRAW.standard_normal((T, N))})
    table, folds = arm_of(np.zeros((T, N)), np.ones((T, N)), known.at_ms)
    found = measured(table, folds, known, None)
    assert (found.losses.rank == 0.0).all()
    assert (found.losses.score == 0.0).all()


def test_who_is_silent_at_bad_times_is_scored_at_the_same_decisions_as_all() -> None:
    y = DRAW.standard_normal((T, N))
    few = DRAW.standard_normal((T, N))
    few[-5:, 2:] = np.nan  # too few instruments to look beyond it
    known = known_of(y, {"momentum": few})
    said = 0.2 * y + DRAW.standard_normal((T, N))
    said[T // 2 :] = 0.0  # calibration found it worth nothing
    table, folds = arm_of(said, np.ones((T, N)), known.at_ms)
    found = measured(table, folds, known, None)
    for scores, instants in ((found.scores, T), (found.beyond, T - 5)):
        whole = next(s for s in scores if s.period == ALL)
        assert whole.rank_ic.instants == whole.score_ic.instants == instants
    whole = found.scores[0]
    assert whole.rank_ic.mean == pytest.approx(-found.losses.rank.mean(), rel=1e-12)
    assert whole.score_ic.mean == pytest.approx(-found.losses.score.mean(), rel=1e-12)
    half = rank_ics(said[: T // 2], y[: T // 2]).mean()
    assert whole.rank_ic.mean == pytest.approx(half / 2, rel=1e-9)
    mute, folds = arm_of(np.zeros((T, N)), np.ones((T, N)), known.at_ms)
    assert np.isnan(measured(mute, folds, known, None).scores[0].rank_ic.mean), "never a word"
