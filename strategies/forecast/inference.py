"""Estimators: from windows of bars to predictions, the same way live, in paper and in backtests.

One padded call shape and one torch thread: instruments are padded with empty rows to a multiple of
eight and sequences have a fixed length, so the same rows give the same bits whenever the call shape
is the same. Runs inside the estimate worker; torch is loaded only for a network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from daemon.domain.bar import Field, Flags, Floats, Window
from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.forecast import Estimates, Prediction, Reading
from daemon.domain.units import Timeframe, require
from strategies.forecast.baselines import Baseline, BaselineEstimator
from strategies.forecast.checkpoint import (
    RIDGE,
    STACK,
    TREES,
    WEIGHTS_FILE,
    Checkpoint,
    Shape,
    Weights,
    load,
)
from strategies.forecast.inputs.covariates import CovariateTable, column_names, with_covariates
from strategies.forecast.inputs.newest import FeatureRows
from strategies.forecast.inputs.windows import (
    CHANNELS_N,
    channels,
    forecastable,
    window_bars,
)
from strategies.forecast.networks.config import NetworkConfig, NetworkKind
from strategies.forecast.ridge import COEFFICIENTS, columns_n, design
from strategies.forecast.stack import StackModel
from strategies.forecast.trees.model import TreeModel

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
    {"kind": "network", "model": folder, "timeframes_minutes": [60, 90, 120], "window_bars": 200,
    "combined_minutes": [60, 90]}, where the folder's manifest says which kind of model it holds.
    Raises ConfigurationError for another kind, ModelError for a model that must not be used.
    """
    kind = config.get("kind")
    if kind in set(Baseline):
        return BaselineEstimator(Baseline(kind))
    if kind != NETWORK:
        accepted = ", ".join([NETWORK, *Baseline])
        raise ConfigurationError(f"estimator kind {kind!r}: accepted is {accepted}")
    return ModelEstimator(load_for(config), combined=combined_of(config))


def combined_of(config: Mapping[str, Any]) -> tuple[Timeframe, ...]:
    """Give the timeframes that are combined, in order: all that are asked for if none is named."""
    asked = config.get("timeframes_minutes", ())
    return tuple(Timeframe(m) for m in config.get("combined_minutes", asked))


def load_for(config: Mapping[str, Any]) -> Checkpoint:
    """Load the model that a configuration names; raise ModelError for one that does not fit it.

    `window_bars`, where it is given, is how many bars every window has: too few for the model's
    sequences would leave it silent for ever.
    """
    timeframes = tuple(Timeframe(m) for m in config.get("timeframes_minutes", ()))
    timeframes += combined_of(config)
    checkpoint = load(Path(str(config["model"])), timeframes=timeframes)
    bars = window_bars(checkpoint.manifest.shape.sequence_bars)
    if config.get("window_bars", bars) < bars:
        raise ModelError(
            f"model {checkpoint.model_id} reads windows of {bars} bars and market.window_bars ="
            f" {config['window_bars']}: raise it"
        )
    return checkpoint


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


def raw_model(checkpoint: Checkpoint) -> RawModel:
    """Build what a stored model says before calibration; ModelError for one of another version."""
    manifest = checkpoint.manifest
    if manifest.kind == STACK:
        return StackModel(checkpoint, raw_model)
    if manifest.kind in TREES:
        return TreeModel(
            checkpoint.weights,
            members=manifest.shape.members,
            timeframes=len(manifest.timeframes),
            covariates=manifest.covariates,
            where=f"model {checkpoint.model_id}, {WEIGHTS_FILE}",
        )
    return RidgeModel(checkpoint) if manifest.kind == RIDGE else Ensemble(checkpoint)


class ModelEstimator:
    """Forecast with a stored model: features from the windows, its raw forecast, calibration.

    combined: the timeframes whose slopes and errors' correlation are told, in this order; () for
    all of the model.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        beside: Beside | None = None,
        *,
        combined: Sequence[Timeframe] = (),
    ) -> None:
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
        chosen = [self._timeframes.index(t) for t in combined or self._timeframes]
        self._disagreement = np.array(manifest.disagreement)[np.ix_(chosen, chosen)]
        slopes = tuple(manifest.reading.slopes[place] for place in chosen)
        self._reading = replace(manifest.reading, slopes=slopes)
        self._model = raw_model(checkpoint)
        self._sequence_bars = manifest.shape.sequence_bars
        self._rows = FeatureRows(self._sequence_bars)

    @property
    def model_id(self) -> str:
        """Give the hash of the model."""
        return self._id

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Forecast every window; instruments without enough bars are NaN, never zero."""
        table = None if self._beside is None else self._beside.table()
        for window in windows:
            require(
                window.timeframe in self._timeframes,
                f"model {self._id} knows no {window.timeframe.label} bars",
            )
        predictions = tuple(
            self._predict(window, rows, table)
            for window, rows in zip(windows, self._rows.newest(windows), strict=True)
        )
        silent = {} if table is None else table.silent(as_of_ms, _traded(windows))
        return Estimates(
            as_of_ms,
            predictions,
            disagreement=self._disagreement,
            silent=silent,
            reading=self._reading,
        )

    def _predict(self, window: Window, rows: Floats, table: CovariateTable | None) -> Prediction:
        """Forecast a window from its feature rows (L, N, F)."""
        if table is not None:  # all rows anew: what was kept may lack what came in since
            steps = np.arange(1 - len(rows), 1, dtype=np.int64)
            close_ms = window.newest_ms + window.timeframe.ms * steps
            rows = with_covariates(rows, table, close_ms, window.values)
        mean, variance = self.forecast(rows, window.timeframe)
        return Prediction(window.timeframe, window.newest_ms, mean, variance, self._id)

    def forecast(self, rows: Floats, timeframe: Timeframe) -> tuple[Floats, Floats]:
        """Give calibrated mean and variance (N,) from feature rows (L, N, F).

        rows: the `sequence_bars` newest of bars and, where the model reads them, of covariates, the
        newest one last. NaN where no forecast can be made.
        """
        place = self._timeframes.index(timeframe)
        raw, noise = self._model.forward(rows, place)  # (M, N), (N,)
        known = forecastable(channels(rows))
        return self._calibration[place].apply(
            np.where(known, raw, np.nan), np.where(known, noise, np.nan)
        )

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        """Give the timeframes that the model knows."""
        return self._timeframes

    @property
    def sequence_bars(self) -> int:
        """Give the rows that a forecast reads."""
        return self._sequence_bars

    @property
    def disagreement(self) -> Floats:
        """Give the correlation (K, K) of the errors of the timeframes that are combined."""
        return self._disagreement

    @property
    def reading(self) -> Reading:
        """Give how the model wants its forecasts combined."""
        return self._reading


def _traded(windows: Sequence[Window]) -> Flags:
    """Tell which instruments (N,) have the newest bar of any window."""
    newest = [np.isfinite(window.values[-1, :, Field.CLOSE]) for window in windows]
    return np.asarray(np.any(newest, axis=0))


class RidgeModel:
    """Multiply the newest regressors with stored coefficients; the noise is that of labels."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        covariates, members_n = checkpoint.manifest.covariates, checkpoint.manifest.shape.members
        wanted = (len(checkpoint.manifest.timeframes), columns_n(covariates))
        alone = (COEFFICIENTS,) if members_n == 1 else ()
        self._coefficients: list[Floats] = []
        for name in alone or [f"{m}.{COEFFICIENTS}" for m in range(members_n)]:
            found = checkpoint.weights.get(name)
            if found is None or found.shape != wanted:
                shape = None if found is None else found.shape
                raise ModelError(
                    f"model {checkpoint.model_id}: {name} of shape {shape}, not {wanted}"
                )
            self._coefficients.append(np.asarray(found, dtype=np.float64))
        self._covariates = covariates

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Map feature rows (L, N, F) to the folds' forecasts (M, N) and unit variances (N,)."""
        x = design(rows, 1, self._covariates)[0]  # (N, P)
        raw = np.array([x @ mine[timeframe] for mine in self._coefficients])  # (M, N)
        return raw, np.ones(len(x))


class Ensemble:
    """Run the networks of a model on one padded call shape."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        manifest = checkpoint.manifest
        shape = manifest.shape
        wanted = CHANNELS_N + len(column_names(manifest.covariates))
        if shape.channels != wanted:
            raise ModelError(
                f"model {checkpoint.model_id} reads {shape.channels} channels, this version gives"
                f" {wanted}"
            )
        import torch

        from strategies.forecast.networks.network import Network

        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        config = network_config(shape, NetworkKind(manifest.kind))
        self._members = []
        for member in range(shape.members):
            network = Network(config)
            mine = member_weights(checkpoint.weights, member)
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
        padded = np.zeros((1, -(-N // PAD_TO) * PAD_TO, L, C), dtype=np.float32)
        padded[0, :N] = sequence.transpose(1, 0, 2)  # (L, N, C) -> (N, L, C)
        x, place = torch.from_numpy(padded), torch.tensor([timeframe])
        with torch.inference_mode():
            answers = [member(x, place) for member in self._members]
        means = np.array([a.mean[0, :N, 0].numpy() for a in answers], dtype=np.float64)
        logs = np.array([a.log_variance[0, :N, 0].numpy() for a in answers], dtype=np.float64)
        return means, np.exp(logs).mean(axis=0)


def network_config(shape: Shape, kind: NetworkKind) -> NetworkConfig:
    """Say what network a manifest describes; what acts in training only is left out."""
    return NetworkConfig(
        kind=kind,
        channels=shape.channels,
        timeframes=shape.timeframes,
        hidden=shape.hidden,
        embedding=shape.embedding,
        sequence_bars=shape.sequence_bars,
        layers=shape.layers,
        cross_asset=shape.cross_asset,
        zoneout=shape.zoneout,
    )


def member_weights(weights: Weights, member: int) -> Weights:
    """Take one member's weights out of an ensemble's."""
    prefix = f"{member}."
    return {k.removeprefix(prefix): w for k, w in weights.items() if k.startswith(prefix)}
