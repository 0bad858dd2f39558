"""Small generated markets for the tests of this folder: random walks with or without a pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.units import HOUR_MS, Timeframe
from strategies.forecast.training.job import Bars, Job, Origin, OriginKind, TrainSettings

START_MS = 1_704_067_200_000  # a midnight
SOURCE = Timeframe(30)
TIMEFRAMES = (Timeframe(60), Timeframe(90), Timeframe(120))

Longs = npt.NDArray[np.int64]


def bars_from_moves(moves: Floats, seed: int) -> Floats:
    """Wrap log returns (T, N) into bars (T, N, 5) whose opens are the closes before."""
    draw = np.random.default_rng(seed)
    closes = 100 * np.exp(np.cumsum(moves, axis=0))
    opens = np.vstack([np.full((1, moves.shape[1]), 100.0), closes[:-1]])
    up, down = (1 + 0.002 * draw.random(moves.shape) for _ in range(2))
    high, low = np.maximum(opens, closes) * up, np.minimum(opens, closes) / down
    volume = np.exp(5 + draw.standard_normal(moves.shape))
    return np.stack([opens, high, low, closes, volume], axis=-1)


def walk(T: int, N: int, seed: int = 0, gaps: float = 0.0) -> Floats:
    """Draw bars (T, N, 5) of random walks; a share `gaps` of the bars is missing."""
    draw = np.random.default_rng(seed)
    bars = bars_from_moves(0.005 * draw.standard_normal((T, N)), seed)
    bars[draw.random((T, N)) < gaps] = np.nan
    return bars


def closes(T: int, timeframe: Timeframe = SOURCE) -> Longs:
    """Give the closes of T bars from START_MS on."""
    return START_MS + timeframe.ms * np.arange(1, T + 1, dtype=np.int64)


def grouped(values: Floats, count: int) -> Floats:
    """Fold `count` bars into one, (T, N, 5) -> (T // count, N, 5)."""
    T = len(values) // count
    parts = values[: T * count].reshape(T, count, *values.shape[1:])
    return np.stack(
        [
            parts[:, 0, :, 0],
            parts[:, :, :, 1].max(axis=1),
            parts[:, :, :, 2].min(axis=1),
            parts[:, -1, :, 3],
            parts[:, :, :, 4].sum(axis=1),
        ],
        axis=-1,
    )


def reverting(days: int, N: int, strength: float, seed: int = 1) -> Floats:
    """Draw source bars whose next six hours lean against the move of the last six."""
    draw = np.random.default_rng(seed)
    T = days * 48
    noise = draw.standard_normal((T, N))
    moves = np.zeros((T, N))
    for t in range(T):
        past = moves[max(0, t - 12) : t].sum(axis=0)
        moves[t] = noise[t] - strength * past
    return bars_from_moves(0.003 * moves, seed)


def job(source: Floats, out: Path, settings: TrainSettings, name: str = "test") -> Job:
    """Describe a training run on source bars and the three timeframes built from them."""
    bars: Bars = {SOURCE: (closes(len(source)), source)}
    for timeframe in TIMEFRAMES:
        folded = grouped(source, timeframe.ms // SOURCE.ms)
        bars[timeframe] = (closes(len(folded), timeframe), folded)  # type: ignore[index]
    symbols = tuple(f"C{i:02d}" for i in range(source.shape[1]))
    origin = Origin(OriginKind.GENERATED, name)
    return Job(bars, symbols, SOURCE, TIMEFRAMES, origin, out, settings)


HOUR = HOUR_MS
