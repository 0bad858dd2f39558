"""Bring series beside the bars to those who need them: training, backtest and the live worker.

Funding comes as events of the feed, the same in a backtest and live; everything else from the store
of series, which the worker reads again when a file has changed (see `series_worker`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import structlog

from adapters.history.covariates import StoredSeries
from adapters.history.parquet_file import NO_RATES, Rates, read_rates
from adapters.history.store import data_root, disk_symbol, funding_path
from daemon.domain.covariates import Instants, Series, hourly_funding
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Instrument
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import FundingRates, MarketEvent
from daemon.domain.units import iso, require
from daemon.ports import MarketFeed
from daemon.settings import Settings
from strategies.forecast.inputs.covariates import FUNDING, needed

_FOREVER_MS: Final = int(np.iinfo(np.int64).max)
FUNDING_KEPT_MAX: Final = 4096  # settlements of an instrument that a worker remembers
log = structlog.get_logger()
Note = Callable[[FundingRates], None]


def series_root(settings: Settings, folder: Path) -> Path:
    """Give the root of the store of series: as settings say, else that of the bars."""
    named = settings.estimator.series_folder
    return data_root(Path(named)) if named else data_root(folder)


def stored_known(
    settings: Settings, folder: Path, symbols: Sequence[str], venue: str, until_ms: int
) -> dict[str, tuple[Series | None, ...]]:
    """Load what the covariates of a training need from the store, as it was known at an instant.

    Without funding, which does not lie there. Raises ConfigurationError or DataError.
    """
    wanted = [name for name in needed(settings.training.covariates) if name != FUNDING]
    if not wanted:
        return {}
    stored = StoredSeries(series_root(settings, folder), wanted, symbols, venue)
    cut: dict[int, Series] = {}
    found = {}
    for name, ones in stored.known().items():
        for one in ones:
            if one is not None and id(one) not in cut:
                cut[id(one)] = one.known_at(until_ms)
        found[name] = tuple(None if one is None else cut[id(one)] for one in ones)
    return found


def file_funding(
    folder: Path, symbols: Sequence[str], venue: str, until_ms: int
) -> tuple[Series | None, ...]:
    """Load funding per hour of each symbol from its file, as it was known at an instant."""
    found: list[Series | None] = []
    for symbol in symbols:
        path = funding_path(data_root(folder), venue, symbol)
        rates = read_rates(path) if path.is_file() else NO_RATES
        found.append(hourly_of(rates, until_ms))
    return tuple(found)


def refuse_no_funding(
    found: Sequence[Series | None], folder: Path, symbols: Sequence[str], venue: str, until_ms: int
) -> None:
    """Raise ConfigurationError where no symbol of a training has funding; warn where some do not.

    found: what `file_funding` gave for the same folder, symbols and venue.
    """
    lacking = [symbol for symbol, one in zip(symbols, found, strict=True) if one is None]
    place = funding_path(data_root(folder), venue, "SYMBOL")
    if len(lacking) == len(found):
        raise ConfigurationError(
            f'training.covariates = ["{FUNDING}"]: no instrument has settled rates in {place};'
            " accepted is a folder that holds them (backtest.funding_venue names another venue's),"
            f' or training.covariates without "{FUNDING}"'
        )
    if lacking:
        why = f"no settled rates of {', '.join(lacking)} in {place}"
        log.warning(LogEvent.SERIES_SILENT, series=FUNDING, at=iso(until_ms), why=why)


def told_funding(
    events: Iterable[FundingRates], symbols_n: int, until_ms: int
) -> tuple[Series | None, ...]:
    """Make funding per hour of each instrument out of what a feed told."""
    memory = ToldFunding(symbols_n)
    for event in events:
        memory.note(event)
    return tuple(hourly_of(memory.rates(n), until_ms) for n in range(symbols_n))


def hourly_of(rates: Rates, until_ms: int, known_ms: Instants | None = None) -> Series | None:
    """Give rates per hour as they were known at an instant, None where there are none."""
    series = hourly_funding(rates.settle_ms, rates.rates, known_ms).known_at(until_ms)
    return series if len(series) else None


class ToldFunding:
    """Remember the newest settled rates of N instruments, each instant once."""

    def __init__(self, instruments_n: int) -> None:
        self._rates: list[dict[int, float]] = [{} for _ in range(instruments_n)]
        self._late: list[dict[int, int]] = [{} for _ in range(instruments_n)]

    def note(self, event: FundingRates, known_ms: int = 0) -> None:
        """Take settled rates (N,); what was told of an instant first stays.

        known_ms: from when they count, where that is after their settlement.
        """
        require(
            len(event.rates) == len(self._rates),
            f"funding rates of {len(event.rates)} instruments, not {len(self._rates)}",
        )
        for n in np.flatnonzero(np.isfinite(event.rates)).tolist():
            mine = self._rates[n]
            if event.settle_ms not in mine and known_ms > event.settle_ms:
                self._late[n][event.settle_ms] = known_ms
            mine.setdefault(event.settle_ms, float(event.rates[n]))
            if len(mine) > FUNDING_KEPT_MAX:
                oldest_ms = min(mine)
                del mine[oldest_ms]
                self._late[n].pop(oldest_ms, None)

    def rates(self, n: int) -> Rates:
        """Give the rates of one instrument, oldest first."""
        return Rates.from_pairs(sorted(self._rates[n].items()))

    def hourly(self) -> tuple[Series | None, ...]:
        """Give rates per hour of each instrument, all that was told; None where there are none."""
        return tuple(
            hourly_of(self.rates(n), _FOREVER_MS, self.known_ms(n)) for n in range(len(self._rates))
        )

    def known_ms(self, n: int) -> Instants:
        """Give from when each of these rates counts (S,)."""
        late = self._late[n]
        return np.array([late.get(at, at) for at in sorted(self._rates[n])], dtype=np.int64)


# ---- on the way to the engine --------------------------------------------------------------------


def noted(events: Iterable[MarketEvent], note: Note) -> Iterator[MarketEvent]:
    """Pass events on, and tell of funding rates on the way."""
    for event in events:
        if isinstance(event, FundingRates):
            note(event)
        yield event


class NotedFeed:
    """Implement the MarketFeed port over another feed, and tell of its funding rates."""

    def __init__(self, inner: MarketFeed, note: Note) -> None:
        self._inner, self._note = inner, note

    async def instruments(self) -> Sequence[Instrument]:
        """Load the instruments with their trading rules, in the configured order."""
        return await self._inner.instruments()

    async def history(self, since_ms: int, until_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield the history with since < close <= until."""
        async for event in self._inner.history(since_ms, until_ms):
            self._tell(event)
            yield event

    async def events(self, after_ms: int) -> AsyncIterator[MarketEvent]:
        """Yield what happens after `after_ms`."""
        async for event in self._inner.events(after_ms):
            self._tell(event)
            yield event

    async def settled(self, now_ms: int) -> None:
        """Return when all that the venue can tell up to `now_ms` has been yielded."""
        await self._inner.settled(now_ms)

    async def close(self) -> None:
        """Close every connection."""
        await self._inner.close()

    def _tell(self, event: MarketEvent) -> None:
        if isinstance(event, FundingRates):
            self._note(event)


def names_of(instruments: Iterable[Instrument]) -> list[str]:
    """Give the names in files of instruments."""
    return [disk_symbol(one.key.symbol) for one in instruments]
