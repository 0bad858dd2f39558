"""Trade a day and a bit with telemetry around it, and hold the decisions against a run without."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from daemon.domain.messages import Command, Decided, Event, Submit
from daemon.engine.engine import Engine
from daemon.wiring import sinks
from daemon.wiring.rehearsal import rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from tests.e2e.line import SMALL, STOP_S_MAX, settings_of

DECISIONS: Final = 30
ORDERS_MIN: Final = 100
PUBLISH_S_MAX: Final = 0.25  # a call that waited for a server would take the call's time-out
LAG_P99_S_MAX: Final = 0.5
LOOK_S: Final = 0.02
Fates = Mapping[int, Callable[[], None]]
Digests = list[tuple[int, str]]


@dataclass
class Watched:
    """Collect the digests of a run and let its fates strike after given decisions."""

    fates: Fates
    digests: Digests = field(default_factory=list)
    orders_n: int = 0
    lags_s: list[float] = field(default_factory=list)  # how late the loop came, look by look
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    slowest_s: float = 0.0
    stopped_at_s: float = 0.0
    closing_s: float = 0.0

    def __call__(self, event: Event, commands: Sequence[Command], engine: Engine) -> None:
        for command in commands:
            self.orders_n += isinstance(command, Submit)
            if isinstance(command, Decided):
                self.digests.append((command.decision.as_of_ms, command.decision.digest))
                self.fates.get(len(self.digests), lambda: None)()
        if len(self.digests) >= DECISIONS and not self.stop.is_set():
            self.stopped_at_s = time.perf_counter()
            self.stop.set()

    async def look(self) -> None:
        """Note how late the loop comes, until cancelled."""
        while True:
            due_s = time.perf_counter() + LOOK_S
            await asyncio.sleep(LOOK_S)
            self.lags_s.append(max(0.0, time.perf_counter() - due_s))

    @property
    def lag_p99_s(self) -> float:
        """Give the lateness that one look in a hundred exceeds."""
        return sorted(self.lags_s)[int(0.99 * len(self.lags_s))]


async def trade(
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
    fates: Fates,
    *overrides: str,
    on_page: Callable[[str], None] = lambda address: None,
) -> Watched:
    """Trade a day and a bit on the seeded market, and time every publication."""
    watched = Watched(fates)
    secret = state.parent / "control.secret"  # commands are listened for as well
    secret.write_text("of no use to anybody", encoding="utf-8")
    overrides = (*overrides, f"control.secret_file={secret}")
    plain = sinks.Publisher.__call__

    def timed(
        self: sinks.Publisher, event: Event, commands: Sequence[Command], engine: Engine
    ) -> None:
        before_s = time.perf_counter()
        plain(self, event, commands, engine)
        watched.slowest_s = max(watched.slowest_s, time.perf_counter() - before_s)

    with monkeypatch.context() as patch:
        patch.setattr(sinks.Publisher, "__call__", timed)
        with rehearsal_exchange(settings_of(state, *SMALL, *overrides)) as rehearsal:
            hooks = SessionHooks(observers=(watched,), on_page=on_page)
            async with paper_session(rehearsal.settings, hooks) as shell:
                looking = asyncio.create_task(watched.look())
                await shell.run(watched.stop)
                looking.cancel()
                with suppress(asyncio.CancelledError):
                    await looking
            watched.closing_s = time.perf_counter() - watched.stopped_at_s
    watched.digests = watched.digests[:DECISIONS]
    return watched


def undisturbed(folder: Path) -> Digests:
    """Give the digests of the run that shows its status nowhere."""
    with pytest.MonkeyPatch.context() as patch:
        quiet = ("redis.enabled=false", "web.enabled=false")
        done = asyncio.run(trade(folder / "state", patch, {}, *quiet))
    assert len(done.digests) == DECISIONS
    return done.digests


def check(watched: Watched, reference: Digests) -> None:
    """Hold a run with telemetry against the one without."""
    assert watched.digests == reference
    assert watched.orders_n > ORDERS_MIN
    assert watched.slowest_s < PUBLISH_S_MAX
    assert watched.lag_p99_s < LAG_P99_S_MAX
    assert watched.closing_s < STOP_S_MAX
