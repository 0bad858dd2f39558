"""Predictions of a stored model for any folder of bars, a stretch of time after the other.

Memory holds one stretch and what warms it up, however long the files are. Nothing is fitted: the
model is used as it is, and where its bars end its row ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from adapters.history.parquet_file import is_generated, read_times
from adapters.history.predictions_file import write_predictions
from adapters.history.store import BARS_FOLDER, data_root, panel_of, symbols_in, unified_symbol
from adapters.model_store import ModelStore
from daemon.domain.bar import Floats
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.failures import ConfigurationError, DataError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.predictions import PredictionTable, rows_of
from daemon.domain.units import DAY_MS, Timeframe, iso
from daemon.settings import Settings
from daemon.wiring.cleansing import cleansed_values, log_removed
from daemon.wiring.combining import combining_of
from daemon.wiring.covariates import file_funding, stored_known
from daemon.wiring.estimator import CHAMPION, COMBINATION, ORIGIN, TRAINED_UNTIL
from strategies.combination import resolved
from strategies.forecast.alphas import Alphas, joined
from strategies.forecast.checkpoint import MANIFEST_FILE, Checkpoint, load
from strategies.forecast.inference import ModelEstimator
from strategies.forecast.inputs.covariates import FUNDING, CovariateTable, needed
from strategies.forecast.inputs.windows import window_bars
from strategies.forecast.stretch import forecast_stretch

STRETCH_BYTES: Final = 16 * 2**20  # of source bars in one stretch
STRETCH_DAYS_MIN: Final = 10
BAR_BYTES: Final = 40
Longs = np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Bars:
    """Name the bars to predict from: files of one venue, one an instrument, BTC in front."""

    root: Path
    venue: str
    paths: tuple[Path, ...]
    symbols: tuple[str, ...]
    source: Timeframe

    @property
    def is_generated(self) -> bool:
        """Tell whether any of the files is of a generated market."""
        return any(is_generated(path) for path in self.paths)


@dataclass(frozen=True, slots=True)
class Predicted:
    """Say what was written: rows and instants, from which to which, of how many instruments."""

    path: Path
    table_id: str
    model_id: str
    rows: int
    instants: int
    symbols: int
    first_ms: int | None
    last_ms: int | None


def bars_in(folder: Path, source: Timeframe, venue: str = "") -> Bars:
    """Find the files below a folder: a store's root, its `ohlcv`, or a folder of files itself.

    Raises DataError where there is none, and ConfigurationError where several venues are there and
    none is named.
    """
    here = folder
    if not symbols_in(folder, source):
        inside = data_root(folder) / BARS_FOLDER
        venues = sorted(p.name for p in inside.glob("*") if p.is_dir() and symbols_in(p, source))
        if (venue and venue not in venues) or not venues:
            others = [] if venues else _lengths_in(folder)
            more = f"; its files hold bars of {', '.join(others)}: see --source" if others else ""
            raise DataError(
                f"no {source.label} bars of {venue or 'any venue'} in {folder}; there are"
                f" {', '.join(venues) or 'none'}{more}"
            )
        if len(venues) > 1 and not venue:
            raise ConfigurationError(
                f"{folder} has bars of several venues: name one with --venue, accepted:"
                f" {', '.join(venues)}"
            )
        here = inside / (venue or venues[0])
    symbols = symbols_in(here, source)
    ordered = sorted(symbols, key=lambda s: (not s.startswith("BTC"), s))
    paths = tuple(here / f"{symbol}-{source.label}.parquet" for symbol in ordered)
    root = here.parent.parent if here.parent.name == BARS_FOLDER else here.parent
    return Bars(root, here.name, paths, tuple(ordered), source)


def _lengths_in(folder: Path) -> list[str]:
    """Name the bar lengths of the files in a folder or in the venues of a store."""
    files = [*folder.glob("*.parquet"), *(data_root(folder) / BARS_FOLDER).glob("*/*.parquet")]
    found = set()
    for path in files:
        with suppress(ConfigurationError):  # a file of something else
            found.add(Timeframe.parse(path.stem.rpartition("-")[2]))
    return [length.label for length in sorted(found)]


def stored_model(settings: Settings, name: str) -> Checkpoint:
    """Load a model by its folder, its id or as champion; raise ModelError."""
    folder = Path(name)
    if not (folder / MANIFEST_FILE).is_file():
        store = ModelStore(settings.estimator.models_folder)
        champion = store.champion() if name == CHAMPION else None
        folder = (champion or store.show(name)).folder
    return load(folder)


def predict(
    settings: Settings,
    checkpoint: Checkpoint,
    bars: Bars,
    out: Path,
    *,
    since_ms: int | None = None,
    until_ms: int | None = None,
    stretch_ms: int | None = None,
    done: Callable[[float], None] = lambda share: None,
) -> Predicted:
    """Write the table of a model's predictions with since < as_of <= until.

    stretch_ms: how much is held at a time; by default what fits STRETCH_BYTES. The instants are
    the closes of the model's timeframes with a window of bars of their length since the first bar
    of any file, and the run's decisions from then on. Raises DataError or CorruptFile for the bars.
    """
    manifest = checkpoint.manifest
    first_ms, last_ms = _reach(bars, since_ms, until_ms)
    counted = _Counted()
    maker = _Stretches(settings, checkpoint, bars, first_ms)
    length_ms = stretch_ms or _stretch_ms(bars)
    facts = {
        "model": checkpoint.model_id,
        "kind": manifest.kind,
        COMBINATION: str(maker.rule),
        ORIGIN: str(manifest.origin.kind),
        TRAINED_UNTIL: str(manifest.data.to_ms),
        "venue": bars.venue,
        "source": bars.source.label,
    }
    after_ms = first_ms - 1 if since_ms is None else max(since_ms, first_ms - 1)

    def parts() -> Iterator[PredictionTable]:
        for start_ms in range(after_ms, last_ms, length_ms):
            end_ms = min(start_ms + length_ms, last_ms)
            table = maker.table(start_ms, end_ms)
            done((end_ms - after_ms) / (last_ms - after_ms))
            yield counted.passed(table)

    table_id = write_predictions(out, parts(), manifest.timeframes, facts)
    return Predicted(
        out,
        table_id,
        checkpoint.model_id,
        counted.rows,
        counted.instants,
        len(bars.symbols),
        counted.first_ms,
        counted.last_ms,
    )


class _Counted:
    """Count what passes."""

    def __init__(self) -> None:
        self.rows = self.instants = 0
        self.first_ms: int | None = None
        self.last_ms: int | None = None

    def passed(self, table: PredictionTable) -> PredictionTable:
        if len(table):
            self.rows += len(table)
            self.instants += len(np.unique(table.as_of_ms))
            self.first_ms = self.first_ms or int(table.as_of_ms[0])
            self.last_ms = int(table.as_of_ms[-1])
        return table


class _Stretches:
    """Make one stretch of a table after the other."""

    def __init__(
        self, settings: Settings, checkpoint: Checkpoint, bars: Bars, first_ms: int
    ) -> None:
        self._settings, self._bars, self._first_ms = settings, bars, first_ms
        manifest = checkpoint.manifest
        self._beside = _beside(settings, checkpoint, bars)
        held = None if self._beside is None else _Held(self._beside)
        self._model = ModelEstimator(checkpoint, held)
        self._timeframes = manifest.timeframes
        longest_ms = max(t.ms for t in manifest.timeframes)
        # a whole window of the longest bars, the bar that began before it, and a day for cleansing
        bars_n = window_bars(manifest.shape.sequence_bars)
        self._warm_up_ms = (bars_n + 1) * longest_ms + DAY_MS
        how = combining_of(settings)
        self.rule, self._reading = resolved(how.rule, manifest.reading)
        self._alphas = Alphas(manifest.timeframes, len(bars.symbols), how)
        self._decision = how.decision

    def table(self, start_ms: int, end_ms: int) -> PredictionTable:
        """Predict start < as_of <= end; the stretch before it was the one asked for last."""
        begin_ms = max(self._first_ms - 1, start_ms - self._warm_up_ms)
        close_ms, values = self._values(begin_ms, end_ms)
        open_ms = close_ms - self._bars.source.ms
        derived = aggregate_all(open_ms, values, self._bars.source, self._timeframes)
        made = {}
        for timeframe, (closes, built) in zip(self._timeframes, derived, strict=True):
            if len(closes):
                at, mean, variance = forecast_stretch(
                    self._model,
                    built,
                    newest_close_ms=int(closes[-1]),
                    timeframe=timeframe,
                    after_ms=start_ms,
                    beside=self._beside,
                )
                made[timeframe] = (at, mean, variance)
        first_ms = self._decision.next_close(start_ms)
        return self._joined(made, np.arange(first_ms, end_ms + 1, self._decision.ms))

    def _joined(
        self, made: dict[Timeframe, tuple[Longs, Floats, Floats]], decisions_ms: Longs
    ) -> PredictionTable:
        """Combine what was made, at decisions as well where no timeframe closed."""
        model = self._model
        said = joined(
            self._alphas,
            self._timeframes,
            made,
            instruments_n=len(self._bars.symbols),
            disagreement=model.disagreement,
            slopes=model.reading.slopes,
            rules=(self.rule,),
            besides=decisions_ms,
        )
        scale = 1.0 if self._reading is None else self._reading.scale
        return rows_of(
            self._bars.symbols,
            self._timeframes,
            said.at_ms,
            scale * said.alphas[self.rule],
            said.mean,
            said.variance,
            ((self._first_ms, model.disagreement),),
            ((self._first_ms, model.reading),),
        )

    def _values(self, begin_ms: int, end_ms: int) -> tuple[Longs, Floats]:
        """Load the cleansed source bars with begin < close <= end on an unbroken grid."""
        bars, source = self._bars, self._bars.source
        first = begin_ms - begin_ms % source.ms + source.ms
        close_ms = np.arange(first, end_ms + 1, source.ms, dtype=np.int64)
        values = np.full((len(close_ms), len(bars.symbols), 5), np.nan)
        try:
            panel = panel_of(bars.paths, source, begin_ms, end_ms)
        except DataError as e:
            if type(e) is not DataError:
                raise
            return close_ms, values  # nobody has a bar in this stretch
        keys = [InstrumentKey(self._settings.exchange.id, _unified(s)) for s in bars.symbols]
        clean, removed = cleansed_values(self._settings, panel.close_ms, panel.values, source, keys)
        log_removed(removed, bars.symbols)
        values[(panel.close_ms - first) // source.ms] = clean
        return close_ms, values


@dataclass(frozen=True, slots=True)
class _Held:
    """Say to a model that its series are at hand; stretches are asked for with their columns."""

    known: CovariateTable

    def table(self) -> CovariateTable:
        """Give the covariates."""
        return self.known


def _unified(symbol: str) -> str:
    """Give the unified name; a symbol in whatever nobody trades with us keeps its own."""
    try:
        return unified_symbol(symbol)
    except ConfigurationError:
        return symbol


def _beside(settings: Settings, checkpoint: Checkpoint, bars: Bars) -> CovariateTable | None:
    names = checkpoint.manifest.covariates
    if not names:
        return None
    training = settings.training.model_copy(update={"covariates": names})
    chosen = settings.model_copy(update={"training": training})
    forever_ms = int(np.iinfo(np.int64).max)
    known = stored_known(chosen, bars.root, bars.symbols, bars.venue, forever_ms)
    if FUNDING in needed(names):
        venue = settings.backtest.funding_venue or bars.venue
        known[FUNDING] = file_funding(bars.root, bars.symbols, venue, forever_ms)
    return CovariateTable(names, known, bars.symbols)


def _reach(bars: Bars, since_ms: int | None, until_ms: int | None) -> tuple[int, int]:
    """Give the first close of any file, and the last one to predict."""
    ends = [(int(at[0]), int(at[-1])) for at in map(read_times, bars.paths) if len(at)]
    if not ends:
        raise DataError(f"{bars.paths[0].parent}: its files hold no bar")
    first_ms = min(first for first, _ in ends) + bars.source.ms
    last_ms = max(last for _, last in ends) + bars.source.ms
    last_ms = last_ms if until_ms is None else min(last_ms, until_ms)
    if last_ms <= max(first_ms, since_ms or 0):
        asked = "" if since_ms is None else f" after {iso(since_ms)}"
        raise DataError(f"{bars.paths[0].parent}: no bar closes{asked} until {iso(last_ms)}")
    return first_ms, last_ms


def _stretch_ms(bars: Bars) -> int:
    days = STRETCH_BYTES * bars.source.ms // (BAR_BYTES * len(bars.symbols) * DAY_MS)
    return max(STRETCH_DAYS_MIN, days) * DAY_MS


def instants_text(predicted: Predicted) -> str:
    """Say in words from when to when there are predictions."""
    if predicted.first_ms is None or predicted.last_ms is None:
        return "no instant"
    return f"{predicted.instants} instants, {iso(predicted.first_ms)} to {iso(predicted.last_ms)}"
