"""Let the correlation of standardised returns move and come back: DCC and cDCC.

    Q_(t+1) = (1 - a - b) S + a y_t y_t' + b Q_t,    R = diag(Q)^(-1/2) Q diag(Q)^(-1/2)
    DCC   y = z                                      Engle 2002
    cDCC  y = diag(Q)^(1/2) z                        Aielli 2013; S is that of y, not biased by Q

In two steps: z comes from a volatility model, then a and b maximise

    sum over t and pairs of -(ln(1 - r^2) + (z_i^2 + z_j^2 - 2 r z_i z_j) / (1 - r^2)) / 2

over pairs of neighbours only, a composite likelihood (Pakel, Shephard, Sheppard and Engle 2021):
with many instruments that of all together leans towards constant correlations. Neighbours in the
order of their sum of z, so that the order of the columns does not matter. In the likelihood S is
the sample value of the pair; in the forecast it is shrunk to a constant correlation (Engle, Ledoit
and Wolf 2019). a, b >= 0 and a + b < 1.

Each column of z is brought to unit variance. Where one of a pair is not seen, its product is taken
to be S_ij.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.special import expit

from strategies.covariance.interface import COMMON_MIN, VARIANCE_MIN, Flags, Floats
from strategies.covariance.repair import renormalised
from strategies.covariance.shrinkage import shrunk_correlation, to_constant_correlation

TYPICAL: Final = (0.02, 0.96)  # where nothing can be fitted
FIT_ROWS_MIN: Final = 250  # rows that both of a pair have, over all pairs
PERSISTENCE_MAX: Final = 0.9995
RHO_MAX: Final = 0.9999
Q_MIN: Final = 1e-6
START: Final = np.array([3.5, -3.5])  # logits of a + b and of a / (a + b)
STEPS: Final = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
ROUNDS_MAX: Final = 120

_target = shrunk_correlation(to_constant_correlation)


def dcc_step(Q: Floats, z: Floats, S: Floats, a: float, b: float, *, is_corrected: bool) -> Floats:
    """Give Q (N, N) of the next row from that of this row and its z (N,), NaN = not seen."""
    y = z * np.sqrt(np.diagonal(Q)) if is_corrected else z
    products = np.outer(y, y)
    return (1.0 - a - b) * S + a * np.where(np.isfinite(products), products, S) + b * Q


class DccCorrelation:
    """Foresee the correlation by DCC, or by cDCC where `is_corrected`."""

    def __init__(self, *, is_corrected: bool) -> None:
        """Take which of the two."""
        self._is_corrected = is_corrected
        self._a, self._b = TYPICAL
        self._unit = np.zeros(0)
        self._S = self._Q = np.zeros((0, 0))

    @property
    def parameters(self) -> tuple[float, float]:
        """Give a and b of the last fit."""
        return self._a, self._b

    def begin(self, z: Floats) -> None:
        """Fit a, b and S, start with Q = S and step over the rows."""
        seen = np.isfinite(z)
        power = np.where(seen, z, 0.0) ** 2
        variance = power.sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
        self._unit = np.sqrt(np.where(variance > VARIANCE_MIN, variance, 1.0))
        scaled = z / self._unit
        self._a, self._b = fitted(scaled, is_corrected=self._is_corrected)
        y = scaled
        if self._is_corrected:
            y = scaled * np.sqrt(_diagonals(scaled, self._a, self._b))
        self._S = self._Q = _target(y)
        for row in z:
            self.step(row)

    def step(self, row: Floats) -> None:
        """Take in one row of z."""
        z, corrected = row / self._unit, self._is_corrected
        self._Q = dcc_step(self._Q, z, self._S, self._a, self._b, is_corrected=corrected)

    def correlation(self, as_of_ms: int) -> Floats:
        """Give R of the next row."""
        off = self._Q.copy()
        np.fill_diagonal(off, np.maximum(np.diagonal(off), Q_MIN))
        return np.clip(renormalised(off), -1.0, 1.0)


def fitted(z: Floats, *, is_corrected: bool) -> tuple[float, float]:
    """Give a and b that maximise the composite likelihood of z (T, N) with unit variances."""
    seen = np.isfinite(z)
    filled = np.where(seen, z, 0.0)
    usable = np.flatnonzero((seen.sum(axis=0) >= COMMON_MIN) & (np.abs(filled).sum(axis=0) > 0))
    order = usable[np.argsort(filled[:, usable].sum(axis=0), kind="stable")]
    z = z[:, order]
    both = np.isfinite(z[:, :-1] * z[:, 1:]) if len(order) > 1 else np.zeros((0, 0), np.bool_)
    if int(both.sum()) < FIT_ROWS_MIN:
        return TYPICAL

    def loss(u: Floats) -> float:
        return -_composite(z, both, *_plain(u), is_corrected=is_corrected)

    found = minimize(
        loss,
        START,
        method="Nelder-Mead",
        options={
            "initial_simplex": START + STEPS,
            "xatol": 5e-3,
            "fatol": 1e-3,
            "maxiter": ROUNDS_MAX,
        },
    )
    return _plain(found.x)


def _plain(u: Floats) -> tuple[float, float]:
    p, share = PERSISTENCE_MAX * float(expit(u[0])), float(expit(u[1]))
    return p * share, p * (1.0 - share)


def _composite(z: Floats, both: Flags, a: float, b: float, *, is_corrected: bool) -> float:
    """Give the composite likelihood of columns that are in order; both: (T, N - 1) rows to use."""
    if is_corrected:
        q = _diagonals(z, a, b)
        y = z * np.sqrt(q)
    else:
        y, q = z, 1.0 + a * _lagged_sum(np.where(np.isfinite(z), z**2 - 1.0, 0.0), b)
    left, right = np.where(both, y[:, :-1], 0.0), np.where(both, y[:, 1:], 0.0)
    powers = (left**2).sum(axis=0) * (right**2).sum(axis=0)
    products = left * right  #                                            (T, N - 1)
    S = products.sum(axis=0) / np.sqrt(np.maximum(powers, VARIANCE_MIN))
    crossed = S + a * _lagged_sum(np.where(both, products - S, 0.0), b)
    q = np.maximum(q, Q_MIN)
    r = np.clip(crossed / np.sqrt(q[:, :-1] * q[:, 1:]), -RHO_MAX, RHO_MAX)
    rest = 1.0 - r**2
    first, second = z[:, :-1], z[:, 1:]
    terms = np.log(rest) + (first**2 + second**2 - 2.0 * r * first * second) / rest
    return -0.5 * float(terms[both].sum())


def _lagged_sum(news: Floats, b: float) -> Floats:
    """Give sum_(k >= 1) b^(k-1) news_(t-k), (T, N)."""
    return np.asarray(lfilter([0.0, 1.0], [1.0, -b], news, axis=0))


def _diagonals(z: Floats, a: float, b: float) -> Floats:
    """Give the diagonal of Q in cDCC at each row (T, N), before the row is seen."""
    square = np.where(np.isfinite(z), z**2, np.nan)
    grown = b + a * np.where(np.isfinite(square), square, 0.0)
    added = 1.0 - a - b + a * ~np.isfinite(square)
    q = np.ones_like(z)
    for t in range(len(z) - 1):
        q[t + 1] = added[t] + grown[t] * q[t]
    return q
