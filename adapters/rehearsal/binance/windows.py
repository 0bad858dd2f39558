"""Pages of a record: limits and time windows of at most seven days, as queries name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from adapters.rehearsal.binance.refusals import error
from adapters.rehearsal.dialect import invalid_value, missing
from daemon.domain.units import DAY_MS

WINDOW_MS_MAX: Final = 7 * DAY_MS
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """Hold a time window, both ends inside; without a named start, its newest rows are meant."""

    start_ms: int
    end_ms: int
    newest: bool

    def holds(self, at_ms: int) -> bool:
        """Tell whether an instant lies inside."""
        return self.start_ms <= at_ms <= self.end_ms

    def page(self, rows: Sequence[T], limit: int, page: int = 1) -> list[T]:
        """Give a page of rows that lie inside, oldest first."""
        if self.newest and page == 1:
            return list(rows[-limit:])
        return list(rows[(page - 1) * limit : page * limit])


def window_of(query: Mapping[str, str], now_ms: int) -> Window:
    """Read a window; raise what the venue says to one of more than seven days."""
    start_ms, end_ms = whole(query, "startTime"), whole(query, "endTime")
    if start_ms is not None and end_ms is not None and not 0 <= end_ms - start_ms <= WINDOW_MS_MAX:
        raise error(-4165, "Invalid time interval. Maximum time interval is 7 days.")
    if start_ms is not None:
        return Window(start_ms, start_ms + WINDOW_MS_MAX if end_ms is None else end_ms, False)
    until_ms = now_ms if end_ms is None else end_ms
    return Window(until_ms - WINDOW_MS_MAX, until_ms, True)


def limit_of(query: Mapping[str, str], default: int, most: int) -> int:
    """Read how many rows are wanted."""
    found = whole(query, "limit")
    if found is not None and found < 1:
        raise invalid_value("limit")
    return min(found or default, most)


def whole(query: Mapping[str, str], name: str) -> int | None:
    """Read a whole number that is not negative, None where it is not sent."""
    text = query.get(name)
    if text is None or text == "":
        return None
    if not text.isascii() or not text.isdigit():
        raise missing(name)
    return int(text)
