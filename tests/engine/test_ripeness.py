"""Age and liquidity from bars alone: as pandas has it, without coming and going, restorable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import FIELDS, Floats
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey, Standing, Universe, spare_columns
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.engine.book import Book
from daemon.engine.ripeness import LEAVES, Ripeness, RipenessRules
from tests.engine.world import MIDNIGHT_MS, universe_of

BAR_MS = 4 * HOUR_MS
BARS_A_DAY = DAY_MS // BAR_MS


def bars_of(days: int, seed: int, absent: float = 0.0) -> Floats:
    """Generate (days * BARS_A_DAY, 4, 5) bars; a share of them does not exist."""
    dice = np.random.default_rng(seed)
    values = np.repeat(dice.uniform(1.0, 200.0, (days * BARS_A_DAY, 4, 1)), FIELDS, axis=2)
    values[:, :, 4] = dice.lognormal(3.0, 1.5, values.shape[:2])
    values[dice.random(values.shape[:2]) < absent] = np.nan
    return values


def run(rules: RipenessRules, values: Floats) -> tuple[Book, Ripeness, list[list[bool]]]:
    book = Book(universe_of())
    ripeness = Ripeness(book, rules)
    seen = []
    for row, bars in enumerate(values):
        ripeness.see(MIDNIGHT_MS + (row + 1) * BAR_MS, bars, ~np.isnan(bars[:, 3]))
        if (row + 1) % BARS_A_DAY == 0:
            seen.append([s == Standing.TRADING for s in book.standing])
    return book, ripeness, seen


def medians_of(values: Floats, days_n: int) -> pd.DataFrame:
    """Give the median day volume of each day and instrument, by other means."""
    times = pd.to_datetime(MIDNIGHT_MS + np.arange(len(values)) * BAR_MS, unit="ms", utc=True)
    notional = pd.DataFrame(values[:, :, 3] * values[:, :, 4], index=times)
    daily = notional.resample("1D").sum(min_count=1)
    daily.iloc[0] = np.nan  # we began to look in it
    return daily.rolling(days_n, min_periods=1).median()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    bound=st.floats(1e3, 2e5),
    days_n=st.integers(1, 5),
    absent=st.sampled_from([0.0, 0.3, 0.97]),
)
def test_liquidity_is_the_median_of_days_with_two_bounds(
    seed: int, bound: float, days_n: int, absent: float
) -> None:
    values = bars_of(12, seed, absent)
    _, _, seen = run(RipenessRules(day_volume_min=bound, days_n=days_n), values)
    medians = medians_of(values, days_n).fillna(0.0).to_numpy()
    liquid = np.zeros(4, dtype=bool)
    for day, median in enumerate(medians):
        liquid = median >= np.where(liquid, LEAVES * bound, bound)
        assert seen[day] == list(liquid), f"day {day}"


def test_age_counts_from_the_first_bar_where_no_listing_is_told() -> None:
    values = bars_of(10, 1)
    values[: 4 * BARS_A_DAY + 1, 2] = np.nan  # comes in the fifth day
    _, _, seen = run(RipenessRules(age_ms_min=3 * DAY_MS), values)
    assert [day for day, ripe in enumerate(seen) if ripe[2]] == [7, 8, 9]
    assert [day for day, ripe in enumerate(seen) if ripe[0]] == list(range(3, 10))


def test_nothing_is_asked_by_default_and_everything_is_ripe() -> None:
    book, _, seen = run(RipenessRules(), bars_of(3, 2))
    assert all(all(ripe) for ripe in seen)
    assert book.all_trade


def test_before_the_first_judgement_nothing_is_held() -> None:
    book, _, _ = run(RipenessRules(age_ms_min=1), bars_of(1, 2)[:3])
    assert set(book.standing) == {int(Standing.UNRIPE)}


def test_each_coming_and_going_is_told_with_its_reason() -> None:
    values = np.full((6 * BARS_A_DAY, 4, FIELDS), 100.0)
    values[:, :, 4] = 1.0
    values[4 * BARS_A_DAY :, 1, 4] = 0.5
    ripeness = Ripeness(Book(universe_of()), RipenessRules(day_volume_min=500.0, days_n=1))
    told = []
    for row, bars in enumerate(values):
        told += ripeness.see(MIDNIGHT_MS + (row + 1) * BAR_MS, bars, np.ones(4, dtype=bool))
    texts = [a.text for a in told]
    assert texts[-1] == "paper:ETH/USDT:USDT is unripe: 300 a day is traded"
    assert len(texts) == 5


def test_the_venues_word_stands_above_ours() -> None:
    book, _, _ = run(RipenessRules(day_volume_min=1.0), bars_of(3, 3))
    instrument = book.universe.instruments[0]
    book.stand(0, instrument, Standing.GONE)
    assert not book.ripen(0, ripe=True)
    assert book.standing[0] == Standing.GONE
    book.ripen(0, ripe=False)
    book.stand(0, instrument, Standing.TRADING)
    assert book.standing[0] == Standing.UNRIPE


@settings(max_examples=15)
@given(cut=st.integers(1, 59), seed=st.integers(0, 99))
def test_a_snapshot_changes_nothing(cut: int, seed: int) -> None:
    rules = RipenessRules(age_ms_min=2 * DAY_MS, day_volume_min=3e4, days_n=3)
    values = bars_of(10, seed, 0.2)
    whole, _, _ = run(rules, values)
    book, ripeness, _ = run(rules, values[:cut])
    again = Book(universe_of())
    revived = Ripeness(again, rules)
    again.restore(book.to_plain())
    revived.restore(ripeness.to_plain())
    for row in range(cut, len(values)):
        bars = values[row]
        revived.see(MIDNIGHT_MS + (row + 1) * BAR_MS, bars, ~np.isnan(bars[:, 3]))
    assert again.standing == whole.standing


def test_a_filter_that_was_switched_off_holds_nobody_back() -> None:
    book, ripeness, _ = run(RipenessRules(day_volume_min=1e12), bars_of(3, 4))
    assert not book.all_trade
    again = Book(universe_of())
    revived = Ripeness(again, RipenessRules())
    again.restore(book.to_plain())
    revived.restore(ripeness.to_plain())
    assert again.all_trade


def with_spare() -> Book:
    universe = universe_of(2)
    return Book(Universe((*universe.instruments, *spare_columns("paper", "USDT", 1))))


def listed(book: Book, ripeness: Ripeness, at_ms: int) -> None:
    """Let a contract that was listed at an instant take the spare column."""
    like = book.universe.instruments[0]
    found = replace(like, key=InstrumentKey("paper", "NEW/USDT:USDT"), listed_ms=at_ms)
    book.stand(2, found, Standing.TRADING)
    ripeness.begin(2)


def test_a_contract_that_joins_is_as_old_as_its_listing_and_as_liquid_as_its_days() -> None:
    rules = RipenessRules(age_ms_min=3 * DAY_MS, day_volume_min=1_000.0, days_n=2)
    book = with_spare()
    ripeness = Ripeness(book, rules)
    values = np.full((10 * BARS_A_DAY, 3, FIELDS), 100.0)
    values[:, :, 4] = 10.0
    values[: 4 * BARS_A_DAY, 2] = np.nan
    seen = []
    for row, bars in enumerate(values):
        if row == 4 * BARS_A_DAY:
            assert book.standing[2] == Standing.GONE
            listed(book, ripeness, MIDNIGHT_MS + 3 * DAY_MS + DAY_MS // 2)
            assert book.standing[2] == Standing.UNRIPE
        ripeness.see(MIDNIGHT_MS + (row + 1) * BAR_MS, bars, ~np.isnan(bars[:, 3]))
        if (row + 1) % BARS_A_DAY == 0:
            seen.append(Standing(book.standing[2]))
    assert [day for day, s in enumerate(seen) if s is Standing.TRADING] == [6, 7, 8, 9]


def test_nothing_is_asked_of_a_contract_that_joins_where_nothing_is_asked() -> None:
    book = with_spare()
    ripeness = Ripeness(book, RipenessRules())
    listed(book, ripeness, MIDNIGHT_MS)
    assert book.all_trade


@settings(max_examples=25)
@given(seed=st.integers(0, 999), bound=st.floats(1e3, 2e5))
def test_bars_that_come_late_or_in_pieces_count_for_their_own_day(seed: int, bound: float) -> None:
    """Two venues tell an instant in two pieces, and some pieces come a day late."""
    values = bars_of(8, seed, 0.1)
    dice = np.random.default_rng(seed)
    rules = RipenessRules(day_volume_min=bound, days_n=4)
    _, whole, _ = run(rules, values)
    pieces = Ripeness(Book(universe_of()), rules)
    later: list[tuple[int, Floats]] = []
    for row, bars in enumerate(values):
        close_ms = MIDNIGHT_MS + (row + 1) * BAR_MS
        first, second = bars.copy(), bars.copy()
        first[2:], second[:2] = np.nan, np.nan
        told = [(close_ms, first)]
        if row >= BARS_A_DAY and dice.random() < 0.5:
            later.append((close_ms, second))
        else:
            told.append((close_ms, second))
        if dice.random() < 0.2:
            told, later = [*told, *later], []
        for at_ms, part in told:
            pieces.see(at_ms, part, ~np.isnan(part[:, 3]))
    for at_ms, part in later:
        pieces.see(at_ms, part, ~np.isnan(part[:, 3]))
    np.testing.assert_allclose(pieces.days, whole.days, rtol=1e-12)


@pytest.mark.parametrize("wrong", [{"age_ms_min": -1}, {"day_volume_min": -1.0}, {"days_n": 0}])
def test_impossible_rules_are_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(InvariantViolated, match=next(iter(wrong))):
        RipenessRules(**wrong)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    rank_max=st.integers(1, 3),
    days_n=st.integers(1, 4),
    absent=st.sampled_from([0.0, 0.4, 0.97]),
)
def test_only_the_most_traded_enter_and_they_leave_later_than_they_come(
    seed: int, rank_max: int, days_n: int, absent: float
) -> None:
    values = bars_of(12, seed, absent)
    _, _, seen = run(RipenessRules(rank_max=rank_max, days_n=days_n), values)
    medians = medians_of(values, days_n)
    places = medians.rank(axis=1, ascending=False, method="first").to_numpy()
    held = np.zeros(4, dtype=bool)
    for day, place in enumerate(places):
        held = (place <= rank_max) | (held & (place <= 1.5 * rank_max))
        assert seen[day] == list(held), f"day {day}"
        if day and absent < 0.9:
            assert rank_max <= sum(seen[day]) <= 1.5 * rank_max


def test_what_ended_leaves_its_place_to_the_next() -> None:
    values = np.full((6 * BARS_A_DAY, 4, FIELDS), 100.0)
    values[:, :, 4] = [4.0, 3.0, 2.0, 1.0]
    book = Book(universe_of())
    ripeness = Ripeness(book, RipenessRules(rank_max=2))
    stands = []
    for row, bars in enumerate(values):
        if row == 3 * BARS_A_DAY:
            book.stand(0, book.universe.instruments[0], Standing.GONE)
        ripeness.see(MIDNIGHT_MS + (row + 1) * BAR_MS, bars, np.ones(4, dtype=bool))
        if (row + 1) % BARS_A_DAY == 0:
            stands.append(list(book.standing))
    trading, unripe, gone = (int(s) for s in (Standing.TRADING, Standing.UNRIPE, Standing.GONE))
    assert stands[2] == [trading, trading, unripe, unripe]
    assert stands[3:] == [[gone, trading, trading, unripe]] * 3


@settings(max_examples=15)
@given(cut=st.integers(1, 59), seed=st.integers(0, 99))
def test_a_snapshot_keeps_who_is_in(cut: int, seed: int) -> None:
    rules = RipenessRules(rank_max=2, days_n=2)
    values = bars_of(10, seed, 0.2)
    whole, _, _ = run(rules, values)
    book, ripeness, _ = run(rules, values[:cut])
    again = Book(universe_of())
    revived = Ripeness(again, rules)
    again.restore(book.to_plain())
    revived.restore(ripeness.to_plain())
    for row in range(cut, len(values)):
        bars = values[row]
        revived.see(MIDNIGHT_MS + (row + 1) * BAR_MS, bars, ~np.isnan(bars[:, 3]))
    assert again.standing == whole.standing


def test_a_coming_by_rank_is_told_with_its_place() -> None:
    values = np.full((4 * BARS_A_DAY, 4, FIELDS), 100.0)
    values[:, :, 4] = [1.0, 3.0, 2.0, 4.0]
    ripeness = Ripeness(Book(universe_of()), RipenessRules(rank_max=2))
    told = []
    for row, bars in enumerate(values):
        told += ripeness.see(MIDNIGHT_MS + (row + 1) * BAR_MS, bars, np.ones(4, dtype=bool))
    assert [a.text for a in told] == [
        "paper:ETH/USDT:USDT is trading: 1,800 a day is traded, place 2",
        "paper:XRP/USDT:USDT is trading: 2,400 a day is traded, place 1",
    ]


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), rank_max=st.integers(0, 2))
def test_an_instant_that_comes_in_pieces_is_judged_as_one_that_comes_whole(
    seed: int, rank_max: int
) -> None:
    rules = RipenessRules(day_volume_min=3e4, days_n=1, rank_max=rank_max)
    values = bars_of(8, seed)
    book, _, _ = run(rules, values)
    apart = Book(universe_of())
    ripeness = Ripeness(apart, rules)
    _, _, seen = run(rules, values)
    for row, bars in enumerate(values):
        close_ms = MIDNIGHT_MS + (row + 1) * BAR_MS
        for who in (3, 0, 2, 1):
            part = np.full_like(bars, np.nan)
            part[who] = bars[who]
            ripeness.see(close_ms, part, ~np.isnan(part[:, 3]))
        if (row + 1) % BARS_A_DAY == 0:
            stands = [s == Standing.TRADING for s in apart.standing]
            assert stands == seen[row // BARS_A_DAY]
    assert apart.standing == book.standing
