"""The settings of the book that strategies share; each strategy adds its own to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar

from daemon.domain.failures import ConfigurationError
from strategies.factors import Factor
from strategies.knobs import check_range
from strategies.liquidity import check_tiers
from strategies.policies import Policy
from strategies.rebalance import Band
from strategies.sizing.settings import SizingSettings


class Weights(StrEnum):
    """Name what makes weights of alphas."""

    CLOSED_FORM = "closed_form"  # residual variances alone
    MEAN_VARIANCE = "mean_variance"  # the predicted covariance


@dataclass(frozen=True, slots=True)
class BookSettings:
    """Hold the knobs of the book; weights are fractions of equity. Strategies add their own.

    legs_max: legs in all on a large universe. alpha_half_life_hours: how long half of an alpha
    lasts. friction_max: a leg whose cost exceeds this multiple of a typical signal's expected
    return may only shrink. risk_aversion: of the band, in hourly returns; 0 takes what the gross
    target implies. band: cube_root, the cheapest half-width; fixed at band_weight (0: trade in
    full); confidence, wider where confidence is low and band_weight on average; calendar, in full
    at the UTC hours that calendar_hours divides and held in between. breadth_min: with fewer names
    to rank the book is kept; breadth_full: with fewer the gross shrinks in proportion.
    bets_min: with fewer effective bets (`daemon.domain.concentration`) it does too.
    liquidity_tiers_usdt: falling, see `strategies.liquidity`. 0 and an empty list turn these off.
    sizing: how much of the gross is held, see there. weights: closed_form or, with a predicted
    covariance, mean_variance.
    neutral_to: names of `strategies.factors`; beta_neutral adds the market.
    """

    OWNER: ClassVar[str] = "book"  # whose settings a complaint names

    gross_weight: float = 1.0
    name_weight_max: float = 0.2
    legs_max: int = 40
    breadth_min: int = 6
    alpha_half_life_hours: float = 12.0
    volatility_half_life_hours: float = 48.0
    friction_max: float = 1.5
    risk_aversion: float = 0.0
    beta_neutral: bool = False
    weights: Weights = Weights.CLOSED_FORM
    neutral_to: tuple[str, ...] = ()
    band: Band = Band.CUBE_ROOT
    band_weight: float = 0.02
    calendar_hours: int = 24
    breadth_full: int = 0
    bets_min: float = 0.0
    liquidity_tiers_usdt: tuple[int, ...] = ()
    sizing: SizingSettings = field(default_factory=SizingSettings)

    def __post_init__(self) -> None:
        owner = self.OWNER
        check_range(owner, "gross_weight", self.gross_weight, 0.0, 10.0)
        check_range(owner, "name_weight_max", self.name_weight_max, 1e-6, 10.0)
        check_range(owner, "legs_max", self.legs_max, 2, 10_000)
        check_range(owner, "breadth_min", self.breadth_min, 2, 10_000)
        check_range(owner, "alpha_half_life_hours", self.alpha_half_life_hours, 0.1, 10_000)
        check_range(owner, "volatility_half_life_hours", self.volatility_half_life_hours, 1, 10_000)
        check_range(owner, "friction_max", self.friction_max, 0.0, float("inf"))
        check_range(owner, "risk_aversion", self.risk_aversion, 0.0, float("inf"))
        check_range(owner, "band_weight", self.band_weight, 0.0, 1.0)
        check_range(owner, "calendar_hours", self.calendar_hours, 1, 24)
        if 24 % self.calendar_hours:
            raise ConfigurationError(
                f"strategy {owner!r}: calendar_hours = {self.calendar_hours}: it must divide 24"
            )
        check_range(owner, "breadth_full", self.breadth_full, 0, 10_000)
        check_range(owner, "bets_min", self.bets_min, 0.0, 10_000)
        for name in self.neutral_to:
            if name not in set(Factor):
                raise ConfigurationError(
                    f"strategy {owner!r}: neutral_to = {list(self.neutral_to)}: {name!r} is none "
                    f"of {', '.join(Factor)}"
                )
        check_tiers(owner, self.liquidity_tiers_usdt)

    @property
    def factors(self) -> tuple[Factor, ...]:
        """Give the exposures that the book is neutral to besides dollars."""
        named = [Factor(name) for name in self.neutral_to]
        return tuple(dict.fromkeys([*([Factor.MARKET] if self.beta_neutral else []), *named]))

    @property
    def policy(self) -> Policy:
        """Give the rebalance policy."""
        return Policy(self.band, self.band_weight, self.calendar_hours)

    @property
    def phi(self) -> float:
        """Give the alpha's persistence per hour."""
        return float(0.5 ** (1.0 / self.alpha_half_life_hours))
