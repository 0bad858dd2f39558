"""One ccxt client with credentials: made without its dangerous defaults, and mute about its keys.

The only place of this package that imports ccxt, on demand, because that takes a second.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any, Final

from adapters.ccxt_venue.keys import Credentials, Redactor
from adapters.ccxt_venue.pacing import pace
from adapters.ccxt_venue.wire import watch
from daemon.domain.failures import ConfigurationError

TIMEOUT_MS: Final = 10_000
_CREDENTIALS: Final = (
    "apiKey",
    "secret",
    "password",
    "uid",
    "walletAddress",
    "privateKey",
    "token",
    "twofa",
)
# Requests that ccxt adds by itself (currencies, margins, other kinds of market) could fail and so
# stop futures trading; a retry of its own would send an order a second time.
_OPTIONS: Final[Mapping[str, object]] = {
    "maxRetriesOnFailure": 0,
    "adjustForTimeDifference": False,
    "fetchCurrencies": False,
    "fetchMargins": False,
    "warnOnFetchOpenOrdersWithoutSymbol": False,
    "builderFee": False,
    "timeDifference": 0,
}
_MARKETS: Final[Mapping[str, list[str]]] = {
    "binanceusdm": ["linear"],
    "bybit": ["linear"],
    "okx": ["swap"],
}
# Bybit's timers count from the end of our private socket, and a frozen process never ends it: the
# venue does once it heard nothing for so long, 10 minutes unless asked. Ours pings each 18 s.
_SILENCE: Final = "max_active_time=30s"
_SILENCE_KNOWN_AT: Final = ("/v5/private", "/v5/trade")


class _MuteKeys(logging.Filter):
    """Rewrite what a client logs so that no credential or signature is in it."""

    def __init__(self, clean: Redactor) -> None:
        super().__init__()
        self._clean = clean

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = self._clean(record.getMessage()), ()
        return True


def keyed_client(
    venue: str,
    options: Mapping[str, object],
    credentials: Credentials,
    *,
    receive_window_ms: int,
) -> Any:
    """Make a watched ccxt client that may trade; raises ConfigurationError for a foreign key.

    options: of the constructor, without credentials. The client never repeats a request.
    """
    import ccxt.pro

    named = [name for name in _CREDENTIALS if options.get(name)]
    if named:
        raise ConfigurationError(
            f"exchange option {named[0]!r}: credentials come from the environment or a private file"
        )
    if credentials.venue != venue:
        raise ConfigurationError(f"the key is for {credentials.venue}, not for {venue}")
    merged = copy.deepcopy(dict(options))
    given = merged.get("options")
    inner = dict(given) if isinstance(given, Mapping) else {}
    inner.update(_OPTIONS)
    inner["recvWindow"] = receive_window_ms
    inner["fetchMarkets"] = {"types": _MARKETS[venue]}
    merged["options"] = inner
    merged["verbose"] = False  # it prints headers, keys included
    merged.setdefault("enableRateLimit", True)
    merged.setdefault("timeout", TIMEOUT_MS)
    api = getattr(ccxt.pro, venue)({**merged, **credentials.for_ccxt()})
    if venue == "bybit":
        api.has["fetchCurrencies"] = False
        sockets = api.urls["api"]["ws"]
        sockets["private"] = _ended_when_silent(sockets["private"])
    mute(api, credentials.redactor())
    pace(venue, api)
    watch(api)
    return api


def _ended_when_silent(addresses: Any) -> Any:
    """Have the venue end our private sockets soon after it last heard of us."""
    if isinstance(addresses, Mapping):
        return {name: _ended_when_silent(one) for name, one in addresses.items()}
    if not str(addresses).endswith(_SILENCE_KNOWN_AT):
        return addresses
    return f"{addresses}?{_SILENCE}"


def mute(api: Any, clean: Redactor) -> None:
    """Give the client a logger of its own whose lines hold no credential; `verbose` stays off."""
    logger = logging.getLogger(f"ccxt.private.{id(api)}")
    logger.addFilter(_MuteKeys(clean))
    api.logger = logger
    api.log = lambda *said: logger.debug("%s", " ".join(map(str, said)))
