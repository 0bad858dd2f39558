"""Funding an hour: rates are per settlement, and contracts settle every 1, 4 or 8 hours."""

from __future__ import annotations

from typing import Final

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.view import View

USUAL_HOURS: Final = 8.0  # of a contract of which two settlements were not seen yet


def hourly_rates(view: View, *, unknown_hours: float = USUAL_HOURS) -> Floats:
    """Give the last settled rates (N,) an hour that they were for; longs pay, NaN unknown."""
    hours = np.full(len(view.funding_rates), unknown_hours)
    if view.funding_hours is not None:
        hours = np.where(np.isfinite(view.funding_hours), view.funding_hours, hours)
    return np.asarray(view.funding_rates / hours)
