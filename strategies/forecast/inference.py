"""Estimators: from windows of bars to predictions, the same way live, in paper and in backtests.

One padded call shape and one torch thread: instruments are padded with empty rows to a multiple of
eight and sequences have a fixed length, so the same rows give the same bits whenever the call shape
is the same. Runs inside the estimate worker; torch is loaded only for a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from daemon.domain.bar import Field, Flags, Floats, Window
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.forecast import Estimates, Prediction
from daemon.domain.units import Timeframe, require
from strategies.forecast.baselines import Baseline, BaselineEstimator
from strategies.forecast.checkpoint import RIDGE, Checkpoint, Weights, load
from strategies.forecast.inputs.covariates import CovariateTable, column_names, with_covariates
from strategies.forecast.inputs.features import FEATURE_MEMORY_BARS, features
from strategies.forecast.inputs.windows import (
    CHANNELS_N,
    SEQUENCE_BARS,
    WINDOW_BARS,
    channels,
    forecastable,
)
from strategies.forecast.ridge import COEFFICIENTS, columns_n, design

PAD_TO: Final = 8
NETWORK: Final = "network"


class WindowEstimator(Protocol):
    """Forecast from windows; what the worker hosts."""

    @property
    def model_id(self) -> str:
        """Give the id that predictions carry."""
        ...

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Give one prediction per window."""
        ...


def build(config: Mapping[str, Any]) -> WindowEstimator:
    """Build the estimator that a configuration names.

    {"kind": "zero" | "last_return" | "momentum"} or
    {"kind": "network", "model": folder, "timeframes_minutes": [60, 90, 120]}, where the folder's
    manifest says whether it holds networks or a ridge.
    Raises ConfigurationError for another kind, ModelError for a model that must not be used.
    """
    kind = config.get("kind")
    if kind in set(Baseline):
        return BaselineEstimator(Baseline(kind))
    if kind != NETWORK:
        accepted = ", ".join([NETWORK, *Baseline])
        raise ConfigurationError(f"estimator kind {kind!r}: accepted is {accepted}")
    folder = Path(str(config["model"]))
    timeframes = tuple(Timeframe(m) for m in config.get("timeframes_minutes", ()))
    return ModelEstimator(load(folder, timeframes=timeframes))


class Beside(Protocol):
    """Give what is known beside the bars, as it stands when an estimate is asked for."""

    def table(self) -> CovariateTable:
        """Give the covariates of the instruments of the windows."""
        ...


class RawModel(Protocol):
    """Forecast in the units of the labels, before calibration."""

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Map feature rows (L, N, F) of the timeframe at a place to means (M, N), noise (N,)."""
        ...


class ModelEstimator:
    """Forecast with a stored model: features from the windows, its raw forecast, calibration."""

    def __init__(self, checkpoint: Checkpoint, beside: Beside | None = None) -> None:
        manifest = checkpoint.manifest
        if manifest.covariates and beside is None:
            raise ModelError(
                f"model {checkpoint.model_id} reads {', '.join(manifest.covariates)}: it cannot "
                "forecast from bars alone"
            )
        self._beside = beside if manifest.covariates else None
        self._id = checkpoint.model_id
        self._timeframes = manifest.timeframes
        self._calibration = manifest.calibration
        self._disagreement = np.array(manifest.disagreement)
        self._model: RawModel = (
            RidgeModel(checkpoint) if manifest.kind == RIDGE else Ensemble(checkpoint)
        )
        self._rows = {timeframe: FeatureRows() for timeframe in self._timeframes}

    @property
    def model_id(self) -> str:
        """Give the hash of the model."""
        return self._id

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Forecast every window; instruments without enough bars are NaN, never zero."""
        table = None if self._beside is None else self._beside.table()
        predictions = tuple(self._predict(window, table) for window in windows)
        silent = {} if table is None else table.silent(as_of_ms, _traded(windows))
        return Estimates(as_of_ms, predictions, disagreement=self._disagreement, silent=silent)

    def _predict(self, window: Window, table: CovariateTable | None) -> Prediction:
        require(
            window.timeframe in self._timeframes,
            f"model {self._id} knows no {window.timeframe.label} bars",
        )
        place = self._timeframes.index(window.timeframe)
        rows = self._rows[window.timeframe].newest(window)  # (L, N, F)
        if table is not None:  # all rows anew: what was kept may lack what came in since
            steps = np.arange(1 - len(rows), 1, dtype=np.int64)
            rows = with_covariates(rows, table, window.newest_ms + window.timeframe.ms * steps)
        raw, noise = self._model.forward(rows, place)  # (M, N), (N,)
        known = forecastable(channels(rows))
        mean, variance = self._calibration[place].apply(
            np.where(known, raw, np.nan), np.where(known, noise, np.nan)
        )
        return Prediction(window.timeframe, window.newest_ms, mean, variance, self._id)


def _traded(windows: Sequence[Window]) -> Flags:
    """Tell which instruments (N,) have the newest bar of any window."""
    newest = [np.isfinite(window.values[-1, :, Field.CLOSE]) for window in windows]
    return np.asarray(np.any(newest, axis=0))


class RidgeModel:
    """Multiply the newest regressors with stored coefficients; the noise is that of labels."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        found = checkpoint.weights.get(COEFFICIENTS)
        covariates = checkpoint.manifest.covariates
        wanted = (len(checkpoint.manifest.timeframes), columns_n(covariates))
        if found is None or found.shape != wanted:
            shape = None if found is None else found.shape
            raise ModelError(
                f"model {checkpoint.model_id}: {COEFFICIENTS} of shape {shape}, not {wanted}"
            )
        self._coefficients = np.asarray(found, dtype=np.float64)
        self._covariates = covariates

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Map feature rows (L, N, F) to the forecast (1, N) and unit variances (N,)."""
        raw = design(rows, 1, self._covariates)[0] @ self._coefficients[timeframe]  # (N, P) -> (N,)
        return raw[None], np.ones(len(raw))


class Ensemble:
    """Run the networks of a model on one padded call shape."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        shape = checkpoint.manifest.shape
        wanted = CHANNELS_N + len(column_names(checkpoint.manifest.covariates))
        if (shape.channels, shape.sequence_bars) != (wanted, SEQUENCE_BARS):
            raise ModelError(
                f"model {checkpoint.model_id} reads {shape.sequence_bars} bars of {shape.channels}"
                f" channels, this version gives {SEQUENCE_BARS} of {wanted}"
            )
        import torch

        from strategies.forecast.networks.bilstm import BiLstm, NetworkConfig

        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        config = NetworkConfig(
            channels=shape.channels,
            timeframes=shape.timeframes,
            hidden=shape.hidden,
            embedding=shape.embedding,
            sequence_bars=shape.sequence_bars,
        )
        self._members = []
        for member in range(shape.members):
            network = BiLstm(config)
            mine = _member_weights(checkpoint.weights, member)
            try:
                network.load_state_dict({k: torch.from_numpy(w.copy()) for k, w in mine.items()})
            except RuntimeError as e:
                raise ModelError(f"model {checkpoint.model_id}: weights do not fit: {e}") from e
            self._members.append(network.eval())

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Map feature rows (L, N, F) to means (M, N) and the members' mean variance (N,)."""
        import torch

        sequence = channels(rows)
        L, N, C = sequence.shape
        padded = np.zeros((-(-N // PAD_TO) * PAD_TO, L, C), dtype=np.float32)
        padded[:N] = sequence.transpose(1, 0, 2)  # (L, N, C) -> (N, L, C)
        x = torch.from_numpy(padded)
        with torch.inference_mode():
            answers = [member(x, timeframe) for member in self._members]
        means = np.array([mean.numpy()[:N] for mean, _ in answers], dtype=np.float64)
        logs = np.array([log.numpy()[:N] for _, log in answers], dtype=np.float64)
        return means, np.exp(logs).mean(axis=0)


def _member_weights(weights: Weights, member: int) -> Weights:
    prefix = f"{member}."
    return {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}


@dataclass(slots=True)
class FeatureRows:
    """Keep the feature rows of the last window, so that the next window costs one new row.

    A row depends to the bit on its last FEATURE_MEMORY_BARS bars only: a kept row is used when all
    its bars are unchanged, else everything is computed anew. The answer is the same either way.
    """

    window: Window | None = None
    rows: Floats | None = None

    def newest(self, window: Window) -> Floats:
        """Give the last SEQUENCE_BARS feature rows (L, N, F); short windows give NaN rows first."""
        values = _padded(window.values)
        current = Window(window.timeframe, window.newest_ms, values)
        wanted = 1 if self._continues(current) else SEQUENCE_BARS
        fresh = features(
            values[-(FEATURE_MEMORY_BARS - 1 + wanted) :],
            newest_close_ms=window.newest_ms,
            timeframe=window.timeframe,
            newest=wanted,
        )
        rows = fresh if wanted > 1 or self.rows is None else np.concatenate([self.rows[1:], fresh])
        self.window, self.rows = current, rows
        return rows

    def _continues(self, current: Window) -> bool:
        """Tell whether `current` is the kept window moved on by one bar."""
        before = self.window
        return (
            before is not None
            and current.newest_ms == before.newest_ms + current.timeframe.ms
            and np.array_equal(before.values[1:], current.values[:-1], equal_nan=True)
        )


def _padded(values: Floats) -> Floats:
    """Cut or extend (T, N, 5) to WINDOW_BARS rows; rows in front are missing bars."""
    if len(values) >= WINDOW_BARS:
        return values[-WINDOW_BARS:]
    missing = np.full((WINDOW_BARS - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([missing, values])
