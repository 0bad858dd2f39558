"""Check what a bar store holds: every file read in full, every finding dated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.history.parquet_file import read_rates
from adapters.history.store import (
    FUNDING_FOLDER,
    Listing,
    data_root,
    list_bars,
    load_panel,
)
from daemon.domain.cleansing import CleansingRules
from daemon.domain.failures import DataError
from daemon.domain.units import Timeframe
from daemon.domain.units_change import Change
from daemon.research.data_quality import (
    QualityFinding,
    StoredBars,
    bar_findings,
    funding_findings,
)

_FUNDING_SUFFIX: Final = "-funding.parquet"


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Hold a check: files read in full, bars and rates in them, broken files, findings by time."""

    files_n: int
    bars_n: int
    rates_n: int
    broken: tuple[str, ...]
    findings: tuple[QualityFinding, ...]


def check_store(
    folder: Path,
    venue: str | None,
    rules: CleansingRules,
    progress: Callable[[str], None] = lambda what: None,
    stated: Callable[[str, Sequence[str], Timeframe], Sequence[Change]] = lambda *where: (),
) -> QualityReport:
    """Read every file of bars and funding below a folder and say what is in them.

    stated: the changes of units of a venue's symbols, as settings have them.
    A broken file is named and the rest goes on. Raises DataError where there is nothing at all.
    """
    root = data_root(folder)
    groups: dict[tuple[str, Timeframe], list[Listing]] = defaultdict(list)
    listings = list_bars(root, venue)
    broken = [one.problem for one in listings if one.problem]
    for one in listings:
        if one.problem is None and one.rows:
            groups[one.venue, one.timeframe].append(one)
    findings: list[QualityFinding] = []
    bars_n = 0
    for (where, timeframe), files in sorted(groups.items()):
        progress(f"{where} {timeframe.label}")
        symbols = tuple(one.symbol for one in files)
        try:
            panel = load_panel(root, where, symbols, timeframe)
        except DataError as e:
            sound, problems = _sound_ones(root, where, symbols, timeframe)
            broken += problems or [str(e)]
            if not sound:
                continue
            symbols, panel = sound, load_panel(root, where, sound, timeframe)
        bars_n += sum(one.rows for one in files if one.symbol in symbols)
        stored = StoredBars(where, timeframe, symbols, panel.close_ms, panel.values)
        findings += bar_findings(stored, rules, stated(where, symbols, timeframe))
    rates_n, rate_files_n, rate_findings, bad = _funding(root, venue)
    if not listings and not rate_files_n:
        raise DataError(
            f"{folder}: holds no bars and no funding{f' of {venue}' if venue else ''};"
            " fetch some with download-data, or import files with import-data"
        )
    files_n = len(listings) + rate_files_n
    return QualityReport(files_n, bars_n, rates_n, tuple(broken + bad), (*findings, *rate_findings))


def _sound_ones(
    root: Path, venue: str, symbols: tuple[str, ...], timeframe: Timeframe
) -> tuple[tuple[str, ...], list[str]]:
    sound, problems = [], []
    for symbol in symbols:
        try:
            load_panel(root, venue, [symbol], timeframe)
        except DataError as e:
            problems.append(str(e))
        else:
            sound.append(symbol)
    return tuple(sound), problems


def _funding(root: Path, venue: str | None) -> tuple[int, int, list[QualityFinding], list[str]]:
    rates_n = files_n = 0
    found: list[QualityFinding] = []
    broken: list[str] = []
    for path in sorted((root / FUNDING_FOLDER).glob(f"{venue or '*'}/*{_FUNDING_SUFFIX}")):
        if path.name.startswith("."):
            continue
        files_n += 1
        try:
            rates = read_rates(path)
        except DataError as e:
            broken.append(str(e))
            continue
        rates_n += len(rates)
        symbol = path.name.removesuffix(_FUNDING_SUFFIX)
        found += funding_findings(path.parent.name, symbol, rates.settle_ms)
    return rates_n, files_n, found, broken
