"""The proof of no look-ahead over a configured backtest: its whole pipeline in changed worlds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from adapters.history.parquet_file import Bars, write_bars
from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import FileInstruments, instruments_from, load_rules
from adapters.history.store import Funding, Panel, bars_path, data_root
from adapters.model_store import ModelStore
from adapters.paper import MemoryStore, PaperVenue
from daemon.domain.bar import Field
from daemon.domain.decision import Decision
from daemon.domain.failures import DataError
from daemon.domain.units import DAY_MS, Timeframe, instant_ms, iso, utc
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
from daemon.research.point_in_time import DataFacts, Finding, point_in_time
from daemon.research.worlds import Data
from daemon.runtime.replay import EstimatorCore, ReplayShell
from daemon.settings import Settings
from daemon.wiring.backtest import History, load_history
from daemon.wiring.bar_files import named_symbols, symbols_of
from daemon.wiring.core import engine_of, history_ms, paper_settings, rules_path, universe_of
from daemon.wiring.estimator import estimator_in_place, model_facts, needs_model
from daemon.wiring.training import bars_from_files, train

TRAINING_EFFORT_S: Final = 2.0  # few steps learn from the future just as well as many
TRAINING_CUTS: Final = 1
RUNS_A_CUT: Final = 3  # the whole data, the later ones removed, the later ones replaced
TRAININGS_A_CUT: Final = 3
LEARNT: Final = ("data", "calibration", "disagreement", "scores", "steps", "weights_sha256")

Progress = Callable[[str, int, int], None]  # what is being done, how much of it, of how much


@dataclass(frozen=True, slots=True)
class Lookahead:
    """Hold what the check looked at and what it found.

    uncovered: what such a check cannot see, in words. trained_ms: the cuts of the training step.
    """

    strategy: str
    forecasts: str
    symbols_n: int
    first_ms: int
    last_ms: int
    fingerprint: str
    seed: int
    results: tuple[CutResult, ...]
    trained_ms: tuple[int, ...]
    training: tuple[TrainingDifference, ...]
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
    named = bool(named_symbols(settings))
    history = load_history(settings, made, warmup_ms, named=named)
    data = data_of(history)
    first_ms = max(_since_ms(settings), int(data.close_ms[0]) - source.ms + warmup_ms)
    if first_ms >= int(data.close_ms[-1]):
        raise DataError(
            f"the bars end at {iso(int(data.close_ms[-1]))}, before their windows are full at "
            f"{iso(first_ms)}: take an earlier backtest.since, or a longer period"
        )
    cuts = choose_cuts(
        data,
        first_ms=first_ms,
        cuts_n=cuts_n,
        seed=seed,
        decision_ms=Timeframe.parse(settings.market.decision).ms,
        window_ms=days * DAY_MS,
    )
    results = check_pipeline(
        pipeline_of(settings, history, warmup_ms),
        data,
        cuts,
        seed,
        _counted(progress, "instants", _instants(data, cuts)),
    )
    trained_ms = tuple(cut.at_ms for cut in cuts[-TRAINING_CUTS:]) if with_training else ()
    training = _check_training(settings, made, trained_ms, seed, progress) if trained_ms else ()
    lookahead = Lookahead(
        strategy=engine.strategy.name,
        forecasts=settings.estimator.kind if engine.strategy.needs_estimates else "none",
        symbols_n=len(history.symbols),
        first_ms=first_ms,
        last_ms=int(data.close_ms[-1]),
        fingerprint=history.fingerprint,
        seed=seed,
        results=results,
        trained_ms=trained_ms,
        training=training,
        uncovered=tuple(_uncovered(settings, with_training=with_training)),
    )
    return Checked(lookahead, data_findings(settings, history, used_from_ms=first_ms))


def data_findings(
    settings: Settings, history: History, *, used_from_ms: int | None = None
) -> tuple[Finding, ...]:
    """Say what in loaded data is not as it was known at the time; reports take it as caveats.

    used_from_ms: the first decision, for the overlap with a model's training.
    """
    root, venue = data_root(Path(settings.backtest.data_folder)), settings.backtest.venue
    paths = {s: bars_path(root, venue, s, history.source) for s in history.symbols}
    model = model_facts(settings) if needs_model(settings) else None
    facts = DataFacts(
        data=data_of(history),
        venue=venue,
        named=bool(named_symbols(settings)),
        defaulted=history.defaulted,
        trained_until_ms=None if model is None else model.trained_until_ms,
        used_from_ms=used_from_ms,
        written_ms={s: round(p.stat().st_mtime * 1000) for s, p in paths.items() if p.is_file()},
    )
    return point_in_time(facts)


def instruments_of(settings: Settings) -> FileInstruments:
    """Make the instruments that a backtest with these settings trades."""
    table = load_rules(rules_path(settings.backtest.rules_file))
    return instruments_from(table, settings.exchange.id, symbols_of(settings))


def data_of(history: History) -> Data:
    """Give the loaded bars and rates as plain arrays."""
    panel, funding = history.panel, history.funding
    return Data(
        symbols=history.symbols,
        close_ms=panel.close_ms,
        values=panel.values,
        opens=panel.opens,
        settle_ms=funding.settle_ms,
        rates=funding.rates,
    )


def pipeline_of(settings: Settings, history: History, warmup_ms: int) -> Pipeline:
    """Give the ordinary backtest as a function of data: engine, paper venue and estimator anew."""

    def decide(data: Data, start_ms: int, until_ms: int) -> Sequence[Decision]:
        universe = history.universe
        engine = engine_of(settings, universe, history.source)
        feed = ReplayFeed(
            Panel(data.close_ms, data.values, data.opens),
            history.source,
            universe.instruments,
            Funding(data.settle_ms, data.rates, ()),
        )
        venue = PaperVenue(universe, paper_settings(settings), MemoryStore(), opened_ms=start_ms)
        with ExitStack() as stack:
            estimator: EstimatorCore | None = None
            if engine.strategy.needs_estimates:
                estimator = stack.enter_context(estimator_in_place(settings))
            shell = ReplayShell(engine, venue, estimator)
            shell.warm_up(feed.replay(start_ms - warmup_ms, start_ms))
            shell.start(start_ms, settings.run.run_name)
            shell.run(feed.replay(start_ms, until_ms))
            # A restart ends the decision in progress, so that it counts with what was sent so far.
            shell.start(until_ms, settings.run.run_name)
        return shell.result.decisions

    return decide


# ---- training ------------------------------------------------------------------------------------


def _check_training(
    settings: Settings,
    made: FileInstruments,
    cuts_ms: Sequence[int],
    seed: int,
    progress: Progress,
) -> tuple[TrainingDifference, ...]:
    since = utc(min(cuts_ms) - settings.training.days * DAY_MS)
    data = data_of(load_history(_reading(settings, since=since), made, DAY_MS))
    told = _counted(progress, "trainings", TRAININGS_A_CUT * len(cuts_ms))
    return check_training(trainer_of(settings), data, cuts_ms, seed, told)


def trainer_of(settings: Settings) -> Trainer:
    """Give the training step as a function of data: files, bars until the cut, the child, a model.

    The files hold all of the data; that the later part is not used is what is being checked.
    """

    def learn(data: Data, until_ms: int) -> dict[str, str]:
        with TemporaryDirectory(prefix="equipoise-lookahead-") as name:
            folder = Path(name)
            _write(data, folder, settings)
            chosen = _reading(settings, until=utc(until_ms), folder=folder)
            trained = train(chosen, bars_from_files(chosen), lambda _: None)
            found = ModelStore(chosen.estimator.models_folder).show_fully(trained.model_id)
        return {key: _digest(found[key]) for key in LEARNT}

    return learn


def _write(data: Data, folder: Path, settings: Settings) -> None:
    venue, source = settings.backtest.venue, Timeframe.parse(settings.backtest.source)
    for n, symbol in enumerate(data.symbols):
        is_there = np.isfinite(data.values[:, n, Field.CLOSE])
        bars = Bars(data.close_ms[is_there] - source.ms, data.values[is_there, n])
        facts = {"venue": venue, "symbol": symbol}
        path = bars_path(folder, venue, symbol, source)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bars(path, bars, source, facts)


def _reading(
    settings: Settings,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    folder: Path | None = None,
) -> Settings:
    """Give settings that read another period, or files and models of another folder."""
    backtest: dict[str, object] = {"since": since}
    changed: dict[str, object] = {}
    if folder is not None:
        backtest |= {"until": until, "data_folder": str(folder), "symbols": "all"}
        models, effort = folder / "models", min(settings.training.budget_s, TRAINING_EFFORT_S)
        changed = {
            "estimator": settings.estimator.model_copy(update={"models_folder": models}),
            "training": settings.training.model_copy(update={"budget_s": effort}),
            "universe": settings.universe.model_copy(update={"symbols": "all"}),
        }
    changed["backtest"] = settings.backtest.model_copy(update=backtest)
    return settings.model_copy(update=changed)


def _digest(value: object) -> str:
    if isinstance(value, str):
        return value[:16]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# ---- what was looked at --------------------------------------------------------------------------


def _since_ms(settings: Settings) -> int:
    since = settings.backtest.since
    return 0 if since is None else instant_ms(since)


def _instants(data: Data, cuts: Sequence[Cut]) -> int:
    rows = (data.rows_until(cut.at_ms) - data.rows_until(cut.start_ms) for cut in cuts)
    return RUNS_A_CUT * sum(rows)


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
        "which instruments are in the universe: names come from settings or files, not from bars",
        "the trading rules and the settings themselves: who chose them may have seen these bars",
        "changes of bars after they were stored: files hold one version of each bar",
        "a strategy or model that reads files of its own, past the data it is handed",
    ]
    if needs_model(settings):
        found.append("what the model in use was trained on: its manifest says until when")
        if not with_training:
            found.append("the training step: ask for it with --train")
    return found
