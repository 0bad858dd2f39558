"""Low volatility: calm coins against wild ones.

    score_i = -log(sigma_i)

sigma is the hourly residual volatility, an exponentially weighted mean with
`volatility_half_life_hours` (Blitz and van Vliet 2007; Ang, Hodrick, Xing and Zhang 2006). Calm
coins have low betas: a book that is neutral in dollars alone would be short of the market, so this
strategy is neutral to beta as well, unless settings say otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.view import View
from strategies.knobs import read_settings
from strategies.risk import ResidualRisk
from strategies.scored import Scored, ScoreSettings, standardised


@dataclass(frozen=True, slots=True)
class LowVolatilitySettings(ScoreSettings):
    """Hold the knobs; volatility is measured slower than the book needs it."""

    OWNER: ClassVar[str] = "low_volatility"

    alpha_half_life_hours: float = 168.0
    volatility_half_life_hours: float = 84.0
    beta_neutral: bool = True


def build(settings: Mapping[str, object]) -> Scored[LowVolatilitySettings]:
    """Make the strategy from settings as the configuration file has them."""
    knobs = read_settings(LowVolatilitySettings, settings, LowVolatilitySettings.OWNER)
    return Scored(settings=knobs, alpha=alpha, variance=knobs.information_coefficient**2)


def alpha(knobs: LowVolatilitySettings, view: View, risk: ResidualRisk, usable: Flags) -> Floats:
    """Give the alphas (N,): the calmer, the higher."""
    return knobs.information_coefficient * standardised(-np.log(risk.volatility), usable)
