"""Write numbers for the terminal: one look for weights, amounts, prices, gaps and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rich.text import Text

GAP: Final = "·"  # not known; never to be read as zero
UNDEFINED: Final = "\N{EN DASH}"  # has no value in this run; always said why
LONG, SHORT, QUIET, WARN = "green", "red", "dim", "yellow"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


def number_of(value: object) -> float | None:
    """Read a number from a status field; None for a gap or for anything that is no number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def amount(value: float | None, places: int = 2) -> str:
    """Write an amount of quote currency: `10,012.34`."""
    return GAP if value is None or not math.isfinite(value) else f"{value:,.{places}f}"


def price(value: float | None) -> str:
    """Write a price with five significant digits or cents: `0.00002310`, `101.23`, `64,250.10`."""
    if value is None or not math.isfinite(value) or value <= 0:
        return GAP
    places = min(8, max(2, 4 - math.floor(math.log10(value))))
    return f"{value:,.{places}f}"


def percent(value: float | None, places: int = 1) -> str:
    """Write a share without its sign: `98.7 %`."""
    return GAP if value is None or not math.isfinite(value) else f"{100 * value:.{places}f} %"


def signed(value: float | None, spec: str = ".3f") -> Text:
    """Write a signed number, green above and red below zero, dim at zero."""
    if value is None or not math.isfinite(value):
        return Text(GAP, QUIET)
    text = f"{value:+{spec}}"
    is_zero = not any(c in "123456789" for c in text)
    if is_zero:
        return Text(text.lstrip("+-"), QUIET)
    return Text(text, LONG if value > 0 else SHORT)


def hundredths(value: float | None, places: int = 1) -> Text:
    """Write a signed share in percent, where a heading says so: `+8.3`."""
    return signed(None if value is None else 100 * value, f".{places}f")


def signed_percent(value: float | None, places: int = 1) -> Text:
    """Write a signed share: `+8.3 %`."""
    text = hundredths(value, places)
    return text if text.plain == GAP else text.append(" %")


def bar(share: float | None, width: int, style: str = "cyan") -> Text:
    """Draw a bar of `share` (0 to 1) of `width` characters, in eighths."""
    if share is None or not math.isfinite(share):
        return Text(" " * width)
    eighths = round(8 * width * min(max(share, 0.0), 1.0))
    full, rest = divmod(eighths, 8)
    text = "█" * full + (_EIGHTHS[rest] if rest else "")
    return Text(text.ljust(width), style)


def balance_bar(share: float | None, half_width: int) -> Text:
    """Draw a bar that grows to the right above and to the left below zero; share: -1 to 1."""
    if share is None or not math.isfinite(share):
        return Text(" " * half_width + "│" + " " * half_width, QUIET)
    cells = round(half_width * min(abs(share), 1.0))
    cells = max(cells, 1) if share else 0
    left = ("█" * cells if share < 0 else "").rjust(half_width)
    right = ("█" * cells if share > 0 else "").ljust(half_width)
    return Text.assemble((left, SHORT), ("│", QUIET), (right, LONG))


def short_symbol(symbol: str) -> str:
    """Leave away the settlement currency where it is the quote: `BTC/USDT`."""
    pair, _, settle = symbol.partition(":")
    return pair if pair.endswith(f"/{settle}") else symbol


def names_of(symbols: Sequence[str]) -> list[str]:
    """Give the shortest names that tell instruments apart: bases where all else is the same."""
    bases = [symbol.partition("/")[0] for symbol in symbols]
    same_rest = len({symbol.partition("/")[2] for symbol in symbols}) <= 1
    return (
        bases if same_rest and len(set(bases)) == len(bases) else list(map(short_symbol, symbols))
    )


def clock(iso_text: str) -> str:
    """Write an ISO instant for people: `2026-01-31 13:30 UTC`, seconds where there are any."""
    day, _, rest = iso_text.partition("T")
    time = rest.removesuffix("Z")
    time = time.removesuffix(":00") if time.count(":") == 2 else time
    return f"{day} {time} UTC" if time else iso_text


def counted(number: int, noun: str) -> str:
    """Write a count with its noun: 1 trial, 1,200 trials."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
