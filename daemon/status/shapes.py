"""How the contract with readers is written down: shapes of values, fields, keys."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

QUOTE: Final = "quote currency"
WEIGHT: Final = "fraction of equity"
BASE: Final = "base units"
MS: Final = "ms since 1970, UTC"


class Kind(StrEnum):
    """Name how a value is written."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"  # shortest text that reads back the same
    EXACT = "exact amount"  # all its digits; a text in JSON too
    INSTANT = "ISO 8601 UTC"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Listed:
    """Say that a value is a JSON list of one kind of item. known: no item is null."""

    item: Shape
    known: bool = True


@dataclass(frozen=True, slots=True)
class Named:
    """Say that a value is a JSON table by a name that we do not know: symbol, venue, timeframe."""

    value: Shape


@dataclass(frozen=True, slots=True)
class Table:
    """Say that a value is a JSON table of known fields, and of no others."""

    fields: tuple[Field, ...]


Shape = Kind | Listed | Named | Table


@dataclass(frozen=True, slots=True)
class Field:
    """Describe a field. known: never empty. always: never left out."""

    name: str
    shape: Shape
    words: str
    unit: str = ""
    known: bool = True
    always: bool = True


@dataclass(frozen=True, slots=True)
class Key:
    """Describe a Redis key `{namespace}:{run}:{name}`. lifetime, length: in words, "" for none.

    fields: of the hash or entry; `each` instead, where names are symbols or venues.
    """

    name: str
    type: str
    words: str
    fields: tuple[Field, ...] = ()
    each: Shape | None = None
    lifetime: str = ""
    length: str = ""
    writer: str = "daemon"


def f(name: str, shape: Shape, words: str, unit: str = "") -> Field:
    return Field(name, shape, words, unit)


def maybe(name: str, shape: Shape, words: str, unit: str = "") -> Field:
    return Field(name, shape, words, unit, known=False)


def rare(name: str, shape: Shape, words: str, unit: str = "") -> Field:
    """Describe a field that is left out where there is nothing to say."""
    return Field(name, shape, words, unit, known=False, always=False)


T, N, X = Kind.TEXT, Kind.NUMBER, Kind.EXACT
INT, AT, B = Kind.INTEGER, Kind.INSTANT, Kind.BOOLEAN
