"""Binance USDM futures on its public sockets: names of streams, requests and their answers.

A socket takes SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS. As at the venue, an unknown stream
name is accepted and stays silent.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, Final

from adapters.rehearsal import dialect
from adapters.rehearsal.dialect import INTERVALS_MS
from adapters.rehearsal.fault_frames import spoiled_frame
from adapters.rehearsal.words import SocketRequest, Stream, StreamKind, Verdict, Want, Words

_WANTS: Final = {
    "SUBSCRIBE": Want.SUBSCRIBE,
    "UNSUBSCRIBE": Want.UNSUBSCRIBE,
    "LIST_SUBSCRIPTIONS": Want.LIST,
}


def parse_stream(name: str) -> Stream | None:
    """Read a stream name such as `btcusdt@kline_30m`; None for what the venue would ignore."""
    if name in {"!markPrice@arr", "!markPrice@arr@1s"}:
        return Stream(name, StreamKind.ALL_MARKS)
    symbol, _, channel = name.partition("@")
    symbol = symbol.upper()
    if channel.startswith("kline_") and channel.removeprefix("kline_") in INTERVALS_MS:
        return Stream(name, StreamKind.KLINE, symbol, channel.removeprefix("kline_"))
    if channel in {"markPrice", "markPrice@1s"}:
        return Stream(name, StreamKind.MARK, symbol)
    for kind in (StreamKind.TRADE, StreamKind.AGGREGATE_TRADE, StreamKind.BOOK):
        if channel == kind.value:
            return Stream(name, kind, symbol)
    return None


def read_request(text: str) -> SocketRequest:
    """Read one request; what cannot be read is nonsense."""
    number: Any = None
    try:
        request = json.loads(text)
        number = request.get("id")
        want, names = _WANTS.get(request["method"]), request.get("params", [])
        if want is None or not all(isinstance(name, str) for name in names):
            return SocketRequest(Want.NONSENSE, (), number)
        return SocketRequest(want, tuple(names), number)
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError):
        return SocketRequest(Want.NONSENSE, (), number)


def reply(request: SocketRequest, verdict: Verdict, has: Collection[str], why: str) -> str:
    """Answer a request."""
    del why
    number = request.number
    if request.want is Want.NONSENSE:
        error = {"code": 2, "msg": "Invalid request: a method and a list of streams is needed"}
        return json.dumps({"error": error, "id": number})
    if verdict is not Verdict.DONE:
        error = {"code": 1, "msg": "Too many subscriptions: try again later"}
        return json.dumps({"error": error, "id": number})
    result = list(has) if request.want is Want.LIST else None
    return json.dumps({"result": result, "id": number})


def _wrong(request: SocketRequest, has: Collection[str]) -> str:
    del request, has
    return ""


BINANCE_WORDS: Final = Words(
    parse=parse_stream,
    kline=dialect.kline_event,
    trade=dialect.trade_event,
    mark=dialect.mark_event,
    book=dialect.book_event,
    read=read_request,
    wrong=_wrong,
    reply=reply,
    spoil=spoiled_frame,
)
