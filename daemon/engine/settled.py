"""What is known of funding: the last settled rate of each instrument, and how long it was for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.messages import FundingRates
from daemon.domain.units import HOUR_MS

HOURS_MAX: Final = 24.0  # a longer pause is a gap in what was told: no interval, and no rate


@dataclass(slots=True)
class Settled:
    """Hold (N,) by column, NaN unknown.

    rates: of the newest settlement. at_ms: when that was. hours: from the settlement before to it.
    """

    rates: Floats
    at_ms: Floats
    hours: Floats

    @classmethod
    def none(cls, instruments_n: int) -> Settled:
        """Give what is known before the first settlement."""
        return cls(*np.full((3, instruments_n), np.nan))

    def take(self, event: FundingRates) -> None:
        """Take rates in; what comes late, after a newer settlement, changes nothing."""
        known = ~np.isnan(event.rates) & ~(self.at_ms > event.settle_ms)
        hours = (event.settle_ms - self.at_ms) / HOUR_MS
        follows = known & (hours > 0.0) & (hours <= HOURS_MAX)
        self.hours = np.where(follows, hours, self.hours)
        self.rates = np.where(known, event.rates, self.rates)
        self.at_ms = np.where(known, float(event.settle_ms), self.at_ms)

    def fresh(self, instant_ms: int) -> Floats:
        """Give the rates (N,), NaN where the last settlement is too long before an instant."""
        is_fresh = instant_ms - self.at_ms <= HOURS_MAX * HOUR_MS
        return np.where(is_fresh, self.rates, np.nan)

    def to_plain(self) -> dict[str, Floats]:
        """Give a form that the snapshot codec can write."""
        return {"rates": self.rates, "at_ms": self.at_ms, "hours": self.hours}

    @classmethod
    def from_plain(cls, plain: object) -> Settled:
        """Rebuild it to the last bit; older snapshots hold the rates alone."""
        if not isinstance(plain, Mapping):
            rates = np.array(plain, dtype=np.float64)
            return cls(rates, np.full(len(rates), np.nan), np.full(len(rates), np.nan))
        kept = cast(Mapping[str, Floats], plain)
        return cls(*(np.array(kept[k], dtype=np.float64) for k in ("rates", "at_ms", "hours")))
