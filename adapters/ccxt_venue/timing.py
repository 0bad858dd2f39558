"""The venue's clock as requests are signed with it: measured, bounded, and kept fresh.

ccxt signs with this machine's time less `timeDifference`. It measures that once, and takes the
whole way of the answer for skew. Here the middle of the quickest of a few round trips counts, which
is off by half of that at most, and it is measured again and again, at once after a refusal.
"""

from __future__ import annotations

from typing import Final

from adapters.ccxt_venue.calls import Caller
from daemon.domain.failures import BadPayload, VenueError

SAMPLES_N: Final = 3
ERROR_MS_MAX: Final = 500.0  # less than what `desk` adds to the window before it believes absence


class SigningClock:
    """Keep a client's time difference; offset_ms, error_ms: as last measured."""

    def __init__(self, caller: Caller, *, error_ms_max: float) -> None:
        self._caller = caller
        self._error_ms_max = error_ms_max
        self.offset_ms = 0
        self.error_ms = float("inf")
        self.measured_n = 0

    async def measure(self) -> None:
        """Measure and set the offset; raises VenueError when the venue tells no usable time."""
        samples = [
            await self._caller.patiently(self._sample, "server time") for _ in range(SAMPLES_N)
        ]
        error_ms, offset_ms = min(samples)
        if error_ms > self._error_ms_max:
            raise VenueError(
                f"{self._caller.venue}: its time is known to {error_ms:.0f} ms only; requests are "
                f"signed with {self._error_ms_max:.0f} ms at most"
            )
        self.offset_ms, self.error_ms = offset_ms, error_ms
        self._caller.api.options["timeDifference"] = -offset_ms
        self.measured_n += 1

    async def _sample(self) -> tuple[float, int]:
        api = self._caller.api
        before_ms = int(api.milliseconds())
        told: list[object] = []

        async def asked() -> None:
            told.append(await api.fetch_time())

        done = await self._caller.run(asked)
        after_ms = int(api.milliseconds())
        if done.trouble is not None or not told or not isinstance(told[0], int):
            raise BadPayload(f"no time was told: {self._caller.words(done.trouble)}")
        middle_ms = (before_ms + after_ms) / 2
        return (after_ms - before_ms) / 2, round(told[0] - middle_ms)
