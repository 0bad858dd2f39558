"""Parts of a pipeline as research code writes them: each reads all of the data it is handed.

That is a look into the future exactly when the data reach beyond the instant.
"""

from __future__ import annotations

import numpy as np

from daemon.domain.bar import Field, Floats
from daemon.domain.bar_builder import aggregate
from daemon.research.worlds import Data
from strategies.forecast.inputs.labels import label
from tests.research.planted_market import H2, M30

LAGS = 4
HORIZON = 4  # rows
LOOKBACKS = (1, 2, 3, 6, 12, 24, 48)


def closes_of(data: Data) -> Floats:
    return data.values[:, :, Field.CLOSE]


def row_at(data: Data, as_of_ms: int) -> int:
    return data.rows_until(as_of_ms) - 1


def moves_of(data: Data, bars: int = 1) -> Floats:
    closes = np.log(closes_of(data))
    out = np.full_like(closes, np.nan)
    out[bars:] = closes[bars:] - closes[:-bars]
    return out


def ahead_of(data: Data, bars: int = HORIZON) -> Floats:
    """Give the return over the next bars, NaN where the data end before."""
    closes = np.log(closes_of(data))
    out = np.full_like(closes, np.nan)
    out[:-bars] = closes[bars:] - closes[:-bars]
    return out


# ---- features ------------------------------------------------------------------------------------


def slice_one_too_long(data: Data, as_of_ms: int) -> Floats:
    """Take the last return of a slice that ends one bar after the instant."""
    at = row_at(data, as_of_ms)
    window = np.log(closes_of(data)[max(0, at - 2) : at + 2])
    return np.asarray(window[-1] - window[0])


def scaled_on_the_sample(data: Data, as_of_ms: int) -> Floats:
    """Score the newest move against mean and deviation of the sample."""
    moves = moves_of(data)
    mean, size = np.nanmean(moves, axis=0), np.nanstd(moves, axis=0)
    return np.asarray((moves[row_at(data, as_of_ms)] - mean) / size)


def label_among_the_features(data: Data, as_of_ms: int) -> Floats:
    """Take the newest label up to the instant, as if it were not settled hours later."""
    at = row_at(data, as_of_ms)
    near = slice(at - 130, at + 30)  # two days warm the risk up, and a label reaches seven hours
    y = label(data.close_ms[near], data.values[near], source=M30).y[:131]
    known = np.flatnonzero(np.isfinite(y).any(axis=1))
    return np.asarray(y[known[-1]])


def backfilled(data: Data, as_of_ms: int) -> Floats:
    """Fill each hole with the close that follows it, then take the return of two hours."""
    closes, at = closes_of(data).copy(), row_at(data, as_of_ms)
    for t in range(len(closes) - 2, -1, -1):
        closes[t] = np.where(np.isnan(closes[t]), closes[t + 1], closes[t])
    return np.asarray(np.log(closes[at] / closes[at - 4]))


def interpolated(data: Data, as_of_ms: int) -> Floats:
    """Draw a line across each hole, from the close before it to the close after it."""
    closes, at, rows = closes_of(data), row_at(data, as_of_ms), np.arange(len(data.close_ms))
    lines = np.empty_like(closes)
    for n in range(closes.shape[1]):
        known = np.isfinite(closes[:, n])
        lines[:, n] = np.interp(rows, rows[known], closes[known, n])
    return np.asarray(np.log(lines[at] / lines[at - 4]))


def centred_mean(data: Data, as_of_ms: int) -> Floats:
    """Compare the close with a moving mean that has the instant in its middle."""
    at = row_at(data, as_of_ms)
    around = closes_of(data)[at - 3 : at + 4]
    known = np.isfinite(around)
    mean = np.where(known, around, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.asarray(np.log(closes_of(data)[at] / mean))


def over_full_volatility(data: Data, as_of_ms: int) -> Floats:
    """Divide the day's return by the volatility of the whole period."""
    size = np.nanstd(moves_of(data, 4), axis=0)
    return np.asarray(moves_of(data, 48)[row_at(data, as_of_ms)] / size)


def long_bar_by_its_open(data: Data, as_of_ms: int) -> Floats:
    """Join two-hour bars by their open: the newest one has not closed yet."""
    close_ms, bars = aggregate(data.close_ms - M30.ms, data.values, M30, H2)
    at = int(np.searchsorted(close_ms - H2.ms, as_of_ms, side="right")) - 1
    return np.asarray(np.log(bars[at, :, Field.CLOSE] / bars[at, :, Field.OPEN]))


def next_open(data: Data, as_of_ms: int) -> Floats:
    """Take the gap to the open at which the order of this very decision will be filled."""
    at = row_at(data, as_of_ms)
    gap = np.log(data.opens[at] / closes_of(data)[at])
    own = moves_of(data, 2)[at]
    return np.asarray(np.where(np.isfinite(gap), 100 * gap, 0.0) + own)


# ---- what is fitted ------------------------------------------------------------------------------


def calibrated_on_the_sample(data: Data, as_of_ms: int) -> Floats:
    """Scale the signal by its slope on the outcome, instrument by instrument."""
    signal, outcome = moves_of(data, 8), ahead_of(data)
    both = np.isfinite(signal) & np.isfinite(outcome)
    x, y = np.where(both, signal, 0.0), np.where(both, outcome, 0.0)
    slope = (x * y).sum(axis=0) / (x * x).sum(axis=0)
    return np.asarray(slope * signal[row_at(data, as_of_ms)])


def trained_on_the_sample(data: Data, as_of_ms: int) -> Floats:
    """Fit a ridge regression of the next return on lagged ones, and forecast with it."""
    moves = moves_of(data)
    lagged = np.stack([np.roll(moves, k, axis=0) for k in range(LAGS)], axis=2)  # (T, N, LAGS)
    lagged[:LAGS] = np.nan
    outcome = ahead_of(data)
    known = np.isfinite(lagged).all(axis=2) & np.isfinite(outcome)
    x, y = lagged[known], outcome[known]
    weights = np.linalg.solve(x.T @ x + 1e-4 * np.eye(LAGS), x.T @ y)
    return np.asarray(lagged[row_at(data, as_of_ms)] @ weights)


def best_lookback(data: Data, as_of_ms: int) -> Floats:
    """Trade the lookback that earned most over all of the data."""
    outcome = ahead_of(data)
    earned = [np.nansum(np.sign(moves_of(data, k)) * outcome) for k in LOOKBACKS]
    chosen = LOOKBACKS[int(np.argmax(np.abs(earned)))]
    return np.asarray(moves_of(data, chosen)[row_at(data, as_of_ms)])


# ---- the book ------------------------------------------------------------------------------------


def universe_by_volume(data: Data, as_of_ms: int) -> Floats:
    """Trade the four instruments with the largest turnover of the period."""
    turnover = np.nansum(data.values[:, :, Field.VOLUME] * closes_of(data), axis=0)
    largest = np.argsort(turnover)[-4:]
    out = np.full(len(turnover), np.nan)
    out[largest] = moves_of(data, 2)[row_at(data, as_of_ms)][largest]
    return out


def survivors(data: Data, as_of_ms: int) -> Floats:
    """Trade what is still there at the end of the data."""
    is_there = np.isfinite(closes_of(data)[-8:]).any(axis=0)
    return np.asarray(np.where(is_there, moves_of(data, 2)[row_at(data, as_of_ms)], np.nan))


def covariance_of_the_sample(data: Data, as_of_ms: int) -> Floats:
    """Weigh the signal by the inverse of the covariance of all of the data."""
    moves = np.nan_to_num(moves_of(data))
    signal = np.nan_to_num(moves_of(data, 8)[row_at(data, as_of_ms)])
    return np.asarray(np.linalg.solve(np.cov(moves.T) + 1e-7 * np.eye(len(signal)), signal))


def funding_to_come(data: Data, as_of_ms: int) -> Floats:
    """Earn the rate that settles next; without one, the last that settled."""
    last = len(data.settle_ms) - 1
    at = min(int(np.searchsorted(data.settle_ms, as_of_ms, side="right")), last)
    return np.asarray(-data.rates[at])
