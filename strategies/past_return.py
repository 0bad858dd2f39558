"""Cross-sectional momentum and reversal: the past return, in units of its own risk.

    score_i = +- sum of e_i over the L hours that ended `skip` hours ago / (sigma_i sqrt(L))

e is the residual return r_i - beta_i r_m (or r_i itself), sigma the hourly residual volatility.
Momentum buys the highest (Jegadeesh and Titman 1993; on residuals Blitz, Huij and Martens 2011),
reversal the lowest (Lehmann 1990). Momentum skips the newest day because the shortest returns
revert; reversal may skip the newest hour, whose bounce between bid and ask cannot be traded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import numpy as np

from daemon.domain.bar import Flags, Floats
from daemon.domain.view import View
from strategies.book import RISK_TIMEFRAME
from strategies.knobs import check_range, read_settings
from strategies.risk import ResidualRisk
from strategies.scored import (
    Scored,
    ScoreSettings,
    carried_returns,
    standardised,
    without_market,
)


@dataclass(frozen=True, slots=True)
class PastReturnSettings(ScoreSettings):
    """Hold the lookback, how many of the newest hours it leaves out, and of which return it is."""

    SIGN: ClassVar[float] = 1.0

    lookback_hours: int = 168
    skip_hours: int = 24
    residual: bool = True
    alpha_half_life_hours: float = 48.0

    def __post_init__(self) -> None:
        ScoreSettings.__post_init__(self)
        check_range(self.OWNER, "lookback_hours", self.lookback_hours, 1, 10_000)
        check_range(self.OWNER, "skip_hours", self.skip_hours, 0, 10_000)


@dataclass(frozen=True, slots=True)
class MomentumSettings(PastReturnSettings):
    """Buy what rose."""

    OWNER: ClassVar[str] = "momentum"


@dataclass(frozen=True, slots=True)
class ReversalSettings(PastReturnSettings):
    """Buy what fell."""

    OWNER: ClassVar[str] = "reversal"
    SIGN: ClassVar[float] = -1.0

    lookback_hours: int = 6
    skip_hours: int = 0
    alpha_half_life_hours: float = 6.0


def build_momentum(settings: Mapping[str, object]) -> Scored[MomentumSettings]:
    """Make momentum from settings as the configuration file has them."""
    return _strategy(read_settings(MomentumSettings, settings, MomentumSettings.OWNER))


def build_reversal(settings: Mapping[str, object]) -> Scored[ReversalSettings]:
    """Make reversal from settings as the configuration file has them."""
    return _strategy(read_settings(ReversalSettings, settings, ReversalSettings.OWNER))


P = TypeVar("P", bound=PastReturnSettings)


def _strategy(knobs: P) -> Scored[P]:
    return Scored(
        settings=knobs,
        alpha=alpha,
        variance=knobs.information_coefficient**2,
        bars=knobs.lookback_hours + knobs.skip_hours + 1,
    )


def alpha(knobs: PastReturnSettings, view: View, risk: ResidualRisk, usable: Flags) -> Floats:
    """Give the alphas (N,) by past return, NaN where the lookback is not covered."""
    bars = knobs.lookback_hours + knobs.skip_hours
    returns = carried_returns(view.windows[RISK_TIMEFRAME].closes, bars)
    if knobs.residual:
        returns = without_market(returns, risk.beta)
    total = returns[: knobs.lookback_hours].sum(axis=0)  #                     (N,)
    score = knobs.SIGN * total / (risk.volatility * np.sqrt(knobs.lookback_hours))
    return knobs.information_coefficient * standardised(score, usable)
