"""Who asks: the signature of Bybit's private requests, and of the log-in on its private sockets.

REST signs timestamp + key + window + (query text or body); a socket signs `GET/realtime` + expiry.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from adapters.rehearsal.accounts import Accounts, KeySettings
from adapters.rehearsal.bybit.answers import BybitError

WINDOW_MS_DEFAULT: Final = 5_000
WINDOW_MS_MAX: Final = 60_000
AHEAD_MS_MAX: Final = 1_000
TOLD_MAX: Final = 64


def signature(secret: str, text: str) -> str:
    """Sign a text."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Gate:
    """Let in who has a key and signs with it in time.

    clock: the market's time. elapsed: monotonic ms where the market stands still, or runs ahead,
    while its clients' clocks run; None where it runs with the wall. In the first case a client that
    does not sign with the market's time is believed once, and its clock must run evenly from then
    on; or on from a time that somebody was told, as a client's does that started anew.
    """

    def __init__(
        self, accounts: Accounts, clock: Callable[[], int], elapsed: Callable[[], int] | None
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._elapsed = elapsed
        self._ahead_ms: dict[str, int] = {}  # of a key's clock before `elapsed`
        self._told_ms: deque[int] = deque(maxlen=TOLD_MAX)  # the same, of times that were told

    def told(self) -> None:
        """Remember that somebody was told the time just now."""
        if self._elapsed is not None:
            self._told_ms.append(self._clock() - self._elapsed())

    def enter(self, headers: Mapping[str, str], signed: str) -> KeySettings:
        """Give the account of a request; raises BybitError as the venue refuses it.

        signed: the query's text of a GET, the body of a POST.
        """
        known = self._accounts.keyed(headers.get("X-BAPI-API-KEY", ""))
        if known is None:
            raise BybitError(10003, "API key is invalid.")
        stamp = headers.get("X-BAPI-TIMESTAMP", "")
        window = headers.get("X-BAPI-RECV-WINDOW", "") or str(WINDOW_MS_DEFAULT)
        if not stamp.isdecimal() or not window.isdecimal() or int(window) > WINDOW_MS_MAX:
            raise _late(stamp, self._clock(), window)
        if not self._is_in_time(known.key, int(stamp), int(window)):
            raise _late(stamp, self._clock(), window)
        expected = signature(known.secret, f"{stamp}{known.key}{window}{signed}")
        if not _same(expected, headers.get("X-BAPI-SIGN", "")):
            # what was signed holds the key, so it stays out of the message
            raise BybitError(10004, "error sign! please check your signature generation algorithm.")
        if self._elapsed is not None and not _fits(int(stamp), self._clock(), int(window)):
            self._ahead_ms.setdefault(known.key, int(stamp) - self._elapsed())
        return known

    def log_in(self, arguments: Sequence[Any]) -> KeySettings | None:
        """Give the account that a socket's `auth` opens, None where it opens none."""
        if len(arguments) != 3:
            return None
        key, expires, sign = (str(one) for one in arguments)
        known = self._accounts.keyed(key)
        if known is None or not expires.isdecimal() or int(expires) < self._clock():
            return None
        right = _same(signature(known.secret, f"GET/realtime{expires}"), sign)
        return known if right else None

    def _is_in_time(self, key: str, stamp_ms: int, window_ms: int) -> bool:
        if _fits(stamp_ms, self._clock(), window_ms):
            return True
        if self._elapsed is None:
            return False
        first_ms = self._ahead_ms.get(key)
        if first_ms is None:
            return True
        elapsed_ms = self._elapsed()
        known = (first_ms, *self._told_ms)
        return any(_fits(stamp_ms, elapsed_ms + ahead_ms, window_ms) for ahead_ms in known)


def _same(expected: str, told: str) -> bool:
    """Compare in constant time, whatever letters were told."""
    return hmac.compare_digest(expected.encode(), told.encode(errors="surrogateescape"))


def _fits(stamp_ms: int, now_ms: int, window_ms: int) -> bool:
    return now_ms - window_ms <= stamp_ms < now_ms + AHEAD_MS_MAX


def _late(stamp: str, now_ms: int, window: str) -> BybitError:
    text = "invalid request, please check your server timestamp or recv_window param. "
    times = f"req_timestamp[{stamp}],server_timestamp[{now_ms}],recv_window[{window}]"
    return BybitError(10002, text + times)
