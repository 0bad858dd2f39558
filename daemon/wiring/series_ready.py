"""Have at hand what a model reads beside the bars before a training or a run begins.

What the venue itself publishes (open interest, mark and index) is fetched into the store beside the
run's own bars, after what lies there already. Outside series only their owner can bring: one that
is missing is named before anything is read or trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from adapters.history.covariates import found_series, series_path
from adapters.history.store import data_root
from daemon.domain.failures import ConfigurationError, VenueError
from daemon.domain.log_events import LogEvent
from daemon.settings import Settings
from daemon.wiring.covariates import series_root
from daemon.wiring.estimator import covariates_in_use, reads_series
from daemon.wiring.recording import recording_folder
from daemon.wiring.series_download import FEATURES, FetchedSeries, fetch_series
from daemon.wiring.session import pinned_symbols
from strategies.forecast.inputs.covariates import is_outside, needed

NEWEST_DAYS: Final = 10.0  # of a series that a run with a trained model begins with
log = structlog.get_logger()


async def ready_series(
    settings: Settings, days: float, symbols: Sequence[str] | None = None
) -> tuple[FetchedSeries, ...]:
    """Bring the last `days` of the venue's own series into the store; () where none is read.

    Nothing is fetched where estimator.series_folder names a store: that one has an owner. symbols:
    those of a feed that has answered already, else the book's or those that settings name. Raises
    ConfigurationError for a missing outside series, VenueError for one that the venue cannot give.
    """
    folder = recording_folder(settings, is_private=False)
    check_outside(settings, folder)
    wanted = [one for one in needed(covariates_in_use(settings)) if one in FEATURES]
    if settings.estimator.series_folder or not wanted:
        return ()
    pinned = tuple(symbols) if symbols else pinned_symbols(settings)
    universe = settings.universe.model_copy(update={"symbols": pinned})
    chosen = settings.model_copy(update={"universe": universe})
    try:
        found = await fetch_series(chosen, wanted, days, folder)
    except VenueError as e:
        raise VenueError(f"training.covariates: {e}; {_way_out(settings, wanted[0])}") from e
    for one in found:
        if one.problem:
            path = series_path(data_root(folder), settings.exchange.id, one.symbol, one.name)
            what = f"{one.name} of {one.symbol}: {one.problem}"
            if not path.is_file():
                raise VenueError(f"training.covariates: {what}; {_way_out(settings, one.name)}")
            log.warning(LogEvent.SERIES_NOT_READ, file=str(path), why=what)  # a part is there
    return found


async def ready_for_run(settings: Settings) -> tuple[FetchedSeries, ...]:
    """Do so for a run with a model that is there already; () where the run asks none."""
    if not reads_series(settings):
        return ()
    return await ready_series(settings, NEWEST_DAYS)


def check_outside(settings: Settings, folder: Path) -> None:
    """Raise ConfigurationError for an outside series in use that the store does not hold."""
    root = series_root(settings, folder)
    for name in filter(is_outside, covariates_in_use(settings)):
        try:
            found_series(root, name, ())
        except ConfigurationError as e:
            raise ConfigurationError(f"training.covariates: {e}; {_way_out(settings, name)}") from e


def _way_out(settings: Settings, name: str) -> str:
    here = settings.estimator.series_folder
    instead = f" instead of {here!r}" if here else ""
    return (
        f"let estimator.series_folder name a store that holds it{instead}, "
        f"or leave {name!r} out of training.covariates"
    )
