"""Build the views that strategy tests decide on."""

from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
from msgspec.structs import replace

from daemon.domain.bar import FIELDS, Floats, Window
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.units import HOUR_MS, Timeframe
from daemon.domain.view import View

HOUR = Timeframe(60)
RULES = TradingRules(Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(5))


@cache
def universe(size: int) -> Universe:
    """Give `size` instruments with the same rules."""
    names = [f"C{i:03d}" for i in range(size)]
    return Universe(
        tuple(
            Instrument(InstrumentKey("venue", f"{n}/USDT:USDT"), n, "USDT", "USDT", RULES)
            for n in names
        )
    )


def make_view(closes: Floats, *, as_of_ms: int = 1_000 * HOUR_MS, **changes: Any) -> View:
    """Make a view of hourly closes (T, N) that end at `as_of_ms`; flat, 10,000 of equity."""
    size = closes.shape[1]
    values = np.repeat(closes[:, :, None], FIELDS, axis=2)
    plain = View(
        as_of_ms=as_of_ms,
        universe=universe(size),
        windows={HOUR: Window(HOUR, as_of_ms, values)},
        predictions=(),
        disagreement=None,
        marks=closes[-1],
        weights=np.zeros(size),
        equity=10_000.0,
        eligible=np.ones(size, dtype=bool),
        cost=np.full(size, 7e-4),
        funding_rates=np.full(size, np.nan),
    )
    return replace(plain, **changes)
