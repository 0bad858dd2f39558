"""Turn what an operator must see of a running book into topics: orders, risk, models, correlation.

Weights are signed fractions of equity, quantities are in base units, instants are `_ms` integers.
What is not known is None, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.instrument import Universe
from daemon.domain.order import Order, OrderState

ORDERS_MAX: Final = 60
NAMES_MAX: Final = 24  # of the heat map: more are unreadable, and cost every reader
REALISED_BARS: Final = 168  # a week of hours
REALISED_BARS_MIN: Final = 24


def order_values(order: Order, state: OrderState, filled: object, sent_ms: int) -> dict[str, Any]:
    """Show one open order; quantity and filled are signed base units."""
    return {
        "symbol": order.key.symbol,
        "venue": order.key.venue,
        "state": type(state).__name__.lower(),
        "kind": order.kind,
        "quantity": order.quantity,
        "filled": filled,
        "limit_price": order.limit_price,
        "reference_price": order.reference_price,
        "reduce_only": order.reduce_only,
        "as_of_ms": order.as_of_ms,
        "sent_ms": sent_ms,
    }


def risk_values(
    *,
    limits: Mapping[str, float | int | None],
    measured: Mapping[str, float | None],
    flags: Mapping[str, object],
) -> dict[str, Any]:
    """Show bounds beside what is measured against them, and what holds the book back.

    limits: None switches a limit off. measured: by the name of its limit.
    """
    rows = {
        name: {"limit": limit, "now": measured.get(name)}
        for name, limit in limits.items()
        if limit is not None or measured.get(name) is not None
    }
    return {"limits": rows, **flags}


def correlation_values(
    universe: Universe,
    as_of_ms: int,
    weights: Floats,
    covariance: Covariance | None,
    closes: Floats | None,
) -> dict[str, Any]:
    """Show correlations, predicted and realised, of those with the largest weights, in percent.

    weights: (N,), those of the targets where there are any. closes: (T, N) of hourly bars, the
    newest last; NaN where there is none. Each is the lower triangle without its diagonal, row by
    row, None in it where it is not known; left out where none of it is.
    """
    sizes = np.nan_to_num(np.abs(weights))
    taken = sorted((i for i, _ in universe.taken()), key=lambda i: -float(sizes[i]))
    chosen = sorted(taken[:NAMES_MAX])
    names = dict(universe.taken())
    predicted = None if covariance is None else _known(covariance, chosen)
    realised = None if closes is None else _realised(closes[-REALISED_BARS - 1 :, chosen])
    shown: dict[str, Any] = {
        "as_of_ms": as_of_ms,
        "symbols": [names[i] for i in chosen],
        "estimator": None if covariance is None else covariance.estimator,
        "realised_bars_n": None if closes is None else min(REALISED_BARS, len(closes) - 1),
    }
    if predicted is not None:
        shown["predicted"] = _triangle(predicted)
    if realised is not None:
        shown["realised"] = _triangle(realised)
    return shown


def _known(covariance: Covariance, chosen: Sequence[int]) -> Floats:
    found = covariance.correlation[np.ix_(chosen, chosen)].copy()
    unknown = ~np.isfinite(covariance.volatility[chosen])
    found[unknown, :] = found[:, unknown] = np.nan
    return found


def _realised(closes: Floats) -> Floats | None:
    """Give Pearson's correlation of log returns over the bars that all names have, or None."""
    returns = np.diff(np.log(closes), axis=0)  # (T, n)
    whole = returns[np.isfinite(returns).all(axis=1)]
    if len(whole) < REALISED_BARS_MIN or whole.shape[1] < 2:
        return None
    centred = whole - whole.mean(axis=0)
    size = np.sqrt((centred**2).sum(axis=0))
    size[size == 0.0] = np.nan
    found: Floats = centred.T @ centred / np.outer(size, size)
    return found


def _triangle(matrix: Floats) -> list[int | None]:
    rows = matrix[np.tril_indices(len(matrix), -1)]
    known = np.isfinite(rows)
    whole = np.rint(np.where(known, rows, 0.0) * 100.0).astype(int).tolist()
    return [value if there else None for value, there in zip(whole, known.tolist(), strict=True)]


def models_values(rows: Sequence[Mapping[str, object]], note: str = "") -> dict[str, Any]:
    """Show the models of the registry; note: why they cannot be read, '' where they can."""
    return {"models": list(rows), "note": note}
