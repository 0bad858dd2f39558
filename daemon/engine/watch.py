"""Limits on single orders beyond size: venue share, price collar, orders a minute, margin.

Orders that only lessen an exposure are held to the collar and to the count alone.
"""

from __future__ import annotations

from typing import Final

from daemon.domain.order import Order, RefusalReason, Refused
from daemon.domain.units import MINUTE_MS
from daemon.engine.book import Book
from daemon.engine.limits import RiskLimits

_ASKED: Final = ("venue_weight_max", "collar_bps", "orders_minute_max", "margin_ratio_max")


class OrderWatch:
    """Judge orders by limits that are off by default; there is none where all are off.

    sent_ms: market times of the orders of the last minute; margins: newest ratio by venue. Both are
    the state's own, which changes them.
    """

    def __init__(
        self, limits: RiskLimits, book: Book, sent_ms: list[int], margins: dict[str, float]
    ) -> None:
        self._limits = limits
        self._book = book
        self._sent_ms = sent_ms
        self._margins = margins

    @classmethod
    def of(
        cls, limits: RiskLimits, book: Book, sent_ms: list[int], margins: dict[str, float]
    ) -> OrderWatch | None:
        """Give one where a limit asks for it."""
        asked = any(getattr(limits, name) is not None for name in _ASKED)
        return cls(limits, book, sent_ms, margins) if asked else None

    def note(self, now_ms: int) -> None:
        """Count an order that leaves now; only the last minute is remembered."""
        if self._limits.orders_minute_max is not None:
            self._forget(now_ms)
            self._sent_ms.append(now_ms)

    def minute_is_full(self, now_ms: int) -> bool:
        """Tell whether no further order may leave before a minute has passed since an old one."""
        if self._limits.orders_minute_max is None:
            return False
        self._forget(now_ms)
        return len(self._sent_ms) >= self._limits.orders_minute_max

    @property
    def free_ms(self) -> int | None:
        """Give when the next order may leave; None where one may leave now."""
        most, sent = self._limits.orders_minute_max, self._sent_ms
        return sent[0] + MINUTE_MS if most is not None and len(sent) >= most else None

    def _forget(self, now_ms: int) -> None:
        while self._sent_ms and self._sent_ms[0] <= now_ms - MINUTE_MS:
            del self._sent_ms[0]

    def refusal(self, order: Order, value: float, now_ms: int, *, reduces: bool) -> Refused | None:
        """Give why an order of this signed notional may not leave, or None."""
        if self.minute_is_full(now_ms):
            text = f"{len(self._sent_ms)} orders within a minute"
            return Refused(order, RefusalReason.ORDERS_MINUTE, text)
        off_bps = self._off_bps(order)
        if self._limits.collar_bps is not None and not off_bps <= self._limits.collar_bps:
            return Refused(order, RefusalReason.COLLAR, f"{off_bps:.1f} bps from the mark")
        return None if reduces else self._opening(order, value)

    def _off_bps(self, order: Order) -> float:
        mark = self._book.prices[order.index]
        price = order.reference_price if order.limit_price is None else float(order.limit_price)
        return abs(price / mark - 1.0) * 10_000

    def _opening(self, order: Order, value: float) -> Refused | None:
        venue, limits = order.key.venue, self._limits
        ratio = self._margins.get(venue)
        most = limits.margin_ratio_max
        if ratio is not None and most is not None and not ratio <= most:
            return Refused(order, RefusalReason.MARGIN, f"margin ratio {ratio:.4f} at {venue}")
        share = limits.venue_weight_max
        if share is None:
            return None
        size = value / self._book.prices[order.index]
        could = self._book.worst_at(venue, order.index, size)
        if could > share * self._book.equity:
            text = f"{venue} could hold {could / self._book.equity:.4f} of equity"
            return Refused(order, RefusalReason.VENUE, text)
        return None
