"""The proof of no look-ahead over a configured backtest: its whole pipeline in changed worlds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from adapters.estimate_worker import EstimateWorker
from adapters.journal import MemoryJournal
from adapters.model_store import ModelStore
from adapters.paper import MemoryStore, PaperVenue
from daemon.domain.bar import Field
from daemon.domain.failures import DataError
from daemon.domain.messages import MarketEvent
from daemon.domain.units import DAY_MS, Timeframe, instant_ms, iso, utc
from daemon.engine.engine import Engine
from daemon.report.run_record import BookRow
from daemon.research.lookahead import (
    Cut,
    CutResult,
    Pipeline,
    Trainer,
    TrainingDifference,
    check_pipeline,
    check_training,
    choose_cuts,
)
from daemon.research.outcome import Outcome
from daemon.research.point_in_time import Finding
from daemon.research.worlds import Data
from daemon.runtime.replay import ReplayShell
from daemon.settings import Settings
from daemon.wiring.backtest import History, book_row, feed_of, instruments_of, load_history
from daemon.wiring.bar_files import named_symbols
from daemon.wiring.core import asks_worker, engine_of, history_ms, paper_settings, universe_of
from daemon.wiring.data_findings import data_findings
from daemon.wiring.estimator import TABLE, beside_files, estimator_in_place, needs_model, told
from daemon.wiring.lives import copy_records
from daemon.wiring.training import bars_from_files, train_unlogged
from daemon.wiring.world_files import StoredWorld, in_folder, stored_world, write_world

TRAINING_EFFORT_S: Final = 2.0  # few steps learn from the future just as well as many
TRAINING_CUTS: Final = 1
TRAININGS_A_CUT: Final = 3
COVERED: Final = (
    "the way from files to bars: the choice among the files, the loaders of bars, funding, series",
    "all that the feed shows: bars, fill prices, funding rates",
    "what is made of it: windows, features, scalers, forecasts, calibration, risk, targets, orders",
    "what becomes of it: fills with price and fee, funding, and the book at every close",
)
LEARNT: Final = (
    "data",
    "calibration",
    "disagreement",
    "reading",
    "scores",
    "steps",
    "weights_sha256",
)

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


class Verdict(StrEnum):
    """Say in a word what the check has shown."""

    LEAK = "leak"
    CLEAN = "clean"
    NOTHING_FILLED = "nothing_filled"  # orders were compared, fills, fees and funding were not
    NOTHING_TRADED = "nothing_traded"  # forecasts and decisions were compared, orders were not


@dataclass(frozen=True, slots=True)
class Lookahead:
    """Hold what the check looked at and what it found.

    without_bars: instruments that had no bar in the loaded period. covered, uncovered: what such a
    check sees and what it cannot see, in words. trained_ms: the cuts of the training step.
    """

    strategy: str
    forecasts: str
    symbols_n: int
    without_bars: tuple[str, ...]
    first_ms: int
    last_ms: int
    fingerprint: str
    seed: int
    results: tuple[CutResult, ...]
    trained_ms: tuple[int, ...]
    training: tuple[TrainingDifference, ...]
    covered: tuple[str, ...]
    uncovered: tuple[str, ...]

    @property
    def is_clean(self) -> bool:
        """Tell whether nothing that must be the same differs."""
        return not self.training and not any(one.differences for one in self.results)

    @property
    def decisions_n(self) -> int:
        """Count the decisions compared, each in both changed worlds."""
        return sum(one.decisions_n for one in self.results)

    @property
    def traded_n(self) -> int:
        """Count those that were more than waiting for bars."""
        return sum(one.traded_n for one in self.results)

    @property
    def orders_n(self) -> int:
        """Count the orders of all decisions compared."""
        return sum(one.orders_n for one in self.results)

    @property
    def fills_n(self) -> int:
        """Count the fills compared."""
        return sum(one.fills_n for one in self.results)

    @property
    def funding_n(self) -> int:
        """Count the funding cash flows compared."""
        return sum(one.funding_n for one in self.results)

    @property
    def verdict(self) -> Verdict:
        """Judge: what was never there to be compared has not been shown."""
        if not self.is_clean:
            return Verdict.LEAK
        if not self.orders_n:
            return Verdict.NOTHING_TRADED
        return Verdict.CLEAN if self.fills_n else Verdict.NOTHING_FILLED


@dataclass(frozen=True, slots=True)
class Checked:
    """Hold what was found of the decisions and of the data."""

    lookahead: Lookahead
    findings: tuple[Finding, ...]


def check_lookahead(
    settings: Settings,
    *,
    cuts_n: int,
    seed: int,
    days: int,
    with_training: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Checked:
    """Check the configured backtest; `days` before each cut are compared, 0 is all before it.

    Raises ConfigurationError, DataError or ModelError for what cannot be used.
    """
    source = Timeframe.parse(settings.backtest.source)
    made = instruments_of(settings)
    engine = engine_of(settings, universe_of(list(made.instruments)), source)
    warmup_ms = history_ms(settings, engine)
    history = load_history(settings, made, warmup_ms, named=bool(named_symbols(settings)))
    world = stored_world(settings)
    data = world.data
    first_ms, last_ms = _period(settings, data, warmup_ms)
    cuts = choose_cuts(
        data,
        first_ms=first_ms,
        until_ms=last_ms,
        cuts_n=cuts_n,
        seed=seed,
        decision_ms=Timeframe.parse(settings.market.decision).ms,
        window_ms=days * DAY_MS,
    )
    results = check_pipeline(
        pipeline_of(settings, world, history, warmup_ms),
        data,
        cuts,
        seed,
        _counted(progress, "instants", _instants(data, cuts)),
    )
    trained_ms = tuple(cut.at_ms for cut in cuts[-TRAINING_CUTS:]) if with_training else ()
    training = _check_training(settings, data, trained_ms, seed, progress) if trained_ms else ()
    lookahead = Lookahead(
        strategy=engine.strategy.name,
        forecasts=settings.estimator.kind if engine.strategy.needs_estimates else "none",
        symbols_n=len(history.symbols),
        without_bars=_without_bars(history),
        first_ms=first_ms,
        last_ms=last_ms,
        fingerprint=history.fingerprint,
        seed=seed,
        results=results,
        trained_ms=trained_ms,
        training=training,
        covered=COVERED,
        uncovered=tuple(_uncovered(settings, with_training=with_training)),
    )
    findings = data_findings(settings, history, used_from_ms=first_ms, series=data.series)
    return Checked(lookahead, findings)


def _without_bars(history: History) -> tuple[str, ...]:
    silent = np.asarray(np.isnan(history.panel.values[:, :, Field.CLOSE]).all(axis=0))
    return tuple(history.symbols[n] for n in np.flatnonzero(silent).tolist())


def pipeline_of(
    settings: Settings, world: StoredWorld, history: History, warmup_ms: int
) -> Pipeline:
    """Give the ordinary backtest as a function of data, with the way from files to bars in it.

    history: what the backtest loads of its own folder; that is used for the whole world. Any other
    one is written to files of its own, from which instruments, bars and rates are taken anew.
    """

    def decide(data: Data, start_ms: int, until_ms: int) -> Outcome:
        if data is world.data:
            return outcome_of(settings, history, start_ms, until_ms, warmup_ms)
        with TemporaryDirectory(prefix="equipoise-lookahead-") as name:
            changed = in_folder(settings, Path(name))
            write_world(StoredWorld(data, world.funded), Path(name), changed)
            copy_records(settings, Path(name))
            loaded = load_history(changed, instruments_of(changed), warmup_ms)
            # the worker reads its series there while it runs
            return outcome_of(changed, loaded, start_ms, until_ms, warmup_ms)

    return decide


def outcome_of(
    settings: Settings, history: History, start_ms: int, until_ms: int, warmup_ms: int
) -> Outcome:
    """Trade loaded data from one instant to another; engine, venue and estimator are made anew."""
    universe = history.universe
    engine = engine_of(settings, universe, history.source)
    feed = feed_of(history)
    venue = PaperVenue(universe, paper_settings(settings), MemoryStore(), opened_ms=start_ms)
    journal, shown = MemoryJournal(keep_digests=False), list[MarketEvent]()
    rows: list[tuple[int, BookRow]] = []

    def on_instant(close_ms: int, engine: Engine) -> None:
        rows.append((close_ms, book_row(engine)))

    with ExitStack() as stack:
        estimator: EstimateWorker | None = None
        if asks_worker(settings, engine.strategy):
            worker = estimator_in_place(settings, beside_files(settings, engine))
            estimator = stack.enter_context(worker)
        shell = ReplayShell(engine, venue, estimator, journal, on_instant)
        shell.warm_up(_noted(feed.standing(start_ms - warmup_ms), shown))
        shell.warm_up(told(estimator, _noted(feed.replay(start_ms - warmup_ms, start_ms), shown)))
        shell.start(start_ms, settings.run.run_name)
        shell.run(told(estimator, _noted(feed.replay(start_ms, until_ms), shown)))
        # A restart ends the decision in progress, so that it counts with what was sent so far.
        shell.start(until_ms, settings.run.run_name)
    decisions = shell.result.decisions
    return Outcome(universe.instruments, shown, decisions, journal.executions, rows)


def _noted(events: Iterable[MarketEvent], shown: list[MarketEvent]) -> Iterator[MarketEvent]:
    for event in events:
        shown.append(event)
        yield event


# ---- training ------------------------------------------------------------------------------------


def _check_training(
    settings: Settings, data: Data, cuts_ms: Sequence[int], seed: int, progress: Progress
) -> tuple[TrainingDifference, ...]:
    told = _counted(progress, "trainings", TRAININGS_A_CUT * len(cuts_ms))
    return check_training(trainer_of(settings), data, cuts_ms, seed, told)


def trainer_of(settings: Settings) -> Trainer:
    """Give the training step as a function of data: files, bars until the cut, the child, a model.

    The files hold all of the data; that the later part is not used is what is being checked.
    """

    def learn(data: Data, until_ms: int) -> dict[str, str]:
        with TemporaryDirectory(prefix="equipoise-lookahead-") as name:
            folder = Path(name)
            funded = frozenset(data.symbols if settings.training.covariates else ())
            write_world(StoredWorld(data, funded), folder, settings)
            chosen = _reading(settings, until=utc(until_ms), folder=folder)
            trained = train_unlogged(chosen, bars_from_files(chosen), lambda _: None)
            found = ModelStore(chosen.estimator.models_folder).show_fully(trained.model_id)
        return {key: _digest(found[key]) for key in LEARNT}

    return learn


def _reading(settings: Settings, *, until: datetime, folder: Path) -> Settings:
    """Give settings that train on what a folder holds until an instant, and keep models there."""
    backtest = {"since": None, "until": until, "data_folder": str(folder), "symbols": "all"}
    models, effort = folder / "models", min(settings.training.budget_s, TRAINING_EFFORT_S)
    changed = {
        "backtest": settings.backtest.model_copy(update=backtest),
        "estimator": settings.estimator.model_copy(
            update={"models_folder": models, "series_folder": ""}
        ),
        "training": settings.training.model_copy(update={"budget_s": effort}),
        "universe": settings.universe.model_copy(update={"symbols": "all"}),
    }
    return settings.model_copy(update=changed)


def _digest(value: object) -> str:
    if isinstance(value, str):
        return value[:16]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# ---- what was looked at --------------------------------------------------------------------------


def _period(settings: Settings, data: Data, warmup_ms: int) -> tuple[int, int]:
    """Give the first instant at which windows are full, and the last close of the period."""
    since, until = settings.backtest.since, settings.backtest.until
    last = len(data.close_ms) if until is None else data.rows_until(instant_ms(until))
    last_ms = int(data.close_ms[last - 1])
    first_ms = int(data.close_ms[0]) - Timeframe.parse(settings.backtest.source).ms + warmup_ms
    first_ms = first_ms if since is None else max(instant_ms(since), first_ms)
    if first_ms >= last_ms:
        raise DataError(
            f"the bars end at {iso(last_ms)}, before their windows are full at "
            f"{iso(first_ms)}: take an earlier backtest.since, or a longer period"
        )
    return first_ms, last_ms


def _instants(data: Data, cuts: Sequence[Cut]) -> int:
    rows = (data.rows_until(cut.at_ms) - data.rows_until(cut.start_ms) for cut in cuts)
    return sum(cut.runs_n * n for cut, n in zip(cuts, rows, strict=True))


def _counted(progress: Progress, stage: str, total: int) -> Callable[[int], None]:
    done = 0

    def told(more: int) -> None:
        nonlocal done
        done += more
        progress(stage, done, total)

    progress(stage, 0, total)
    return told


def _uncovered(settings: Settings, *, with_training: bool) -> list[str]:
    found = [
        "that a file is there, or a symbol was named: who chose them may have seen these bars",
        "the table of trading rules and the settings themselves, for the same reason",
        "changes of bars after they were stored: files hold one version of each bar",
        "what reads other files than bars at backtest.source, funding rates and series in use",
    ]
    if settings.estimator.kind == TABLE:
        found.append("the table of predictions: whoever made it may have known the future")
    if needs_model(settings):
        found.append("what the model in use was trained on: its manifest says until when")
        if not with_training:
            found.append("the training step: ask for it with --train")
    return found
