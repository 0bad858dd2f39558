"""Where forecasts come from: the worker process, the model registry, and who may trade where."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from adapters.estimate_worker import EstimateWorker
from adapters.history.predictions_file import Stored, read_predictions
from adapters.model_store import ModelRecord, ModelStore, require_origin_fits
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.instrument import Instrument
from daemon.domain.messages import MarketEvent
from daemon.engine.engine import Engine
from daemon.settings import Settings
from daemon.wiring.core import (
    asks_covariance,
    combined_timeframes,
    strategy_of,
    timeframes_of,
    uses_covariance,
)
from daemon.wiring.covariates import names_of, noted, series_root
from strategies.forecast.inputs.covariates import FUNDING

BUILD: Final = "strategies.forecast.inference:build"
BUILD_WITH_SERIES: Final = "daemon.wiring.series_worker:build"
BUILD_TABLE: Final = "daemon.wiring.table_worker:build"
BUILD_WITH_COVARIANCE: Final = "daemon.wiring.covariance_worker:build"
TABLE: Final = "table"
GENERATED: Final = "generated"
ORIGIN: Final = "origin"  # among the facts of a table: where its model learned
RECURRENT: Final = "recurrent"
COMBINATION: Final = "combination"  # the rule of a table's `prediction`
TRAINED_UNTIL: Final = "trained_until_ms"  # of the one model that made a table
CHAMPION: Final = "champion"
REPLAY_DEADLINE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Beside:
    """Say for models with covariates whose windows are shown, and where series lie beside them."""

    instruments: Sequence[Instrument]
    folder: Path
    venue: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Hold what people and reports must know of a model; skill: out-of-sample rank IC, as text.

    made_of: in words, of which columns or kinds it is made; empty where nothing was to be chosen.
    chosen: the columns that each timeframe reads. stacked: kinds with their shares by timeframe.
    """

    model_id: str
    kind: str
    origin: str
    is_generated: bool
    trained_until_ms: int | None
    is_champion: bool = False
    skill: str = ""
    made_of: str = ""
    chosen: tuple[tuple[str, ...], ...] = ()
    stacked: tuple[tuple[str, tuple[float, ...]], ...] = ()


def has_champion(settings: Settings) -> bool:
    """Tell whether the registry names a champion."""
    return ModelStore(settings.estimator.models_folder).champion() is not None


def names_model(settings: Settings) -> bool:
    """Tell whether settings name a model of their own: then no other may take its place."""
    return settings.estimator.model != CHAMPION


def needs_model(settings: Settings) -> bool:
    """Tell whether a run with these settings asks a trained model."""
    return settings.estimator.kind == "model" and strategy_of(settings).needs_estimates


def reads_series(settings: Settings) -> bool:
    """Tell whether a run with these settings reads more than bars, or might with another model."""
    return needs_model(settings) or bool(columns_in_use(settings))


def model_facts(settings: Settings) -> ModelFacts | None:
    """Describe the chosen model; None when none is needed or there is no champion yet."""
    if settings.estimator.kind != "model":
        return None
    record = _chosen(settings)
    return None if record is None else _facts(settings, record)


def table_in_use(settings: Settings) -> Stored | None:
    """Read the table of predictions that settings name; None where forecasts come otherwise.

    Raises ConfigurationError, CorruptFile or DataError.
    """
    if settings.estimator.kind != TABLE:
        return None
    return read_predictions(_table_path(settings))


def covariates_in_use(settings: Settings) -> tuple[str, ...]:
    """Name what the model, the covariance's network or a training reads beside bars."""
    record = _chosen(settings) if settings.estimator.kind == "model" else None
    of_model = () if record is None else record.manifest.covariates
    beside = columns_in_use(settings)
    return tuple(dict.fromkeys([*of_model, *beside, *settings.training.covariates]))


def list_models(settings: Settings) -> list[ModelFacts]:
    """Describe every model of the registry."""
    records = ModelStore(settings.estimator.models_folder).list()
    return [_facts(settings, record) for record in records]


def champion_id(settings: Settings) -> str:
    """Name the champion; raise ModelError where there is none."""
    record = ModelStore(settings.estimator.models_folder).champion()
    if record is None:
        raise ModelError(f"no champion in {settings.estimator.models_folder}; `models` lists them")
    return record.model_id


def require_usable_model(settings: Settings) -> None:
    """Raise ModelError where a start would refuse the chosen model; None chosen is none to refuse.

    Features of another version, missing timeframes, too short windows and a strange origin count.
    """
    record = _chosen(settings)
    if record is not None:
        _require_usable(settings, record)


def promote_model(settings: Settings, model_id: str) -> None:
    """Make a model the champion; raises ModelError for one that a start would refuse.

    It must not take the place of a model that trades.
    """
    store = ModelStore(settings.estimator.models_folder)
    _require_usable(settings, store.show(model_id))
    store.promote(model_id)


def rollback_model(settings: Settings) -> None:
    """Make the champion before the present one the champion again; refuses what promoting does."""
    store = ModelStore(settings.estimator.models_folder)
    _require_usable(settings, store.earlier())
    store.rollback()


def beside_files(settings: Settings, engine: Engine) -> Beside:
    """Say where a backtest's series lie."""
    chosen = settings.backtest
    return Beside(engine.universe.instruments, Path(chosen.data_folder), chosen.venue)


def told(worker: EstimateWorker | None, events: Iterable[MarketEvent]) -> Iterator[MarketEvent]:
    """Pass events on, and note their funding rates where a worker reads them."""
    return iter(events) if worker is None or not worker.notes else noted(events, worker.note)


@asynccontextmanager
async def estimator_of(
    settings: Settings, beside: Beside | None = None
) -> AsyncIterator[EstimateWorker]:
    """Start the worker with the chosen model or baseline; stop it at the end.

    Raises ModelError for a missing, damaged or unfit model, and for a model of a generated market
    on a real venue unless settings allow it; ConfigurationError for a table, which knows the past.
    """
    if settings.estimator.kind == TABLE:
        raise ConfigurationError(
            "estimator.kind = 'table' replays the past: accepted in backtests only"
        )
    worker = _worker(settings, settings.market.estimate_deadline_s, beside)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.aclose()


@contextmanager
def estimator_in_place(
    settings: Settings, beside: Beside | None = None
) -> Iterator[EstimateWorker]:
    """Do the same for a shell without a loop: the same process, asked in place.

    Its deadline is generous, because a replay must not depend on how busy the machine is.
    """
    worker = _worker(settings, REPLAY_DEADLINE_S, beside)
    worker.start_sync()
    try:
        yield worker
    finally:
        worker.close()


def _worker(settings: Settings, deadline_s: float, beside: Beside | None) -> EstimateWorker:
    build, config = "", {}
    if strategy_of(settings).needs_estimates:
        config = _config(settings, beside)
        build = BUILD_WITH_SERIES if "series_root" in config else BUILD
        build = BUILD_TABLE if "table" in config else build
    notes = build == BUILD_WITH_SERIES
    if asks_covariance(settings):
        config = {"inner": build, "config": config, "covariance": _covariance(settings, beside)}
        build = BUILD_WITH_COVARIANCE
        notes = notes or FUNDING in columns_in_use(settings)
    return EstimateWorker(build, config, deadline_seconds=deadline_s, notes=notes)


def columns_in_use(settings: Settings) -> tuple[str, ...]:
    """Name what the network of the covariance reads beside bars; () where none is asked."""
    from strategies.covariance.columns import BTC_VOLATILITY
    from strategies.covariance.recurrent_store import load

    if settings.covariance.estimator != RECURRENT or not asks_covariance(settings):
        return ()
    manifest, _ = load(Path(_network(settings.covariance.model)))
    return tuple(one for one in manifest.covariates if one != BTC_VOLATILITY)


def _network(folder: str) -> str:
    from strategies.covariance.recurrent_store import load

    if not folder:
        raise ConfigurationError(
            "covariance.model is empty: estimator = 'recurrent' needs the folder of a network, as "
            "`equipoise evaluate correlation` leaves them"
        )
    load(Path(folder))  # raises here what the worker would refuse
    return str(Path(folder).resolve())


def _covariance(settings: Settings, beside: Beside | None) -> dict[str, Any]:
    from strategies.covariance.known import make_estimator  # only who asks for one waits for it

    chosen = settings.covariance
    parameters: dict[str, object] = {
        "volatility": chosen.volatility,
        "half_life_hours": chosen.half_life_hours,
        "volatility_half_life_hours": chosen.volatility_half_life_hours,
        "window_hours": chosen.window_hours,
    }
    model, coins = "", [] if beside is None else [i.base for i in beside.instruments]
    if chosen.estimator == RECURRENT:
        model = _network(chosen.model)
    else:  # raises here what the worker would refuse
        make_estimator(chosen.estimator, parameters, coins)
    make_estimator(chosen.baseline, parameters, coins)
    where: dict[str, Any] = {"symbols": [], "series_root": "", "venue": ""}
    if beside is not None:
        root = series_root(settings, beside.folder).resolve()
        names = names_of(beside.instruments)
        where = {"symbols": names, "series_root": str(root), "venue": beside.venue}
    elif columns_in_use(settings):
        raise ConfigurationError(
            f"covariance.model {chosen.model}: its network reads {columns_in_use(settings)}, of "
            "which there is nothing here; accepted is one that reads returns alone"
        )
    return where | {
        "model": model,
        "estimator": chosen.estimator,
        "baseline": chosen.baseline,
        "memory_bars": chosen.memory_bars,
        "gap_max": chosen.gap_max,
        "excess_max": chosen.excess_max,
        "watch_half_life_hours": chosen.watch_half_life_hours,
        "factors": uses_covariance(strategy_of(settings)),
        "coins": coins,
        "parameters": parameters,
    }


def _config(settings: Settings, beside: Beside | None) -> dict[str, Any]:
    if settings.estimator.kind == TABLE:
        return _table_config(settings, beside)
    if settings.estimator.kind != "model":
        return {"kind": settings.estimator.kind}
    record = _chosen(settings)
    if record is None:
        raise ModelError(
            f"no champion in {settings.estimator.models_folder}: `equipoise train` makes a model, "
            "or set estimator.kind to zero, last_return or momentum"
        )
    config = _model_config(settings, record)
    if not record.manifest.covariates:
        return config
    if beside is None:
        raise ModelError(
            f"model {record.model_id} reads {', '.join(record.manifest.covariates)}, of which "
            "there is nothing here; choose one that reads bars alone"
        )
    root = series_root(settings, beside.folder).resolve()
    more = {"symbols": names_of(beside.instruments), "series_root": str(root)}
    return config | more | {"venue": beside.venue}


def _model_config(settings: Settings, record: ModelRecord) -> dict[str, Any]:
    """Say which model the worker loads, and for what; ModelError where its origin does not fit."""
    require_origin_fits(
        record.manifest,
        venue_is_generated=settings.exchange.generated,
        allow=settings.estimator.allow_foreign_model,
    )
    return {
        "kind": "network",
        "model": str(record.folder.resolve()),
        "timeframes_minutes": [t.minutes for t in timeframes_of(settings)],
        "combined_minutes": [t.minutes for t in combined_timeframes(settings)],
        "window_bars": settings.market.window_bars,
    }


def _require_usable(settings: Settings, record: ModelRecord) -> None:
    """Raise ModelError for a model that a start with these settings would refuse."""
    # only who promotes waits for SciPy
    from strategies.forecast.inference import load_for, raw_model

    raw_model(load_for(_model_config(settings, record)))


def _table_config(settings: Settings, beside: Beside | None) -> dict[str, Any]:
    path = _table_path(settings)
    facts = read_predictions(path).facts  # once more in the worker: a few seconds for years
    made_on = facts.get(ORIGIN, "")
    estimator, exchange = settings.estimator, settings.exchange
    if made_on == GENERATED and not (exchange.generated or estimator.allow_foreign_model):
        raise ModelError(
            f"{path}: its model learned from a generated market and would trade on real prices; "
            "set estimator.allow_foreign_model = true to let it, for practice only"
        )
    if beside is None:
        raise ModelError(f"{path}: a table needs to be told whose bars are shown")
    return {
        "kind": TABLE,
        "table": str(path.resolve()),
        "symbols": names_of(beside.instruments),
        "timeframes_minutes": [t.minutes for t in combined_timeframes(settings)],
    }


def _table_path(settings: Settings) -> Path:
    if not settings.estimator.table:
        raise ConfigurationError(
            "estimator.table is empty: kind = 'table' needs the path of a table of predictions"
        )
    return Path(settings.estimator.table)


def _chosen(settings: Settings) -> ModelRecord | None:
    store = ModelStore(settings.estimator.models_folder)
    name = settings.estimator.model
    return store.champion() if name == CHAMPION else store.show(name)


def _facts(settings: Settings, record: ModelRecord) -> ModelFacts:
    manifest = record.manifest
    full = ModelStore(settings.estimator.models_folder).show_fully(record.model_id)
    skill = ", ".join(
        f"{score['timeframe_minutes']}m {score['model']['rank_ic']:+.4f}"
        for score in full.get("scores", ())
        if isinstance(score["model"]["rank_ic"], float)
    )
    chosen = tuple(tuple(names) for names in full.get("chosen", ()))
    stacked = tuple((one["kind"], tuple(one["shares"])) for one in full.get("stacked", ()))
    return ModelFacts(
        model_id=record.model_id,
        kind=manifest.kind,
        origin=f"{manifest.origin.kind}: {manifest.origin.name}",
        is_generated=manifest.origin.kind == GENERATED,
        trained_until_ms=manifest.data.to_ms,
        is_champion=record.is_champion,
        skill=skill,
        made_of=_made_of(chosen, stacked),
        chosen=chosen,
        stacked=stacked,
    )


def _made_of(
    chosen: tuple[tuple[str, ...], ...], stacked: tuple[tuple[str, tuple[float, ...]], ...]
) -> str:
    """Say in few words what was chosen: shares are means over the timeframes."""
    counts = [f"{len(names)}" for names in chosen]
    shares = [f"{kind} {sum(own) / max(1, len(own)):.0%}" for kind, own in stacked]
    return ", ".join([*([f"{' / '.join(counts)} columns"] if counts else []), *shares])
