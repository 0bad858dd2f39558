"""Bybit on its public sockets: topics, requests and their answers.

A socket takes the ops subscribe, unsubscribe and ping. A request with a topic that the venue does
not have, or that the socket has already, is refused as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container
from functools import partial
from typing import Any, Final

from adapters.rehearsal.bybit import public_payloads as payloads
from adapters.rehearsal.bybit.spoiling import spoiled_frame
from adapters.rehearsal.interest import interest_at
from adapters.rehearsal.market import Coin
from adapters.rehearsal.publication import Publication
from adapters.rehearsal.words import SocketRequest, Stream, StreamKind, Verdict, Want, Words
from daemon.domain.units import DAY_MS

ARGS_CHARACTERS_MAX: Final = 21_000  # of all topics of one socket; linear ones have no count
CONNECTION: Final = "b7c1e0a2-5d3f-4f6e-9a10-2e6d3c4b5a69"
_WANTS: Final = {"subscribe": Want.SUBSCRIBE, "unsubscribe": Want.UNSUBSCRIBE, "ping": Want.PING}


def parse_topic(name: str) -> Stream | None:
    """Read a topic such as `kline.30.BTCUSDT`; None for what the venue does not have."""
    kind, _, rest = name.partition(".")
    if kind == "kline":
        interval, _, symbol = rest.partition(".")
        ours = payloads.INTERVALS.get(interval)
        return Stream(name, StreamKind.KLINE, symbol, ours) if ours and symbol else None
    if kind == "publicTrade" and rest:
        return Stream(name, StreamKind.TRADE, rest)
    if kind == "tickers" and rest:
        return Stream(name, StreamKind.MARK, rest)
    return None


def read_request(text: str) -> SocketRequest:
    """Read one request; what cannot be read is nonsense."""
    number: Any = None
    try:
        request = json.loads(text)
        number = request.get("req_id")
        want, names = _WANTS.get(request["op"]), request.get("args") or []
        if want is None or not all(isinstance(name, str) for name in names):
            return SocketRequest(Want.NONSENSE, (), number)
        return SocketRequest(want, tuple(names), number)
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError):
        return SocketRequest(Want.NONSENSE, (), number)


def wrong(symbols: Container[str], request: SocketRequest, has: Collection[str]) -> str:
    """Give why a request is refused as a whole; empty where it is not."""
    if request.want is Want.NONSENSE:
        return "error:invalid op"
    if request.want is not Want.SUBSCRIBE:
        return ""
    for name in request.names:
        stream = parse_topic(name)
        if stream is None or stream.symbol not in symbols:
            return f"error:handler not found,topic:{name}"
        if name in has:
            return f"error:already subscribed,topic:{name}"
    if sum(map(len, (*has, *request.names))) > ARGS_CHARACTERS_MAX:
        return f"error:args of over {ARGS_CHARACTERS_MAX} characters"
    return ""


def reply(request: SocketRequest, verdict: Verdict, has: Collection[str], why: str) -> str:
    """Answer a request."""
    del has
    if verdict is Verdict.REFUSED:
        why = "error:too many topics, try again later"
    ping = request.want is Want.PING
    answer = {
        "success": verdict is Verdict.DONE,
        "ret_msg": "pong" if ping else why,
        "conn_id": CONNECTION,
        "op": "" if request.want is Want.NONSENSE else request.want.value,
    }
    return json.dumps(answer if request.number is None else {**answer, "req_id": request.number})


class _Tickers:
    """Write the `tickers` topic, which tells of the last day as well."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def __call__(self, coin: Coin, price: float, rate: float, next_ms: int, event_ms: int) -> str:
        """Write a contract's summary as a stream message."""
        row = ticker_row(self._publication, coin, (price, rate, next_ms), event_ms)
        topic = f"tickers.{coin.symbol}"
        message = {"topic": topic, "type": "snapshot", "data": row, "cs": event_ms, "ts": event_ms}
        return json.dumps(message)


def ticker_row(
    publication: Publication, coin: Coin, mark: tuple[float, float, int], now_ms: int
) -> dict[str, Any]:
    """Write a contract's summary at `now_ms`; mark: price, funding rate and when it is due."""
    step_ms = publication.market.step_ms
    day = publication.klines(
        coin.symbol, step_ms, now_ms, start_ms=now_ms - DAY_MS, limit=DAY_MS // step_ms + 1
    )
    (interest,) = interest_at(publication, coin.symbol, [now_ms], now_ms)
    return payloads.ticker(coin, *mark, day, interest)


def _trade(coin: Coin, trade: Any, *, event_ms: int, aggregate: bool) -> str:
    del aggregate  # this venue has one kind of public trades
    return json.dumps(payloads.trade_event(coin, trade, event_ms))


def _book(coin: Coin, price: float, event_ms: int) -> str:
    del coin, price, event_ms
    return ""  # no topic of this venue is parsed to it


def bybit_words(publication: Publication) -> Words:
    """Give the venue's words for what is published."""
    return Words(
        parse=parse_topic,
        kline=payloads.kline_event,
        trade=_trade,
        mark=_Tickers(publication),
        book=_book,
        read=read_request,
        wrong=partial(wrong, publication.market.coins),
        reply=reply,
        spoil=spoiled_frame,
    )
