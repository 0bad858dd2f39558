"""What the models learn: the common label, the residual return over the next six hours.

The label is `daemon.statistics.outcomes.residual_outcome` of the return from the entry price after
the decision lag to the price H later. Prices are opens of source bars, the first prices at which
one can trade. beta and sigma are moving averages of what was known at the decision. All timeframes
share this label, which is what makes their forecasts comparable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Field, Floats
from daemon.domain.units import HOUR_MS, Timeframe, require
from daemon.statistics.outcomes import ahead_of, residual_outcome, residual_risk

HORIZON_MS: Final = 6 * HOUR_MS
SECONDARY_MS: Final = 12 * HOUR_MS  # learned beside it by networks, with a small weight

Longs = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """Hold labels of every source close: y (T, N), NaN where none; close_ms (T,) the decisions."""

    close_ms: Longs
    y: Floats

    def at(self, instants_ms: Longs) -> Floats:
        """Give the labels (M, N) of decisions at these instants, NaN rows where unknown."""
        place = np.searchsorted(self.close_ms, instants_ms)
        inside = np.minimum(place, len(self.close_ms) - 1)
        found = self.close_ms[inside] == instants_ms
        return np.where(found[:, None], self.y[inside], np.nan)


def label(
    close_ms: Longs,
    values: Floats,
    *,
    source: Timeframe,
    lag_ms: int | None = None,
    horizon_ms: int = HORIZON_MS,
) -> Labels:
    """Compute the label of a decision at every close of the source bars.

    close_ms: (T,), values: (T, N, 5) on an unbroken source grid. lag_ms: from the decision to the
    entry, one source bar when not given; both times are whole source bars. The entry price of a
    decision at the close of row t with lag 0 is the open of row t + 1.
    """
    lag_ms = source.ms if lag_ms is None else lag_ms
    require(lag_ms % source.ms == 0 and lag_ms >= 0, f"lag of {lag_ms} ms: whole source bars")
    require(horizon_ms % source.ms == 0 and horizon_ms > 0, f"horizon of {horizon_ms} ms")
    opens = np.log(np.where(values[:, :, Field.OPEN] > 0, values[:, :, Field.OPEN], np.nan))
    enter = 1 + lag_ms // source.ms
    leave = enter + horizon_ms // source.ms
    ahead = ahead_of(opens, leave) - ahead_of(opens, enter)  # (T, N)
    beta, sigma = risk(values, source=source)
    y = residual_outcome(ahead, beta, sigma, horizon_bars=horizon_ms // source.ms)
    return Labels(close_ms, y)


def risk(values: Floats, *, source: Timeframe) -> tuple[Floats, Floats]:
    """Estimate beta and residual volatility per source bar, both (T, N); see `residual_risk`."""
    closes = np.log(np.where(values[:, :, Field.CLOSE] > 0, values[:, :, Field.CLOSE], np.nan))
    return residual_risk(closes, bar_ms=source.ms)
