"""Tell by HTTP: a webhook of one's own, and Telegram's bot interface.

No redirect is followed, no proxy of the environment is used, and of an answer a few kilobytes are
read. Addresses may hold secrets: logs and errors name the host only.

A webhook gets a POST of JSON. With a secret it is signed:

    X-Equipoise-Timestamp: seconds since 1970
    X-Equipoise-Signature: sha256=hex of HMAC-SHA256(secret, timestamp + "." + body)
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp

from adapters.notify.post import RETRY_AFTER_S_MAX, Undelivered
from daemon.domain.units import iso
from daemon.status.notices import Message, Severity

ANSWER_BYTES_MAX: Final = 4096
CONNECT_S_MAX: Final = 5.0
TOTAL_S_MAX: Final = 10.0
TELEGRAM_CHARS_MAX: Final = 4096
_WORTH_TRYING_AGAIN: Final = frozenset({408, 425, 429})


class Webhook:
    """POST each message as JSON to one address."""

    name = "webhook"

    def __init__(self, url: str, *, run: str, secret: str | None = None) -> None:
        self._url = url
        self._run = run
        self._secret = secret
        self.server = _host(url)

    async def send(self, message: Message) -> str:
        """Deliver; any 2xx is an arrival. Raises Undelivered."""
        body = json.dumps(webhook_values(message, self._run), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        if self._secret is not None:
            stamp = str(message.sent_ms // 1000)
            headers["X-Equipoise-Timestamp"] = stamp
            headers["X-Equipoise-Signature"] = signature(self._secret, stamp, body)
        status, _ = await _post(self._url, body, headers)
        return f"HTTP {status}"


def webhook_values(message: Message, run: str) -> dict[str, Any]:
    """Give the fields of a webhook; `text` and `content` are what chat servers show."""
    body = message.body(run)
    return {
        "version": 1,
        "run": run,
        "severity": message.severity,
        "kind": message.kind,
        "subject": message.subject,
        "over": message.over,
        "count": message.count,
        "at": iso(message.at_ms),
        "at_ms": message.at_ms,
        "message": message.text,
        "text": body,
        "content": body[:2000],
    }


def signature(secret: str, stamp: str, body: bytes) -> str:
    """Sign a body together with when it was sent."""
    signed = hmac.new(secret.encode(), f"{stamp}.".encode() + body, hashlib.sha256)
    return f"sha256={signed.hexdigest()}"


class Telegram:
    """Send each message to one chat by a bot; what is only info makes no sound."""

    name = "telegram"

    def __init__(self, token: str, chat: str, *, api: str, run: str) -> None:
        self._url = f"{api.rstrip('/')}/bot{token}/sendMessage"
        self._token = token
        self._chat = chat
        self._run = run
        self.server = _host(api)

    async def send(self, message: Message) -> str:
        """Deliver; raises Undelivered with what Telegram says."""
        values = {
            "chat_id": self._chat,
            "text": message.body(self._run)[:TELEGRAM_CHARS_MAX],
            "disable_notification": message.severity is Severity.INFO,
            "disable_web_page_preview": True,
        }
        body = json.dumps(values, ensure_ascii=False).encode()
        status, answer = await _post(self._url, body, {"Content-Type": "application/json"})
        if _object(answer).get("ok") is not True:
            raise Undelivered(f"HTTP {status} without ok", is_final=True)
        return f"HTTP {status}, ok"


async def _post(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    timeout = aiohttp.ClientTimeout(total=TOTAL_S_MAX, sock_connect=CONNECT_S_MAX)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
            session.post(url, data=body, headers=dict(headers), allow_redirects=False) as response,
        ):
            answer = await response.content.read(ANSWER_BYTES_MAX)
            return _judged(response, answer)
    except TimeoutError:
        raise Undelivered(f"no answer within {TOTAL_S_MAX:g} s") from None
    except aiohttp.InvalidURL:
        raise Undelivered("the address is none", is_final=True) from None
    except (aiohttp.ClientError, OSError) as e:
        # some of these texts quote the address, which may hold a secret
        why = e.strerror if isinstance(e, OSError) and e.strerror else ""
        raise Undelivered(f"{type(e).__name__} {why}".strip()) from None


def _judged(response: aiohttp.ClientResponse, answer: bytes) -> tuple[int, bytes]:
    status = response.status
    if 200 <= status < 300:
        return status, answer
    if 300 <= status < 400:
        raise Undelivered(f"HTTP {status}: redirects are not followed", is_final=True)
    said = _object(answer)
    why = f"HTTP {status} {_words(said.get('description', ''))}".strip()
    if status in _WORTH_TRYING_AGAIN or status >= 500:
        raise Undelivered(why, after_s=_after_s(response, said))
    raise Undelivered(why, is_final=True)


def _after_s(response: aiohttp.ClientResponse, said: Mapping[str, Any]) -> float | None:
    """Read how long to wait, from Telegram's answer or from the header; bounded."""
    parameters = said.get("parameters")
    told = parameters.get("retry_after") if isinstance(parameters, dict) else None
    if told is None:
        header = response.headers.get("Retry-After", "")
        told = int(header) if header.isdecimal() and len(header) < 8 else None
    if isinstance(told, bool) or not isinstance(told, int | float) or told < 0:
        return None
    return min(float(told), RETRY_AFTER_S_MAX)


def _object(answer: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(text: object) -> str:
    """Give a server's words on one short line of printable characters."""
    words = " ".join(str(text)[:200].split())
    return "".join(c if c.isprintable() else "?" for c in words)


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}"
