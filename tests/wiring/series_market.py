"""Series beside a generated market, and a worker that joins them early, as a defect would."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.history.covariates import series_path, write_series
from daemon.domain.covariates import Series, series_of
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.wiring.series_worker import HostedWithSeries
from strategies.forecast.inputs.covariates import Known

LAG_MS: Final = 6 * HOUR_MS  # from the instant that a value is about until it is known
COVARIATES: Final = '["funding", "open_interest", "series:fear"]'


def write_beside(root: Path, symbols: tuple[str, ...], first_ms: int, days: int) -> Path:
    """Write hourly open interest of each symbol and a fear index of the market, known 6 h later.

    Every seventh value of the fear index is revised a day after it was first known.
    """
    ts = np.arange(first_ms, first_ms + days * DAY_MS, HOUR_MS, dtype=np.int64)
    owners = [("binanceusdm", symbol, "open_interest") for symbol in symbols]
    for number, (source, symbol, name) in enumerate([*owners, ("survey", "ALL", "fear")]):
        draw = np.random.default_rng(number)
        values = 1e4 * np.exp(np.cumsum(draw.normal(0.0, 0.02, len(ts))))
        series = Series(ts, ts + LAG_MS, values)
        if name == "fear":
            again, later_ms = ts[::7], ts[::7] + LAG_MS + DAY_MS
            series = series_of(
                np.concatenate([ts, again]),
                np.concatenate([series.known_ms, later_ms]),
                np.concatenate([values, values[::7] * 1.1]),
            )
        write_series(series_path(root, source, symbol, name), series, {})
    return root


def early(known: Known, lag_ms: int = LAG_MS) -> dict[str, tuple[Series | None, ...]]:
    """Take every value as known when it is about, as a join by `ts` would."""
    kept: dict[int, Series] = {}
    for ones in known.values():
        kept |= {id(one): one.known_later(-lag_ms) for one in ones if one is not None}
    return {
        name: tuple(None if one is None else kept[id(one)] for one in ones)
        for name, ones in known.items()
    }


class EarlyWorker(HostedWithSeries):
    """Join stored series by what they are about."""

    def _known(self) -> Known:
        known = dict(super()._known())
        return early({k: v for k, v in known.items() if k != "funding"}) | {
            k: v for k, v in known.items() if k == "funding"
        }


def build_early(config: Mapping[str, Any]) -> EarlyWorker:
    """Build the worker's estimator with the defect."""
    return EarlyWorker(config)
