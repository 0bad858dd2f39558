"""API credentials: read from the environment or a private file, and kept out of every text.

`Hidden` shows `***` wherever it is printed and refuses to be pickled or copied. No message here
quotes what was read, and none of our exceptions has a parser's exception behind it, since those
carry the whole document. `redacted` masks by pattern; a `Redactor` also masks the values it knows.
"""

from __future__ import annotations

import base64
import hmac
import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote, quote_plus

from daemon.domain.failures import BadPayload, ConfigurationError
from daemon.domain.units import require

MASK: Final = "***"
LENGTH_MIN: Final = 8  # shorter ones could not be masked without tearing ordinary words
_FIELDS: Final = ("api_key", "secret", "passphrase")
_PASSPHRASE_VENUES: Final = frozenset({"okx", "bitget", "kucoinfutures"})
_FILE_BYTES_MAX: Final = 64 * 1024
_VALUE: Final = re.compile(r"[!-~]+")

_NAMES: Final = (
    r"signature|sign|listenKey|api[-_]?key|secret|password|passphrase|X-MBX-APIKEY|X-BAPI-API-KEY"
    r"|X-BAPI-SIGN|(?:OK-)?ACCESS-(?:KEY|SIGN|PASSPHRASE)|Authorization"
)
_NAMED: Final = re.compile(
    rf"(?i)(?<![a-z0-9])((?:{_NAMES})(?:%22|\\?[\"'])?\s*(?:=|:|%3D|%3A)\s*(?:%22|\\?[\"'])?)"
    r"(?:bearer\s+|basic\s+)?[^\s\"'&,;}\\]+"
)


class Hidden:
    """Hold a text that no print, log, traceback or pickle may show; `reveal` gives it."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Give the text itself."""
        return self.__text

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hidden):
            return NotImplemented
        return hmac.compare_digest(self.__text.encode(), other.__text.encode())

    def __hash__(self) -> int:
        return hash((Hidden, self.__text))

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a credential is never pickled or copied")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Hold the credentials for one venue; passphrase: None where the venue has none."""

    venue: str
    api_key: Hidden
    secret: Hidden
    passphrase: Hidden | None = None

    def for_ccxt(self) -> dict[str, str]:
        """Give the constructor entries of ccxt, in the clear: for its constructor only."""
        entries = {"apiKey": self.api_key.reveal(), "secret": self.secret.reveal()}
        if self.passphrase is not None:
            entries["password"] = self.passphrase.reveal()
        return entries

    def redactor(self) -> Redactor:
        """Make what masks these values wherever they appear."""
        return Redactor([one for one in (self.api_key, self.secret, self.passphrase) if one])


def credentials_from_environment(
    venue: str, environment: Mapping[str, str] | None = None
) -> Credentials | None:
    """Read EQUIPOISE_<VENUE>_API_KEY, …_SECRET and …_PASSPHRASE; None when none is set.

    Raises ConfigurationError when only some of them are set.
    """
    return _or_raise(_load_environment(venue, environment))


def credentials_from_file(venue: str, path: Path) -> Credentials:
    """Read api_key, secret and passphrase from a JSON or TOML file that only its owner can read.

    Raises ConfigurationError; neither its text nor its traceback holds the file's content.
    """
    found = _or_raise(_load_file(venue, path))
    if found is None:
        raise ConfigurationError(f"{path.name}: holds no credentials")
    return found


# The functions below hand complaints back as texts instead of raising: the frames of a traceback
# keep their variables, and some displays print those.


@dataclass(frozen=True, slots=True)
class _Complaint:
    text: str


def _or_raise(found: Credentials | _Complaint | None) -> Credentials | None:
    if isinstance(found, _Complaint):
        raise ConfigurationError(found.text)
    return found


def _load_environment(
    venue: str, environment: Mapping[str, str] | None
) -> Credentials | _Complaint | None:
    names = {field: f"EQUIPOISE_{venue.upper()}_{field.upper()}" for field in _FIELDS}
    read = os.environ if environment is None else environment
    found = {field: read[name] for field, name in names.items() if read.get(name)}
    return _checked(venue, found, f"environment ({names['api_key']} …)") if found else None


def _load_file(venue: str, path: Path) -> Credentials | _Complaint:
    text = _private_text(path)
    if isinstance(text, _Complaint):
        return text
    values = _parsed(path, text)
    if not isinstance(values, dict):
        return _Complaint(f"{path.name}: not a readable {path.suffix or 'JSON'} table")
    unknown_n = sum(name not in _FIELDS for name in values)
    if unknown_n:
        return _Complaint(f"{path.name}: {unknown_n} unknown entries; accepted: {_FIELDS}")
    return _checked(venue, values, path.name)


def _private_text(path: Path) -> str | _Complaint:
    """Read a file after looking at its permissions through the same open handle."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        return _Complaint(f"{path.name}: cannot be opened: {e.strerror or type(e).__name__}")
    try:
        return _open_to_others(path, handle) or os.read(handle, _FILE_BYTES_MAX).decode(
            "utf-8", "replace"
        )
    finally:
        os.close(handle)


def _open_to_others(path: Path, handle: int) -> _Complaint | None:
    found = os.fstat(handle)
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISREG(found.st_mode):
        return _Complaint(f"{path.name}: not an ordinary file")
    if found.st_uid != os.geteuid():
        return _Complaint(f"{path.name}: belongs to another user")
    if mode & 0o177:
        return _Complaint(
            f"{path.name}: permissions are {mode:04o}; only 0600 (or 0400) keeps others out"
        )
    return None


def _parsed(path: Path, text: str) -> object:
    try:
        return tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except (ValueError, RecursionError):
        return None  # such an exception holds the document


def _checked(venue: str, values: Mapping[str, object], source: str) -> Credentials | _Complaint:
    hidden: dict[str, Hidden] = {}
    for field, value in values.items():
        if not isinstance(value, str) or not _VALUE.fullmatch(value):
            return _Complaint(f"{source}: {field} must be a text without spaces")
        if len(value) < LENGTH_MIN:
            return _Complaint(f"{source}: {field} has fewer than {LENGTH_MIN} letters")
        hidden[field] = Hidden(value)
    wanted = _FIELDS if venue in _PASSPHRASE_VENUES else _FIELDS[:2]
    missing = [field for field in wanted if field not in hidden]
    if missing:
        return _Complaint(f"{source}: {venue} also needs {', '.join(missing)}")
    return Credentials(venue, hidden["api_key"], hidden["secret"], hidden.get("passphrase"))


def redacted(text: str) -> str:
    """Mask keys, secrets and signatures that stand behind their names: in URLs, headers, JSON."""
    return _NAMED.sub(rf"\1{MASK}", text)


class Redactor:
    """Mask known values, however they are encoded, and everything that `redacted` masks."""

    __slots__ = ("__forms",)

    def __init__(self, hidden: Sequence[Hidden]) -> None:
        for one in hidden:
            require(len(one.reveal()) >= LENGTH_MIN, "a credential is too short to be masked")
        forms = {form for one in hidden for form in _forms(one.reveal())}
        self.__forms = sorted(forms, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"Redactor({MASK})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("what knows credentials is never pickled or copied")

    def __call__(self, text: str) -> str:
        """Give the text without any of the values."""
        clean = redacted(self.__without(text))
        # Masking by pattern may join what stood apart, so the values are looked for again.
        return self.__without(clean)

    def __without(self, text: str) -> str:
        # Each replacement shortens the text, so this ends.
        while any(form in text for form in self.__forms):
            for form in self.__forms:
                text = text.replace(form, MASK)
        return text


def _forms(value: str) -> set[str]:
    """Give the ways in which a value may appear in a text, none shorter than the value."""
    coded = base64.b64encode(value.encode()).decode()
    quoted = json.dumps(value)[1:-1]
    return {value, quote(value, safe=""), quote_plus(value), quoted, repr(value)[1:-1], coded}


@dataclass(frozen=True, slots=True)
class KeyRights:
    """Hold what a venue says a key may do."""

    may_trade: bool
    may_withdraw: bool


def key_rights(venue: str, payload: object) -> KeyRights:
    """Read a venue's answer about our key; raises BadPayload where it does not say.

    binanceusdm: GET /sapi/v1/account/apiRestrictions. bybit: GET /v5/user/query-api. okx: GET
    /api/v5/account/config. A key that may withdraw must be refused by the caller.
    """
    try:
        if venue == "binanceusdm" and isinstance(payload, dict):
            trade, withdraw = payload["enableFutures"], payload["enableWithdrawals"]
            if isinstance(trade, bool) and isinstance(withdraw, bool):
                return KeyRights(trade, withdraw)
        if venue == "bybit" and isinstance(payload, dict):
            return _bybit_rights(payload["result"])
        if venue == "okx" and isinstance(payload, dict):
            words = payload["data"][0]["perm"].split(",")
            return KeyRights("trade" in words, "withdraw" in words)
    except (KeyError, IndexError, TypeError, AttributeError):
        pass
    raise BadPayload(f"{venue}: the answer does not say what the key may do")


def _bybit_rights(result: Mapping[str, object]) -> KeyRights:
    permissions = result["permissions"]
    if not isinstance(permissions, dict):
        raise TypeError("permissions")
    reads = str(result["readOnly"]) == "1"
    trades = "Order" in permissions["ContractTrade"] and not reads
    return KeyRights(trades, "Withdraw" in permissions["Wallet"])
