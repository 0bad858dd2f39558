"""Bar files of a backtest that hold nothing: a wish that cannot be met, or a note in the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adapters.history.parquet_file import read_times
from adapters.history.store import bars_path, data_root
from daemon.domain.failures import DataError
from daemon.domain.units import Timeframe
from daemon.settings import Settings
from daemon.wiring.backtest import symbols_of
from daemon.wiring.instruments import read_instruments


def files_without_rows(settings: Settings, book: Path | None = None) -> tuple[Path, ...]:
    """Give the files of a backtest's universe that hold no bar at all.

    Where somebody has named the symbols (settings, or a book), an empty file is no answer: raises
    DataError naming it. Where all files of the folder are the universe, the rest can be traded.
    Raises CorruptFile for a file that cannot be read; one that is missing is left to the loading.
    """
    chosen = settings.backtest
    root, source = data_root(Path(chosen.data_folder)), Timeframe.parse(chosen.source)
    paths = [bars_path(root, chosen.venue, s, source) for s in _symbols(settings, book)]
    empty = tuple(path for path in paths if path.is_file() and not len(read_times(path)))
    if empty and (book is not None or _are_named(settings)):
        raise DataError(
            f"{_listed(empty)}: holds no bar of a symbol that was named; fetch it with "
            "download-data, or leave the symbol out of backtest.symbols or universe.symbols"
        )
    return empty


def note_of(empty: Sequence[Path]) -> str:
    """Say which files hold nothing, and what that means for the figures; needs at least one."""
    return (
        "Without a single bar, and so never traded, although part of the universe: "
        f"{_listed(empty)}."
    )


def _are_named(settings: Settings) -> bool:
    return bool(settings.backtest.symbols) or not isinstance(settings.universe.symbols, str)


def _symbols(settings: Settings, book: Path | None) -> tuple[str, ...]:
    if book is not None:
        return tuple(i.key.symbol for i in read_instruments(book))
    return symbols_of(settings)


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths)
