"""What a running paper session prints: forecasts, ranks, targets, orders, fills, equity.

Pure functions from domain values to rich renderables, readable at 80 and at 100 columns. Nothing
here prints, keeps state or reads a clock. `terminal_status` shows the same book from the status in
Redis.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from daemon.domain.bar import Floats
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.instrument import is_spare_symbol
from daemon.domain.messages import Alert, AlertKind
from daemon.domain.order import Fill, Order
from daemon.domain.units import iso
from daemon.report.figures import (
    GAP,
    LONG,
    QUIET,
    SHORT,
    WARN,
    amount,
    balance_bar,
    bar,
    clock,
    hundredths,
    names_of,
    percent,
    price,
    short_symbol,
    signed,
    signed_percent,
)

ROWS_MAX: Final = 24  # of a larger universe the ends are shown, and whoever is traded
STRENGTH_CHARS: Final = 8
WEIGHT_CHARS: Final = 4
WIDE_COLUMNS: Final = 98  # from here on there is room for rules and weight bars
_KIND_STYLES: Final = {
    DecisionKind.TRADED: "bold green",
    DecisionKind.HELD: "bold yellow",
    DecisionKind.REDUCED: "bold yellow",
    DecisionKind.WARMING: "bold blue",
}
_GRAVE: Final = {AlertKind.HALTED, AlertKind.ORDER_UNRESOLVED, AlertKind.RECONCILED}


def decision_view(
    decision: Decision, symbols: Sequence[str], *, start_equity: float | None = None
) -> RenderableType:
    """Show one decision: heading, a row for each instrument by rank, what follows in numbers.

    symbols: unified symbols in universe order. start_equity: to show the gain since then.
    """
    parts: list[RenderableType] = [_heading(decision)]
    if decision.target is not None or decision.predictions:
        parts.append(_Book(decision, symbols))
    parts.append(Padding(_summary(decision, start_equity), (0, 2)))
    parts += [Padding(line, (0, 2)) for line in _remarks(decision, symbols)]
    return Group(*parts)


def decision_line(decision: Decision, *, start_equity: float | None = None) -> Text:
    """Show one decision in one line of at most 80 columns, for quiet and accelerated runs.

    Gross and net are those of the book before the decision's own orders.
    """
    weights, count = decision.weights_before, len(decision.orders)
    kind = _kind(decision)
    kind.pad_right(7 - len(kind))
    return Text.assemble(
        (clock(iso(decision.as_of_ms)).removesuffix(" UTC"), "bold"),
        "  ",
        kind,
        f" {amount(decision.equity):>10} ",
        _right(_gain(decision.equity, start_equity), 8),
        f" gross {percent(float(np.nansum(np.abs(weights))), 0):>5} net ",
        _right(signed_percent(float(np.nansum(weights)), 2), 7),
        f"  {count:>2} order{'' if count == 1 else 's'}",
    )


def _gain(equity: float, start: float | None) -> Text:
    return signed_percent(equity / start - 1, 2) if start else Text("")


def _right(text: Text, width: int) -> Text:
    text.pad_left(max(0, width - len(text)))
    return text


def fill_line(fill: Fill) -> Text:
    """Show one fill in one line; notional and fee in quote currency."""
    side, style = ("BUY ", LONG) if fill.quantity > 0 else ("SELL", SHORT)
    notional = abs(float(fill.quantity * fill.price))
    at = iso(fill.at_ms).partition("T")[2].removesuffix("Z")
    return Text.assemble(
        (f"  {at}  ", QUIET),
        "filled ",
        (side, f"bold {style}"),
        f" {abs(fill.quantity)!s:>10} {short_symbol(fill.key.symbol):<10}",
        f" at {price(float(fill.price)):>9}",
        f" = {amount(notional):>8}",
        (f" fee {amount(float(fill.fee), 4)}", QUIET),
    )


def alert_line(alert: Alert) -> Text:
    """Show one alert in one line."""
    style = "bold red" if alert.kind in _GRAVE else WARN
    words = alert.kind.replace("_", " ")
    return Text.assemble(
        (f"  {clock(iso(alert.at_ms))}  ", QUIET), ("! " + words, style), f"  {alert.text}"
    )


def equity_line(at_ms: int, equity: float, start_equity: float, net_weight: float) -> Text:
    """Show where the book stands, in one line."""
    return Text.assemble(
        (f"  {clock(iso(at_ms))}  ", QUIET),
        "equity ",
        (amount(equity), "bold"),
        "  ",
        signed_percent(equity / start_equity - 1 if start_equity > 0 else None, 3),
        "  net ",
        signed_percent(net_weight),
    )


def _heading(decision: Decision) -> Rule:
    title = Text.assemble(
        (clock(iso(decision.as_of_ms)), "bold"),
        f"   decision {decision.sequence}   ",
        _kind(decision),
    )
    return Rule(title, style=QUIET, align="left")


def _kind(decision: Decision) -> Text:
    return Text(decision.kind, _KIND_STYLES[decision.kind])


@dataclass(frozen=True, slots=True)
class _Book:
    """Show the rows of a decision as wide as the terminal is: narrow ones get no weight bars."""

    decision: Decision
    symbols: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table that fits."""
        wide = options.max_width >= WIDE_COLUMNS
        yield _book_table(self.decision, self.symbols, wide=wide)


def _book_table(decision: Decision, symbols: Sequence[str], *, wide: bool) -> RenderableType:
    table = Table(
        box=box.SIMPLE_HEAD if wide else None,
        show_edge=False,
        header_style=QUIET,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    frames = [prediction.timeframe.label for prediction in decision.predictions]
    left = {"instrument", "strength", ""}
    names = ["#", "instrument", *frames, "strength", "sure", "now %"]
    names += ["", "target %", "order"] if wide else ["target %", "order"]
    for name in names:
        # only the last column may break, so that a long quantity costs a line and no digit
        is_last = name == names[-1]
        table.add_column(
            name,
            justify="left" if name in left else "right",
            no_wrap=not is_last,
            overflow="fold",
        )
    orders, skipped = _orders_by_index(decision.orders), 0
    taken = [index for index, symbol in enumerate(symbols) if not is_spare_symbol(symbol)]
    shown = dict(zip(taken, names_of([symbols[index] for index in taken]), strict=True))
    placed = [index for index in by_rank(decision) if index in shown]
    for place, index in enumerate(placed):
        if _is_left_out(place, len(placed), index in orders):
            skipped += 1
            continue
        cells = _row(decision, shown[index], place, index, wide=wide)
        table.add_row(*cells, _order_text(orders.get(index, ())))
    if not skipped:
        return table
    return Group(table, Padding(Text(f"and {skipped} more between them", QUIET), (0, 4)))


def by_rank(decision: Decision) -> list[int]:
    """Order the instruments: by signed alpha, strongest long first; those without one by weight."""
    signals = decision.target.signals if decision.target is not None else None
    n = len(decision.weights_before)
    alpha = signals.alpha if signals is not None else np.full(n, np.nan)
    weights = decision.target.weights if decision.target is not None else decision.weights_before
    known = np.isfinite(alpha)
    # lexsort: the last key decides first
    return list(np.lexsort((-np.nan_to_num(weights), -np.where(known, alpha, 0.0), ~known)))


def _is_left_out(place: int, count: int, is_traded: bool) -> bool:
    from_end = min(place, count - 1 - place)
    return count > ROWS_MAX and not is_traded and from_end >= ROWS_MAX // 2


def _orders_by_index(orders: Iterable[Order]) -> dict[int, tuple[Order, ...]]:
    found: dict[int, tuple[Order, ...]] = {}
    for order in orders:
        found[order.index] = (*found.get(order.index, ()), order)
    return found


def _row(
    decision: Decision, name: str, place: int, index: int, *, wide: bool
) -> list[RenderableType]:
    target = decision.target
    signals = target.signals if target is not None else None
    weight = float(decision.weights_before[index])
    has_rank = signals is not None and math.isfinite(signals.alpha[index])
    cells: list[RenderableType] = [
        Text(str(place + 1) if has_rank else GAP, QUIET),
        Text(name),
    ]
    cells += [signed(float(p.mean[index])) for p in decision.predictions]
    if signals is None:
        cells += [Text(""), Text(GAP, QUIET)]
    else:
        cells += [_strength(signals.strength, signals.alpha, index)]
        cells += [Text(percent(float(signals.chance[index]), 0))]
    cells.append(hundredths(weight))
    if wide:
        cells.append(balance_bar(_scaled(weight, decision), WEIGHT_CHARS))
    wanted = float(target.weights[index]) if target is not None else None
    return [*cells, hundredths(wanted)]


def _strength(strength: Floats, alpha: Floats, index: int) -> Text:
    """Draw the strength as a share of the strongest, in the colour of its side."""
    top = float(np.nanmax(strength)) if np.isfinite(strength).any() else 0.0
    share = float(strength[index]) / top if top > 0 else None
    style = LONG if alpha[index] > 0 else SHORT
    return bar(share, STRENGTH_CHARS, style)


def _scaled(weight: float, decision: Decision) -> float | None:
    """Scale a weight by the largest one in sight, so that bars compare within a table."""
    target = decision.target.weights if decision.target is not None else np.zeros(1)
    top = max(float(np.nanmax(np.abs(decision.weights_before))), float(np.nanmax(np.abs(target))))
    return weight / top if top > 0 and math.isfinite(weight) else None


def _order_text(orders: Sequence[Order]) -> Text:
    if not orders:
        return Text("")
    quantity = sum(order.quantity for order in orders)
    side, style = ("BUY", LONG) if quantity > 0 else ("SELL", SHORT)
    parts = f" in {len(orders)}" if len(orders) > 1 else ""
    return Text.assemble((side, f"bold {style}"), f" {abs(quantity)}{parts}")


def _summary(decision: Decision, start_equity: float | None) -> Text:
    text = Text.assemble("equity ", (amount(decision.equity), "bold"))
    if start_equity:
        text.append(" ").append_text(_gain(decision.equity, start_equity))
    weights = [decision.weights_before]
    if decision.target is not None:
        weights.append(decision.target.weights)
    gross = [percent(float(np.nansum(np.abs(w))), 0) for w in weights]
    text.append("  gross " + " → ".join(gross) + "  net ")
    text.append_text(Text(" → ").join(signed_percent(float(np.nansum(w)), 2) for w in weights))
    count = len(decision.orders)
    text.append(f"  {count} order{'' if count == 1 else 's'}")
    return text


def _remarks(decision: Decision, symbols: Sequence[str]) -> list[Text]:
    lines: list[Text] = []
    note = decision.note or (decision.target.note if decision.target is not None else "")
    if note:
        lines.append(Text(note, "italic"))
    solved = None if decision.target is None else decision.target.solved
    if solved is not None:
        lines.append(Text(solved.words, WARN if solved.fallback else "italic"))
    if decision.absent:
        names = ", ".join(short_symbol(symbols[i]) for i in decision.absent)
        lines.append(Text(f"no bar in time: {names}", WARN))
    for refusal in decision.refusals:
        name = short_symbol(refusal.order.key.symbol)
        words = f"refused {name} {refusal.order.quantity:+}: {refusal.reason} ({refusal.detail})"
        lines.append(Text(words, WARN))
    return lines
