"""Read what other tools keep beside bars: settled funding rates, and candles of mark and index.

What a file holds follows from its name (`BTC_USDT_USDT-8h-funding_rate.feather`, `..-1h-mark`,
`BTCUSDT-fundingRate-2024-01.csv`) or is said. Funding stands in a column of rates, or, in candles
of funding, in their open. A length in the name of a funding file is not believed: a rate belongs to
the instant of its own row, so that contracts that settle every 1, 4 or 8 hours stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.foreign import (
    ForeignLayout,
    Kind,
    Label,
    in_order,
    length_of,
    symbol_in,
    time_column,
)
from adapters.history.foreign_cells import (
    SKIP_HINT,
    TIME_NAMES,
    BadRows,
    Column,
    column_of,
    read_cells,
    read_instants,
    read_numbers,
    stem_of,
)
from adapters.history.parquet_file import Instants, Rates, rates_problem
from daemon.domain.bar import Floats
from daemon.domain.covariates import Series, series_of
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import MINUTE_MS, Timeframe

RATE_NAMES: Final = (
    "rate", "funding_rate", "fundingrate", "funding", "last_funding_rate", "realized_rate", "open",
)  # fmt: skip
SETTLE_NAMES: Final = (
    "ts", "settle", "settled", "settle_ms", "funding_time", "fundingtime", "calc_time",
    *TIME_NAMES[1:],
)  # fmt: skip
CLOSE_NAMES: Final = ("close", "c", "price", "value", "mark_price", "index_price")
_BESIDE = re.compile(
    r"^(?P<symbol>.+?)[-_](?:(?P<label>\d+[mhdwM])[-_])?"
    r"(?P<kind>funding|mark|index|premium|trades)",
    re.IGNORECASE,
)
_CANDLES = re.compile(r"^(?P<symbol>.+?)[-_](?P<label>\d+[mh]|1d)(?:[-_]|$)")
_FOLDERS: Final = {  # archives of venues keep candles of one name in folders of their kind
    "markpriceklines": "mark", "indexpriceklines": "index", "premiumindexklines": "premium",
    "fundingrate": "funding",
}  # fmt: skip
_UNKEPT: Final = {"premium": "a premium index", "trades": "trades"}


@dataclass(frozen=True, slots=True)
class ForeignRates:
    """Hold the funding of one file; twice_n rows were there more than once, with the same rate.

    bad: the rows that were left out, each with what is wrong with it.
    """

    symbol: str
    rates: Rates
    twice_n: int
    bad: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForeignCloses:
    """Hold the closes of candles of mark or index as a series, each known from its close.

    length_ms: of a candle. bad: the rows that were left out, each with what is wrong with it.
    """

    symbol: str
    series: Series
    twice_n: int
    length_ms: int
    bad: tuple[str, ...] = ()


def kind_of(path: Path) -> Kind:
    """Tell by its name what a file holds; raises ConfigurationError for what we do not keep."""
    found = _BESIDE.match(stem_of(path))
    folders = [_FOLDERS[one.lower()] for one in path.parts[:-1] if one.lower() in _FOLDERS]
    name = found["kind"].lower() if found else folders[-1] if folders else "bars"
    if name in _UNKEPT:
        raise ConfigurationError(
            f"{path}: holds {_UNKEPT[name]}; accepted are {', '.join(Kind)}; leave it out, or say "
            "what it holds with --kind"
        )
    return Kind(name)


def symbol_beside(path: Path) -> str:
    """Read the symbol of a file of funding, mark or index out of its name, as it is written."""
    found = _BESIDE.match(stem_of(path))
    return found["symbol"] if found else ""


def read_foreign_rates(path: Path, layout: ForeignLayout) -> ForeignRates:
    """Read settled rates, oldest first; raise DataError naming file, row, column and value.

    Instants are kept as they are, on the full minute: venues stamp some milliseconds beside it.
    """
    symbol, _ = _named(path, layout)
    bad = BadRows(path, skip=layout.skip_bad, hint=SKIP_HINT)
    table = read_cells(path, bad)
    time = _column(path, table, layout, "time", SETTLE_NAMES)
    rate = _column(path, table, layout, "rate", RATE_NAMES)
    stamps = read_instants(path, table[time], time, layout.unit, bad)
    settle_ms = np.rint(stamps / MINUTE_MS).astype(np.int64) * MINUTE_MS
    values = read_numbers(path, table[rate], rate, bad)

    def problem_of(at_ms: Instants, rows: Floats) -> str | None:
        problem = rates_problem(Rates(at_ms, rows))
        return problem and f"{problem} (column {rate!r})"

    times, kept, twice_n = in_order(settle_ms, values, bad, problem_of)
    return ForeignRates(symbol, Rates(times, kept), twice_n, bad.told)


def read_foreign_closes(path: Path, layout: ForeignLayout) -> ForeignCloses:
    """Read the closes of candles as a series: about their open, known from their close."""
    symbol, named = _named(path, layout)
    bad = BadRows(path, skip=layout.skip_bad, hint=SKIP_HINT)
    table = read_cells(path, bad)
    time, label = time_column(path, table, layout, TIME_NAMES)
    close = _column(path, table, layout, "close", CLOSE_NAMES)
    is_end = label is Label.CLOSE
    stamps = read_instants(path, table[time], time, layout.unit, bad, is_end=is_end)
    values = read_numbers(path, table[close], close, bad)
    for row in np.flatnonzero(~(np.isfinite(values) & (values > 0))).tolist():
        bad.add(row, f", column {close!r}: {values[row]}; accepted: a price")
    length = named or length_of(path, stamps[bad.kept(len(stamps))])
    open_ms = stamps - length.ms if is_end else stamps
    times, kept, twice_n = in_order(open_ms, values, bad, lambda _at_ms, _rows: None)
    series = series_of(times, times + length.ms, kept)
    return ForeignCloses(symbol, series, twice_n, length.ms, bad.told)


def _named(path: Path, layout: ForeignLayout) -> tuple[str, Timeframe | None]:
    stem = stem_of(path)
    found = _BESIDE.match(stem)
    bars = _CANDLES.match(stem)
    written = found["symbol"] if found else bars["symbol"] if bars else stem
    symbol = layout.symbol or symbol_in(written)
    if not symbol:
        raise ConfigurationError(
            f"{path}: its name does not say which symbol it holds; name it with --symbol, as "
            "BTC/USDT:USDT or BTCUSDT"
        )
    label = (found or bars or {"label": ""})["label"] or ""
    known = Timeframe.parse("24h" if label == "1d" else label) if label else None
    return symbol, layout.timeframe or known


def _column(
    path: Path,
    table: Mapping[str, Column],
    layout: ForeignLayout,
    ours: str,
    names: tuple[str, ...],
) -> str:
    wanted = layout.columns.get(ours)
    found = wanted if wanted in table else None
    if wanted is None:
        found = column_of(table, names)
    if found is None:
        what = f"column {wanted!r} for {ours} is not there" if wanted else f"no column for {ours}"
        raise ConfigurationError(
            f"{path}: {what}; there are: {', '.join(table)}; name it with --column {ours}=NAME"
        )
    return found
