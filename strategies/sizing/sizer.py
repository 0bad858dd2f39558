"""Size a book by the chosen rule: a multiplier of its configured gross, and why, in words.

The multiplier only shrinks: the hard limits are the configured gross and the daemon's own. When no
risk can be predicted the last known multiplier stands, and before any there is none, which is 1. To
go to zero instead would trade the whole book, at its cost, for a gap in the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.units import HOUR_MS
from strategies.sizing.predicted import book_variance
from strategies.sizing.rules import (
    annual_volatility,
    kelly,
    risk_leverage,
    smoothed,
    volatility_target,
)
from strategies.sizing.settings import Sizing, SizingSettings

COVARIANCE_HOURS_MAX: Final = 6.0  # an older one is not believed: residual variances are newer
WORTH_A_WORD: Final = 0.995  # a multiplier below it is told of
REBUILDS_MAX: Final = 4
WITHIN: Final = 1e-9  # of a bound on risk

Built = TypeVar("Built")


class Evidence(NamedTuple):
    """Hold what a rule may look at; arrays (N,), returns of the next hour, NaN unknown.

    hours: since the decision before.
    """

    as_of_ms: int
    hours: float
    alpha: Floats
    alpha_variance: Floats
    residual_variance: Floats
    covariance: Covariance | None = None


class Sized(NamedTuple):
    """Hold a multiplier in [0, 1], what to remember (2,), and a plain note ('' for nothing)."""

    multiplier: float
    memory: Floats
    note: str


def nothing_known() -> Floats:
    """Give the memory before the first book: mean variance and last multiplier, both unknown."""
    return np.full(2, np.nan)


def sized(knobs: SizingSettings, memory: Floats, weights: Floats, seen: Evidence) -> Sized:
    """Give the share of the gross to hold of a book that has these weights at its full gross."""
    if knobs.sizing is Sizing.NONE:
        return Sized(1.0, memory, "")
    covariance = seen.covariance
    is_old = covariance is not None and (
        seen.as_of_ms - covariance.as_of_ms > COVARIANCE_HOURS_MAX * HOUR_MS
    )
    variance = book_variance(weights, None if is_old else covariance, seen.residual_variance)
    if not np.isfinite(variance):
        last = float(memory[1])
        kept = last if np.isfinite(last) else 1.0
        return Sized(kept, memory, f"sized to {kept:.0%} as before: no risk is known")
    mean = float(memory[0])
    if knobs.sizing is Sizing.VOLATILITY_TARGET:
        half_life = knobs.sizing_half_life_hours
        mean = smoothed(mean, variance, hours=seen.hours, half_life_hours=half_life)
    share = _share(knobs, weights, seen, variance, mean)
    basis = "" if covariance is not None and not is_old else ", by residual variances alone"
    volatility = annual_volatility(variance)
    words = f"sized to {share:.0%}: {knobs.sizing.value}, {volatility:.1%} a year predicted{basis}"
    return Sized(share, np.array([mean, share]), words if share < WORTH_A_WORD else "")


def _share(
    knobs: SizingSettings, weights: Floats, seen: Evidence, variance: float, mean: float
) -> float:
    if knobs.sizing is Sizing.VOLATILITY_TARGET:
        return volatility_target(mean, target=knobs.volatility_target, least=knobs.multiplier_min)
    if knobs.sizing is Sizing.KELLY:
        alpha, u = seen.alpha, seen.alpha_variance
        return kelly(weights, alpha, u, variance, fraction=knobs.kelly_fraction)
    return risk_leverage(
        variance, volatility_max=knobs.volatility_max, shortfall_max=knobs.shortfall_max
    )


def built_to_size(
    build: Callable[[float], Built],
    weights_of: Callable[[Built], Floats],
    share_max: float | None,
    knobs: SizingSettings,
    memory: Floats,
    seen: Evidence,
) -> tuple[Built, Sized]:
    """Build the book at its full gross, size it, and build it anew at the share that is left.

    build: makes a book of a share in [0, 1] of the gross. share_max: what somebody else leaves of
    it, or None; each is a ceiling, so the smaller one counts. A smaller book is not the large one
    in small: caps bind less, so it may be riskier for its gross; a bound on risk is asked again.
    """
    ceiling = 1.0 if share_max is None else min(max(share_max, 0.0), 1.0)
    if knobs.sizing is Sizing.NONE:
        return build(ceiling), Sized(1.0, memory, "")
    full = build(1.0)
    found = sized(knobs, memory, weights_of(full), seen)
    share = min(ceiling, found.multiplier)
    book = full if share == 1.0 else build(share)
    for _ in range(REBUILDS_MAX if knobs.sizing is Sizing.RISK_LEVERAGE else 0):
        again = sized(knobs, found.memory, weights_of(book), seen).multiplier
        if again >= 1.0 - WITHIN:
            break
        share *= again
        book = build(share)
    return book, found
