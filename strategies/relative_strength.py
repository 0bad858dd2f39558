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


_REVERSAL: Final = Direction.REVERSAL  # looking up a member of an enum is slow


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
    windows_needed: Mapping[Timeframe, int] = field(init=False)  # the lookback and the newest bar

    def __post_init__(self) -> None:
        timeframe = Timeframe(self.settings.timeframe_minutes)
        object.__setattr__(self, "timeframe", timeframe)
        object.__setattr__(self, "windows_needed", {timeframe: self.settings.lookback_bars + 1})

    @property
    def name(self) -> str:
        """Give the name by which settings choose it."""
        return NAME

    @property
    def needs_estimates(self) -> bool:
        """Tell that decisions do not wait for the estimator."""
        return False

    def initial_state(self, instruments_n: int) -> State:
        """Give the state before the first decision: its version; the rule remembers nothing."""
        return {"version": np.array([STATE_VERSION])}

    def decide(self, state: State, view: View) -> tuple[State, TargetPortfolio]:
        """Give the target; instruments without both closes, or not eligible, go to zero."""
        closes = view.windows[self.timeframe].closes
        score = closes[-1] / closes[-1 - self.settings.lookback_bars]
        # Two short questions settle the usual case, which several passes over arrays cost more.
        total = sum(score.tolist())
        all_usable = total - total == 0.0 and view.eligible.tobytes().find(0) < 0
        usable = None if all_usable else view.eligible & np.isfinite(score)
        ideal, note = self._legs(score, usable)
        if note:
            weights = view.weights if usable is None else np.where(usable, view.weights, 0.0)
            return state, TargetPortfolio(view.as_of_ms, weights, weights, ideal, note=note)
        band = self.settings.band_weight
        weights = drift_band(view.weights, ideal, band)
        if usable is not None:
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
        if self.settings.direction is _REVERSAL:
            score = -score
        if usable is None:
            order = score.argsort(kind="stable")
        else:
            index = usable.nonzero()[0]
            order = index[score[index].argsort(kind="stable")]
        ideal, ranked_n = np.zeros(len(score)), len(order)
        K = min(self.settings.legs_each_side, ranked_n // 2)
        if K == 0:
            return ideal, f"{ranked_n} instrument(s) can be ranked; two are needed: hold"
        ideal[order] = _by_rank(ranked_n, K, self.settings.gross_weight / (2 * K))
        return ideal, ""


@lru_cache(maxsize=8)
def _by_rank(ranked_n: int, legs_n: int, leg: float) -> Floats:
    return np.array([-leg] * legs_n + [0.0] * (ranked_n - 2 * legs_n) + [leg] * legs_n)


@lru_cache(maxsize=8)
def _flat_band(instruments_n: int, band: float) -> Floats:
    bands = np.full(instruments_n, band)
    bands.flags.writeable = False  # shared by all decisions
    return bands
