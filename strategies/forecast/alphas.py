"""Carry forecasts from instant to instant, as the default strategy does, and let rules speak.

What a table says at a decision is what a strategy would make of the same forecasts there: both take
the way of `strategies.combination`, and remember the same. A forecast counts, ageing, until a
missing successor is a bar late; a decision without any forecast changes nothing. At an instant
between decisions, where a timeframe closes, the rules speak too, and nothing is remembered of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Floats
from daemon.domain.forecast import is_usable
from daemon.domain.units import HOUR_MS, Timeframe, require
from strategies import combination
from strategies.combination import Blend, Forecasts
from strategies.neutral import NeutralSettings
from strategies.rules import RULES, Rule

Longs = npt.NDArray[np.int64]
Fresh = Mapping[Timeframe, tuple[Floats, Floats]]  # mean and variance (N,) by timeframe


@dataclass(frozen=True, slots=True)
class Combining:
    """Say how forecasts become one: the rule, phi an hour of the alphas, when decisions fall."""

    rule: Rule = Rule.AUTO
    phi: float = field(default_factory=lambda: NeutralSettings().phi)
    decision: Timeframe = field(default_factory=lambda: Timeframe(60))


class Alphas:
    """Carry the newest forecasts and the belief from one instant to the next."""

    def __init__(
        self, timeframes: Sequence[Timeframe], instruments_n: int, how: Combining | None = None
    ) -> None:
        self._timeframes = tuple(timeframes)
        shape = (len(self._timeframes), instruments_n)
        self._mean, self._variance = np.full(shape, np.nan), np.full(shape, np.nan)
        self._made_ms: list[int | None] = [None] * len(self._timeframes)
        self._how = how or Combining()
        self._belief = combination.prior_belief(instruments_n)
        self._newest_ms = 0
        self._decided_ms: int | None = None

    def step(self, as_of_ms: int, fresh: Fresh, disagreement: Floats | None) -> Blend:
        """Take the forecasts of an instant and give what every rule needs of it.

        fresh: of the timeframes that closed then. Instants rise.
        """
        require(as_of_ms > self._newest_ms, f"instant {as_of_ms} after {self._newest_ms}")
        self._newest_ms = as_of_ms
        for timeframe, (mean, variance) in fresh.items():
            k = self._timeframes.index(timeframe)
            self._mean[k], self._variance[k], self._made_ms[k] = mean, variance, as_of_ms
        ages = np.array([self._age_hours(k, as_of_ms) for k in range(len(self._timeframes))])
        since_ms = None if self._decided_ms is None else as_of_ms - self._decided_ms
        belief, made = combination.blend(
            self._belief,
            Forecasts(self._mean, self._variance, ages),
            disagreement,
            hours=1.0 if since_ms is None else since_ms / HOUR_MS,
            phi=self._how.phi,
        )
        heard = np.isfinite(self._mean[np.isfinite(ages)]).any()
        if heard and self._how.decision.closes_at(as_of_ms):
            self._belief, self._decided_ms = belief, as_of_ms
        return made

    def _age_hours(self, k: int, as_of_ms: int) -> float:
        """Give the age of a timeframe's newest forecast, NaN where it may not be used."""
        made_ms = self._made_ms[k]
        if made_ms is None or not is_usable(self._timeframes[k], made_ms, as_of_ms):
            return float("nan")
        return (as_of_ms - made_ms) / HOUR_MS


@dataclass(frozen=True, slots=True)
class Joined:
    """Hold forecasts of several timeframes laid out by instant, and the alphas of rules.

    at_ms: (T,) every instant at which a timeframe closed, and what was asked for besides. mean,
    variance: (K, T, N), NaN where the timeframe did not close then. alphas: (T, N) by rule, before
    any Reading.
    """

    at_ms: Longs
    mean: Floats
    variance: Floats
    alphas: Mapping[Rule, Floats]


def joined(
    alphas: Alphas,
    timeframes: Sequence[Timeframe],
    parts: Mapping[Timeframe, tuple[Longs, Floats, Floats]],
    *,
    instruments_n: int,
    disagreement: Floats | None,
    slopes: Sequence[float] | None,
    rules: Sequence[Rule] = RULES,
    besides: Longs | None = None,
) -> Joined:
    """Step through the forecasts of a stretch: of each timeframe closes (M,), means, variances.

    besides: instants at which rules speak too, by the newest forecasts, where no timeframe closed.
    """
    also = np.empty(0, dtype=np.int64) if besides is None else besides
    at_ms = np.unique(np.concatenate([also, *(closes for closes, _, _ in parts.values())]))
    mean, variance = (
        np.full((len(timeframes), len(at_ms), instruments_n), np.nan) for _ in range(2)
    )
    for k, timeframe in enumerate(timeframes):
        if timeframe in parts:
            rows = np.searchsorted(at_ms, parts[timeframe][0])
            mean[k, rows], variance[k, rows] = parts[timeframe][1:]
    found = {rule: np.full((len(at_ms), instruments_n), np.nan) for rule in rules}
    for t, as_of_ms in enumerate(at_ms.tolist()):
        fresh = {
            timeframe: (mean[k, t], variance[k, t])
            for k, timeframe in enumerate(timeframes)
            if timeframe.closes_at(as_of_ms)
        }
        made = alphas.step(as_of_ms, fresh, disagreement)
        for rule in rules:
            found[rule][t] = combination.signals(made, as_of_ms, rule, slopes).alpha
    return Joined(at_ms, mean, variance, found)
