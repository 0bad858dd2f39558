"""The parts that settings are made of: the frozen section, the documented field, special texts.

Values arrive as plain JSON values (TOML is turned into them), strictly typed: neither `"5"` nor
`true` is a number. A special text says in `Accepts` what it takes; the same words appear in error
messages and in the reference.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from daemon.domain.failures import ConfigurationError
from daemon.domain.units import Timeframe

RATIO_MAX: Final = 10**12
RATIO_WORDS: Final = 'new units for an old one: 10, "0.1" or "1/15"; 1 for a real move'
_COVARIATE = re.compile(
    r"^(funding|funding_clock|open_interest|basis|majors|ranks|tier|"
    r"series:([a-z0-9_]+/)?[a-z0-9_]+)$"
)


class Section(BaseModel):
    """Hold one table of the settings: frozen, strict, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Accepts:
    """Say in words what a special text takes, and whether a bare word is to be kept as text."""

    words: str
    is_text: bool = True


def setting(default: Any, description: str, *, unit: str = "", **bounds: Any) -> Any:
    """Declare a documented setting; `bounds` are pydantic's (ge, gt, le, lt, pattern...)."""
    extra: dict[str, Any] = {"unit": unit} if unit else {}
    return Field(default, description=description, json_schema_extra=extra, **bounds)


def _each_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names or len(set(names)) != len(names):
        raise ValueError("name at least one, and each once")
    return names


def _timeframe(value: object) -> object:
    if isinstance(value, str):
        try:
            Timeframe.parse(value)
        except ConfigurationError as e:
            raise ValueError(str(e)) from None
    return value


def _decimal(value: object) -> object:
    """Read an exact amount; a float is refused because it has already lost digits."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError("an amount is written as text, so that it stays exact")
    try:
        amount = Decimal(value)
    except InvalidOperation:
        raise ValueError("not a decimal number") from None
    if not amount.is_finite():
        raise ValueError("not a finite number")
    return amount


def _instant(value: object) -> object:
    """Read an ISO 8601 date or instant; without an offset it means UTC; empty means none."""
    if value == "" or value is None or isinstance(value, datetime):
        return value or None
    if not isinstance(value, str):
        raise ValueError("not an instant")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("not an instant") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _symbols(value: object) -> object:
    if isinstance(value, str):
        head, _, count = value.partition(":")
        if head != "top" or not count.isdigit() or int(count) < 1:
            raise ValueError("a bare text must read top:COUNT")
        return value
    if isinstance(value, list | tuple):
        if not value or any(not isinstance(v, str) or not v for v in value):
            raise ValueError("the list must hold texts, at least one")
        if len(set(value)) != len(value):
            raise ValueError("a symbol is listed twice")
        return tuple(value)
    raise ValueError("neither a list nor a text")


def _covariates(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError("not a list")
    for one in value:
        if not isinstance(one, str) or not _COVARIATE.match(one):
            raise ValueError(f"unknown covariate {one!r}")
    if len(set(value)) != len(value):
        raise ValueError("a covariate is listed twice")
    return tuple(value)


def _ratio(value: object) -> object:
    """Read new units for one old one, exactly: `10`, `"0.1"` or `"1/15"`; kept as `new/old`."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"a fraction is written as text, so that it stays exact ({RATIO_WORDS})")
    try:
        exact = Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"no factor ({RATIO_WORDS})") from None
    if exact <= 0 or max(exact.numerator, exact.denominator) > RATIO_MAX:
        raise ValueError(f"no factor of a split ({RATIO_WORDS})")
    return f"{exact.numerator}/{exact.denominator}"


def _pace(value: object) -> object:
    if value in ("lockstep", "realtime"):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1e6:
        return float(value)
    raise ValueError("unknown pace")


Bars = Annotated[
    str, BeforeValidator(_timeframe), Accepts("a bar length that divides the day: 30m, 90m, 2h")
]
Amount = Annotated[
    Decimal, BeforeValidator(_decimal), Accepts('an exact amount in quotes: "10000.0"')
]
Instant = Annotated[
    datetime | None,
    BeforeValidator(_instant),
    Accepts("an instant or date in UTC: 2024-06-01 or 2024-06-01T00:30:00Z"),
]
Stated = Annotated[
    datetime,
    BeforeValidator(_instant),
    Accepts("an instant or date in UTC: 2024-06-01 or 2024-06-01T00:30:00Z"),
]
Symbols = Annotated[
    tuple[str, ...] | str,
    BeforeValidator(_symbols),
    Accepts('a list of symbols, or "top:12" for the 12 most traded', is_text=False),
]
ModelKind = Literal[
    "bilstm", "lstm", "gru", "tcn", "transformer", "ridge", "lightgbm", "forest", "stack"
]
_StackKind = Literal["bilstm", "lstm", "gru", "tcn", "transformer", "ridge", "lightgbm", "forest"]
StackKinds = Annotated[tuple[_StackKind, ...], AfterValidator(_each_once)]
Covariates = Annotated[
    tuple[str, ...],
    BeforeValidator(_covariates),
    Accepts(
        "a list of funding, funding_clock, open_interest, basis, majors, ranks, tier, "
        "series:NAME or series:SOURCE/NAME",
        is_text=False,
    ),
]
Ratio = Annotated[
    str,
    BeforeValidator(_ratio),
    Accepts(RATIO_WORDS, is_text=False),
]
Pace = Annotated[
    str | float,
    BeforeValidator(_pace),
    Accepts('"lockstep", "realtime", or a factor above 0 up to 1000000', is_text=False),
]
