"""Constructor options that send the unmodified ccxt client `binanceusdm` to a rehearsal."""

from __future__ import annotations

from typing import Any, Final

# Section of the client's URL tree -> path behind the host. The spot sections are named as well
# because some futures methods go there (status, currencies).
_REST_PATHS: Final = {
    "fapiPublic": "/fapi/v1",
    "fapiPublicV2": "/fapi/v2",
    "fapiPublicV3": "/fapi/v3",
    "fapiPrivate": "/fapi/v1",
    "fapiPrivateV2": "/fapi/v2",
    "fapiPrivateV3": "/fapi/v3",
    "fapiData": "/futures/data",
    "sapi": "/sapi/v1",
    "sapiV2": "/sapi/v2",
    "sapiV3": "/sapi/v3",
    "sapiV4": "/sapi/v4",
    "public": "/api/v3",
    "private": "/api/v3",
}


def ccxt_options(rest_url: str, ws_url: str) -> dict[str, Any]:
    """Give plain nested options for the exchange id `binanceusdm`; they hold no code.

    The client's own throttle is off: loopback needs none, and a rehearsal runs faster than a venue
    would allow. Calls that need a key are off. The WebSocket address must end in `/ws` exactly:
    the client derives its public and market sockets from that.
    """
    rest = {section: rest_url + path for section, path in _REST_PATHS.items()}
    sockets = {"linear": f"{ws_url}/ws", "ws-api": {"linear": f"{ws_url}/ws-fapi/v1"}}
    return {
        "urls": {"api": {**rest, "ws": sockets}},
        "enableRateLimit": False,
        "options": {
            "fetchCurrencies": False,
            "fetchMargins": False,
            "fetchMarkets": {"types": ["linear"]},
            "warnOnFetchOpenOrdersWithoutSymbol": False,
        },
    }


def keyed_options(rest_url: str, ws_url: str, key: str, secret: str) -> dict[str, Any]:
    """Give the options of a client that may trade: it signs with the market's time."""
    options = ccxt_options(rest_url, ws_url)
    options["options"]["adjustForTimeDifference"] = True
    return {**options, "apiKey": key, "secret": secret}
