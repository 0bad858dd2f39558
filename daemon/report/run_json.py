"""The run as one JSON object: every number that its page shows, and where the tables are.

Decimals of the ledger are text, what is not a number is null. Whatever the page draws through time
stands day by day in daily.csv, exposures.csv and attribution.csv beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Final

import numpy as np

from daemon.domain.units import iso
from daemon.report.attribution import Attribution
from daemon.report.betas import RETURNS_MIN, UNKNOWN, WINDOW_DAYS
from daemon.report.day_tables import daily_turnover
from daemon.report.exposures import Exposures
from daemon.report.files import plain
from daemon.report.forecast_skill import SignalSkill
from daemon.report.judged import Judged
from daemon.report.metrics import Floats, monthly_returns, yearly_returns
from daemon.report.run import without_orders
from daemon.report.run_record import band_health, gross_reached
from daemon.report.tried_list import TriedList

# what would differ between two runs of the same configuration
VOLATILE_FACTS: Final = ("run_seconds", "loading_seconds", "memory_mb")
GROSS_REACHED: Final = 0.8


def json_text(one: Judged, tried: TriedList | None = None) -> str:
    """Write the object as text, sorted and indented; the same run gives the same bytes."""
    values = plain(run_values(one, tried))
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def run_values(one: Judged, tried: TriedList | None = None) -> dict[str, object]:
    """Gather everything that the page of a run shows."""
    run = one.run
    facts = {f: v for f, v in asdict(run.facts).items() if f not in VOLATILE_FACTS}
    found = one.attribution
    return {
        "facts": {**facts, "notes": without_orders(run)},
        "figures": {**asdict(one.metrics), "benchmark": one.benchmark},
        "statistics": one.honesty,
        "equity": _equity(one),
        "exposures": _exposures(one.exposures),
        "trading": _trading(one),
        "capacity": run.capacity,
        "attribution": found if isinstance(found, Attribution) else {"why": found},
        "skill": {
            "why": one.skill.why,
            "signals": {signal.name: _signal(signal) for signal in one.skill.signals},
        },
        "tried": tried,
    }


def _equity(one: Judged) -> Mapping[str, object]:
    record = one.run.record
    value = record.column("equity") if one.value is None else one.value
    band = None if one.band is None else [float(bound[-1]) for bound in one.band]
    return {
        "band_at_the_end": band,  # between these 95 of 100 reorderings of the days end
        "market_return": float(record.column("market")[-1] / record.column("market")[0] - 1.0),
        "months": monthly_returns(record.times_ms, value),
        "years": yearly_returns(record.times_ms, value),
        "table": "daily.csv",
    }


def _exposures(found: Exposures) -> Mapping[str, object]:
    series = ("gross", "net", "beta", "bets", "bets_apart")
    return {
        **{name: _summary(getattr(found, name)) for name in series},
        "links": {link.market: link for link in found.links},
        "betas": {
            "window_days": WINDOW_DAYS,
            "full_from": iso(found.betas_full_from_ms),  # by the first close that anybody had
            "full_at_the_start": found.betas_are_full,
            "returns_min": RETURNS_MIN,
            "below_that": UNKNOWN,
        },
        "table": "exposures.csv",
    }


def _summary(values: Floats) -> Mapping[str, float]:
    """Give mean, mean of magnitudes, lowest and highest over the rows that have a value."""
    known = values[np.isfinite(values)]
    if not len(known):
        return dict.fromkeys(("mean", "abs_mean", "lowest", "highest", "last"), math.nan)
    return {
        "mean": float(known.mean()),
        "abs_mean": float(np.abs(known).mean()),
        "lowest": float(known.min()),
        "highest": float(known.max()),
        "last": float(known[-1]),
    }


def _trading(one: Judged) -> Mapping[str, object]:
    share, decisions_n = gross_reached(list(one.run.decisions), GROSS_REACHED)
    return {
        "turnover_daily": _summary(daily_turnover(one)),  # fraction of the equity before each day
        "gross_of_target_reached": {
            "least": GROSS_REACHED,
            "share": share,
            "decisions_n": decisions_n,
        },
        "band_health": band_health(one.run.decisions),  # at the end
        "tables": ["daily.csv", "exposures.csv"],
    }


def _signal(signal: SignalSkill) -> Mapping[str, object]:
    calibration = signal.calibration
    curve = calibration.reliability
    return {
        "instants": signal.instants,
        "ic": list(signal.decay),
        "calibration": {
            **asdict(calibration),
            "calibration_error": math.nan if curve is None else curve.ece,
        },
    }
