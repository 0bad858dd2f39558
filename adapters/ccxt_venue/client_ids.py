"""Our order id as the venue's client order id, and back.

Ours look like `eq65bbf840-6-1`: a stem of lower-case letters and digits that begins with the
prefix, the column, and a number. Binance (36 of `.A-Z:/a-z0-9_-`) and Bybit (36 letters, digits,
`-`, `_`) take them as they are. OKX takes 32 letters and digits and tells capitals apart: there
each hyphen becomes `X`, a letter that ours never hold, so nothing is lost and no two ids meet.
Ids of other people, of the venue's own liquidations and of its web page do not parse.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from daemon.domain.order import OrderId
from daemon.domain.units import require

PREFIX: Final = "eq"
_OURS: Final = re.compile(r"[a-z][a-z0-9]*(?:-(?:0|[1-9][0-9]*)){2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class IdRules:
    """Hold what a venue takes as a client id; hyphen: what stands there for our hyphen."""

    length_max: int
    letters: re.Pattern[str]
    hyphen: str = "-"


ID_RULES: Final[Mapping[str, IdRules]] = MappingProxyType(
    {
        "binanceusdm": IdRules(36, re.compile(r"[.A-Z:/a-z0-9_-]+", re.ASCII)),
        "bybit": IdRules(36, re.compile(r"[A-Za-z0-9_-]+", re.ASCII)),
        "okx": IdRules(32, re.compile(r"[A-Za-z0-9]+", re.ASCII), hyphen="X"),
    }
)


def client_id(venue: str, order_id: OrderId, *, prefix: str = PREFIX) -> str:
    """Write our id the way the venue takes it, always the same way.

    Raises InvariantViolated for an id that is not in our form or too long there: cutting it would
    let two orders share a name.
    """
    rules = _rules(venue)
    require(_is_ours(order_id, prefix), f"order id {order_id!r} is not of the form {prefix}…-1-1")
    written = order_id.replace("-", rules.hyphen)
    require(
        len(written) <= rules.length_max and rules.letters.fullmatch(written) is not None,
        f"order id {order_id!r} does not fit {venue}: at most {rules.length_max} letters",
    )
    return written


def order_id_of(venue: str, written: object, *, prefix: str = PREFIX) -> OrderId | None:
    """Read a client id back; None when it is not one that `client_id` writes."""
    rules = _rules(venue)
    if not isinstance(written, str) or len(written) > rules.length_max:
        return None
    if rules.hyphen != "-" and "-" in written:
        return None
    plain = written.replace(rules.hyphen, "-")
    return OrderId(plain) if _is_ours(plain, prefix) else None


def _rules(venue: str) -> IdRules:
    require(venue in ID_RULES, f"venue {venue!r} has no rules for client ids: {sorted(ID_RULES)}")
    return ID_RULES[venue]


def _is_ours(text: str, prefix: str) -> bool:
    return text.startswith(prefix) and _OURS.fullmatch(text) is not None
