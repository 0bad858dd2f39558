"""Age and liquidity from bars alone: as pandas has it, without coming and going, restorable."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import FIELDS, Floats
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import Standing
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


@settings(max_examples=30, deadline=None)
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
    times = pd.to_datetime(MIDNIGHT_MS + np.arange(len(values)) * BAR_MS, unit="ms", utc=True)
    notional = pd.DataFrame(values[:, :, 3] * values[:, :, 4], index=times)
    daily = notional.resample("1D").sum(min_count=1)
    daily.iloc[0] = np.nan  # we began to look in it
    medians = daily.rolling(days_n, min_periods=1).median().fillna(0.0).to_numpy()
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


@settings(max_examples=15, deadline=None)
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


@pytest.mark.parametrize("wrong", [{"age_ms_min": -1}, {"day_volume_min": -1.0}, {"days_n": 0}])
def test_impossible_rules_are_refused_by_name(wrong: dict[str, int]) -> None:
    with pytest.raises(InvariantViolated, match=next(iter(wrong))):
        RipenessRules(**wrong)
