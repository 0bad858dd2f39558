"""Choose how large the book is within its configured gross."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from daemon.domain.failures import ConfigurationError
from strategies.knobs import check_range

NAME: Final = "sizing"


class Sizing(StrEnum):
    """Say what the gross follows; each may only make it smaller than configured."""

    NONE = "none"
    VOLATILITY_TARGET = "volatility_target"
    KELLY = "kelly"
    RISK_LEVERAGE = "risk_leverage"


@dataclass(frozen=True, slots=True)
class SizingSettings:
    """Hold the knobs of sizing.

    volatility_target: a year, fraction of equity; sizing_half_life_hours: of the mean of predicted
    variances that it is held against, 0 takes the newest alone; multiplier_min: the target lets no
    less of the gross. kelly_fraction: of the bet that would grow fastest. volatility_max: a year,
    and shortfall_max: mean loss of the worst 2.5 % of days, fractions of equity that the predicted
    risk may not exceed; 0 knows no bound.
    """

    sizing: Sizing = Sizing.NONE
    volatility_target: float = 0.15
    sizing_half_life_hours: float = 12.0
    multiplier_min: float = 0.0
    kelly_fraction: float = 0.25
    volatility_max: float = 0.25
    shortfall_max: float = 0.0

    def __post_init__(self) -> None:
        check_range(NAME, "volatility_target", self.volatility_target, 1e-6, 10.0)
        check_range(NAME, "sizing_half_life_hours", self.sizing_half_life_hours, 0.0, 10_000)
        check_range(NAME, "multiplier_min", self.multiplier_min, 0.0, 1.0)
        check_range(NAME, "kelly_fraction", self.kelly_fraction, 0.0, 1.0)
        check_range(NAME, "volatility_max", self.volatility_max, 0.0, 10.0)
        check_range(NAME, "shortfall_max", self.shortfall_max, 0.0, 1.0)
        unbounded = self.volatility_max == 0.0 and self.shortfall_max == 0.0
        if self.sizing is Sizing.RISK_LEVERAGE and unbounded:
            raise ConfigurationError(
                "sizing = 'risk_leverage' needs volatility_max or shortfall_max above 0"
            )
