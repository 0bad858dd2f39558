"""A recurrent network that corrects an EWMA correlation, in a reduced form, by what it has read.

Not N (N - 1) / 2 pairs are forecast but G = 5 numbers, whatever N is. With L = log R of the EWMA
correlation of 7 days, P the mean over pairs of the same two clusters (clusters of the EWMA itself),
and M_g matrices with zeros on the diagonal:

    A = L + sum_g o_g M_g,  R' = D^-1/2 exp(A) D^-1/2,  D = diag(exp(A))
    M_1, M_2: pairs inside a cluster, pairs of two clusters      more or less correlation
    M_3, M_4: P(L of 2 days) - P(L), P(L of 30 days) - P(L)      a faster or a slower memory
    M_5:      P(L) - L                                           pairs nearer to their clusters

exp of any symmetric matrix is positive definite, so R' is a correlation matrix without repair (the
parametrisation is that of Archakov and Hansen 2021, here scaled to ones on the diagonal). The
o_g are bounded: o = bound * tanh(W [h, s] + b) of the state h of a GRU that read the last week in
steps of 6 hours, and of s, what the three EWMA states say now. W and b begin as zeros: an untrained
network is the EWMA, bit for bit. Volatilities are those of the EWMA.

Inputs are functions of the returns and covariates handed in, alone. Covariates are columns named by
the manifest; NaN reads as the middle of what was seen in training. The forward pass is NumPy, so
that a process that only forecasts loads no torch; see `recurrent_training` for the fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from daemon.domain.covariance import Covariance
from daemon.domain.failures import ModelError
from strategies.covariance.interface import CovarianceEstimator
from strategies.covariance.known import make_estimator

Floats = npt.NDArray[np.float64]
Longs = npt.NDArray[np.int64]
Weights = Mapping[str, npt.NDArray[Any]]

NAME: Final = "ewma+recurrent"  # volatilities of the EWMA, as estimators are named
HALF_LIVES_H: Final = (48.0, 168.0, 720.0)  # fast, base, slow
STEPS_N: Final = 28
STEP_H: Final = 6
CLUSTERS_MAX: Final = 8
CORRECTIONS: Final = ("inside", "between", "fast", "slow", "pairs")
BOUNDS: Final = np.array([0.5, 0.5, 1.0, 1.0, 1.0])
SEQUENCE: Final = ("togetherness", "size", "dispersion", "market")
STATE: Final = ("fast_mean", "base_mean", "slow_mean", "contrast", "fast_gap", "slow_gap")
CLIP: Final = 5.0
LOG_FLOOR: Final = 1e-6  # of an eigenvalue, before its logarithm
WEIGHT_NAMES: Final = (
    "gru.weight_ih_l0",
    "gru.weight_hh_l0",
    "gru.bias_ih_l0",
    "gru.bias_hh_l0",
    "head.weight",
    "head.bias",
)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Hold what the network reads at one instant, before it is scaled.

    sequence: (STEPS_N, len(SEQUENCE) + C), oldest first. state: (len(STATE),). log_base: (N, N) L.
    directions: (G, N, N) the M_g. known: (N,) who takes part; the matrices have rows for them only.
    base: the EWMA that is corrected.
    """

    sequence: Floats
    state: Floats
    log_base: Floats
    directions: Floats
    known: Longs
    base: Covariance


@dataclass(frozen=True, slots=True)
class Scaling:
    """Hold centre and spread (F,) of what was seen in training, of the sequence then the state."""

    centre: Floats
    spread: Floats

    def apply(self, sequence: Floats, state: Floats) -> tuple[Floats, Floats]:
        """Scale, clip, and put unknown values into the middle; any leading axes."""
        at = sequence.shape[-1]
        found = []
        for values, part in ((sequence, slice(0, at)), (state, slice(at, None))):
            scaled = (values - self.centre[part]) / self.spread[part]
            found.append(np.nan_to_num(np.clip(scaled, -CLIP, CLIP)))
        return found[0], found[1]


class RecurrentCorrelation:
    """Forecast with a fitted network; without weights, as the EWMA."""

    def __init__(
        self,
        weights: Weights | None = None,
        scaling: Scaling | None = None,
        covariates: Sequence[str] = (),
        name: str = NAME,
    ) -> None:
        self._weights = None if weights is None else _double(weights)
        self._scaling, self._columns = scaling, len(covariates)
        self._name, self._states = name, ewma_states()

    @property
    def name(self) -> str:
        """Give its name."""
        return self._name

    def forecast(self, returns: Floats, covariates: Floats | None, as_of_ms: int) -> Covariance:
        """Give the corrected EWMA; raise ModelError for other columns than it has learned with."""
        found = 0 if covariates is None else covariates.shape[1]
        if found != self._columns:
            raise ModelError(f"{found} covariates given; the network has learned {self._columns}")
        states = [one.forecast(returns, covariates, as_of_ms) for one in self._states]
        base = replace_name(states[1], self._name)
        if self._weights is None or self._scaling is None:
            return base
        inputs = inputs_of(returns, covariates, states)
        if inputs is None:
            return base
        return corrected(inputs, self.corrections(inputs), self._name)

    def corrections(self, inputs: Inputs) -> Floats:
        """Give o (G,), zeros of an untrained network."""
        if self._weights is None or self._scaling is None:
            return np.zeros(len(CORRECTIONS))
        sequence, state = self._scaling.apply(inputs.sequence, inputs.state)
        return forward(self._weights, sequence, state)


def ewma_states() -> tuple[CovarianceEstimator, ...]:
    """Make the three EWMA estimators that the network starts from: fast, base, slow."""
    return tuple(make_estimator("ewma", {"half_life_hours": h}) for h in HALF_LIVES_H)


def replace_name(found: Covariance, name: str) -> Covariance:
    """Give the same prediction under another name."""
    return Covariance(found.as_of_ms, name, found.volatility, found.correlation)


# ---- what it reads -------------------------------------------------------------------------------


def inputs_of(
    returns: Floats, covariates: Floats | None, states: Sequence[Covariance]
) -> Inputs | None:
    """Read the returns (T, N) and the three EWMA states; None with fewer than three instruments.

    With less than a week of returns the sequence begins with steps of which nothing is known.
    """
    base = states[1]
    known = np.flatnonzero(np.isfinite(base.volatility))
    if len(known) < 3:
        return None
    square = np.ix_(known, known)
    logs = [log_of(one.correlation[square]) for one in states]
    labels = clusters_of(base.correlation[square])
    directions, means = _directions(logs, labels)
    correlations = [_mean_pair(one.correlation[square]) for one in states]
    state = np.array([*correlations, *means])
    sequence = _sequence(returns[:, known], base.volatility[known], covariates)
    return Inputs(sequence, state, logs[1], directions, known, base)


def _sequence(returns: Floats, volatility: Floats, covariates: Floats | None) -> Floats:
    """Give what happened in each step: (STEPS_N, len(SEQUENCE) + C).

    togetherness: mean product of two instruments' returns in units of their volatility; size: mean
    square; dispersion: log of the spread of their sums over the step; market: their mean's size.
    """
    hours = STEPS_N * STEP_H
    z = _newest(returns / volatility, hours).reshape(STEPS_N, STEP_H, -1)
    n = np.isfinite(z).sum(axis=2)
    whole, squares = np.nansum(z, axis=2), np.nansum(z**2, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = np.where(n > 1, (whole**2 - squares) / (n * (n - 1.0)), np.nan)
        sizes = np.where(n > 0, squares / n, np.nan)
        moved = np.where(np.isfinite(z).any(axis=1), np.nansum(z, axis=1), np.nan)
        counted = np.isfinite(moved).sum(axis=1)
        mean = np.nansum(moved, axis=1) / counted
        spread = np.sqrt(np.nansum((moved - mean[:, None]) ** 2, axis=1) / counted)
        columns = [_step_mean(pairs), _step_mean(sizes), np.log(spread), np.abs(mean)]
    own = np.stack([np.where(np.isfinite(c), c, np.nan) for c in columns], axis=1)
    if covariates is None:
        return own
    beside = _newest(covariates, hours)[STEP_H - 1 :: STEP_H]  # as known at the end of each step
    return np.hstack([own, beside])


def _newest(values: Floats, rows: int) -> Floats:
    kept = values[-rows:]
    missing = rows - len(kept)
    return np.vstack([np.full((missing, values.shape[1]), np.nan), kept]) if missing else kept


def _step_mean(values: Floats) -> Floats:
    known = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1))


def _mean_pair(matrix: Floats) -> float:
    N = len(matrix)
    return float((matrix.sum() - np.trace(matrix)) / (N * (N - 1)))


def clusters_of(correlation: Floats) -> Longs:
    """Cut instruments into at most CLUSTERS_MAX clusters by average linkage; labels from 0."""
    from scipy.cluster.hierarchy import fcluster, linkage  # heavy, and an untrained one needs none
    from scipy.spatial.distance import squareform

    distance = np.sqrt(np.clip((1.0 - correlation) / 2.0, 0.0, None))
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="average")
    wanted = max(2, min(CLUSTERS_MAX, len(correlation) // 3))
    return np.asarray(fcluster(tree, wanted, criterion="maxclust"), dtype=np.int64) - 1


def _directions(logs: Sequence[Floats], labels: Longs) -> tuple[Floats, tuple[float, ...]]:
    """Give the M_g (G, N, N), and what their sizes say: contrast, fast gap, slow gap."""
    fast, base, slow = (_cluster_means(one, labels) for one in logs)
    N = len(labels)
    off = ~np.eye(N, dtype=bool)
    same = (labels[:, None] == labels) & off
    apart = (labels[:, None] != labels) & off
    inside = same / max(1.0, same.sum() / N)
    between = apart / N
    found = np.stack([inside, between, fast - base, slow - base, (base - logs[1]) * off])
    level = [float(base[part].mean()) if part.any() else 0.0 for part in (same, apart)]
    gaps = [float((x - base)[off].mean()) * N for x in (fast, slow)]
    return found, ((level[0] - level[1]) * N, *gaps)


def _cluster_means(matrix: Floats, labels: Longs) -> Floats:
    """Put in place of each pair the mean over all pairs of the same two clusters; 0 on top."""
    member = (labels[:, None] == np.arange(labels.max() + 1)).astype(np.float64)  # (N, K)
    off = matrix - np.diag(np.diagonal(matrix))
    sums = member.T @ off @ member
    size = member.sum(axis=0)
    pairs = np.outer(size, size) - np.diag(size)
    means = np.where(pairs > 0, sums / np.where(pairs > 0, pairs, 1.0), 0.0)
    found = member @ means @ member.T
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


# ---- what it says --------------------------------------------------------------------------------


def forward(weights: Weights, sequence: Floats, state: Floats) -> Floats:
    """Give o (G,) of a scaled sequence (S, F) and state (F2,): one GRU layer and a bounded head."""
    W, U, b, c, head, bias = (weights[name] for name in WEIGHT_NAMES)
    h = np.zeros(U.shape[1])
    for x in sequence:
        given, held = W @ x + b, U @ h + c
        r, z, n = np.split(given, 3)
        r_held, z_held, n_held = np.split(held, 3)
        reset, keep = _sigmoid(r + r_held), _sigmoid(z + z_held)
        h = (1.0 - keep) * np.tanh(n + reset * n_held) + keep * h
    return np.asarray(BOUNDS * np.tanh(head @ np.concatenate([h, state]) + bias))


def corrected(inputs: Inputs, corrections: Floats, name: str) -> Covariance:
    """Give the base with its correlation corrected by o (G,); all zeros leave it as it is."""
    base = inputs.base
    if not corrections.any():
        return replace_name(base, name)
    A = inputs.log_base + np.tensordot(corrections, inputs.directions, axes=1)
    values, vectors = np.linalg.eigh(A)
    exponential = (vectors * np.exp(values)) @ vectors.T
    root = np.sqrt(np.diagonal(exponential))
    part = exponential / (root[:, None] * root)
    np.fill_diagonal(part, 1.0)
    whole = np.eye(len(base.volatility))
    whole[np.ix_(inputs.known, inputs.known)] = (part + part.T) / 2.0
    return Covariance(base.as_of_ms, name, base.volatility, whole)


def log_of(correlation: Floats) -> Floats:
    """Give the matrix logarithm of a correlation matrix, eigenvalues lifted to LOG_FLOOR."""
    values, vectors = np.linalg.eigh(correlation)
    return np.asarray((vectors * np.log(np.maximum(values, LOG_FLOOR))) @ vectors.T)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def _double(weights: Weights) -> Weights:
    return {name: np.asarray(w, dtype=np.float64) for name, w in weights.items()}
