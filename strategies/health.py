"""The health of a no-trade band: what trading cost over what waiting cost.

A band of half-width h around a wandering target pays c nu^2 / (2h) for trades and loses
gamma sigma^2 h^2 / 6 by holding something else than the target. The sum is least where the first is
exactly twice the second. So the ratio of the two, measured, is 2 where the bands are right, above
where they are too narrow and below where they are too wide.

    ratio = sum of costs paid  /  sum of gamma s^2 (w - w*)^2 / 2 over the hours held

Both sums forget with a half-life of seven days, which is some hundred trades of a book of forty.
The formula is of bands that are wide beside what the target moves from decision to decision. Where
that is a noticeable part nu / h of the band, the best ratio is 2 / (1 + 1.8 nu / h), as simulated:
1.6 at a seventh.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from daemon.domain.bar import Floats

HALF_LIFE_HOURS: Final = 168.0
HOURS_MIN: Final = 48.0  # of remembered time; a ratio of less says nothing
BEST: Final = 2.0


def no_sums() -> Floats:
    """Give the sums before the first decision: paid, lost, hours; (3,)."""
    return np.zeros(3)


def tracking_loss(aversion: float, risk: Floats, gap: Floats) -> float:
    """Give the loss an hour of holding w in place of w*; risk: hourly variance, gap: w - w*, (N,).

    gamma s^2 (w - w*)^2 / 2, summed: the expected return that is missed less the risk that is not
    run, for a target that was the best of its hour.
    """
    return 0.5 * aversion * float(risk @ gap**2)


def updated(sums: Floats, *, paid: float, loss_an_hour: float, hours: float) -> Floats:
    """Add one decision to the sums, (3,), after forgetting for the hours since the last one."""
    kept = 0.5 ** (hours / HALF_LIFE_HOURS) * sums
    return np.asarray(kept + np.array([paid, loss_an_hour * hours, hours]), dtype=np.float64)


def ratio(sums: Floats) -> float | None:
    """Give trading cost over tracking loss; None while too little was seen, or nothing was lost."""
    paid, lost, hours = sums.tolist()
    return paid / lost if hours >= HOURS_MIN and lost > 0.0 else None
