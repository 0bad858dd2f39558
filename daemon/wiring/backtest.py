"""A backtest: files in, the replay shell over the ordinary engine and paper venue, a report out."""

from __future__ import annotations

import resource
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from adapters.clocks import TransportClock
from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import FileInstruments, instruments_from, load_rules
from adapters.history.store import (
    Funding,
    Panel,
    data_root,
    disk_symbol,
    fingerprint,
    funding_missing_share,
    load_funding,
    load_panel,
)
from adapters.journal import MemoryJournal
from adapters.paper import MemoryStore, PaperVenue
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.instrument import Universe
from daemon.domain.units import Timeframe, instant_ms, iso
from daemon.engine.engine import Engine
from daemon.report.metrics import RunMetrics, measure
from daemon.report.run import Run, RunFacts, period_text
from daemon.report.run_record import BookRow, RunRecord
from daemon.runtime.replay import EstimatorCore, ReplayShell
from daemon.settings import Settings, effective
from daemon.wiring.bar_files import named_symbols, note_of, refuse_empty, symbols_of
from daemon.wiring.core import engine_of, history_ms, paper_settings, rules_path, universe_of
from daemon.wiring.estimator import ModelFacts, estimator_in_place, model_facts
from daemon.wiring.instruments import read_instruments
from daemon.wiring.trials import ledger_of, log_trial

Progress = Callable[[int, int], None]  # instants done, instants in all
PROGRESS_EVERY: Final = 64


@dataclass(frozen=True, slots=True)
class History:
    """Hold the loaded data of a backtest."""

    panel: Panel
    funding: Funding
    funding_missing: float  # share of usual settlements without a rate
    symbols: tuple[str, ...]
    universe: Universe
    source: Timeframe
    fingerprint: str
    defaulted: tuple[str, ...]  # symbols whose trading rules are the table's default row


@dataclass(slots=True)
class BacktestResult:
    """Hold what a backtest produced."""

    run: Run
    metrics: RunMetrics
    engine: Engine
    alerts: dict[str, int] = field(default_factory=dict)
    trial_id: str = ""  # in the ledger of trials


def run_backtest(
    settings: Settings,
    progress: Progress = lambda done, total: None,
    book: Path | None = None,
    *,
    command: str = "backtest",
    is_stress: bool = False,
) -> BacktestResult:
    """Run the configured backtest; with the instruments of the state folder `book`, if given.

    It counts as a trial: `command` says in the ledger who wanted it, `is_stress` that only costs or
    sizes differ from another one. Raises ConfigurationError, DataError or ModelError for what
    cannot be used.
    """
    clock = TransportClock()
    ledger = ledger_of(settings)
    started_s = clock.monotonic()
    source = Timeframe.parse(settings.backtest.source)
    made = _instruments(settings, book)
    engine = engine_of(settings, universe_of(list(made.instruments)), source)
    named = book is not None or bool(named_symbols(settings))
    history = load_history(settings, made, history_ms(settings, engine), named=named)
    feed = ReplayFeed(history.panel, source, history.universe.instruments, history.funding)
    start_ms = max(_since_ms(settings) or 0, feed.first_ms - source.ms)
    venue = PaperVenue(
        history.universe, paper_settings(settings), MemoryStore(), opened_ms=start_ms
    )
    record, journal, loaded_s = RunRecord(), MemoryJournal(), clock.monotonic()
    with ExitStack() as stack:
        estimator: EstimatorCore | None = None
        if engine.strategy.needs_estimates:
            estimator = stack.enter_context(estimator_in_place(settings))
        shell = ReplayShell(
            engine, venue, estimator, journal, _observer(record, len(feed), progress)
        )
        shell.warm_up(feed.replay(feed.first_ms - source.ms, start_ms))
        shell.start(start_ms, settings.run.run_name)
        result = shell.run(feed.replay(start_ms, feed.last_ms))
    if not record.times_ms:
        raise DataError(
            f"no bars after {iso(start_ms)}: those of {settings.backtest.venue!r} in "
            f"{settings.backtest.data_folder} end at {iso(feed.last_ms)}"
        )
    model = model_facts(settings) if engine.strategy.needs_estimates else None
    seconds = (clock.monotonic() - started_s, loaded_s - started_s)
    facts = _facts(settings, history, engine, record, model, seconds)
    alerts: dict[str, int] = {}
    for alert in result.alerts:
        alerts[str(alert.kind)] = alerts.get(str(alert.kind), 0) + 1
    run = Run(record, result.decisions, journal.executions, facts)
    trial = log_trial(ledger, settings, history, record, command, is_stress=is_stress)
    return BacktestResult(run, measure(record), engine, alerts, trial.id)


def load_history(
    settings: Settings, made: FileInstruments, warmup_ms: int, *, named: bool = False
) -> History:
    """Load bars, funding and instruments of the configured period with what warms it up.

    named: somebody asked for these instruments, so that a file without a bar is an error.
    """
    chosen = settings.backtest
    root, source = data_root(Path(chosen.data_folder)), Timeframe.parse(chosen.source)
    symbols = tuple(disk_symbol(i.key.symbol) for i in made.instruments)
    since, until = _since_ms(settings), _until_ms(settings)
    first = None if since is None else since - warmup_ms
    panel = load_panel(root, chosen.venue, symbols, source, first, until)
    if named:
        refuse_empty(panel.empty)
    funding = load_funding(root, chosen.funding_venue or chosen.venue, symbols, first, until)
    missing = funding_missing_share(panel, funding)
    if missing and chosen.funding_missing == "error":
        raise DataError(
            f"backtest.funding_missing = 'error': {missing:.1%} of the settlements have no rate"
        )
    return History(
        panel=panel,
        funding=funding,
        funding_missing=missing,
        symbols=symbols,
        universe=universe_of(list(made.instruments)),
        source=source,
        fingerprint=fingerprint(panel, symbols, source),
        defaulted=made.defaulted,
    )


def _instruments(settings: Settings, book: Path | None) -> FileInstruments:
    if book is not None:
        return FileInstruments(tuple(read_instruments(book)), ())
    table = load_rules(rules_path(settings.backtest.rules_file))
    return instruments_from(table, settings.exchange.id, symbols_of(settings))


def _since_ms(settings: Settings) -> int | None:
    since = settings.backtest.since
    return None if since is None else instant_ms(since)


def _until_ms(settings: Settings) -> int | None:
    until = settings.backtest.until
    return None if until is None else instant_ms(until)


def book_row(engine: Engine) -> BookRow:
    """Read the row that reports are made of off an engine."""
    book = engine.state.book
    ledger = book.ledger
    return BookRow(
        book.equity,
        book.net,
        ledger.fees,
        ledger.funding,
        ledger.turnover,
        book.shortfall,
        book.quantity.copy(),
        book.marks,
    )


def _observer(record: RunRecord, total: int, progress: Progress) -> Callable[[int, Engine], None]:
    def on_instant(close_ms: int, engine: Engine) -> None:
        record.add(close_ms, book_row(engine))
        done = len(record.times_ms)
        if done % PROGRESS_EVERY == 0:
            progress(done, total)

    return on_instant


def _facts(
    settings: Settings,
    history: History,
    engine: Engine,
    record: RunRecord,
    model: ModelFacts | None,
    seconds: tuple[float, float],
) -> RunFacts:
    book = engine.state.book
    return RunFacts(
        title=f"Backtest of {engine.strategy.name}",
        strategy=_described(settings, engine, model),
        period=period_text(record.times_ms),
        symbols=history.symbols,
        fills=book.ledger.fills,
        orders=engine.state.orders.submitted_n,
        net_weight_worst=book.net_weight_worst,
        run_seconds=seconds[0],
        memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        fingerprint=history.fingerprint,
        loading_seconds=seconds[1],
        caveats=tuple(_caveats(settings, history, record, model)),
        settings=_shown(settings),
    )


def _described(settings: Settings, engine: Engine, model: ModelFacts | None) -> str:
    if not engine.strategy.needs_estimates:
        return f"strategy {engine.strategy.name}"
    source = f"model {model.model_id[:12]}" if model is not None else settings.estimator.kind
    return f"strategy {engine.strategy.name}, forecasts: {source}"


def _caveats(
    settings: Settings, history: History, record: RunRecord, model: ModelFacts | None
) -> list[str]:
    found = []
    if history.panel.empty:
        found.append(note_of(history.panel.empty))
    if history.funding_missing:
        found.append(
            f"Funding: {history.funding_missing:.1%} of the usual settlements have no rate on file "
            "and were booked as zero."
        )
    if settings.backtest.venue.endswith("_spot"):
        found.append("Spot bars stand for the perpetuals that would have been traded.")
    absent = float(np.isnan(history.panel.values[:, :, 0]).mean())
    if absent:
        found.append(
            f"{absent:.1%} of the bars do not exist: instruments start, stop and have holes. Each "
            "decision uses what was there; coins delisted before the files were made are missing."
        )
    if history.defaulted:
        names = ", ".join(history.defaulted)
        found.append(f"Trading rules of the default row were used for {names}.")
    if model is not None and model.trained_until_ms is not None:
        overlap = model.trained_until_ms > record.times_ms[0]
        if overlap:
            found.append(
                f"IN SAMPLE: the model was trained on data until {iso(model.trained_until_ms)}, "
                "which overlaps this period. These figures say nothing about the future."
            )
    return found


def _shown(settings: Settings) -> Mapping[str, object]:
    values = effective(settings)
    if not isinstance(values, Mapping):
        raise ConfigurationError("settings cannot be shown")
    return {name: values[name] for name in ("market", "paper", "strategy", "estimator", "risk")}
