"""An event loop that never waits: where nothing is to be done before a timer, its time jumps there.

Sockets are real, and what is on its way on loopback is let in first. A thread at work stops the
jumps (`at_work`), so that no timeout runs out while it is waited for. Whoever wants to see what
stands between any two steps of any task hangs a function on `looked`: it is called after each.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar
from unittest.mock import patch

import ccxt.async_support as ccxt

from adapters.journal.writer import Job, Writer

PATIENCE_S: Final = 0.001  # what loopback may take; finer is not told apart by the kernel's call
WALL_MS: Final = 1_800_000_000_000  # where the wall's time begins, later than any market here
T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Ask what is ready, and instead of waiting for a timer move the loop's time to it."""

    loop: JumpingLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self.loop.threads_n:
            return super().select(timeout)
        ready = super().select(PATIENCE_S)
        if not ready:
            self.loop.jump(timeout)
        return ready


class _Step(asyncio.Handle):
    """Run one step, then let the loop's owner look."""

    __slots__ = ("_looking",)

    def __init__(self, loop: JumpingLoop, *args: Any) -> None:
        super().__init__(*args)
        self._looking = loop

    def _run(self) -> None:
        super()._run()
        if self._looking.looked is not None:
            self._looking.looked()


class JumpingLoop(asyncio.SelectorEventLoop):
    """Run without idling."""

    def __init__(self) -> None:
        self._ahead_s = 0.0
        self.threads_n = 0
        self.looked: Callable[[], None] | None = None
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Give the loop's time in seconds, jumps included."""
        return super().time() + self._ahead_s

    def jump(self, seconds: float) -> None:
        """Move on."""
        self._ahead_s += seconds

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let time run as it does while a thread is waited for."""
        self.threads_n += 1
        try:
            yield
        finally:
            self.threads_n -= 1

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> Any:
        """Run a function in a thread; time does not jump meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self.threads_n += 1
        future.add_done_callback(self._came_back)
        return future

    def _came_back(self, future: object) -> None:
        self.threads_n -= 1

    def _call_soon(
        self, callback: Any, args: Any, context: contextvars.Context | None
    ) -> asyncio.Handle:
        step = _Step(self, callback, args, self, context)
        self._ready.append(step)  # type: ignore[attr-defined]
        return step


def here() -> JumpingLoop:
    """Give the running loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, JumpingLoop)
    return loop


@contextmanager
def signing_with_the_loop() -> Iterator[None]:
    """Let ccxt sign with the loop's time, which the venue checks its stamps against."""
    kept = ccxt.Exchange.__dict__.get("milliseconds")
    ccxt.Exchange.milliseconds = staticmethod(
        lambda: WALL_MS + int(asyncio.get_running_loop().time() * 1000)
    )
    try:
        yield
    finally:
        if kept is None:
            del ccxt.Exchange.milliseconds
        else:
            ccxt.Exchange.milliseconds = kept


@contextmanager
def journals_are_waited_for() -> Iterator[None]:
    """Let no time jump while a journal writes, which it does in a thread of its own."""
    plain = Writer.put

    def put(writer: Writer, job: Job) -> Future[int]:
        answer = plain(writer, job)
        with suppress(RuntimeError):  # nobody runs here, so nothing jumps
            loop = here()
            loop.threads_n += 1

            def came_back() -> None:
                loop.threads_n -= 1

            def written(_: object) -> None:
                with suppress(RuntimeError):  # the loop ended before
                    loop.call_soon_threadsafe(came_back)

            answer.add_done_callback(written)
        return answer

    with patch.object(Writer, "put", put):
        yield


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a loop of its own."""
    with signing_with_the_loop(), asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
