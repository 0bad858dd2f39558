"""Tables of positions, targets, orders and fills that fit a terminal, down to 40 columns.

Rows are plain values as `daemon.wiring.looking` gives them; numbers may be exact texts. A column is
left away where the terminal has no room for it, the least important first; nothing is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.table import Table
from rich.text import Text

from daemon.report.figures import (
    GAP,
    LONG,
    QUIET,
    SHORT,
    WARN,
    amount,
    hundredths,
    names_of,
    number_of,
    price,
    signed,
)

Row = Mapping[str, Any]
Cell = Callable[[Row], Text]
_CALM: Final = ("filled", "accepted", "sent", "resting", "inflight")


@dataclass(frozen=True, slots=True)
class Column:
    """Hold a column: its heading, what it shows of a row, and how wide the terminal must be."""

    name: str
    cell: Cell
    from_columns: int = 0
    is_left: bool = False


def _number(key: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        value = row.get(key)
        return number_of(value if isinstance(value, str | int | float) else _plain(value))

    return read


def _plain(value: object) -> str | None:
    return None if value is None else str(value)


def _quantity(key: str) -> Cell:
    def show(row: Row) -> Text:
        value = row.get(key)
        if value is None or value == "":
            return Text(GAP, QUIET)
        text = f"{value:f}" if hasattr(value, "as_tuple") else str(value)
        number = number_of(text) or 0.0
        text = f"+{text}" if number > 0 else text  # the side must not hang on a colour
        return Text(text, LONG if number > 0 else SHORT if number < 0 else QUIET)

    return show


def _price(key: str) -> Cell:
    read = _number(key)
    return lambda row: Text(price(read(row)))


def _amount(key: str, places: int = 2) -> Cell:
    read = _number(key)
    return lambda row: Text(amount(read(row), places))


def _signed(key: str, spec: str) -> Cell:
    read = _number(key)
    return lambda row: signed(read(row), spec)


def _hundredths(key: str, places: int = 2) -> Cell:
    read = _number(key)
    return lambda row: hundredths(read(row), places)


def _width(key: str) -> Cell:
    read = _number(key)

    def show(row: Row) -> Text:
        value = read(row)
        return Text(GAP, QUIET) if value is None else Text(f"{100 * value:.2f}")

    return show


def _text(key: str, style: str = "") -> Cell:
    return lambda row: Text(str(row.get(key) if row.get(key) is not None else GAP), style)


def _time(row: Row) -> Text:
    """Show day and time without the year, which the newest rows do not need."""
    at = str(row.get("at", ""))
    return Text(at[5:19].replace("T", " ").removesuffix(":00"), QUIET)


def _state(row: Row) -> Text:
    state = str(row.get("state", ""))
    return Text(state, "" if state in _CALM else WARN)


def _forecasts(row: Row) -> Text:
    """Show the forecast of every timeframe, in hundredths of a residual volatility."""
    parts = []
    for label, one in (row.get("predictions") or {}).items():
        parts.append(Text.assemble((f"{label} ", QUIET), hundredths(number_of(one.get("mean")), 1)))
    return Text("  ").join(parts) if parts else Text(GAP, QUIET)


def _notional(row: Row) -> Text:
    quantity, at = _number("quantity")(row), _number("price")(row)
    return Text(amount(abs(quantity * at) if quantity is not None and at is not None else None))


POSITIONS: Final = (
    Column("quantity", _quantity("quantity")),
    Column("weight %", _hundredths("weight")),
    Column("gain", _signed("gain", ",.2f")),
    Column("mark", _price("mark"), 60),
    Column("entry", _price("average_price"), 70),
    Column("value", _signed("notional", ",.2f"), 80),
)
TARGETS: Final = (
    Column("rank", _text("rank", QUIET)),
    Column("now %", _hundredths("before")),
    Column("target %", _hundredths("weight")),
    Column("band ±%", _width("band"), 50),
    Column("ideal %", _hundredths("ideal"), 60),
    Column("alpha", _signed("alpha", ".3f"), 70),
    Column("strength", _signed("strength", ".3f"), 80),
    Column("forecasts, 0.01 sd", _forecasts, 100, is_left=True),
)
ORDERS: Final = (
    Column("quantity", _quantity("quantity")),
    Column("state", _state, is_left=True),
    Column("at", _time, 50, is_left=True),
    Column("order", _text("order_id", QUIET), 70, is_left=True),
    Column("price", _price("price"), 80),
    Column("fee", _amount("fee", 4), 90),
    Column("bps lost", _signed("slippage_bps", ".1f"), 100),
    Column("why", _text("why", WARN), 120, is_left=True),
)
FILLS: Final = (
    Column("quantity", _quantity("quantity")),
    Column("price", _price("price")),
    Column("at", _time, 50, is_left=True),
    Column("fee", _amount("fee", 4), 60),
    Column("notional", _notional, 70),
    Column("order", _text("order_id", QUIET), 90, is_left=True),
    Column("trade", _text("trade_id", QUIET), 120, is_left=True),
)


def table_of(columns: Sequence[Column], rows: Sequence[Row], width: int) -> Table:
    """Make a table for a terminal so many columns wide; instruments by their shortest names."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        header_style=QUIET,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    shown = [column for column in columns if width >= column.from_columns]
    table.add_column("instrument" if width >= 50 else "", no_wrap=True)
    for column in shown:
        justify = "left" if column.is_left else "right"
        table.add_column(column.name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    symbols = list(dict.fromkeys(str(row.get("symbol", "")) for row in rows))
    names = dict(zip(symbols, names_of(symbols), strict=True))
    for row in rows:
        name = names[str(row.get("symbol", ""))]
        table.add_row(Text(name, "bold"), *(column.cell(row) for column in shown))
    return table


def _maker(columns: Sequence[Column]) -> Callable[[Sequence[Row], int], Table]:
    return lambda rows, width: table_of(columns, rows, width)


TABLES: Final = {
    "positions": _maker(POSITIONS),
    "targets": _maker(TARGETS),
    "orders": _maker(ORDERS),
    "fills": _maker(FILLS),
}
