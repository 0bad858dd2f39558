"""Read positions, targets, orders and fills for people: from Redis while a daemon runs, else from
the journal.

Redis holds the newest only; the journal has all of it, and what the venue answered as well. Rows
are plain values in the words of the status topics (docs/redis.md), so that both sources give the
same fields. The journal's positions are those of the engine that its newest snapshot and what
followed make, by the same way as a start.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from adapters.journal import JournalReader
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import BarsClosed, Decided, OrderFilled, Submit, event_ms
from daemon.domain.order import DoneReason, Order, OrderId
from daemon.domain.units import DAY_MS, instant_ms, iso
from daemon.report.explanation import slippage_bps
from daemon.report.story import Answer, AnswerKind, OrderLife, SeenFill
from daemon.settings import Settings
from daemon.status.values import fill_values, positions_values, ranks, targets_values
from daemon.wiring.core import universe_of
from daemon.wiring.explaining import reader_of, word
from daemon.wiring.instruments import read_instruments
from daemon.wiring.recovery import recorded_settings, recovered_engine
from daemon.wiring.status import is_shown, status_once

EVENTS_MAX: Final = 1_000  # that are asked of Redis
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SPANS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}
Row = dict[str, Any]


class Source(StrEnum):
    """Name where rows come from."""

    REDIS = "redis"
    JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Say which rows: of which instruments, since when, how many of the newest; None: all."""

    symbols: tuple[str, ...] = ()
    since: str | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """Hold rows, newest last, where they come from, and the market time that they are of."""

    source: Source
    where: str
    at_ms: int | None
    rows: tuple[Row, ...]


def running_status(settings: Settings) -> Mapping[str, Any] | None:
    """Read the status of a daemon that runs with these settings; None where none does."""
    if not is_shown(settings):
        return None
    values = asyncio.run(status_once(settings, events_n=EVENTS_MAX))
    return values if values.get("daemon") == "running" else None


def named(symbol: str, wanted: Sequence[str]) -> bool:
    """Tell whether a unified symbol is one of those asked for: BTC, BTC/USDT, BTCUSDT or all."""
    if not wanted:
        return True
    pair = symbol.partition(":")[0]
    names = {symbol, pair, pair.replace("/", ""), pair.partition("/")[0]}
    return bool({name.upper() for name in names} & {one.upper() for one in wanted})


def since_ms(text: str | None, newest_ms: int) -> int:
    """Read `2h`, `30m`, `1d` before the newest market time, or an instant; 0 for None."""
    if text is None:
        return 0
    if found := _SPAN.fullmatch(text):
        return newest_ms - int(float(found[1]) * _SPANS_MS[found[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ConfigurationError(
            f"--since {text!r}: want 30m, 2h, 3d or an instant like 2026-01-31T13:00"
        ) from e
    return instant_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


# ---- of Redis ------------------------------------------------------------------------------------


def shown_rows(values: Mapping[str, Any], topic: str, wanted: Wanted) -> Looked:
    """Give the rows of a topic from what a running daemon shows."""
    at_ms = int(values.get("status", {}).get("market_time_ms") or 0)
    match topic:
        case "positions":
            found = _by_weight(_by_symbol(values.get("positions", {})))
        case "targets":
            found = _shown_targets(values)
        case "orders":
            found = _shown_orders(values)
        case _:
            found = list(reversed(values.get("fills", [])))
    rows = _chosen(found, wanted, at_ms)
    return Looked(Source.REDIS, str(values.get("run", "")), at_ms or None, rows)


def _by_symbol(table: Mapping[str, Row]) -> list[Row]:
    return [{"symbol": symbol, **row} for symbol, row in table.items()]


def _by_weight(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: -float(row.get("weight") or 0.0))


def _shown_targets(values: Mapping[str, Any]) -> list[Row]:
    predictions = values.get("predictions", {})
    rows = _by_symbol(values.get("targets", {}))
    return [{**row, "predictions": predictions.get(row["symbol"], {})} for row in rows]


def _shown_orders(values: Mapping[str, Any]) -> list[Row]:
    """Give the orders of the newest decisions with what was filled of them, and the open ones."""
    filled: dict[str, list[Row]] = {}
    for fill in values.get("fills", []):
        filled.setdefault(str(fill.get("order_id")), []).append(fill)
    rows: dict[str, Row] = {}
    for decision in reversed(values.get("decisions", [])):
        for order in decision.get("orders") or ():
            name = str(order["order_id"])
            rows[name] = _shown_order(order, decision, filled.get(name, []))
    for name, order in (values.get("orders", {}).get("open") or {}).items():
        at_ms = int(order.get("sent_ms") or 0)
        more = {"order_id": name, "at_ms": at_ms, "at": iso(at_ms)}
        rows[name] = {**rows.get(name, {}), **order, **more}
    return sorted(rows.values(), key=lambda row: int(row["at_ms"]))


def _shown_order(order: Row, decision: Row, fills: Sequence[Row]) -> Row:
    quantity = Decimal(str(order["quantity"]))
    done = sum((Decimal(str(f["quantity"])) for f in fills), Decimal(0))
    worth = sum((Decimal(str(f["quantity"])) * Decimal(str(f["price"])) for f in fills), Decimal(0))
    return {
        "order_id": order["order_id"],
        "at": decision["as_of"],
        "at_ms": int(decision["as_of_ms"]),
        "symbol": order["symbol"],
        "quantity": quantity,
        "filled": done,
        "price": worth / done if done else None,
        "fee": sum((Decimal(str(f["fee"])) for f in fills), Decimal(0)),
        "state": "filled" if done == quantity else "partly filled" if done else "sent",
    }


# ---- of the journal ------------------------------------------------------------------------------


def journal_rows(settings: Settings, topic: str, wanted: Wanted) -> Looked:
    """Give the rows of a topic from the journal of the state folder; DataError without one."""
    reader = reader_of(settings.run.state_folder)
    newest_ms = reader.last_event_ms or 0
    since = since_ms(wanted.since, newest_ms)
    match topic:
        case "positions":
            rows = _positions(reader, settings)
        case "targets":
            rows = _targets(reader, settings)
        case "orders":
            rows = list(_newest(reader, wanted, since, newest_ms, _orders))
        case _:
            rows = list(_newest(reader, wanted, since, newest_ms, _fills))
    if topic == "positions":
        rows = _by_weight(rows)
    return Looked(
        Source.JOURNAL, str(reader.path), newest_ms or None, _chosen(rows, wanted, newest_ms)
    )


def _chosen(rows: Iterable[Row], wanted: Wanted, newest_ms: int) -> tuple[Row, ...]:
    since = since_ms(wanted.since, newest_ms)
    found = [
        row
        for row in rows
        if named(str(row.get("symbol", "")), wanted.symbols)
        and int(row.get("at_ms") or since) >= since
    ]
    return tuple(found if wanted.count is None else found[max(0, len(found) - wanted.count) :])


def _newest(
    reader: JournalReader, wanted: Wanted, since: int, newest_ms: int, read: Any
) -> list[Row]:
    """Read back as far as is asked for: day by day, twice as far each time, until enough is found.

    Who names no instrument wants the newest of a journal that may be years long.
    """
    span_ms = DAY_MS
    while True:
        from_ms = max(since, newest_ms - span_ms)
        rows: list[Row] = [r for r in read(reader, from_ms) if named(r["symbol"], wanted.symbols)]
        enough = wanted.count is not None and len(rows) >= wanted.count
        if enough or from_ms <= since:
            return rows
        span_ms *= 4


def _positions(reader: JournalReader, settings: Settings) -> list[Row]:
    starts = recorded_settings(reader)
    instruments = read_instruments(settings.run.state_folder)
    recorded = starts[-1][1] if starts else settings
    engine, _ = recovered_engine(recorded, universe_of(instruments), reader.path)
    book = engine.state.book
    outside = book.outside.marks
    table = positions_values(engine.universe, book.ledger, book.marks, book.equity, outside)
    return _by_symbol(table)


def _targets(reader: JournalReader, settings: Settings) -> list[Row]:
    """Give the newest decision's targets with its forecasts, strongest long first."""
    last = reader.last_decided_ms
    if last is None:
        return []
    *_, decision = reader.decisions(last)
    universe = universe_of(read_instruments(settings.run.state_folder))
    table, placed = targets_values(universe, decision), ranks(decision)
    rows = []
    for i, symbol in universe.taken():
        if symbol not in table:
            continue
        forecasts = {
            p.timeframe.label: {
                "mean": float(p.mean[i]),
                "standard_error": float(p.variance[i]) ** 0.5,
                "as_of": iso(p.as_of_ms),
                "model": p.model_id,
            }
            for p in decision.predictions
        }
        rows.append(
            {"symbol": symbol, "as_of": iso(decision.as_of_ms), **table[symbol],
             "predictions": forecasts}
        )  # fmt: skip
    if placed is not None:
        rows.sort(key=lambda row: row.get("rank") or len(rows) + 1)
    return rows


def _fills(reader: JournalReader, from_ms: int) -> Iterator[Row]:
    seen: set[tuple[str, str]] = set()
    for fill in reader.fills(from_ms):
        name = (fill.key.venue, fill.trade_id)
        if name not in seen:  # a venue may tell of one again
            seen.add(name)
            yield fill_values(fill)


def _orders(reader: JournalReader, from_ms: int) -> list[Row]:
    """Give every order sent or refused since an instant, with all that was heard of it."""
    first = reader.first_from(BarsClosed, from_ms)
    lives: dict[OrderId, OrderLife] = {}
    refused: list[Row] = []
    for entry in reader.read_from(first or 1):
        at_ms = event_ms(entry.event)
        if isinstance(entry.event, OrderFilled) and entry.event.fill.order_id in lives:
            fill = entry.event.fill
            lives[fill.order_id].fills.append(SeenFill(fill, entry.sequence))
        elif (said := word(entry.event)) is not None and said[0] in lives:
            lives[said[0]].answers.append(Answer(said[1], entry.sequence, at_ms, said[2]))
        for command in entry.commands:
            if isinstance(command, Submit):
                order = command.approved.order
                lives[order.order_id] = OrderLife(order, entry.sequence, at_ms)
            elif isinstance(command, Decided):
                refused += [
                    {**_order_row(r.order, command.decision.as_of_ms), "state": "refused",
                     "why": f"{r.reason}: {r.detail}"}
                    for r in command.decision.refusals
                ]  # fmt: skip
    rows = [_life_row(life) for life in lives.values()] + refused
    return sorted(rows, key=lambda row: int(row["at_ms"]))


def _order_row(order: Order, at_ms: int) -> Row:
    return {
        "order_id": order.order_id,
        "at": iso(at_ms),
        "at_ms": at_ms,
        "symbol": order.key.symbol,
        "venue": order.key.venue,
        "quantity": order.quantity,
        "kind": order.kind,
        "limit_price": order.limit_price,
        "reduce_only": order.reduce_only,
        "reference_price": order.reference_price,
    }


def _life_row(life: OrderLife) -> Row:
    fills = [one.fill for one in life.fills]
    done = sum((f.quantity for f in fills), Decimal(0))
    worth = sum((f.quantity * f.price for f in fills), Decimal(0))
    cost = sum(float(abs(f.quantity)) * slippage_bps(f, life.order.reference_price) for f in fills)
    return {
        **_order_row(life.order, life.at_ms),
        "filled": done,
        "price": worth / done if done else None,
        "fee": sum((f.fee for f in fills), Decimal(0)),
        "slippage_bps": cost / float(abs(done)) if done else None,
        "state": _state(life, done),
        "why": next((a.why for a in reversed(life.answers) if a.why), ""),
    }


def _state(life: OrderLife, done: Decimal) -> str:
    if done == life.order.quantity:
        return str(DoneReason.FILLED)
    said = [answer.kind for answer in life.answers]
    ends = [k for k in said if k in (AnswerKind.REJECTED, AnswerKind.ABSENT, AnswerKind.ENDED)]
    if ends:
        return f"{ends[-1]}, partly filled" if done else str(ends[-1])
    if done:
        return "partly filled"
    return str(said[-1]) if said else "sent"
