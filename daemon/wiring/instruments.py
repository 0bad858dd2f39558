"""The instruments of a book, written into its state folder when the book is begun.

A later start keeps them (`top:12` is answered once), and a journal can be replayed without asking
the exchange for trading rules again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, TypeVar

from daemon.domain.failures import CorruptFile, DataError, InvariantViolated
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules

FILE: Final = "instruments.json"
JOURNAL_FILE: Final = "journal.sqlite"
T = TypeVar("T")
_UNFIT: Final = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    InvalidOperation,
    InvariantViolated,
)
_RULES: Final = ("price_step", "quantity_step", "quantity_min", "notional_min", "contract_size")


def write_instruments(
    folder: Path,
    instruments: Sequence[Instrument],
    *,
    begun_ms: int | None = None,
    listed: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Write the instruments unless the folder has them already.

    begun_ms, listed: when the book was begun and what each venue listed then; a book with spare
    columns needs both to know later what is new.
    """
    path = folder / FILE
    if path.exists():
        return
    rows = [_to_row(i) for i in instruments]
    fresh = path.with_suffix(".new")
    whole: dict[str, Any] = {"instruments": rows}
    if begun_ms is not None:
        whole["begun_ms"] = begun_ms
        whole["listed"] = {venue: sorted(there) for venue, there in (listed or {}).items()}
    fresh.write_text(json.dumps(whole, indent=1), encoding="utf-8")
    fresh.replace(path)


def has_instruments(folder: Path) -> bool:
    """Tell whether a book was begun in this folder."""
    return (folder / FILE).exists()


def refuse_headless_book(folder: Path) -> None:
    """Raise DataError where a journal lies without the instruments that it is about."""
    if (folder / JOURNAL_FILE).exists() and not has_instruments(folder):
        raise DataError(
            f"{folder / FILE}: is missing beside {JOURNAL_FILE}; restore it from a backup, or name "
            "another run.state_folder for a new book"
        )


def read_instruments(folder: Path) -> list[Instrument]:
    """Read the instruments of a book; raises DataError without and CorruptFile for a bad file."""
    return _read(folder, lambda whole: [_from_row(row) for row in whole["instruments"]])


def read_beginning(folder: Path) -> tuple[int, dict[str, frozenset[str]]] | None:
    """Read when a book was begun and what each venue listed then; None where nobody noted it.

    Raises as `read_instruments`.
    """
    return _read(folder, _beginning_of)


def _beginning_of(whole: Mapping[str, Any]) -> tuple[int, dict[str, frozenset[str]]] | None:
    if "begun_ms" not in whole:
        return None
    listed = {str(venue): frozenset(map(str, there)) for venue, there in whole["listed"].items()}
    return int(whole["begun_ms"]), listed


def _read(folder: Path, part: Callable[[Mapping[str, Any]], T]) -> T:
    path = folder / FILE
    if not path.exists():
        raise DataError(f"{path}: no book was begun in this folder; run.state_folder is another?")
    try:
        return part(json.loads(path.read_text(encoding="utf-8")))
    except _UNFIT as e:
        raise CorruptFile(f"{path}: is not a list of instruments: {type(e).__name__} {e}") from e


def _to_row(i: Instrument) -> dict[str, Any]:
    rules = {name: str(getattr(i.rules, name)) for name in _RULES}
    return {
        "venue": i.key.venue,
        "symbol": i.key.symbol,
        "base": i.base,
        "quote": i.quote,
        "settle": i.settle,
        "listed_ms": i.listed_ms,
        **rules,
    }


def _from_row(row: Mapping[str, Any]) -> Instrument:
    return Instrument(
        key=InstrumentKey(row["venue"], row["symbol"]),
        base=row["base"],
        quote=row["quote"],
        settle=row["settle"],
        rules=TradingRules(**{name: Decimal(row[name]) for name in _RULES}),
        listed_ms=row["listed_ms"],
    )
