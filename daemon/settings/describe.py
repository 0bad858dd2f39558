"""Say in words what a setting takes: one wording for error messages and for the reference."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from daemon.settings.fields import Accepts
from daemon.settings.sections import Settings

_WORDS: dict[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    Decimal: "an exact amount in quotes",
    datetime: "an instant in UTC",
}
_TEXTS = (str, Path, Decimal, datetime)


def sections() -> Mapping[str, type[BaseModel]]:
    """Give the sections in the order in which people read them."""
    return {name: _model(field) for name, field in Settings.model_fields.items()}


def _model(field: FieldInfo) -> type[BaseModel]:
    kind = field.annotation
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        raise TypeError(f"a section must be a model, not {kind}")
    return kind


def find_field(path: tuple[str, ...]) -> FieldInfo | None:
    """Give the setting `section.key`, None for anything else."""
    section = sections().get(path[0]) if path else None
    return section.model_fields.get(path[1]) if section is not None and len(path) == 2 else None


def all_keys() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every `section.key` with its field."""
    for name, section in sections().items():
        for key, field in section.model_fields.items():
            yield f"{name}.{key}", field


def is_free_table(field: FieldInfo) -> bool:
    """Tell whether the keys below this setting are not ours to know."""
    return typing.get_origin(field.annotation) is dict


def is_text(field: FieldInfo) -> bool:
    """Tell whether a bare word from the environment is the value itself, not JSON."""
    for item in field.metadata:
        if isinstance(item, Accepts):
            return item.is_text
    kind = field.annotation
    if typing.get_origin(kind) is Literal:
        return True
    return kind in _TEXTS


def unit_of(field: FieldInfo) -> str:
    """Give the unit, empty where there is none."""
    extra = field.json_schema_extra
    return str(extra.get("unit", "")) if isinstance(extra, dict) else ""


def accepted(field: FieldInfo) -> str:
    """Say what a setting takes, with its bounds and its unit."""
    words = _kind_words(field.annotation, field.metadata)
    bounds = _bounds(field.metadata)
    unit = unit_of(field)
    return words + (f" {bounds}" if bounds else "") + (f", in {unit}" if unit else "")


def _kind_words(kind: Any, metadata: list[Any]) -> str:
    for item in metadata:
        if isinstance(item, Accepts):
            return item.words
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(part) for part in parts)
    if origin is tuple:
        return f"a list of which each is {_item_words(parts[0])}"
    if origin is dict:
        return "a table"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_WORDS.get(part, str(part)) for part in parts if part is not type(None))
    return _WORDS.get(kind, "a table")


def _item_words(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Annotated:
        base, *metadata = typing.get_args(kind)
        return _kind_words(base, metadata)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "a table of " + ", ".join(kind.model_fields)
    return _kind_words(kind, [])


def _bounds(metadata: list[Any]) -> str:
    low, high, length = "", "", ""
    for item in metadata:
        match item:
            case Ge(ge=bound):
                low = f"from {bound}"
            case Gt(gt=bound):
                low = f"above {bound}"
            case Le(le=bound):
                high = f"to {bound}" if low.startswith("from") else f"up to {bound}"
            case Lt(lt=bound):
                high = f"below {bound}"
            case MinLen(min_length=bound) if bound:
                length = "(not empty)"
    return " ".join(part for part in (low, high, length) if part)


def text_of(value: Any) -> str:
    """Write a value as TOML has it; tables and lists of them on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return '""'
        case int() | float():
            return repr(value)
        case datetime():
            return f'"{value.isoformat().replace("+00:00", "Z")}"'
        case BaseModel():
            return text_of({name: getattr(value, name) for name in type(value).model_fields})
        case Mapping():
            inside = ", ".join(f"{_bare(str(k))} = {text_of(v)}" for k, v in value.items())
            return f"{{ {inside} }}" if inside else "{}"
        case list() | tuple():
            return "[" + ", ".join(text_of(item) for item in value) + "]"
        case _:
            return _quoted(str(value))


def _bare(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else _quoted(key)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
