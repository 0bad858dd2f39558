"""Show the status that a daemon publishes: `equipoise status`, once or watched.

`status_view` takes the mapping that the Redis reader gives, in which numbers are exact texts and
nested values are tables. It shows what is there and leaves out what is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from daemon.report.figures import (
    GAP,
    LONG,
    QUIET,
    SHORT,
    WARN,
    amount,
    balance_bar,
    clock,
    hundredths,
    names_of,
    number_of,
    percent,
    price,
    short_symbol,
    signed,
    signed_percent,
)

WEIGHT_CHARS: Final = 8
WIDE_COLUMNS: Final = 96  # from here on there is room for weight bars
FILLS_SHOWN: Final = 6
ALERTS_SHOWN: Final = 3
DECISIONS_SHOWN: Final = 3
_HEALTH: Final = {
    "running": ("●", "bold green", ""),
    "stopped": ("■", "bold blue", "stopped; this is what it showed last"),
    "lost": (
        "●",
        "bold red",
        "no heartbeat: killed, hanging, or cut off from Redis; this is what it showed last",
    ),
    "absent": ("○", "bold yellow", ""),
    "unreachable": ("○", "bold red", ""),
}

Values = Mapping[str, Any]


def status_view(status: Values) -> RenderableType:
    """Show everything that is known of one run."""
    health = str(status.get("daemon", "absent"))
    if health in ("absent", "unreachable"):
        return _nothing(status, health)
    parts: list[RenderableType] = [_head(status, health), _figures(status.get("status", {}))]
    positions, targets = status.get("positions", {}), status.get("targets", {})
    if positions or targets:
        parts.append(_Book(positions, targets))
    parts += [_feed_line(venue, shown) for venue, shown in status.get("feed", {}).items()]
    parts += _recent(status)
    return Group(*(Padding(part, (0, 1)) for part in parts))


def _nothing(status: Values, health: str) -> RenderableType:
    sign, style, _ = _HEALTH[health]
    lines = [Text.assemble((f"{sign} ", style), (f"{status.get('run', '')}: {health}", style))]
    if status.get("why"):
        lines.append(Text(str(status["why"])))
    if status.get("runs"):
        lines.append(Text("known runs: " + ", ".join(status["runs"])))
    hint = "Is a daemon running? Does redis.url (or run.state_folder) name the same place?"
    lines.append(Text(hint, QUIET))
    return Panel(Group(*lines), box=box.ROUNDED, border_style=QUIET, padding=(0, 1))


def _head(status: Values, health: str) -> RenderableType:
    sign, style, words = _HEALTH.get(health, ("?", WARN, ""))
    shown, meta = status.get("status", {}), status.get("meta", {})
    line = Table.grid(expand=True)
    line.add_column(justify="left")
    line.add_column(justify="right")
    state = str(shown.get("trading_state", ""))
    calm = "bold green" if state == "trading" else "bold yellow"
    left = Text.assemble(
        (f"{sign} {status.get('run', '')} {health}", style), "   ", (state.replace("_", " "), calm)
    )
    facts = [str(meta[key]) for key in ("strategy", "exchange") if meta.get(key)]
    time = str(shown.get("market_time", ""))
    right = Text.assemble(
        (" · ".join(facts), QUIET), "   " if facts else "", clock(time) if time else ""
    )
    line.add_row(left, right)
    remarks = [Text(text, WARN) for text in (words, str(shown.get("note", ""))) if text]
    return Panel(Group(line, *remarks), box=box.ROUNDED, border_style=QUIET, padding=(0, 1))


def _figures(shown: Values) -> RenderableType:
    grid = Table.grid(padding=(0, 3), expand=True)
    for _ in range(4):
        grid.add_column(ratio=1)
    gross, net = number_of(shown.get("gross_weight")), number_of(shown.get("net_weight"))
    funding = number_of(shown.get("funding"))
    grid.add_row(
        _figure("equity", Text(amount(number_of(shown.get("equity"))), "bold")),
        _figure("cash", Text(amount(number_of(shown.get("cash"))))),
        _figure("gross", Text(percent(gross))),
        _figure("net", signed_percent(net, 2)),
    )
    grid.add_row(
        _figure("fees paid", Text(amount(number_of(shown.get("fees"))))),
        _figure("funding", signed(funding, ",.2f")),
        _figure("turnover", Text(amount(number_of(shown.get("turnover")), 0))),
        _figure("fills", _count(shown, "fills_n")),
    )
    next_decision = str(shown.get("next_decision") or "")
    grid.add_row(
        _figure("positions", _count(shown, "positions_n")),
        _figure("open orders", _count(shown, "orders_open_n")),
        _figure("decisions", _count(shown, "decisions_n")),
        _figure("next", Text(clock(next_decision)[11:] if next_decision else GAP)),
    )
    health = number_of(shown.get("band_health"))
    if health is not None:
        grid.add_row(_figure("band health", Text(f"{health:.2f}")))
    return Padding(grid, (0, 1))


def _figure(name: str, value: Text) -> Text:
    return Text.assemble((f"{name} ", QUIET), value, no_wrap=True)


def _count(shown: Values, name: str) -> Text:
    number = number_of(shown.get(name))
    return Text(amount(number, 0))


@dataclass(frozen=True, slots=True)
class _Book:
    """Show positions and targets as wide as the terminal is: narrow ones get no weight bars."""

    positions: Values
    targets: Values

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table that fits."""
        yield _book(self.positions, self.targets, wide=options.max_width >= WIDE_COLUMNS)


def _book(positions: Values, targets: Values, *, wide: bool) -> Table:
    """Show positions and targets together, strongest long first; gains are unrealised."""
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        header_style=QUIET,
        padding=(0, 0, 0, 1),
        pad_edge=False,
    )
    names = ["#", "instrument", "quantity", "entry", "mark", "weight %"]
    names += ["", "target %", "gain"] if wide else ["target %", "gain"]
    for name in names:
        # only the last column may break, so that a long figure costs a line and no digit
        table.add_column(
            name,
            justify="left" if name in ("instrument", "") else "right",
            no_wrap=name != names[-1],
            overflow="fold",
        )
    symbols = sorted({*positions, *targets}, key=lambda s: _order(s, positions, targets))
    weights = [abs(number_of(row.get("weight")) or 0.0) for row in positions.values()]
    top = max(weights, default=0.0)
    for symbol, shown in zip(symbols, names_of(symbols), strict=True):
        held, target = positions.get(symbol, {}), targets.get(symbol, {})
        table.add_row(*_book_row(shown, held, target, top if wide else None))
    return table


def _order(symbol: str, positions: Values, targets: Values) -> tuple[float, float, str]:
    rank = number_of(targets.get(symbol, {}).get("rank"))
    weight = number_of(positions.get(symbol, {}).get("weight")) or 0.0
    return (rank if rank is not None else 1e9, -weight, symbol)


def _book_row(name: str, held: Values, target: Values, top: float | None) -> Sequence[Text]:
    """Give the cells of a row; `top` is the weight of a full bar, None leaves the bar away."""
    weight = number_of(held.get("weight")) if held else 0.0
    bars: list[Text] = []
    if top is not None:
        bars.append(balance_bar(weight / top if weight and top > 0 else 0.0, WEIGHT_CHARS))
    rank = target.get("rank")
    return (
        Text(str(rank) if rank is not None else GAP, QUIET),
        Text(name),
        Text(str(held.get("quantity", ""))),
        Text(price(number_of(held.get("average_price"))) if held else ""),
        Text(price(number_of(held.get("mark"))) if held else ""),
        hundredths(weight),
        *bars,
        hundredths(number_of(target.get("weight"))),
        signed(number_of(held.get("gain")), ",.2f") if held else Text(""),
    )


def _feed_line(venue: str, shown: Values) -> Text:
    """Say in one line how well a venue's bars come; what is not known is left out."""
    worst = number_of(shown.get("finality_p99_s"))
    offset = number_of(shown.get("clock_offset_ms"))
    parts = [
        ("by stream", percent(number_of(shown.get("stream_share")))),
        ("final within", "" if worst is None else f"{worst:.1f} s (p99)"),
        ("revised", f"{_number(shown, 'revisions_n')}"),
        ("absent", f"{_number(shown, 'absent_n')}"),
        ("sockets broken", f"{_number(shown, 'sockets_broken_n')}"),
        ("replaced", f"{_number(shown, 'sockets_replaced_n')}"),
        ("clock", "" if offset is None else f"{offset:+.0f} ms"),
        ("weight a minute", _number(shown, "weight_1m")),
    ]
    line = Text.assemble((f"feed {venue}  ", QUIET))
    for name, value in parts:
        if value:
            line.append_text(Text.assemble((f"{name} ", QUIET), f"{value}   "))
    return line


def _number(shown: Values, name: str) -> str:
    number = number_of(shown.get(name))
    return "" if number is None else amount(number, 0)


def _recent(status: Values) -> list[RenderableType]:
    lines: list[Text] = []
    for decision in list(status.get("decisions", []))[:DECISIONS_SHOWN]:
        lines.append(_decision_line(decision))
    for fill in list(status.get("fills", []))[:FILLS_SHOWN]:
        lines.append(_fill_line(fill))
    for alert in list(status.get("alerts", []))[:ALERTS_SHOWN]:
        words = str(alert.get("kind", "")).replace("_", " ")
        at = _when(alert.get("at"))
        lines.append(Text.assemble((f"{at}  ", QUIET), (f"! {words}", WARN), f"  {alert['text']}"))
    return [Text("latest, in UTC", QUIET), *lines] if lines else []


def _when(at: object) -> str:
    return clock(str(at or "")).removesuffix(" UTC")


def _decision_line(decision: Values) -> Text:
    orders = decision.get("orders", [])
    count = len(orders) if isinstance(orders, list) else 0
    return Text.assemble(
        (f"{_when(decision.get('as_of'))}  ", QUIET),
        f"#{decision.get('sequence', '')} {decision.get('kind', '')}",
        f"  {amount(number_of(decision.get('equity')))}",
        f"  gross {percent(number_of(decision.get('gross_weight')), 0)}  net ",
        signed_percent(number_of(decision.get("net_weight")), 2),
        f"  {count} order{'' if count == 1 else 's'}",
        no_wrap=True,
        overflow="ellipsis",
    )


def _fill_line(fill: Values) -> Text:
    quantity = str(fill.get("quantity", ""))
    side, style = ("SELL", SHORT) if quantity.startswith("-") else ("BUY ", LONG)
    return Text.assemble(
        (f"{_when(fill.get('at'))}  ", QUIET),
        (side, f"bold {style}"),
        f" {quantity.lstrip('-'):>11} {short_symbol(str(fill.get('symbol', ''))):<11}",
        f" at {price(number_of(fill.get('price'))):>10}",
        (f"  fee {amount(number_of(fill.get('fee')), 4)}", QUIET),
        no_wrap=True,
    )
