"""Planted looks into the future are caught by the check that passes their honest twins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from daemon.domain.bar import Field
from daemon.domain.failures import DataError
from daemon.domain.order import Fill
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.domain.view import View
from daemon.research.lookahead import (
    Cut,
    CutResult,
    Pipeline,
    Place,
    at_a_fill,
    check_pipeline,
    check_training,
    choose_cuts,
)
from daemon.research.outcome import Aspect, Change, Outcome, first_difference
from daemon.research.worlds import Data, removed, replaced
from tests.research import planted_parts as parts
from tests.research.planted_market import (
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


def closes_mixed_with_the_next(world: Data) -> Data:
    values, closes = world.values.copy(), world.values[:, :, Field.CLOSE]
    mixed = (closes[:-1] + closes[1:]) / 2
    values[:-1, :, Field.CLOSE] = np.where(np.isfinite(mixed), mixed, closes[:-1])
    return replace(world, values=values)


def filled_at(field: Field) -> Callable[[Data], Data]:
    """Fill orders at a price of the bar that begins, which nobody knows when it begins."""

    def bend(world: Data) -> Data:
        opens = world.opens.copy()
        opens[:-1] = world.values[1:, :, field]
        return replace(world, opens=opens)

    return bend


def rates_early_by(early_ms: int) -> Callable[[Data], Data]:
    return lambda world: replace(world, settle_ms=world.settle_ms - early_ms)


def as_it_is(world: Data) -> Data:
    return world


def by_funding(view: View) -> np.ndarray:
    return -view.funding_rates


# What is bent, and what shows it: in the feed, and without that in what the run did.
FEEDS: dict[str, tuple[Callable[[Data], Data], Callable[[View], np.ndarray], str, str]] = {
    "bars stamped by their open": (bars_stamped_by_their_open, momentum, "bar", "bars"),
    "closes mixed with the next": (closes_mixed_with_the_next, momentum, "bar", "bars"),
    "fills at the close to come": (filled_at(Field.CLOSE), momentum, "fill price", "fill"),
    # so low that legs are refused and mended: the orders of that decision differ before any fill
    "fills at the low to come": (filled_at(Field.LOW), momentum, "fill price", "orders"),
    "funding four hours early": (rates_early_by(4 * HOUR_MS), momentum, "funding rate", "equity"),
    "funding one bar early": (rates_early_by(M30.ms), by_funding, "funding rate", "funding"),
}


@cache
def checked_as_it_is(score: Callable[[View], np.ndarray]) -> tuple[CutResult, ...]:
    return check(in_feed(as_it_is, score))


@pytest.mark.parametrize("name", FEEDS)
def test_a_leak_of_the_feed_is_caught_and_its_honest_twin_passes(name: str) -> None:
    """It is caught in what the feed shows, and by what was done with it alone."""
    bent, score, shown, done = FEEDS[name]
    assert shown in parts_found(check(in_feed(bent, score)))
    assert done in parts_found(check(in_feed(bent, score, is_shown=False)))
    clean = checked_as_it_is(score)
    assert parts_found(clean) == set()
    assert min(one.orders_n for one in clean) > 10
    assert min(one.fills_n for one in clean) > 10
    assert sum(one.funding_n for one in clean) > 10


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

    def shy(world: Data, start_ms: int, until_ms: int) -> Outcome:
        end_ms = int(world.close_ms[-1])
        made = in_strategy(honest(parts.universe_by_volume))(world, start_ms, until_ms)
        return replace(
            made, decisions=[d for d in made.decisions if d.as_of_ms < end_ms - 2 * HOUR_MS]
        )

    (result,) = check_pipeline(shy, data(), cuts()[:1], SEED)
    (found,) = result.differences
    assert (found.part, found.whole, found.changed) == ("decision", "taken", "not taken")


@pytest.mark.parametrize("share", [0.002, 0.0005])
def test_orders_that_rest_over_the_cut_are_no_leak(share: float) -> None:
    """Little of a bar is filled, so that orders rest and decisions are unfinished at the cut."""

    def decide(world: Data, start_ms: int, until_ms: int) -> Outcome:
        strategy = Scores(momentum)
        return run_engine(strategy, world, start_ms, until_ms, participation_share=share)

    results = check(decide)
    assert parts_found(results) == set()
    everything = decide(data(), FIRST_MS, FIRST_MS + DAY_MS).decisions
    assert any("unsent" in d.note or "cancelled" in d.note for d in everything)


def test_a_leak_behind_orders_that_rest_is_still_caught() -> None:
    def decide(world: Data, start_ms: int, until_ms: int) -> Outcome:
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
    made = in_strategy(honest(parts.universe_by_volume))(data(), FIRST_MS, FIRST_MS + DAY_MS)
    taken, at_ms = list(made.decisions), FIRST_MS + DAY_MS
    assert first_difference(made, made, Change.REPLACED, at_ms) is None
    found = first_difference(replace(made, decisions=taken[:-1]), made, Change.REPLACED, at_ms)
    assert found is not None
    assert (found.aspect, found.as_of_ms) == (Aspect.DECISION, at_ms)
    assert (found.whole, found.changed) == ("not taken", "taken")
    without_the_third = replace(made, decisions=taken[:2] + taken[3:])
    found = first_difference(made, without_the_third, Change.REMOVED, at_ms)
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
    if len(after):
        assert same(after[0, :, Field.OPEN], whole.opens[row]), "what fills at the cut"
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


def test_cuts_are_spread_over_the_run_and_take_turns() -> None:
    chosen = cuts()
    stretch = (int(data().close_ms[-1]) - FIRST_MS) / len(chosen)
    assert [int((c.at_ms - FIRST_MS) // stretch) for c in chosen] == list(range(len(chosen)))
    assert [c.place for c in chosen] == list(Place)
    assert [c.at_ms % HOUR_MS == 0 for c in chosen] == [True, False] * 2
    assert (chosen[3].at_ms + M30.ms) % (8 * HOUR_MS) == 0, "the last close before funding"
    assert all(c.at_ms % M30.ms == 0 for c in chosen)
    assert all(c.at_ms - c.start_ms <= DAY_MS // 2 for c in chosen)
    assert chosen[-1].at_ms < int(data().close_ms[-1])


def test_without_funding_or_short_bars_cuts_are_on_decisions() -> None:
    bare = replace(data(), rates=np.full_like(data().rates, np.nan))
    chosen = choose_cuts(
        bare, first_ms=FIRST_MS, cuts_n=8, seed=1, decision_ms=M30.ms, window_ms=DAY_MS
    )
    assert {c.place for c in chosen} == {Place.DECISION, Place.FILL}
    assert [c.at_ms for c in chosen] == sorted(c.at_ms for c in chosen)


def test_cuts_are_in_order_where_funding_is_known_only_late() -> None:
    rates = data().rates.copy()
    rates[data().settle_ms < FIRST_MS + 3 * DAY_MS] = np.nan
    chosen = choose_cuts(
        replace(data(), rates=rates),
        first_ms=FIRST_MS - 3 * DAY_MS,
        cuts_n=8,
        seed=1,
        decision_ms=HOUR_MS,
        window_ms=DAY_MS,
    )
    places = [c.place for c in chosen]
    assert sorted(places) == sorted([*Place, *Place])
    assert places != [*Place, *Place], "those before funding are late"
    assert [c.at_ms for c in chosen] == sorted(c.at_ms for c in chosen)


def test_no_cut_lies_where_nobody_has_a_bar_or_after_the_period() -> None:
    values, first = data().values.copy(), data().rows_until(FIRST_MS)
    values[first + 5 : first + 200] = np.nan
    chosen = choose_cuts(
        replace(data(), values=values),
        first_ms=FIRST_MS,
        until_ms=FIRST_MS + 5 * DAY_MS,
        cuts_n=8,
        seed=1,
        decision_ms=HOUR_MS,
        window_ms=DAY_MS,
    )
    rows = [data().rows_until(c.at_ms) - 1 for c in chosen]
    assert all(row < first + 5 or row >= first + 200 for row in rows)
    assert chosen[-1].at_ms < FIRST_MS + 5 * DAY_MS


def test_a_cut_at_a_fill_moves_back_to_the_last_fill_and_no_further_than_its_start() -> None:
    made = in_feed(as_it_is, momentum)(data(), FIRST_MS, FIRST_MS + DAY_MS)
    filled = sorted({e.at_ms for e in made.executions if isinstance(e, Fill)})
    between = Cut(FIRST_MS, filled[-2] + M30.ms, Place.FILL)
    assert at_a_fill(between, made, data()) == replace(between, at_ms=filled[-2])
    early = Cut(FIRST_MS, filled[0] - 1, Place.FILL)
    assert at_a_fill(early, made, data()) == early
    late = Cut(filled[-1], filled[-1] + M30.ms, Place.FILL)
    assert at_a_fill(late, made, data()) == late
    hole = data().values.copy()
    hole[data().rows_until(filled[-2]) - 1] = np.nan
    moved = at_a_fill(between, made, replace(data(), values=hole))
    assert moved.at_ms == filled[-3], "a file cannot end where nobody has a bar"


def test_a_cut_at_a_fill_is_compared_at_its_fill() -> None:
    quiet = Scores(
        lambda view: (
            momentum(view) if view.as_of_ms % DAY_MS == 0 else np.full(len(view.marks), np.nan)
        )
    )

    def decide(world: Data, start_ms: int, until_ms: int) -> Outcome:
        return run_engine(quiet, filled_at(Field.LOW)(world), start_ms, until_ms, is_shown=False)

    day = FIRST_MS + DAY_MS
    at = Cut(FIRST_MS - HOUR_MS, day + 8 * HOUR_MS)
    (missed,) = check_pipeline(decide, data(), [at], SEED)
    assert missed.differences == ()
    (caught,) = check_pipeline(decide, data(), [replace(at, place=Place.FILL)], SEED)
    assert caught.cut.at_ms < at.at_ms
    assert parts_found((caught,)) == {"fill"}


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
