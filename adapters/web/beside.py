"""The daemon's side of the status page: start its process, feed it, start it anew when it dies.

Nothing here waits for the page: values go into an outbox, and a courier brings them. A page that
does not take a batch in time is ended and begun again, with a pause that grows.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from adapters.web.line import LINE_BYTES_MAX, read, written
from daemon.domain.messages import Alert
from daemon.status.outbox import Batch, Courier, Outbox
from daemon.status.values import alert_values

BEAT_S: Final = 2.0
CALL_S_MAX: Final = 10.0
START_S_MAX: Final = 60.0
END_S_MAX: Final = 1.0
PAUSE_S_MAX: Final = 60.0  # a process is dearer to start than a connection


class WebPage:
    """Be a StatusSink and an AlertSink whose server is a child process.

    command: starts the process; the number of its file descriptor is appended. hello: gives what it
    has to know, afresh at each start. on_bound and on_trouble: called with its address, and with
    why it cannot be served, at most once until it is. now: market time in ms, told with each beat.
    environment: of the process, ours unless given.
    """

    def __init__(
        self,
        command: Sequence[str],
        hello: Callable[[], Mapping[str, object]],
        now: Callable[[], int],
        *,
        on_bound: Callable[[str], None] = lambda address: None,
        on_trouble: Callable[[str], None] = lambda why: None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = tuple(command)
        self._hello = hello
        self._now = now
        self._on_bound = on_bound
        self._environment = environment
        self._on_trouble = on_trouble
        self._told = False
        self.outbox = Outbox()
        self.courier = Courier(
            self.outbox, self._linked, server="page", beat_s=BEAT_S, pause_s_max=PAUSE_S_MAX
        )

    def publish(self, topic: str, values: Mapping[str, object]) -> None:
        """Take the newest values of a topic; never blocks, newest wins."""
        self.outbox.put(topic, values)

    def alert(self, alert: Alert) -> None:
        """Take an alert; never blocks."""
        self.outbox.put("alert", alert_values(alert))

    def running(self) -> AbstractAsyncContextManager[None]:
        """Keep the page for as long as the context lasts."""
        return self.courier.running()

    @asynccontextmanager
    async def _linked(self) -> AsyncIterator[_PageLink]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            words = (*self._command, str(theirs.fileno()))
            process = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the daemon, which ends us
            )
            theirs.close()
            try:
                async with self._spoken(ours) as link:
                    yield link
            finally:
                await _ended(process)

    @asynccontextmanager
    async def _spoken(self, ours: socket.socket) -> AsyncIterator[_PageLink]:
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES_MAX)
        link = _PageLink(writer, self._now)
        hearing = asyncio.create_task(link.hear(reader, self._note), name="hear the page")
        try:
            writer.write(written({"hello": self._hello()}))
            await link.begun()
            yield link
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _note(self, message: Mapping[str, Any]) -> None:
        if "bound" in message:
            self._told = False
            self._on_bound(str(message["bound"]))
        elif "trouble" in message and not self._told:
            self._told = True
            self._on_trouble(str(message["trouble"]))


class _PageLink:
    """Speak to one process of the page."""

    def __init__(self, writer: asyncio.StreamWriter, now: Callable[[], int]) -> None:
        self._writer = writer
        self._now = now
        self._number = 0
        self._lost = False
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._taken: asyncio.Future[None] | None = None

    async def hear(
        self, reader: asyncio.StreamReader, note: Callable[[Mapping[str, Any]], None]
    ) -> None:
        """Read what the page says until it says no more."""
        try:
            while line := await reader.readline():
                message = read(line)
                note(message)
                if not self._begun.done():
                    self._begun.set_result(None)
                if message.get("number") == self._number and self._taken is not None:
                    self._answer(self._taken)
        finally:
            self._lost = True
            for waiting in (self._begun, self._taken):
                if waiting is not None and not waiting.done():
                    waiting.set_exception(ConnectionError("the page's process ended"))
                    waiting.exception()  # nobody may be waiting any more

    @staticmethod
    def _answer(waiting: asyncio.Future[None]) -> None:
        if not waiting.done():
            waiting.set_result(None)

    async def begun(self) -> None:
        """Return when the process has read its settings and tried its port."""
        async with asyncio.timeout(START_S_MAX):
            await self._begun

    async def send(self, batch: Batch) -> None:
        """Bring a batch to the page and return when it was taken."""
        await self._ask({"states": batch.states, "events": batch.events})

    async def beat(self) -> None:
        """Tell that the daemon lives."""
        await self._ask({"market_ms": self._now()})

    async def farewell(self) -> None:
        """Tell that the daemon stops on purpose."""
        await self._ask({"farewell": True})

    async def _ask(self, message: Mapping[str, object]) -> None:
        if self._lost or self._writer.is_closing():
            raise ConnectionError("the page's process ended")
        self._number += 1
        self._taken = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(CALL_S_MAX):
            self._writer.write(written({"number": self._number, **message}))
            await self._writer.drain()
            await self._taken


async def _ended(process: asyncio.subprocess.Process) -> None:
    """See the process out: its line is closed, and what stays all the same is killed."""
    try:
        async with asyncio.timeout(END_S_MAX):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
