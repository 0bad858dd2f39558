"""A venue's time between measurements, on a machine whose clock runs a little wrong."""

from __future__ import annotations

import pytest

from adapters.clocks import VenueClock
from tests.adapters.test_clocks import Scripted


class Drifting:
    """A venue that answers as fast as a test wants, beside a machine that runs too fast."""

    def __init__(self, ppm: float = 0.0) -> None:
        self.true_s = 0.0
        self.ppm = ppm
        self.jump_ms = 0
        self.trip_s = 0.02
        self.transport = Scripted()
        self.clock = VenueClock(self._ask, self.transport, samples=1)

    @property
    def ahead_ms(self) -> float:
        """Give how far market time is ahead of the venue's."""
        return self.clock.now() - (self.true_s * 1000 + self.jump_ms + 1_000_000)

    def run(self, seconds: float) -> None:
        self.true_s += seconds
        self.transport.seconds += seconds * (1 + self.ppm * 1e-6)
        self.transport.wall += round(seconds * 1000)

    async def _ask(self) -> int:
        self.run(self.trip_s / 2)
        told_ms = round(self.true_s * 1000) + self.jump_ms + 1_000_000
        self.run(self.trip_s / 2)
        return told_ms


@pytest.mark.parametrize("trip_s", [1.0, 6.0])
async def test_market_time_is_never_ahead_though_a_venue_answers_slowly_for_hours(
    trip_s: float,
) -> None:
    venue = Drifting(ppm=80.0)
    await venue.clock.measure()
    venue.trip_s = trip_s
    for _ in range(720):
        venue.run(60.0)
        await venue.clock.remeasure_if_due()
        assert -1.5 * trip_s * 1000 <= venue.ahead_ms <= 1


async def test_a_sharper_measurement_that_a_later_one_contradicts_counts_no_more() -> None:
    venue = Drifting()
    await venue.clock.measure()
    venue.run(60.0)
    venue.jump_ms, venue.trip_s = 800, 0.1  # a step too small to be doubted
    await venue.clock.measure()
    assert venue.ahead_ms == pytest.approx(-50, abs=2)
