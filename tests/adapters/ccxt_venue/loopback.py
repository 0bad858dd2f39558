"""A loopback server that answers every request with one scripted answer, and real ccxt beside it.

It speaks HTTP by hand, because the answers of interest are those that no HTTP server would give:
a reset before or after the request was read, and a body that ends too early.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import ccxt.async_support as ccxt

from adapters.ccxt_venue.client_ids import client_id
from adapters.ccxt_venue.outcomes import Ask, Outcome, judge
from adapters.ccxt_venue.quirks import QUIRKS
from adapters.ccxt_venue.wire import listening, watch
from daemon.domain.order import OrderId
from tests.adapters.ccxt_venue.payloads import SIZES

OURS = OrderId("eq65bbf840-6-1")
SYMBOL = "BTC/USDT:USDT"
API_KEY = "kEy0123456789abcdefGHIJ"
SECRET = "sEcReT9876543210zyxwvuTS"
PASSPHRASE = "pAss-phrase/77"
SYMBOL_IDS = {"binanceusdm": "BTCUSDT", "bybit": "BTCUSDT", "okx": "BTC-USDT-SWAP"}

_TLS = ssl.create_default_context()


@dataclass(frozen=True)
class Script:
    """Say what every request gets: an HTTP answer, or one of the ways to give none.

    how: "answer", "reset_unread", "reset_read", "cut", "silence", "blurt"
    (the answer comes before anything was read).
    """

    body: str = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    how: str = "answer"
    content_type: str = "application/json"


@dataclass
class Loopback:
    """Hold a running server: its port, what it answers now, and the requests it read."""

    port: int
    script: Script
    requests: list[str] = field(default_factory=list)


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Loopback]:
    """Serve a script on a free loopback port."""
    served = Loopback(0, script)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = served.script
        try:
            if script.how == "reset_unread":
                _reset(writer)
                return
            if script.how == "blurt":
                writer.write(_answer(script))
                await writer.drain()
                return
            served.requests.append(await _request(reader))
            if script.how == "reset_read":
                _reset(writer)
                return
            if script.how == "silence":
                await reader.read()
                return
            writer.write(_answer(script))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    async with server:
        yield served


def free_port() -> int:
    """Give a loopback port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _reset(writer: asyncio.StreamWriter) -> None:
    wire = writer.get_extra_info("socket")
    # Closing with zero linger sends RST instead of FIN.
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _request(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    lines = [line.partition(":") for line in head.lower().splitlines()[1:]]
    length = next((int(rest) for name, _, rest in lines if name == "content-length"), 0)
    return head + (await reader.readexactly(length)).decode()


def _answer(script: Script) -> bytes:
    body = script.body.encode()
    length = len(body) + (40 if script.how == "cut" else 0)
    names = {"Content-Type": script.content_type, "Content-Length": str(length)}
    names |= {"Connection": "close", **script.headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in names.items())
    return f"HTTP/1.1 {script.status} Scripted\r\n{head}\r\n".encode() + body


def _rewritten(urls: Any, base: str) -> Any:
    if isinstance(urls, dict):
        return {name: _rewritten(one, base) for name, one in urls.items()}
    if isinstance(urls, str) and urls.startswith("https://"):
        _, slash, path = urls.removeprefix("https://").partition("/")
        return base + slash + path
    return urls


def ccxt_of(venue: str, base: str, **more: Any) -> Any:
    """Make the real client with keys and one market, redirected to `base`."""
    urls = {"api": _rewritten(getattr(ccxt, venue)().urls["api"], base)}
    exchange = unredirected(venue, urls=urls, **more)
    exchange.ssl_context = _TLS  # reading the certificates anew costs more than the rest
    return exchange


def unredirected(venue: str, **more: Any) -> Any:
    """Make the real client with keys and one market; every URL is the venue's own."""
    exchange = getattr(ccxt, venue)(
        {
            "apiKey": API_KEY,
            "secret": SECRET,
            "password": PASSPHRASE,
            "enableRateLimit": False,
            "timeout": 2_000,
            "options": {"enableUnifiedMargin": False, "enableUnifiedAccount": True},
            **more,
        }
    )
    market = {
        "id": SYMBOL_IDS[venue],
        "symbol": SYMBOL,
        "base": "BTC",
        "quote": "USDT",
        "settle": "USDT",
        "baseId": "BTC",
        "quoteId": "USDT",
        "settleId": "USDT",
        "type": "swap",
        "swap": True,
        "spot": False,
        "contract": True,
        "linear": True,
        "inverse": False,
        "active": True,
        "contractSize": float(SIZES["BTC-USDT-SWAP"]) if venue == "okx" else 1.0,
        "info": {"orderTypes": ["LIMIT", "MARKET"]},
        "precision": {"amount": 0.01 if venue == "okx" else 0.001, "price": 0.1},
    }
    exchange.set_markets([exchange.safe_market_structure(market)])
    return exchange


async def shut(exchange: Any) -> None:
    """Close what a client opened, without the pause that its own close makes."""
    if exchange.session is not None:
        await exchange.session.close()
    exchange.session = exchange.tcp_connector = None


async def asked(
    venue: str, ask: Ask, exchange: Any, *, amount: float = 0.01, symbol: str = SYMBOL
) -> tuple[Outcome[Any], BaseException | None]:
    """Make one real call and judge it; gives the outcome and what ccxt raised."""
    quirks = QUIRKS[venue]
    name = client_id(venue, OURS)
    watch(exchange)
    trouble: BaseException | None = None
    with listening() as heard:
        try:
            await _call(ask, exchange, venue, name, amount, symbol)
        except (ccxt.BaseError, ValueError, KeyError, TypeError, AttributeError) as e:
            trouble = e

    def read(payload: object) -> object:
        if ask is Ask.QUERY:
            return quirks.readers.asked_order(payload, name, SIZES.__getitem__)
        return quirks.readers.acknowledgement(payload, name)

    return judge(venue, ask, heard, trouble, read), trouble


async def _call(ask: Ask, exchange: Any, venue: str, name: str, amount: float, symbol: str) -> None:
    quirks = QUIRKS[venue]
    if ask is Ask.SEND:
        params = {quirks.id_on_create: name, "postOnly": True}
        await exchange.create_order(symbol, "limit", "buy", amount, 50_000.0, params)
    elif ask is Ask.CANCEL:
        await exchange.cancel_order(None, symbol, quirks.cancel_params(name))
    else:
        lookup = quirks.lookups[0]
        method = getattr(exchange, lookup.method)
        if lookup.takes_id:
            await method(None, symbol, lookup.params(name))
        else:
            await method(symbol, None, None, lookup.params(name))
