"""Make a solver's nearly right book exactly right.

An interior point solver stops a little away from every limit: a leg that should rest trades dust, a
capped leg is a hair below its cap. Which legs rest, are capped or are flat can be read from the
multipliers, though: the best weight of a leg given all others is

    argmin over z of  d (z - v)^2 / 2 + (c + tau) |z - w0| + lambda |z|,  v = w + pull / d

and it is exactly w0, 0 or an end of the box for those. With them known, the others follow from
linear equations. A pattern that reproduces itself, with every leg at its best and prices only on
limits that bind, meets all conditions of the optimum: it is the answer, to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from strategies.factor_form import FactorForm
from strategies.separable import Legs

PATTERNS_MAX: Final = 12
REFINEMENTS: Final = 2
RANK_TOLERANCE: Final = 1e-11
WEIGHT_TOLERANCE: Final = 1e-6  # of a typical weight: the objective is off by its square
SOLUTION_TOLERANCE: Final = 1e-9  # of limits, and of what is lost by a price on one with room
LIMIT_TOLERANCE: Final = 1e-12  # relative


@dataclass(frozen=True, slots=True)
class Tied:
    """Hold the programme of the free legs: legs by themselves, and what ties them.

    risk: S times the risk aversion. X (N, M) orthonormal columns, totals (M,). gross_max and
    turnover_max: what the sums |w| and |w - w0| may reach, infinite where they do not bind. The
    curvature of `legs` is the diagonal of S, their pull alpha.
    """

    legs: Legs
    risk: FactorForm
    X: Floats
    totals: Floats
    gross_max: float
    turnover_max: float


@dataclass(frozen=True, slots=True)
class Found:
    """Hold weights (N,) and multipliers: b (M,) of the exposures, gross and turnover prices."""

    weights: Floats
    b: Floats
    gross_price: float
    trade_price: float


def best_alone(tied: Tied, at: Found) -> Floats:
    """Give each leg's best weight, all others and the multipliers being as they are."""
    w = at.weights
    pull = tied.legs.pull - tied.risk.times(w) - tied.X @ at.b + tied.legs.curvature * w
    return tied.legs.at(pull, at.gross_price, at.trade_price)


def crossed_over(tied: Tied, start: Found) -> Found | None:
    """Give the exact solution near `start`, or None where no pattern reproduces itself."""
    gross_slack = tied.gross_max - float(np.abs(start.weights).sum())
    trade_slack = tied.turnover_max - float(np.abs(start.weights - tied.legs.held).sum())
    now = replace(
        start,
        gross_price=start.gross_price if start.gross_price > gross_slack else 0.0,
        trade_price=start.trade_price if start.trade_price > trade_slack else 0.0,
    )
    seen: Pattern | None = None
    for _ in range(PATTERNS_MAX):
        pattern = _pattern(tied, now)
        if seen is not None and pattern.equals(seen):
            return now if _is_solution(tied, now, pattern) else None
        seen = pattern
        following = _solved(tied, pattern, now)
        if following is None:
            return None
        now = _with_limits(tied, following)
    return None


def _is_solution(tied: Tied, at: Found, pattern: Pattern) -> bool:
    """Tell whether legs are at their best, limits hold, and those with a price bind."""
    off = float(np.abs(pattern.z - at.weights).max(initial=0.0))
    gap = float(np.abs(tied.X.T @ at.weights - tied.totals).max(initial=0.0))
    unspent = tied.gross_max - float(np.abs(at.weights).sum())
    untraded = tied.turnover_max - float(np.abs(at.weights - tied.legs.held).sum())
    lost = max(
        at.gross_price * unspent if pattern.gross else 0.0,
        at.trade_price * untraded if pattern.turnover else 0.0,
    )
    broken = max(gap, -unspent, -untraded)
    return off <= WEIGHT_TOLERANCE and max(broken, lost) <= SOLUTION_TOLERANCE


@dataclass(frozen=True, slots=True)
class Pattern:
    """Hold what each leg does: fixed weights z (N,), which are free, and on which side of kinks.

    side: sign of the free weights; trade: sign of their trades. gross, turnover: the limit binds.
    """

    z: Floats
    free: Flags
    side: Floats
    trade: Floats
    gross: bool
    turnover: bool

    def equals(self, other: Pattern) -> bool:
        """Tell whether both say the same of every leg."""
        pairs: list[tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]] = [
            (self.free, other.free),
            (self.z[~self.free], other.z[~other.free]),
            (self.side, other.side),
            (self.trade, other.trade),
        ]
        alike = (self.gross, self.turnover) == (other.gross, other.turnover)
        return alike and all(np.array_equal(a, b) for a, b in pairs)


def _pattern(tied: Tied, at: Found) -> Pattern:
    legs = tied.legs
    z = best_alone(tied, at)
    rests = (z == legs.held) & (legs.cost + at.trade_price > 0)
    free = (z > legs.low) & (z < legs.high) & ~rests
    if at.gross_price > 0:
        free &= z != 0
    return Pattern(
        z=z,
        free=free,
        side=np.sign(z) * (free & (at.gross_price > 0)),
        trade=np.sign(z - legs.held) * free,
        gross=bool(at.gross_price > 0),
        turnover=bool(at.trade_price > 0),
    )


def _solved(tied: Tied, pattern: Pattern, before: Found) -> Found | None:
    """Solve for the free legs and the multipliers, the pattern given; None if that fails."""
    legs, free = tied.legs, pattern.free
    w = np.where(free, 0.0, pattern.z)
    rows = [tied.X[free].T]
    wanted = [tied.totals - tied.X.T @ w]
    if pattern.gross:
        rows.append(pattern.side[free][None])
        wanted.append(np.array([tied.gross_max - float(np.abs(w).sum())]))
    if pattern.turnover:
        traded = float(np.abs(w - legs.held)[~free].sum())
        already = float(pattern.trade[free] @ legs.held[free])
        rows.append(pattern.trade[free][None])
        wanted.append(np.array([tied.turnover_max - traded + already]))
    A, e = np.vstack(rows), np.concatenate(wanted)
    prices = [before.gross_price] * pattern.gross + [before.trade_price] * pattern.turnover
    mu = np.concatenate([before.b, prices])
    if free.any():
        pull = legs.pull[free] - legs.cost[free] * pattern.trade[free]
        pull = pull - tied.risk.loadings[free] @ (tied.risk.loadings.T @ w)
        inverse = _Inverse(tied.risk.loadings[free], tied.risk.specific[free])
        part, mu = _with_rows(inverse, pull, A, e, mu)
        w[free] = part
    if not np.isfinite(w).all():
        return None
    M = len(before.b)
    gross_price = float(mu[M]) if pattern.gross else 0.0
    trade_price = float(mu[-1]) if pattern.turnover else 0.0
    return Found(w, mu[:M], gross_price, trade_price)


class _Inverse:
    """Apply (F F' + diag(D))^-1, with D > 0 and few columns in F."""

    def __init__(self, loadings: Floats, specific: Floats) -> None:
        n, K = loadings.shape
        self.specific = specific[:, None]
        self.loadings, self.whole = loadings, None
        if n <= 2 * K:
            self.whole = np.linalg.inv(loadings @ loadings.T + np.diag(specific))
        else:
            self.scaled = loadings / self.specific
            self.core = np.linalg.inv(np.eye(K) + loadings.T @ self.scaled)

    def __call__(self, right: Floats) -> Floats:
        """Give the inverse times right (n, m)."""
        if self.whole is not None:
            return np.asarray(self.whole @ right)
        inner = self.core @ (self.scaled.T @ right)
        return np.asarray((right - self.loadings @ inner) / self.specific)


def _with_rows(
    inverse: _Inverse, pull: Floats, A: Floats, e: Floats, mu: Floats
) -> tuple[Floats, Floats]:
    """Give w and multipliers with H w + A'mu = pull, A w = e, the multipliers nearest to `mu`."""
    both = inverse(np.column_stack([pull - A.T @ mu, A.T]))
    w, spread = both[:, 0], both[:, 1:]
    schur = A @ spread
    back = np.linalg.pinv(schur, rcond=RANK_TOLERANCE, hermitian=True)
    for _ in range(1 + REFINEMENTS):
        change = back @ (A @ w - e)
        w, mu = w - spread @ change, mu + change
    return w, mu


def _with_limits(tied: Tied, found: Found) -> Found:
    """Let a limit go whose price turned negative, and price one that is broken."""
    gross = float(np.abs(found.weights).sum())
    trades = float(np.abs(found.weights - tied.legs.held).sum())
    gross_price, trade_price = max(found.gross_price, 0.0), max(found.trade_price, 0.0)
    tiny = float(np.finfo(float).tiny)
    if gross > tied.gross_max * (1.0 + LIMIT_TOLERANCE):
        gross_price = max(gross_price, tiny)
    if trades > tied.turnover_max * (1.0 + LIMIT_TOLERANCE):
        trade_price = max(trade_price, tiny)
    return replace(found, gross_price=gross_price, trade_price=trade_price)
