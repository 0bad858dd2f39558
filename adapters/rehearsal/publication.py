"""What the public may see of a market at an instant: klines, trades, and what is withheld.

Every price that leaves the exchange passes through here, so that nothing of the future leaks and
REST, klines and trades always tell the same story. Inside a step the price walks along four prints
(see `prints_of_step`), so a running kline is the prints so far and a closed one is all of them.

Withheld bars: an absent bar is never shown, a late one from its close plus its delay on. Both are
taken out at the level of base steps, so coarser klines are built from what is left, as a venue
whose matching stood still would build them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from adapters.rehearsal.market import FloatArray, IntArray, Market, Steps, coin_named

PRINTS_PER_STEP = 4
_PRINT_SHARES = np.array([0.1, 0.3, 0.3, 0.3])
_WINDOWS_MAX = 64
REVISED_TICKS = 5


@dataclass(frozen=True, slots=True)
class Withheld:
    """Withhold the steps of [open, close) of one symbol until `release_ms` (None: for ever)."""

    symbol: str
    open_ms: int
    close_ms: int
    release_ms: int | None

    def hides_at(self, now_ms: int) -> bool:
        """Tell whether the bar is still invisible at `now_ms`."""
        return self.release_ms is None or now_ms < self.release_ms


@dataclass(frozen=True, slots=True)
class Klines:
    """Hold klines of one coin, oldest first, columns of shape (T,); the last may be running."""

    interval_ms: int
    open_ms: IntArray
    open: FloatArray
    high: FloatArray
    low: FloatArray
    close: FloatArray
    volume: FloatArray

    def __len__(self) -> int:
        return len(self.open_ms)


@dataclass(frozen=True, slots=True)
class Kline:
    """Hold one kline: prices in USDT, volume in base units."""

    interval_ms: int
    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class Print:
    """Hold one public trade: price in USDT, quantity in base units."""

    trade_id: int
    time_ms: int
    price: float
    quantity: float
    buyer_is_maker: bool


class Publication:
    """Show a market as it looks from outside at a given instant."""

    def __init__(self, market: Market, withheld: Iterable[Withheld] = ()) -> None:
        self.market = market
        self._withheld: dict[str, list[Withheld]] = {}
        self._revised: dict[str, dict[int, int]] = {}
        self._newest: dict[str, tuple[int, list[Print]]] = {}  # by symbol: a step, its prints
        for item in withheld:
            coin_named(market, item.symbol)
            self._withheld.setdefault(item.symbol, []).append(item)

    def revise(self, symbol: str, open_ms: int) -> None:
        """Change the step that opens at `open_ms` for good, as if its history was corrected.

        Each time its high rises by `REVISED_TICKS` price steps and its volume by as many lots. What
        is said of prints and last prices stays.
        """
        coin_named(self.market, symbol)
        steps = self._revised.setdefault(symbol, {})
        steps[open_ms] = steps.get(open_ms, 0) + 1

    def releases_between(self, after_ms: int, until_ms: int) -> list[Withheld]:
        """List the late bars whose release lies in (after, until], by release time."""
        found = [
            item
            for items in self._withheld.values()
            for item in items
            if item.release_ms is not None and after_ms < item.release_ms <= until_ms
        ]
        return sorted(found, key=lambda item: (item.release_ms, item.symbol))

    def next_release_after(self, now_ms: int) -> int | None:
        """Give the next instant at which a late bar becomes visible."""
        times = [
            item.release_ms
            for items in self._withheld.values()
            for item in items
            if item.release_ms is not None and item.release_ms > now_ms
        ]
        return min(times, default=None)

    def klines(
        self,
        symbol: str,
        interval_ms: int,
        now_ms: int,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = 500,
    ) -> Klines:
        """Give up to `limit` klines opening in [start, end], the running one included.

        Without `start_ms` the newest ones are given, else the oldest. Holes cost no place in the
        limit: the window grows until the limit is met or the range is exhausted.
        """
        first_ms, last_ms = self._open_range(interval_ms, now_ms, start_ms, end_ms)
        wanted = limit
        for _ in range(_WINDOWS_MAX):
            width_ms = wanted * interval_ms
            if start_ms is None:
                window = (max(first_ms, last_ms + interval_ms - width_ms), last_ms)
            else:
                window = (first_ms, min(last_ms, first_ms + width_ms - interval_ms))
            found = self._closed_and_running(symbol, interval_ms, window, now_ms)
            if len(found) >= limit or window == (first_ms, last_ms):
                break
            wanted *= 4
        return _last(found, limit) if start_ms is None else _first(found, limit)

    def kline(self, symbol: str, interval_ms: int, open_ms: int, now_ms: int) -> Kline | None:
        """Give the kline opening at `open_ms` as seen at `now_ms`, if there is one.

        The same figures as `klines`, by a shorter way: this one is called for every message.
        """
        steps = self._steps_seen(symbol, (open_ms, open_ms + interval_ms), now_ms)
        columns = (steps.open, steps.high, steps.low, steps.close, steps.volume)
        rows = [row for row in zip(*(c.tolist() for c in columns), strict=True) if row[3] == row[3]]
        if not rows:
            return None
        opens, highs, lows, closes, volumes = zip(*rows, strict=True)
        volume = math.fsum(volumes)
        decimals = coin_named(self.market, symbol).quantity_decimals
        if decimals is not None:
            volume = round(volume * 10.0**decimals) / 10.0**decimals
        return Kline(interval_ms, open_ms, opens[0], max(highs), min(lows), closes[-1], volume)

    def prints(self, symbol: str, after_ms: int, now_ms: int) -> list[Print]:
        """List the trades with after < time <= now, oldest first."""
        step_ms = self.market.step_ms
        start_ms = max(self.market.span_ms[0], (after_ms + 1) // step_ms * step_ms)
        if start_ms <= now_ms < start_ms + step_ms and symbol not in self._withheld:
            return [p for p in self._walked(symbol, start_ms) if after_ms < p.time_ms <= now_ms]
        steps = self._visible(symbol, start_ms, self._end(now_ms // step_ms * step_ms + step_ms), 0)
        steps = self._mask(symbol, steps, now_ms)
        decimals = coin_named(self.market, symbol).quantity_decimals
        return [
            item
            for row in range(len(steps))
            for item in prints_of_step(steps, row, decimals)
            if after_ms < item.time_ms <= now_ms
        ]

    def last_price(self, symbol: str, now_ms: int) -> float | None:
        """Give the last traded price at `now_ms`, marks included while a bar is withheld."""
        step_ms = self.market.step_ms
        running_ms = now_ms // step_ms * step_ms
        for back in range(_WINDOWS_MAX):
            start_ms = running_ms - back * step_ms
            if start_ms < self.market.span_ms[0]:
                return None
            walked = self._walked(symbol, start_ms)
            if walked:
                return [p for p in walked if p.time_ms <= now_ms][-1].price
        return None

    def _walked(self, symbol: str, start_ms: int) -> list[Print]:
        """Walk one step, withheld or not; the newest of each symbol is asked for many times."""
        kept = self._newest.get(symbol)
        if kept is not None and kept[0] == start_ms:
            return kept[1]
        steps = self._visible(symbol, start_ms, self._end(start_ms + self.market.step_ms), 0)
        decimals = coin_named(self.market, symbol).quantity_decimals
        walked = prints_of_step(steps, 0, decimals) if len(steps) else []
        self._newest[symbol] = (start_ms, walked)
        return walked

    def _open_range(
        self, interval_ms: int, now_ms: int, start_ms: int | None, end_ms: int | None
    ) -> tuple[int, int]:
        """Give the first and last opening instant that a request may cover."""
        first_ms = self.market.span_ms[0] // interval_ms * interval_ms
        if start_ms is not None:
            first_ms = max(first_ms, -(-start_ms // interval_ms) * interval_ms)
        last_ms = now_ms if end_ms is None else min(now_ms, end_ms)
        return first_ms, last_ms // interval_ms * interval_ms

    def _closed_and_running(
        self, symbol: str, interval_ms: int, window: tuple[int, int], now_ms: int
    ) -> Klines:
        first_ms, last_ms = window
        steps = self._steps_seen(symbol, (first_ms, last_ms + interval_ms), now_ms)
        return aggregate(steps, interval_ms, coin_named(self.market, symbol).quantity_decimals)

    def _steps_seen(self, symbol: str, window: tuple[int, int], now_ms: int) -> Steps:
        """Give the steps of [start, end) that can be seen at `now_ms`, the running one partly."""
        first_ms, last_ms = window
        step_ms = self.market.step_ms
        end_ms = min(last_ms, now_ms // step_ms * step_ms + step_ms)
        lead = max(0, -(-(self.market.span_ms[0] - first_ms) // step_ms))
        steps = self._visible(symbol, first_ms + lead * step_ms, self._end(end_ms), lead)
        steps = self._corrected(symbol, self._mask(symbol, steps, now_ms))
        if len(steps) and steps.start_ms + len(steps) * step_ms > now_ms:
            steps = _only_printed(steps, now_ms)
        return steps

    def _end(self, end_ms: int) -> int:
        last = self.market.span_ms[1]
        return end_ms if last is None else min(end_ms, last)

    def _visible(self, symbol: str, start_ms: int, end_ms: int, lead: int) -> Steps:
        """Read steps from the market and put `lead` empty ones before its beginning."""
        steps = self.market.steps(symbol, start_ms, max(start_ms, end_ms))
        if not lead:
            return steps
        empty = np.full(lead, np.nan)
        columns = (steps.open, steps.high, steps.low, steps.close, steps.volume)
        return Steps(
            start_ms - lead * steps.step_ms,
            steps.step_ms,
            *(np.concatenate([empty, column]) for column in columns),
        )

    def _corrected(self, symbol: str, steps: Steps) -> Steps:
        """Apply what was revised."""
        end_ms = steps.start_ms + len(steps) * steps.step_ms
        times = {
            (at_ms - steps.start_ms) // steps.step_ms: count
            for at_ms, count in self._revised.get(symbol, {}).items()
            if steps.start_ms <= at_ms < end_ms
        }
        if not times:
            return steps
        coin = coin_named(self.market, symbol)
        high, volume = steps.high.copy(), steps.volume.copy()
        for row, count in times.items():
            more = count * REVISED_TICKS
            high[row] = _on_decimals(high[row] + more * float(coin.price_step), coin.price_decimals)
            lots = volume[row] + more * float(coin.quantity_step)
            volume[row] = _on_decimals(lots, coin.quantity_decimals)
        return replace(steps, high=high, volume=volume)

    def _mask(self, symbol: str, steps: Steps, now_ms: int) -> Steps:
        """Blank the steps that are withheld at `now_ms`."""
        end_ms = steps.start_ms + len(steps) * steps.step_ms
        hidden = [
            item
            for item in self._withheld.get(symbol, ())
            if item.hides_at(now_ms) and item.open_ms < end_ms and item.close_ms > steps.start_ms
        ]
        if not hidden:
            return steps
        shown = np.ones(len(steps), dtype=bool)
        for item in hidden:
            first = max(0, (item.open_ms - steps.start_ms) // steps.step_ms)
            shown[first : (item.close_ms - steps.start_ms) // steps.step_ms] = False
        columns = (steps.open, steps.high, steps.low, steps.close, steps.volume)
        masked = (np.where(shown, column, np.nan) for column in columns)
        return Steps(steps.start_ms, steps.step_ms, *masked)


def _on_decimals(value: float, decimals: int | None) -> float:
    """Round to what is published, so that the figure equals its decimal to the bit."""
    return value if decimals is None else float(f"{value:.{decimals}f}")


def prints_of_step(steps: Steps, row: int, quantity_decimals: int | None) -> list[Print]:
    """Walk one step along open, the extremes and close; empty for a step that does not exist.

    A falling step visits its high first, a rising one its low. The first print happens at the
    opening instant, the last 1 ms before the close; the shares of the volume are 10/30/30/30 %.
    """
    opened, closed = float(steps.open[row]), float(steps.close[row])
    if np.isnan(closed):
        return []
    high, low = float(steps.high[row]), float(steps.low[row])
    middle = (low, high) if closed >= opened else (high, low)
    prices = (opened, *middle, closed)
    open_ms = steps.start_ms + row * steps.step_ms
    third_ms = steps.step_ms // (PRINTS_PER_STEP - 1)
    times = (open_ms, open_ms + third_ms, open_ms + 2 * third_ms, open_ms + steps.step_ms - 1)
    quantities = _print_quantities(float(steps.volume[row]), quantity_decimals)
    first_id = open_ms // steps.step_ms * PRINTS_PER_STEP
    return [
        Print(first_id + i, times[i], prices[i], quantities[i], i > 0 and prices[i] < prices[i - 1])
        for i in range(PRINTS_PER_STEP)
    ]


def _print_quantities(volume: float, decimals: int | None) -> list[float]:
    """Split a volume into the prints' quantities, whole lots where decimals are known."""
    if decimals is None:
        return [float(volume * share) for share in _PRINT_SHARES]
    shares = [round(float(volume * share), decimals) for share in _PRINT_SHARES[:-1]]
    return [*shares, max(0.0, round(volume - sum(shares), decimals))]


def _only_printed(steps: Steps, now_ms: int) -> Steps:
    """Replace the last, running step by the prints it has had so far."""
    seen = [p for p in prints_of_step(steps, len(steps) - 1, None) if p.time_ms <= now_ms]
    columns = [np.array(c) for c in (steps.open, steps.high, steps.low, steps.close, steps.volume)]
    prices = [p.price for p in seen]
    if prices:
        values = [prices[0], max(prices), min(prices), prices[-1], sum(p.quantity for p in seen)]
        for column, value in zip(columns, values, strict=True):
            column[-1] = value
    return Steps(steps.start_ms, steps.step_ms, *columns)


def aggregate(steps: Steps, interval_ms: int, volume_decimals: int | None) -> Klines:
    """Build klines of `interval_ms` from steps that start on its grid; empty groups are left out.

    An incomplete last group gives the running kline. With known decimals the volume is rounded
    back to whole lots, so that it equals the published decimal to the bit.
    """
    k = interval_ms // steps.step_ms
    rows = -(-len(steps) // k)
    open_ms = steps.start_ms + interval_ms * np.arange(rows, dtype=np.int64)
    if k == 1:
        columns = [steps.open, steps.high, steps.low, steps.close, steps.volume]
    else:
        columns = _grouped(steps, rows, k)
    exists = ~np.isnan(columns[3])
    opened, high, low, closed, volume = (column[exists] for column in columns)
    if volume_decimals is not None:
        volume = np.rint(volume * 10.0**volume_decimals) / 10.0**volume_decimals
    return Klines(interval_ms, open_ms[exists], opened, high, low, closed, volume)


def _grouped(steps: Steps, rows: int, k: int) -> list[FloatArray]:
    padded = []
    for column in (steps.open, steps.high, steps.low, steps.close, steps.volume):
        full = np.full(rows * k, np.nan)
        full[: len(column)] = column
        padded.append(full.reshape(rows, k))  # (T,) -> (rows, k)
    opened, high, low, closed, volume = padded
    exists = ~np.isnan(closed)  # (rows, k)
    any_step = exists.any(axis=1)
    first, last = exists.argmax(axis=1), k - 1 - exists[:, ::-1].argmax(axis=1)
    at = np.arange(rows)
    nothing = np.where(any_step, 0.0, np.nan)
    return [
        opened[at, first],
        np.fmax.reduce(high, axis=1),
        np.fmin.reduce(low, axis=1),
        closed[at, last],
        np.nansum(volume, axis=1) + nothing,
    ]


def _first(klines: Klines, limit: int) -> Klines:
    return _cut(klines, slice(0, limit))


def _last(klines: Klines, limit: int) -> Klines:
    return _cut(klines, slice(max(0, len(klines) - limit), None))


def _cut(klines: Klines, rows: slice) -> Klines:
    return Klines(
        klines.interval_ms,
        klines.open_ms[rows],
        klines.open[rows],
        klines.high[rows],
        klines.low[rows],
        klines.close[rows],
        klines.volume[rows],
    )
