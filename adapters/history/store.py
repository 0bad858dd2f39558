"""Find, list and load the bars and funding rates of many instruments below one folder.

Layout: `<root>/ohlcv/<venue>/<SYMBOL>-<timeframe>.parquet` and
`<root>/funding/<venue>/<SYMBOL>-funding.parquet`, where SYMBOL is `BTCUSDT` for `BTC/USDT:USDT`.
`ts` is the open of a bar and the settlement of a rate, in ms of UTC. What a panel holds is known
at `close_ms`; holes stay holes (NaN), nothing is filled in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from adapters.history.parquet_file import (
    NO_RATES,
    Bars,
    Instants,
    Rates,
    is_generated,
    read_bars,
    read_rates,
    read_times,
)
from daemon.domain.bar import FIELDS, Field, Flags, Floats
from daemon.domain.failures import ConfigurationError, CorruptFile, DataError
from daemon.domain.units import HOUR_MS, Timeframe, iso, require

BARS_FOLDER: Final = "ohlcv"
FUNDING_FOLDER: Final = "funding"
QUOTES: Final = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "BTC", "ETH")
FUNDING_USUAL_MS: Final = 8 * HOUR_MS
_SUFFIX: Final = ".parquet"


# ---- names ---------------------------------------------------------------------------------------


def disk_symbol(symbol: str) -> str:
    """Give the name in files: `BTC/USDT:USDT`, `BTC/USDT` and `BTCUSDT` all become `BTCUSDT`."""
    name = symbol.partition(":")[0].replace("/", "")
    if not name.isascii() or not name.replace("_", "").replace("-", "").isalnum():
        raise ConfigurationError(
            f"symbol {symbol!r}: write BTC/USDT:USDT or BTCUSDT; it becomes part of a file name"
        )
    return name


def unified_symbol(name: str) -> str:
    """Give the unified name of a linear perpetual: `BTCUSDT` becomes `BTC/USDT:USDT`."""
    if "/" in name:
        return name
    for quote in QUOTES:
        if name.endswith(quote) and len(name) > len(quote):
            return f"{name.removesuffix(quote)}/{quote}:{quote}"
    raise ConfigurationError(f"symbol {name!r}: must end in one of {', '.join(QUOTES)}")


def data_root(folder: Path) -> Path:
    """Accept the root itself or its `ohlcv` folder, whichever a user named."""
    return folder.parent if folder.name == BARS_FOLDER else folder


def bars_path(root: Path, venue: str, symbol: str, timeframe: Timeframe) -> Path:
    """Name the file that holds the bars of one instrument."""
    return root / BARS_FOLDER / venue / f"{disk_symbol(symbol)}-{timeframe.label}{_SUFFIX}"


def funding_path(root: Path, venue: str, symbol: str) -> Path:
    """Name the file that holds the funding rates of one instrument."""
    return root / FUNDING_FOLDER / venue / f"{disk_symbol(symbol)}-funding{_SUFFIX}"


# ---- what is there -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gap:
    """Name a hole: the opens of the last bar before it and of the first after it, bars between."""

    last_before_ms: int
    resumes_ms: int
    bars_missing: int

    def __str__(self) -> str:
        return (
            f"{self.bars_missing} bars missing after {iso(self.last_before_ms)},"
            f" until {iso(self.resumes_ms)}"
        )


@dataclass(frozen=True, slots=True)
class Listing:
    """Describe one stored file of bars; `problem` says why it cannot be used, else None."""

    venue: str
    symbol: str
    timeframe: Timeframe
    rows: int
    first_open_ms: int | None
    last_open_ms: int | None
    gaps: tuple[Gap, ...]
    problem: str | None = None


def gaps_of(open_ms: Instants, timeframe: Timeframe) -> tuple[Gap, ...]:
    """Find every hole between the first and the last bar, in time order."""
    steps = np.diff(open_ms)
    return tuple(
        Gap(int(open_ms[at]), int(open_ms[at + 1]), int(steps[at] // timeframe.ms) - 1)
        for at in np.flatnonzero(steps > timeframe.ms).tolist()
    )


def list_bars(root: Path, venue: str | None = None, *, deep: bool = False) -> list[Listing]:
    """List all stored bars by venue, symbol and timeframe; a broken file is listed with its fault.

    Only the time column is read; `deep` reads and checks everything.
    """
    folder = root / BARS_FOLDER
    paths = sorted(folder.glob(f"{venue or '*'}/*-*{_SUFFIX}"))
    found = [_listing(path, deep=deep) for path in paths if not path.name.startswith(".")]
    return sorted(found, key=lambda one: (one.venue, one.symbol, one.timeframe))


def _listing(path: Path, *, deep: bool) -> Listing:
    symbol, _, label = path.name.removesuffix(_SUFFIX).rpartition("-")
    venue = path.parent.name
    try:
        timeframe = Timeframe.parse(label)
    except ConfigurationError as e:
        return Listing(venue, symbol, Timeframe(1), 0, None, None, (), f"{path}: {e}")
    try:
        times = read_bars(path, timeframe).open_ms if deep else read_times(path)
    except DataError as e:
        return Listing(venue, symbol, timeframe, 0, None, None, (), str(e))
    first, last = (int(times[0]), int(times[-1])) if len(times) else (None, None)
    gaps = gaps_of(times, timeframe)
    return Listing(venue, symbol, timeframe, len(times), first, last, gaps)


# ---- panels --------------------------------------------------------------------------------------


class Panel(NamedTuple):
    """Hold the source bars of N instruments on one unbroken grid of T closes.

    close_ms: (T,). values: (T, N, 5), NaN where there is no bar. opens: (T, N), the open of the bar
    that starts at close_ms (of the next row; for the last row from the file, if it goes on), else
    NaN. All three are read-only; opens is a view one row ahead of values. empty: the files that
    hold no bar of any time.
    """

    close_ms: Instants
    values: Floats
    opens: Floats
    empty: tuple[Path, ...] = ()


def stored_symbols(root: Path, venue: str, timeframe: Timeframe) -> list[str]:
    """Name the instruments that have a file of such bars, sorted; nothing is opened."""
    return symbols_in(root / BARS_FOLDER / venue, timeframe)


def symbols_in(folder: Path, timeframe: Timeframe) -> list[str]:
    """Name the instruments of which a folder itself has such a file, sorted."""
    paths = folder.glob(f"*-*{_SUFFIX}")
    names = (p.name.removesuffix(_SUFFIX).rpartition("-") for p in paths)
    return sorted(s for s, _, label in names if label == timeframe.label and s[:1] != ".")


def any_generated(root: Path, venue: str, symbols: Sequence[str], timeframe: Timeframe) -> bool:
    """Tell whether any of these files holds bars of a generated market."""
    paths = (bars_path(root, venue, symbol, timeframe) for symbol in symbols)
    return any(is_generated(path) for path in paths if path.is_file())


def load_panel(
    root: Path,
    venue: str,
    symbols: Sequence[str],
    timeframe: Timeframe,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> Panel:
    """Load the bars with since < close <= until; the grid runs from the first bar to the last.

    Raises CorruptFile for bad files and DataError for missing ones, naming all of them.
    """
    require(symbols, "a panel needs at least one symbol")
    _refuse_missing(root, venue, symbols, timeframe)
    paths = [bars_path(root, venue, symbol, timeframe) for symbol in symbols]
    return panel_of(paths, timeframe, since_ms, until_ms)


def panel_of(
    paths: Sequence[Path],
    timeframe: Timeframe,
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> Panel:
    """Do what `load_panel` does with files that lie anywhere, one an instrument."""
    since = -np.inf if since_ms is None else since_ms
    until = np.inf if until_ms is None else until_ms
    bounds: list[tuple[int, int]] = []
    spans: list[tuple[int, int]] = []
    empty: list[Path] = []
    for path, closes in _closes_of(paths, timeframe):  # the times of one file at a time
        chosen = closes[(closes > since) & (closes <= until)]
        bounds += [(int(chosen[0]), int(chosen[-1]))] if len(chosen) else []
        spans += [(int(closes[0]), int(closes[-1]))] if len(closes) else []
        empty += [] if len(closes) else [path]
    if not bounds:
        asked = _asked(since_ms, until_ms)
        raise DataError(
            f"no {timeframe.label} bar of {paths[0].parent} closes{asked}{_span(spans)}"
        )
    first_ms, last_ms = min(first for first, _ in bounds), max(last for _, last in bounds)
    close_ms = np.arange(first_ms, last_ms + 1, timeframe.ms, dtype=np.int64)
    # one row more than closes: it holds the opens at the last instant
    rows = np.full((len(close_ms) + 1, len(paths), FIELDS), np.nan)
    for i, path in enumerate(paths):  # one file at a time, so that memory holds the panel once
        _place(read_bars(path, timeframe), rows[:, i], first_ms - timeframe.ms, timeframe)
    rows.flags.writeable = close_ms.flags.writeable = False
    return Panel(close_ms, rows[:-1], rows[1:, :, Field.OPEN], tuple(empty))


def _closes_of(paths: Sequence[Path], timeframe: Timeframe) -> Iterator[tuple[Path, Instants]]:
    """Give file after file; raise CorruptFile at the end, naming all that are broken."""
    broken = []
    for path in paths:
        try:
            yield path, read_times(path) + timeframe.ms
        except CorruptFile as e:
            broken.append(str(e))
    if broken:
        raise CorruptFile("; ".join(broken))


def _place(bars: Bars, rows: Floats, first_open_ms: int, timeframe: Timeframe) -> None:
    at = (bars.open_ms - first_open_ms) // timeframe.ms
    inside = (at >= 0) & (at < len(rows) - 1)
    rows[at[inside]] = bars.values[inside]
    follows = at == len(rows) - 1
    rows[-1, Field.OPEN] = bars.values[follows, Field.OPEN][0] if follows.any() else np.nan


def _refuse_missing(root: Path, venue: str, symbols: Sequence[str], timeframe: Timeframe) -> None:
    missing = [s for s in symbols if not bars_path(root, venue, s, timeframe).is_file()]
    if not missing:
        return
    folder = root / BARS_FOLDER / venue
    there = sorted(p.name.removesuffix(_SUFFIX) for p in folder.glob(f"*-*{_SUFFIX}"))
    shown = ", ".join(there[:12]) + (" .." if len(there) > 12 else "")
    raise DataError(
        f"no {timeframe.label} bars of {', '.join(missing)} in {folder};"
        f" there are: {shown or 'none'}; fetch them with download-data"
    )


def _asked(since_ms: int | None, until_ms: int | None) -> str:
    after = "" if since_ms is None else f" after {iso(since_ms)}"
    return after + ("" if until_ms is None else f" until {iso(until_ms)}")


def _span(spans: Sequence[tuple[int, int]]) -> str:
    if not spans:
        return "; the files hold no rows"
    first, last = min(first for first, _ in spans), max(last for _, last in spans)
    return f"; they close from {iso(first)} to {iso(last)}"


def fingerprint(panel: Panel, symbols: Sequence[str], timeframe: Timeframe) -> str:
    """Give the SHA-256 of the content: symbols, timeframe, closes and all values, in order."""
    names = ",".join(disk_symbol(symbol) for symbol in symbols)
    digest = hashlib.sha256(f"bars/1 {timeframe.label} {names}\n".encode())
    digest.update(np.ascontiguousarray(panel.close_ms, dtype="<i8").data)
    digest.update(np.ascontiguousarray(panel.values, dtype="<f8").data)
    return digest.hexdigest()


# ---- funding -------------------------------------------------------------------------------------


class Funding(NamedTuple):
    """Hold funding rates: settle_ms (S,), rates (S, N) with NaN where none is known.

    `absent` names the symbols of which there is no file at all.
    """

    settle_ms: Instants
    rates: Floats
    absent: tuple[str, ...]


def load_funding(
    root: Path,
    venue: str,
    symbols: Sequence[str],
    since_ms: int | None = None,
    until_ms: int | None = None,
) -> Funding:
    """Load the rates with since < settlement <= until; a missing file leaves NaN and is named."""
    series: list[Rates] = []
    absent: list[str] = []
    for symbol in symbols:
        path = funding_path(root, venue, symbol)
        if not path.is_file():
            absent.append(symbol)
        series.append(read_rates(path) if path.is_file() else NO_RATES)
    together = np.sort(np.concatenate([one.settle_ms for one in series]))
    settle_ms = together[np.diff(together, prepend=together[:1] - 1) > 0]
    if since_ms is not None:
        settle_ms = settle_ms[settle_ms > since_ms]
    if until_ms is not None:
        settle_ms = settle_ms[settle_ms <= until_ms]
    rates = np.full((len(settle_ms), len(symbols)), np.nan)
    for i, one in enumerate(series):
        inside = np.isin(one.settle_ms, settle_ms)
        rates[np.searchsorted(settle_ms, one.settle_ms[inside]), i] = one.rates[inside]
    rates.flags.writeable = settle_ms.flags.writeable = False
    return Funding(settle_ms, rates, tuple(absent))


def funding_missing_share(panel: Panel, funding: Funding) -> float:
    """Give the share of usual settlements (each 8 h UTC, where a bar closed) without a rate."""
    due = np.flatnonzero(panel.close_ms % FUNDING_USUAL_MS == 0)
    has_bar: Flags = ~np.isnan(panel.values[due, :, Field.CLOSE])
    known: Flags = np.zeros_like(has_bar)
    at = np.searchsorted(funding.settle_ms, panel.close_ms[due])
    found = at < len(funding.settle_ms)
    found[found] = funding.settle_ms[at[found]] == panel.close_ms[due][found]
    known[found] = ~np.isnan(funding.rates[at[found]])
    expected = int(np.count_nonzero(has_bar))
    return 1.0 - int(np.count_nonzero(has_bar & known)) / expected if expected else 0.0
