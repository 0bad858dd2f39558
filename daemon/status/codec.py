"""Write values for Redis and MQTT: one place that decides how numbers and gaps look as text.

Rules: exact decimals in plain notation, floats in their shortest exact form, NaN and None as
nothing (an empty field, a JSON null), instants as they come (`_ms` are integers), instruments as
`venue:symbol`, timeframes by their label.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Set
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np
from msgspec import Struct

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.units import Timeframe

SCHEMA_VERSION: Final = 1
STATE_TOPICS: Final = (
    *("status", "positions", "targets", "predictions", "feed"),
    *("orders", "risk", "models", "correlation", "runtime"),
)
EVENT_TOPICS: Final = ("decision", "fill", "alert", "daily", "log")


def plain(value: object) -> Any:
    """Turn a value into what JSON can hold; raise InvariantViolated for what nobody could read."""
    match value:
        case None | bool():
            return value
        case str():
            return str(value)
        case int():
            return int(value)
        case float():
            return float(value) if math.isfinite(value) else None
        case Decimal():
            return format(value, "f") if value.is_finite() else None
        case np.generic():
            return plain(value.item())
        case np.ndarray():
            return plain(value.tolist())
        case datetime():
            return value.isoformat().replace("+00:00", "Z")
        case _:
            return _plain_composite(value)


def _plain_composite(value: object) -> Any:
    match value:
        case InstrumentKey():
            return str(value)
        case Timeframe():
            return value.label
        case Mapping():
            return {_name(key): plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case Set():
            return sorted(plain(item) for item in value)
        case Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value)]
            return {name: plain(getattr(value, name)) for name in names}
        case _:
            raise InvariantViolated(f"status cannot show a {type(value).__name__}: {value!r:.80}")


def _name(key: object) -> str:
    name = plain(key)
    return name if isinstance(name, str) else json.dumps(name)


def to_json(values: Mapping[str, object]) -> str:
    """Write values as one line of JSON: an MQTT payload."""
    return json.dumps(plain(values), ensure_ascii=False, separators=(",", ":"))


def to_fields(values: Mapping[str, object]) -> dict[str, str]:
    """Write values as flat text fields for a Redis hash or stream; nested ones become JSON."""
    return {_name(key): _field(plain(value)) for key, value in values.items()}


def _field(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return repr(value)
        case _:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def from_fields(fields: Mapping[str, str]) -> dict[str, Any]:
    """Read fields back: nested ones as lists and tables, all others stay exact texts."""
    return {key: _nested(text) if text[:1] in ("{", "[") else text for key, text in fields.items()}


def _nested(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
