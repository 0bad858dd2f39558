"""Series beside a null market that know nothing of it: chance alone can make a model like them.

They have the habits of real ones: an hour or a day between two values, known only that much later,
every seventh value of an outside series revised. They lie in the ordinary store, and are read from
there by the ordinary training and worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.covariates import ALL, series_path, write_series
from daemon.domain.covariates import Series, series_of
from daemon.domain.units import DAY_MS, HOUR_MS
from strategies.forecast.inputs.covariates import FUNDING, INDEX, MARK, SERIES, is_outside, needed

BEFORE_MS: Final = 70 * DAY_MS  # so that scores of daily values are known from the beginning
SOURCE: Final = "noise"  # where a name tells none
REVISED_EVERY: Final = 7
SIZE: Final = 0.02  # of a step, in log
SIZES: Final = {MARK: 0.0, INDEX: 5e-4}  # near one another


def write_null_series(
    covariates: Sequence[str],
    symbols: Sequence[str],
    venue: str,
    *,
    seed: int,
    first_ms: int,
    end_ms: int,
    folder: Path,
) -> None:
    """Write all that covariates need but funding; the same for the same seed."""
    for number, name in enumerate(one for one in needed(covariates) if one != FUNDING):
        draw = np.random.default_rng([seed, number])
        if is_outside(name):
            source, _, plain = name.removeprefix(SERIES).rpartition("/")
            path = series_path(folder, source or SOURCE, ALL, plain)
            write_series(path, _revised(_walk(draw, DAY_MS, first_ms - BEFORE_MS, end_ms)), {})
            continue
        for symbol in symbols:
            size = SIZES.get(name, SIZE)
            series = _walk(draw, HOUR_MS, first_ms - BEFORE_MS, end_ms, size=size)
            write_series(series_path(folder, venue, symbol, name), series, {})


def _walk(
    draw: np.random.Generator, step_ms: int, first_ms: int, end_ms: int, *, size: float = SIZE
) -> Series:
    """Draw a positive series that goes back to its level, known a step after what it is about."""
    ts = np.arange(first_ms, end_ms, step_ms, dtype=np.int64)
    values, level = np.empty(len(ts)), 0.0
    for row, shock in enumerate(draw.standard_normal(len(ts)).tolist()):
        level = 0.98 * level + size * shock
        values[row] = level
    return Series(ts, ts + step_ms, 100.0 * np.exp(values))


def _revised(series: Series) -> Series:
    again = slice(None, None, REVISED_EVERY)
    return series_of(
        np.concatenate([series.ts, series.ts[again]]),
        np.concatenate([series.known_ms, series.known_ms[again] + 2 * DAY_MS]),
        np.concatenate([series.values, series.values[again] * 1.01]),
    )
