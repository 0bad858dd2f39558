"""The generated market: seeded, endless, the same whatever is asked first.

Days are generated in order from the origin; a checkpoint of the state is kept each week and the
days themselves in a bounded cache, so a day that fell out is made again, identical, from the last
checkpoint. Extending the horizon therefore never changes the past.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from adapters.rehearsal.market import Coin, FloatArray, Settlement, Steps, coin_named, on_grid
from adapters.rehearsal.planted import HORIZON_HOURS, PatternKind, PlantedTruth
from adapters.rehearsal.planted_sequence import PAUSE_SLOTS, SLOT_MS
from adapters.rehearsal.seeded_day import (
    FUNDING_SLOTS,
    Day,
    DayState,
    first_state,
    generate_day,
    recipe_of,
)
from adapters.rehearsal.universe import CoinTraits
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, require

STEP_MINUTES_ACCEPTED: Final = (1, 3, 5, 15, 30)
_CHECKPOINT_DAYS: Final = 7
_CACHE_BYTES_MAX: Final = 512 * 2**20
_SLOT_MS: Final = DAY_MS // FUNDING_SLOTS


class SeededMarket:
    """Generate a market of many coins as a pure function of (seed, settings, time)."""

    def __init__(
        self,
        traits: Sequence[CoinTraits],
        *,
        seed: int,
        origin_ms: int,
        step_minutes: int = 5,
        planted_ic: float = 0.05,
        pattern: PatternKind = PatternKind.CONTEXT,
    ) -> None:
        if step_minutes not in STEP_MINUTES_ACCEPTED:
            raise ConfigurationError(
                f"step_minutes {step_minutes}: choose one of {STEP_MINUTES_ACCEPTED}"
            )
        require(origin_ms % DAY_MS == 0, f"origin {origin_ms} must be 00:00 UTC of a day")
        self._step_ms = step_minutes * MINUTE_MS
        self._origin_ms = origin_ms
        self._coins = {t.coin.symbol: t.coin for t in traits}
        require(len(self._coins) == len(traits), "a symbol is named twice")
        self._place = {symbol: i for i, symbol in enumerate(self._coins)}
        self._recipe = recipe_of(
            traits, seed=seed, planted_ic=planted_ic, step_ms=self._step_ms, pattern=pattern
        )
        sequence = pattern is PatternKind.SEQUENCE
        self._truth_ms = SLOT_MS if sequence else HOUR_MS  # of a column of a day's alpha
        self._lag_ms = PAUSE_SLOTS * SLOT_MS if sequence else 0  # from a close to its label
        self._before: dict[int, DayState] = {0: first_state(self._recipe)}
        self._days: OrderedDict[int, Day] = OrderedDict()
        day_bytes = len(traits) * (DAY_MS // self._step_ms) * 5 * 8
        self._days_max = max(2, _CACHE_BYTES_MAX // day_bytes)

    @property
    def coins(self) -> Mapping[str, Coin]:
        """Give every coin by symbol."""
        return self._coins

    @property
    def step_ms(self) -> int:
        """Give the length of a base step."""
        return self._step_ms

    @property
    def span_ms(self) -> tuple[int, int | None]:
        """Give the origin; there is no end."""
        return self._origin_ms, None

    def steps(self, symbol: str, start_ms: int, end_ms: int) -> Steps:
        """Give the steps of [start, end); NaN where the coin is not listed."""
        coin = coin_named(self, symbol)
        _, count = on_grid(start_ms, end_ms, self._step_ms)
        require(start_ms >= self._origin_ms, f"{start_ms} lies before the market's origin")
        if not count:
            empty = np.empty(0)
            return Steps(start_ms, self._step_ms, empty, empty, empty, empty, empty)
        columns = self._columns(self._place[symbol], start_ms, end_ms)
        if not (coin.lives_at(start_ms) and coin.lives_at(end_ms - 1)):
            opens = start_ms + self._step_ms * np.arange(count)
            ends = coin.delisted_ms if coin.delisted_ms is not None else end_ms
            columns = np.where((opens < coin.listed_ms) | (opens >= ends), np.nan, columns)
        return Steps(start_ms, self._step_ms, *columns)

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        """Give the funding payments of [start, end) while the coin is listed."""
        coin, place = coin_named(self, symbol), self._place[symbol]
        first = max(start_ms, self._origin_ms)
        slots = range(-(-first // _SLOT_MS), -(-end_ms // _SLOT_MS))
        found = []
        for slot in slots:
            at_ms = slot * _SLOT_MS
            if not coin.lives_at(at_ms):
                continue
            day = self._day((at_ms - self._origin_ms) // DAY_MS)
            rate = float(day.settled[place, slot % FUNDING_SLOTS])
            if not np.isnan(rate):
                found.append(Settlement(symbol, at_ms, rate))
        return tuple(found)

    def funding_estimate(self, symbol: str, at_ms: int) -> float:
        """Give the rate of the next settlement, announced since the last one."""
        slot = (at_ms - self._origin_ms) // _SLOT_MS
        day = self._day(slot // FUNDING_SLOTS)
        return float(day.announced[self._place[symbol], slot % FUNDING_SLOTS])

    def planted_truth(self, start_ms: int, end_ms: int, *, every_ms: int = HOUR_MS) -> PlantedTruth:
        """Give alpha and label of each close in (start, end]; see PlantedTruth.

        every_ms: length of the bars that close, counted from `start_ms`; whole hours, or whole half
        hours where a sequence is planted.
        """
        require(every_ms % self._truth_ms == 0, f"closes {every_ms} ms apart have no truth")
        require((end_ms - start_ms) % every_ms == 0, "the end lies inside a bar")
        first, count = on_grid(start_ms - self._origin_ms, end_ms - self._origin_ms, self._truth_ms)
        known, residual, sigma = self._truths(first, count + self._reach)
        label = self._forward(residual)[:count] / np.sqrt(self._forward(sigma**2)[:count])
        step = every_ms // self._truth_ms
        chosen = slice(step - 1, count, step)
        alpha, label = known[chosen], label[chosen]
        ends = np.arange(first + 1, first + count + 1)[chosen]
        close_ms = self._origin_ms + self._truth_ms * ends
        over_ms = close_ms + self._lag_ms + HORIZON_HOURS * HOUR_MS
        for place, coin in enumerate(self._coins.values()):
            last_ms = coin.delisted_ms if coin.delisted_ms is not None else over_ms[-1]
            lives = (close_ms > coin.listed_ms) & (over_ms <= last_ms)
            alpha[~lives, place] = np.nan
            label[~lives, place] = np.nan
        return PlantedTruth(close_ms, tuple(self._coins), alpha, label, self._lag_ms)

    def planted_deviation(self, start_ms: int, end_ms: int) -> FloatArray:
        """Give the deviation (T, N) of the own log return over the label's six hours, each hour.

        Alpha and label of `planted_truth` of the same hours are in this unit.
        """
        first, count = on_grid(start_ms - self._origin_ms, end_ms - self._origin_ms, HOUR_MS)
        step = HOUR_MS // self._truth_ms
        _, _, sigma = self._truths(first * step, count * step + self._reach)
        deviation: FloatArray = np.sqrt(self._forward(sigma**2))[step - 1 : count * step : step]
        return deviation

    def prepare(self, until_ms: int) -> None:
        """Generate everything up to `until_ms` now, so that the first request does not wait."""
        self._day(max(0, (until_ms - 1 - self._origin_ms) // DAY_MS))

    @property
    def _reach(self) -> int:
        """Give how many columns of days a label reaches beyond its close."""
        return (self._lag_ms + HORIZON_HOURS * HOUR_MS) // self._truth_ms

    def _truths(self, first: int, count: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Collect alpha, residual and sigma as (T, N) each, from column `first` on."""
        per_day = DAY_MS // self._truth_ms
        numbers = range(first // per_day, (first + count - 1) // per_day + 1)
        days = [self._day(number) for number in numbers]
        rows = slice(first - numbers[0] * per_day, first - numbers[0] * per_day + count)

        def joined(pieces: list[FloatArray]) -> FloatArray:
            return np.array(np.concatenate(pieces, axis=1)[:, rows].T)

        return (
            joined([day.alpha for day in days]),
            joined([day.residual for day in days]),
            joined([day.sigma for day in days]),
        )

    def _forward(self, values: FloatArray) -> FloatArray:
        """Sum the label's six hours after each row, (T, N) -> (T - reach, N)."""
        lag, reach = self._lag_ms // self._truth_ms, self._reach
        sums = np.cumsum(np.pad(values, ((1, 0), (0, 0))), axis=0)  # (T + 1, N)
        forward: FloatArray = sums[reach + 1 :] - sums[lag + 1 : len(sums) - reach + lag]
        return forward

    def _columns(self, place: int, start_ms: int, end_ms: int) -> FloatArray:
        """Cut (5, T) columns of one coin out of the days they lie in; not to be written to."""
        per_day = DAY_MS // self._step_ms
        first = (start_ms - self._origin_ms) // self._step_ms
        last = (end_ms - self._origin_ms) // self._step_ms
        pieces = []
        for number in range(first // per_day, (last - 1) // per_day + 1):
            rows = slice(max(0, first - number * per_day), min(per_day, last - number * per_day))
            pieces.append(self._day(number).columns[:, place, rows])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def _day(self, number: int) -> Day:
        """Give one day, generating what is missing since the checkpoint before it."""
        day = self._days.get(number)
        if day is not None:
            self._days.move_to_end(number)
            return day
        known = number
        while known not in self._before and known - 1 not in self._days:
            known -= 1
        state = self._before[known] if known in self._before else self._days[known - 1].after
        for at in range(known, number + 1):
            day = generate_day(self._recipe, at, state)
            state = day.after
            if (at + 1) % _CHECKPOINT_DAYS == 0:
                self._before[at + 1] = state
            self._remember(at, day)
        return self._days[number]

    def _remember(self, number: int, day: Day) -> None:
        self._days[number] = day
        self._days.move_to_end(number)
        while len(self._days) > self._days_max:
            self._days.popitem(last=False)
