"""Hold liquidity tiers to worked figures."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.bar import Window
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import HOUR_MS, Timeframe
from strategies.book_settings import BookSettings
from strategies.liquidity import cap_share


def traded(*hourly: list[float]) -> Window:
    """Make a window in which each coin closes at 2 and trades so much quote currency an hour."""
    values = np.full((len(hourly[0]), len(hourly), 5), 2.0)
    values[:, :, 4] = np.array(hourly).T / 2.0
    return Window(Timeframe(60), 10 * HOUR_MS, values)


def test_caps_fall_by_tier_and_end_below_the_last() -> None:
    window = traded([500.0, 700.0], [500.0, 499.0], [100.0, 100.0], [90.0, 99.0])
    assert cap_share(window, (500, 100)).tolist() == [1.0, 0.5, 0.5, 0.0]
    assert cap_share(window, (100,)).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_a_missing_bar_counts_as_nothing_traded() -> None:
    window = traded([1000.0, 1000.0], [1000.0, np.nan])
    assert cap_share(window, (600,)).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("tiers", [(100, 100), (10, 20), (5, 0), (-1,)])
def test_tiers_that_do_not_fall_are_refused(tiers: tuple[int, ...]) -> None:
    with pytest.raises(ConfigurationError, match="the largest first"):
        BookSettings(liquidity_tiers_usdt=tiers)
