"""One UTC day of the generated market, computed at once for all coins.

    log return of a step = beta_i f + own shock + planted drift - variance / 2

f and the own shocks have volatilities that move hourly (persistent, with a daily rhythm) and jump
now and then. The last term makes every price a fair game: with no planted pattern nobody can earn
by prediction, only funding is paid. A day is a pure function of (traits, seed, day, state before).

Each random quantity has its own stream keyed by (seed, day, purpose) and is drawn coin by coin, so
that a coin's path does not depend on how many coins come after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from adapters.rehearsal.market import FloatArray, IntArray
from adapters.rehearsal.planted import (
    JUMP_CHANCE_HOUR,
    JUMP_SIZE,
    PATTERNS_KEPT,
    SHOCK_SCALE,
    SHOCKS_KEPT,
    PatternKind,
    drift_and_alpha,
    drift_scale,
    patterns,
)
from adapters.rehearsal.planted_sequence import (
    AHEAD_SLOTS,
    PAUSE_SLOTS,
    SLOTS,
    SequenceState,
    first_sequence,
    sequence_day,
    sequence_scale,
)
from adapters.rehearsal.universe import CoinTraits
from daemon.domain.units import HOUR_MS

HOURS: Final = 24
FUNDING_SLOTS: Final = 6  # one each four hours
_SLOT_HOURS: Final = HOURS // FUNDING_SLOTS

_FACTOR_VOLATILITY_HOUR: Final = 0.0042
_COMMON_JUMP_CHANCE_HOUR: Final = 0.005
_COMMON_JUMP_SIZE: Final = 4.0
_COMMON_MEMORY: Final = 0.5 ** (1 / 72)  # half-life of three days
_OWN_MEMORY: Final = 0.5 ** (1 / 36)
_TURNOVER_MEMORY: Final = 0.5 ** (1 / 12)
_COMMON_SPREAD: Final = 0.35  # standard deviation of the log volatility
_OWN_SPREAD: Final = 0.30
_COMMON_SHARE: Final = 0.6  # how far own volatility follows the common one
_FUNDING_MEMORY: Final = 0.7
_FUNDING_INTEREST: Final = 1e-4
_FUNDING_TREND: Final = 2e-3  # a coin that gained 10 % in a day adds 2 bps to its next rate
_FUNDING_NOISE: Final = 3e-5
_FUNDING_MAX: Final = 3e-3

# An hour's volatility relative to the day's mean: quiet Asian night, busy American opening.
_RHYTHM: Final = np.exp(0.22 * np.cos(2 * np.pi * (np.arange(HOURS) - 15) / HOURS))


@dataclass(frozen=True, slots=True)
class Recipe:
    """Hold what stays the same over all days, as arrays over N coins."""

    seed: int
    pattern: PatternKind
    scale: float  # c of the planted pattern
    steps_per_hour: int
    beta: FloatArray
    volatility_hour: FloatArray
    turnover_hour: FloatArray
    log_price_start: FloatArray
    price_units: IntArray  # a price step in units of its last decimal
    price_scale: FloatArray  # 10 ** decimals of the price
    quantity_scale: FloatArray
    funding_every_slots: IntArray


@dataclass(frozen=True, slots=True)
class DayState:
    """Hold what one day hands to the next."""

    common_log_volatility: float
    own_log_volatility: FloatArray  # (N,)
    turnover_noise: FloatArray  # (N,)
    log_price: FloatArray  # (N,)
    close_ticks: IntArray  # (N,)
    shocks: FloatArray  # (N, 24)
    patterns: FloatArray  # (N, 6)
    sequence: SequenceState
    slot_log_prices: FloatArray  # (N, 6) at the funding slots of the day before
    premium: FloatArray  # (N,)
    announced: FloatArray  # (N,) rate of the next settlement


@dataclass(frozen=True, slots=True)
class Day:
    """Hold one generated day."""

    columns: FloatArray  # (5, N, steps): open, high, low, close in USDT, volume in base units
    settled: FloatArray  # (N, 6) funding rate paid at each slot, NaN where none is due
    announced: FloatArray  # (N, 6) rate of the next settlement, known from each slot on
    alpha: FloatArray  # (N, 24), or (N, 48) of half hours where a sequence is planted
    residual: FloatArray  # as alpha: own log return, drift included
    sigma: FloatArray  # as alpha: its standard deviation
    after: DayState


def recipe_of(
    traits: Sequence[CoinTraits],
    *,
    seed: int,
    planted_ic: float,
    step_ms: int,
    pattern: PatternKind = PatternKind.CONTEXT,
) -> Recipe:
    """Turn the coins' traits into arrays."""
    coins = [t.coin for t in traits]
    decimals = np.array([c.price_decimals for c in coins], dtype=np.int64)
    lots = np.array([c.quantity_decimals for c in coins], dtype=np.int64)
    units = [round(float(c.price_step) * 10 ** (c.price_decimals or 0)) for c in coins]
    slots = [c.funding_interval_ms // (_SLOT_HOURS * HOUR_MS) for c in coins]
    return Recipe(
        seed=seed,
        pattern=pattern,
        scale=(
            drift_scale(planted_ic)
            if pattern is PatternKind.CONTEXT
            else sequence_scale(planted_ic)
        ),
        steps_per_hour=HOUR_MS // step_ms,
        beta=np.array([t.beta for t in traits]),
        volatility_hour=np.array([t.volatility_hour for t in traits]),
        turnover_hour=np.array([t.turnover_hour_usdt for t in traits]),
        log_price_start=np.log([t.price_start_usdt for t in traits]),
        price_units=np.array(units, dtype=np.int64),
        price_scale=np.power(10.0, decimals),
        quantity_scale=np.power(10.0, lots),
        funding_every_slots=np.array(slots, dtype=np.int64),
    )


def first_state(recipe: Recipe) -> DayState:
    """Give the state before the first day: volatilities in their long-run distribution."""
    n = len(recipe.beta)
    tick = recipe.price_units / recipe.price_scale
    return DayState(
        common_log_volatility=_COMMON_SPREAD * float(_stream(recipe, -1, 0).standard_normal()),
        own_log_volatility=_OWN_SPREAD * _stream(recipe, -1, 1).standard_normal(n),
        turnover_noise=np.zeros(n),
        log_price=recipe.log_price_start,
        close_ticks=np.rint(np.exp(recipe.log_price_start) / tick).astype(np.int64),
        shocks=np.zeros((n, SHOCKS_KEPT)),
        patterns=np.zeros((n, PATTERNS_KEPT)),
        sequence=first_sequence(n),
        slot_log_prices=np.repeat(recipe.log_price_start[:, None], FUNDING_SLOTS, axis=1),
        premium=np.zeros(n),
        announced=np.full(n, _FUNDING_INTEREST),
    )


def generate_day(recipe: Recipe, day: int, before: DayState) -> Day:
    """Generate the day with number `day` (days since the market's origin)."""
    n, k = len(recipe.beta), recipe.steps_per_hour
    common, own = _volatilities(
        recipe, day, before.common_log_volatility, before.own_log_volatility
    )
    sigma_factor, sigma = _hourly_sigmas(recipe, common, own)  # (24,), (N, 24)
    factor = _factor_returns(recipe, day, sigma_factor)  # (24 k,)
    planted = (
        _context_day(recipe, day, before, sigma)
        if recipe.pattern is PatternKind.CONTEXT
        else _sequence_day(recipe, day, before, sigma, (float(common[-1]), own[:, -1]))
    )
    own_returns = planted.returns  # (N, 24, k)
    variance = (recipe.beta[:, None] ** 2 * sigma_factor**2 + sigma**2) / k  # (N, 24) per step
    per_step = np.repeat(variance, k, axis=1)  # (N, 24 k)
    returns = recipe.beta[:, None] * factor + own_returns.reshape(n, -1) - per_step / 2
    log_prices = before.log_price[:, None] + np.cumsum(returns, axis=1)
    ticks = _ticks(recipe, day, before, log_prices, per_step)
    lots, turnover_noise = _lots(recipe, day, before, log_prices, returns, per_step)
    slots, settled, announced, premium = _funding(recipe, day, before, log_prices)
    after = DayState(
        common_log_volatility=float(common[-1]),
        own_log_volatility=own[:, -1],
        turnover_noise=turnover_noise,
        log_price=log_prices[:, -1],
        close_ticks=ticks[3, :, -1].astype(np.int64),
        shocks=planted.shocks,
        patterns=planted.patterns,
        sequence=planted.sequence,
        slot_log_prices=slots,
        premium=premium,
        announced=announced[:, -1],
    )
    columns = _exact(recipe, ticks, lots)
    return Day(columns, settled, announced, planted.alpha, planted.residual, planted.sigma, after)


@dataclass(frozen=True, slots=True)
class _Planted:
    """Hold a day's own returns with the pattern in them, and what of it goes on."""

    returns: FloatArray  # (N, 24, k)
    alpha: FloatArray
    residual: FloatArray
    sigma: FloatArray
    shocks: FloatArray  # (N, 24)
    patterns: FloatArray  # (N, 6)
    sequence: SequenceState


def _context_day(recipe: Recipe, day: int, before: DayState, sigma: FloatArray) -> _Planted:
    """Plant the moves of hours in the context of their day; see `planted`."""
    k = recipe.steps_per_hour
    shocks = _own_shocks(recipe, day)  # (N, 24, k) in standard deviations of the hour
    hourly = shocks.sum(axis=2)
    pattern = np.concatenate(
        [before.patterns, patterns(np.concatenate([before.shocks, hourly], axis=1))], axis=1
    )
    drift, alpha = drift_and_alpha(pattern, recipe.scale)  # (N, 24) each
    returns = sigma[:, :, None] * (shocks + drift[:, :, None] / k)
    kept = pattern[:, -PATTERNS_KEPT:]
    return _Planted(returns, alpha, returns.sum(axis=2), sigma, hourly, kept, before.sequence)


def _sequence_day(
    recipe: Recipe,
    day: int,
    before: DayState,
    sigma: FloatArray,
    levels: tuple[float, FloatArray],
) -> _Planted:
    """Plant the order of moves, half hour by half hour; see `planted_sequence`.

    What a close pays is a part of the deviation of the six hours after it: volatility is drawn
    apart from prices, so that of the next morning is known to the generator.
    """
    n, k = len(sigma), recipe.steps_per_hour
    shocks = _own_shocks(recipe, day, per_hour=2)
    halves = shocks.reshape(n, SLOTS, k // 2).sum(axis=2)
    next_sigma = _hourly_sigmas(recipe, *_volatilities(recipe, day + 1, *levels))[1]
    variance = np.repeat(np.concatenate([sigma, next_sigma], axis=1) ** 2, 2, axis=1) / 2
    sums = np.cumsum(np.pad(variance, ((0, 0), (1, 0))), axis=1)  # (N, 96 + 1)
    ends = np.arange(1, SLOTS + 1)
    deviation = np.sqrt(sums[:, ends + AHEAD_SLOTS] - sums[:, ends + PAUSE_SLOTS])
    found = sequence_day(before.sequence, math.sqrt(2.0) * halves, deviation, recipe.scale)
    half_sigma = np.sqrt(variance[:, :SLOTS])
    residual = half_sigma * math.sqrt(2.0) * halves + found.paid
    paid = np.repeat(found.paid / (k // 2), k // 2, axis=1).reshape(n, HOURS, k)
    returns = sigma[:, :, None] * shocks + paid
    return _Planted(
        returns,
        found.alpha,
        residual,
        half_sigma,
        shocks.sum(axis=2),
        before.patterns,
        found.after,
    )


def _exact(recipe: Recipe, ticks: IntArray, lots: IntArray) -> FloatArray:
    """Turn ticks and lots into floats, each exactly the one that its decimal text reads as.

    That holds because a whole number divided by a power of ten is rounded once, correctly.
    """
    columns = np.empty((5, *lots.shape))
    columns[:4] = ticks * recipe.price_units[:, None] / recipe.price_scale[:, None]
    columns[4] = lots / recipe.quantity_scale[:, None]
    return columns


def _stream(recipe: Recipe, day: int, purpose: int) -> np.random.Generator:
    """Open the random stream of one purpose on one day."""
    return np.random.Generator(np.random.PCG64([recipe.seed, day + 1, purpose]))


def _volatilities(
    recipe: Recipe, day: int, level: float, levels: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Move the log volatilities through 24 hours: (24,) common, (N, 24) own."""
    common_noise = _stream(recipe, day, 2).standard_normal(HOURS)
    own_noise = _stream(recipe, day, 3).standard_normal((len(recipe.beta), HOURS))
    common, own = np.empty(HOURS), np.empty_like(own_noise)
    common_step = _COMMON_SPREAD * math.sqrt(1 - _COMMON_MEMORY**2)
    own_step = _OWN_SPREAD * math.sqrt(1 - _OWN_MEMORY**2)
    for hour in range(HOURS):
        level = _COMMON_MEMORY * level + common_step * float(common_noise[hour])
        levels = _OWN_MEMORY * levels + own_step * own_noise[:, hour]
        common[hour], own[:, hour] = level, levels
    return common, own


def _hourly_sigmas(
    recipe: Recipe, common: FloatArray, own: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Turn log volatilities into deviations of an hour whose mean square is the trait's."""
    factor = _FACTOR_VOLATILITY_HOUR * np.exp(common - _COMMON_SPREAD**2) * _RHYTHM
    spread = (_COMMON_SHARE * _COMMON_SPREAD) ** 2 + _OWN_SPREAD**2
    own_part = np.exp(_COMMON_SHARE * common + own - spread)
    return factor, recipe.volatility_hour[:, None] * own_part * _RHYTHM


def _factor_returns(recipe: Recipe, day: int, sigma: FloatArray) -> FloatArray:
    """Draw the common factor's log return of each step, jumps included: (24 k,)."""
    k = recipe.steps_per_hour
    shocks = _stream(recipe, day, 4).standard_normal((HOURS, k)) / math.sqrt(k)
    jumps = _stream(recipe, day, 5)
    happens = jumps.random(HOURS) < _COMMON_JUMP_CHANCE_HOUR
    sizes = _COMMON_JUMP_SIZE * jumps.standard_normal(HOURS)
    steps = jumps.integers(k, size=HOURS)
    shocks[np.arange(HOURS), steps] += np.where(happens, sizes, 0.0)
    return (shocks * sigma[:, None]).ravel()


def _own_shocks(recipe: Recipe, day: int, *, per_hour: int = 1) -> FloatArray:
    """Draw the own shocks, (N, 24, k); an hour's sum has variance 1, jumps included.

    per_hour: parts of an hour that may each have a jump, whatever the others have.
    """
    n, k = len(recipe.beta), recipe.steps_per_hour
    shocks = _stream(recipe, day, 6).standard_normal((n, HOURS, k)) / math.sqrt(k)
    parts = shocks.reshape(n, HOURS * per_hour, k // per_hour)
    shape = parts.shape[:2]
    happens = _stream(recipe, day, 7).random(shape) < JUMP_CHANCE_HOUR / per_hour
    sizes = JUMP_SIZE * _stream(recipe, day, 8).standard_normal(shape)
    steps = (_stream(recipe, day, 9).random(shape) * (k // per_hour)).astype(np.int64)
    coins, places = np.nonzero(happens)
    parts[coins, places, steps[coins, places]] += sizes[coins, places]
    return SHOCK_SCALE * shocks


def _ticks(
    recipe: Recipe, day: int, before: DayState, log_prices: FloatArray, variance: FloatArray
) -> IntArray:
    """Round the path to ticks: (4, N, steps) of open, high, low, close.

    The extremes are those of a Brownian bridge between the step's ends: with x the step's return
    and v its variance the highest point is (x + sqrt(x^2 - 2 v log U)) / 2 above the start. The
    first trade of a step may be one tick away from the last one of the step before.
    """
    per_price = (recipe.price_scale / recipe.price_units)[:, None]
    starts = np.concatenate([before.log_price[:, None], log_prices[:, :-1]], axis=1)
    moves = log_prices - starts
    shape = log_prices.shape
    above = _stream(recipe, day, 10).exponential(size=shape)  # -log U
    below = _stream(recipe, day, 11).exponential(size=shape)
    tops = starts + (moves + np.sqrt(moves**2 + 2 * variance * above)) / 2
    bottoms = starts + (moves - np.sqrt(moves**2 + 2 * variance * below)) / 2
    closes = np.maximum(1, np.rint(np.exp(log_prices) * per_price)).astype(np.int64)
    gaps = np.searchsorted([0.2, 0.8], _stream(recipe, day, 12).random(shape)) - 1
    earlier = np.concatenate([before.close_ticks[:, None], closes[:, :-1]], axis=1)
    opens = np.maximum(1, earlier + gaps)
    highs = np.rint(np.exp(tops) * per_price).astype(np.int64)
    lows = np.maximum(1, np.rint(np.exp(bottoms) * per_price)).astype(np.int64)
    highs = np.maximum(highs, np.maximum(opens, closes))
    lows = np.minimum(lows, np.minimum(opens, closes))
    return np.stack([opens, highs, lows, closes])


def _lots(
    recipe: Recipe,
    day: int,
    before: DayState,
    log_prices: FloatArray,
    returns: FloatArray,
    variance: FloatArray,
) -> tuple[IntArray, FloatArray]:
    """Draw volume in lots, (N, steps): it rises with volatility and with the size of the move."""
    n, k = len(recipe.beta), recipe.steps_per_hour
    hourly_noise = _stream(recipe, day, 13).standard_normal((n, HOURS))
    step_noise = _stream(recipe, day, 14).standard_normal(log_prices.shape)
    slow = np.empty((n, HOURS))
    level = before.turnover_noise
    for hour in range(HOURS):
        level = _TURNOVER_MEMORY * level + 0.15 * hourly_noise[:, hour]
        slow[:, hour] = level
    typical = recipe.volatility_hour**2 + (recipe.beta * _FACTOR_VOLATILITY_HOUR) ** 2
    busy = 0.5 * np.log(variance * k / typical[:, None])  # log of volatility over its mean
    size = np.minimum(4.0, np.abs(returns) / np.sqrt(variance)) - 0.8
    log_factor = 1.1 * busy + 0.35 * size + 0.4 * step_noise + np.repeat(slow, k, axis=1)
    turnover = recipe.turnover_hour[:, None] / k * np.exp(log_factor)
    lots = turnover / np.exp(log_prices) * recipe.quantity_scale[:, None]
    return np.maximum(1, np.rint(lots)).astype(np.int64), level


def _funding(
    recipe: Recipe, day: int, before: DayState, log_prices: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Settle and announce funding at the six slots of the day, each array (N, 6) or (N,).

    A rate is announced one interval before it is paid, from the coin's return of the day before
    and a premium that forgets; so nothing shown ever depends on what has not happened.
    """
    n, k = len(recipe.beta), recipe.steps_per_hour
    noise = _FUNDING_NOISE * _stream(recipe, day, 15).standard_normal((n, FUNDING_SLOTS))
    starts = np.concatenate([before.log_price[:, None], log_prices], axis=1)
    slots = starts[:, :: _SLOT_HOURS * k][:, :FUNDING_SLOTS]  # (N, 6) log price at each slot
    gains = np.exp(slots - before.slot_log_prices) - 1.0
    settled = np.full((n, FUNDING_SLOTS), np.nan)
    announced = np.empty((n, FUNDING_SLOTS))
    premium, rate = before.premium, before.announced
    for slot in range(FUNDING_SLOTS):
        due = slot % recipe.funding_every_slots == 0
        settled[:, slot] = np.where(due, rate, np.nan)
        fresh = _FUNDING_MEMORY * premium + _FUNDING_TREND * gains[:, slot] + noise[:, slot]
        premium = np.where(due, fresh, premium)
        new_rate = np.clip(_FUNDING_INTEREST + premium, -_FUNDING_MAX, _FUNDING_MAX)
        rate = np.where(due, np.round(new_rate, 8), rate)
        announced[:, slot] = rate
    return slots, settled, announced, premium
