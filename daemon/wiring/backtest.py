"""A backtest: files in, the replay shell over the ordinary engine and paper venue, a report out."""

from __future__ import annotations

import resource
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from adapters.clocks import TransportClock
from adapters.estimate_worker import EstimateWorker
from adapters.history.instruments_file import Record
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
from adapters.trial_ledger import Trial
from daemon.domain.bar import Field, Flags, Floats
from daemon.domain.cleansing import Removal
from daemon.domain.decision import Decision
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.instrument import Universe
from daemon.domain.messages import PriceDoubted, Rescaled
from daemon.domain.order import Fill
from daemon.domain.units import DAY_MS, Timeframe, instant_ms, iso
from daemon.engine.engine import Engine
from daemon.report.betas import WINDOW_DAYS
from daemon.report.capacity import Capacity, capacity_of_run, volumes_met
from daemon.report.metrics import RunMetrics, measure
from daemon.report.new_units import show_in_new_units
from daemon.report.run import Execution, Run, RunFacts, period_text
from daemon.report.run_record import BookRow, RunRecord
from daemon.report.trials import shown_file
from daemon.research.point_in_time import caveats
from daemon.runtime.replay import ReplayShell
from daemon.settings import Settings, effective
from daemon.wiring.bar_files import named_symbols, note_of, refuse_empty, symbols_of
from daemon.wiring.cleansing import cleansed, removals_text
from daemon.wiring.core import (
    asks_worker,
    engine_of,
    history_ms,
    paper_settings,
    rules_path,
    universe_of,
)
from daemon.wiring.data_findings import data_findings
from daemon.wiring.estimator import (
    ModelFacts,
    beside_files,
    estimator_in_place,
    model_facts,
    told,
)
from daemon.wiring.instruments import read_instruments
from daemon.wiring.lives import records_of, with_listings, with_records
from daemon.wiring.rescaled import said_text
from daemon.wiring.trials import ledger_of, trial_of

Progress = Callable[[int, int], None]  # instants done, instants in all
PROGRESS_EVERY: Final = 64
BETA_HISTORY_MS: Final = (WINDOW_DAYS + 1) * DAY_MS  # the first day of them may begin in a hole
SHOWN_SECTIONS: Final = ("backtest", "market", "paper", "strategy", "estimator", "risk")
SHOWN_FILES: Final = (
    ("backtest", "data_folder"),
    ("backtest", "rules_file"),
    ("estimator", "models_folder"),
    ("estimator", "table"),
)


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
    removed: tuple[Removal, ...] = ()  # bars of the files that are absent from the panel, and why
    earlier: Panel | None = None  # rows before the panel, for the betas of a report alone
    records: tuple[Record | None, ...] = ()  # (N,), what is known of each instrument over time
    said: tuple[Rescaled | PriceDoubted, ...] = ()  # beside the bars
    stored: Flags | None = None  # (T, N), which bars the files have, removed ones too

    def rescaled(self, first_ms: int, last_ms: int) -> list[Rescaled]:
        """List the changes of units with first < instant <= last."""
        changes = [one for one in self.said if isinstance(one, Rescaled)]
        return [one for one in changes if first_ms < one.at_ms <= last_ms]


@dataclass(slots=True)
class BacktestResult:
    """Hold what a backtest produced."""

    run: Run
    metrics: RunMetrics
    engine: Engine
    trial: Trial
    alerts: dict[str, int] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)  # as taken, in the units of their time


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
    ledger = ledger_of(settings)
    result = run_unlogged(settings, progress, book, command=command, is_stress=is_stress)
    ledger.append(result.trial)
    return result


def run_unlogged(
    settings: Settings,
    progress: Progress = lambda done, total: None,
    book: Path | None = None,
    *,
    command: str,
    is_stress: bool,
) -> BacktestResult:
    """Run a backtest and leave the logging of its trial to the caller, which must do it.

    For `wiring.arms` alone: the arms of a campaign are logged in their order, not as they end.
    """
    clock = TransportClock()
    started_s = clock.monotonic()
    source = Timeframe.parse(settings.backtest.source)
    made = instruments_of(settings, book)
    engine = engine_of(settings, universe_of(list(made.instruments)), source)
    named = book is not None or bool(named_symbols(settings))
    history = load_history(settings, made, history_ms(settings, engine), named=named)
    feed = feed_of(history)
    start_ms = max(_since_ms(settings) or 0, feed.first_ms - source.ms)
    venue = PaperVenue(
        history.universe, paper_settings(settings), MemoryStore(), opened_ms=start_ms
    )
    changes = history.rescaled(start_ms, feed.last_ms)
    record, journal, loaded_s = RunRecord(), MemoryJournal(), clock.monotonic()
    with ExitStack() as stack:
        estimator: EstimateWorker | None = None
        if asks_worker(settings, engine.strategy):
            worker = estimator_in_place(settings, beside_files(settings, engine))
            estimator = stack.enter_context(worker)
        shell = ReplayShell(
            engine, venue, estimator, journal, _observer(record, len(feed), progress, changes)
        )
        begin_ms = feed.first_ms - source.ms
        shell.warm_up(feed.standing(begin_ms))
        shell.warm_up(told(estimator, feed.replay(begin_ms, start_ms)))
        shell.start(start_ms, settings.run.run_name)
        open_record(record, engine, start_ms, source)
        record.precede(*_closes_before(history, start_ms))
        result = shell.run(told(estimator, feed.replay(start_ms, feed.last_ms)))
    if len(record) < 2:
        raise DataError(
            f"no bars after {iso(start_ms)}: those of {settings.backtest.venue!r} in "
            f"{settings.backtest.data_folder} end at {iso(feed.last_ms)}"
        )
    model = model_facts(settings) if engine.strategy.needs_estimates else None
    seconds = (clock.monotonic() - started_s, loaded_s - started_s)
    is_book = book is not None
    trial = trial_of(settings, history, record, command, is_stress=is_stress)
    facts = _facts(settings, history, engine, record, model, trial, seconds, is_book=is_book)
    alerts: dict[str, int] = {}
    for alert in result.alerts:
        alerts[str(alert.kind)] = alerts.get(str(alert.kind), 0) + 1
    shown = list(result.decisions)
    for change in changes:
        show_in_new_units(change, journal.executions, shown, change.at_ms)
    room = _capacity(settings, history, record, journal.executions)
    run = Run(record, shown, journal.executions, facts, room)
    return BacktestResult(run, measure(record), engine, trial, alerts, result.decisions)


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
    reach = None if since is None else min(since - warmup_ms, since - BETA_HISTORY_MS)
    loaded = load_panel(root, chosen.venue, symbols, source, reach, until)
    earlier, raw = _cut(loaded, first)
    if not len(raw.close_ms):  # says what was asked for and what there is
        raw = load_panel(root, chosen.venue, symbols, source, first, until)
    keys = [instrument.key for instrument in made.instruments]
    found = cleansed(settings, raw, source, keys)
    panel = found.panel
    if named:
        refuse_empty(panel.empty)
    funding = load_funding(root, chosen.funding_venue or chosen.venue, symbols, first, until)
    missing = funding_missing_share(panel, funding)
    if missing and chosen.funding_missing == "error":
        raise DataError(
            f"backtest.funding_missing = 'error': {missing:.1%} of the settlements have no rate"
        )
    records = records_of(settings, symbols)
    return History(
        panel=panel,
        funding=funding,
        funding_missing=missing,
        symbols=symbols,
        universe=universe_of(list(made.instruments)),
        source=source,
        fingerprint=with_records(fingerprint(panel, symbols, source), records),
        defaulted=made.defaulted,
        removed=found.removed,
        earlier=None if earlier is None else cleansed(settings, earlier, source, keys).panel,
        records=records,
        said=found.said,
        stored=~np.isnan(raw.values[:, :, Field.CLOSE]),
    )


def feed_of(history: History) -> ReplayFeed:
    """Play loaded data, with all that is known of its instruments."""
    return ReplayFeed(
        history.panel,
        history.source,
        history.universe.instruments,
        history.funding,
        records=history.records,
        said=history.said,
        stored=history.stored,
    )


def _cut(loaded: Panel, first_ms: int | None) -> tuple[Panel | None, Panel]:
    """Give the rows that close by `first_ms`, None without any, and the rest from its first bar on.

    The rest is what loading from there gives, to the bit: nothing that trades sees more.
    """
    at = 0 if first_ms is None else int(np.searchsorted(loaded.close_ms, first_ms, side="right"))
    rows = np.flatnonzero((~np.isnan(loaded.values[at:])).any(axis=(1, 2)))
    begin = at + int(rows[0]) if len(rows) else len(loaded.close_ms)
    rest = Panel(loaded.close_ms[begin:], loaded.values[begin:], loaded.opens[begin:], loaded.empty)
    if not at:
        return None, rest
    return Panel(loaded.close_ms[:at], loaded.values[:at], loaded.opens[:at]), rest


def _closes_before(history: History, start_ms: int) -> tuple[list[int], Floats]:
    """Give all closes that were read, times (H,) and prices (H, N); the record takes the first.

    They are in the units of `start_ms`; later changes of them are the record's.
    """
    panels = [p for p in (history.earlier, history.panel) if p is not None]
    times = np.concatenate([panel.close_ms for panel in panels])
    closes = np.concatenate([panel.values[:, :, Field.CLOSE] for panel in panels])
    for change in history.rescaled(int(times[0]) - 1, start_ms):
        closes[times < change.at_ms, change.index] *= change.old_n / change.new_n
    return times.tolist(), closes


def instruments_of(settings: Settings, book: Path | None = None) -> FileInstruments:
    """Give the instruments that a backtest trades; those of the state folder `book`, if given."""
    if book is not None:
        return FileInstruments(tuple(i for i in read_instruments(book) if not i.is_spare), ())
    table = load_rules(rules_path(settings.backtest.rules_file))
    made = instruments_from(table, settings.exchange.id, symbols_of(settings))
    return with_listings(made, records_of(settings, [i.key.symbol for i in made.instruments]))


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


def open_record(record: RunRecord, engine: Engine, start_ms: int, source: Timeframe) -> None:
    """Begin a record with the book as it was opened, at the close at or before `start_ms`.

    Without that row whatever is traded at the first close would be in no return and no part.
    """
    record.add(start_ms - start_ms % source.ms, book_row(engine))


def _observer(
    record: RunRecord, total: int, progress: Progress, changes: Sequence[Rescaled]
) -> Callable[[int, Engine], None]:
    waiting = deque(changes)

    def on_instant(close_ms: int, engine: Engine) -> None:
        while waiting and waiting[0].at_ms <= close_ms:
            record.rescale(waiting.popleft())
        record.add(close_ms, book_row(engine))
        done = len(record) - 1  # the first row is the opening
        if done % PROGRESS_EVERY == 0:
            progress(done, total)

    return on_instant


def _facts(
    settings: Settings,
    history: History,
    engine: Engine,
    record: RunRecord,
    model: ModelFacts | None,
    trial: Trial,
    seconds: tuple[float, float],
    *,
    is_book: bool,
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
        caveats=tuple(_caveats(settings, history, record.times_ms[0], is_book=is_book)),
        settings=_shown(settings),
        venue=settings.backtest.venue,
        bar=settings.backtest.source,
        funding_source=_funding_source(settings, history),
        book_venue=settings.exchange.id,
        trial_id=trial.id,
        code_version=trial.code_version,
    )


def _funding_source(settings: Settings, history: History) -> str:
    name, missing = (
        settings.backtest.funding_venue or settings.backtest.venue,
        history.funding_missing,
    )
    return f"{name}, {missing:.1%} of the settlements missing" if missing else name


def _described(settings: Settings, engine: Engine, model: ModelFacts | None) -> str:
    if not engine.strategy.needs_estimates:
        return f"strategy {engine.strategy.name}"
    source = f"model {model.model_id[:12]}" if model is not None else settings.estimator.kind
    return f"strategy {engine.strategy.name}, forecasts: {source}"


def _caveats(settings: Settings, history: History, first_ms: int, *, is_book: bool) -> list[str]:
    findings = data_findings(settings, history, used_from_ms=first_ms, is_book=is_book)
    empty, removed = history.panel.empty, history.removed
    notes = [note_of(empty)] if empty else []
    notes += [removals_text(removed, history.symbols)] if removed else []
    notes += [said_text(one) for one in history.said]
    return [*notes, *caveats(findings)]


def _capacity(
    settings: Settings, history: History, record: RunRecord, executions: Sequence[Execution]
) -> Capacity:
    fills = [one for one in executions if isinstance(one, Fill)]
    panel, charged = history.panel, paper_settings(settings)
    volumes = panel.values[:, :, Field.VOLUME].copy()
    for change in history.rescaled(record.times_ms[0], record.times_ms[-1]):
        volumes[panel.close_ms < change.at_ms, change.index] *= change.new_n / change.old_n
    met = np.full(len(fills), np.nan)
    if charged.impact_bps or charged.participation_share is not None:  # else nobody looked
        met = volumes_met(fills, panel.close_ms, volumes)
    return capacity_of_run(
        record,
        fills,
        met,
        impact_bps=charged.impact_bps,
        participation_share=charged.participation_share,
    )


def _shown(settings: Settings) -> Mapping[str, object]:
    values = effective(settings)
    if not isinstance(values, Mapping):
        raise ConfigurationError("settings cannot be shown")
    shown = {name: dict(values[name]) for name in SHOWN_SECTIONS}
    del shown["market"]["source"]  # backtest.source takes its place
    del shown["backtest"]["report"]
    for section, name in SHOWN_FILES:
        if shown[section][name]:
            shown[section][name] = shown_file(Path(shown[section][name]))
    shown["evaluation"] = {"seed": settings.evaluation.seed}
    return shown
