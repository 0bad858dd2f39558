"""The run as files for tax, audit and programs: CSV of every booking, JSON of every figure.

Amounts of the ledger are exact Decimals written in full; nothing passes through a float. Instants
are UTC with milliseconds. Rows stand in the order in which the ledger booked them, and running
columns start at nothing, so that each file can be checked by itself:

    realised gain of a fill = change of the position's cost - quantity x price   (average cost)

sums, with what the open positions would bring, to the ledger's equity. Fees are not in it. Figures
that are estimates (equity at marks, weights) are written in their shortest decimal form.
A calendar day in fees.csv runs from 00:00:00.000 to 23:59:59.999; a day in daily.csv is that of the
report, to which everything done at midnight belongs with the day it closes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path, PurePath
from typing import Any, Final

import numpy as np

from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill
from daemon.domain.portfolio import ZERO, Ledger
from daemon.domain.units import DAY_MS, utc
from daemon.report.honesty import Honesty
from daemon.report.metrics import RunMetrics, daily, measure
from daemon.report.run import Run

Cell = str | int | Decimal
Row = Sequence[Cell]
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
# what would differ between two runs of the same configuration
VOLATILE_FACTS: Final = ("run_seconds", "loading_seconds", "memory_mb")


def write_exports(
    run: Run,
    folder: Path,
    *,
    metrics: RunMetrics | None = None,
    honesty: Honesty | None = None,
    attribution: object | None = None,
) -> list[Path]:
    """Write all files of a run into `folder`, each in one step; gives their paths.

    attribution: a dataclass or mapping that goes into run.json as it is. The same run gives the
    same bytes. Raises OSError where the folder cannot be written, ValueError for an empty run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = metrics if metrics is not None else measure(run.record)
    bookings = list(_booked(run))
    tables: Mapping[str, tuple[Row, Iterable[Row]]] = {
        "fills.csv": (FILL_COLUMNS, _fill_rows(bookings)),
        "fees.csv": (FEE_COLUMNS, _fee_rows(bookings)),
        "funding.csv": (FUNDING_COLUMNS, _funding_rows(run)),
        "transfers.csv": (TRANSFER_COLUMNS, _transfer_rows(run)),
        "daily.csv": (DAILY_COLUMNS, _daily_rows(run)),
        "decisions.csv": (DECISION_COLUMNS, _decision_rows(run)),
    }
    written = []
    for name, (columns, rows) in tables.items():
        write_text(folder / name, csv_text(columns, rows))
        written.append(folder / name)
    write_text(folder / "run.json", _json_text(run, figures, honesty, attribution))
    return [*written, folder / "run.json"]


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


# ---- what the ledger booked ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Booking:
    """Hold a fill with what it did to its position; realised: quote currency, before the fee."""

    fill: Fill
    currency: str
    realised: Decimal
    quantity_after: Decimal
    cost_after: Decimal


def _booked(run: Run) -> Iterator[Booking]:
    """Book the fills once more, through the ledger itself."""
    ledger = Ledger()
    for one in run.executions:
        if isinstance(one, Fill):
            currency = _settlement(one.key)
            held = ledger.positions.get(one.key)
            before = held.cost if held is not None else ZERO
            after = ledger.apply_fill(one, CashKey(one.key.venue, currency))
            realised = after.cost - before - one.quantity * one.price
            yield Booking(one, currency, realised, after.quantity, after.cost)


def _settlement(key: InstrumentKey) -> str:
    """Read the currency of fees and gains off a unified symbol, as USDT in BTC/USDT:USDT."""
    return key.symbol.rpartition(":")[2].rpartition("/")[2]


FILL_COLUMNS: Final = (
    "booked",
    "at",
    "venue",
    "symbol",
    "side",
    "quantity",
    "price",
    "notional",
    "fee",
    "currency",
    "realised_gain",
    "position_after",
    "position_cost_after",
    "trade_id",
    "order_id",
)


def _fill_rows(bookings: Sequence[Booking]) -> Iterator[Row]:
    for number, booking in enumerate(bookings, 1):
        fill = booking.fill
        yield (
            number,
            instant(fill.at_ms),
            fill.key.venue,
            fill.key.symbol,
            "buy" if fill.quantity > 0 else "sell",
            abs(fill.quantity),
            fill.price,
            abs(fill.quantity * fill.price),
            fill.fee,
            booking.currency,
            booking.realised,
            booking.quantity_after,
            booking.cost_after,
            fill.trade_id,
            fill.order_id,
        )


FEE_COLUMNS: Final = (
    "span",
    "from",
    "venue",
    "currency",
    "fills",
    "notional",
    "fees",
    "realised_gain",
)


@dataclass(slots=True)
class _Sum:
    fills: int = 0
    notional: Decimal = ZERO
    fees: Decimal = ZERO
    realised: Decimal = ZERO


def _fee_rows(bookings: Sequence[Booking]) -> Iterator[Row]:
    """Sum by calendar day, by month and over all, for each venue and currency."""
    sums: dict[tuple[int, str, str, str], _Sum] = {}
    spans = ("day", "month", "all")
    for booking in bookings:
        fill = booking.fill
        at = instant(fill.at_ms)
        for number, since in enumerate((at[:10], at[:7], "")):
            name = (number, since, fill.key.venue, booking.currency)
            one = sums.setdefault(name, _Sum())
            one.fills += 1
            one.notional += abs(fill.quantity * fill.price)
            one.fees += fill.fee
            one.realised += booking.realised
    for (number, since, venue, currency), one in sorted(sums.items(), key=lambda pair: pair[0]):
        yield (
            spans[number],
            since,
            venue,
            currency,
            one.fills,
            one.notional,
            one.fees,
            one.realised,
        )


FUNDING_COLUMNS: Final = (
    "booked",
    "at",
    "venue",
    "symbol",
    "rate",
    "amount",
    "currency",
    "total_after",
    "cashflow_id",
)


def _funding_rows(run: Run) -> Iterator[Row]:
    totals: dict[CashKey, Decimal] = {}
    paid = (one for one in run.executions if isinstance(one, FundingPaid))
    for number, one in enumerate(paid, 1):
        totals[one.cash_key] = totals.get(one.cash_key, ZERO) + one.amount
        yield (
            number,
            instant(one.settle_ms),
            one.key.venue,
            one.key.symbol,
            estimate(one.rate),
            one.amount,
            one.cash_key.currency,
            totals[one.cash_key],
            one.cashflow_id,
        )


TRANSFER_COLUMNS: Final = (
    "booked",
    "at",
    "venue",
    "kind",
    "amount",
    "currency",
    "total_after",
    "cashflow_id",
)


def _transfer_rows(run: Run) -> Iterator[Row]:
    totals: dict[CashKey, Decimal] = {}
    moved = (one for one in run.executions if isinstance(one, Transferred))
    for number, one in enumerate(moved, 1):
        totals[one.cash_key] = totals.get(one.cash_key, ZERO) + one.amount
        yield (
            number,
            instant(one.at_ms),
            one.cash_key.venue,
            "deposit" if one.amount >= 0 else "withdrawal",
            one.amount,
            one.cash_key.currency,
            totals[one.cash_key],
            one.cashflow_id,
        )


# ---- days and decisions --------------------------------------------------------------------------

DAILY_COLUMNS: Final = (
    "day",
    "equity",
    "return",
    "gross",
    "net",
    "fees",
    "funding",
    "transfers",
)


def _daily_rows(run: Run) -> Iterator[Row]:
    """Give the last state of each day, and what was booked in it; bookings before go to the first.

    A return is of equity from day to day, empty on the first one.
    """
    times = run.record.times_ms
    equity, gross, net = (daily(times, run.record.column(c)) for c in ("equity", "gross", "net"))
    days = np.unique((np.asarray(times, dtype=np.int64) - 1) // DAY_MS).tolist()
    sums = _daily_sums(run, days)
    before: float | None = None
    for i, day in enumerate(days):
        change = math.nan if before is None else float(equity[i]) / before - 1.0
        before = float(equity[i])
        yield (
            day_text(day),
            *(estimate(float(value)) for value in (equity[i], change, gross[i], net[i])),
            *sums[i],
        )


def _daily_sums(run: Run, days: Sequence[int]) -> list[list[Decimal]]:
    """Sum fees, funding and transfers by the report's days, exactly; (T, 3)."""
    sums = [[ZERO, ZERO, ZERO] for _ in days]
    for one in run.executions:
        match one:
            case Fill():
                at_ms, column, amount = one.at_ms, 0, one.fee
            case FundingPaid():
                at_ms, column, amount = one.settle_ms, 1, one.amount
            case Transferred():
                at_ms, column, amount = one.at_ms, 2, one.amount
        row = int(np.searchsorted(days, (at_ms - 1) // DAY_MS))
        sums[min(row, len(days) - 1)][column] += amount
    return sums


DECISION_COLUMNS: Final = (
    "as_of",
    "kind",
    "equity",
    "gross_weight_before",
    "net_weight_before",
    "gross_weight_target",
    "net_weight_target",
    "orders",
    "refusals",
    "note",
)


def _decision_rows(run: Run) -> Iterator[Row]:
    for decision in run.decisions:
        held = decision.weights_before
        wanted = decision.target.weights if decision.target is not None else None
        yield (
            instant(decision.as_of_ms),
            str(decision.kind),
            estimate(decision.equity),
            estimate(float(np.abs(held).sum())),
            estimate(float(held.sum())),
            "" if wanted is None else estimate(float(np.abs(wanted).sum())),
            "" if wanted is None else estimate(float(wanted.sum())),
            len(decision.orders),
            len(decision.refusals),
            decision.note,
        )


# ---- figures -------------------------------------------------------------------------------------


def _json_text(
    run: Run, figures: RunMetrics, honesty: Honesty | None, attribution: object | None
) -> str:
    facts = {f: v for f, v in asdict(run.facts).items() if f not in VOLATILE_FACTS}
    values = {
        "facts": facts,
        "figures": asdict(figures),
        "statistics": honesty,
        "attribution": attribution,
    }
    return json.dumps(plain(values), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


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
