"""Read a strategy's settings from a plain mapping into its frozen dataclass.

Range checks belong to the dataclass; here names and types are checked, and every message names the
strategy, the key, the value and what is accepted.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from daemon.domain.failures import ConfigurationError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Settings = TypeVar("Settings", bound=DataclassInstance)
else:
    Settings = TypeVar("Settings")


def nearest(name: str, known: list[str]) -> str:
    """Give ` (did you mean ...?)` with the nearest known name, or nothing."""
    found = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""


def read_settings(kind: type[Settings], values: Mapping[str, object], owner: str) -> Settings:
    """Build `kind` from `values`; missing keys take their default.

    A field whose type is a dataclass is made of keys beside its own: settings stay one flat table.
    Raises ConfigurationError for an unknown key, a value of the wrong type, and whatever range
    check the dataclass itself makes.
    """
    hints = get_type_hints(kind)
    parts = {f.name: hints[f.name] for f in fields(kind) if is_dataclass(hints[f.name])}
    hints = {f.name: hints[f.name] for f in fields(kind) if f.name not in parts}
    own = list(hints)
    names = {name: [f.name for f in fields(part)] for name, part in parts.items()}
    for part in parts.values():
        hints |= get_type_hints(part)
    known = [*own, *(key for keys in names.values() for key in keys)]
    for key in values:
        if key not in known:
            raise ConfigurationError(
                f"strategy {owner!r} has no setting {key!r}{nearest(key, known)};"
                f" known: {', '.join(known)}"
            )
    read = {key: _value(owner, key, value, hints[key]) for key, value in values.items()}
    made = {
        name: part(**{key: read[key] for key in names[name] if key in read})
        for name, part in parts.items()
    }
    return kind(**made, **{key: value for key, value in read.items() if key in own})


def _value(owner: str, key: str, value: object, wanted: Any) -> object:
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(wanted, type) and issubclass(wanted, StrEnum):
        return _choice(owner, key, value, wanted)
    if wanted == tuple[str, ...]:
        if isinstance(value, list | tuple) and all(type(item) is str for item in value):
            return tuple(value)
        name = "a list of names"
    elif wanted == tuple[int, ...]:
        if isinstance(value, list | tuple) and all(type(item) is int for item in value):
            return tuple(value)
        name = "a list of whole numbers"
    else:
        if type(value) is wanted:
            return value
        name = str(getattr(wanted, "__name__", wanted))
    raise ConfigurationError(f"strategy {owner!r}: {key} = {value!r}: want {name}")


def _choice(owner: str, key: str, value: object, wanted: type[StrEnum]) -> StrEnum:
    choices = [member.value for member in wanted]
    if isinstance(value, str) and value in choices:
        return wanted(value)
    raise ConfigurationError(
        f"strategy {owner!r}: {key} = {value!r}: accepted are {', '.join(choices)}"
    )


def check_range(owner: str, key: str, value: float, low: float, high: float) -> None:
    """Raise ConfigurationError unless low <= value <= high."""
    if not low <= value <= high:
        raise ConfigurationError(
            f"strategy {owner!r}: {key} = {value!r}: accepted are values from {low:g} to {high:g}"
        )
