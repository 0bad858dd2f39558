"""One ccxt object, owned and guarded: its lifetime, its answers, its frames.

The client is used unmodified; five of its methods are wrapped on the instance:

- `fetch`: an answer that is not JSON raises BadPayload instead of being parsed into 'nothing';
- `on_rest_response`: status and Retry-After are kept per call, where the exception drops them;
- `client`: a frame that cannot be read ends its socket at once instead of making it deaf;
- `on_error`, `on_close`: the end of a socket is told, also while nobody awaits it;
- `on_message_callback` of a socket: bars of venues whose frames we know are taken before the
  client, which would drop 'this bar is closed', and a refused subscription ends the wait of those
  that it is about (see `subscriptions`).

Its list of markets is read row by row (see `listing`).
"""

from __future__ import annotations

import asyncio
import copy
import math
import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from adapters.exchange.failures import (
    PAYLOAD_ERRORS,
    Unanswered,
    judge,
    not_json,
    shortened,
    unknown_exchange,
)
from adapters.exchange.frames import FRAME_READERS, RawBar
from adapters.exchange.listing import Listing
from adapters.exchange.mapping import server_time_of
from adapters.exchange.subscriptions import WATCHED, carried_by, note_requests, refuse
from daemon.domain.failures import BadPayload, ConfigurationError, VenueError

ATTEMPTS_MAX: Final = 5
BACKOFF_S: Final = 0.25
BACKOFF_MAX_S: Final = 30.0
CROWD_STATUSES: Final = (429, 418)
CROWD_PAUSE_S: Final = {429: 5.0, 418: 120.0}
CROWD_MAX_S: Final = 3600.0
PATIENCE_MAX_S: Final = 3600.0
WEIGHT_HEADERS: Final = ("x-mbx-used-weight-1m", "X-MBX-USED-WEIGHT-1M", "X-Mbx-Used-Weight-1m")
GOODBYE_S: Final = 2.0
FRAME_UNREADABLE: Final = "frame_unreadable"
REQUEST_REPEATED: Final = "request_repeated"
SOCKET_GONE: Final = "socket_gone"
_KEYS: Final = ("apiKey", "secret", "password", "uid", "walletAddress", "privateKey", "token")

_log = structlog.get_logger()


@dataclass(slots=True)
class Answers:
    """Collect what came back during one call: raw JSON bodies, last status, Retry-After."""

    raw: list[object] = field(default_factory=list)
    status: int | None = None
    retry_after_s: float | None = None


_CURRENT: ContextVar[Answers | None] = ContextVar("ccxt_answers", default=None)


@dataclass(slots=True)
class FrameHooks:
    """Hold what is called from inside the client: at each frame, and when a socket ends.

    on_arrival comes before a frame is read, on_frame after it was. on_broken is given the reason
    and the symbols that the socket carried, None for all.
    """

    on_arrival: Callable[[], None] = lambda: None
    on_frame: Callable[[], None] = lambda: None
    on_broken: Callable[[str, frozenset[str] | None], None] = lambda why, symbols: None
    on_bars: Callable[[list[RawBar]], None] | None = None
    on_unreadable: Callable[[str], None] = lambda why: None


@dataclass(slots=True)
class Usage:
    """Count requests and answers; weight_1m is what the venue last said we used in a minute.

    weight_1m, weight_1m_max: None where the venue does not say.
    """

    requests_n: int = 0
    refused_n: int = 0
    weight_1m: int | None = None
    weight_1m_max: int | None = None

    def noted(self, status: int, headers: Mapping[str, str]) -> None:
        """Read what an answer says about the budget."""
        self.refused_n += status in CROWD_STATUSES
        for name in WEIGHT_HEADERS:
            said = str(headers.get(name, ""))
            if said.isdecimal():
                self.weight_1m = int(said)
                self.weight_1m_max = max(self.weight_1m_max or 0, self.weight_1m)


@dataclass(slots=True)
class Crowd:
    """Keep away from a venue that said 429 (too often) or 418 (banned), for as long as it says.

    Its word (Retry-After) holds in full, be it days; without one the pause doubles with each
    refusal in a row, up to `CROWD_MAX_S`.
    """

    until_s: float = 0.0
    refusals: int = 0

    def noted(self, status: int, after_s: float | None) -> float | None:
        """Take an answer's status; give for how long not to ask, None when all is well."""
        if status not in CROWD_STATUSES:
            self.refusals = 0
            return after_s
        self.refusals += 1
        doubled_s = CROWD_PAUSE_S[status] * 2.0 ** min(self.refusals - 1, 10)
        wait_s = min(doubled_s, CROWD_MAX_S) if after_s is None else after_s
        self.until_s = max(self.until_s, _now_s() + wait_s)
        return wait_s

    def wait_s(self) -> float:
        """Give how long not to ask, 0 when asking is welcome."""
        return max(0.0, self.until_s - _now_s()) if self.until_s else 0.0


class VenueClient:
    """Hold one ccxt object for public data; `close` must be awaited."""

    def __init__(self, exchange: str, options: Mapping[str, object]) -> None:
        self.exchange = exchange
        self.hooks = FrameHooks()
        self.usage = Usage()
        self._crowd = Crowd()
        self._goodbyes: set[asyncio.Future[None]] = set()
        self.api = _construct(exchange, options)
        self.listing = Listing(self.api, self._base_error())
        self._guard_answers()
        if self.has("watchOHLCV"):
            self._guard_frames()

    def has(self, feature: str) -> bool:
        """Tell whether ccxt can do something at this venue, natively or emulated."""
        return bool(self.api.has.get(feature))

    @property
    def left_alone_s(self) -> float:
        """Give for how long the venue wants no question, 0 when asking is welcome."""
        return self._crowd.wait_s()

    def market(self, symbol: str) -> Mapping[str, Any]:
        """Give what ccxt knows of a market, nothing before it has loaded them or of others."""
        return (self.api.markets or {}).get(symbol) or {}

    async def ask(self, method: str, *args: object, **kwargs: object) -> tuple[Any, Answers]:
        """Call a method once; raises Unanswered, BadPayload or VenueError, never ccxt's own.

        A venue that was asked too often is not asked before it said that it may be; its sockets
        have a budget of their own.
        """
        wait_s = 0.0 if method.startswith("watch_") else self._crowd.wait_s()
        if wait_s:
            why = f"{self.exchange} wants to be left alone for {wait_s:.0f} s more"
            raise Unanswered(why, wait_s)
        answers = Answers()
        token = _CURRENT.set(answers)
        self.usage.requests_n += 1
        try:
            return await getattr(self.api, method)(*args, **kwargs), answers
        except (self._base_error(), *PAYLOAD_ERRORS, OSError, BadPayload) as trouble:
            raise judge(
                trouble,
                exchange=self.exchange,
                doing=method.replace("_", " "),
                status=answers.status,
                retry_after_s=answers.retry_after_s,
            ) from trouble
        finally:
            _CURRENT.reset(token)

    async def watch_bars(self, symbols: Sequence[str], label: str) -> None:
        """Subscribe to bars and wait for the next; raises SubscriptionRefused for some of them."""
        token = WATCHED.set(tuple(symbols))
        try:
            if self.has("watchOHLCVForSymbols"):
                await self.ask("watch_ohlcv_for_symbols", [[symbol, label] for symbol in symbols])
            else:
                await self.ask("watch_ohlcv", symbols[0], label)
        finally:
            WATCHED.reset(token)

    async def ask_patiently(
        self, method: str, *args: object, **kwargs: object
    ) -> tuple[Any, Answers]:
        """Call a reading method up to `ATTEMPTS_MAX` times while it goes unanswered or garbled.

        Raises at once when the venue wants to be left alone for longer than `PATIENCE_MAX_S`.
        """
        for attempt in range(1, ATTEMPTS_MAX):
            try:
                return await self.ask(method, *args, **kwargs)
            except (Unanswered, BadPayload) as trouble:
                after_s = getattr(trouble, "retry_after_s", None) or 0.0
                if after_s > PATIENCE_MAX_S:  # a ban: who waits for it should know
                    raise
                pause_s = max(backoff_s(attempt), after_s)
                _log.debug(REQUEST_REPEATED, why=str(trouble), attempt=attempt, pause_s=pause_s)
                await asyncio.sleep(pause_s)
        return await self.ask(method, *args, **kwargs)

    async def server_time(self) -> int:
        """Ask for the venue's time in ms; raises VenueError where there is no such call."""
        if not self.has("fetchTime"):
            raise VenueError(
                f"{self.exchange}: ccxt cannot ask this venue for its time;"
                " set the market clock to 'system' and keep this machine's clock synchronised"
            )
        told, _ = await self.ask("fetch_time")
        return server_time_of(told, self.exchange)

    def drop_sockets(self, why: str, symbols: Collection[str] | None = None) -> None:
        """Give sockets up, so that whoever watches dials and subscribes anew.

        symbols: only the sockets that carry one of them; None for every socket. The old ones say
        goodbye in the background: a half-open connection would not answer.
        """
        error = self._network_error()(why)
        for url, client in list(self.api.clients.items()):
            carried = carried_by(client)
            if symbols is not None and carried is not None and carried.isdisjoint(symbols):
                continue
            self.api.clients.pop(url, None)
            _silence(client, error)
            task = asyncio.ensure_future(_said_goodbye(client))
            self._goodbyes.add(task)
            task.add_done_callback(self._goodbyes.discard)
            self.hooks.on_broken(why, carried)

    async def close(self) -> None:
        """Close sockets and sessions."""
        for client in list(self.api.clients.values()):
            client.reject(self._network_error()("closing"))
        await asyncio.gather(*self._goodbyes, self.api.close())

    def _guard_answers(self) -> None:
        fetch, on_rest_response = self.api.fetch, self.api.on_rest_response

        async def guarded_fetch(url: str, method: str = "GET", *args: Any, **kwargs: Any) -> Any:
            body = await fetch(url, method, *args, **kwargs)
            if not isinstance(body, dict | list):
                raise not_json(self.exchange, method, url, body)
            answers = _CURRENT.get()
            if answers is not None:
                answers.raw.append(body)
            return body

        def noted_response(code: int, reason: str, url: str, *rest: Any) -> Any:
            headers = rest[1] if len(rest) > 1 else {}
            after_s = self._crowd.noted(code, _seconds(headers.get("Retry-After")))
            self.usage.noted(code, headers)
            answers = _CURRENT.get()
            if answers is not None:
                answers.status, answers.retry_after_s = code, after_s
            return on_rest_response(code, reason, url, *rest)

        self.api.fetch = guarded_fetch
        self.api.on_rest_response = noted_response

    def _guard_frames(self) -> None:
        on_error, on_close, dial = self.api.on_error, self.api.on_close, self.api.client

        def tell_once(client: Any, why: str) -> None:
            if not getattr(client, "is_told", False):  # an error closes the socket, which tells too
                client.is_told = True
                self.hooks.on_broken(why, carried_by(client))

        def told_error(client: Any, error: Any) -> None:
            on_error(client, error)
            tell_once(client, str(error))

        def told_close(client: Any, code: Any) -> None:
            on_close(client, code)
            tell_once(client, f"closed by the venue, code {code}")

        def guarded_client(url: str) -> Any:
            client = dial(url)
            if "handle_message" not in vars(client):
                self._guard_socket(client)
            return client

        self.api.on_error, self.api.on_close = told_error, told_close
        self.api.client = guarded_client
        note_requests(self.api)

    def _guard_socket(self, client: Any) -> None:
        """Let a frame that cannot be read end its socket: the client would go deaf in silence."""
        handle, on_message = client.handle_message, client.on_message_callback

        def guarded(message: Any) -> None:
            self.hooks.on_arrival()
            try:
                handle(message)
            except Exception as trouble:  # noqa: BLE001 whatever it is, the client would be deaf
                why = f"{type(trouble).__name__}: {trouble}"
                _log.warning(FRAME_UNREADABLE, exchange=self.exchange, why=why)
                client.on_error(self._network_error()(f"a frame could not be read: {why}"))
            self.hooks.on_frame()

        def read(socket: Any, message: Any) -> None:
            if self._took_bars(message):
                return
            why = refusal_in(message)
            if why is None:
                on_message(socket, message)
            elif not refuse(socket, message, self._market_id):  # nobody awaits that answer
                socket.on_error(self._network_error()(f"a subscription was refused: {why}"))

        client.handle_message, client.on_message_callback = guarded, read

    def _took_bars(self, message: Any) -> bool:
        """Give the bars of a frame to whoever follows them; False for a frame of other things."""
        on_bars, reader = self.hooks.on_bars, FRAME_READERS.get(self.exchange)
        if on_bars is None or reader is None:
            return False
        try:
            bars = reader(message)
        except PAYLOAD_ERRORS as trouble:
            self.hooks.on_unreadable(f"{type(trouble).__name__}: {shortened(repr(message))}")
            return True
        if bars is not None:
            on_bars(bars)
        return bars is not None

    def _market_id(self, symbol: str) -> str:
        return str(self.market(symbol).get("id"))

    def _base_error(self) -> type[Exception]:
        import ccxt

        found: type[Exception] = ccxt.BaseError
        return found

    def _network_error(self) -> type[Exception]:
        import ccxt

        found: type[Exception] = ccxt.NetworkError
        return found


def refusal_in(message: object) -> str | None:
    """Give the words with which a venue refuses a subscription; None for any other frame."""
    if not isinstance(message, Mapping):
        return None
    refused = (
        (isinstance(message.get("error"), Mapping) and "id" in message)  # Binance
        or (message.get("op") == "subscribe" and message.get("success") is False)  # Bybit
        or message.get("event") == "error"  # OKX
    )
    return shortened(str(dict(message))) if refused else None


def _silence(socket: Any, error: Exception) -> None:
    """Let nothing that a given-up socket still says or does touch its successor.

    Its late frames would reach the caches, its end would remove the new one of the same address.
    """
    socket.handle_message = lambda message: None
    socket.on_error_callback = socket.on_close_callback = lambda client, what: None
    socket.error = error
    socket.reject(error)


async def _said_goodbye(socket: Any) -> None:
    import aiohttp

    try:
        async with asyncio.timeout(GOODBYE_S):
            await socket.close()
    except (*PAYLOAD_ERRORS, OSError, RuntimeError, aiohttp.ClientError) as trouble:
        _log.debug(SOCKET_GONE, why=f"{type(trouble).__name__}: {trouble}")


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def known_exchanges() -> list[str]:
    """List every exchange id of ccxt, those with sockets first."""
    import ccxt.async_support
    import ccxt.pro

    return list(dict.fromkeys([*ccxt.pro.exchanges, *ccxt.async_support.exchanges]))


def backoff_s(failures: int) -> float:
    """Give a pause that doubles with each failure, capped, with jitter against stampedes."""
    longest_s = min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(failures, 10))
    return longest_s * random.uniform(0.5, 1.0)


def _construct(exchange: str, options: Mapping[str, object]) -> Any:
    import ccxt.async_support
    import ccxt.pro

    known = known_exchanges()
    if exchange not in known:
        raise unknown_exchange(exchange, known)
    for path in _keys_in(options):
        raise ConfigurationError(
            f"exchange option {path!r}: market data is public and takes no key; keys belong to"
            " the account's settings"
        )
    kind = getattr(ccxt.pro, exchange, None) or getattr(ccxt.async_support, exchange)
    return kind({"enableRateLimit": True, **copy.deepcopy(dict(options))})


def _keys_in(options: Mapping[str, object]) -> Iterator[str]:
    return (name for name in _KEYS if options.get(name))


def _seconds(value: object) -> float | None:
    """Read a Retry-After header in seconds; a date or nonsense is no number."""
    try:
        seconds = float(str(value))
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
