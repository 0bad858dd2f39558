"""Keep the series of a training job in one file beside its bars; a shared series is kept once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from daemon.domain.covariates import Series
from daemon.domain.failures import ModelError

_COLUMNS = ("ts", "known_ms", "values")
NONE = -1


def write_known(known: Mapping[str, tuple[Series | None, ...]], path: Path) -> None:
    """Write series by name and instrument."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    kept: dict[int, int] = {}
    for name, ones in known.items():
        places = []
        for series in ones:
            if series is None:
                places.append(NONE)
                continue
            if id(series) not in kept:
                number = kept[id(series)] = len(kept)
                for column in _COLUMNS:
                    arrays[f"{number} {column}"] = getattr(series, column)
                arrays[f"{number} stale_ms"] = np.array(series.stale_ms, dtype=np.int64)
            places.append(kept[id(series)])
        arrays[f"of {name}".replace("/", "|")] = np.array(places, dtype=np.int64)
    np.savez(path, allow_pickle=False, **arrays)


def read_known(path: Path) -> dict[str, tuple[Series | None, ...]]:
    """Read what `write_known` wrote; raise ModelError naming the file."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            kept: dict[int, Series] = {}
            found: dict[str, tuple[Series | None, ...]] = {}
            for key in arrays.files:
                if not key.startswith("of "):
                    continue
                places = arrays[key].tolist()
                for number in {*places} - {NONE, *kept}:
                    ts, known_ms, values = (arrays[f"{number} {one}"] for one in _COLUMNS)
                    stale_ms = int(arrays[f"{number} stale_ms"])
                    kept[number] = Series(ts, known_ms, values, stale_ms)
                name = key.removeprefix("of ").replace("|", "/")
                found[name] = tuple(kept.get(place) for place in places)
            return found
    except (OSError, ValueError, KeyError, EOFError) as e:
        raise ModelError(f"training series {path}: {e}") from e
