"""Score stitched forecasts: RankIC, score IC and hit rate, over all, by year and by quarter.

The outcome is the label of `strategies.forecast.inputs.labels` at a horizon. RankIC and score IC
are of each instant; their mean has the Newey-West t, which flatters, and the interval of
`daemon.statistics.skill`, which does not. The hit rate is the share of pairs whose centred forecast
and outcome have the same sign, of those where neither is zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.predictions import PredictionTable
from daemon.domain.units import HOUR_MS, Timeframe, require, utc
from daemon.statistics.cross_sections import rank_ics, score_ics
from daemon.statistics.skill import MeanIc, mean_ic
from strategies.forecast.calibration import centred

Longs = npt.NDArray[np.int64]
COMBINED = "combined"
ALL = "all"


@dataclass(frozen=True, slots=True)
class Score:
    """Hold the skill of one signal at one horizon over one stretch of time.

    signal: `combined`, or a timeframe alone. period: `all`, a year, or a quarter such as 2024-Q1.
    hit_rate: NaN without a pair; pairs: how many it counts.
    """

    signal: str
    horizon_h: int
    period: str
    rank_ic: MeanIc
    score_ic: MeanIc
    hit_rate: float
    pairs: int


def score_table(
    table: PredictionTable,
    outcomes: Mapping[int, Floats],
    at_ms: Longs,
    decision: Timeframe,
) -> tuple[Score, ...]:
    """Score a table's predictions at each decision, and each timeframe alone at its own closes.

    outcomes: labels (T, N) by horizon in ms, of the table's symbols in their order, at instants
    at_ms (T,), rising. Rows of instants that are not among them do not count.
    """
    found: list[Score] = []
    signals = [(COMBINED, decision, table.prediction)]
    signals += [(t.label, t, table.mean[k]) for k, t in enumerate(table.timeframes)]
    for name, spacing, values in signals:
        instants, forecasts = laid_out(table, values, spacing)
        rows = np.searchsorted(at_ms, instants)
        there = np.flatnonzero(rows < len(at_ms))
        there = there[at_ms[rows[there]] == instants[there]]
        for horizon_ms, labels in outcomes.items():
            y = np.full(forecasts.shape, np.nan)
            y[there] = labels[rows[there]]
            found += score_signal(name, instants, forecasts, y, horizon_ms, spacing)
    return tuple(found)


def score_signal(
    name: str,
    at_ms: Longs,
    forecasts: Floats,
    y: Floats,
    horizon_ms: int,
    spacing: Timeframe,
    silent: Flags | None = None,
) -> list[Score]:
    """Score forecasts (M, N) of instants (M,) against labels of a horizon, over all and by period.

    spacing: of the instants. silent: (M,), the instants at which an IC of 0 counts, None: none.
    """
    ranked, scored = rank_ics(forecasts, y), score_ics(forecasts, y)
    if silent is not None:
        ranked, scored = np.where(silent, 0.0, ranked), np.where(silent, 0.0, scored)
    both = np.isfinite(forecasts) & np.isfinite(y)
    signs = np.sign(centred(np.where(both, forecasts, np.nan))) * np.sign(
        centred(np.where(both, y, np.nan))
    )
    right, wrong = (signs > 0).sum(axis=1), (signs < 0).sum(axis=1)
    lags = max(1, horizon_ms // spacing.ms)
    scores = []
    for period, rows in periods(at_ms):
        pairs = int(right[rows].sum() + wrong[rows].sum())
        scores.append(
            Score(
                signal=name,
                horizon_h=horizon_ms // HOUR_MS,
                period=period,
                rank_ic=mean_ic(ranked[rows], horizon_bars=lags),
                score_ic=mean_ic(scored[rows], horizon_bars=lags),
                hit_rate=float(right[rows].sum()) / pairs if pairs else float("nan"),
                pairs=pairs,
            )
        )
    return scores


def periods(at_ms: Longs) -> list[tuple[str, npt.NDArray[np.intp]]]:
    """Name all, each year and each quarter of UTC, with their rows."""
    months = at_ms.astype("datetime64[ms]").astype("datetime64[M]").astype(np.int64)
    found = [(ALL, np.arange(len(at_ms)))]
    for length, label in ((12, _year), (3, _quarter)):
        for number in np.unique(months // length).tolist():
            rows = np.flatnonzero(months // length == number)
            found.append((label(utc(int(at_ms[rows[0]]))), rows))
    return found


def _year(moment: datetime) -> str:
    return f"{moment.year}"


def _quarter(moment: datetime) -> str:
    return f"{moment.year}-Q{(moment.month + 2) // 3}"


def laid_out(table: PredictionTable, values: Floats, spacing: Timeframe) -> tuple[Longs, Floats]:
    """Give the instants (M,) of a spacing and the values (M, N) of all symbols at them."""
    require(values.shape == table.as_of_ms.shape, f"{values.shape} values for {len(table)} rows")
    chosen = table.as_of_ms % spacing.ms == 0
    instants, rows = np.unique(table.as_of_ms[chosen], return_inverse=True)
    laid = np.full((len(instants), len(table.symbols)), np.nan)
    laid[rows, table.place[chosen]] = values[chosen]
    return instants, laid
