"""Read the layers of settings: files, environment, command line; later ones win.

A layer turns into plain JSON values under `section.key`, and every value remembers where it came
from, so that a mistake can be named with its place.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

from daemon.domain.failures import ConfigurationError
from daemon.settings.describe import find_field, is_free_table, is_text

PREFIX = "EQUIPOISE__"
NEAR_PREFIX = "EQUIPOISE_"
Path_ = tuple[str, ...]


@dataclass(slots=True)
class Merged:
    """Hold what all layers say together, and the origin of each value by its path."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Path_, str] = field(default_factory=dict)

    def origin(self, path: Path_) -> str:
        """Name where the value at `path` came from, or what lies around it, or below it."""
        around = (self.origins.get(path[:length]) for length in range(len(path), 0, -1))
        below = (origin for at, origin in self.origins.items() if at[: len(path)] == path)
        return next((found for found in (*around, *below) if found is not None), "defaults")

    def put(self, path: Path_, value: Any, origin: str) -> None:
        """Lay one value over what is there; tables melt into each other, lists are replaced.

        A table without keys says nothing, so it changes nothing: the bare header of a section is
        no wish to lose what a lower layer has set there.
        """
        melts = isinstance(value, Mapping) and not _is_leaf(path)
        if melts and value:
            self.origins[path] = origin
            for key, inner in value.items():
                self.put((*path, str(key)), inner, origin)
        elif not (melts and self._has(path)):
            self.replace(path, value, origin)

    def replace(self, path: Path_, value: Any, origin: str) -> None:
        """Put one value in the place of what is there, whatever that is."""
        table = self.values
        for key in path[:-1]:
            below = table.get(key)
            if not isinstance(below, dict):
                below = table[key] = {}
            table = below
        table[path[-1]] = _plain(value)
        self.origins[path] = origin

    def _has(self, path: Path_) -> bool:
        """Tell whether a layer below has said anything at `path`."""
        table: Any = self.values
        for key in path:
            if not isinstance(table, dict) or key not in table:
                return False
            table = table[key]
        return True


def _is_leaf(path: Path_) -> bool:
    """Tell whether a table at `path` is a value by itself: a setting that is not a free table."""
    found = find_field(path)
    return found is not None and not is_free_table(found)


def _plain(value: Any) -> Any:
    """Turn TOML's dates into texts, so that everything is JSON."""
    match value:
        case Mapping():
            return {str(k): _plain(v) for k, v in value.items()}
        case list():
            return [_plain(item) for item in value]
        case datetime() | date() | time():
            return value.isoformat()
        case _:
            return value


def read_file(path: Path) -> Mapping[str, Any]:
    """Read one TOML file; raise ConfigurationError naming the file, and the line of a mistake."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as e:
        raise ConfigurationError(f"{path}: not UTF-8 text: {e}") from e
    except OSError as e:
        raise ConfigurationError(f"{path}: cannot be read: {e.strerror or e}") from e
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigurationError(f"{path}: not TOML: {e}") from e


def merge(
    files: Sequence[Path], environment: Mapping[str, str], overrides: Sequence[str]
) -> Merged:
    """Lay files, then environment, then `section.key=value` overrides over each other."""
    merged = Merged()
    for path in files:
        for key, value in read_file(path).items():
            merged.put((key,), value, str(path))
    for key_path, text, origin in _environment(environment):
        _put_text(merged, key_path, text, origin)
    for override in overrides:
        key, equals, text = override.partition("=")
        key_path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(key_path):
            raise ConfigurationError(f"--set {override!r}: accepted: section.key=value")
        _put_text(merged, key_path, text.strip(), f"--set {key.strip()}")
    return merged


def _put_text(merged: Merged, path: Path_, text: str, origin: str) -> None:
    """Lay one text over what is there; `{}` is no bare header: it empties a free table."""
    value = value_of(path, text)
    free = find_field(path[:2])
    if value == {} and free is not None and is_free_table(free):
        merged.replace(path, value, origin)
    else:
        merged.put(path, value, origin)


def _environment(environment: Mapping[str, str]) -> Iterator[tuple[Path_, str, str]]:
    """Yield path, text and origin of every variable that is ours, in a stable order."""
    for name in sorted(environment):
        _refuse_near_miss(name)
        if name.startswith(PREFIX):
            parts = name.removeprefix(PREFIX).split("__")
            # below a free table the case belongs to the key, above it to the environment's habit
            path = tuple(p.lower() if depth < 2 else p for depth, p in enumerate(parts))
            if not all(path):
                raise ConfigurationError(f"environment {name}: accepted: {PREFIX}SECTION__KEY")
            yield path, environment[name], f"environment {name}"


def _refuse_near_miss(name: str) -> None:
    """Refuse a variable that would be a setting if its underscores were doubled."""
    words = tuple(name.removeprefix(NEAR_PREFIX).lower().split("_", 1))
    if name.startswith(NEAR_PREFIX) and not name.startswith(PREFIX) and find_field(words):
        meant = f"{PREFIX}{'__'.join(words).upper()}"
        raise ConfigurationError(f"environment {name}: is no setting; did you mean {meant}?")


def value_of(path: Path_, text: str) -> Any:
    """Read a text from the environment or the command line: JSON where the setting is no text."""
    known = find_field(path)
    if known is not None and is_text(known):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        lowered = text.lower()
        return lowered == "true" if lowered in ("true", "false") else text
