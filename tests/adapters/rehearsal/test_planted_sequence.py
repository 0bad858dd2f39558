"""The planted sequence: how much can be known, and that nothing simple sees it."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from adapters.rehearsal.planted import (
    JUMP_CHANCE_HOUR,
    JUMP_SIZE,
    SHOCK_SCALE,
    PatternKind,
    PlantedTruth,
    information_coefficient,
)
from adapters.rehearsal.planted_sequence import (
    BAR_SLOTS,
    CYCLE_SLOTS,
    PAUSE_SLOTS,
    SLOT_MS,
    SLOTS,
    first_sequence,
    known_and_paid,
    sequence_day,
    sequence_ic,
    sequence_scale,
)
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS

ORIGIN_MS = 1_704_067_200_000
FIRST_MS = ORIGIN_MS + 2 * DAY_MS  # a day and a half are seen by the first pattern
DAYS = 250
COINS = 40
Floats = NDArray[np.float64]


def market_of(planted_ic: float, *, coins: int = COINS, step_minutes: int = 30) -> SeededMarket:
    return SeededMarket(
        [traits_of(name, ORIGIN_MS, None) for name in NAMES[:coins]],
        seed=5,
        origin_ms=ORIGIN_MS,
        step_minutes=step_minutes,
        planted_ic=planted_ic,
        pattern=PatternKind.SEQUENCE,
    )


@pytest.fixture(scope="module")
def market() -> SeededMarket:
    return market_of(0.1)


@pytest.fixture(scope="module")
def fair() -> SeededMarket:
    """Give the same market without the pattern: all shocks are the same."""
    return market_of(0.0)


def truth_of(market: SeededMarket, minutes: int) -> PlantedTruth:
    end_ms = FIRST_MS + DAYS * DAY_MS
    return market.planted_truth(FIRST_MS, end_ms, every_ms=minutes * MINUTE_MS)


def shocks_of(seed: int, coins: int, days: int) -> Floats:
    """Draw half-hour shocks as the market's: a normal, and now and then a jump on top."""
    draw = np.random.default_rng(seed)
    shape = (coins, days * SLOTS)
    jumps = draw.random(shape) < JUMP_CHANCE_HOUR / 2
    size = math.sqrt(2.0) * JUMP_SIZE * draw.standard_normal(shape)
    shocks: Floats = SHOCK_SCALE * (draw.standard_normal(shape) + np.where(jumps, size, 0.0))
    return shocks


def days_of(shocks: Floats, scale: float) -> tuple[Floats, Floats]:
    """Run the pattern over many days whose deviation is 1: paid and alpha, (N, T) each."""
    state, paid, alpha = first_sequence(len(shocks)), [], []
    for start in range(0, shocks.shape[1], SLOTS):
        part = shocks[:, start : start + SLOTS]
        found = sequence_day(state, part, np.ones_like(part), scale)
        state = found.after
        paid.append(found.paid)
        alpha.append(found.alpha)
    return np.concatenate(paid, axis=1), np.concatenate(alpha, axis=1)


def test_the_derived_variances_are_those_of_a_simulation() -> None:
    """V and W of every place in the cycle, and that alpha is the label's expectation."""
    planted = 0.2
    shocks = shocks_of(1, 200, 80)
    scale = sequence_scale(planted)
    paid, alpha = days_of(shocks, scale)
    returns = shocks / math.sqrt(CYCLE_SLOTS) + paid  # a label's deviation is 1
    sums = np.cumsum(np.pad(returns, ((0, 0), (1, 0))), axis=1)
    for place in range(CYCLE_SLOTS):
        ends = np.arange(SLOTS + place, shocks.shape[1] - 2 * CYCLE_SLOTS, CYCLE_SLOTS)
        label = sums[:, ends + PAUSE_SLOTS + CYCLE_SLOTS] - sums[:, ends + PAUSE_SLOTS]
        known = alpha[:, ends - 1]
        V, W = known_and_paid(place)
        assert known.var() == pytest.approx(scale**2 * V, rel=0.03)
        assert label.var() == pytest.approx(1.0 + scale**2 * W, rel=0.03)
        ic = float(np.corrcoef(known.ravel(), label.ravel())[0, 1])
        wanted = scale * math.sqrt(V / (1.0 + scale**2 * W))
        assert abs(ic - wanted) < 3.0 / math.sqrt(label.size)
        if place == 0:
            assert wanted == pytest.approx(planted, rel=1e-12)


@pytest.mark.parametrize("minutes", [360, 60, 90, 120])
def test_the_true_information_coefficient_is_the_knob(market: SeededMarket, minutes: int) -> None:
    truth = truth_of(market, minutes)
    found, wanted = information_coefficient(truth), sequence_ic(0.1, minutes)
    error = 1.0 / math.sqrt(truth.alpha.size)  # what is known at two closes is hardly correlated
    print(f"closes of {minutes} minutes: true IC {found:.4f}, derived {wanted:.4f} +- {error:.4f}")
    assert abs(found - wanted) < 3 * error
    slope = float((truth.alpha * truth.label).sum() / (truth.alpha**2).sum())
    assert abs(slope - 1.0) < 3 * error / wanted
    assert truth.lag_ms == 30 * MINUTE_MS
    assert (np.diff(truth.close_ms) == minutes * MINUTE_MS).all()
    assert truth.close_ms[0] == FIRST_MS + minutes * MINUTE_MS


def test_the_scale_gives_what_is_known_each_six_hours() -> None:
    assert sequence_ic(0.03, 360) == pytest.approx(0.03, rel=1e-12)
    assert sequence_scale(0.0) == 0.0
    with pytest.raises(ConfigurationError, match=r"planted_ic 0\.4: .* 0\.\.0\.3"):
        sequence_scale(0.4)


def test_with_the_knob_at_zero_there_is_nothing(market: SeededMarket, fair: SeededMarket) -> None:
    nothing, planted = truth_of(fair, 360), truth_of(market, 360)
    assert (nothing.alpha == 0).all()
    looked_for = PlantedTruth(planted.close_ms, planted.symbols, planted.alpha, nothing.label)
    assert abs(information_coefficient(looked_for)) * math.sqrt(planted.label.size) < 3


def test_what_is_known_needs_bars_of_every_length() -> None:
    """The bars of one length alone know little more than half of what there is to know."""
    shocks = shocks_of(2, 100, 60)
    _, alpha = days_of(shocks, 1.0)
    sums = np.cumsum(np.pad(shocks, ((0, 0), (1, 0))), axis=1)
    ends = np.arange(SLOTS, shocks.shape[1], CYCLE_SLOTS)
    whole = alpha[:, ends - 1]
    for n in BAR_SLOTS:
        x = [(sums[:, ends - k * n] - sums[:, ends - (k + 1) * n]) / math.sqrt(n) for k in range(3)]
        alone = pattern_of(x[0], x[1], x[2])
        share = float(np.corrcoef(alone.ravel(), whole.ravel())[0, 1])
        assert 0.45 < share < 0.57


# ---- what must not see it ------------------------------------------------------------------------


def own_returns(market: SeededMarket) -> Floats:
    """Give each coin's own half-hour returns, drift included, in standard deviations: (T, N).

    What a trader sees has the common factor on top, which knows nothing of the pattern.
    """
    _, residual, sigma = market._truths((FIRST_MS - ORIGIN_MS) // SLOT_MS, DAYS * SLOTS)
    return residual / sigma


def moves_of(returns: Floats, slots: int, ends: NDArray[np.int64]) -> Floats:
    """Sum the last `slots` rows before each of `ends`, (M, N)."""
    sums = np.cumsum(np.pad(returns, ((1, 0), (0, 0))), axis=0)
    moves: Floats = (sums[ends] - sums[ends - slots]) / math.sqrt(slots)
    return moves


def ranked(x: Floats) -> Floats:
    ranks: Floats = 2.0 * np.argsort(np.argsort(x, axis=1), axis=1) / (x.shape[1] - 1) - 1.0
    return ranks


def correlation(x: Floats, y: Floats) -> float:
    return float(np.corrcoef(x.ravel(), y.ravel())[0, 1])


def pattern_of(newest: Floats, one: Floats, two: Floats) -> Floats:
    pattern: Floats = np.sin(newest) * np.sin(0.7 * (one - two))
    return pattern


def test_returns_keep_no_memory_and_their_deviation(market: SeededMarket) -> None:
    own = own_returns(market)
    error = 1.0 / math.sqrt(own.size)
    for lag in range(1, 25):
        assert abs(correlation(own[lag:], own[:-lag])) < 3.5 * error
    assert own.var() == pytest.approx(1.0, abs=0.08)  # what is paid has a variance of 0.055 here


@pytest.mark.parametrize("n", BAR_SLOTS)
def test_neither_moves_nor_products_of_their_ranks_know_the_pattern(
    market: SeededMarket, fair: SeededMarket, n: int
) -> None:
    """Trailing moves of 1, 2, 4, 8, 24 bars against alpha itself, not against its noisy label.

    Moves of the shocks alone: what was paid before is in real moves, to the second order of the IC.
    """
    own = own_returns(fair)
    alpha = truth_of(market, 30 * n).alpha
    closes = n * np.arange(1, len(alpha) + 1)
    rows = np.arange(24 + 6, len(alpha))
    error = 1.0 / math.sqrt(alpha[rows].size)
    moves = {k: moves_of(own, k * n, closes[rows]) for k in (1, 2, 4, 8, 24)}
    for move in moves.values():
        assert abs(correlation(move, alpha[rows])) < 4 * error
        assert abs(correlation(ranked(move), alpha[rows])) < 4 * error
    own_part = pattern_of(*(moves_of(own, n, closes[rows - lag]) for lag in range(3)))
    for lag in range(6):
        bars = {k: ranked(moves_of(own, k * n, closes[rows - lag])) for k in (1, 4, 24)}
        for a, b in ((1, 4), (1, 24), (4, 24)):
            assert abs(correlation(bars[a] * bars[b], own_part)) < 4 * error
    # the very same returns hold the pattern
    assert correlation(own_part, alpha[rows]) > 0.4
    # what was paid shows a fiftieth of the pattern at most, at an IC of 0.1
    paid = moves_of(own_returns(market), n, closes[rows])
    assert abs(correlation(paid, alpha[rows])) < 0.02 + 4 * error


# ---- the market around it ------------------------------------------------------------------------


def test_the_order_of_questions_does_not_matter() -> None:
    forwards, backwards = market_of(0.1, coins=3), market_of(0.1, coins=3)
    days = range(3, 12)

    def asked(market: SeededMarket, day: int) -> Floats:
        start_ms = ORIGIN_MS + day * DAY_MS
        truth = market.planted_truth(start_ms, start_ms + DAY_MS, every_ms=90 * MINUTE_MS)
        close = market.steps(NAMES[0], start_ms, start_ms + DAY_MS).close
        return np.concatenate([truth.alpha.ravel(), truth.label.ravel(), close])

    wanted = [asked(forwards, day) for day in days]
    found = [asked(backwards, day) for day in reversed(days)]
    assert np.array_equal(np.array(wanted), np.array(found[::-1]))


@pytest.mark.parametrize("step_minutes", [1, 3, 5, 15, 30])
def test_a_label_is_what_the_steps_of_its_six_hours_say(step_minutes: int) -> None:
    """Own return of six hours from half an hour after the close, whatever the step."""
    market = market_of(0.3, coins=30, step_minutes=step_minutes)
    start_ms = ORIGIN_MS + 3 * DAY_MS
    truth = market.planted_truth(start_ms, start_ms + DAY_MS, every_ms=6 * HOUR_MS)
    deviation = market.planted_deviation(start_ms, start_ms + DAY_MS)[5::6]
    closes = np.array(
        [market.steps(s, start_ms, start_ms + 2 * DAY_MS).close for s in market.coins]
    ).T
    per_half_hour = 30 // step_minutes
    enter = (truth.close_ms + truth.lag_ms - start_ms) // (30 * MINUTE_MS) * per_half_hour - 1
    returns = np.log(closes[enter + 12 * per_half_hour] / closes[enter])
    beta = np.array([traits_of(s, ORIGIN_MS, None).beta for s in market.coins])
    for k in range(4):  # what is left of a coin's return is the common factor
        rest = returns[k] - truth.label[k] * deviation[k]
        left = rest - beta * float(rest @ beta) / float(beta @ beta)
        assert np.abs(left).max() < 2e-3


def test_closes_between_half_hours_have_no_truth(market: SeededMarket) -> None:
    with pytest.raises(InvariantViolated, match="have no truth"):
        market.planted_truth(FIRST_MS, FIRST_MS + DAY_MS, every_ms=20 * MINUTE_MS)


def test_what_is_planted_by_default_is_what_it_was() -> None:
    """The figures of every seeded market so far hang on these bits."""
    market = SeededMarket(
        [traits_of(name, ORIGIN_MS, None) for name in NAMES[:5]],
        seed=11,
        origin_ms=ORIGIN_MS,
        planted_ic=0.1,
    )
    digest = hashlib.sha256()
    for symbol in market.coins:
        steps = market.steps(symbol, ORIGIN_MS, ORIGIN_MS + 9 * DAY_MS)
        columns = (steps.open, steps.high, steps.low, steps.close)
        digest.update(np.rint(np.array(columns) * 1e8).astype(np.int64).tobytes())
    assert digest.hexdigest()[:16] == "65706460c6016dc0"
