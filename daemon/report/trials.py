"""What was tried on the same data: the material of the deflated Sharpe ratio and of PBO."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Trials:
    """Hold the daily returns of different configurations on the UTC days they have in common.

    days: (T,) days since 1970-01-01, rising. returns: (T, N), finite, one column a trial in the
    order of names. tried_n >= N counts all different configurations that were run on this data,
    those with no common days included.
    """

    names: tuple[str, ...]
    days: npt.NDArray[np.int64]
    returns: Floats
    tried_n: int
