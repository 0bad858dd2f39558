"""Observers cannot stop trading: one that fails is told once and heard no more.

One exception is deliberate: a closed pipe ends the command, as it ends every command.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from daemon.domain.log_events import LogEvent
from daemon.domain.messages import Command, Event
from daemon.engine.engine import Engine
from daemon.runtime.live import Observer

log = structlog.get_logger()


def unfailing(observer: Observer) -> Observer:
    """Wrap what only shows (status, terminal): its failure is logged once and ends only itself."""
    failed = False

    def observe(event: Event, commands: Sequence[Command], engine: Engine) -> None:
        nonlocal failed
        if failed:
            return
        try:
            observer(event, commands, engine)
        except BrokenPipeError:
            raise  # whoever read our output has gone: the command ends, and the book is whole
        except Exception as e:  # noqa: BLE001 a display that breaks must not stop trading
            failed = True
            log.warning(LogEvent.OBSERVER_DROPPED, observer=type(observer).__name__, why=repr(e))

    return observe
