"""The race of strategies: arms from settings, each an ordinary backtest that logs its own trial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.store import data_root
from daemon.domain.failures import ConfigurationError
from daemon.ports import Executor, Share
from daemon.report.market_links import MarketLink, market_link
from daemon.report.metrics import daily
from daemon.research.strategy_race import (
    COSTS_BPS,
    JUDGED_BPS,
    Absent,
    Lap,
    Race,
    RaceArm,
    Role,
    race_csv,
    race_days_csv,
    race_json,
)
from daemon.research.stress import Account, Days, Figures, at_cost, days_of, figures_of
from daemon.settings import PaperSettings, Settings
from daemon.wiring.arms import Ended, Task, backtest_of, ended, run_arms
from daemon.wiring.backtest import instruments_of, load_history
from daemon.wiring.core import NEUTRAL, strategy_of
from daemon.wiring.trials import ledger_of

JSON_FILE: Final = "strategies.json"
CSV_FILE: Final = "strategies.csv"
DAYS_FILE: Final = "strategies_days.csv"
FUNDING_MISSING_MAX: Final = 0.1  # of the usual settlements: what lacks more cannot be carried
MEAN_VARIANCE: Final = "mean_variance"
FIXED_BANDS: Final = (0.005, 0.01, 0.02, 0.05)
FORECASTING: Final = (
    RaceArm(NEUTRAL, Role.FORECASTS, NEUTRAL, {}, needs_forecasts=True),
    RaceArm(
        "neutral, mean-variance",
        Role.FORECASTS,
        NEUTRAL,
        {"weights": MEAN_VARIANCE},
        needs_forecasts=True,
    ),
    RaceArm("threshold", Role.FORECASTS, "threshold", {}, needs_forecasts=True),
)
CONVENTIONAL: Final = tuple(
    RaceArm(name, Role.CONVENTIONAL, name, needs_funding=name == "carry")
    for name in ("momentum", "reversal", "carry", "low_volatility", "pairs")
)
POLICIES: Final = (
    RaceArm("no band", Role.POLICY, NEUTRAL, {"band": "fixed", "band_weight": 0.0}, True),
    RaceArm("calendar", Role.POLICY, NEUTRAL, {"band": "calendar"}, True),
    RaceArm("confidence", Role.POLICY, NEUTRAL, {"band": "confidence"}, True),
    *(
        RaceArm(
            f"fixed {width:g}", Role.FIXED, NEUTRAL, {"band": "fixed", "band_weight": width}, True
        )
        for width in FIXED_BANDS
    ),
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    days: Days
    figures: Figures
    fills: int
    btc: MarketLink
    first_ms: int
    last_ms: int
    symbols: tuple[str, ...]
    fingerprint: str
    caveats: tuple[str, ...]


def arms_of_race() -> tuple[RaceArm, ...]:
    """List all arms, in the order in which they are shown."""
    return (*FORECASTING, *CONVENTIONAL, *POLICIES)


def run_race(
    settings: Settings,
    executor: Executor,
    done: Share = lambda share: None,
    *,
    only: tuple[str, ...] = (),
    costs_bps: tuple[float, ...] = COSTS_BPS,
) -> Race:
    """Run every arm at every cost, and name those that cannot be run here.

    only: names of arms, all if there are none. Raises ConfigurationError for an unknown name or
    where nothing can be run, and what a backtest raises, with the name of the arm.
    """
    arms, absent = _runnable(settings, only)
    if not arms:
        raise ConfigurationError(
            "no arm can be run: " + "; ".join(f"{one.name}: {one.why}" for one in absent)
        )
    base = Account(**{f.name: getattr(settings.paper, f.name) for f in fields(Account)})
    ledger_of(settings)
    plan = [
        (arm, bps, Task(f"{arm.name} at {bps:g} bps", chosen, "evaluate strategies", is_stress))
        for arm, own in arms
        for bps in costs_bps
        for is_stress in [bps != JUDGED_BPS]
        for chosen in [_at(own, at_cost(base, bps))]
    ]
    outcomes = run_arms(executor, run_lap, [task for _, _, task in plan], done)
    laps = tuple(
        Lap(arm, bps, found.days, found.figures, found.fills, found.btc)
        for (arm, bps, _), found in zip(plan, outcomes, strict=True)
    )
    first = outcomes[0]
    return Race(
        first_ms=first.first_ms,
        last_ms=first.last_ms,
        symbols=first.symbols,
        data_fingerprint=first.fingerprint,
        forecasts=_forecasts(settings),
        caveats=first.caveats,
        laps=laps,
        absent=tuple(absent),
        seed=settings.evaluation.seed,
    )


def run_lap(task: Task, share: Share) -> Ended[_Outcome]:
    """Run one arm at one cost, here or in a worker."""
    settings, result = task.settings, backtest_of(task, share)
    facts, record = result.run.facts, result.run.record
    days = days_of(record)
    first = daily(record.times_ms, record.column("first"))
    folder = f"{data_root(Path(settings.backtest.data_folder))}/"
    outcome = _Outcome(
        days=days,
        figures=figures_of(days),
        fills=facts.fills,
        btc=market_link(facts.symbols[0], days.returns, np.asarray(first[1:] / first[:-1] - 1.0)),
        first_ms=record.times_ms[0],
        last_ms=record.times_ms[-1],
        symbols=facts.symbols,
        fingerprint=facts.fingerprint,
        caveats=tuple(caveat.replace(folder, "") for caveat in facts.caveats),
    )
    return ended(task, outcome, result)


def write_race(race: Race, folder: Path) -> tuple[Path, ...]:
    """Write strategies.json, strategies.csv and strategies_days.csv; gives their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = tuple(folder / name for name in (JSON_FILE, CSV_FILE, DAYS_FILE))
    texts = race_json(race), race_csv(race), race_days_csv(race)
    for path, text in zip(written, texts, strict=True):
        draft = path.with_name(f".{path.name}.draft")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    return written


def _runnable(
    settings: Settings, only: tuple[str, ...]
) -> tuple[list[tuple[RaceArm, Settings]], list[Absent]]:
    known = arms_of_race()
    strange = [name for name in only if name not in {arm.name for arm in known}]
    if strange:
        names = ", ".join(arm.name for arm in known)
        raise ConfigurationError(f"no arm {strange[0]!r} in the race; known: {names}")
    found, absent = list[tuple[RaceArm, Settings]](), list[Absent]()
    for arm in known:
        if only and arm.name not in only:
            continue
        try:
            own = _settings_of(settings, arm)
            strategy_of(own)
            if arm.needs_funding:
                _refuse_no_funding(own)
        except ConfigurationError as failure:
            absent.append(Absent(arm.name, str(failure)))
        else:
            found.append((arm, own))
    return found, absent


def _refuse_no_funding(settings: Settings) -> None:
    """Raise ConfigurationError where too many settlements of the period have no rate.

    A book that is carried without a rate keeps its weights: it would be judged by what it is not.
    """
    missing = load_history(settings, instruments_of(settings), 0).funding_missing
    if missing > FUNDING_MISSING_MAX:
        chosen = settings.backtest
        raise ConfigurationError(
            f"{missing:.1%} of the usual settlements have no funding rate of"
            f" {chosen.funding_venue or chosen.venue!r}, at most {FUNDING_MISSING_MAX:.0%} may lack"
            " one; backtest.funding_venue names another venue's rates"
        )


def _settings_of(settings: Settings, arm: RaceArm) -> Settings:
    """Give the settings of an arm: those of the run with its strategy and its parameters on top.

    Parameters that are configured for a strategy stay those of that strategy alone.
    """
    if arm.needs_forecasts and settings.estimator.kind == "none":
        raise ConfigurationError("estimator.kind = 'none': there are no forecasts to trade on")
    own: Mapping[str, object] = {}
    if settings.strategy.name == arm.strategy:
        own = settings.strategy.parameters
    strategy = settings.strategy.model_copy(
        update={"name": arm.strategy, "parameters": {**own, **arm.parameters}}
    )
    changes: dict[str, object] = {"strategy": strategy}
    if not arm.needs_forecasts:
        changes["estimator"] = settings.estimator.model_copy(update={"kind": "none"})
    asks = arm.parameters.get("weights") == MEAN_VARIANCE
    if asks and settings.covariance.estimator == "none":
        changes["covariance"] = settings.covariance.model_copy(update={"estimator": "ewma"})
    return settings.model_copy(update=changes)


def _at(settings: Settings, account: Account) -> Settings:
    paper = PaperSettings(**{**settings.paper.model_dump(), **asdict(account)})
    return settings.model_copy(update={"paper": paper})


def _forecasts(settings: Settings) -> str:
    estimator = settings.estimator
    named: Iterator[str] = (
        one for one in (estimator.kind, estimator.table if estimator.kind == "table" else "") if one
    )
    return ": ".join(Path(one).name for one in named)
