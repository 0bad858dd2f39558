"""Write the contract for people and programs: tables of docs/redis.md, and a JSON schema.

The schema is of draft 2020-12 and describes one run as the client of docs/redis.md reads it: hashes
as tables, streams as lists of entries, fields as text, nested ones as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from daemon.status.codec import SCHEMA_VERSION
from daemon.status.contract import KEYS, TOPICS, key_of
from daemon.status.shapes import Field, Key, Kind, Listed, Named, Shape, Table

PAGE: Final = Path("docs/redis.md")
SCHEMA: Final = Path("docs/redis.schema.json")
BEGIN: Final = "<!-- written by `python -m daemon.status`: begin -->"
END: Final = "<!-- written by `python -m daemon.status`: end -->"

_INTEGER: Final = r"-?[0-9]+"
_EXACT: Final = r"-?[0-9]+(\.[0-9]+)?"
_NUMBER: Final = r"-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?"
_INSTANT: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z"
_AS_TEXT: Final[Mapping[Kind, str]] = {
    Kind.INTEGER: _INTEGER,
    Kind.EXACT: _EXACT,
    Kind.NUMBER: _NUMBER,
    Kind.INSTANT: _INSTANT,
    Kind.BOOLEAN: "true|false",
}

Schema = dict[str, Any]


def as_field(shape: Shape, *, known: bool = True) -> Schema:
    """Describe a field of a hash or stream: text, or JSON for what is nested."""
    if not isinstance(shape, Kind):
        return as_json(shape, known=known)
    if shape is Kind.TEXT:
        return {"type": "string"}
    pattern = _AS_TEXT[shape]
    return {"type": "string", "pattern": f"^({pattern})$" if known else f"^({pattern})?$"}


def as_json(shape: Shape, *, known: bool = True) -> Schema:
    """Describe a value inside JSON; what is not known is null."""
    match shape:
        case Kind.INTEGER | Kind.NUMBER | Kind.BOOLEAN:
            return {"type": shape.value if known else [shape.value, "null"]}
        case Kind():
            found: Schema = {"type": "string" if known else ["string", "null"]}
            return found | ({"pattern": f"^({_AS_TEXT[shape]})$"} if shape in _AS_TEXT else {})
        case Listed(item, items_known):
            return {"type": "array", "items": as_json(item, known=items_known)}
        case Named(value):
            return {"type": "object", "additionalProperties": as_json(value)}
        case Table(fields):
            return _object(fields, nested=True)


def _object(fields: tuple[Field, ...], *, nested: bool) -> Schema:
    write = as_json if nested else as_field
    return {
        "type": "object",
        "properties": {
            one.name: {
                **write(one.shape, known=one.known),
                "description": one.words,
                **({"x-unit": one.unit} if one.unit else {}),
            }
            for one in fields
        },
        "required": [one.name for one in fields if one.always],
        "additionalProperties": False,
    }


def _key_schema(key: Key) -> Schema:
    beside: Schema = {"description": key.words, "x-redis-type": key.type}
    if key.lifetime:
        beside["x-lifetime"] = key.lifetime
    if key.length:
        beside["x-entries"] = key.length
    if key.type == "string":
        return {"type": "string", "pattern": f"^{_INTEGER}$", **beside}
    if key.each is not None:
        held: Schema = {"type": "object", "additionalProperties": as_json(key.each)}
    else:
        held = _object(key.fields, nested=False)
    return {**(held if key.type == "hash" else {"type": "array", "items": held}), **beside}


def redis_schema() -> Schema:
    """Give the schema of one run: a table by the last part of each key."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "One run of Equipoise in Redis",
        "x-schema-version": SCHEMA_VERSION,
        "type": "object",
        "properties": {key.name: _key_schema(key) for key in KEYS},
        "required": ["meta"],
        "additionalProperties": False,
        "$defs": {"mqtt": {topic.name: topic_schema(topic.name) for topic in TOPICS if topic.key}},
    }


def topic_schema(name: str) -> Schema:
    """Give the schema of the JSON that an MQTT topic with the fields of a key tells."""
    topic = next(t for t in TOPICS if t.name == name)
    key = next(k for k in KEYS if k.name == topic.key)
    if key.each is not None:
        return {"type": "object", "additionalProperties": as_json(key.each)}
    return _object((*key.fields, *topic.extra), nested=True)


def event_schema(topic: str) -> Schema:
    """Give the schema of what `events` tells of a topic of the outbox."""
    told = Field("topic", Kind.TEXT, "which event")
    return _object((told, *key_of(topic).fields), nested=True)


def page_part() -> str:
    """Write the tables of the page."""
    lines = [
        "| key | type | holds | lives | entries | written by |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| `{{namespace}}:{{run}}:{key.name}` | {key.type} | {key.words} | "
        f"{key.lifetime or '-'} | {key.length or '-'} | {key.writer} |"
        for key in KEYS
    ]
    for key in KEYS:
        shape = key.each
        while isinstance(shape, Named):
            shape = shape.value
        fields = shape.fields if isinstance(shape, Table) else key.fields
        if not fields:
            continue
        form = "" if key.each is None else " (JSON under each name)"
        lines += ["", f"### `{key.name}`{form}", ""]
        lines += [
            "| field | type | unit | may be empty | holds |",
            "| --- | --- | --- | --- | --- |",
        ]
        lines += _rows(fields, "")
    lines += ["", "### MQTT topics", ""]
    lines += ["| topic | retained | QoS | holds | JSON as key |", "| --- | --- | --- | --- | --- |"]
    lines += [
        f"| `{{namespace}}/{{run}}/{t.name}` | {'yes' if t.retained else 'no'} | 1 | {t.words} | "
        f"{f'`{t.key}`' if t.key else '-'} |"
        for t in TOPICS
    ]
    return "\n".join(lines)


def _rows(fields: tuple[Field, ...], before: str) -> Iterator[str]:
    for one in fields:
        empty = "or left out" if not one.always else "" if one.known else "yes"
        name, inner = f"{before}{one.name}", _inner(one.shape)
        yield f"| `{name}` | {_type(one.shape)} | {one.unit} | {empty} | {one.words} |"
        if inner is not None:
            yield from _rows(inner.fields, f"{name}.")


def _inner(shape: Shape) -> Table | None:
    match shape:
        case Table():
            return shape
        case Listed(item):
            return _inner(item)
        case Named(value):
            return _inner(value)
        case _:
            return None


def _type(shape: Shape) -> str:
    match shape:
        case Kind():
            return shape.value
        case Listed(item):
            return "JSON list" if isinstance(item, Table) else f"JSON list of {_type(item)}"
        case Named(value):
            return f"JSON, {_type(value)} by name"
        case Table():
            return "JSON"


def written_page(page: str) -> str:
    """Give the page with its tables renewed."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{page_part()}\n\n{END}{tail}"


def schema_text() -> str:
    """Give the text of the schema's file."""
    return json.dumps(redis_schema(), indent=1, ensure_ascii=False) + "\n"


def write_contract(root: Path) -> tuple[Path, Path]:
    """Renew page and schema below the checkout `root`; give their paths."""
    page, schema = root / PAGE, root / SCHEMA
    page.write_text(written_page(page.read_text(encoding="utf-8")), encoding="utf-8")
    schema.write_text(schema_text(), encoding="utf-8")
    return page, schema
