"""Hold the strongest against the weakest: rank by past return, equal legs, a plain drift band.

    score = close(t) / close(t - lookback)       long the K highest, short the K lowest (momentum)
    target = +-gross / (2K)                      traded in full when |weight - target| > band

A rule without forecasts: a yardstick for the estimates, and the work of the throughput benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Flags, Floats
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from strategies.knobs import check_range, read_settings
from strategies.rebalance import drift_band

State = Mapping[str, npt.NDArray[np.float64]]
NAME: Final = "relative_strength"
STATE_VERSION: Final = 1.0


class Direction(StrEnum):
    """Say which end of the ranking is bought."""

    MOMENTUM = "momentum"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class RelativeStrengthSettings:
    """Hold the knobs; weights are fractions of equity."""

    direction: Direction = Direction.MOMENTUM
    timeframe_minutes: int = 60
    lookback_bars: int = 24
    legs_each_side: int = 4
    gross_weight: float = 1.0
    band_weight: float = 0.01

    def __post_init__(self) -> None:
        check_range(NAME, "lookback_bars", self.lookback_bars, 1, 10_000)
        check_range(NAME, "legs_each_side", self.legs_each_side, 1, 10_000)
        check_range(NAME, "gross_weight", self.gross_weight, 0.0, 10.0)
        check_range(NAME, "band_weight", self.band_weight, 0.0, 1.0)
        Timeframe(self.timeframe_minutes)


def build(settings: Mapping[str, object]) -> RelativeStrength:
    """Make the strategy from settings as the configuration file has them."""
    return RelativeStrength(read_settings(RelativeStrengthSettings, settings, NAME))


@dataclass(frozen=True)
class RelativeStrength:
    """Rank by past return; long the one end, short the other."""

    settings: RelativeStrengthSettings = field(default_factory=RelativeStrengthSettings)
    timeframe: Timeframe = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "timeframe", Timeframe(self.settings.timeframe_minutes))

    @property
    def name(self) -> str:
        """Give the name by which settings choose it."""
        return NAME

    @property
    def needs_estimates(self) -> bool:
        """Tell that decisions do not wait for the estimator."""
        return False

    @property
    def windows_needed(self) -> Mapping[Timeframe, int]:
        """Give the bars without which it cannot decide: the lookback and the newest."""
        return {self.timeframe: self.settings.lookback_bars + 1}

    def initial_state(self, instruments_n: int) -> State:
        """Give the state before the first decision: its version; the rule remembers nothing."""
        return {"version": np.array([STATE_VERSION])}

    def decide(self, state: State, view: View) -> tuple[State, TargetPortfolio]:
        """Give the target; instruments without both closes, or not eligible, go to zero."""
        closes = view.windows[self.timeframe].closes
        score = closes[-1] / closes[-1 - self.settings.lookback_bars]
        usable = view.eligible & np.isfinite(score)
        all_usable = np.count_nonzero(usable) == len(usable)
        ideal, note = self._legs(score, None if all_usable else usable)
        if note:
            weights = np.where(usable, view.weights, 0.0)
            return state, TargetPortfolio(view.as_of_ms, weights, weights, ideal, note=note)
        band = self.settings.band_weight
        weights = drift_band(view.weights, ideal, band)
        if not all_usable:
            weights = np.where(usable, weights, 0.0)
        return state, TargetPortfolio(
            as_of_ms=view.as_of_ms,
            weights=weights,
            ideal=ideal,
            band=_flat_band(len(ideal), band),
        )

    def _legs(self, score: Floats, usable: Flags | None) -> tuple[Floats, str]:
        """Give +-gross/(2K) for the two ends of the ranking, and why there are none (or '').

        usable: None when all are.
        """
        ideal = np.zeros(len(score))
        if self.settings.direction is Direction.REVERSAL:
            score = -score
        if usable is None:
            order = score.argsort(kind="stable")
        else:
            index = usable.nonzero()[0]
            order = index[score[index].argsort(kind="stable")]
        K = min(self.settings.legs_each_side, len(order) // 2)
        if K == 0:
            return ideal, f"{len(order)} instrument(s) can be ranked; two are needed: hold"
        leg = self.settings.gross_weight / (2 * K)
        ideal[order[-K:]] = leg
        ideal[order[:K]] = -leg
        return ideal, ""


@lru_cache(maxsize=8)
def _flat_band(instruments_n: int, band: float) -> Floats:
    bands = np.full(instruments_n, band)
    bands.flags.writeable = False  # shared by all decisions
    return bands
