"""Let others read along what is logged: bounded in number and length, and without secrets.

At most LINES_PER_S entries a second pass, after a burst of LINES_BURST; the next one that does says
how many did not. Any thread may log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final, cast

from daemon.runtime.logs import scrub

LINES_PER_S: Final = 5.0
LINES_BURST: Final = 50.0
TEXT_CHARS_MAX: Final = 2_000
_OWN: Final = frozenset({"event", "level", "timestamp", "market_time"})

Hear = Callable[[Mapping[str, object]], None]


class LogTap(logging.Handler):
    """Hand every entry that passes to `hear`, on the loop's thread."""

    def __init__(
        self, hear: Hear, loop: asyncio.AbstractEventLoop, secrets: Collection[str] = ()
    ) -> None:
        super().__init__()
        self._hear = hear
        self._loop = loop
        self._scrub = scrub(secrets)
        self._left = LINES_BURST
        self._last_s = 0.0
        self._passed_over_n = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Take an entry; called under the handler's lock."""
        since_s = max(0.0, record.created - self._last_s)
        self._last_s = record.created
        self._left = min(LINES_BURST, self._left + LINES_PER_S * since_s)
        if self._left < 1.0:
            self._passed_over_n += 1
            return
        self._left -= 1.0
        try:
            values = {**self._values(record), "passed_over_n": self._passed_over_n}
            self._passed_over_n = 0
            self._loop.call_soon_threadsafe(self._hear, values)
        except (RuntimeError, TypeError, ValueError):
            return  # the loop is closed, or nobody could read it: the log itself has the entry

    def _values(self, record: logging.LogRecord) -> dict[str, object]:
        """Show an entry: ours have fields, those of libraries are text."""
        entry: dict[str, object] = (
            dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
        )
        clean = dict(cast(Mapping[str, object], self._scrub(None, record.levelname, entry)))
        rest = {k: v for k, v in clean.items() if k not in _OWN and not k.startswith("_")}
        text = " ".join(f"{name}={value}" for name, value in rest.items())
        at = datetime.fromtimestamp(record.created, UTC)
        return {
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "at_ms": round(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": str(clean.get("event", ""))[:TEXT_CHARS_MAX],
            "text": text[:TEXT_CHARS_MAX],
        }


@contextmanager
def log_tap(hear: Hear, secrets: Collection[str] = ()) -> Iterator[None]:
    """Read along in the running loop for as long as the context lasts."""
    tap = LogTap(hear, asyncio.get_running_loop(), secrets)
    root = logging.getLogger()
    root.addHandler(tap)
    try:
        yield
    finally:
        root.removeHandler(tap)
