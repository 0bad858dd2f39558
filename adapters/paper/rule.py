"""THE fill rule, pure: what a quantity costs at an instant, and how much of it there is.

Reference P: the open of the source bar that starts at the instant. With s = +1 for buys, -1 for
sells, V the volume of the last closed bar, u what was taken of it before at this instant and q the
quantity of this fill:

    a = u / V,  b = (u + q) / V
    impact = impact_bps * (b * sqrt(b) - a * sqrt(a)) / (b - a)
    price  = P * (1 + s * (half_spread_bps + latency_bps + impact) / 10_000)

rounded to the tick against us. For u = 0 the impact is impact_bps * sqrt(q / V). The difference
form makes the total independent of how an order is split: slicing at one instant saves nothing.
Capacity = participation_share * V in whole lots, shared by all orders of the instrument and
instant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from adapters.paper.settings import PaperSettings
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey
from daemon.domain.units import MONEY_STEP

_ZERO: Final = Decimal(0)
_BPS: Final = 1e-4
_NOISE: Final = 1e-12  # far above the rounding of a float, far below any cost


@dataclass(frozen=True, slots=True)
class Terms:
    """Hold what the venue needs of an instrument at every order."""

    index: int
    key: InstrumentKey
    cash_key: CashKey
    price_step: Decimal
    quantity_step: Decimal
    quantity_min: Decimal
    notional_min: Decimal

    @classmethod
    def of(cls, index: int, instrument: Instrument) -> Terms:
        """Take them from the instrument's trading rules."""
        rules = instrument.rules
        return cls(
            index,
            instrument.key,
            instrument.cash_key,
            rules.price_step,
            rules.quantity_step,
            rules.quantity_min,
            rules.notional_min,
        )


class FillRule:
    """Price fills and tell capacities under given settings."""

    __slots__ = ("_fee", "_flat", "_impact", "_share", "is_unlimited")

    def __init__(self, settings: PaperSettings) -> None:
        self._fee = Decimal(repr(float(settings.fee_bps))) / 10_000
        self._flat = (settings.half_spread_bps + settings.latency_bps) * _BPS
        self._impact = settings.impact_bps * _BPS
        share = settings.participation_share
        self._share = None if share is None else Decimal(repr(float(share)))
        self.is_unlimited = share is None  # every quantity fills at once

    def capacity(self, terms: Terms, volume: float) -> Decimal:
        """Give the most that may be filled at an instant, in base units and whole lots."""
        if self._share is None or not 0.0 < volume < math.inf:
            return Decimal(0)
        lots = Decimal(repr(volume)) * self._share // terms.quantity_step
        return lots * terms.quantity_step

    def price(
        self,
        terms: Terms,
        reference: float,
        quantity: Decimal,
        used: Decimal,
        volume: float,
    ) -> Decimal:
        """Give the price of filling `quantity` (signed) after `used` (>= 0) at this instant."""
        cost = self._flat
        if self._impact:
            taken = float(used) if used else 0.0
            cost += self._impact * _impact_share(taken, abs(float(quantity)), volume)
        if quantity > _ZERO:
            price, rounding = reference * (1.0 + cost), ROUND_CEILING
        else:
            price, rounding = reference * (1.0 - cost), ROUND_FLOOR
        # Read exactly; where costs are in it, without the noise of the multiplication: 100 x 1.1 is
        # 110.00000000000001 in floats, which must not become one tick more.
        exact = Decimal(f"{price:.15g}" if cost > _NOISE else repr(price))
        return (exact / terms.price_step).to_integral_value(rounding) * terms.price_step

    def fee(self, notional: Decimal) -> Decimal:
        """Give the fee of a fill from its notional (>= 0), to 1e-8 of the quote currency."""
        # 5 bps of 1_000 USDT = 0.50 USDT
        return (notional * self._fee).quantize(MONEY_STEP, ROUND_HALF_EVEN)


def _impact_share(used: float, quantity: float, volume: float) -> float:
    """Give the impact as a fraction of that of a whole bar's volume."""
    a, b = used / volume, (used + quantity) / volume
    if not a:
        return math.sqrt(b)
    # (b^1.5 - a^1.5) / (b - a) written without the difference of nearly equal numbers
    return (a + b + math.sqrt(a * b)) / (math.sqrt(a) + math.sqrt(b))
