"""Judge a table of predictions by the bars that came: whether its forecasts mean what they say."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.history.predictions_file import read_predictions
from adapters.history.store import disk_symbol
from daemon.domain.bar import Floats
from daemon.domain.failures import DataError, ModelError
from daemon.domain.forecast import Reading
from daemon.domain.predictions import PredictionTable
from daemon.domain.units import Timeframe
from daemon.report.files import plain, write_text
from daemon.report.reliability import INSTANTS_MIN, ReliabilityReport, Stated, judged
from daemon.report.reliability_page import reliability_page
from daemon.research.walk_forward.scores import laid_out
from daemon.settings import Settings
from daemon.wiring.estimator import COMBINATION
from daemon.wiring.training import SourceBars, job_of
from strategies.combination import chance_up
from strategies.forecast.inputs.labels import HORIZON_MS, label
from strategies.rules import RULES, Rule, reading_problem

JSON_FILE: Final = "reliability.json"
PAGE_FILE: Final = "reliability.html"
AUTO: Final = str(Rule.AUTO)
NORMAL: Final = Reading(rule=RULES[0], slopes=())  # of a table that says nothing of itself
Longs = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Hold what came of a table; states_itself: whether it carries readings of its own."""

    name: str
    table_id: str
    facts: dict[str, str]
    states_itself: bool
    report: ReliabilityReport


def reliability_of(settings: Settings, path: Path, bars: SourceBars) -> Judged:
    """Judge a table by these bars, at each decision and at six hours.

    Raises DataError for a table that shares no symbol with the bars or too few instants with an
    outcome, ModelError for a reading that this version does not know.
    """
    stored = read_predictions(path)
    table = stored.table
    for _, reading in table.readings:
        problem = reading_problem(reading, len(table.timeframes))
        if problem:
            raise ModelError(f"{path}: how it is combined: {problem}")
    rule = stored.facts.get(COMBINATION, AUTO)
    if rule != AUTO and any(reading.rule != rule for _, reading in table.readings):
        table = replace(table, readings=())  # they state the law of what another rule says
    places = _places(path, table, bars)
    lag_ms = job_of(settings, bars).settings.lag_bars * bars.source.ms
    labels = label(bars.close_ms, bars.values, source=bars.source, lag_ms=lag_ms)
    decision = Timeframe.parse(settings.market.decision)

    def outcomes(at_ms: Longs) -> Floats:
        y = labels.at(at_ms)
        return np.where(places >= 0, y[:, np.maximum(places, 0)], np.nan)

    at_ms, forecast = laid_out(table, table.prediction, decision)
    alone = {}
    for k, timeframe in enumerate(table.timeframes):
        own_ms, mean = laid_out(table, table.mean[k], timeframe)
        alone[timeframe.label] = (mean, outcomes(own_ms))
    stated = _stated(table, at_ms, forecast, outcomes(at_ms), decision, lag_ms)
    instants_n = int(stated.known.any(axis=1).sum())
    if instants_n < INSTANTS_MIN:
        raise DataError(
            f"{path}: {instants_n} of its decisions have an outcome in these bars; {INSTANTS_MIN}"
            " are needed"
        )
    report = judged(stated, alone, seed=settings.evaluation.seed)
    return Judged(path.name, stored.table_id, dict(stored.facts), bool(table.readings), report)


def _places(path: Path, table: PredictionTable, bars: SourceBars) -> np.ndarray[Any, Any]:
    """Give the column of the bars for each symbol of the table, -1 where there is none."""
    names = [disk_symbol(symbol) for symbol in bars.symbols]
    if not set(names) & set(table.symbols):
        raise DataError(
            f"{path}: none of its symbols {', '.join(table.symbols)} is among the bars"
            f" {', '.join(names)}"
        )
    return np.array([names.index(s) if s in names else -1 for s in table.symbols])


def _stated(
    table: PredictionTable,
    at_ms: Longs,
    forecast: Floats,
    y: Floats,
    decision: Timeframe,
    lag_ms: int,
) -> Stated:
    """Lay out what the table stated at each instant, by the reading that held then."""
    sd, up, half_width = (np.full(forecast.shape, np.nan) for _ in range(3))
    readings = table.readings or ((0, NORMAL),)
    starts = [from_ms for from_ms, _ in readings]
    held = np.searchsorted(starts, at_ms, side="right") - 1
    for number, (_, reading) in enumerate(readings):
        rows = held == number
        deviation = float(np.sqrt(reading.outcome_variance))
        sd[rows] = deviation
        up[rows] = chance_up(forecast[rows], reading)
        half_width[rows] = reading.half_width * deviation
    unread = held < 0  # before the first reading nothing was stated
    return Stated(
        at_ms=at_ms,
        forecast=np.where(unread[:, None], np.nan, forecast),
        sd=sd,
        up=up,
        half_width=half_width,
        outcome=y,
        reach_ms=HORIZON_MS + lag_ms,
        overlap=-(-(HORIZON_MS + lag_ms) // decision.ms),
        coverage=readings[-1][1].coverage,
    )


def reliability_values(found: Judged) -> dict[str, Any]:
    """Give everything as plain values; NaN is None. The same inputs give the same values."""
    return {
        "table": found.table_id,
        "file": found.name,
        "facts": found.facts,
        "states_itself": found.states_itself,
        **plain(found.report),
    }


def write_reliability(found: Judged, out: Path) -> tuple[Path, Path]:
    """Write JSON and page into a folder; raise DataError when the disk refuses."""
    paths = out / JSON_FILE, out / PAGE_FILE
    text = json.dumps(reliability_values(found), indent=1, sort_keys=True, allow_nan=False)
    about = [f"table {found.table_id}", *(f"{k} {v}" for k, v in sorted(found.facts.items()))]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(paths[0], text + "\n")
        write_text(paths[1], reliability_page(found.name, about, found.report, found.states_itself))
    except OSError as e:
        raise DataError(f"{out}: cannot be written: {e.strerror}") from e
    return paths
