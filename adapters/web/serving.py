"""Run the page in its process: hear the daemon, serve whoever asks, end when the line ends.

A port that is taken is told to the daemon and tried again; the daemon trades on meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from adapters.web.guards import Guard
from adapters.web.hub import Hub
from adapters.web.line import read, written

TRY_AGAIN_S: Final = 15.0
CLOSE_S_MAX: Final = 1
CONNECTIONS_BESIDE: Final = 64  # of those that are no open pages
HEADER_BYTES_MAX: Final = 16_384


class _Server(uvicorn.Server):
    """Leave signals to whoever runs us: uvicorn would raise them again when it is done."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Serving:
    """Serve one page at one address. on_first: called at the daemon's first word after hello."""

    def __init__(
        self,
        hub: Hub,
        make: Callable[[Callable[[], int]], Guard],
        *,
        host: str,
        port: int,
        clients_max: int,
    ) -> None:
        self._hub = hub
        self._make = make
        self._host = host
        self._port = port
        self._clients_max = clients_max
        self._bound_port = port

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve until the daemon's line ends."""
        serving = asyncio.create_task(self._serve(writer), name="serve the page")
        try:
            while line := await reader.readline():
                message = read(line)
                self._hub.take(message)
                writer.write(written({"number": message.get("number")}))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the daemon is gone, and so are we
        finally:
            self._hub.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    async def _serve(self, writer: asyncio.StreamWriter) -> None:
        listening = await self._listening(writer)
        self._bound_port = listening.getsockname()[1]
        config = uvicorn.Config(
            self._make(lambda: self._bound_port),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            limit_concurrency=self._clients_max + CONNECTIONS_BESIDE,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=CLOSE_S_MAX,
            h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        )
        server = _Server(config)
        host = f"[{self._host}]" if ":" in self._host else self._host
        writer.write(written({"bound": f"http://{host}:{self._bound_port}/"}))
        try:
            await server.serve(sockets=[listening])
        except asyncio.CancelledError:
            server.should_exit = True
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asyncio.wait_for(server.shutdown(sockets=[listening]), CLOSE_S_MAX)
            raise

    async def _listening(self, writer: asyncio.StreamWriter) -> socket.socket:
        while True:
            try:
                return _bound(self._host, self._port)
            except OSError as e:
                writer.write(written({"trouble": _words(e, self._host, self._port)}))
            await asyncio.sleep(TRY_AGAIN_S)


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _words(e: OSError, host: str, port: int) -> str:
    if e.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is taken by another program: set web.port"
    return f"cannot listen at {host} port {port}: {e.strerror or e}"


async def line_of(descriptor: int, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open the line to the daemon that an inherited file descriptor is."""
    ours = socket.socket(fileno=descriptor)
    return await asyncio.open_unix_connection(sock=ours, limit=limit)


async def hello_of(reader: asyncio.StreamReader) -> dict[str, Any]:
    """Read the first line: what the page has to know."""
    found: dict[str, Any] = read(await reader.readline())["hello"]
    return found
