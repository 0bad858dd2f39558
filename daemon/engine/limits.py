"""The limits that bound the book, as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from daemon.domain.units import require

_OPTIONAL: Final = (
    "beta_weight_max",
    "venue_weight_max",
    "collar_bps",
    "orders_minute_max",
    "day_loss_max",
    "drawdown_max",
    "margin_ratio_max",
)


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """Bound the book, in weights unless the name says otherwise.

    net_weight_max holds at every instant, counting open orders at their worst case; so do
    beta_weight_max, of |sum of weight x beta|, and venue_weight_max, of the gross at one venue.
    mark_age_ms_max: an instrument without a newer price than this is not traded. collar_bps: how
    far an order's limit or reference price may be from the mark. orders_minute_max: within any
    minute of market time. day_loss_max: of the equity at the start of the UTC day. drawdown_max: of
    the highest equity. margin_ratio_max: maintenance margin over margin balance at a venue, beyond
    which nothing is opened there. None switches a limit off.
    """

    gross_weight_max: float = 2.0
    net_weight_max: float = 0.25
    name_weight_max: float = 0.5
    order_weight_max: float = 0.25
    orders_open_max: int = 500
    mark_age_ms_max: int = 4 * 3_600_000
    beta_weight_max: float | None = None
    venue_weight_max: float | None = None
    collar_bps: float | None = None
    orders_minute_max: int | None = None
    day_loss_max: float | None = None
    drawdown_max: float | None = None
    margin_ratio_max: float | None = None

    def __post_init__(self) -> None:
        for name in ("gross_weight_max", "net_weight_max", "name_weight_max", "order_weight_max"):
            require(getattr(self, name) > 0, f"{name} {getattr(self, name)} must be positive")
        for name in _OPTIONAL:
            limit = getattr(self, name)
            require(limit is None or limit > 0, f"{name} {limit} must be positive, or None")
