"""Planted looks into the future are caught by the check that passes their honest twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from daemon.domain.decision import Decision
from daemon.domain.failures import DataError
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.research.lookahead import (
    Change,
    Cut,
    CutResult,
    Pipeline,
    check_pipeline,
    check_training,
    choose_cuts,
    first_difference,
)
from daemon.research.worlds import Data, removed, replaced
from tests.research import planted_parts as parts
from tests.research.planted_market import (
    COINS,
    ENDED,
    M30,
    ORIGIN_MS,
    Part,
    Scores,
    honest,
    in_estimator,
    in_feed,
    in_strategy,
    market,
    momentum,
    run_engine,
)

SEED = 7
FIRST_MS = ORIGIN_MS + 6 * DAY_MS


@cache
def data() -> Data:
    return market()


@cache
def cuts() -> tuple[Cut, ...]:
    return choose_cuts(
        data(), first_ms=FIRST_MS, cuts_n=4, seed=SEED, decision_ms=HOUR_MS, window_ms=DAY_MS // 2
    )


def check(pipeline: Pipeline) -> tuple[CutResult, ...]:
    return check_pipeline(pipeline, data(), cuts(), SEED)


def parts_found(results: tuple[CutResult, ...]) -> set[str]:
    return {d.part for one in results for d in one.differences}


IN_ESTIMATOR: dict[str, Part] = {
    "the next close in a feature": parts.slice_one_too_long,
    "a scaler fitted on the whole sample": parts.scaled_on_the_sample,
    "a label among the features": parts.label_among_the_features,
    "a hole filled from what follows": parts.backfilled,
    "a hole interpolated": parts.interpolated,
    "a centred moving mean": parts.centred_mean,
    "the volatility of the whole period": parts.over_full_volatility,
    "a long bar joined by its open": parts.long_bar_by_its_open,
    "the price of its own fill": parts.next_open,
    "a calibration over the whole sample": parts.calibrated_on_the_sample,
    "training past the cut": parts.trained_on_the_sample,
    "a hyper-parameter chosen on all data": parts.best_lookback,
}
IN_STRATEGY: dict[str, Part] = {
    "a universe by future volume": parts.universe_by_volume,
    "survivors only": parts.survivors,
    "a covariance of the whole sample": parts.covariance_of_the_sample,
    "funding before it settles": parts.funding_to_come,
}


@pytest.mark.parametrize("name", IN_ESTIMATOR)
def test_a_leak_into_the_forecasts_is_caught_and_its_honest_twin_passes(name: str) -> None:
    leaks = check(in_estimator(IN_ESTIMATOR[name]))
    assert parts_found(leaks) == {"prediction_1h"}, name
    clean = check(in_estimator(honest(IN_ESTIMATOR[name])))
    assert parts_found(clean) == set()
    assert all(one.traded_n == one.decisions_n > 10 for one in clean)
    assert min(one.orders_n for one in clean) > 24


@pytest.mark.parametrize("name", IN_STRATEGY)
def test_a_leak_into_the_strategy_is_caught_and_its_honest_twin_passes(name: str) -> None:
    leaks = check(in_strategy(IN_STRATEGY[name]))
    assert "target" in parts_found(leaks), name
    clean = check(in_strategy(honest(IN_STRATEGY[name])))
    assert parts_found(clean) == set()
    assert min(one.orders_n for one in clean) > 24


def bars_stamped_by_their_open(world: Data) -> Data:
    """Show each bar when it begins: a builder that is off by one."""
    return replace(
        world, close_ms=world.close_ms[:-1], values=world.values[1:], opens=world.opens[:-1]
    )


def rates_before_they_settle(world: Data) -> Data:
    return replace(world, settle_ms=world.settle_ms - 4 * HOUR_MS)


def as_it_is(world: Data) -> Data:
    return world


@pytest.mark.parametrize(
    ("bent", "score", "part"),
    [
        (bars_stamped_by_their_open, momentum, "bars"),
        (rates_before_they_settle, lambda view: -view.funding_rates, "equity"),
    ],
    ids=["bars", "funding"],
)
def test_a_leak_of_the_feed_is_caught_and_its_honest_twin_passes(
    bent: Callable[[Data], Data], score: Callable[..., np.ndarray], part: str
) -> None:
    assert part in parts_found(check(in_feed(bent, score)))
    clean = check(in_feed(as_it_is, score))
    assert parts_found(clean) == set()
    assert min(one.orders_n for one in clean) > 10


def test_a_difference_names_instant_part_instrument_and_both_values() -> None:
    """Only one coin's score peeks, and only at one instant of the day."""

    def peek(world: Data, as_of_ms: int) -> np.ndarray:
        at = parts.row_at(world, as_of_ms)
        score = parts.moves_of(world, 2)[at].copy()
        if as_of_ms % DAY_MS == 12 * HOUR_MS:
            score[2] = np.log(world.values[-1, 2, 3])
        return np.asarray(score)

    cut = Cut(FIRST_MS, FIRST_MS + 20 * HOUR_MS)
    (result,) = check_pipeline(in_estimator(peek), data(), [cut], SEED)
    first, second = result.differences
    assert (first.change, second.change) == (Change.REMOVED, Change.REPLACED)
    for found in (first, second):
        assert found.as_of_ms == FIRST_MS + 12 * HOUR_MS
        assert (found.part, found.symbol) == ("prediction_1h", "SOL/USDT:USDT")
        assert found.whole == f"mean {float(np.log(data().values[-1, 2, 3]))!r}"
        assert found.whole != found.changed
        assert "SOL/USDT:USDT" in str(found)
        assert "2024-01-07T12:00:00Z" in str(found)


def test_a_decision_that_only_the_future_causes_is_a_difference() -> None:
    """A pipeline that takes no decision where the data end soon."""

    def shy(world: Data, start_ms: int, until_ms: int) -> list[Decision]:
        end_ms = int(world.close_ms[-1])
        taken = in_strategy(honest(parts.universe_by_volume))(world, start_ms, until_ms)
        return [d for d in taken if d.as_of_ms < end_ms - 2 * HOUR_MS]

    (result,) = check_pipeline(shy, data(), cuts()[:1], SEED)
    (found,) = result.differences
    assert (found.part, found.whole, found.changed) == ("decision", "taken", "not taken")


@pytest.mark.parametrize("share", [0.002, 0.0005])
def test_orders_that_rest_over_the_cut_are_no_leak(share: float) -> None:
    """Little of a bar is filled, so that orders rest and decisions are unfinished at the cut."""

    def decide(world: Data, start_ms: int, until_ms: int) -> list[Decision]:
        strategy = Scores(momentum)
        return run_engine(strategy, world, start_ms, until_ms, participation_share=share)

    results = check(decide)
    assert parts_found(results) == set()
    everything = decide(data(), FIRST_MS, FIRST_MS + DAY_MS)
    assert any("unsent" in d.note or "cancelled" in d.note for d in everything)


def test_a_leak_behind_orders_that_rest_is_still_caught() -> None:
    def decide(world: Data, start_ms: int, until_ms: int) -> list[Decision]:
        strategy = Scores(lambda view: parts.covariance_of_the_sample(world, view.as_of_ms))
        return run_engine(strategy, world, start_ms, until_ms, participation_share=0.002)

    assert "target" in parts_found(check(decide))


def test_the_check_is_repeatable_and_depends_on_its_seed() -> None:
    pipeline = in_estimator(parts.scaled_on_the_sample)
    assert check(pipeline) == check(pipeline)
    other = check_pipeline(pipeline, data(), cuts(), SEED + 1)
    assert [one.cut for one in other] == [one.cut for one in check(pipeline)]
    assert other != check(pipeline)


def test_decisions_of_equal_runs_have_no_difference_and_a_missing_one_is_named() -> None:
    decide = in_strategy(honest(parts.universe_by_volume))
    taken = list(decide(data(), FIRST_MS, FIRST_MS + DAY_MS))
    at_ms = FIRST_MS + DAY_MS
    assert first_difference(taken, taken, Change.REPLACED, at_ms, COINS) is None
    found = first_difference(taken[:-1], taken, Change.REPLACED, at_ms, COINS)
    assert found is not None
    assert (found.as_of_ms, found.whole, found.changed) == (at_ms, "not taken", "taken")
    without_the_third = taken[:2] + taken[3:]
    found = first_difference(taken, without_the_third, Change.REMOVED, at_ms, COINS)
    assert found is not None
    assert (found.as_of_ms, found.part) == (taken[2].as_of_ms, "decision")


# ---- the other worlds ----------------------------------------------------------------------------


def same(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(left, right, equal_nan=True))


@pytest.mark.parametrize("row", [0, 1, 250, 400, 574])
def test_another_world_is_the_same_until_the_cut_and_another_after_it(row: int) -> None:
    whole = data()
    cut_ms = int(whole.close_ms[row])
    other = replaced(whole, cut_ms, np.random.default_rng(1))
    rows, paid = row + 1, int((whole.settle_ms <= cut_ms).sum())
    assert same(other.values[:rows], whole.values[:rows])
    assert same(other.opens[:rows], whole.opens[:rows])
    assert same(other.rates[:paid], whole.rates[:paid])
    assert other.values.shape == whole.values.shape
    after, before = other.values[rows:], whole.values[rows:]
    both = np.isfinite(after) & np.isfinite(before)
    assert (after[:, :, 3][both[:, :, 3]] != before[:, :, 3][both[:, :, 3]]).all()
    if row < 500:
        assert not same(np.isfinite(after), np.isfinite(before)), "nothing begins, ends or lacks"
    there = after[np.isfinite(after[:, :, 0])]
    assert (there[:, 2] > 0).all()
    assert (there[:, 1] >= there[:, [0, 3]].max(axis=1)).all()
    assert (there[:, 2] <= there[:, [0, 3]].min(axis=1)).all()
    assert (there[:, 4] > 0).all()


def test_without_a_future_nothing_is_left_of_it() -> None:
    whole = data()
    cut_ms = int(whole.close_ms[300])
    cut = removed(whole, cut_ms)
    assert len(cut.close_ms) == len(cut.values) == len(cut.opens) == 301
    assert np.isnan(cut.opens[-1]).all()
    assert same(cut.opens[:-1], whole.opens[:300])
    assert int(cut.settle_ms[-1]) <= cut_ms
    assert same(removed(whole, cut_ms, with_open=True).opens, whole.opens[:301])


def test_the_whole_data_cannot_be_changed_through_another_world() -> None:
    other = replaced(data(), int(data().close_ms[100]), np.random.default_rng(1))
    with pytest.raises(ValueError, match="read-only"):
        other.values[0, 0, 0] = 1.0


# ---- where it cuts -------------------------------------------------------------------------------


def test_cuts_are_spread_over_the_run_on_decisions_and_between_them() -> None:
    chosen = cuts()
    stretch = (int(data().close_ms[-1]) - FIRST_MS) / len(chosen)
    assert [int((c.at_ms - FIRST_MS) // stretch) for c in chosen] == list(range(len(chosen)))
    assert [c.at_ms % HOUR_MS == 0 for c in chosen] == [True, False] * 2
    assert all(c.at_ms % M30.ms == 0 for c in chosen)
    assert all(c.at_ms - c.start_ms <= DAY_MS // 2 for c in chosen)
    assert chosen[-1].at_ms < int(data().close_ms[-1])


def test_a_window_of_nothing_compares_from_the_start() -> None:
    chosen = choose_cuts(
        data(), first_ms=FIRST_MS, cuts_n=2, seed=1, decision_ms=HOUR_MS, window_ms=0
    )
    assert {c.start_ms for c in chosen} == {FIRST_MS}


def test_more_cuts_than_decisions_are_refused() -> None:
    with pytest.raises(DataError, match="take fewer"):
        choose_cuts(data(), first_ms=FIRST_MS, cuts_n=500, seed=1, decision_ms=HOUR_MS, window_ms=0)


# ---- training ------------------------------------------------------------------------------------


def fitted(world: Data, until_ms: int) -> dict[str, str]:
    return {"weights": repr(parts.trained_on_the_sample(world, until_ms).tolist())}


def test_training_past_the_cut_is_caught_and_training_until_it_passes() -> None:
    at_ms = [FIRST_MS + DAY_MS, FIRST_MS + 3 * DAY_MS]
    runs: list[int] = []
    leaks = check_training(fitted, data(), at_ms, SEED, runs.append)
    assert {(d.cut_ms, d.change) for d in leaks} == {(t, c) for t in at_ms for c in Change}
    assert len(runs) == 6
    clean = check_training(lambda w, t: fitted(removed(w, t), t), data(), at_ms, SEED)
    assert clean == ()


def test_an_instrument_that_ends_is_part_of_the_market_of_these_tests() -> None:
    assert np.isfinite(data().values[300, ENDED, 0])
    assert np.isnan(data().values[-1, ENDED, 0])
