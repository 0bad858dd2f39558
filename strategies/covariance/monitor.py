"""Watch a predicted covariance in use: what it said against what came, beside a baseline.

Each hour's returns r are held against the prediction S = D R D made an hour before:

    loss    l = (log det S + r' S^-1 r) / n                    of both estimators, in nats a coin
    came    c = ((sum z)^2 - sum z^2) / (n (n - 1)),  z = r / volatility
    said    p = mean off-diagonal element of R

over the n coins that have a prediction and a return. All are averaged with a half-life; excess is
the mean of l less that of the baseline, gap the mean of p less that of c (of coins that move with
the volatility predicted, c has the expectation p). A large gap or a large excess means that the
estimator has lost the market: then the baseline speaks until both are below half of their bounds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance, Watch
from daemon.domain.units import require

COINS_MIN: Final = 3  # of fewer a mean correlation says little
RETURN_SHARE: Final = 0.5  # of a bound, below which the estimator speaks again
EIGENVALUE_MIN: Final = 1e-6  # of a correlation that is inverted
Z_MAX: Final = 6.0  # in standard deviations: one wick must not speak for a week


@dataclass(frozen=True, slots=True)
class Bounds:
    """Say when a prediction is no longer believed.

    gap_max: of mean correlation. excess_max: of loss, nats a coin and hour. half_life_bars: of the
    averages. seen_min: hours that must have been judged before.
    """

    gap_max: float = 0.3
    excess_max: float = 0.05
    half_life_bars: float = 168.0
    seen_min: int = 72

    def __post_init__(self) -> None:
        require(self.gap_max > 0 and self.excess_max > 0, "a bound must be above 0")
        require(self.half_life_bars > 0, "a half-life must be above 0")


@dataclass
class Monitor:
    """Hold the averages of one estimator beside its baseline, and who speaks at present."""

    bounds: Bounds = field(default_factory=Bounds)
    seen_n: int = 0
    is_fallen: bool = False
    _weight: float = 0.0
    _sums: Floats = field(default_factory=lambda: np.zeros(4))  # loss, baseline's, said, came

    def judge(self, asked: Covariance, baseline: Covariance, returns: Floats) -> None:
        """Hold both predictions against the (N,) returns of the hour after them, NaN no bar."""
        known = np.isfinite(returns) & np.isfinite(asked.volatility)
        known &= np.isfinite(baseline.volatility)
        if int(known.sum()) < COINS_MIN:
            return
        losses = [_loss(one, returns, known) for one in (asked, baseline)]
        z = np.clip(returns[known] / asked.volatility[known], -Z_MAX, Z_MAX)
        n = len(z)
        came = float((z.sum() ** 2 - z @ z) / (n * (n - 1)))
        among = asked.correlation[np.ix_(known, known)]
        said = float((among.sum() - n) / (n * (n - 1)))
        keep = 0.5 ** (1.0 / self.bounds.half_life_bars)
        self._sums = keep * self._sums + (1.0 - keep) * np.array([*losses, said, came])
        self._weight = keep * self._weight + 1.0 - keep
        self.seen_n += 1
        self._decide()

    @property
    def excess(self) -> float:
        """Give the mean loss above the baseline's; NaN before anything was judged."""
        return self._mean(0) - self._mean(1)

    @property
    def gap(self) -> float:
        """Give the mean correlation said less that which came; NaN before."""
        return self._mean(2) - self._mean(3)

    def watch(self) -> Watch:
        """Give what people are shown."""
        return Watch(self._mean(2), self._mean(3), self.excess, self.seen_n)

    def why(self) -> str:
        """Say why the baseline speaks, or nothing."""
        if not self.is_fallen:
            return ""
        return (
            f"mean correlation said {self._mean(2):.2f}, came {self._mean(3):.2f}; loss "
            f"{self.excess:+.3f} nats a coin beside the baseline's, over {self.seen_n} hours"
        )

    def _mean(self, place: int) -> float:
        return float(self._sums[place] / self._weight) if self._weight > 0 else float("nan")

    def _decide(self) -> None:
        if self.seen_n < self.bounds.seen_min:
            return
        share = RETURN_SHARE if self.is_fallen else 1.0
        far = abs(self.gap) > share * self.bounds.gap_max
        self.is_fallen = far or self.excess > share * self.bounds.excess_max


def _loss(
    said: Covariance, returns: Floats, known: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> float:
    """Give the Gaussian loss of a prediction on the coins that are known, a coin; nats."""
    correlation = said.correlation[np.ix_(known, known)]
    volatility = said.volatility[known]
    values, vectors = np.linalg.eigh(correlation)
    values = np.maximum(values, EIGENVALUE_MIN)
    z = vectors.T @ np.clip(returns[known] / volatility, -Z_MAX, Z_MAX)
    logs = float(np.log(values).sum() + 2.0 * np.log(volatility).sum())
    return (logs + float((z * z / values).sum())) / len(volatility)
