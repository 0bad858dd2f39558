"""Faults of the public half, switched on from outside: an exchange that answers garbage.

One fault is active at a time, for a counted number of answers (REST), frames or publications
(stream). `/rehearsal/*` itself is never faulty.
"""

from __future__ import annotations

from enum import StrEnum

from aiohttp import web

from daemon.domain.failures import ConfigurationError


class Fault(StrEnum):
    """Name what goes wrong."""

    NONE = "none"
    NOT_JSON_200 = "not_json_200"  # a gateway page with status 200
    HTTP_451 = "http_451"  # refused for the caller's country
    HTTP_403 = "http_403"  # refused by the web application firewall
    HTTP_503 = "http_503"  # overloaded
    HTTP_429 = "http_429"  # too many requests, with Retry-After
    GARBAGE_FRAME = "garbage_frame"  # a frame that begins like JSON and is cut
    DROP_SOCKETS = "drop_sockets"  # every open socket is cut without a goodbye
    STALL = "stall"  # sockets stay open and silent


_PAGE = "<html><head><title>Please wait</title></head><body>One moment.</body></html>"
GARBAGE = '{"e":"kline","E":1,"s":"BTCUSDT","k":{"t":17'
_RETRY_AFTER_SECONDS = "1"


class FaultSwitch:
    """Hold the active fault and count it down."""

    def __init__(self) -> None:
        self.fault = Fault.NONE
        self.left = 0

    def set(self, kind: str, count: int) -> None:
        """Switch a fault on; raise ConfigurationError naming what is accepted."""
        try:
            fault = Fault(kind)
        except ValueError:
            accepted = ", ".join(member.value for member in Fault)
            raise ConfigurationError(f"kind {kind!r}: accepted is {accepted}") from None
        if count < 1:
            raise ConfigurationError(f"count {count}: accepted is 1 or more")
        self.fault, self.left = fault, count

    def takes(self, *kinds: Fault) -> bool:
        """Tell whether one of `kinds` strikes now, and count it."""
        if self.left < 1 or self.fault not in kinds:
            return False
        self.left -= 1
        return True

    def rest_answer(self) -> web.Response | None:
        """Give the faulty answer that replaces the next REST answer, if one is due."""
        if self.takes(Fault.NOT_JSON_200):
            return web.Response(text=_PAGE, content_type="text/html")
        if self.takes(Fault.HTTP_451):
            return web.Response(status=451, text=_UNAVAILABLE, content_type="application/json")
        if self.takes(Fault.HTTP_403):
            return web.Response(status=403, text=_PAGE, content_type="text/html")
        if self.takes(Fault.HTTP_503):
            return web.Response(status=503, text="Service Unavailable.", content_type="text/html")
        if self.takes(Fault.HTTP_429):
            headers = {"Retry-After": _RETRY_AFTER_SECONDS}
            kind = "application/json"
            return web.Response(status=429, text=_BUSY, content_type=kind, headers=headers)
        return None


_UNAVAILABLE = (
    '{"code":0,"msg":"Service unavailable from a restricted location according to the terms."}'
)
_BUSY = '{"code":-1003,"msg":"Too many requests; please use the websocket for live updates."}'
