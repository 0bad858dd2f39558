"""Requests of operators that come over a network, and answers to them: text that is signed.

The signature is HMAC-SHA256 (RFC 2104) in lower-case hex with the secret that both sides hold, over

    equipoise-command-1 <newline> action <newline> run <newline> request_id <newline> asked_ms
    <newline> reason

and for an answer over `equipoise-answer-1`, run and the answer's JSON text. Nothing here knows the
time or the network; who calls judges the age.
"""

from __future__ import annotations

import hmac
import json
from hashlib import sha256
from typing import Final

import msgspec

from daemon.domain.failures import BadPayload

PAYLOAD_BYTES_MAX: Final = 4096
REASON_CHARS_MAX: Final = 200
SECRET_BYTES_MIN: Final = 16
_COMMAND: Final = "equipoise-command-1"
_ANSWER: Final = "equipoise-answer-1"


class SignedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold what somebody asks for; nothing in it is to be believed before `is_signed_with`.

    asked_ms: UTC of the asking machine.
    """

    action: str
    run: str
    request_id: str
    asked_ms: int
    signature: str
    reason: str = ""

    def is_signed_with(self, secret: bytes) -> bool:
        """Tell whether the signature is of this secret; takes as long for every wrong one."""
        wanted = _hex(secret, _COMMAND, *self._parts())
        return hmac.compare_digest(wanted.encode(), self.signature.encode())

    def _parts(self) -> tuple[str, ...]:
        return self.action, self.run, self.request_id, str(self.asked_ms), self.reason


class SignedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold the daemon's answer as the very text that was signed."""

    request_id: str
    answer: str
    signature: str


def signed_request(
    secret: bytes, *, action: str, run: str, request_id: str, asked_ms: int, reason: str = ""
) -> str:
    """Write a request as a payload, one line of JSON."""
    signature = _hex(secret, _COMMAND, action, run, request_id, str(asked_ms), reason)
    request = SignedRequest(action, run, request_id, asked_ms, signature, reason)
    return msgspec.json.encode(request).decode()


def read_request(payload: bytes) -> SignedRequest:
    """Read a payload; raises BadPayload, which names the field that is not what it must be."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise BadPayload(f"payload: {len(payload):,} bytes, at most {PAYLOAD_BYTES_MAX:,}")
    try:
        request = msgspec.json.decode(payload, type=SignedRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise BadPayload(f"payload: {e}") from e
    if len(request.reason) > REASON_CHARS_MAX:
        raise BadPayload(f"reason: {len(request.reason)} characters, at most {REASON_CHARS_MAX}")
    if not request.reason.isprintable():
        raise BadPayload("reason: holds characters that cannot be printed")
    return request


def signed_answer(secret: bytes, *, run: str, request_id: str, answer: str) -> str:
    """Write an answer, itself a JSON text, as a payload."""
    signature = _hex(secret, _ANSWER, run, answer)
    return msgspec.json.encode(SignedAnswer(request_id, answer, signature)).decode()


def read_answer(payload: str, secret: bytes, *, run: str) -> dict[str, object] | None:
    """Read the answer in a payload; None when it is none or somebody else wrote it."""
    try:
        signed = msgspec.json.decode(payload, type=SignedAnswer)
        wanted = _hex(secret, _ANSWER, run, signed.answer)
        if not hmac.compare_digest(wanted.encode(), signed.signature.encode()):
            return None
        found = json.loads(signed.answer)
    except (ValueError, RecursionError):
        return None
    is_whole = isinstance(found, dict) and found.get("request_id") == signed.request_id
    return found if is_whole else None


def _hex(secret: bytes, *parts: str) -> str:
    text = "\n".join(parts).encode("utf-8", "surrogatepass")
    return hmac.new(secret, text, sha256).hexdigest()
