"""Start rehearsal exchanges that speak Bybit, and real ccxt clients for them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import ccxt.pro
import pytest

from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bybit.ccxt_options import bybit_options
from adapters.rehearsal.market import Market
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import DialectKind, RehearsalSettings

KEY, SECRET = "rehearsal-key", "rehearsal-secret"
StartBybit = Callable[..., Awaitable[RunningExchange]]
ConnectBybit = Callable[..., Any]


@pytest.fixture
async def bybit() -> AsyncIterator[StartBybit]:
    """Start exchanges with one account of 100 000 USDT; small ones by default."""
    async with AsyncExitStack() as stack:

        async def started(market: Market | None = None, **changes: Any) -> RunningExchange:
            usual: dict[str, Any] = {
                "coins": 3,
                "history_days": 3,
                "dialect": DialectKind.BYBIT,
                "accounts": (KeySettings(KEY, SECRET),),
            }
            settings = RehearsalSettings(**{**usual, **changes})
            return await stack.enter_async_context(await serve(settings, market))

        yield started


@pytest.fixture
async def client_of() -> AsyncIterator[ConnectBybit]:
    """Make unmodified ccxt.pro clients that speak to an exchange, with its key unless told."""
    clients: list[Any] = []

    def connected(running: RunningExchange, key: str = KEY, secret: str = SECRET) -> Any:
        options = bybit_options(running.rest_url, running.ws_url)
        client = ccxt.pro.bybit({**options, "apiKey": key, "secret": secret})
        clients.append(client)
        return client

    yield connected
    for client in clients:
        await client.close()
