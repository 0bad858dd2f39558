"""Funding carry: be paid for holding what others pay to hold the other way.

A long pays `rate` of its notional at each settlement, a short receives it. With the last known rate
taken to fade by phi an hour towards the cross-section's, the next six hours (H) pay a holder

    E_i = -k rate_i / hours_i * (1 - phi^H) / (1 - phi)

of its notional, and that over sigma_i sqrt(H) is the alpha: a score in units of return needs no
assumed information coefficient. k = `kept_share` is the share of the funding that the price is
believed to leave to the holder; 1 says that prices do not move against it. hours_i lie between the
last two settlements of that contract, which are 1, 4 or 8 hours apart and not the same for all.

An unknown rate is no alpha, never a rate of zero: the instrument keeps its weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.view import View
from strategies.book import HORIZON_HOURS
from strategies.book_settings import BookSettings
from strategies.funding import hourly_rates
from strategies.knobs import check_range, read_settings
from strategies.risk import ResidualRisk
from strategies.scored import Scored


@dataclass(frozen=True, slots=True)
class CarrySettings(BookSettings):
    """Hold how long a settlement's rate is for, and how much of it the price leaves.

    settlement_hours: of a contract until two of its settlements were seen; where they differ take
    the longest, so that no rate is overrated.
    """

    OWNER: ClassVar[str] = "carry"

    alpha_half_life_hours: float = 48.0
    settlement_hours: float = 8.0
    kept_share: float = 1.0

    def __post_init__(self) -> None:
        BookSettings.__post_init__(self)
        check_range(self.OWNER, "settlement_hours", self.settlement_hours, 1.0, 24.0)
        check_range(self.OWNER, "kept_share", self.kept_share, 0.0, 1.0)


def build(settings: Mapping[str, object]) -> Scored[CarrySettings]:
    """Make the strategy from settings as the configuration file has them."""
    knobs = read_settings(CarrySettings, settings, CarrySettings.OWNER)
    return Scored(settings=knobs, alpha=alpha, variance=0.0)


def alpha(knobs: CarrySettings, view: View, risk: ResidualRisk, usable: Flags) -> Floats:
    """Give the alphas (N,): what six hours of funding pay to a long, NaN where no rate is known."""
    hours = (1.0 - knobs.phi**HORIZON_HOURS) / (1.0 - knobs.phi)
    paid = -knobs.kept_share * hours * hourly_rates(view, unknown_hours=knobs.settlement_hours)
    return np.where(usable, paid / (risk.volatility * HORIZON_HOURS**0.5), np.nan)
