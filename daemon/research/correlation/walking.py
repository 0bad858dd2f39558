"""Walk an estimator through a fold: forecast at each block's start, score when the block is over.

Nothing of a forecast knows what came after its instant: an estimator is handed the window's returns
and the covariates as known at each of its rows. Who takes part is settled at 00:00 UTC for the day.

Matrices are scored in units of each instrument's own deviation over the window, which is known at
the start and the same for all arms, so that one wild coin or month does not rule everything; losses
are an instrument (QLIKE, Stein) or a pair (Frobenius). Books are judged in what they are in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.units import DAY_MS, HOUR_MS, require
from daemon.research.correlation.market import (
    HORIZONS_H,
    INSTRUMENTS_MIN,
    Fold,
    Market,
    begins,
    rows_within,
)
from strategies.covariance.interface import CovarianceEstimator
from strategies.covariance.scoring import (
    correlation_of,
    invertible,
    known_part,
    matrix_distance,
    minimum_variance,
    neutral_books,
    qlike,
    random_forecasts,
    realised_covariance,
    squared_frobenius,
    stein,
    traded,
    variance_of,
)

Longs = npt.NDArray[np.int64]
Make = Callable[[Longs], CovarianceEstimator]
BOOKS_N: Final = 16
AT: Final = "at_ms"
COUNT: Final = "instruments"
LOSSES: Final = (
    "qlike",  # of the covariance, an instrument
    "correlation_qlike",  # of the correlation alone, beside the realised one
    "stein",
    "frobenius",
    "cmd",
    "volatility_qlike",  # of the variances alone
    "variance",  # of the book of least variance, an hour
    "variance_said",  # of the same, as predicted
    "neutral_variance",  # mean over random neutral books
    "neutral_variance_said",
)
STEADINESS: Final = ("moved", "turnover")  # CMD and turnover from one forecast to the next


@dataclass(frozen=True)
class Walked:
    """Hold what came of a fold: per horizon in hours, arrays (M,) by name, NaN unknown.

    cpu_ms: of the processor, a forecast. lifted_n: forecasts that could not be inverted as given.
    """

    blocks: Mapping[int, Mapping[str, Floats]]
    cpu_ms: float
    forecasts_n: int
    lifted_n: int


def walk(
    market: Market,
    fold: Fold,
    make: Make,
    *,
    window_h: int,
    seed: int,
    beside: int,
    processor_s: Callable[[], float],
    told: Callable[[float], None] = lambda share: None,
) -> Walked:
    """Forecast and score all blocks that begin in a fold.

    make: builds the estimator of the instruments at these places, whenever they change. beside: how
    many of the covariates it is handed, the first ones. processor_s: tells the processor's time.
    """
    walker = _Walker(market, make, window_h, seed, beside)
    rows = rows_within(market, fold)
    kept: dict[int, list[dict[str, float]]] = {hours: [] for hours in HORIZONS_H}
    spent_s = 0.0
    for number, row in enumerate(rows.tolist()):
        before_s = processor_s()
        predicted = walker.forecast(row)
        spent_s += processor_s() - before_s
        for hours in HORIZONS_H:
            if begins(int(market.hour_ms[row]), hours):
                kept[hours].append(walker.score(row, hours, predicted))
        told((number + 1) / len(rows))
    blocks = {hours: _columns(found) for hours, found in kept.items()}
    return Walked(blocks, 1e3 * spent_s / max(1, len(rows)), len(rows), walker.lifted_n)


def _columns(found: list[dict[str, float]]) -> dict[str, Floats]:
    names = (AT, COUNT, *LOSSES, *STEADINESS)
    return {name: np.array([one.get(name, np.nan) for one in found]) for name in names}


class _Walker:
    """Carry what goes from one block to the next."""

    def __init__(self, market: Market, make: Make, window_h: int, seed: int, beside: int) -> None:
        self._market, self._make, self._window_h = market, make, window_h
        self._seed, self._beside = seed, beside
        self._chosen: Longs = np.empty(0, dtype=np.int64)
        self._estimator: CovarianceEstimator | None = None
        self._last: dict[int, tuple[Longs, Floats, Floats]] = {}  # places, correlation, book
        self.lifted_n = 0

    def forecast(self, row: int) -> Covariance | None:
        """Forecast at the close of an hour; None where too few instruments take part."""
        market, at_ms = self._market, int(self._market.hour_ms[row])
        if at_ms % DAY_MS == 0 or self._estimator is None:
            chosen = market.taking_part(row, self._window_h)
            if self._estimator is None or not np.array_equal(chosen, self._chosen):
                self._chosen, self._estimator = chosen, self._make(chosen)
        if len(self._chosen) < INSTRUMENTS_MIN:
            return None
        window = slice(row - self._window_h + 1, row + 1)
        beside = market.beside[window, : self._beside] if self._beside else None
        predicted = self._estimator.forecast(market.hourly[window, self._chosen], beside, at_ms)
        wrong = predicted.problem(len(self._chosen))
        require(wrong is None, f"{predicted.estimator} at {at_ms}: {wrong}")
        return predicted

    def score(self, row: int, hours: int, predicted: Covariance | None) -> dict[str, float]:
        """Score the block of so many hours after a forecast; where it cannot, say when alone."""
        at_ms = float(self._market.hour_ms[row])
        if predicted is None:
            return {AT: at_ms}
        fine = self._market.outcome(row, hours, self._chosen)
        realised = realised_covariance(fine) / hours
        part = np.flatnonzero(known_part(predicted, realised))
        came = np.isfinite(np.diagonal(realised)) & (np.diagonal(realised) > 0.0)
        # an arm that leaves out whom others know has no loss that could be compared
        if len(part) < max(INSTRUMENTS_MIN, int(came.sum())):
            return {AT: at_ms, COUNT: float(len(part))}
        square = np.ix_(part, part)
        S, R = realised[square], predicted.correlation[square]
        lifted = invertible(R)
        self.lifted_n += lifted is not R
        sd = predicted.volatility[part]
        found = _losses(S, lifted, sd, self._scale(row, part))
        found |= self._books(row, S, sd[:, None] * lifted * sd, self._scale(row, part), part)
        found |= self._steadiness(hours, part, R, minimum_variance(sd[:, None] * lifted * sd))
        return {AT: at_ms, COUNT: float(len(part)), **found}

    def _scale(self, row: int, part: Longs) -> Floats:
        """Give the deviation of each instrument's hourly returns over the window."""
        seen = self._market.hourly[row - self._window_h + 1 : row + 1, self._chosen[part]]
        return np.asarray(np.sqrt(np.nanmean(seen**2, axis=0)))

    def _books(
        self, row: int, S: Floats, H: Floats, scale: Floats, part: Longs
    ) -> dict[str, float]:
        book = minimum_variance(H)
        drawn = random_forecasts(
            len(self._market.symbols),
            BOOKS_N,
            self._seed + int(self._market.hour_ms[row] // HOUR_MS),
        )[:, self._chosen[part]]
        books = neutral_books(H, drawn * scale)
        return {
            "variance": float(variance_of(book, S)),
            "variance_said": float(variance_of(book, H)),
            "neutral_variance": float(variance_of(books, S).mean()),
            "neutral_variance_said": float(variance_of(books, H).mean()),
        }

    def _steadiness(self, hours: int, part: Longs, R: Floats, book: Floats) -> dict[str, float]:
        """Compare with the forecast one block before, over all instruments of the market."""
        places = self._chosen[part]
        before = self._last.get(hours)
        self._last[hours] = (places, R, book)
        if before is None:
            return {}
        N = len(self._market.symbols)
        held, wanted = np.zeros(N), np.zeros(N)
        held[before[0]], wanted[places] = before[2], book
        _, old, new = np.intersect1d(before[0], places, return_indices=True)
        moved = matrix_distance(before[1][np.ix_(old, old)], R[np.ix_(new, new)])
        return {"moved": moved, "turnover": traded(held, wanted)}


def _losses(S: Floats, R: Floats, sd: Floats, scale: Floats) -> dict[str, float]:
    """Give the losses of matrices: S realised, R and sd predicted, in units of `scale`."""
    N, unit = len(S), scale[:, None] * scale
    came, said = S / unit, (sd[:, None] * R * sd) / unit
    shape = correlation_of(S)
    variance, outcome = np.diagonal(said), np.diagonal(came)
    return {
        "qlike": qlike(said, came) / N,
        "correlation_qlike": qlike(R, shape) / N,
        "stein": stein(said, came) / N,
        "frobenius": squared_frobenius(said, came) / N**2,
        "cmd": matrix_distance(R, shape),
        "volatility_qlike": float((np.log(variance) + outcome / variance).mean()),
    }
