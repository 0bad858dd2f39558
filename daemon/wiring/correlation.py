"""Race covariance estimators over recorded bars: walk-forward, resumable, every arm a trial."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.history.locks import only_writer
from adapters.history.store import Panel
from adapters.trial_ledger import Training
from daemon.domain.bar import Field, Floats
from daemon.domain.units import DAY_MS, instant_ms, iso
from daemon.ports import Share
from daemon.report.files import plain, write_text
from daemon.research.correlation.arms import BASELINE, Arm, all_arms, chosen_arms
from daemon.research.correlation.judging import judge_horizon, verdicts_of
from daemon.research.correlation.market import (
    HORIZONS_H,
    Fold,
    Market,
    folds_of,
    hours_of,
    market_of,
)
from daemon.research.correlation.page import page_of
from daemon.research.correlation.results import (
    Cost,
    Learned,
    Race,
    RaceArm,
    cost_values,
    losses_csv,
    race_values,
)
from daemon.settings import Settings
from daemon.wiring.arms import workers_of
from daemon.wiring.correlation_work import Walk, read_walk, run_walk, write_market
from daemon.wiring.training import SourceBars
from daemon.wiring.trials import ledger_of, trial_of_training
from strategies.covariance.columns import middle_known

VALUES_FILE: Final = "correlation.json"
PAGE_FILE: Final = "correlation.html"
LOSSES_FILE: Final = "losses.csv"
RESOURCES_FILE: Final = "resources.json"
WALKS_FOLDER: Final = "walks"
MARKET_FILE: Final = "market.npz"
COMMAND: Final = "evaluate correlation"
WINDOW_DAYS: Final = 90
SELECTED: Final = (
    "The coins of recorded bars were chosen by somebody, often after the fact: compare arms, not"
    " markets."
)


def race(
    settings: Settings,
    bars: SourceBars,
    out: Path,
    *,
    arms: Sequence[str] = (),
    window_days: int = WINDOW_DAYS,
    processes: int | None = None,
    done: Share = lambda share: None,
) -> Race:
    """Walk every arm through every fold, judge and write; a run that was killed goes on.

    Bars are those of [backtest], folds those of [walkforward], covariates those of
    training.covariates. Raises ConfigurationError for unknown arms and for a ledger that cannot be
    written, ModelError for too few bars, before anything is computed.
    """
    ledger_of(settings)
    market = market_from(bars)
    chosen = chosen_arms(arms, market.columns[1:])
    first = settings.walkforward.first_test
    folds = folds_of(
        market,
        window_h=24 * window_days,
        first_ms=None if first is None else instant_ms(first),
        every_ms=round(settings.walkforward.refit_days * DAY_MS),
    )
    out.mkdir(parents=True, exist_ok=True)
    with only_writer(out / VALUES_FILE), tempfile.TemporaryDirectory(prefix="equipoise-race-") as t:
        place = Path(t) / MARKET_FILE
        data = write_market(market, place)
        walks = {
            arm: [
                Walk(
                    arm,
                    fold,
                    place,
                    data,
                    24 * window_days,
                    folds[-1].start,
                    settings.evaluation.seed,
                    out / WALKS_FOLDER,
                )
                for fold in folds
            ]
            for arm in chosen
        }
        _walk_missing(settings, walks, processes, done)
        found = _judged(settings, bars, market, walks, folds)
    _write(found, out)
    return found


def _walk_missing(
    settings: Settings, walks: Mapping[Arm, Sequence[Walk]], processes: int | None, done: Share
) -> None:
    every = [one for mine in walks.values() for one in mine]
    missing = [one for one in every if not one.path.exists()]
    names = [(f"{one.arm.name}, hour {one.fold.start}", one) for one in missing]
    workers_of(settings, processes).map(run_walk, names, done)


def market_from(bars: SourceBars) -> Market:
    """Cut source bars into hours, with the covariates as known at each close.

    A covariate of each instrument counts as its median over those that have one.
    """
    hours = hours_of(bars.close_ms, bars.source.ms)
    columns = [middle_known(series, hours) for series in bars.known.values()]
    return market_of(
        bars.symbols,
        bars.close_ms,
        bars.values[:, :, Field.CLOSE],
        bars.source.ms,
        np.stack(columns, axis=1) if columns else None,
        list(bars.known),
    )


# ---- what came of it -----------------------------------------------------------------------------


def _judged(
    settings: Settings,
    bars: SourceBars,
    market: Market,
    walks: Mapping[Arm, Sequence[Walk]],
    folds: Sequence[Fold],
) -> Race:
    arms = tuple(_raced(settings, bars, arm, mine, market) for arm, mine in walks.items())
    blocks = {one.arm.name: one.blocks for one in arms}
    plainly = [one.arm for one in arms]
    seed = settings.evaluation.seed
    judged = tuple(judge_horizon(plainly, blocks, hours, seed) for hours in HORIZONS_H)
    left = [arm.name for arm in all_arms(market.columns[1:]) if arm.name not in blocks]
    facts = {
        "bars": bars.origin.name,
        "origin": str(bars.origin.kind),
        "data": next(iter(walks.values()))[0].data,
        "symbols": list(market.symbols),
        "covariates": list(market.columns),
        "bar_minutes": bars.source.minutes,
        "window_h": next(iter(walks.values()))[0].window_h,
        "folds": [[int(market.hour_ms[f.start]), int(market.hour_ms[f.end - 1])] for f in folds],
        "baseline": BASELINE,
        "seed": seed,
    }
    verdicts = verdicts_of(plainly, judged, blocks)
    return Race(arms, tuple(left), judged, verdicts, plain(facts), (SELECTED,))


def _raced(
    settings: Settings, bars: SourceBars, arm: Arm, walks: Sequence[Walk], market: Market
) -> RaceArm:
    """Put the folds of an arm together and log it as a trial."""
    found = [read_walk(one.path) for one in walks]
    blocks = {
        hours: {
            name: np.concatenate([one[hours][name] for one, _ in found])
            for name in found[0][0][hours]
        }
        for hours in HORIZONS_H
    }
    facts = [said for _, said in found]
    count = sum(said["forecasts"] for said in facts)
    cost = Cost(
        sum(said["cpu_ms"] * said["forecasts"] for said in facts) / max(1, count),
        sum(said.get("fit_s", 0.0) for said in facts),
    )
    learned = tuple(
        Learned(
            int(market.hour_ms[one.fold.start]),
            said["model"],
            said["epochs"],
            said["loss"],
            said["ewma_loss"],
        )
        for one, said in zip(walks, facts, strict=True)
        if "model" in said
    )
    trial = _log(settings, bars, arm, blocks, walks)
    lifted = sum(said["lifted"] for said in facts)
    return RaceArm(arm, trial, blocks, lifted, cost, learned)


def _log(
    settings: Settings,
    bars: SourceBars,
    arm: Arm,
    blocks: Mapping[int, Mapping[str, Floats]],
    walks: Sequence[Walk],
) -> str:
    """Log an arm: a setting that was tried on these bars. Give the trial's id."""
    scores: list[dict[str, object]] = [
        {"hours": hours, "qlike": _mean(found["qlike"]), "variance": _mean(found["variance"])}
        for hours, found in blocks.items()
    ]
    made: dict[str, Any] = {
        "arm": arm.name,
        **arm.made,
        "origin": f"{bars.origin.kind}: {bars.origin.name}",
        "window_h": walks[0].window_h,
        "folds": [[one.fold.start, one.fold.end] for one in walks],
        "covariates": list(bars.known) if arm.outside else [],
    }
    panel = Panel(bars.close_ms, bars.values, bars.values[:, :, Field.OPEN])
    facts = Training(walks[0].path.stem, f"covariance {arm.name}", scores)
    trial = trial_of_training(settings, panel, bars.symbols, bars.source, made, facts, COMMAND)
    ledger_of(settings).append(trial)
    return trial.id


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _write(found: Race, out: Path) -> None:
    for name, values in (
        (VALUES_FILE, race_values(found)),
        (RESOURCES_FILE, cost_values(found.arms)),
    ):
        text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False)
        write_text(out / name, text + "\n")
    write_text(out / LOSSES_FILE, losses_csv(found))
    write_text(out / PAGE_FILE, page_of(found))


def span_of(found: Race) -> str:
    """Give the first and the last forecast in words."""
    folds = found.facts["folds"]
    return f"{iso(folds[0][0])} to {iso(folds[-1][1])}"
