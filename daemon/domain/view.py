"""What a strategy may look at when it decides: everything known at `as_of`, nothing later."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from daemon.domain.bar import Floats, Window
from daemon.domain.covariance import Covariance
from daemon.domain.forecast import Prediction, Reading
from daemon.domain.instrument import Universe
from daemon.domain.units import Timeframe


class View(Struct, frozen=True, gc=False):
    """Hold the strategy's inputs at one decision; arrays are (N,) in universe order.

    windows by timeframe; predictions: the newest of each timeframe (possibly stale: compare their
    as_of_ms), already without those older than allowed. disagreement, reading: as in
    Estimates. marks: last close prices, NaN never traded. weights: current signed fractions of
    equity. eligible: may be held; the others must go to zero. cost: one-way cost as a fraction of
    notional, assumed or, with execution.cost_feedback, measured from fills.
    funding_rates: last known per settlement, NaN unknown or settled more than a day ago.
    reduce_only: what may be kept or lessened and neither grow nor change sign, because its venue is
    held; None where nothing is.
    covariance: the newest prediction of it, possibly stale: compare its as_of_ms. funding_hours:
    how long those rates were for, NaN before two settlements were seen; None where nobody says.
    paid: (N,) what fills of our orders cost so far, fees and the shortfall against the price that a
    decision saw, as fractions of equity; None where nobody counts it.
    """

    as_of_ms: int
    universe: Universe
    windows: dict[Timeframe, Window]
    predictions: tuple[Prediction, ...]
    disagreement: Floats | None
    marks: Floats
    weights: Floats
    equity: float
    eligible: npt.NDArray[np.bool_]
    cost: Floats
    funding_rates: Floats
    gross_multiplier: float | None = None
    reduce_only: npt.NDArray[np.bool_] | None = None
    reading: Reading | None = None
    covariance: Covariance | None = None
    funding_hours: Floats | None = None
    paid: Floats | None = None
