"""Start rehearsal exchanges and real ccxt clients, and stop them again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.market import Market
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import RehearsalSettings

Start = Callable[..., Awaitable[RunningExchange]]
Connect = Callable[[RunningExchange], Any]
Post = Callable[..., Coroutine[Any, Any, dict[str, Any]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start exchanges; small ones by default."""
    async with AsyncExitStack() as stack:

        async def started(market: Market | None = None, **changes: Any) -> RunningExchange:
            settings = RehearsalSettings(**{"coins": 3, "history_days": 3, **changes})
            return await stack.enter_async_context(await serve(settings, market))

        yield started


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Make unmodified ccxt.pro clients that speak to an exchange."""
    clients: list[Any] = []

    def connected(running: RunningExchange) -> Any:
        client = ccxt.pro.binanceusdm(ccxt_options(running.rest_url, running.ws_url))
        clients.append(client)
        return client

    yield connected
    for client in clients:
        await client.close()


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    """Post JSON to one of the rehearsal's own controls."""
    async with aiohttp.ClientSession() as session:

        async def posted(running: RunningExchange, what: str, **body: Any) -> dict[str, Any]:
            async with session.post(f"{running.rest_url}/rehearsal/{what}", json=body) as reply:
                answer: dict[str, Any] = await reply.json()
                return {"status": reply.status, **answer}

        yield posted
