"""Liquidity tiers: how much of its cap an instrument may use, by what is traded of it.

    v_i = mean over the window's hours of close x volume, in quote currency; a missing bar counts 0

With tiers T_1 > T_2 > ... > T_M the cap is multiplied by 1 - k/M, k the number of tiers above v_i:
whole at T_1 and more, nothing below T_M. An instrument whose cap is nothing takes no place.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from daemon.domain.bar import Field, Floats, Window
from daemon.domain.failures import ConfigurationError


def check_tiers(owner: str, tiers: tuple[int, ...]) -> None:
    """Raise ConfigurationError unless the tiers are positive and fall."""
    falls = all(a > b for a, b in pairwise(tiers)) and all(t > 0 for t in tiers)
    if not falls:
        raise ConfigurationError(
            f"strategy {owner!r}: liquidity_tiers_usdt = {list(tiers)}: want positive numbers, the"
            " largest first"
        )


def cap_share(window: Window, tiers: tuple[int, ...]) -> Floats:
    """Give the share (N,) of its cap that each instrument may use; at least one tier."""
    traded = window.values[:, :, Field.CLOSE] * window.values[:, :, Field.VOLUME]
    mean = np.where(np.isfinite(traded), traded, 0.0).mean(axis=0)
    under = (mean[:, None] < np.array(tiers)).sum(axis=1)
    return np.asarray(1.0 - under / len(tiers))
