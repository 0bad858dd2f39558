"""The private stream: hints that something happened to us, never the truth about it.

Frames are read raw, before ccxt parses them: they name orders, and that is all that is believed of
them. ccxt dials and subscribes; what it does not do is done here:

- it renews a listen key once and then never again: `renew` does, and lets a dead one go;
- one frame that cannot be read makes its socket deaf: such a frame ends the socket instead;
- a socket that stays open and says nothing is not noticed: after a silence it is replaced;
- what happened between two sockets is lost: every new one asks for a reconciliation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import structlog

from adapters.ccxt_venue.calls import Caller

BACKOFF_S: Final = 0.2
BACKOFF_S_MAX: Final = 30.0
GOODBYE_S: Final = 0.5
_RENEWALS: Final[Mapping[str, str]] = {"binanceusdm": "fapiPrivatePutListenKey"}
_BINANCE_QUIET: Final = frozenset({"ORDER", "MARGIN_TYPE_CHANGE"})

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Hint:
    """Say what a frame is about: orders by (client id, symbol id), the account, or its own end."""

    orders: tuple[tuple[str, str], ...] = ()
    account: bool = False
    ended: bool = False


def hint_in(venue: str, message: object) -> Hint:
    """Read what a raw frame is about; an empty hint for anything else."""
    if not isinstance(message, Mapping):
        return Hint()
    if venue == "binanceusdm":
        return _binance(message)
    return _listed(message, *_PLACES[venue]) if venue in _PLACES else Hint()


# Name of the topic, prefix of those about orders and fills, client id and symbol in each row.
_PLACES: Final[Mapping[str, tuple[str, str, str]]] = {
    "bybit": ("topic", "orderLinkId", "symbol"),
    "okx": ("arg", "clOrdId", "instId"),
}


def _binance(message: Mapping[str, Any]) -> Hint:
    match message.get("e"):
        case "ORDER_TRADE_UPDATE":
            row = message.get("o")
            if isinstance(row, Mapping):
                return Hint(orders=((str(row.get("c")), str(row.get("s"))),))
        case "ACCOUNT_UPDATE":
            row = message.get("a")
            if isinstance(row, Mapping) and row.get("m") not in _BINANCE_QUIET:
                return Hint(account=True)
        case "listenKeyExpired":
            return Hint(ended=True)
    return Hint()


def _listed(message: Mapping[str, Any], topic: str, client: str, symbol: str) -> Hint:
    named, rows = str(message.get(topic, "")), message.get("data")
    if not isinstance(rows, list):
        return Hint()
    if "order" in named or "execution" in named:
        found = [(str(r.get(client)), str(r.get(symbol))) for r in rows if isinstance(r, Mapping)]
        return Hint(orders=tuple(found))
    return Hint(account="wallet" in named or "account" in named)


class PrivateStream:
    """Keep one private stream of a client alive and hand on what its frames are about.

    silence_s: of transport time after which the stream is dialled anew. on_lost hears how each
    socket ended, on_open that one is open.
    """

    def __init__(
        self,
        caller: Caller,
        *,
        silence_s: float,
        renew_s: float,
        on_hint: Callable[[Hint], None],
        on_open: Callable[[], None],
    ) -> None:
        self._caller = caller
        self._silence_s = silence_s
        self._renew_s = renew_s
        self._on_hint = on_hint
        self._on_open = on_open
        self._goodbyes: set[asyncio.Future[None]] = set()
        self.opened_n = 0
        self.dropped: list[str] = []
        self._guard()

    async def run(self) -> NoReturn:
        """Watch for ever; after a break or a silence dial anew, with growing pauses."""
        breaks = 0
        while True:
            await asyncio.sleep(self._caller.left_alone_s)  # dialling asks for a key by REST
            heard_n = self.opened_n
            done = await self._caller.run(self._watched)
            if done.trouble is None:
                breaks = 0
                continue
            if isinstance(done.trouble, TimeoutError):
                self.drop("the private stream was silent")
                continue
            breaks = breaks + 1 if self.opened_n == heard_n else 1
            _log.debug("private_stream_broken", why=self._caller.words(done.trouble))
            await asyncio.sleep(min(BACKOFF_S_MAX, BACKOFF_S * 2.0 ** min(breaks, 10)))

    async def renew(self) -> None:
        """Renew the listen key so often, where the venue has one; a dead one is let go."""
        method = _RENEWALS.get(self._caller.venue)
        while method is not None:
            await asyncio.sleep(self._renew_s)
            if not self._caller.api.clients:
                continue
            done = await self._caller.once(method, {})
            status = done.heard[-1].status if done.heard else None
            if status is not None and 400 <= status < 500:
                self.drop("the key of the private stream was refused")

    def drop(self, why: str) -> None:
        """Give the sockets and the listen key up, so that the next watch begins anew."""
        self.dropped.append(why)
        del self.dropped[:-100]
        api = self._caller.api
        if self._caller.venue == "binanceusdm":
            api.options["linear"] = {"listenKey": None, "lastAuthenticatedTime": 0}
        for url, client in list(api.clients.items()):
            api.clients.pop(url, None)
            client.handle_message = lambda message: None
            client.on_error_callback = client.on_close_callback = lambda socket, what: None
            client.reject(_broken(why))
            task = asyncio.ensure_future(self._goodbye(client))
            self._goodbyes.add(task)
            task.add_done_callback(self._goodbyes.discard)

    async def close(self) -> None:
        """Say goodbye to every socket."""
        self.drop("closing")
        await asyncio.gather(*self._goodbyes)

    async def _goodbye(self, client: Any) -> None:
        async def close() -> None:
            async with asyncio.timeout(GOODBYE_S):
                await client.close()

        await self._caller.run(close)

    async def _watched(self) -> None:
        async with asyncio.timeout(self._silence_s):
            await self._caller.api.watch_orders()

    # ---- what is wrapped on the client -----------------------------------------------------------

    def _guard(self) -> None:
        api = self._caller.api
        dial, connected = api.client, api.on_connected

        def guarded(url: str) -> Any:
            client = dial(url)
            if "handle_message" not in vars(client):
                self._guard_socket(client)
            return client

        def opened(client: Any, *rest: Any) -> Any:
            found = connected(client, *rest)
            self.opened_n += 1
            self._on_open()
            return found

        api.client, api.on_connected = guarded, opened

    def _guard_socket(self, client: Any) -> None:
        handle, on_message = client.handle_message, client.on_message_callback

        def guarded(message: Any) -> None:
            try:
                handle(message)
            except Exception as trouble:  # noqa: BLE001 whatever it is, the client would be deaf
                why = f"a frame could not be read: {type(trouble).__name__}"
                client.on_error(_broken(why))

        def read(socket: Any, message: Any) -> None:
            hint = hint_in(self._caller.venue, message)
            if hint.ended:
                self.drop("the key of the private stream expired")
                return
            self._on_hint(hint)
            on_message(socket, message)

        client.handle_message, client.on_message_callback = guarded, read


def _broken(why: str) -> ConnectionError:
    return ConnectionError(why)
