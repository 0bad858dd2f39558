"""Turn the layers into `Settings`, or into one error that lists everything that is wrong."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from daemon.domain.failures import ConfigurationError
from daemon.settings.checks import conflicts
from daemon.settings.describe import (
    accepted,
    all_keys,
    find_field,
    is_free_table,
    sections,
    text_of,
)
from daemon.settings.layers import Merged, Path_, merge
from daemon.settings.secrets import MASK, mask_login
from daemon.settings.sections import Settings

VALUE_SHOWN_CHARS_MAX = 60


def load_settings(
    files: Sequence[Path] = (),
    *,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    of_backtest: bool = False,
) -> Settings:
    """Read settings: defaults, then `files`, then the environment, then `section.key=value`.

    Raises ConfigurationError that names every mistake with its place, key, value and what is
    accepted. `environment` is the process's own unless given. of_backtest: for a command that reads
    the files of a backtest, whose source replaces market.source.
    """
    merged = merge(files, os.environ if environment is None else environment, overrides)
    problems = list(_unknown(merged))
    try:
        settings = Settings.model_validate_json(json.dumps(merged.values))
    except ValidationError as e:
        problems += _invalid(e, merged)
        raise _failure(problems) from None
    problems += _conflicting(settings, merged, of_backtest=of_backtest)
    if problems:
        raise _failure(problems)
    return settings


def check_settings(settings: Settings) -> None:
    """Raise ConfigurationError when values do not fit together; for settings changed by code."""
    problems = list(_conflicting(settings, Merged()))
    if problems:
        raise _failure(problems)


def _conflicting(settings: Settings, merged: Merged, *, of_backtest: bool = False) -> Iterator[str]:
    for conflict in conflicts(settings, of_backtest=of_backtest):
        place = tuple(conflict.key.partition("[")[0].split("."))
        value = "" if "[" in conflict.key else f" = {_shown(_value_at(settings, place))}:"
        yield f"{merged.origin(place)}: {conflict.key}{value} {conflict.why}"


def _value_at(settings: Settings, place: Path_) -> Any:
    return getattr(getattr(settings, place[0]), place[1])


def _failure(problems: Sequence[str]) -> ConfigurationError:
    if len(problems) == 1:
        return ConfigurationError(problems[0])
    lines = "".join(f"\n  {problem}" for problem in problems)
    return ConfigurationError(f"{len(problems)} settings are wrong:{lines}")


def _unknown(merged: Merged) -> Iterator[str]:
    """Yield a line for each key that no section has, and take it out of the values."""
    known = sections()
    for name in list(merged.values):
        table = merged.values[name]
        if name not in known:
            del merged.values[name]
            yield _unknown_line(merged, (name,), list(known), "section")
        elif isinstance(table, dict):
            for key in list(table):
                if key not in known[name].model_fields:
                    del table[key]
                    yield _unknown_line(merged, (name, key), list(known[name].model_fields), "key")


def _unknown_line(merged: Merged, path: Path_, candidates: list[str], noun: str) -> str:
    line = f"{merged.origin(path)}: unknown {noun} {'.'.join(path)}"
    near = difflib.get_close_matches(path[-1], candidates, n=1)
    if near:
        return f"{line}; did you mean {'.'.join((*path[:-1], near[0]))}?"
    elsewhere = {full.split(".")[1]: full for full, _ in all_keys()}
    near = difflib.get_close_matches(path[-1], elsewhere, n=1, cutoff=0.8)
    hint = f"; did you mean {elsewhere[near[0]]}?" if near else ""
    return f"{line}{hint}; accepted: {', '.join(candidates)}"


def _invalid(failure: ValidationError, merged: Merged) -> Iterator[str]:
    errors = failure.errors(include_url=False)
    places = [error["loc"] for error in errors]
    for error in errors:
        place = error["loc"]
        children = [p for p in places if len(p) > len(place) and p[: len(place)] == place]
        if children:
            continue  # the list is wrong only because one of its items is
        yield _invalid_line(place, error["type"], error["msg"], error["input"], merged)


def _invalid_line(
    place: tuple[int | str, ...], kind: str, message: str, value: Any, merged: Merged
) -> str:
    path = tuple(str(part) for part in place[:2])
    origin = merged.origin(tuple(str(part) for part in place))
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in place).lstrip(".")
    if kind == "extra_forbidden":
        return f"{origin}: unknown key {key}"
    if kind == "missing":
        return f"{origin}: {key} is missing"
    known = find_field(path)
    reason = f": {message.removeprefix('Value error, ')}" if kind == "value_error" else ""
    takes = accepted(known) if known is not None else "a table"
    about = f" ({known.description})" if known is not None and "pattern" in kind else ""
    shown = MASK if "credential" in reason else _shown(value)
    return f"{origin}: {key} = {shown}{reason}; accepted: {takes}{about}"


def _shown(value: Any) -> str:
    text = mask_login(text_of(value))
    return text if len(text) <= VALUE_SHOWN_CHARS_MAX else text[:VALUE_SHOWN_CHARS_MAX] + "..."


def effective(settings: Settings) -> dict[str, dict[str, Any]]:
    """Give all settings as plain values for people and `--json`, logins inside addresses masked."""
    plain: dict[str, dict[str, Any]] = settings.model_dump(mode="json")
    return {name: _masked(table) for name, table in plain.items()}


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {key: _masked(inner) for key, inner in value.items()}
        case list():
            return [_masked(inner) for inner in value]
        case str():
            return mask_login(value)
        case _:
            return value


def effective_toml(settings: Settings) -> str:
    """Write the effective settings as TOML, ready to be used as a settings file."""
    blocks: list[str] = []
    for name in sections():
        section: BaseModel = getattr(settings, name)
        lines, tables = [f"[{name}]"], []
        for key, field in type(section).model_fields.items():
            value = getattr(section, key)
            if is_free_table(field):
                inner = [f"{k} = {mask_login(text_of(v))}" for k, v in value.items()]
                tables += [f"\n[{name}.{key}]", *inner]
            else:
                lines.append(f"{key} = {mask_login(text_of(value))}")
        blocks.append("\n".join(lines + tables))
    return "\n\n".join(blocks) + "\n"
