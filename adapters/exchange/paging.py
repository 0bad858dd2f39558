"""Read all rows of a span from a venue that answers in pages, whatever rule its pages follow.

Some venues answer the next rows from an instant on. Others answer those of a window of as many
rows as asked for, and of a window that holds more than they give at once only the newest: such an
answer begins later than asked, and an empty one says nothing of what lies behind its window. What
an answer left out is asked for again, and an empty one is believed when it came twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from daemon.domain.units import require

PAGE_BARS: Final = 1000
ROWS_UNKNOWN: Final = 100  # what every venue that anybody trades at gives at once
ROWS_LEARNT_MIN: Final = 50  # a shorter answer was cut by chance, not by a limit
# ccxt states for these the usual page of the venue, not the largest
_ROWS: Final = {"binance": 1000, "binanceusdm": 1000, "binancecoinm": 1000}
_ROWS_INTEREST: Final = {"binance": 500, "binanceusdm": 500, "bybit": 200}
# asked from an instant on, these answer the next rows however far away: an empty answer is the end
ONWARD: Final = frozenset({"binance", "binanceusdm"})

Row = TypeVar("Row")
Ask = Callable[[int, int, int], Awaitable[Iterable[tuple[int, Row]]]]
"""Ask for rows with start <= time < end, at most so many: `(start_ms, end_ms, rows)`."""


@dataclass(slots=True)
class Window:
    """Say how a venue answers: rows at once, and whether it looks beyond a window of as many.

    rows_max shrinks when the venue proves to give fewer.
    """

    rows_max: int
    onward: bool = False


class _Part(NamedTuple):
    """Hold a part of a span to ask for; seen: an answer already held nothing of it.

    late_n: rows of the answer that left this part out, 0 where none did.
    """

    start_ms: int
    end_ms: int
    seen: bool = False
    late_n: int = 0


def window_of(api: Any, exchange: str, price: str = "") -> Window:
    """Give the rule by which a venue answers bars; price: `mark` or `index` for such candles."""
    rows = _ROWS.get(exchange) or _stated_rows(api, "fetchOHLCV", price) or ROWS_UNKNOWN
    return Window(min(rows, PAGE_BARS), exchange in ONWARD)


def window_of_interest(api: Any, exchange: str) -> Window:
    """Give the rule by which a venue answers the history of open interest."""
    stated = _stated_rows(api, "fetchOpenInterestHistory", "")
    return Window(min(stated or _ROWS_INTEREST.get(exchange, ROWS_UNKNOWN), PAGE_BARS))


def _stated_rows(api: Any, method: str, price: str) -> int | None:
    """Read what ccxt says of the largest page of a method for linear perpetuals."""
    found = getattr(api, "features", None)
    for name in ("swap", "linear", method):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        return None
    rows = found.get(price) or found.get("limit")
    return int(rows) if isinstance(rows, int | float) and rows >= 1 else None


async def whole_span(
    ask: Ask[Row],
    start_ms: int,
    end_ms: int,
    step_ms: int,
    window: Window,
    *,
    apart_ms: int | None = None,
    nearest_ms: int | None = None,
) -> dict[int, Row]:
    """Read all rows with start <= time < end, by time; raises what `ask` raises.

    step_ms: the usual distance of two rows, by which windows are reckoned. apart_ms: how far apart
    two rows may lie without one between them, nearest_ms: how near (`step_ms` where not given).
    """
    require(step_ms > 0, f"step {step_ms} ms: must be positive")
    apart, nearest = apart_ms or step_ms, nearest_ms or step_ms
    found: dict[int, Row] = {}
    parts = [_Part(start_ms, end_ms)]
    while parts:
        part = parts.pop()
        if part.start_ms >= part.end_ms:
            continue
        rows_n = min(-(-(part.end_ms - part.start_ms) // step_ms), window.rows_max)
        covered_ms = part.start_ms + rows_n * step_ms
        answer = await ask(part.start_ms, min(covered_ms, part.end_ms), rows_n)
        page = {at: row for at, row in answer if at >= part.start_ms}
        inside = {at: row for at, row in page.items() if at < part.end_ms}
        found |= inside
        if inside:
            if part.late_n and not window.onward:
                window.rows_max = min(window.rows_max, max(part.late_n, ROWS_LEARNT_MIN))
            is_cut = not window.onward and len(page) >= window.rows_max
            late_from = nearest if is_cut else apart
            parts += _left_out(part, page, max(inside) + nearest, covered_ms, late_from)
        elif not part.seen:
            parts.append(part._replace(seen=True))
        elif not page and not window.onward:
            parts.append(_Part(covered_ms, part.end_ms))
    return dict(sorted(found.items()))


def _left_out(
    part: _Part, page: dict[int, Any], next_ms: int, covered_ms: int, late_from_ms: int
) -> list[_Part]:
    """Give what an answer with rows of a part leaves to be asked, the next to ask last."""
    left = []
    if max(page) < part.end_ms:
        # what the same answer covered without holding it counts as seen
        left.append(_Part(next_ms, part.end_ms, part.end_ms <= covered_ms))
    first_ms = min(page)
    if first_ms - part.start_ms >= late_from_ms:
        left.append(_Part(part.start_ms, first_ms, seen=True, late_n=len(page)))
    return left
