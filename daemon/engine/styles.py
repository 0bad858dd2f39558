"""How a plan meets the market: at once, or passively first; in one go, or spread over a window.

A passive order is a post-only limit with a deadline in market time. Past it the order is cancelled,
its end is awaited, and what it did not trade crosses as a market order. Nothing of it is sent twice
while anybody doubts what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum
from typing import Final

from msgspec import Struct

from daemon.domain.instrument import TradingRules
from daemon.domain.units import quantise, require
from daemon.engine.execution import Leg

CANCEL_AGAIN_MS: Final = 15_000  # a cancel that did not end its order is sent again; doubles
CANCELS_MAX: Final = 5  # then the next decision takes it back
HEDGES: Final = ("BTC", "ETH")


class Style(StrEnum):
    """Name how child orders meet the market."""

    CROSS = "cross"
    PASSIVE = "passive"


@dataclass(frozen=True, slots=True)
class ExecutionRules:
    """Hold how plans are carried out.

    passive_ms: how long a passive order may rest, in market time. passive_offset_bps: its distance
    from the reference, away from the market. twap_window_ms, twap_slices_n: legs are spread over so
    long in so many slices; one slice is all at once. hedges: bases, most liquid first, in which the
    rest of a leg that was refused for good is hedged. mends_max: attempts at that a decision.
    cost_feedback: strategies are shown measured costs instead of assumed ones.
    """

    style: Style = Style.CROSS
    passive_ms: int = 60_000
    passive_offset_bps: float = 0.0
    twap_window_ms: int = 0
    twap_slices_n: int = 1
    hedges: tuple[str, ...] = HEDGES
    mends_max: int = 3
    cost_feedback: bool = False

    def __post_init__(self) -> None:
        require(self.passive_ms > 0, f"passive_ms {self.passive_ms} must be positive")
        require(self.twap_slices_n >= 1, f"twap_slices_n {self.twap_slices_n} must be 1 or more")
        require(self.mends_max >= 0, f"mends_max {self.mends_max} must not be negative")
        spread = self.twap_slices_n > 1
        require(not spread or self.twap_window_ms > 0, "twap_slices_n needs a twap_window_ms")


class Waiting(Struct, gc=False):
    """Hold when a passive order is to be taken back (again), and how often that was asked."""

    due_ms: int
    cancels_n: int = 0

    def asked(self, now_ms: int) -> None:
        """Note one more cancel; ask again later, a bounded number of times."""
        pause_ms = CANCEL_AGAIN_MS * 2**self.cancels_n
        self.cancels_n += 1
        self.due_ms = now_ms + pause_ms

    def is_due(self, now_ms: int) -> bool:
        """Tell whether the order is to be taken back now."""
        return self.due_ms <= now_ms and self.may_ask

    @property
    def may_ask(self) -> bool:
        """Tell whether the bound on cancels is not reached."""
        return self.cancels_n < CANCELS_MAX


def passive_price(
    reference: float, rules: TradingRules, offset_bps: float, *, buys: bool
) -> Decimal | None:
    """Give the tick at or beyond reference -+ offset on our own side; None where that is nothing.

    Buys are rounded down and sells up, so that rounding never makes an order cross.
    """
    away = offset_bps / 10_000
    price = reference * (1.0 - away if buys else 1.0 + away)
    rounding = ROUND_FLOOR if buys else ROUND_CEILING
    limit = quantise(price, rules.price_step, rounding)
    return limit if limit > 0 else None


def spread(legs: Sequence[Leg], slices_n: int) -> list[list[Leg]]:
    """Cut every leg into up to `slices_n` parts, and give the parts of each slice.

    A leg too small for so many parts is cut into fewer, at even distances; the last part holds what
    rounding left. Together the parts are the leg to the last lot.
    """
    waves: list[list[Leg]] = [[] for _ in range(slices_n)]
    for leg in legs:
        lots_n = int(abs(leg.left) / leg.rules.quantity_step)
        least_n = max(-int(-leg.smallest // leg.rules.quantity_step), 1)
        parts_n = max(min(slices_n, lots_n // least_n), 1)
        for part in range(parts_n):
            from_n, to_n = lots_n * part // parts_n, lots_n * (part + 1) // parts_n
            quantity = (to_n - from_n) * leg.rules.quantity_step
            quantity = quantity if leg.left > 0 else -quantity
            waves[part * slices_n // parts_n].append(leg.part(quantity))
    return waves
