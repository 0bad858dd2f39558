"""Signed requests: who asks, whether the signature fits, and whether the request is fresh.

A signature covers the query string and the body, as sent, without the signature itself. A request
is fresh if its timestamp is at most `recvWindow` old and at most a second ahead. Against which
clock depends on the pace: at the wall's own pace, the market's clock, as at the venue. In any other
pace a client's clock runs otherwise than the market's, so that three clocks count there: the
market's; the one of a client that once asked for the time and runs on with the machine; and that of
the key's first request. What jumps off all of them is refused there, too.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from adapters.rehearsal.accounts import Accounts, KeySettings
from adapters.rehearsal.binance.refusals import error
from adapters.rehearsal.dialect import DialectError, missing

AHEAD_MS_MAX: Final = 1_000
WINDOW_MS: Final = 5_000
WINDOW_MS_MAX: Final = 60_000
TOLD_MAX: Final = 256
_KEY_LENGTH_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Caller:
    """Hold who asked, and what."""

    key: str
    query: Mapping[str, str]


class Gate:
    """Check keys, signatures and timestamps.

    clock: market time in ms. transport: the machine's seconds. strict: only the market's clock
    counts.
    """

    def __init__(
        self,
        accounts: Accounts,
        clock: Callable[[], int],
        transport: Callable[[], float],
        *,
        strict: bool,
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._transport = transport
        self._strict = strict
        self._told: deque[float] = deque(maxlen=TOLD_MAX)
        self._first: dict[str, float] = {}

    def told(self) -> None:
        """Remember that somebody was told the time just now."""
        self._told.append(self._clock() - self._transport() * 1000)

    def known(self, key: str | None) -> KeySettings:
        """Give what belongs to a key; raise what the venue answers to another one."""
        if not key:
            raise error(-2014, "API-key format invalid.", status=401)
        if len(key) > _KEY_LENGTH_MAX or not key.isascii() or not key.isprintable() or " " in key:
            raise error(-2014, "API-key format invalid.", status=401)
        found = self._accounts.keyed(key)
        if found is None:
            raise error(
                -2015, "Invalid API-key, IP, or permissions for action, request.", status=401
            )
        return found

    def admit(self, key: str | None, raw_query: str, raw_body: str, *, skewed: bool) -> Caller:
        """Check a signed request; raise DialectError as the venue would refuse it.

        skewed: as if the client's clock were off.
        """
        owner = self.known(key)
        query = dict(parse_qsl(f"{raw_query}&{raw_body}", keep_blank_values=True))
        if "signature" not in query:
            raise missing("signature")
        if not _fits(owner.secret, raw_query, raw_body, query["signature"]):
            raise error(-1022, "Signature for this request is not valid.")
        self._check_time(owner.key, query, skewed=skewed)
        return Caller(owner.key, query)

    def _check_time(self, key: str, query: Mapping[str, str], *, skewed: bool) -> None:
        stamp, window = _whole(query, "timestamp"), _whole(query, "recvWindow", WINDOW_MS)
        if not 0 < window <= WINDOW_MS_MAX:
            raise error(-1131, f"recvWindow must be less than {WINDOW_MS_MAX}.")
        ages = [clock - stamp for clock in self._clocks(key, stamp)]
        if skewed or not any(-AHEAD_MS_MAX < age <= window for age in ages):
            raise stale(ages[0])

    def _clocks(self, key: str, stamp: int) -> list[float]:
        """List the clocks that count, the market's first."""
        market_ms = float(self._clock())
        if self._strict:
            return [market_ms]
        elapsed_ms = self._transport() * 1000
        first = self._first.setdefault(key, stamp - elapsed_ms)
        return [market_ms, first + elapsed_ms, *(one + elapsed_ms for one in self._told)]


def stale(age_ms: float) -> DialectError:
    """Give the answer to a timestamp that is off: behind where `age_ms` is positive."""
    if age_ms < 0:
        return error(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
    return error(-1021, "Timestamp for this request is outside of the recvWindow.")


def _fits(secret: str, raw_query: str, raw_body: str, signature: str) -> bool:
    signed = _unsigned(raw_query) + _unsigned(raw_body)
    wanted = hmac.new(secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), signature.lower().encode())


def _unsigned(raw: str) -> str:
    return "&".join(part for part in raw.split("&") if not part.startswith("signature="))


def _whole(query: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = query.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isascii() or not text.isdigit():
        raise missing(name)
    return int(text)
