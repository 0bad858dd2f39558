"""Write text, tables and values as files: in one step, exact, harmless in a spreadsheet."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np

from daemon.domain.units import utc

Cell = str | int | Decimal
Row = Sequence[Cell]
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: whoever reads it sees the old or the new one, never half."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def csv_text(columns: Row, rows: Iterable[Row]) -> str:
    """Write a table as CSV (RFC 4180 quoting, lines end in LF); text cells cannot be formulas."""
    lines = [",".join(_quoted(_cell(value)) for value in columns)]
    lines += [",".join(_quoted(_cell(value)) for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Quote what would end a field; Python before 3.13 leaves a lone carriage return bare."""
    if not any(end in text for end in ',"\r\n'):
        return text
    return '"' + text.replace('"', '""') + '"'


def _cell(value: Cell) -> str:
    match value:
        case Decimal():
            return exact(value)
        case int():
            return str(value)
        case str():
            return guarded(value)


def guarded(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run as a formula."""
    is_formula = text.lstrip(" ").startswith(FORMULA_STARTS) or text.startswith(FORMULA_STARTS)
    return f"'{text}" if is_formula else text


def exact(value: Decimal) -> str:
    """Write a Decimal in full: no exponent, no zeros that say nothing, no negative zero."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def estimate(value: float) -> Cell:
    """Write a float in its shortest exact form; empty where it is not a number."""
    return Decimal(repr(float(value))) if math.isfinite(value) else ""


def instant(at_ms: int) -> str:
    """Write an instant as 2026-01-31T13:30:00.000Z, always with milliseconds."""
    return utc(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day_text(day: int) -> str:
    """Write a day counted since 1970-01-01 as 2026-01-31."""
    return datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()


def plain(value: Any) -> Any:
    """Turn figures into what JSON knows: Decimals as text, what is not a number as null.

    Of an absolute path only the name is kept: where a machine has its files is nobody's business.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    match value:
        case Mapping():
            return {str(key): plain(one) for key, one in value.items()}
        case PurePath():
            return plain(str(value))
        case np.ndarray():
            return plain(value.tolist())
        case np.generic():
            return plain(value.item())
        case Decimal():
            return exact(value)
        case float() if not math.isfinite(value):
            return None
        case str() if PurePath(value).is_absolute():
            return PurePath(value).name
        case list() | tuple():
            return [plain(one) for one in value]
        case _:
            return value
