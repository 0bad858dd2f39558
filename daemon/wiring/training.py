"""Training: history in, a model in the registry out, in a process of its own.

The trading process never loads torch, so the job is written to a folder and a child trains it; its
progress lines come back as values. `training.kind` names the module that the child runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog

from adapters.clocks import LockStepClock, SystemClock, TransportClock, VenueClock
from adapters.exchange.feed import CcxtFeed
from adapters.history.store import Panel, any_generated, data_root, disk_symbol, load_panel
from adapters.model_store import ModelStore
from adapters.trial_ledger import Training, Trial, TrialLedger
from daemon.domain.bar import Field, Floats, Proof
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.child_environment import without_keys
from daemon.domain.failures import ModelError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import BarsClosed, FundingRates
from daemon.domain.units import DAY_MS, Timeframe, iso
from daemon.ports import Warmup
from daemon.settings import Settings, TrainingSettings
from daemon.wiring.bar_files import named_symbols, refuse_empty, symbols_of
from daemon.wiring.cleansing import cleansed_panel, cleansed_values, log_removed
from daemon.wiring.core import timeframes_of
from daemon.wiring.covariates import file_funding, refuse_no_funding, stored_known, told_funding
from daemon.wiring.estimator import CHAMPION
from daemon.wiring.recording import recording_folder
from daemon.wiring.series_ready import check_outside, ready_series
from daemon.wiring.session import feed_settings, pinned_symbols
from daemon.wiring.trials import ledger_of, read_trials, trial_of_training
from strategies.forecast import checkpoint
from strategies.forecast.inputs.covariates import FUNDING, CovariateTable, Known, needed
from strategies.forecast.networks.config import ListLoss
from strategies.forecast.training.fitting import (
    NETWORK_TRAINER,
    TRAINERS,
    refuse_uninstalled,
    settings_for,
)
from strategies.forecast.training.job import (
    MEMBERS_MAX,
    Device,
    Job,
    Origin,
    OriginKind,
    Precision,
    Selection,
    TrainSettings,
    Tune,
    write_job,
)

_ROOT: Final = Path(__file__).resolve().parents[2]
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SAID_BYTES: Final = 2000  # of what a child wrote before it failed, the last ones
log = structlog.get_logger()
Longs = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class SourceBars:
    """Hold what a model is trained on: closes (T,), values (T, N, 5), and where it came from.

    known: the series that training.covariates need, as known at the last close.
    """

    symbols: tuple[str, ...]
    source: Timeframe
    close_ms: Longs
    values: Floats
    origin: Origin
    known: Known = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Tell how far the child is; rank_ic is the live metric, None before it is known."""

    done_steps: int
    total_steps: int
    stage: str
    rank_ic: float | None


@dataclass(frozen=True, slots=True)
class Trained:
    """Report a trained model: its id, kind, folder and out-of-sample scores by timeframe.

    tried_n: what the ledger knows to have been tried on these bars, this training included; None
    where it was not logged.
    """

    model_id: str
    kind: str
    path: Path
    scores: list[dict[str, Any]]
    tried_n: int | None = None


@dataclass(frozen=True, slots=True)
class Tuned:
    """Name the model that is tuned, an id or champion, and how much of it learns (see `Tune`)."""

    model: str
    how: str


async def bars_from_exchange(settings: Settings, on_warmup: Callable[[Warmup], None]) -> SourceBars:
    """Read the configured days of history from the exchange that will be traded.

    Series that it publishes beside its bars are fetched as well, see `series_ready`.
    """
    check_outside(settings, recording_folder(settings, is_private=False))
    transport = TransportClock()
    clock: SystemClock | VenueClock | LockStepClock
    if settings.exchange.market_time == "lockstep":
        clock = LockStepClock(settings.exchange.lockstep_url, _at_once, client="training")
    elif settings.exchange.market_time == "system":
        clock = SystemClock(transport)
    else:
        clock = VenueClock(lambda: feed.server_time(), transport)
    feed = CcxtFeed(feed_settings(settings, pinned_symbols(settings)), clock, transport, on_warmup)
    try:
        now_ms = await _start(clock, feed)
        symbols = tuple(i.key.symbol for i in await feed.instruments())
        closes: list[int] = []
        rows: list[Floats] = []
        paid: list[FundingRates] = []
        async for event in feed.history(now_ms - settings.training.days * DAY_MS, now_ms):
            if isinstance(event, FundingRates):
                paid.append(event)
            elif isinstance(event, BarsClosed):
                closes.append(event.close_ms)
                rows.append(np.where((event.proof != Proof.ABSENT)[:, None], event.values, np.nan))
    finally:
        await feed.close()
        if isinstance(clock, LockStepClock):
            await clock.close()
    if not rows:
        raise ModelError(f"{settings.exchange.id} gave no history to train on")
    close_ms, source = np.array(closes, dtype=np.int64), Timeframe.parse(settings.market.source)
    keys = [InstrumentKey(settings.exchange.id, symbol) for symbol in symbols]
    values, removed = cleansed_values(settings, close_ms, np.stack(rows), source, keys)
    log_removed(removed, symbols)
    folder, until_ms = recording_folder(settings, is_private=False), int(close_ms[-1])
    await ready_series(settings, settings.training.days, symbols)
    names = [disk_symbol(symbol) for symbol in symbols]
    known = stored_known(settings, folder, names, settings.exchange.id, until_ms)
    if FUNDING in needed(settings.training.covariates):
        known[FUNDING] = told_funding(paid, len(symbols), until_ms)
    return SourceBars(symbols, source, close_ms, values, origin_of(settings), known)


def bars_from_files(settings: Settings, *, since_ms: int | None = None) -> SourceBars:
    """Read the backtest's folder: the last `training.days` before backtest.until.

    since_ms: read the bars that close after it instead, 0 for all.
    """
    chosen = settings.backtest
    source, symbols = Timeframe.parse(chosen.source), symbols_of(settings)
    until = None if chosen.until is None else round(chosen.until.timestamp() * 1000)
    root = data_root(Path(chosen.data_folder))
    raw = load_panel(root, chosen.venue, symbols, source, None, until)
    keys = [InstrumentKey(settings.exchange.id, symbol) for symbol in symbols]
    panel, removed = cleansed_panel(settings, raw, source, keys)
    log_removed(removed, symbols)
    if named_symbols(settings):
        refuse_empty(panel.empty)
    first = int(panel.close_ms[-1]) - settings.training.days * DAY_MS
    first = first if since_ms is None else since_ms
    keep = panel.close_ms > first
    made = any_generated(root, chosen.venue, symbols, source)
    kind = OriginKind.GENERATED if made else OriginKind.FILES
    origin = Origin(kind, f"{chosen.venue}, {chosen.source}")
    until_ms = int(panel.close_ms[-1])
    known = stored_known(settings, root, symbols, chosen.venue, until_ms)
    if FUNDING in needed(settings.training.covariates):
        venue = chosen.funding_venue or chosen.venue
        paid = known[FUNDING] = file_funding(root, symbols, venue, until_ms)
        refuse_no_funding(paid, root, symbols, venue, until_ms)
    return SourceBars(symbols, source, panel.close_ms[keep], panel.values[keep], origin, known)


def origin_of(settings: Settings) -> Origin:
    """Name the origin of what the configured exchange shows."""
    exchange, rehearsal = settings.exchange, settings.rehearsal
    if exchange.generated:
        return Origin(OriginKind.GENERATED, f"rehearsal market, seed {rehearsal.seed}")
    return Origin(OriginKind.EXCHANGE, exchange.id)


def train(
    settings: Settings,
    bars: SourceBars,
    progress: Callable[[TrainingProgress], None],
    tuned: Tuned | None = None,
    *,
    chosen: Mapping[str, Any] | None = None,
) -> Trained:
    """Train on `bars` in a child process, and log what it shows as a trial.

    tuned: go on from a stored model; its shape and settings then take the place of those here, but
    for seed, budget, device and precision. chosen: fields of TrainSettings that stand in no file,
    as campaigns set them.

    Raises ModelError with the child's own words, and ConfigurationError before it starts for a
    ledger of trials that cannot be written.
    """
    ledger = ledger_of(settings)
    _tell_silent(settings, bars)
    trained = train_unlogged(settings, bars, progress, tuned, chosen=chosen)
    scores = [_plain(one) for one in trained.scores]
    more = dict(chosen or {})
    if tuned is not None:
        more |= {"from": tuned.model, "tune": tuned.how}
    facts = Training(trained.model_id, trained.kind, scores)
    trial = _log(ledger, settings, bars, facts, more)
    tried = read_trials(
        Path(settings.evaluation.trials_file), data_fingerprint=trial.data_fingerprint
    )
    return replace(trained, tried_n=tried.tried_n)


def log_figures(
    settings: Settings,
    bars: SourceBars,
    model: str,
    kind: str,
    scores: Sequence[Mapping[str, object]],
) -> None:
    """Log as a trial what a forecaster showed that needs no training."""
    _log(ledger_of(settings), settings, bars, Training(model, kind, [*map(_plain, scores)]), {})


def _log(
    ledger: TrialLedger,
    settings: Settings,
    bars: SourceBars,
    facts: Training,
    chosen: Mapping[str, Any],
) -> Trial:
    panel = Panel(bars.close_ms, bars.values, bars.values[:, :, Field.OPEN])  # opens: not sampled
    made = {"kind": facts.kind, "origin": f"{bars.origin.kind}: {bars.origin.name}", **chosen}
    trial = trial_of_training(settings, panel, bars.symbols, bars.source, made, facts)
    ledger.append(trial)
    return trial


def _tell_silent(settings: Settings, bars: SourceBars) -> None:
    """Log which series brought nothing new at the first and the last close of a training."""
    table = CovariateTable(settings.training.covariates, bars.known, bars.symbols)
    for at_ms in (int(bars.close_ms[0]), int(bars.close_ms[-1])):
        for name, text in table.silent(at_ms).items():
            log.warning(LogEvent.SERIES_SILENT, series=name, at=iso(at_ms), why=text)


def _plain(score: Mapping[str, object]) -> dict[str, object]:
    """Give a score without what JSON cannot hold."""
    return {
        key: _plain(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not np.isfinite(value)
        else value
        for key, value in score.items()
    }


def train_unlogged(
    settings: Settings,
    bars: SourceBars,
    progress: Callable[[TrainingProgress], None],
    tuned: Tuned | None = None,
    *,
    chosen: Mapping[str, Any] | None = None,
) -> Trained:
    """Train where nobody sees or uses the skill, as in the search for look-ahead."""
    job = job_of(settings, bars, tuned, chosen)
    module = TRAINERS[settings.training.kind] if tuned is None else NETWORK_TRAINER
    if tuned is None:
        refuse_untrainable(settings)
    with tempfile.TemporaryDirectory(prefix="equipoise-train-") as folder:
        return _run_child(module, write_job(job, Path(folder)), progress)


def job_of(
    settings: Settings,
    bars: SourceBars,
    tuned: Tuned | None = None,
    chosen: Mapping[str, Any] | None = None,
) -> Job:
    """Describe what settings ask to learn from these bars; chosen: other `TrainSettings`."""
    wanted, parent = train_settings(settings.training), None
    if tuned is not None:
        parent = _parent_of(settings, tuned)
        before = checkpoint.load(parent).manifest
        wanted = replace(
            before.settings,
            folds=1,  # all members go on from where they are, to the newest part
            members=_tunable(parent.name, before.shape.members),
            tune=Tune(tuned.how),
            seed=wanted.seed,
            budget_seconds=wanted.budget_seconds,
            device=wanted.device,
            precision=wanted.precision,
        )
    timeframes = timeframes_of(settings)
    open_ms = bars.close_ms - bars.source.ms
    derived = aggregate_all(open_ms, bars.values, bars.source, timeframes)
    return Job(
        bars={bars.source: (bars.close_ms, bars.values)}
        | dict(zip(timeframes, derived, strict=True)),
        symbols=bars.symbols,
        source=bars.source,
        timeframes=timeframes,
        origin=bars.origin,
        out=settings.estimator.models_folder,
        settings=replace(wanted, **(chosen or {})),
        covariates=settings.training.covariates,
        series=bars.known,
        parent=parent,
    )


def train_settings(training: TrainingSettings) -> TrainSettings:
    """Translate settings for a training run."""
    given = TrainSettings(
        seed=training.seed,
        members=training.seeds_n,
        folds=training.folds_n,
        budget_seconds=training.budget_s,
        hidden=training.hidden_size,
        layers=training.layers_n,
        embedding=training.embedding_size,
        sequence_bars=training.sequence_bars,
        cross_asset=training.cross_asset,
        batch_rows=training.batch_rows,
        learning_rate=training.learning_rate,
        feature_dropout=training.feature_dropout,
        time_dropout=training.time_dropout,
        weight_drop=training.weight_drop,
        zoneout=training.zoneout,
        dropout=training.dropout,
        weight_decay=training.weight_decay,
        weight_averaging=training.weight_averaging,
        ic_loss=training.ic_loss,
        list_loss=ListLoss(training.list_loss),
        device=Device(training.device),
        precision=Precision(training.precision),
        trees=training.trees_n,
        leaf_share=training.leaf_share,
        selection=Selection(training.selection),
        components=training.components,
        stack=training.members,
    )
    return settings_for(training.kind, given)


def refuse_untrainable(settings: Settings, kind: str | None = None) -> None:
    """Raise ConfigurationError, with the remedy, where a kind needs what is not installed."""
    chosen = settings.training
    refuse_uninstalled(chosen.kind if kind is None else kind, train_settings(chosen))


def _parent_of(settings: Settings, tuned: Tuned) -> Path:
    store = ModelStore(settings.estimator.models_folder)
    record = store.champion() if tuned.model == CHAMPION else store.show(tuned.model)
    if record is None:
        raise ModelError(f"no champion in {settings.estimator.models_folder} to tune")
    return record.folder


def _tunable(model_id: str, members_n: int) -> int:
    if members_n > MEMBERS_MAX:
        raise ModelError(
            f"model {model_id} has {members_n} networks: at most {MEMBERS_MAX} can be tuned at once"
        )
    return members_n


def promote_first(settings: Settings, model_id: str) -> bool:
    """Make a model the champion if there is none yet; tell whether it was."""
    store = ModelStore(settings.estimator.models_folder)
    if store.champion() is not None:
        return False
    store.promote(model_id)
    return True


def _run_child(module: str, job: Path, progress: Callable[[TrainingProgress], None]) -> Trained:
    command = [sys.executable, "-m", module, "--job", str(job)]
    # a file, since nobody reads a second pipe meanwhile: full, it would stop the child for ever
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=_ROOT, env=_environment()
        ) as child,
    ):
        try:
            last = _follow(child, progress)
            code = child.wait()
        except BaseException:
            child.terminate()
            raise
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - SAID_BYTES))
        said = errors.read().decode(errors="replace").strip()
    if last.get("event") == "done":
        path = Path(str(last["path"]))
        return Trained(str(last["id"]), str(last["kind"]), path, list(last["scores"]))
    if last.get("event") == "error":
        raise ModelError(str(last["error"]))
    raise ModelError(f"training ended with code {code}: {said or 'it said nothing'}")


def _environment() -> dict[str, str]:
    """Give ours without keys of venues, and one thread for each library."""
    return without_keys(os.environ) | dict.fromkeys(_THREADS, "1")


def _follow(
    child: subprocess.Popen[str], progress: Callable[[TrainingProgress], None]
) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for last in _lines(child):
        if last.get("event") == "progress":
            progress(
                TrainingProgress(
                    last["done_steps"], last["total_steps"], last["stage"], last["rank_ic"]
                )
            )
    return last


def _lines(child: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    if child.stdout is None:
        return
    for line in child.stdout:
        if line.startswith("{"):
            yield json.loads(line)


async def _start(clock: SystemClock | VenueClock | LockStepClock, feed: CcxtFeed) -> int:
    if isinstance(clock, LockStepClock):
        return await clock.start()
    if isinstance(clock, VenueClock):
        await clock.measure()
    return clock.now()


async def _at_once() -> None:
    await asyncio.sleep(0)
