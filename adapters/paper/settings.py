"""Say what the paper venue charges and how much it fills."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Universe

# key: (least, greatest) accepted, in bps; a negative fee is a rebate
_BOUNDS = {
    "fee_bps": (-10.0, 1_000.0),
    "half_spread_bps": (0.0, 1_000.0),
    "impact_bps": (0.0, 5_000.0),
    "latency_bps": (0.0, 1_000.0),
}


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """Hold the paper venue's costs; see `adapters.paper.rule` for the formula.

    fee_bps: of notional. half_spread_bps, latency_bps: of price, on every fill. impact_bps: of
    price, for taking as much as the whole last closed bar traded; it grows with the square root of
    the share taken. participation_share: the most that one bar may fill, as a share of the last
    closed bar's volume; None fills everything at once (for comparisons with engines that know no
    capacity; impact_bps must then be 0). starting_cash: by currency, > 0.
    """

    fee_bps: float
    half_spread_bps: float
    impact_bps: float
    latency_bps: float
    participation_share: float | None
    starting_cash: Mapping[str, Decimal]

    def __post_init__(self) -> None:
        for name, (least, greatest) in _BOUNDS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= greatest):
                raise _wrong(name, value, f"a number from {least:g} to {greatest:g} (bps)")
        share = self.participation_share
        if share is not None and not 0.0 < share <= 1.0:
            raise _wrong("participation_share", share, "a share above 0 and up to 1")
        if share is None and self.impact_bps:
            raise _wrong("impact_bps", self.impact_bps, "0 when there is no participation_share")
        if not self.starting_cash:
            raise _wrong("starting_cash", {}, "at least one currency with its amount")
        for currency, amount in self.starting_cash.items():
            if not (amount.is_finite() and amount > 0):
                raise _wrong(f"starting_cash.{currency}", amount, "a Decimal above 0")

    def check_currencies(self, universe: Universe) -> None:
        """Raise ConfigurationError for an instrument whose settlement currency we have none of."""
        for instrument in universe.instruments:
            if instrument.settle not in self.starting_cash:
                known = ", ".join(sorted(self.starting_cash))
                raise ConfigurationError(
                    f"paper.starting_cash has {known} only, but {instrument.key.symbol} settles in "
                    f"{instrument.settle}: name an amount of it"
                )


def _wrong(name: str, value: object, accepted: str) -> ConfigurationError:
    return ConfigurationError(f"paper.{name} = {value}: must be {accepted}")
