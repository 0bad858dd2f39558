"""What an operator sees beside the book: open orders, limits and their use, correlations.

Orders are shown at most every ORDERS_PAUSE_S, however many change: an engine that sends hundreds
must not write hundreds of tables.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.decision import Decision
from daemon.domain.units import HOUR_MS
from daemon.engine.engine import Engine
from daemon.status.book_topics import ORDERS_MAX, correlation_values, order_values, risk_values

ORDERS_PAUSE_S: Final = 0.2

Show = Callable[[str, Mapping[str, object]], None]


class BookTopics:
    """Publish what changed of orders, risk and correlation."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._orders_seen: tuple[int, int, int] = (0, 0, 0)
        self._waiting: asyncio.TimerHandle | None = None
        self._engine: Engine | None = None

    def look(self, engine: Engine) -> None:
        """Show the open orders soon, if any came, moved or went."""
        orders = engine.state.orders
        seen = (orders.submitted_n, orders.ended_n, len(orders.open))
        if seen != self._orders_seen:
            self._orders_seen = seen
            self._soon(engine)

    def moved(self, engine: Engine) -> None:
        """Show the open orders soon: one was answered or filled."""
        self._soon(engine)

    def _soon(self, engine: Engine) -> None:
        self._engine = engine
        if self._waiting is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._show_orders()
            return
        self._waiting = loop.call_later(ORDERS_PAUSE_S, self._show_orders)

    def close(self) -> None:
        """Show what still waits, and wait no more."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._show_orders()

    def _show_orders(self) -> None:
        self._waiting = None
        if self._engine is not None:
            self._show("orders", _orders(self._engine))

    def risk(self, engine: Engine) -> None:
        """Show every limit beside what is measured against it."""
        self._show("risk", _risk(engine))

    def decided(self, engine: Engine, decision: Decision) -> None:
        """Show correlations, predicted and realised, of what a decision wants."""
        target = decision.target
        weights = decision.weights_before if target is None else target.weights
        self._correlation(engine, decision.as_of_ms, weights)

    def started(self, engine: Engine) -> None:
        """Show what a book that goes on knows already."""
        self._soon(engine)
        if engine.state.book.equity > 0:
            weights = engine.state.book.weights()
            self._correlation(engine, engine.state.instant_ms, weights)

    def _correlation(self, engine: Engine, as_of_ms: int, weights: Floats) -> None:
        hours = [w for t, w in engine.state.windows.items() if t.ms == HOUR_MS]
        closes = hours[0].view().closes if hours and hours[0].filled else None
        covariance = engine.state.covariance
        shown = correlation_values(engine.universe, as_of_ms, weights, covariance, closes)
        self._show("correlation", shown)


def _orders(engine: Engine) -> dict[str, Any]:
    table = engine.state.orders
    newest = list(table.open.items())[-ORDERS_MAX:]
    return {
        "open_n": len(table.open),
        "submitted_n": table.submitted_n,
        "ended_n": table.ended_n,
        "open": {
            str(order_id): order_values(r.order, r.state, r.filled, r.sent_ms)
            for order_id, r in reversed(newest)
        },
    }


def _risk(engine: Engine) -> dict[str, Any]:
    state, book, limits = engine.state, engine.state.book, engine.rules.limits
    equity = book.equity
    weights = book.weights() if equity > 0 else book.quantity * 0.0
    sizes = np.abs(weights[np.isfinite(weights)])
    measured: dict[str, float | None] = {
        "gross_weight_max": float(sizes.sum()),
        "net_weight_max": float(np.nansum(weights)),
        "name_weight_max": float(sizes.max()) if len(sizes) else None,
        "orders_open_max": len(state.orders.open),
        "margin_ratio_max": max(state.margins.values(), default=None),
    }
    if book.beta is not None and equity > 0:
        measured["beta_weight_max"] = book.beta.net / equity
    if state.day_equity > 0:
        measured["day_loss_max"] = 1.0 - equity / state.day_equity
    if state.high_equity > 0:
        measured["drawdown_max"] = 1.0 - equity / state.high_equity
    flags = {
        "trading_state": str(state.trading),
        "paused": state.paused,
        "flattening": state.flattening,
        "reduce_only": state.operator_reduce_only,
        "halted_why": state.halted_why,
        "day_lost": state.day_lost,
        "holds": dict(state.holds),
        "reasons": state.reasons_text,
        "unresolved_n": sum(
            type(r.state).__name__ == "Uncertain" for r in state.orders.open.values()
        ),
    }
    return risk_values(limits=asdict(limits), measured=measured, flags=flags)
