"""The run as files for tax, audit and programs: CSV of every booking, JSON of every figure.

Amounts of the ledger are exact Decimals written in full; nothing passes through a float. Instants
are UTC with milliseconds. Rows stand in the order in which the ledger booked them, and running
columns start at nothing, so that each file can be checked by itself:

    realised gain of a fill = change of the position's cost - quantity x price   (average cost)

sums, with what the open positions would bring, to the ledger's equity. Fees are not in it. Figures
that are estimates (equity at marks, weights) are written in their shortest decimal form.
venue is the one whose rules and account are simulated, price_source the one whose prices were used.
A calendar day in fees.csv runs from 00:00:00.000 to 23:59:59.999; days of the other tables are
those of the report (daemon.report.day_tables).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill
from daemon.domain.portfolio import ZERO, Ledger
from daemon.report.day_tables import (
    ATTRIBUTION_COLUMNS,
    DAILY_COLUMNS,
    EXPOSURE_COLUMNS,
    attribution_rows,
    daily_rows,
    exposure_rows,
)
from daemon.report.files import Row, csv_text, estimate, instant, write_text
from daemon.report.judged import Judged
from daemon.report.run import Run
from daemon.report.run_json import json_text
from daemon.report.tried_list import TriedList

_Flow = TypeVar("_Flow", FundingPaid, Transferred)


def write_exports(one: Judged, folder: Path, tried: TriedList | None = None) -> list[Path]:
    """Write all files of a run into `folder`, each in one step; gives their paths.

    tried: what else was run on the same data. The same run gives the same bytes. Raises OSError
    where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = one.run
    bookings = list(_booked(run))
    tables: Mapping[str, tuple[Row, Iterable[Row]]] = {
        "fills.csv": (FILL_COLUMNS, _fill_rows(bookings, run.facts.venue)),
        "fees.csv": (FEE_COLUMNS, _fee_rows(bookings)),
        "funding.csv": (FUNDING_COLUMNS, _funding_rows(run)),
        "transfers.csv": (TRANSFER_COLUMNS, _transfer_rows(run)),
        "daily.csv": (DAILY_COLUMNS, daily_rows(one)),
        "exposures.csv": (EXPOSURE_COLUMNS, exposure_rows(one)),
        "attribution.csv": (ATTRIBUTION_COLUMNS, attribution_rows(one)),
        "decisions.csv": (DECISION_COLUMNS, _decision_rows(run)),
    }
    written = []
    for name, (columns, rows) in tables.items():
        write_text(folder / name, csv_text(columns, rows))
        written.append(folder / name)
    write_text(folder / "run.json", json_text(one, tried))
    return [*written, folder / "run.json"]


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
    "price_source",
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


def _fill_rows(bookings: Sequence[Booking], price_source: str) -> Iterator[Row]:
    for number, booking in enumerate(bookings, 1):
        fill = booking.fill
        yield (
            number,
            instant(fill.at_ms),
            fill.key.venue,
            price_source,
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


def _flows(run: Run, kind: type[_Flow]) -> Iterator[tuple[int, _Flow, Decimal]]:
    """Give each cash flow of a kind with its number and the total of its account up to it."""
    totals: dict[CashKey, Decimal] = {}
    flows = (one for one in run.executions if isinstance(one, kind))
    for number, one in enumerate(flows, 1):
        totals[one.cash_key] = totals.get(one.cash_key, ZERO) + one.amount
        yield number, one, totals[one.cash_key]


def _funding_rows(run: Run) -> Iterator[Row]:
    for number, one, total in _flows(run, FundingPaid):
        yield (
            number,
            instant(one.settle_ms),
            one.key.venue,
            one.key.symbol,
            estimate(one.rate),
            one.amount,
            one.cash_key.currency,
            total,
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
    for number, one, total in _flows(run, Transferred):
        yield (
            number,
            instant(one.at_ms),
            one.cash_key.venue,
            "deposit" if one.amount >= 0 else "withdrawal",
            one.amount,
            one.cash_key.currency,
            total,
            one.cashflow_id,
        )


# ---- decisions -----------------------------------------------------------------------------------

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
