"""Hand the programme of the book to piqp, in a form that is sparse and separable.

Each weight is its start b (held, moved into its box) and segments on which the cost and |w| are
linear, of which each has its own variable between 0 and its length:

    w = b + s (outward - inward - across),   s = sign of b

inward ends at zero and lowers the gross, across goes on beyond zero. Because slopes grow away from
b, no optimum uses a later segment before an earlier one is full. With y = F'w the Hessian is
diagonal, and the only rows are X'w = t, F'w - y = 0, the definition of w, and at most two limits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import piqp
from scipy.sparse import csc_matrix

from daemon.domain.bar import Floats
from strategies.crossover import Found, Tied

Indices = npt.NDArray[np.intp]
SOLVER: Final = "piqp"
VERSION: Final[str] = piqp.__version__
TOLERANCE: Final = 1e-8  # absolute, in units of a typical weight and its marginal risk
ITERATIONS_MAX: Final = 50
UNBOUNDED: Final = 1e30  # what the solver takes for infinity
LENGTH_MIN: Final = 1e-13
SOLVED: Final = "SOLVED"
REFUSED: Final = "REFUSED"


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold what the solver says: its status, the iterations it took, and what it found if any."""

    status: str
    iterations: int
    found: Found | None


@dataclass(frozen=True, slots=True)
class _Segments:
    """Hold the segments (m,): their legs, directions, lengths, and what they add to |w|."""

    leg: Indices
    direction: Floats
    length: Floats
    outward: Floats


def _segments(low: Floats, high: Floats, start: Floats) -> _Segments:
    s = np.where(start >= 0, 1.0, -1.0)
    size = np.abs(start)
    ahead = np.where(s > 0, high - start, start - low)
    back = np.where(s > 0, start - low, high - start)
    lengths = np.concatenate([ahead, np.minimum(size, back), back - size])
    kept = np.flatnonzero(lengths > LENGTH_MIN)
    N = len(start)
    return _Segments(
        leg=kept % N,
        direction=np.where(kept < N, 1.0, -1.0) * s[kept % N],
        length=lengths[kept],
        outward=np.where((kept >= N) & (kept < 2 * N), -1.0, 1.0),
    )


def interior_point(tied: Tied, *, iterations_max: int = ITERATIONS_MAX) -> Answer:
    """Solve to TOLERANCE or say why not; never raises for what the numbers are."""
    legs = tied.legs
    N, K, M = len(legs.pull), tied.risk.loadings.shape[1], tied.X.shape[1]
    start = np.minimum(np.maximum(legs.held, legs.low), legs.high)
    parts = _segments(legs.low, legs.high, start)
    m = len(parts.leg)
    limits, highest = [], []
    if np.isfinite(tied.gross_max):
        limits.append(parts.outward)
        highest.append(tied.gross_max - float(np.abs(start).sum()))
    if np.isfinite(tied.turnover_max):
        limits.append(np.ones(m))
        highest.append(tied.turnover_max - float(np.abs(start - legs.held).sum()))
    unbounded = np.full(N, UNBOUNDED), np.full(K, UNBOUNDED)
    solver = piqp.SparseSolver()
    solver.settings.eps_abs = TOLERANCE
    solver.settings.eps_rel = TOLERANCE
    solver.settings.eps_duality_gap_abs = TOLERANCE
    solver.settings.eps_duality_gap_rel = TOLERANCE
    solver.settings.max_iter = iterations_max
    try:
        solver.setup(
            P=_hessian(tied.risk.specific, m, K),
            c=np.concatenate([-legs.pull, legs.cost[parts.leg], np.zeros(K)]),
            A=_equations(tied, parts),
            b=np.concatenate([tied.totals, np.zeros(K), start]),
            G=_limits(limits, N, m, K),
            h_l=np.full(len(limits), -UNBOUNDED),
            h_u=np.array(highest),
            x_l=np.concatenate([-unbounded[0], np.zeros(m), -unbounded[1]]),
            x_u=np.concatenate([unbounded[0], parts.length, unbounded[1]]),
        )
        status = solver.solve()
    except (ValueError, RuntimeError, TypeError) as e:
        return Answer(f"{REFUSED}: {e}", 0, None)
    said = status.name.removeprefix("PIQP_")
    x, y, prices = solver.result.x, solver.result.y, list(solver.result.z_u)
    iterations = int(solver.result.info.iter)
    if said != SOLVED or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Answer(said, iterations, None)
    trade_price = float(prices.pop()) if np.isfinite(tied.turnover_max) else 0.0
    gross_price = float(prices.pop()) if np.isfinite(tied.gross_max) else 0.0
    found = Found(np.array(x[:N]), np.array(y[:M]), gross_price, trade_price)
    return Answer(said, iterations, found)


def _sparse(
    values: list[Floats], rows: list[Indices], column_sizes: list[Indices], rows_n: int
) -> csc_matrix:
    """Lay out a matrix by columns: values and rows of each, and how many each column has."""
    sizes = np.concatenate(column_sizes)
    ends = np.concatenate([np.zeros(1, dtype=np.int32), sizes.cumsum(dtype=np.int32)])
    within = np.concatenate(rows).astype(np.int32)
    return csc_matrix((np.concatenate(values), within, ends), shape=(rows_n, len(sizes)))


def _ones(n: int) -> Indices:
    return np.ones(n, dtype=np.intp)


def _hessian(specific: Floats, m: int, K: int) -> csc_matrix:
    """Give diag(D, 0, 1) over weights, segments and factors."""
    N = len(specific)
    return _sparse(
        [specific, np.ones(K)],
        [np.arange(N), N + m + np.arange(K)],
        [_ones(N), np.zeros(m, dtype=np.intp), _ones(K)],
        N + m + K,
    )


def _equations(tied: Tied, parts: _Segments) -> csc_matrix:
    """Give the rows X'w, F'w - y and w - s (segments)."""
    N, M = tied.X.shape
    K, m = tied.risk.loadings.shape[1], len(parts.leg)
    values = np.concatenate([tied.X, tied.risk.loadings, np.ones((N, 1))], axis=1)
    rows = np.empty((N, M + K + 1), dtype=np.intp)
    rows[:, :-1] = np.arange(M + K)
    rows[:, -1] = M + K + np.arange(N)
    return _sparse(
        [values.ravel(), -parts.direction, -np.ones(K)],
        [rows.ravel(), M + K + parts.leg, M + np.arange(K)],
        [(M + K + 1) * _ones(N), _ones(m), _ones(K)],
        M + K + N,
    )


def _limits(limits: list[Floats], N: int, m: int, K: int) -> csc_matrix:
    """Give the rows over the segments alone."""
    n = len(limits)
    values = np.array(limits).T if n else np.empty((m, 0))
    return _sparse(
        [values.ravel()],
        [np.tile(np.arange(n), m)],
        [np.zeros(N, dtype=np.intp), n * _ones(m), np.zeros(K, dtype=np.intp)],
        n,
    )
