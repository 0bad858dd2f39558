"""Run a session in the foreground: uvloop, signals, and one clear end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Final

from daemon.domain.failures import EquipoiseError
from daemon.domain.messages import Command, Event, Started
from daemon.engine.engine import Engine
from daemon.runtime.collector import settle_down
from daemon.runtime.live import LiveShell

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
CANCEL_AGAIN_S: Final = 0.2


Session = Callable[[], AbstractAsyncContextManager[LiveShell]]


def run_until_signal(session: Session, hand_stop: Callable[[asyncio.Event], None]) -> None:
    """Run a session until it fails or SIGINT or SIGTERM arrives; a second signal stops at once.

    `hand_stop` gets the event that stops the session, for commands that end by themselves.
    Raises the session's own EquipoiseError, unwrapped from the task group it failed in.
    """
    try:
        _run(_until_signal(session, hand_stop))
    except BaseExceptionGroup as group:
        raise first_cause(group) from group
    except asyncio.CancelledError:  # a second signal: whoever sent it knows what happened
        raise KeyboardInterrupt from None


def settled_start(event: Event, commands: Sequence[Command], engine: Engine) -> None:
    """Let the collector of cycles leave out what a start has made: an observer of a session."""
    if isinstance(event, Started) and not event.warming:
        settle_down()


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Give the failure that people should read: ours if there is one, else the first."""
    leaves = list(_leaves(group))
    ours = [leaf for leaf in leaves if isinstance(leaf, EquipoiseError)]
    return (ours or leaves)[0]


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for e in group.exceptions:
        found.extend(_leaves(e) if isinstance(e, BaseExceptionGroup) else [e])
    return found


def show_until_signal(showing: Coroutine[object, object, None]) -> None:
    """Run what only shows something, until it ends or SIGINT or SIGTERM arrives."""
    asyncio.run(_show_until_signal(showing))


async def _show_until_signal(showing: Coroutine[object, object, None]) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, stop.set)
    shown = asyncio.create_task(showing, name="show")
    stopping = asyncio.create_task(stop.wait(), name="signal")
    await asyncio.wait((shown, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    while not shown.done():
        # Once may not do: a time-out inside that expires just then takes the cancellation for its
        # own and goes on (seen with pub/sub reads of redis-py under load, in one of five stops).
        shown.cancel()
        await asyncio.wait((shown,), timeout=CANCEL_AGAIN_S)
    if not shown.cancelled():
        shown.result()


async def _until_signal(session: Session, hand_stop: Callable[[asyncio.Event], None]) -> None:
    stop, begun = asyncio.Event(), asyncio.Event()
    hand_stop(stop)
    loop = asyncio.get_running_loop()
    running = asyncio.current_task()

    def told() -> None:
        if stop.is_set() and running is not None:
            running.cancel()
        stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, told)
    try:
        entered = asyncio.create_task(_run_session(session, stop, begun), name="session")
        stopping = asyncio.create_task(stop.wait(), name="signal")
        await asyncio.wait((entered, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not entered.done() and not begun.is_set():
            # It still connects, which may take minutes at an exchange that does not answer.
            entered.cancel()
            await asyncio.gather(entered, return_exceptions=True)
            return
        await entered
    finally:
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)


async def _run_session(session: Session, stop: asyncio.Event, begun: asyncio.Event) -> None:
    async with session() as shell:
        begun.set()
        await shell.run(stop)


def _run(main: Coroutine[object, object, None]) -> None:
    try:
        import uvloop
    except ImportError:  # not made for Windows
        asyncio.run(main)
    else:
        uvloop.run(main)
