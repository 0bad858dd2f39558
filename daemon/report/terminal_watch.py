"""The live view of `equipoise status --watch`: one screen that fits a laptop or a phone.

It takes what a running daemon shows (docs/redis.md), when that was read, and the time of the
machine, and gives a renderable for a width and a height; nothing here reads a clock or a server.
What is old is said at the top, with since when. Colours are the terminal's own named ones, so that
light and dark backgrounds both work, and no meaning hangs on a colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from daemon.domain.units import DAY_MS
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
    number_of,
    percent,
    price,
    short_symbol,
    signed,
    signed_percent,
)

Values = Mapping[str, Any]
STALE_S: Final = 10.0  # without news of the server
WIDE: Final = 100
MIDDLE: Final = 70
ROWS_LEAST: Final = 3  # positions shown however low the terminal is
BOOK_FRAME: Final = 3  # lines of the book beside its rows
LOW, HIGH = 22, 36  # lines of a terminal
FILLS_LOW, FILLS_HIGH = 2, 6
ALERTS_SHOWN: Final = 3
NARROW: Final = 50
FORECAST_CHARS: Final = 5
_SIGNS: Final = {
    "running": ("●", f"bold {LONG}"),
    "stopped": ("■", "bold blue"),
    "lost": ("●", f"bold {SHORT}"),
    "absent": ("○", f"bold {WARN}"),
    "unreachable": ("○", f"bold {SHORT}"),
}
_BOUNDS: Final = (
    ("gross", "gross_weight_max", False),
    ("net", "net_weight_max", True),
    ("largest", "name_weight_max", False),
    ("beta", "beta_weight_max", True),
    ("drawdown", "drawdown_max", False),
    ("day loss", "day_loss_max", False),
    ("margin", "margin_ratio_max", False),
)


@dataclass(frozen=True, slots=True)
class Watched:
    """Hold what is known while watching.

    values: the last that had content; {} before any. health: what the newest look found. since_ms:
    when health became so. read_ms: when values were read; wall time of this machine. why: in words.
    """

    values: Values
    health: str
    since_ms: int
    read_ms: int
    why: str = ""

    def with_look(self, values: Values, now_ms: int) -> Watched:
        """Take the newest look: an empty one keeps the values and says since when it is so."""
        health = str(values.get("daemon", "absent"))
        since = self.since_ms if health == self.health else now_ms
        has_content = bool(values.get("status"))
        return Watched(
            values if has_content else self.values,
            health,
            since,
            now_ms if has_content else self.read_ms,
            str(values.get("why", "")),
        )


NOTHING_YET: Final = Watched({}, "absent", 0, 0)


def watch_view(seen: Watched, now_ms: int, width: int, height: int) -> RenderableType:
    """Show everything on one screen of `width` x `height` characters; the least important goes."""
    values = seen.values
    head = [_head(seen, width), *_staleness(seen, now_ms)]
    if not values:
        return Group(*head, Text("no daemon has shown anything yet; waiting", QUIET))
    shown = values.get("status", {})
    top: list[RenderableType] = [*head, _figures(values, width), *_bounds(values, width)]
    top += _risk_words(values)
    top.append(_next(shown, now_ms, width))
    top += [_alert_line(one, width) for one in list(values.get("alerts", []))[:ALERTS_SHOWN]]
    feeds = _titled("data", [_feed(v, one, width) for v, one in values.get("feed", {}).items()])
    fills_n = 0 if height < LOW else FILLS_LOW if height < HIGH else FILLS_HIGH
    recent = _recent(values, width, fills_n) if fills_n else []
    # what stands above and below the book takes its lines first, and the book what is left
    rest = height - _lines([*top, *recent, *feeds], width) - BOOK_FRAME
    return Group(*top, *_book(values, width, max(ROWS_LEAST, rest)), *recent, *feeds)


def watch_line(seen: Watched) -> str:
    """Say the essence in one plain line, for pipes and files; no colour, no bars."""
    shown = seen.values.get("status", {})
    words = [str(shown.get("market_time", "")) or "-", str(seen.values.get("run", "")), seen.health]
    if not shown:
        return " ".join([*words, seen.why]).strip()
    drop = _now_of(seen.values, "drawdown_max")
    words += [
        str(shown.get("trading_state", "")),
        f"equity {amount(number_of(shown.get('equity')))}",
        *([] if drop is None else [f"drawdown {percent(drop, 2)}"]),
        f"gross {percent(number_of(shown.get('gross_weight')))}",
        f"net {signed_percent(number_of(shown.get('net_weight')), 2).plain}",
        f"positions {shown.get('positions_n', '')}",
        f"open {shown.get('orders_open_n', '')}",
        f"fills {shown.get('fills_n', '')}",
        f"next {clock(str(shown.get('next_decision') or ''))}",
    ]
    note = str(shown.get("note", ""))
    return " ".join([*words, *([f"({note})"] if note else [])])


def _lines(parts: Sequence[RenderableType], width: int) -> int:
    """Count the lines that parts take at a width."""
    return len(Console(width=width, file=StringIO()).render_lines(Group(*parts)))


# ---- the top -------------------------------------------------------------------------------------


def _head(seen: Watched, width: int) -> RenderableType:
    sign, style = _SIGNS.get(seen.health, ("?", WARN))
    shown, meta = seen.values.get("status", {}), seen.values.get("meta", {})
    state = str(shown.get("trading_state", "")).replace("_", " ")
    calm = f"bold {LONG}" if state == "trading" else f"bold {WARN}"
    left = Text.assemble(
        (f"{sign} ", style),
        (str(seen.values.get("run", "") or "equipoise"), "bold"),
        (f" {seen.health}", style),
        "  ",
        (state, calm if seen.health == "running" else QUIET),
        no_wrap=True,
    )
    time = clock(str(shown.get("market_time", "")))
    facts = [str(meta[key]) for key in ("strategy", "exchange") if meta.get(key)]
    right = " · ".join([*facts, time]) if width >= MIDDLE else time[11:16]
    line = Table.grid(expand=True, padding=0)
    line.add_column(justify="left", no_wrap=True)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(left, Text(right, QUIET, no_wrap=True))
    return line


def _staleness(seen: Watched, now_ms: int) -> list[Text]:
    """Say in reverse what is not of now, and since when."""
    if not seen.since_ms:
        return []
    for_s = (now_ms - seen.since_ms) / 1000
    since = _wall(seen.since_ms)
    words = {
        "lost": f"NO HEARTBEAT since {since} ({_span(for_s)}): the daemon was killed, hangs or is "
        "cut off; below is what it showed last",
        "unreachable": f"SERVER UNREACHABLE since {since} ({_span(for_s)}); below is what it "
        "showed last",
        "stopped": f"the daemon stopped at {since} or before; below is what it showed last",
        "absent": f"no daemon runs, seen since {since} ({_span(for_s)})",
    }.get(seen.health, "")
    age_s = (now_ms - seen.read_ms) / 1000
    if not words and seen.values and age_s > STALE_S:
        words = f"nothing new from the server for {_span(age_s)}"
    if not words:
        return []
    grave = seen.health in ("lost", "unreachable")
    lines = [Text(f" {words} ", f"bold reverse {SHORT if grave else WARN}")]
    return lines + ([Text(f" {seen.why}", QUIET)] if seen.why and grave else [])


def _columns(width: int) -> int:
    return 4 if width >= 78 else 2


def _figures(values: Values, width: int) -> RenderableType:
    shown = values.get("status", {})
    drop, day = _now_of(values, "drawdown_max"), _now_of(values, "day_loss_max")
    cells = [
        ("equity", Text(amount(number_of(shown.get("equity"))), "bold")),
        ("drawdown", Text(GAP if drop is None else percent(drop, 2), SHORT if drop else "")),
        ("today", signed_percent(None if day is None else -day, 2)),
        ("fees", Text(amount(number_of(shown.get("fees"))))),
        ("positions", Text(amount(number_of(shown.get("positions_n")), 0))),
        ("open orders", Text(amount(number_of(shown.get("orders_open_n")), 0))),
        ("fills", Text(amount(number_of(shown.get("fills_n")), 0))),
        ("funding", signed(number_of(shown.get("funding")), ",.2f")),
    ]
    columns = _columns(width)
    grid = Table.grid(padding=(0, 1), expand=True)
    for _ in range(columns):
        grid.add_column(ratio=1, no_wrap=True)
    for begin in range(0, len(cells), columns):
        part = cells[begin : begin + columns]
        grid.add_row(*(Text.assemble((f"{name} ", QUIET), value) for name, value in part))
    return grid


def _limits(values: Values) -> Values:
    found: Values = values.get("risk", {}).get("limits") or {}
    return found


def _now_of(values: Values, name: str) -> float | None:
    return number_of((_limits(values).get(name) or {}).get("now"))


def _bounds(values: Values, width: int) -> list[RenderableType]:
    """Draw what is measured against its bound: a bar from zero, or to both sides of it."""
    shown, limits = values.get("status", {}), _limits(values)
    usual = {
        "gross_weight_max": shown.get("gross_weight"),
        "net_weight_max": shown.get("net_weight"),
    }
    lines: list[RenderableType] = []
    chars = max(6, min(30, width - 36))
    for name, key, is_signed in _BOUNDS:
        row = limits.get(key) or {}
        now = number_of(row.get("now", usual.get(key)))
        bound = number_of(row.get("limit"))
        if now is None or (bound is None and key not in usual):
            continue
        lines.append(_bound_line(name, now, bound, is_signed=is_signed, chars=chars))
    return lines


def _bound_line(name: str, now: float, bound: float | None, *, is_signed: bool, chars: int) -> Text:
    share = None if not bound else now / bound
    near = share is not None and abs(share) > 0.9
    style = f"bold {WARN}" if near else ""
    value = signed_percent(now, 2).plain if is_signed else percent(now, 1)
    line = Text.assemble((f"{name:<9}", QUIET), (f"{value:>9} ", style), no_wrap=True)
    if bound is None or share is None:
        return line
    if is_signed:
        line.append("▕", QUIET)
        line.append_text(balance_bar(share, max(2, chars // 2 - 1)))
        line.append("▏", QUIET)
    else:
        line.append("▕", QUIET)
        line.append_text(bar(share, chars - 1, WARN if near else "cyan"))
        line.append("▏", QUIET)
    sign = "±" if is_signed else ""
    return line.append(f" of {sign}{percent(bound, 0)}", QUIET)


def _risk_words(values: Values) -> list[RenderableType]:
    """Say in words what holds the book back; nothing where all is well."""
    risk, shown = values.get("risk", {}), values.get("status", {})
    words = [
        name for name in ("paused", "flattening", "reduce_only", "day_lost") if _true(risk, name)
    ]
    why = str(risk.get("halted_why") or "") or str(risk.get("reasons") or shown.get("note") or "")
    text = ", ".join(word.replace("_", "-") for word in words)
    text = ": ".join(part for part in (text, why) if part)
    unresolved = number_of(risk.get("unresolved_n")) or 0
    lines: list[RenderableType] = [Text(f"! {text}", f"bold {WARN}")] if text else []
    if unresolved:
        lines.append(Text(f"! {unresolved:.0f} orders without an answer", f"bold {SHORT}"))
    return lines


def _true(risk: Values, name: str) -> bool:
    return risk.get(name) in (True, "true")


def _next(shown: Values, now_ms: int, width: int) -> Text:
    """Count down to the next decision; a market that is not of now has none."""
    text = str(shown.get("next_decision") or "")
    at_ms = number_of(shown.get("next_decision_ms"))
    at = clock(text) if width >= NARROW else clock(text)[11:]
    line = Text.assemble(("next decision ", QUIET), at or GAP, no_wrap=True)
    if at_ms is None or abs(at_ms - now_ms) > DAY_MS:
        return line
    left_s = (at_ms - now_ms) / 1000
    if left_s >= 0:
        return line.append(f" in {_span(left_s)}", "bold")
    return line.append(f" due for {_span(-left_s)}", f"bold {WARN}")


def _span(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, secs = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} m"
    return f"{minutes} m {secs:02d} s" if minutes else f"{secs} s"


def _wall(at_ms: int) -> str:
    seconds = at_ms // 1000 % 86_400
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d} UTC"


# ---- the book ------------------------------------------------------------------------------------


def _book(values: Values, width: int, rows_n: int) -> list[RenderableType]:
    """Show positions beside what is wanted; of many the largest, by weight held or wanted."""
    positions, targets = values.get("positions", {}), values.get("targets", {})
    symbols = sorted({*positions, *targets}, key=lambda s: -_size(s, positions, targets))
    if not symbols:
        return [Text("flat: nothing held, nothing wanted", QUIET)]
    shown = sorted(symbols[:rows_n], key=lambda s: _place(s, positions, targets))
    names = dict(zip(symbols, names_of(symbols), strict=True))
    table = Table.grid(padding=(0, 1, 0, 0), expand=False)
    heads = ["", "held %", "target %"]
    heads += ["band ±%"] if width >= MIDDLE else []
    heads += ["", "gain"] if width >= WIDE else ["gain"]
    heads += ["forecast"] if width >= NARROW else []
    heads += ["mark"] if width >= WIDE else []
    for head in heads:
        table.add_column(justify="left" if head == "" else "right", no_wrap=True)
    table.add_row(*(Text(head, QUIET) for head in heads))
    top = max(_size(s, positions, targets) for s in symbols)
    forecasts = values.get("predictions", {})
    for symbol in shown:
        held, target = positions.get(symbol, {}), targets.get(symbol, {})
        table.add_row(
            *_book_row(names[symbol], held, target, forecasts.get(symbol, {}), width, top)
        )
    left = len(symbols) - len(shown)
    more = [Text(f"and {left} smaller", QUIET)] if left > 0 else []
    return [Rule(style=QUIET), table, *more]


def _size(symbol: str, positions: Values, targets: Values) -> float:
    held = number_of(positions.get(symbol, {}).get("weight")) or 0.0
    wanted = number_of(targets.get(symbol, {}).get("weight")) or 0.0
    return max(abs(held), abs(wanted))


def _place(symbol: str, positions: Values, targets: Values) -> tuple[float, float, str]:
    rank = number_of(targets.get(symbol, {}).get("rank"))
    weight = number_of(positions.get(symbol, {}).get("weight")) or 0.0
    return (1e9 if rank is None else rank, -weight, symbol)


def _book_row(
    name: str, held: Values, target: Values, forecast: Values, width: int, top: float
) -> list[Text]:
    weight, goal = number_of(held.get("weight")) or 0.0, number_of(target.get("weight"))
    band = number_of(target.get("band"))
    cells = [Text(name, "bold"), hundredths(weight, 2), hundredths(goal, 2)]
    if width >= MIDDLE:
        cells.append(Text(GAP if band is None else f"{100 * band:.2f}", QUIET))
    if width >= WIDE:
        cells.append(balance_bar(weight / top if top > 0 else 0.0, 8))
    cells.append(signed(number_of(held.get("gain")), ",.2f") if held else Text(GAP, QUIET))
    if width >= NARROW:
        cells.append(_forecast(target, forecast, width))
    if width >= WIDE:
        cells.append(Text(price(number_of(held.get("mark"))), QUIET))
    return cells


def _forecast(target: Values, forecast: Values, width: int) -> Text:
    """Show the alpha, and where there is room what each timeframe says, in 0.01 volatilities."""
    alpha = hundredths(number_of(target.get("alpha")), 1)
    if width < WIDE or not forecast:
        return alpha
    parts = [hundredths(number_of(one.get("mean")), 1) for one in forecast.values()]
    for part in parts:
        part.pad_left(FORECAST_CHARS - len(part))
    return Text.assemble(alpha, (" of ", QUIET), Text(" ").join(parts))


# ---- what happened -------------------------------------------------------------------------------


def _titled(name: str, lines: Sequence[Text]) -> list[RenderableType]:
    return [Rule(Text(name, QUIET), style=QUIET, align="left"), *lines] if lines else []


def _recent(values: Values, width: int, count: int) -> list[RenderableType]:
    """Show the newest decision, what is open, and the newest fills."""
    lines: list[Text] = []
    for decision in list(values.get("decisions", []))[:1]:
        orders = decision.get("orders") or []
        note = str(decision.get("note") or "")
        lines.append(
            Text.assemble(
                (f"{_when(decision.get('as_of'), width)} ", QUIET),
                f"#{decision.get('sequence', '')} {decision.get('kind', '')}, {len(orders)} orders",
                (f"  {note}" if width >= MIDDLE else "", QUIET),
                no_wrap=True,
                overflow="ellipsis",
            )
        )
    open_orders = list((values.get("orders", {}).get("open") or {}).values())
    lines += [_order_line(one, width) for one in open_orders[:2]]
    lines += [_fill_line(one, width) for one in list(values.get("fills", []))[:count]]
    return _titled("decision, orders, fills", lines)


def _when(at: object, width: int) -> str:
    text = str(at or "").removesuffix("Z")
    day, _, time = text.partition("T")
    return f"{day[5:]} {time}" if width >= MIDDLE else time[:5]


def _side(quantity: str) -> Text:
    sells = quantity.startswith("-")
    return Text("SELL" if sells else "BUY ", f"bold {SHORT if sells else LONG}")


def _order_line(order: Values, width: int) -> Text:
    quantity = str(order.get("quantity", ""))
    return Text.assemble(
        ("open  ", WARN),
        _side(quantity),
        f" {quantity.lstrip('-')} {short_symbol(str(order.get('symbol', '')))} ",
        (str(order.get("state", "")), QUIET),
        no_wrap=True,
        overflow="ellipsis",
    )


def _fill_line(fill: Values, width: int) -> Text:
    quantity = str(fill.get("quantity", ""))
    fee = f"  fee {amount(number_of(fill.get('fee')), 4)}" if width >= MIDDLE else ""
    name = short_symbol(str(fill.get("symbol", "")))
    return Text.assemble(
        (f"{_when(fill.get('at'), width)} ", QUIET),
        _side(quantity),
        f" {quantity.lstrip('-')} {name if width >= MIDDLE else name.partition('/')[0]}",
        f" at {price(number_of(fill.get('price')))}",
        (fee, QUIET),
        no_wrap=True,
        overflow="ellipsis",
    )


def _feed(venue: str, shown: Values, width: int) -> Text:
    worst, offset = number_of(shown.get("finality_p99_s")), number_of(shown.get("clock_offset_ms"))
    absent, broken = number_of(shown.get("absent_n")) or 0, number_of(shown.get("sockets_broken_n"))
    parts = [
        f"stream {percent(number_of(shown.get('stream_share')), 0)}",
        "" if worst is None else f"final in {worst:.1f} s",
        f"absent {absent:.0f}",
        f"broken {broken or 0:.0f}",
        "" if offset is None else f"clock {offset:+.0f} ms",
    ]
    well = not absent
    told = "  ".join(part for part in parts if part)
    mark = ("ok ", LONG) if well else ("!  ", f"bold {WARN}")
    return Text.assemble(
        mark,
        (f"{venue if width >= MIDDLE else ''} ", QUIET),
        told,
        no_wrap=True,
        overflow="ellipsis",
    )


def _alert_line(alert: Values, width: int) -> Text:
    kind = str(alert.get("kind", "")).replace("_", " ")
    return Text.assemble(
        (f"{_when(alert.get('at'), width)} ", QUIET),
        (f"! {kind} ", f"bold {WARN}"),
        str(alert.get("text", "")),
    )
