"""The files of a backtest as they would be in another world, so that loaders are checked as well.

The rows are read and cut here, below every loader: what a loader mixes into its bars is not part of
what the other worlds are made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from adapters.history.covariates import FOLDER, found_series, read_series, write_series
from adapters.history.parquet_file import (
    BAR_COLUMNS,
    RATE,
    TIME,
    Bars,
    Instants,
    Rates,
    write_bars,
    write_rates,
)
from adapters.history.store import bars_path, data_root, disk_symbol, funding_path, stored_symbols
from daemon.domain.bar import FIELDS, Field, Floats
from daemon.domain.covariates import Series
from daemon.domain.failures import DataError
from daemon.domain.units import Timeframe
from daemon.research.worlds import Data
from daemon.settings import Settings
from daemon.wiring.bar_files import named_symbols
from daemon.wiring.covariates import series_root
from daemon.wiring.estimator import covariates_in_use
from strategies.forecast.inputs.covariates import FUNDING, needed

Columns = dict[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True, slots=True)
class StoredWorld:
    """Hold all rows of a backtest's files; funded: the symbols that have a file of rates."""

    data: Data
    funded: frozenset[str]


def stored_world(settings: Settings) -> StoredWorld:
    """Read every row of the files that a backtest with these settings may read.

    These are the files of the symbols named, else all of the venue. Raises DataError where there is
    no bar at all.
    """
    chosen, source = settings.backtest, Timeframe.parse(settings.backtest.source)
    root = data_root(Path(chosen.data_folder))
    named = [disk_symbol(symbol) for symbol in named_symbols(settings)]
    symbols = tuple(named or stored_symbols(root, chosen.venue, source))
    bars = [_bars(bars_path(root, chosen.venue, symbol, source)) for symbol in symbols]
    if not any(len(open_ms) for open_ms, _ in bars):
        raise DataError(f"the files of {chosen.venue!r} in {chosen.data_folder} hold no bar")
    first = min(int(open_ms[0]) for open_ms, _ in bars if len(open_ms))
    last = max(int(open_ms[-1]) for open_ms, _ in bars if len(open_ms))
    open_ms = np.arange(first, last + 1, source.ms, dtype=np.int64)
    values = np.full((len(open_ms), len(symbols), FIELDS), np.nan)
    for n, (times, rows) in enumerate(bars):
        values[(times - first) // source.ms, n] = rows
    opens = np.full(values.shape[:2], np.nan)
    opens[:-1] = values[1:, :, Field.OPEN]
    paths = [funding_path(root, _funding_venue(settings), symbol) for symbol in symbols]
    settle_ms, rates = _rates(paths)
    for array in (open_ms, values, opens, settle_ms, rates):
        array.flags.writeable = False
    funded = frozenset(s for s, path in zip(symbols, paths, strict=True) if path.is_file())
    data = Data(symbols, open_ms + source.ms, values, opens, settle_ms, rates)
    return StoredWorld(replace(data, series=_series(settings, root, symbols)), funded)


def write_world(world: StoredWorld, folder: Path, settings: Settings) -> None:
    """Write a world as the files of a data folder.

    Who has no bar in it has a file without one, as names are no part of what is changed.
    """
    data, source = world.data, Timeframe.parse(settings.backtest.source)
    for n, symbol in enumerate(data.symbols):
        is_there = np.isfinite(data.values[:, n, Field.CLOSE])
        bars = Bars(data.close_ms[is_there] - source.ms, data.values[is_there, n])
        path = bars_path(folder, settings.backtest.venue, symbol, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bars(path, bars, source, {"venue": settings.backtest.venue, "symbol": symbol})
        if symbol not in world.funded:
            continue
        known = np.isfinite(data.rates[:, n])
        rates = Rates(data.settle_ms[known], data.rates[known, n])
        path = funding_path(folder, _funding_venue(settings), symbol)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rates(path, rates, {"venue": _funding_venue(settings), "symbol": symbol})
    for name, series in data.series:
        write_series(folder / FOLDER / name, series, {})


def in_folder(settings: Settings, folder: Path) -> Settings:
    """Give settings that read another folder, in which rates may be missing, and nothing else."""
    changed = {"data_folder": str(folder), "funding_missing": "zero"}
    backtest = settings.backtest.model_copy(update=changed)
    estimator = settings.estimator.model_copy(update={"series_folder": ""})
    return settings.model_copy(update={"backtest": backtest, "estimator": estimator})


def _funding_venue(settings: Settings) -> str:
    return settings.backtest.funding_venue or settings.backtest.venue


def _series(
    settings: Settings, root: Path, symbols: tuple[str, ...]
) -> tuple[tuple[str, Series], ...]:
    """Read the files of all covariates in use, named by their places in the store."""
    wanted = [name for name in needed(covariates_in_use(settings)) if name != FUNDING]
    folder = series_root(settings, root)
    paths = {
        path
        for name in dict.fromkeys(wanted)
        for path in found_series(folder, name, symbols, settings.backtest.venue)
        if path is not None
    }
    return tuple(
        (path.relative_to(folder / FOLDER).as_posix(), read_series(path)) for path in sorted(paths)
    )


def _bars(path: Path) -> tuple[Instants, Floats]:
    columns = _columns(path, BAR_COLUMNS)
    return columns[TIME], np.column_stack([columns[name] for name in BAR_COLUMNS])


def _rates(paths: list[Path]) -> tuple[Instants, Floats]:
    series = {n: _columns(p, (RATE,)) for n, p in enumerate(paths) if p.is_file()}
    times = [columns[TIME] for columns in series.values()]
    settle_ms = np.unique(np.concatenate([np.empty(0, np.int64), *times]))
    rates = np.full((len(settle_ms), len(paths)), np.nan)
    for n, columns in series.items():
        rates[np.searchsorted(settle_ms, columns[TIME]), n] = columns[RATE]
    return settle_ms, rates


def _columns(path: Path, names: tuple[str, ...]) -> Columns:
    """Read columns as they lie in the file; the ordinary loader has found them sound before."""
    with pq.ParquetFile(path, memory_map=False) as file:
        table = file.read(columns=[TIME, *names], use_threads=False)
    return {
        name: np.concatenate(
            [np.empty(0, np.int64 if name == TIME else np.float64)]
            + [np.from_dlpack(chunk) for chunk in table.column(name).chunks]
        )
        for name in (TIME, *names)
    }
