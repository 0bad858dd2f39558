"""How much equity a run's edge would carry, from its own fills and the paper rule's law of impact.

At m times the equity a fill that took the share x of a bar's volume wants m x of it. With a cap s
on that share it gets the fraction f = min(1, s / (m x)), and with impact_bps = c it pays, per unit
of notional, c sqrt(m f x). For fills of notionals n and a gain g before impact (all at m = 1):

    eaten(m) = 1 - sum(n f) / sum(n) + sum(n f c sqrt(m f x)) / g

is the share of that gain which unfilled orders and impact take. What is not filled is taken to cost
its part of the gain. Capacity is the equity at which eaten reaches one half. Fees, spread and
funding grow with equity as the gain does, so that they are no part of it. It assumes that the same
trades are made at every size: a campaign that runs other sizes tells more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from daemon.statistics.checks import same_length, series

Floats = npt.NDArray[np.float64]

EATEN: Final = 0.5
MULTIPLES: Final = np.geomspace(1e-9, 1e12, 421)  # 20 a decade
HALVINGS: Final = 60


@dataclass(frozen=True, slots=True)
class Capacity:
    """Hold the equity at which half of the gain is eaten; infinite where nothing eats it.

    equity: NaN where there is no gain to eat; why then says so. unfilled, impact: the shares of the
    gain that each takes there; they sum to one half.
    """

    equity: float
    unfilled: float
    impact: float
    why: str = ""


def capacity(
    *,
    equity: float,
    gain: float,
    notionals: Floats,
    volume_shares: Floats,
    impact_bps: float,
    participation_share: float | None = None,
) -> Capacity:
    """Find the capacity of a run.

    equity: that the fills were made with, > 0. gain: of the run before impact (with or without the
    other costs, whichever edge is meant), quote currency. notionals, volume_shares: (K,) of the
    fills, both > 0, shares of the volume of the bar that the venue looked at. participation_share:
    the cap, None for none. Raises InvariantViolated for anything else.
    """
    n = series(notionals, "notionals")
    x = series(volume_shares, "volume_shares")
    same_length(n, x, "notionals, volume_shares")
    require(bool((n > 0).all() and (x > 0).all()), "a notional or a share is not above 0")
    require(equity > 0, f"equity {equity}: above 0 is accepted")
    require(0 <= impact_bps < math.inf, f"impact_bps {impact_bps}: at least 0 is accepted")
    cap = math.inf if participation_share is None else participation_share
    require(cap > 0, f"participation_share {cap}: above 0 is accepted")
    if not gain > 0:
        return Capacity(math.nan, math.nan, math.nan, "not defined: no gain before impact")
    fills = _Fills(n, x, gain, impact_bps * 1e-4, cap)
    eaten = np.array([sum(fills.eaten(m)) for m in MULTIPLES])
    beyond = np.flatnonzero(eaten >= EATEN)
    if not len(beyond):
        return Capacity(math.inf, 0.0, 0.0)
    at = int(beyond[0])
    low, high = float(MULTIPLES[max(at - 1, 0)]), float(MULTIPLES[at])
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if sum(fills.eaten(middle)) >= EATEN else (middle, high)
    unfilled, impact = fills.eaten(high)
    return Capacity(equity * high, unfilled, impact)


@dataclass(frozen=True, slots=True)
class _Fills:
    notionals: Floats
    shares: Floats
    gain: float
    impact: float  # fraction of price for a whole bar's volume
    cap: float

    def eaten(self, m: float) -> tuple[float, float]:
        """Give the shares of the gain that unfilled orders and impact take at m times the size."""
        wanted = m * self.shares
        filled = np.minimum(1.0, self.cap / wanted)
        got = self.notionals * filled
        unfilled = 1.0 - float(got.sum() / self.notionals.sum())
        paid = float(got @ np.sqrt(filled * wanted)) * self.impact
        return unfilled, paid / self.gain
