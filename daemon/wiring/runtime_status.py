"""The topic `runtime`: how the process itself does, told by the clock and not by the market.

It is measured every few seconds beside trading. It never waits for the engine, so that it goes on
telling while everything else stands still; the ages in it are what an alarm can look at. It also
raises what only a clock can see: a close without a decision.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import structlog

from adapters.clocks import TransportClock
from adapters.process_gauge import disk_values, process_values
from daemon.domain.decision import DecisionKind
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import (
    Alert,
    AlertKind,
    Command,
    Decided,
    EstimatesMissing,
    Event,
    OrderRejected,
    OrderUncertain,
    Submit,
)
from daemon.domain.order import RefusalReason
from daemon.domain.units import iso
from daemon.engine.engine import Engine
from daemon.engine.limits import RiskLimits
from daemon.ports import Clock
from daemon.runtime.decision_watch import DecisionWatch
from daemon.runtime.lag import LoopLag
from daemon.runtime.live import LiveShell
from daemon.settings import Settings

EVERY_S: Final = 2.0
DISK_LOW_BYTES: Final = 1 << 30  # a week of journal and more; the log of a full disk is no help
LAG_HIGH_S: Final = 1.0
SINK_AWAY_S: Final = 120.0
_LIMITS: Final = (
    "gross_weight_max",
    "net_weight_max",
    "beta_weight_max",
    "day_loss_max",
    "drawdown_max",
)

_COUNTED: Final[Mapping[str, Iterable[str]]] = {
    "decisions": DecisionKind,
    "orders": ("submitted", "rejected", "uncertain"),
    "refusals": RefusalReason,
    "alerts": AlertKind,
}

Raise = Callable[[Alert, str, bool], None]
"""Take an alert, what it is about, and whether it tells an end."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what may be looked at beside trading; speed: market time per wall time.

    shells: the one that runs, none before it is made.
    """

    engine: Engine
    clock: Clock
    shells: Sequence[LiveShell]
    speed: float = 1.0

    @property
    def queued_n(self) -> int:
        """Count the events that wait for the engine."""
        return sum(shell.queued_n for shell in self.shells)


class Tally:
    """Count what happened since the process began; every count only grows."""

    def __init__(self, engine: Engine) -> None:
        ledger = engine.state.book.ledger
        self._fills_before, self._turnover_before = ledger.fills, ledger.turnover
        self._ledger = ledger
        # from zero on, for an alarm cannot see the rise of what appears with its first count
        self._n: dict[str, Counter[str]] = {
            name: Counter(dict.fromkeys(map(str, members), 0)) for name, members in _COUNTED.items()
        }
        self.events_n = self.estimates_missing_n = 0
        self.high_equity = 0.0  # of closes since the process began

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Count one event and what it caused."""
        self.events_n += 1
        self._ledger = engine.state.book.ledger
        match event:
            case OrderRejected():
                self._n["orders"]["rejected"] += 1
            case OrderUncertain():
                self._n["orders"]["uncertain"] += 1
            case EstimatesMissing():
                self.estimates_missing_n += 1
            case _:
                pass
        for command in commands:
            self._count(command)

    def _count(self, command: Command) -> None:
        match command:
            case Submit():
                self._n["orders"]["submitted"] += 1
            case Decided(decision=decision):
                self._n["decisions"][str(decision.kind)] += 1
                for refusal in decision.refusals:
                    self._n["refusals"][str(refusal.reason)] += 1
            case Alert(kind=kind):
                self.alert(kind)
            case _:
                return

    def alert(self, kind: AlertKind) -> None:
        """Count an alert that did not come from the engine."""
        self._n["alerts"][str(kind)] += 1

    def values(self) -> dict[str, Any]:
        """Give the counts by name."""
        return {
            **{name: dict(counts) for name, counts in self._n.items()},
            "events": self.events_n,
            "estimates_missing": self.estimates_missing_n,
            "fills": self._ledger.fills - self._fills_before,
            "turnover": self._ledger.turnover - self._turnover_before,
        }


class RuntimeStatus:
    """Measure, publish and watch, every few seconds until cancelled; nothing here may fail a run.

    shown: what each sink tells of itself, by name.
    """

    def __init__(
        self,
        settings: Settings,
        seen: Seen,
        facts: Mapping[str, object],
        shown: Mapping[str, Callable[[], Mapping[str, object]]],
        publish: Callable[[str, Mapping[str, object]], None],
        alert: Raise,
    ) -> None:
        self._settings = settings
        self._seen = seen
        self._facts = {"version": version("equipoise"), "run": settings.run.run_name, **facts}
        self._shown = shown
        self._publish = publish
        self._alert = alert
        self._transport = TransportClock()
        self._started_ms = self._transport.wall_ms()
        self._started_s = self._transport.monotonic()
        self._lag = LoopLag()
        self._process: dict[str, object] = {}
        self.tally = Tally(seen.engine)
        patience_ms = round(settings.notify.no_decision_s * 1000 * seen.speed)
        deadline_ms = seen.engine.rules.cadence.deadline_ms
        decision = seen.engine.rules.cadence.decision
        self.watch = DecisionWatch(decision, patience_ms + deadline_ms, seen.clock.now())
        self._short: dict[str, str] = {}
        self._away_since_s: dict[str, float] = {}

    def observe(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        """Be an observer of the shell."""
        self.tally(event, commands, engine)
        # not by `Decided`: a decision's record is handed out once its last slice is
        if decided := engine.state.decided:
            self.watch.decided(decided[-1])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Measure in the background for as long as the context lasts."""
        tasks = [
            asyncio.create_task(self._lag.watch(), name="loop lag"),
            asyncio.create_task(self._keep(), name="runtime status"),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        told = False
        while True:
            try:
                self._look()
                await self._measure()
                values = self.values()
                self._publish("runtime", values)
                self._judge(values)
                told = False
            except Exception as failure:  # noqa: BLE001  a display: it must not stop trading
                if not told:
                    log.warning(LogEvent.RUNTIME_NOT_SHOWN, why=repr(failure))
                told = True
            await asyncio.sleep(EVERY_S)

    async def _measure(self) -> None:
        """Measure in a thread, because a disk may hang; the last values stay until it answers."""
        folder = self._settings.run.state_folder
        disk = await asyncio.to_thread(disk_values, folder)
        self._process = {**process_values(), **disk}

    def _look(self) -> None:
        """Raise what no event tells of; before anything that may hang."""
        missed_ms = self.watch.missed(self._seen.clock.now())
        if missed_ms is not None:
            state = self._seen.engine.state
            text = f"none was made at {iso(missed_ms)}: trading state {state.trading}, work on "
            text += f"{iso(state.instant_ms)} is {state.phase}, {self._seen.queued_n} events wait"
            self._raise(Alert(AlertKind.NO_DECISION, missed_ms, text), "decision")

    def _judge(self, values: Mapping[str, Any]) -> None:
        """Raise what the process lacks when that begins, and tell when it ends."""
        found = shortages(values)
        for subject in sorted(found.keys() | self._short.keys()):
            if (subject in found) != (subject in self._short):
                text = found.get(subject, f"{subject} is well again")
                alert = Alert(AlertKind.RUNTIME, self._seen.clock.now(), text)
                self._raise(alert, subject, over=subject not in found)
        self._short = found

    def _raise(self, alert: Alert, subject: str, *, over: bool = False) -> None:
        """Tell people what the engine knows nothing of."""
        self.tally.alert(alert.kind)
        log.warning(LogEvent.ALERT_RAISED, kind=str(alert.kind), text=alert.text)
        self._alert(alert, subject, over)

    def values(self) -> dict[str, Any]:
        """Give the topic; ages are as of `at_ms`, and what is not known is left out or None."""
        transport = self._transport
        shown: dict[str, Any] = {
            **self._facts,
            "at_ms": transport.wall_ms(),
            "started_ms": self._started_ms,
            "uptime_s": transport.monotonic() - self._started_s,
            **self._process,
            "queue_n": self._seen.queued_n,
            "sinks": self._sinks(),
            "counts": self.tally.values(),
            "decisions_missed_n": self.watch.missed_n,
            **self._book(),
        }
        if (lag := self._lag.quantiles()) is not None:
            names = ("loop_lag_p50_s", "loop_lag_p99_s", "loop_lag_max_s")
            shown |= dict(zip(names, lag, strict=True))
        return shown

    def _sinks(self) -> dict[str, dict[str, object]]:
        """Give what each sink tells of itself, and for how long it has been away."""
        now_s, found = self._transport.monotonic(), dict[str, dict[str, object]]()
        for name, shown in self._shown.items():
            values = dict(shown())
            if values.get("connected"):
                self._away_since_s[name] = now_s
            away_s = now_s - self._away_since_s.setdefault(name, now_s)
            found[name] = {**values, "away_s": away_s}
        return found

    def _book(self) -> dict[str, Any]:
        """Give what the engine's state tells of time, losses, orders and limits."""
        engine, now_ms = self._seen.engine, self._seen.clock.now()
        state, cadence = engine.state, engine.rules.cadence
        equity = state.book.equity
        if state.instant_ms:
            self.tally.high_equity = max(self.tally.high_equity, equity)
        high = state.high_equity or self.tally.high_equity
        decided_ms = self.watch.decided_ms
        next_ms = cadence.decision.next_close(now_ms)
        seen_ms = int(state.seen.max()) if state.seen.size else 0
        orders = Counter(type(one.state).__name__.lower() for one in state.orders.open.values())
        return {
            "market_time_ms": now_ms,
            "trading_state": str(state.trading),
            "paused": state.paused,
            "holds": sorted(state.holds),
            "decision_ms": decided_ms,
            "decision_age_s": None if decided_ms is None else (now_ms - decided_ms) / 1000,
            "decision_every_s": cadence.decision.ms / 1000,
            "next_decision_ms": next_ms,
            "next_decision_s": (next_ms - now_ms) / 1000,
            "bars_ms": seen_ms or None,
            "bars_age_s": (now_ms - seen_ms) / 1000 if seen_ms else None,
            "bars_every_s": cadence.source.ms / 1000,
            "forecasts": {
                timeframe.label: {
                    "as_of_ms": one.as_of_ms,
                    "age_s": (now_ms - one.as_of_ms) / 1000,
                    "model": one.model_id,
                }
                for timeframe, one in state.newest.items()
            },
            "stale_decisions_n": state.stale_decisions,
            "series_silent_n": len(state.silent),
            "covariance_fallback": None
            if state.covariance is None
            else bool(state.covariance.note),
            "orders": {name: orders.get(name, 0) for name in ("inflight", "resting", "uncertain")},
            "equity_high": high or None,
            "drawdown": max(0.0, 1 - equity / high) if high > 0 else None,
            "limits": limits_values(engine.rules.limits),
        }


def shortages(values: Mapping[str, Any]) -> dict[str, str]:
    """Name by subject what the process lacks, in words; values: the topic `runtime`."""
    found: dict[str, str] = {}
    free, lag_s = values.get("disk_free_bytes"), values.get("loop_lag_p99_s")
    if free is not None and free < DISK_LOW_BYTES:
        found["disk"] = f"{free / 1e6:.0f} MB are free for the journal; below that it cannot write"
    if lag_s is not None and lag_s > LAG_HIGH_S:
        found["event loop"] = f"the event loop was {lag_s:.1f} s late in one of a hundred looks"
    for name, sink in values.get("sinks", {}).items():
        if sink.get("away_s", 0.0) > SINK_AWAY_S:
            found[f"sink {name}"] = f"{name} has taken nothing for {sink['away_s']:.0f} s"
    return found


def limits_values(limits: RiskLimits) -> dict[str, float]:
    """Give the bounds that an alarm compares with; those that are off are left out."""
    found = ((name, getattr(limits, name)) for name in _LIMITS)
    return {name: float(limit) for name, limit in found if limit is not None}
