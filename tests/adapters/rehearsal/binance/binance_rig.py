"""Exchanges with accounts, real ccxt clients with keys, and short words for their tests."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import ccxt.pro

from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.binance.half import BinanceHalf
from adapters.rehearsal.ccxt_options import keyed_options
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.units import MINUTE_MS

KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"


@dataclass(frozen=True)
class Rig:
    """Hold a running exchange and a ccxt client with a key to it."""

    running: RunningExchange
    client: Any
    session: aiohttp.ClientSession

    @property
    def half(self) -> BinanceHalf:
        assert isinstance(self.running.private, BinanceHalf)
        return self.running.private

    async def post(self, what: str, **body: Any) -> dict[str, Any]:
        url = f"{self.running.rest_url}/rehearsal/{what}"
        async with self.session.post(url, json=body) as reply:
            answer: dict[str, Any] = await reply.json()
            return {"http": reply.status, **answer}

    async def fault(self, kind: Fault, **more: Any) -> None:
        assert (await self.post("fault", kind=kind.value, **more))["http"] == 200

    async def state(self) -> dict[str, Any]:
        async with self.session.get(f"{self.running.rest_url}/rehearsal/state") as reply:
            found: dict[str, Any] = await reply.json()
            return found

    async def struck(self, kind: Fault) -> int:
        return int((await self.state())["faults_struck"].get(kind.value, 0))

    async def advance(self, minutes: int) -> None:
        until_ms = self.running.exchange.now_ms + minutes * MINUTE_MS
        while self.running.exchange.now_ms < until_ms:
            answer = await self.post("advance", until_ms=until_ms)
            assert answer["http"] == 200

    async def price(self, symbol: str = BTC) -> float:
        ticker = await self.client.fetch_ticker(symbol)
        return float(ticker["last"])

    async def buy(self, amount: float = 0.01, symbol: str = BTC, **params: Any) -> dict[str, Any]:
        order: dict[str, Any] = await self.client.create_order(
            symbol, "market", "buy", amount, None, params
        )
        return order

    async def rest(self, away: float = -0.01, symbol: str = BTC, **params: Any) -> dict[str, Any]:
        """Place a limit buy `away` from the price, as a fraction of it."""
        price = round(await self.price(symbol) * (1 + away), 1)
        order: dict[str, Any] = await self.client.create_order(
            symbol, "limit", "buy", 0.01, price, params
        )
        return order

    async def raw(self, **changes: Any) -> Any:
        """Place an order with exactly these parameters over a plain market buy."""
        plain = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
        query = {k: v for k, v in {**plain, **changes}.items() if v is not None}
        return await self.client.fapiPrivatePostOrder(query)


@asynccontextmanager
async def rig(**changes: Any) -> AsyncIterator[Rig]:
    """Start an exchange with one account and a client that has loaded its markets."""
    accounts = (KeySettings(KEY, SECRET, changes.pop("cash", "100000")),)
    settings: dict[str, Any] = {"coins": 3, "history_days": 3, "accounts": accounts, **changes}
    async with await serve(RehearsalSettings(**settings)) as running:
        client = client_of(running)
        try:
            await client.load_markets()
            async with aiohttp.ClientSession() as session:
                yield Rig(running, client, session)
        finally:
            await client.close()


def client_of(running: RunningExchange, key: str = KEY, secret: str = SECRET) -> Any:
    """Give a real client with a key."""
    options = keyed_options(running.rest_url, running.ws_url, key, secret)
    return ccxt.pro.binanceusdm(options)


def code_of(failure: BaseException) -> int:
    """Read the venue's code out of what ccxt raised."""
    found = re.search(r'"code": ?(-?\d+)', str(failure))
    assert found is not None, failure
    return int(found[1])


class Ears:
    """Hold what a user stream said, and wait for more."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.more = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    async def collect(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        async for message in ws:
            text = str(message.data)
            self.frames.append(json.loads(text) if text.endswith("}") else {"garbage": text})
            self.more.set()


async def listening(r: Rig, listen_key: str | None = None) -> Ears:
    """Open a user stream of our own and collect what it says."""
    if listen_key is None:
        listen_key = (await r.client.fapiPrivatePostListenKey())["listenKey"]
    url = f"{r.running.ws_url}/private/ws?listenKey={listen_key}"
    ears = Ears()
    ears.task = asyncio.create_task(ears.collect(await r.session.ws_connect(url)))
    return ears


async def heard(ears: Ears, count: int) -> list[dict[str, Any]]:
    """Wait for so many frames, and a little for more that should not be there."""
    async with asyncio.timeout(3):
        while len(ears.frames) < count:
            ears.more.clear()
            await ears.more.wait()
    await asyncio.sleep(0.05)
    return ears.frames


def executions(frames: list[dict[str, Any]]) -> list[str]:
    """Name what each frame says: an order's execution, or the event."""
    return [f["o"]["x"] if "o" in f else str(f.get("e", "garbage")) for f in frames]
