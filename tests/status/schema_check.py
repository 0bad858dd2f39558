"""Read the JSON schema that we ship into strict pydantic types; an unknown keyword is a failure."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, create_model

Schema = dict[str, Any]
NOTES = {"description", "title", "$schema", "$defs", "required"}


def adapter_of(schema: Schema) -> TypeAdapter[Any]:
    """Give what validates a value by a schema."""
    return TypeAdapter(_type(schema))


def _type(schema: Schema) -> Any:
    known = {"type", "pattern", "items", "properties", "additionalProperties"} | NOTES
    unknown = {word for word in schema if word not in known and not word.startswith("x-")}
    assert not unknown, f"the check does not know {unknown}"
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    found: Any = _plain(kinds[0], schema)
    assert kinds[1:] in ([], ["null"])
    return found | None if kinds[1:] else found


def _plain(kind: str, schema: Schema) -> Any:
    match kind:
        case "string":
            return Annotated[str, Field(strict=True, pattern=schema.get("pattern"))]
        case "integer":
            return Annotated[int, Field(strict=True)]
        case "number":
            return Annotated[float, Field(strict=True, allow_inf_nan=False)]
        case "boolean":
            return Annotated[bool, Field(strict=True)]
        case "array":
            return list[_type(schema["items"])]  # type: ignore[misc]
        case "object":
            return _object(schema)
    raise AssertionError(f"the check does not know the type {kind!r}")


def _object(schema: Schema) -> Any:
    more = schema["additionalProperties"]
    if "properties" not in schema:
        return dict[str, _type(more)]  # type: ignore[misc]
    assert more is False, "a table of ours names all its fields"
    fields: Any = {
        f"field_{number}": (
            _type(inner) if name in schema["required"] else _type(inner) | None,
            Field(alias=name) if name in schema["required"] else Field(default=None, alias=name),
        )
        for number, (name, inner) in enumerate(schema["properties"].items())
    }
    return create_model("Table", __config__=ConfigDict(extra="forbid"), **fields)
