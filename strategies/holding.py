"""Keep a book that is not to be traded, save what its neutrality asks for.

Prices and betas move under a book on hold. Its dollars and its exposures to factors may drift as
far as a share of its gross; what is beyond is corrected, and only by making legs smaller:

    min over w of  sum of (w_i - held_i)^2 / (2 |held_i|) + |w_i - held_i|
    subject to     |X_j'w| <= drift_j,  w_i between 0 and held_i, 0 where it may not be held

The second term dominates: few legs move, those first that carry most of what is to go. The empty
book keeps every limit, so there is always an answer.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from daemon.domain.bar import Flags, Floats
from strategies import rebalance
from strategies.separable import Legs, NoMultipliersError, with_exposures

DRIFT_SHARE_MAX: Final = 0.01  # |net| / gross that a book on hold may drift to
# Exposure to a factor over gross that it may drift to: betas are measured anew each hour.
FACTOR_DRIFT_SHARE_MAX: Final = rebalance.FACTOR_DRIFT_RATIO * DRIFT_SHARE_MAX
LEAST_LEG: Final = 1e-3  # stiffness of legs that are smaller
SLACK: Final = 1e-6  # of the stiffness of a leg as large as the book: next to none


def kept_neutral(held: Floats, eligible: Flags, factors: Floats | None = None) -> Floats:
    """Give the held weights (N,), shrunk where neutrality asks for it; no leg ever grows.

    eligible: (N,) bool, what is not goes to zero. factors: (N, M) exposures to be neutral to
    besides dollars, none NaN; None for none. Dollars beyond their drift, or with legs to close,
    are brought to zero; exposures beyond theirs to its edge.
    """
    kept = np.where(eligible, held, 0.0)
    gross = float(np.abs(kept).sum())
    is_closing = bool((kept != held).any())
    off = is_closing or abs(float(kept.sum())) > DRIFT_SHARE_MAX * gross
    if factors is not None and factors.shape[1]:
        book = _in_dollars(held, kept, is_closing) if off else kept
        if _inside(book, factors, gross):
            return book
        return _inside_all(kept, factors, gross, 0.0 if off else DRIFT_SHARE_MAX * gross)
    return _in_dollars(held, kept, is_closing) if off else held


def _inside(weights: Floats, factors: Floats, gross: float) -> bool:
    most = float(np.abs(factors.T @ weights).max(initial=0.0))
    return most <= FACTOR_DRIFT_SHARE_MAX * gross


def _in_dollars(held: Floats, kept: Floats, is_closing: bool) -> Floats:
    """Shrink the heavier side: in proportion for legs that close, else the largest leg alone."""
    if not is_closing:
        return rebalance.trimmed(kept)
    return rebalance.neutral_rebalance(
        held,
        kept,
        np.zeros(len(kept)),
        np.maximum(np.abs(kept), LEAST_LEG),
        rebalance.limits(
            held,
            weight_max=0.0,
            reduce_only=np.ones(len(kept), dtype=bool),
            closing=kept != held,
        ),
        drift_max=0.0,
    )


def _inside_all(kept: Floats, factors: Floats, gross: float, net_max: float) -> Floats:
    """Solve the problem of the page; what an exposure keeps is one more leg, in a box of its own.

    Where the search for prices fails, the book in dollars is scaled down to its edges.
    """
    X = np.column_stack([np.ones(len(kept)), factors])
    M = X.shape[1]
    edges = np.full(M, FACTOR_DRIFT_SHARE_MAX * gross)
    edges[0] = net_max
    rests = np.clip(X.T @ kept, -edges, edges)
    stiff = 1.0 / np.maximum(np.abs(kept), LEAST_LEG)
    slack = np.full(M, SLACK / gross)
    legs = Legs(
        curvature=np.concatenate([stiff, slack]),
        pull=np.concatenate([stiff * kept, slack * rests]),
        cost=np.concatenate([np.ones(len(kept)), np.zeros(M)]),
        held=np.concatenate([kept, rests]),
        low=np.concatenate([np.minimum(kept, 0.0), -edges]),
        high=np.concatenate([np.maximum(kept, 0.0), edges]),
    )
    try:
        found = with_exposures(legs, np.vstack([X, -np.eye(M)]), np.zeros(M))
        return np.asarray(found[: len(kept)])
    except (NoMultipliersError, np.linalg.LinAlgError):
        book = rebalance.trimmed(kept) if net_max == 0.0 else kept
        most = float(np.abs(factors.T @ book).max())
        return book * min(1.0, FACTOR_DRIFT_SHARE_MAX * gross / most) if most else book
