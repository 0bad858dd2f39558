"""A piece of network between a client and an exchange that can be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Relay:
    """Hand bytes on in both directions until cut; a cut line stays open and carries nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []

    def cut(self) -> None:
        """Lose everything from now on, without a goodbye to either side."""
        self._is_cut = True

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        there_reader, there_writer = await asyncio.open_connection(*self._there)
        self._writers += [writer, there_writer]
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65_536):
                if not self._is_cut:
                    sink.write(data)
                    await sink.drain()
        if not self._is_cut:
            sink.close()

    async def close(self) -> None:
        """End what is open."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def relay(url: str) -> AsyncIterator[tuple[str, Relay]]:
    """Give the address of a line to `url`, and the line."""
    parts = urlsplit(url)
    line = Relay(parts.hostname or "", parts.port or 0)
    server = await asyncio.start_server(line.meet, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", line
    finally:
        await line.close()
        server.close()
