"""Refused subscriptions end the wait of those they are about, and nobody else's stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from aiohttp import WSMsgType, web

from adapters.exchange.client import VenueClient
from adapters.exchange.failures import SubscriptionRefused, Unanswered
from adapters.rehearsal.streams import Hub
from daemon.domain.bar import Proof
from daemon.domain.messages import FeedTrouble
from tests.adapters.exchange.feed_rig import Rig, rig, until

ETHER = "ETH/USDT:USDT"
Answer = Callable[[dict[str, Any]], list[dict[str, Any]]]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Let the exchange refuse each request to subscribe that names ether, until told otherwise."""
    real, told = Hub._answer, {"refuses": True, "refused_n": 0}

    async def answer(hub: Hub, socket: Any, text: str) -> Any:
        if told["refuses"] and "ethusdt" in text and '"SUBSCRIBE"' in text:
            told["refused_n"] += 1
            error = {"code": 2, "msg": "Invalid request: no such stream"}
            await hub._send(socket, json.dumps({"error": error, "id": json.loads(text)["id"]}))
            return []
        return await real(hub, socket, text)

    monkeypatch.setattr(Hub, "_answer", answer)
    return told


def proofs(made: Rig, index: int) -> list[int]:
    return [int(bars.proof[index]) for bars in made.bars if bars.proof[index]]


async def test_a_symbol_whose_subscription_is_refused_is_left_to_rest_and_the_others_stream(
    refusing: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.exchange.stream.REFUSED_AGAIN_S", 2.0)
    async with rig(stream_patience_s=0.5) as made:
        made.symbols = ("BTCUSDT", "SOLUSDT")  # those that come to be subscribed
        await made.listen()
        await until(lambda: (FeedTrouble.UNSTREAMED, True) in made.notices, "nobody was told")
        refused_n = refusing["refused_n"]
        assert refused_n <= 4, "whole twice, then in halves"
        await made.advance(5)
        assert set(proofs(made, 0)[1:]) == set(proofs(made, 2)[1:]) == {Proof.SUCCESSOR}
        assert set(proofs(made, 1)) == {Proof.REREAD}
        assert (made.health.broken_n, made.health.replaced_n) == (0, 0)
        made.symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        for bars in made.bars:
            np.testing.assert_array_equal(bars.values, made.truth(bars.close_ms))
        refusing["refuses"] = False
        await until(
            lambda: (FeedTrouble.UNSTREAMED, False) in made.notices, "it is not tried again"
        )
        await made.advance(3)
        assert proofs(made, 1)[-1] == Proof.SUCCESSOR


async def test_a_contract_that_is_listed_again_is_streamed_again() -> None:
    async with rig() as made:
        await made.listen()
        await made.advance(3)
        client = made.feed.client
        markets, gone = client.api.markets, ETHER
        client.api.markets = {symbol: m for symbol, m in markets.items() if symbol != gone}
        made.symbols = ("BTCUSDT", "SOLUSDT")
        client.drop_sockets("a test")
        await until(lambda: len(made.exchange.exchange.hub.streams) == 2, "who is gone is watched")
        client.api.markets = markets
        made.symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
        client.drop_sockets("a test")
        await made.subscribed()
        await made.advance(3)
        assert proofs(made, 1)[-1] == Proof.SUCCESSOR


# ---- the words of other venues -------------------------------------------------------------------


def market(symbol: str, market_id: str) -> dict[str, Any]:
    base, _, _ = symbol.partition("/")
    return {
        "id": market_id,
        "symbol": symbol,
        "base": base,
        "quote": "USDT",
        "settle": "USDT",
        "type": "swap",
        "swap": True,
        "contract": True,
        "linear": True,
        "inverse": False,
        "spot": False,
        "option": False,
        "future": False,
        "active": True,
        "precision": {"price": 0.1, "amount": 0.1},
        "limits": {},
        "info": {},
    }


def bybit(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Fail the whole request, as that venue does."""
    bad = any("ETHUSDT" in topic for topic in request["args"])
    word = {"success": not bad, "ret_msg": "handler not found" if bad else "", "op": "subscribe"}
    return [word | {"conn_id": "c", "req_id": request["req_id"]}]


def okx(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Refuse one argument, and take the others."""
    words: list[dict[str, Any]] = []
    for one in request["args"]:
        if one["instId"] == "ETH-USDT-SWAP":
            text = f"Wrong URL or channel:{one['channel']},instId:ETH-USDT-SWAP doesn't exist."
            words.append({"event": "error", "code": "60018", "msg": text, "connId": "c"})
        else:
            words.append({"event": "subscribe", "arg": one, "connId": "c"})
    return words


VENUES: dict[str, tuple[Answer, tuple[str, str, str]]] = {
    "bybit": (bybit, ("BTCUSDT", "ETHUSDT", "SOLUSDT")),
    "okx": (okx, ("BTC-USDT-SWAP", "ETH-USDT-SWAP", "SOL-USDT-SWAP")),
}


@asynccontextmanager
async def spoken(venue: str) -> AsyncIterator[tuple[VenueClient, list[dict[str, Any]]]]:
    """Open a real client on a loopback socket that answers requests in a venue's words."""
    answer, ids = VENUES[venue]
    requests: list[dict[str, Any]] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data.startswith("{"):
                requests.append(json.loads(message.data))
                for word in answer(requests[-1]):
                    await socket.send_json(word)
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    client = VenueClient(venue, {})
    port = runner.addresses[0][1]
    urls = client.api.urls["api"]
    urls["ws"] = _pointed_at(urls["ws"], f"ws://127.0.0.1:{port}")
    symbols = ("BTC/USDT:USDT", ETHER, "SOL/USDT:USDT")
    client.api.set_markets([market(s, i) for s, i in zip(symbols, ids, strict=True)])
    try:
        yield client, requests
    finally:
        await client.close()
        await runner.cleanup()


def _pointed_at(urls: Any, address: str) -> Any:
    """Give nested tables of addresses in which each is that of the loopback socket."""
    if isinstance(urls, dict):
        return {key: _pointed_at(one, address) for key, one in urls.items()}
    return f"{address}/ws"


async def within(seconds: float, waited: Awaitable[None]) -> None:
    async with asyncio.timeout(seconds):
        await waited


@pytest.mark.parametrize("venue", list(VENUES))
async def test_a_refusal_in_a_venues_words_names_whom_it_is_about_and_keeps_the_socket(
    venue: str,
) -> None:
    async with spoken(venue) as (client, requests):
        ends: list[str] = []
        client.hooks.on_broken = lambda why, symbols: ends.append(why)
        watching = asyncio.create_task(client.watch_bars(["SOL/USDT:USDT"], "30m"))
        await until(lambda: len(requests) == 1, "no subscription")
        with pytest.raises(SubscriptionRefused) as refused:
            await within(5, client.watch_bars(["BTC/USDT:USDT", ETHER], "30m"))
        whom = {ETHER} if venue == "okx" else {"BTC/USDT:USDT", ETHER}
        assert refused.value.symbols == whom
        assert ends == [], "the socket of the others was ended"
        assert not watching.done()
        with pytest.raises(SubscriptionRefused):  # asked for again, not only waited for
            await within(5, client.watch_bars([ETHER], "30m"))
        assert len(requests) == 3
        client.drop_sockets("the end", [ETHER, "BTC/USDT:USDT"])
        carries = venue == "okx"  # of bybit's refused ones, nothing is left on the socket
        assert bool(ends) is carries
        if not carries:
            client.drop_sockets("the end", ["SOL/USDT:USDT"])
        with pytest.raises(Unanswered, match="the end"):
            await within(5, watching)
