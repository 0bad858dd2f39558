"""Real bars from Parquet files as a market: `<SYMBOL>-<timeframe>.parquet`, holes left as holes.

Columns: `ts` (open time, ms UTC), `open high low close volume` (float64, volume in base units).
Funding comes from `<SYMBOL>-funding.parquet` (`ts`, `rate`) where there is such a file. Trading
rules come from a JSON table, else from the known contracts, else from the decimals of the prices.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from adapters.rehearsal.market import (
    Coin,
    FloatArray,
    IntArray,
    Settlement,
    Steps,
    coin_named,
    on_grid,
)
from adapters.rehearsal.universe import NAMES, QUOTE, step_of, traits_of
from daemon.domain.failures import ConfigurationError, CorruptFile
from daemon.domain.units import HOUR_MS, Timeframe, iso, require

COLUMNS: Final = ("open", "high", "low", "close", "volume")
_DECIMALS_MAX: Final = 10
_RULE_KEYS: Final = ("price_step", "quantity_step", "notional_min_usdt")
_FUNDING_HOURS: Final = 8


@dataclass(frozen=True, slots=True)
class _Series:
    """Hold one coin's bars on the full grid: columns (5, T), NaN in holes."""

    first: int  # index of the first step on the grid
    columns: FloatArray
    funding_ms: IntArray
    funding_rate: FloatArray


class ParquetMarket:
    """Serve recorded bars of several coins on one grid."""

    def __init__(
        self, coins: Mapping[str, Coin], series: Mapping[str, _Series], step_ms: int, end_ms: int
    ) -> None:
        require(len(coins) > 0, "a market needs at least one coin")
        self._coins = dict(coins)
        self._series = dict(series)
        self._step_ms = step_ms
        self._first_ms = min(item.first for item in series.values()) * step_ms
        self._end_ms = end_ms

    @property
    def coins(self) -> Mapping[str, Coin]:
        """Give every coin by symbol."""
        return self._coins

    @property
    def step_ms(self) -> int:
        """Give the length of the recorded bars."""
        return self._step_ms

    @property
    def span_ms(self) -> tuple[int, int | None]:
        """Give the first opening and the last close of all files."""
        return self._first_ms, self._end_ms

    def steps(self, symbol: str, start_ms: int, end_ms: int) -> Steps:
        """Give the bars of [start, end) on the grid, NaN where the file has none."""
        coin_named(self, symbol)
        series = self._series[symbol]
        start, count = on_grid(start_ms, end_ms, self._step_ms)
        columns = np.full((len(COLUMNS), count), np.nan)
        first = max(start, series.first)
        last = min(start + count, series.first + series.columns.shape[1])
        if first < last:
            rows = slice(first - series.first, last - series.first)
            columns[:, first - start : last - start] = series.columns[:, rows]
        return Steps(start_ms, self._step_ms, *columns)

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        """Give the recorded funding payments of [start, end)."""
        coin_named(self, symbol)
        series = self._series[symbol]
        first, last = np.searchsorted(series.funding_ms, [start_ms, end_ms])
        return tuple(
            Settlement(symbol, int(series.funding_ms[row]), float(series.funding_rate[row]))
            for row in range(int(first), int(last))
        )

    def funding_estimate(self, symbol: str, at_ms: int) -> float:
        """Give the last settled rate: the next one is not known yet. 0 where none is recorded."""
        coin_named(self, symbol)
        series = self._series[symbol]
        row = int(np.searchsorted(series.funding_ms, at_ms, side="right")) - 1
        return float(series.funding_rate[row]) if row >= 0 else 0.0


def open_parquet_market(
    folder: Path,
    *,
    timeframe: str,
    symbols: Sequence[str] = (),
    funding_folder: Path | None = None,
    rules_file: Path | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> ParquetMarket:
    """Open the files of a folder; every complaint names the file or the setting.

    Raises ConfigurationError for a folder, symbol or rule that is not there and CorruptFile for a
    file that cannot be read as bars.
    """
    step_ms = Timeframe.parse(timeframe).ms
    rules = _rules_table(rules_file)
    coins: dict[str, Coin] = {}
    series: dict[str, _Series] = {}
    held: list[int] = []  # the first opening and the last close of each file
    for symbol, path in _files(folder, timeframe, symbols).items():
        times, columns = _read_bars(path, step_ms)
        held += [int(times[0]), int(times[-1]) + step_ms] if len(times) else []
        kept = np.ones(len(times), dtype=bool)
        if start_ms is not None:
            kept &= times >= start_ms
        if end_ms is not None:
            kept &= times + step_ms <= end_ms
        if not kept.any():
            continue
        times, columns = times[kept], columns[:, kept]
        funding_ms, rates = _read_funding(funding_folder, symbol)
        coins[symbol] = _coin(symbol, columns, times, funding_ms, rules.get(symbol, {}))
        series[symbol] = _on_full_grid(times, columns, step_ms, funding_ms, rates)
    if not coins:
        raise ConfigurationError(_nothing_between(folder, timeframe, held, start_ms, end_ms))
    last = max(item.first + item.columns.shape[1] for item in series.values()) * step_ms
    return ParquetMarket(coins, series, step_ms, last if end_ms is None else min(last, end_ms))


def _nothing_between(
    folder: Path, timeframe: str, held: Sequence[int], start_ms: int | None, end_ms: int | None
) -> str:
    """Say what was asked for and what there is."""
    since = f" from {iso(start_ms)}" if start_ms is not None else ""
    until = f" until {iso(end_ms)}" if end_ms is not None else ""
    have = f"hold {iso(min(held))} to {iso(max(held))}" if held else "are empty"
    return f"parquet_folder {folder}: no bars{since}{until}; its files *-{timeframe}.parquet {have}"


def _files(folder: Path, timeframe: str, symbols: Sequence[str]) -> dict[str, Path]:
    """Find the files, known contracts first, in the order in which the universe names them."""
    ending = f"-{timeframe}.parquet"
    found = {path.name.removesuffix(ending): path for path in sorted(folder.glob(f"*{ending}"))}
    if not found:
        raise ConfigurationError(f"parquet_folder {folder}: no file named SYMBOL{ending} in it")
    for symbol in symbols:
        if symbol not in found:
            raise ConfigurationError(
                f"symbols {symbol!r}: accepted is {', '.join(sorted(found))} (files in {folder})"
            )
    chosen = symbols or sorted(found, key=lambda s: (NAMES.index(s) if s in NAMES else 999, s))
    return {symbol: found[symbol] for symbol in chosen}


def _read_table(path: Path, columns: Sequence[str]) -> list[Any]:
    """Read columns as arrays; raise CorruptFile naming the file."""
    try:
        table = pq.read_table(path, columns=list(columns))
        return [table.column(name).to_numpy() for name in columns]
    except (pa.ArrowException, OSError, KeyError, ValueError) as failure:
        raise CorruptFile(f"{path}: not a readable Parquet file of {columns}: {failure}") from None


def _read_bars(path: Path, step_ms: int) -> tuple[IntArray, FloatArray]:
    """Read opening times (T,) and columns (5, T), and check that they are bars."""
    times, *columns = _read_table(path, ("ts", *COLUMNS))
    opens = np.asarray(times, dtype=np.int64)
    values = np.array(columns, dtype=np.float64)
    if not len(opens):
        raise CorruptFile(f"{path}: no rows")
    if (opens % step_ms).any() or (np.diff(opens) <= 0).any():
        raise CorruptFile(f"{path}: opening times must rise on a grid of {step_ms} ms")
    opened, high, low, closed, volume = values
    sane = np.isfinite(values).all(axis=0) & (low > 0) & (volume >= 0)
    sane &= (high >= np.maximum(opened, closed)) & (low <= np.minimum(opened, closed))
    if not sane.all():
        at = int(opens[~sane][0])
        raise CorruptFile(f"{path}: the bar opening at {at} is not low <= open, close <= high")
    return opens, values


def _read_funding(folder: Path | None, symbol: str) -> tuple[IntArray, FloatArray]:
    nothing = np.empty(0, dtype=np.int64), np.empty(0)
    if folder is None:
        return nothing
    path = folder / f"{symbol}-funding.parquet"
    if not path.exists():
        return nothing
    times, rates = _read_table(path, ("ts", "rate"))
    moments = np.asarray(times, dtype=np.int64)
    if (np.diff(moments) <= 0).any():
        raise CorruptFile(f"{path}: settlement times must rise")
    return moments, np.asarray(rates, dtype=np.float64)


def _on_full_grid(
    times: IntArray, columns: FloatArray, step_ms: int, funding_ms: IntArray, rates: FloatArray
) -> _Series:
    places = times // step_ms
    full = np.full((len(COLUMNS), int(places[-1] - places[0]) + 1), np.nan)
    full[:, places - places[0]] = columns
    return _Series(int(places[0]), full, funding_ms, rates)


def _coin(
    symbol: str,
    columns: FloatArray,
    times: IntArray,
    funding_ms: IntArray,
    rule: Mapping[str, str],
) -> Coin:
    known = traits_of(symbol, 0, None).coin if symbol in NAMES[:12] else None
    price_decimals = _decimals(columns[:4].ravel())
    quantity_decimals = _decimals(columns[4])
    price_step = step_of(price_decimals or 0) if known is None else known.price_step
    lot_decimals = min(3, quantity_decimals if quantity_decimals is not None else 3)
    quantity_step = step_of(lot_decimals) if known is None else known.quantity_step
    return Coin(
        symbol=symbol,
        base=symbol.removesuffix(QUOTE),
        price_step=rule.get("price_step", price_step),
        quantity_step=rule.get("quantity_step", quantity_step),
        notional_min_usdt=rule.get(
            "notional_min_usdt", "5" if known is None else known.notional_min_usdt
        ),
        price_decimals=price_decimals,
        quantity_decimals=quantity_decimals,
        listed_ms=int(times[0]),
        delisted_ms=None,
        funding_interval_ms=_funding_interval(funding_ms),
    )


def _decimals(values: FloatArray) -> int | None:
    """Find the fewest decimals that reproduce every value exactly; None if ten do not."""
    for decimals in range(_DECIMALS_MAX + 1):
        scale = 10.0**decimals
        if np.array_equal(np.rint(values * scale) / scale, values):
            return decimals
    return None


def _funding_interval(funding_ms: IntArray) -> int:
    """Take the most frequent distance between settlements, eight hours where unknown."""
    if len(funding_ms) < 2:
        return _FUNDING_HOURS * HOUR_MS
    distances, counts = np.unique(np.diff(funding_ms), return_counts=True)
    return max(HOUR_MS, int(distances[counts.argmax()]) // HOUR_MS * HOUR_MS)


def _rules_table(path: Path | None) -> dict[str, dict[str, str]]:
    """Read a JSON table of symbol -> price_step, quantity_step, notional_min_usdt."""
    if path is None:
        return {}
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as failure:
        raise ConfigurationError(f"rules_file {path}: {failure}") from None
    accepted = f"a table of symbol -> {{{', '.join(_RULE_KEYS)}}} with decimal texts"
    if not isinstance(raw, dict):
        raise ConfigurationError(f"rules_file {path}: accepted is {accepted}")
    for symbol, rule in raw.items():
        fits = isinstance(rule, dict) and set(rule) <= set(_RULE_KEYS)
        if not fits or not all(isinstance(value, str) for value in rule.values()):
            raise ConfigurationError(f"rules_file {path}: {symbol}: accepted is {accepted}")
    return raw
