"""Serve the real page in this process, over a real socket, with a line that tests write to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from adapters.clocks import TransportClock
from adapters.web.app import Sources, Values, Wanted, page
from adapters.web.guards import Doorkeeper, names_of
from adapters.web.hub import Hub
from adapters.web.line import LINE_BYTES_MAX, read, written
from adapters.web.serving import Serving

TOKEN: Final = "a token of forty letters, more or less ..".replace(" ", "-")
STATUS: Final = {
    "market_time_ms": 1_700_000_000_000,
    "equity": 10_000.0,
    "gross_weight": 0.5,
    "net_weight": 0.01,
}


@dataclass
class Served:
    """Hold a page that is served, and the daemon's end of its line."""

    address: str
    port: int
    hub: Hub
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    commands: list[Wanted] = field(default_factory=list)
    numbers: int = 0

    async def tell(self, **message: Any) -> None:
        """Say a line as the daemon does, and wait until it was taken."""
        self.numbers += 1
        self.writer.write(written({"number": self.numbers, **message}))
        while read(await self.reader.readline()).get("number") != self.numbers:
            pass

    @property
    def headers(self) -> dict[str, str]:
        """Give the headers of a command from our own page."""
        return {"origin": self.address.rstrip("/"), "authorization": f"Bearer {TOKEN}"}


@asynccontextmanager
async def served(
    *, token: str = TOKEN, clients_max: int = 64, private: bool = False
) -> AsyncIterator[Served]:
    """Serve the page; commands are noted, decisions are made up."""
    ours, theirs = socket.socketpair()
    clock, commands = TransportClock(), list[Wanted]()
    facts = {"run": "test", "takes_commands": bool(token)}
    hub = Hub(facts, clock.monotonic, clock.wall_ms, clients_max=clients_max)

    def command(wanted: Wanted) -> Values:
        commands.append(wanted)
        return {"request_id": wanted.request_id, "answer": None}

    def decision(at_ms: int) -> Mapping[str, object] | None:
        return {"as_of_ms": at_ms} if at_ms == 7 else None

    sources = Sources(decision, lambda symbol: {"symbol": symbol}, command)
    doorkeeper = Doorkeeper(token, clock.monotonic, private=private)
    serving = Serving(
        hub,
        lambda port: page(
            hub, sources, doorkeeper, lambda: names_of("127.0.0.1", port(), ["page.example"])
        ),
        host="127.0.0.1",
        port=0,
        clients_max=clients_max,
    )
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=LINE_BYTES_MAX)
    told, telling = await asyncio.open_unix_connection(sock=theirs, limit=LINE_BYTES_MAX)
    running = asyncio.create_task(serving.run(told, telling))
    address = read(await reader.readline())["bound"]
    port = int(address.rstrip("/").rpartition(":")[2])
    try:
        yield Served(address, port, hub, reader, writer, commands)
    finally:
        writer.close()
        async with asyncio.timeout(5):
            await running
        telling.close()


async def raw(port: int, request: bytes) -> tuple[int, bytes]:
    """Send bytes as they are and give the status and the whole answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with suppress(ConnectionError):  # whoever is cut off may not even hear why
        writer.write(request)
        async with asyncio.timeout(5):
            answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]) if answer else 0, answer


def client() -> aiohttp.ClientSession:
    """Make a client that keeps no cookies."""
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
