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

    rates: of the newest settlement. at_ms: when that was. pause: hours from the settlement before
    to it. hours: the shorter of the last two pauses, so that one settlement that was missed does
    not seem to be a longer interval; one that is longer is believed at its second pause.
    """

    rates: Floats
    at_ms: Floats
    hours: Floats
    pause: Floats

    @classmethod
    def none(cls, instruments_n: int) -> Settled:
        """Give what is known before the first settlement."""
        return cls(*np.full((4, instruments_n), np.nan))

    def take(self, event: FundingRates) -> None:
        """Take rates in; what comes late, after a newer settlement, changes nothing."""
        known = ~np.isnan(event.rates) & ~(self.at_ms > event.settle_ms)
        pause = (event.settle_ms - self.at_ms) / HOUR_MS
        follows = known & (pause > 0.0) & (pause <= HOURS_MAX)
        self.hours = np.where(follows, np.fmin(pause, self.pause), self.hours)
        self.pause = np.where(follows, pause, self.pause)
        self.rates = np.where(known, event.rates, self.rates)
        self.at_ms = np.where(known, float(event.settle_ms), self.at_ms)

    def fresh(self, instant_ms: int) -> Floats:
        """Give the rates (N,), NaN where the last settlement is too long before an instant."""
        is_fresh = instant_ms - self.at_ms <= HOURS_MAX * HOUR_MS
        return np.where(is_fresh, self.rates, np.nan)

    def to_plain(self) -> dict[str, Floats]:
        """Give a form that the snapshot codec can write."""
        return {"rates": self.rates, "at_ms": self.at_ms, "hours": self.hours, "pause": self.pause}

    @classmethod
    def from_plain(cls, plain: object) -> Settled:
        """Rebuild it to the last bit; older snapshots hold the rates alone, or no pauses."""
        if not isinstance(plain, Mapping):
            rates = np.array(plain, dtype=np.float64)
            return cls(rates, *np.full((3, len(rates)), np.nan))
        kept = cast(dict[str, Floats], plain)
        kept = {"pause": kept["hours"], **kept}
        names = ("rates", "at_ms", "hours", "pause")
        return cls(*(np.array(kept[name], dtype=np.float64) for name in names))
