"""Which bar files a backtest or a training reads, and what is said of those that hold nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapters.history.store import data_root, disk_symbol, stored_symbols
from daemon.domain.failures import DataError
from daemon.domain.units import Timeframe
from daemon.settings import Settings


def named_symbols(settings: Settings) -> tuple[str, ...]:
    """Give the symbols that the settings name, none where the folder's files are the universe."""
    named = settings.backtest.symbols or settings.universe.symbols
    return () if isinstance(named, str) else tuple(named)


def symbols_of(settings: Settings) -> tuple[str, ...]:
    """Give the symbols to read: those named, else all that the folder has at the source length."""
    chosen, named = settings.backtest, named_symbols(settings)
    if named:
        return named
    source = Timeframe.parse(chosen.source)
    found = stored_symbols(data_root(Path(chosen.data_folder)), chosen.venue, source)
    if not found:
        raise DataError(
            f"no {source.label} bars in {chosen.data_folder} for venue {chosen.venue!r}; "
            "fetch some with download-data or name another folder"
        )
    first = [s for s in found if disk_symbol(s).startswith("BTC")]  # by convention in front
    return tuple(first + [s for s in found if s not in first])


def refuse_empty(empty: Sequence[Path]) -> None:
    """Raise DataError for files without a bar: where somebody named the symbols, no answer."""
    if empty:
        raise DataError(
            f"{_listed(empty)}: holds no bar of a symbol that was named; fetch it with "
            "download-data, or leave the symbol out of backtest.symbols or universe.symbols"
        )


def note_of(empty: Sequence[Path]) -> str:
    """Say which files hold nothing, and what that means for the figures; needs at least one."""
    return (
        "Without a single bar, and so never traded, although part of the universe: "
        f"{_listed(empty)}."
    )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
