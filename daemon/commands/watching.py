"""What a running session prints: the event stream for people, or one JSON object a line.

A rehearsal decides many times a second, so the whole table is shown at most every few seconds of
wall time and the decisions between get a line each. Nothing is printed that did not happen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from daemon.commands.options import print_json
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.messages import Alert, Command, Decided, Event, OrderFilled, Started
from daemon.domain.order import Fill
from daemon.domain.units import DAY_MS, iso
from daemon.engine.engine import Engine
from daemon.ports import Warmup
from daemon.report.figures import QUIET
from daemon.report.terminal import (
    alert_line,
    decision_line,
    decision_view,
    equity_line,
    fill_line,
)
from daemon.status.codec import plain
from daemon.status.values import alert_values, decision_values, fill_values
from daemon.wiring.timing import wall_seconds

TABLE_EVERY_S: Final = 2.0
FILLS_SHOWN: Final = 12  # below one table
FILLS_KEPT: Final = 1_000


class Watcher:
    """Observe a session and print it; a StopAfter for runs that end by themselves."""

    def __init__(
        self, console: Console, *, as_json: bool, quiet: bool = False, days: float = 0.0
    ) -> None:
        self._console = console
        self._as_json = as_json
        self._quiet = quiet
        self._days = days
        self._stop: asyncio.Event | None = None
        self._start_equity: float | None = None
        self._start_ms: int | None = None
        self._table_at_s = -TABLE_EVERY_S
        self._in_full_until_ms = 0  # fills before this belong to the table on the screen
        self._day = 0
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._engine: Engine | None = None
        self._decisions = self._orders = 0
        self._last_note = ""
        self._fills: deque[Fill] = deque(maxlen=FILLS_KEPT)  # since the last decision
        self._absent = 0  # source bars that decisions had to do without

    def stops(self, stop: asyncio.Event) -> None:
        """Take the event that ends the session."""
        self._stop = stop

    def on_warmup(self, warmup: Warmup) -> None:
        """Show how far the history before the first decision has come."""
        if self._as_json:
            return
        if self._progress is None:
            columns = (
                TextColumn("warm-up {task.description:>16}"),
                BarColumn(),
                MofNCompleteColumn(),
            )
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()
        if warmup.symbol not in self._tasks:
            task = self._progress.add_task(warmup.symbol, total=warmup.bars_wanted)
            self._tasks[warmup.symbol] = task
        self._progress.update(self._tasks[warmup.symbol], completed=warmup.bars)

    def on_ready(self, engine: Engine) -> None:
        """Say what is going to be traded."""
        self._engine = engine
        if not self._as_json:
            taken = engine.universe.taken()
            names = ", ".join(symbol.partition("/")[0] for _, symbol in taken)
            free_n = len(engine.universe) - len(taken)
            spare = f" and {free_n} spare" if free_n else ""
            self._console.print(f"{engine.strategy.name} on {len(taken)}: {names}{spare}")

    def on_page(self, address: str) -> None:
        """Say where the status page is."""
        if self._as_json:
            print_json({"type": "page", "address": address})
        else:
            self._console.print(f"status page: {address}", markup=False)

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Print what one event and its commands did."""
        if isinstance(event, Started) and not event.warming:
            self._began(event)
        if isinstance(event, OrderFilled):
            self._fill(event.fill)
        for command in commands:
            if isinstance(command, Decided):
                self._decision(command.decision, engine)
            elif isinstance(command, Alert):
                self._alert(command)

    def finish(self) -> None:
        """Print where the book stands at the end."""
        self._end_progress()
        engine = self._engine
        if engine is None:
            return
        book = engine.state.book
        if self._as_json:
            print_json(
                {
                    "type": "stopped",
                    "market_time": iso(engine.state.instant_ms),
                    "equity": book.equity,
                    "decisions": self._decisions,
                    "fills": book.ledger.fills,
                    "net_weight_worst": book.net_weight_worst,
                    "bars_absent": self._absent,
                }
            )
        elif book.equity > 0:
            start = self._start_equity or book.equity
            self._line(
                equity_line(engine.state.instant_ms, book.equity, start, book.net / book.equity)
            )
            self._console.print(
                f"  stopped after {self._decisions:,} decisions, {book.ledger.fills:,} fills in "
                f"all, {self._absent} bars absent at decisions;\n"
                f"  worst |net| after a fill {book.net_weight_worst:.2%} of equity"
            )
            if self._decisions and not self._orders and self._last_note:
                self._console.print(
                    f"  no order was placed; the last decision says: {self._last_note}",
                    style="yellow",
                )

    def _began(self, event: Started) -> None:
        self._end_progress()
        self._start_ms = event.at_ms
        if not self._as_json:
            self._console.print(
                f"trading from {iso(event.at_ms)}; Ctrl-C stops, a new start resumes"
            )

    def _end_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _decision(self, decision: Decision, engine: Engine) -> None:
        self._decisions += 1
        self._orders += len(decision.orders)
        self._last_note = decision.note
        self._absent += len(decision.absent)
        if self._start_equity is None:
            self._start_equity = decision.equity
        if self._as_json:
            values = decision_values(decision, engine.universe.symbols)
            print_json({"type": "decision", **plain(values)})
        else:
            self._show(decision, engine)
        self._fills.clear()
        ended = self._start_ms is not None and self._days > 0
        if ended and decision.as_of_ms - (self._start_ms or 0) >= self._days * DAY_MS:
            self._end()

    def market_over(self) -> None:
        """End a session whose market has ended, and say so."""
        if not self._as_json:
            self._console.print("the recorded market is over")
        self._end()

    def _end(self) -> None:
        if self._stop is not None:
            self._stop.set()

    def _show(self, decision: Decision, engine: Engine) -> None:
        now_s = wall_seconds()
        day = decision.as_of_ms // DAY_MS
        if decision.kind is DecisionKind.WARMING or (self._quiet and day == self._day):
            return
        self._day = day
        if not self._quiet and now_s - self._table_at_s >= TABLE_EVERY_S:
            self._table_at_s = now_s
            self._in_full_until_ms = engine.rules.cadence.decision.next_close(decision.as_of_ms)
            symbols = engine.universe.symbols
            self._console.print(decision_view(decision, symbols, start_equity=self._start_equity))
            self._show_fills([f for f in self._fills if f.at_ms >= decision.as_of_ms])
        else:
            self._line(decision_line(decision, start_equity=self._start_equity))

    def _line(self, text: Text) -> None:
        """Print one line: cut at the edge of a terminal, whole where it goes to a file."""
        if self._console.is_terminal:
            self._console.print(text, no_wrap=True, overflow="ellipsis")
        else:
            self._console.print(text, soft_wrap=True)

    def _fill(self, fill: Fill) -> None:
        if self._as_json:
            print_json({"type": "fill", **plain(fill_values(fill))})
        elif fill.at_ms < self._in_full_until_ms:
            self._line(fill_line(fill))
        else:
            self._fills.append(fill)

    def _show_fills(self, fills: Sequence[Fill]) -> None:
        """Print what a decision's orders came to; most are filled before its record is closed."""
        for fill in fills[:FILLS_SHOWN]:
            self._line(fill_line(fill))
        if len(fills) > FILLS_SHOWN:
            self._console.print(f"  and {len(fills) - FILLS_SHOWN} more fills", style=QUIET)

    def _alert(self, alert: Alert) -> None:
        if self._as_json:
            print_json({"type": "alert", **plain(alert_values(alert))})
        else:  # in quiet runs too: at the usual log level nobody else tells it
            self._console.print(alert_line(alert))
