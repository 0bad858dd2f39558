"""Which codes of each venue prove a refusal, and which one proves that an order is absent.

A code stands here only if the venue's own words leave no doubt that nothing was done. Every other
code, and all that say 'unknown', 'timeout' or 'busy', is left out on purpose: what is not listed is
uncertain. Meanings are ours, so that the rest of the house never compares numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Reason(StrEnum):
    """Say why a venue refused."""

    MARGIN = "margin_insufficient"
    MARGIN_RATIO = "position_or_leverage_limit"
    NOTIONAL_MIN = "notional_min"
    PRECISION = "precision_or_step"
    SIZE = "size_limit"
    PRICE = "price_limit"
    POST_ONLY = "post_only_would_take"
    REDUCE_ONLY = "reduce_only_refused"
    ORDER_COUNT = "open_orders_limit"
    SYMBOL = "symbol_not_tradable"
    RATE = "asked_too_often"
    CLOCK = "clock_skew"
    KEY = "key_refused"
    ACCOUNT = "account_restricted"
    PARAMETER = "parameter_refused"
    DUPLICATE = "id_used_already"
    NOT_RESTING = "no_such_resting_order"
    NO_CHANGE = "already_so"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Hold a venue's code, its words and what the code means to us; None where we do not know."""

    code: str
    text: str
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class Codes:
    """Hold one venue's codes.

    absent: codes by which a query about one order is answered 'there is no such order'. success:
    codes that are no error.
    """

    meanings: Mapping[str, Reason]
    absent: frozenset[str]
    success: frozenset[str]


def _table(rows: Mapping[Reason, str]) -> Mapping[str, Reason]:
    table = {code: reason for reason, codes in rows.items() for code in codes.split()}
    return MappingProxyType(table)


# -1000, -1001, -1004, -1006, -1007, -1008 and -1010 are missing: execution unknown, or overloaded.
# -2012, -2020, -2023 and -4117 are missing: what happened to the order is not said.
_BINANCE: Final = {
    Reason.MARGIN: "-2018 -2019 -2024",
    Reason.MARGIN_RATIO: "-2027 -2028 -4118",
    Reason.NOTIONAL_MIN: "-4164",
    Reason.PRECISION: "-1111 -4003 -4004 -4014 -4023",
    Reason.SIZE: "-4005",
    Reason.PRICE: "-4001 -4002 -4013 -4016 -4024 -4131 -4183 -4184",
    Reason.POST_ONLY: "-5022",
    Reason.REDUCE_ONLY: "-2022 -2026",
    Reason.ORDER_COUNT: "-2025",
    Reason.SYMBOL: "-1121 -1122 -4022 -4140 -4141 -4144",
    Reason.RATE: "-1003 -1015",
    Reason.CLOCK: "-1021",
    Reason.KEY: "-1002 -1022 -1099 -2014 -2015 -2017",
    Reason.ACCOUNT: "-4087 -4088 -4192",
    Reason.PARAMETER: (
        "-1013 -1014 -1020 -1100 -1101 -1102 -1103 -1104 -1105 -1106 -1114 -1115 -1116 -1117 -1118"
        " -1119 -1128 -1130 -1131 -1136 -2010 -2021 -4015 -4061 -4120"
    ),
    Reason.DUPLICATE: "-4116",
    Reason.NOT_RESTING: "-2011",
    Reason.NO_CHANGE: "-4046 -4059",
}

# 10000, 10014, 10016, 5004, 110063, 110066, 131200 and 131201 are missing: busy, or not said.
_BYBIT: Final = {
    Reason.MARGIN: "110004 110006 110007 110012 110014 110044 110045 110051 110052 110053",
    Reason.MARGIN_RATIO: "110011 110013 110016 110021 110022 110039 110040 110046 110047 110048",
    Reason.NOTIONAL_MIN: "110094",
    Reason.PRICE: "110003",
    Reason.REDUCE_ONLY: "110017 110023 110034 110042",
    Reason.ORDER_COUNT: "110009 110020",
    Reason.SYMBOL: "10029 110037 110070 110074",
    Reason.RATE: "10006 10018",
    Reason.CLOCK: "10002",
    Reason.KEY: "10003 10004 10005 10007 10010",
    Reason.ACCOUNT: "10008 10009 10020 10024 10027 10028 110067 110068 110069",
    Reason.PARAMETER: "10001 10017 7001 12201 110018 110019 110032 110057",
    Reason.DUPLICATE: "12141 110030 110072",
    Reason.NOT_RESTING: "110001 110008 110010",
    Reason.NO_CHANGE: "110025 110026 110027 110043",
}

# 1, 2, 50001, 50004, 50005, 50013, 50026 and 51410 are missing: busy, timed out, or under way.
_OKX: Final = {
    Reason.MARGIN: "51008 51119 51127 51131",
    Reason.MARGIN_RATIO: "51004 51107 51129",
    Reason.NOTIONAL_MIN: "51007 51020 51100 51118 51120",
    Reason.PRECISION: "51121",
    Reason.SIZE: "51005 51101 51104 51105 51106 51185 51201 51202 51203",
    Reason.PRICE: "51006 51031 51116 51122 51135 51136 51137 51138",
    Reason.REDUCE_ONLY: "51023 51108 51112 51205",
    Reason.ORDER_COUNT: "51025 51102 51103 51117 51174",
    Reason.SYMBOL: "51001 51015 51021 51022 51027 51028 51029 51030",
    Reason.RATE: "50011 50061",
    Reason.CLOCK: "50102 50112",
    Reason.KEY: "50101 50103 50104 50105 50106 50107 50110 50111 50113 50114",
    Reason.ACCOUNT: (
        "50007 50008 50009 50012 50017 50018 50019 50020 50021 50022 50027 50100 51009 51010 51024"
        " 51155"
    ),
    Reason.PARAMETER: "50000 50002 50006 50014 50015 50016 50024 50115 51000 51003 51204 51407",
    Reason.DUPLICATE: "51011 51016",
    Reason.NOT_RESTING: "51400 51401 51402",
}

CODES: Final[Mapping[str, Codes]] = MappingProxyType(
    {
        "binanceusdm": Codes(_table(_BINANCE), frozenset({"-2013"}), frozenset({"0", "200"})),
        # An empty listing, not a code, is how this venue says absent; see `rows_bybit`.
        "bybit": Codes(_table(_BYBIT), frozenset(), frozenset({"0"})),
        "okx": Codes(_table(_OKX), frozenset({"51603"}), frozenset({"0"})),
    }
)


def payload_of(body: str | None) -> object:
    """Read a JSON body without losing a digit; None for anything that is not an object or list."""
    try:
        # Fractions stay texts: a float would round a price.
        value = json.loads(body or "", parse_float=str, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def verdict_in(venue: str, payload: object) -> Verdict | None:
    """Find the venue's own error code in a payload; None when it names none.

    A success code gives None as well. A payload that is a list of one item is read as that item.
    """
    codes = CODES.get(venue)
    named = _named(payload)
    if codes is None or named is None or named[0] in codes.success:
        return None
    code, text = named
    return Verdict(code, text, codes.meanings.get(code))


def verdict_in_text(venue: str, text: str) -> Verdict | None:
    """Find the venue's error code in an exception's message, which ends with the raw payload."""
    starts = [n for n, letter in enumerate(text) if letter in "{["]
    for start in starts[:_STARTS_MAX]:
        payload = payload_of(text[start:])
        if payload is not None:
            return verdict_in(venue, payload)
    return None


_STARTS_MAX: Final = 8


def _named(payload: object) -> tuple[str, str] | None:
    """Give code and words of one answer, whichever of the three shapes it has."""
    if isinstance(payload, list):
        return _named(payload[0]) if len(payload) == 1 else None
    if not isinstance(payload, dict):
        return None
    if "retCode" in payload or "ret_code" in payload:
        code = payload.get("retCode", payload.get("ret_code"))
        return _pair(code, payload.get("retMsg", payload.get("ret_msg")))
    items = payload.get("data")
    if isinstance(items, list) and len(items) == 1 and isinstance(items[0], dict):
        # The outer code only says that something failed; the item says what.
        inner = items[0].get("sCode")
        if inner not in {None, "", "0"}:
            return _pair(inner, items[0].get("sMsg"))
    if "code" in payload:
        return _pair(payload["code"], payload.get("msg"))
    return None


def _pair(code: object, text: object) -> tuple[str, str] | None:
    if isinstance(code, bool) or not isinstance(code, int | str) or code == "":
        return None
    return str(code), text if isinstance(text, str) else ""


def _no_constant(name: str) -> Sequence[object]:
    raise ValueError(f"{name} is no number of JSON")
