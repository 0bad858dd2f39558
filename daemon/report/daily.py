"""What a day brought: one table of figures from what the journal holds of it.

A day is 00:00 to 24:00 UTC of market time. Equity, weights and drawdown are those that decisions
saw, so they know nothing between two decisions; the day ends with the first decision after it.

    pnl = equity_last - equity_first - transfers            return = pnl / equity_first
    slippage = sum of signed quantity x (fill price - reference price of its order)

Slippage above 0 was lost. Amounts are in quote currency, weights are fractions of equity, beta is
to the equal-weight market by the covariance that was in use. What is not known is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.decision import Decision
from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill, Order
from daemon.domain.units import DAY_MS, iso

ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Day:
    """Hold what happened in a day, all in order of market time.

    closing: the first decision after the day; None while there is none. orders: whose fills may be
    among these. covariances: as of this day and before it.
    """

    start_ms: int
    decisions: Sequence[Decision]
    closing: Decision | None
    orders: Sequence[Order]
    fills: Sequence[Fill]
    funding: Sequence[FundingPaid]
    transfers: Sequence[Transferred]
    covariances: Sequence[Covariance]


def day_of(at_ms: int) -> int:
    """Give the first instant of the day of an instant."""
    return at_ms - at_ms % DAY_MS


def day_values(day: Day) -> dict[str, object]:
    """Summarise a day with at least one decision, as it is published and printed."""
    seen = [*day.decisions, *([] if day.closing is None else [day.closing])]
    first, last = seen[0], seen[-1]
    fills = list({(fill.key.venue, fill.trade_id): fill for fill in day.fills}.values())
    between = range(first.as_of_ms + 1, last.as_of_ms + 1)
    moved = sum((one.amount for one in day.transfers if one.at_ms in between), ZERO)
    pnl = last.equity - first.equity - float(moved)
    gross = np.array([float(np.nansum(np.abs(d.weights_before))) for d in seen])
    net = np.array([float(np.nansum(d.weights_before)) for d in seen])
    beta = np.array([_beta(d, day.covariances) for d in seen])
    return {
        "day": iso(day.start_ms)[:10],
        "is_whole": day.closing is not None,
        "from": iso(first.as_of_ms),
        "until": iso(last.as_of_ms),
        "equity_first": first.equity,
        "equity_last": last.equity,
        "transfers": moved,
        "pnl": pnl,
        "return": pnl / first.equity if first.equity > 0 else None,
        "drawdown_worst": _drawdown([d.equity for d in seen]),
        "gross_weight_mean": float(gross.mean()),
        "gross_weight_worst": float(gross.max()),
        "net_weight_mean": float(net.mean()),
        "net_weight_worst": _worst(net),
        "beta_weight_mean": _mean(beta),
        "beta_weight_worst": _worst(beta),
        "fees": sum((fill.fee for fill in fills), ZERO),
        "funding": sum((paid.amount for paid in day.funding), ZERO),
        **_traded(fills, day.orders),
        "decisions_n": len(day.decisions),
        "orders_n": sum(len(d.orders) for d in day.decisions),
        "refusals_n": sum(len(d.refusals) for d in day.decisions),
        "fills_n": len(fills),
    }


def day_words(values: dict[str, object]) -> str:
    """Write a summary in a line, for a phone."""
    gained = values["return"]
    share = "" if not isinstance(gained, float) else f" ({gained:+.2%})"
    worst = values["net_weight_worst"]
    net = "?" if not isinstance(worst, float) else f"{worst:+.2%}"
    return (
        f"{values['day']}: P&L {values['pnl']:+,.2f}{share} to {values['equity_last']:,.2f}, "
        f"drawdown {values['drawdown_worst']:.2%}; gross {values['gross_weight_mean']:.2f}, "
        f"worst net {net}; fees {values['fees']:,.2f}, funding {values['funding']:+,.2f}; "
        f"{values['fills_n']} fills, {values['refusals_n']} refusals"
    )


def _traded(fills: Sequence[Fill], orders: Sequence[Order]) -> dict[str, object]:
    """Give turnover and slippage, and the share of the turnover whose slippage is known."""
    reference = {o.order_id: o.reference_price for o in orders if math.isfinite(o.reference_price)}
    turnover = float(sum((abs(f.quantity * f.price) for f in fills), ZERO))
    known = [(float(f.quantity), float(f.price), reference[f.order_id]) for f in fills
             if f.order_id in reference]  # fmt: skip
    covered = math.fsum(abs(quantity * price) for quantity, price, _ in known)
    lost = math.fsum(quantity * (price - wanted) for quantity, price, wanted in known)
    return {
        "turnover": turnover,
        "slippage": lost if known else None,
        "slippage_bps": 1e4 * lost / covered if covered else None,
        "slippage_known_share": covered / turnover if turnover else None,
    }


def _drawdown(equity: Sequence[float]) -> float:
    """Give the deepest fall below an earlier peak, as a fraction of that peak, >= 0."""
    values = np.array(equity)
    peaks = np.maximum.accumulate(values)
    return float(np.max(np.where(peaks > 0, 1.0 - values / np.where(peaks > 0, peaks, 1.0), 0.0)))


def _beta(decision: Decision, covariances: Sequence[Covariance]) -> float:
    """Give the beta of a book by the newest covariance of that time, NaN without one."""
    known = [c for c in covariances if c.as_of_ms <= decision.as_of_ms]
    if not known or len(known[-1].volatility) != len(decision.weights_before):
        return math.nan
    betas = _betas(known[-1])
    held = np.nan_to_num(decision.weights_before)
    return math.nan if np.any(np.isnan(betas[held != 0])) else float(np.nansum(held * betas))


def _betas(covariance: Covariance) -> Floats:
    """Give each instrument's beta (N,) to the mean of all known ones, NaN unknown."""
    known = np.isfinite(covariance.volatility)
    betas = np.full(len(known), np.nan)
    if known.any():
        with_market = covariance.matrix[np.ix_(known, known)].mean(axis=1)
        betas[known] = with_market / with_market.mean()
    return betas


def _mean(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _worst(values: Floats) -> float | None:
    """Give the value furthest from 0, with its sign; None where none is known."""
    known = values[np.isfinite(values)]
    return float(known[np.argmax(np.abs(known))]) if len(known) else None
