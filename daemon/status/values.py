"""Turn domain values into the topics that Redis, MQTT and people see.

Weights are signed fractions of equity, amounts are in quote currency, instants are `_ms` integers
with an ISO twin where people read them. What is not known is left out or None, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.decision import Decision
from daemon.domain.forecast import Signals
from daemon.domain.instrument import InstrumentKey, Universe
from daemon.domain.messages import Alert
from daemon.domain.order import Fill
from daemon.domain.portfolio import Ledger
from daemon.domain.units import iso


def status_values(
    *,
    now_ms: int,
    trading_state: str,
    equity: float,
    weights: Floats,
    ledger: Ledger,
    next_decision_ms: int | None,
    decisions_n: int,
    orders_open_n: int,
    note: str = "",
    band_health: float | None = None,
) -> dict[str, Any]:
    """Summarise a running book; weights: (N,) signed fractions of equity.

    band_health: as of the newest decision, `TargetPortfolio.health`.
    """
    return {
        "market_time": iso(now_ms),
        "market_time_ms": now_ms,
        "trading_state": trading_state,
        "equity": equity,
        "cash": sum(ledger.cash.values(), Decimal(0)),
        "gross_weight": float(np.nansum(np.abs(weights))),
        "net_weight": float(np.nansum(weights)),
        "positions_n": sum(1 for p in ledger.positions.values() if p.quantity),
        "orders_open_n": orders_open_n,
        "decisions_n": decisions_n,
        "fills_n": ledger.fills,
        "fees": ledger.fees,
        "funding": ledger.funding,
        "turnover": ledger.turnover,
        "transfers": ledger.transfers,
        "next_decision": iso(next_decision_ms) if next_decision_ms is not None else None,
        "next_decision_ms": next_decision_ms,
        "band_health": band_health,
        "note": note,
    }


def covariance_values(covariance: Covariance) -> dict[str, Any]:
    """Show whose covariance is in use and how the estimator that was asked for did of late."""
    shown: dict[str, Any] = {
        "estimator": covariance.estimator,
        "as_of": iso(covariance.as_of_ms),
        "note": covariance.note,
    }
    if covariance.watch is not None:
        shown |= {
            "mean_correlation_said": covariance.watch.said,
            "mean_correlation_came": covariance.watch.came,
            "excess_loss": covariance.watch.excess,
            "hours_n": covariance.watch.hours_n,
        }
    return shown


def positions_values(
    universe: Universe,
    ledger: Ledger,
    marks: Floats,
    equity: float,
    outside: Mapping[InstrumentKey, float] | None = None,
) -> dict[str, Any]:
    """Show what is held, by symbol; marks: (N,) prices, NaN leaves the value unknown.

    outside: prices of what is held beside the universe.
    """
    shown: dict[str, Any] = {}
    for key, position in ledger.positions.items():
        if not position.quantity:
            continue
        index = universe.index.get(key)
        mark = (outside or {}).get(key, math.nan) if index is None else float(marks[index])
        notional = float(position.quantity) * mark
        shown[key.symbol] = {
            "venue": key.venue,
            "quantity": position.quantity,
            "average_price": position.average_price,
            "mark": mark,
            "notional": notional,
            "weight": notional / equity if equity > 0 else None,
            "gain": notional - float(position.cost),
        }
    return shown


def ranks(decision: Decision) -> Floats | None:
    """Give each instrument's rank by signed alpha, 1 = strongest long, (N,), NaN without signal."""
    signals = decision.target.signals if decision.target is not None else None
    if signals is None:
        return None
    placed = np.full(len(signals.alpha), np.nan)
    known = np.flatnonzero(np.isfinite(signals.alpha))
    placed[known[np.argsort(-signals.alpha[known], kind="stable")]] = np.arange(1, len(known) + 1)
    return placed


def targets_values(universe: Universe, decision: Decision) -> dict[str, Any]:
    """Show what is wanted and why, by symbol; empty without a target."""
    target = decision.target
    if target is None:
        return {}
    placed, signals = ranks(decision), target.signals
    shown: dict[str, Any] = {}
    for i, symbol in universe.taken():
        row: dict[str, Any] = {
            "weight": target.weights[i],
            "ideal": target.ideal[i],
            "before": decision.weights_before[i],
            "band": target.band[i],
        }
        if signals is not None and placed is not None:
            row |= {
                "rank": int(placed[i]) if np.isfinite(placed[i]) else None,
                "alpha": signals.alpha[i],
                "strength": signals.strength[i],
                "probability": signals.probability[i],
                "consistency": signals.consistency[i],
                "confidence": signals.confidence[i],
                **_outcome(signals, i),
            }
        if target.reduce_only is not None:
            row["reduce_only"] = bool(target.reduce_only[i])
        shown[symbol] = row
    return shown


def _outcome(signals: Signals, i: int) -> dict[str, Any]:
    """Show what the model states of the outcome itself; nothing where it states nothing."""
    if signals.up is None or signals.half_width is None:
        return {}
    low, high = (signals.alpha[i] + side * signals.half_width[i] for side in (-1.0, 1.0))
    return {"up": signals.up[i], "outcome_low": low, "outcome_high": high}


def predictions_values(universe: Universe, decision: Decision) -> dict[str, Any]:
    """Show forecasts by symbol and timeframe: mean and standard error in residual volatilities."""
    shown: dict[str, Any] = {symbol: {} for _, symbol in universe.taken()}
    for prediction in decision.predictions:
        errors = np.sqrt(prediction.variance)
        for i, symbol in universe.taken():
            shown[symbol][prediction.timeframe.label] = {
                "mean": prediction.mean[i],
                "standard_error": errors[i],
                "as_of": iso(prediction.as_of_ms),
                "model": prediction.model_id,
            }
    return shown


def decision_values(decision: Decision, symbols: Sequence[str]) -> dict[str, Any]:
    """Show one decision as a stream entry; its digest is what two runs compare."""
    target = decision.target
    return {
        "as_of": iso(decision.as_of_ms),
        "as_of_ms": decision.as_of_ms,
        "sequence": decision.sequence,
        "kind": decision.kind,
        "equity": decision.equity,
        "gross_weight": float(np.nansum(np.abs(decision.weights_before))),
        "net_weight": float(np.nansum(decision.weights_before)),
        "target_gross_weight": None if target is None else float(np.abs(target.weights).sum()),
        "target_net_weight": None if target is None else float(target.weights.sum()),
        "band_health": None if target is None else target.health,
        "orders": [
            {"order_id": o.order_id, "symbol": o.key.symbol, "quantity": o.quantity}
            for o in decision.orders
        ],
        "refusals": [
            {"symbol": r.order.key.symbol, "reason": r.reason, "detail": r.detail}
            for r in decision.refusals
        ],
        "absent": [symbols[i] for i in decision.absent],
        "note": decision.note or (target.note if target is not None else ""),
        "solved": "" if target is None or target.solved is None else target.solved.words,
        "digest": decision.digest,
    }


def fill_values(fill: Fill) -> dict[str, Any]:
    """Show one fill as a stream entry; (venue, trade_id) names it once and for all."""
    return {
        "at": iso(fill.at_ms),
        "at_ms": fill.at_ms,
        "trade_id": fill.trade_id,
        "order_id": fill.order_id,
        "venue": fill.key.venue,
        "symbol": fill.key.symbol,
        "quantity": fill.quantity,
        "price": fill.price,
        "fee": fill.fee,
    }


def alert_values(alert: Alert) -> dict[str, Any]:
    """Show one alert as a stream entry."""
    return {"at": iso(alert.at_ms), "at_ms": alert.at_ms, "kind": alert.kind, "text": alert.text}


def decision_topics(universe: Universe, decision: Decision) -> Mapping[str, Mapping[str, Any]]:
    """Give the topics that change with a decision, ready to be published one by one."""
    return {
        "predictions": predictions_values(universe, decision),
        "targets": targets_values(universe, decision),
        "decision": decision_values(decision, universe.symbols),
    }
