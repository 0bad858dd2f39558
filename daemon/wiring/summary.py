"""The summary of a day: computed from the journal, told once when the day's last bar is decided on.

The one who tells reads the same file as `equipoise summary`, in a thread, so both say the same. A
fill that a venue reports after the first decision of the next day is in the latter only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import structlog

from adapters.journal import JournalReader
from daemon.domain.failures import DataError, JournalError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Alert, AlertKind, Command, Decided, Event
from daemon.domain.units import DAY_MS, iso
from daemon.engine.engine import Engine
from daemon.report.daily import Day, day_of, day_values, day_words

BEFORE_MS: Final = DAY_MS  # orders and covariances this much older may still count
FAREWELL_S_MAX: Final = 1.0

log = structlog.get_logger()
Tell = Callable[[dict[str, object], Alert], None]


def day_summary(journal: Path, start_ms: int, *, until_ms: int | None = None) -> dict[str, object]:
    """Summarise the day that begins at `start_ms`.

    until_ms: the decision that closed it, for who tells it while trading goes on.
    Raises DataError for a day without a decision, JournalError for a file that cannot be read.
    """
    reader, end_ms = JournalReader(journal), start_ms + DAY_MS
    decisions = list(reader.decisions(start_ms, end_ms))
    if not decisions:
        raise DataError(f"{journal}: no decision on {iso(start_ms)[:10]}")
    closes_ms = until_ms if until_ms is not None else reader.decided_next(end_ms)
    closing = None
    if closes_ms is not None:
        closing = next(iter(reader.decisions(closes_ms, closes_ms + 1)), None)
    earlier = list(reader.decisions(start_ms - BEFORE_MS, start_ms))
    estimates = reader.estimates(start_ms - BEFORE_MS, (closes_ms or end_ms) + 1)
    return day_values(
        Day(
            start_ms=start_ms,
            decisions=decisions,
            closing=closing,
            orders=[order for d in (*earlier, *decisions) for order in d.orders],
            fills=list(reader.fills(start_ms, end_ms)),
            funding=list(reader.funding(start_ms, end_ms)),
            transfers=list(reader.transfers(start_ms, (closes_ms or end_ms) + 1)),
            covariances=[e.covariance for e in estimates if e.covariance is not None],
        )
    )


def newest_day(journal: Path) -> int:
    """Give the first instant of the newest whole day, else of the newest; DataError for none."""
    reader = JournalReader(journal)
    last_ms = reader.decided_before()
    if last_ms is None:
        raise DataError(f"{journal}: no decision was taken yet")
    whole_ms = reader.decided_before(day_of(last_ms))
    return day_of(last_ms if whole_ms is None else whole_ms)


class DayTeller:
    """Observe a session; at the first decision of a day, tell what the last one brought."""

    def __init__(self, journal: Path, tell: Tell) -> None:
        self._journal = journal
        self._tell = tell
        self._day: int | None = None  # of the newest decision; None before the first
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Note a decision; what follows from it happens in the background."""
        for command in commands:
            if isinstance(command, Decided):
                at_ms = command.decision.as_of_ms
                if day_of(at_ms) != self._day:
                    self._day = day_of(at_ms)
                    task = asyncio.create_task(self._told(at_ms), name="summary of a day")
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Give what is being summed up a moment at the end."""
        try:
            yield
        finally:
            if self._tasks:
                await asyncio.wait(tuple(self._tasks), timeout=FAREWELL_S_MAX)
            for task in tuple(self._tasks):
                task.cancel()

    async def _told(self, at_ms: int) -> None:
        try:
            values = await asyncio.to_thread(self._summed_up, at_ms)
        except (JournalError, DataError, OSError) as e:
            log.warning(LogEvent.DAY_NOT_SUMMED_UP, until=iso(at_ms), why=str(e))
            return
        if values is not None:
            self._tell(values, Alert(AlertKind.DAILY, at_ms, day_words(values)))

    def _summed_up(self, at_ms: int) -> dict[str, object] | None:
        """Give the last day with decisions before this one; None when it is this very day."""
        before_ms = JournalReader(self._journal).decided_before(at_ms)
        if before_ms is None or day_of(before_ms) == day_of(at_ms):
            return None
        return day_summary(self._journal, day_of(before_ms), until_ms=at_ms)
