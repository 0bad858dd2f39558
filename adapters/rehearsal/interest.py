"""Open interest: a fixed multiple of the volume of the last half hour that is over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from adapters.rehearsal.publication import Publication
from daemon.domain.units import MINUTE_MS

INTEREST_TIMES: Final = 100.0
INTEREST_MS: Final = 30 * MINUTE_MS


def interest_at(
    publication: Publication, symbol: str, at_ms: Sequence[int], now_ms: int
) -> list[float]:
    """Give the open interest at instants, oldest first; 0 before the first half hour is over."""
    if not at_ms:
        return []
    length_ms = max(INTEREST_MS, publication.market.step_ms)
    first_ms = at_ms[0] - at_ms[0] % length_ms - length_ms
    found = publication.klines(
        symbol,
        length_ms,
        now_ms,
        start_ms=first_ms,
        limit=(at_ms[-1] - first_ms) // length_ms + 1,
    )
    ends = (found.open_ms + length_ms).tolist()
    volumes = dict(zip(ends, found.volume.tolist(), strict=True))
    return [INTEREST_TIMES * volumes.get(at - at % length_ms, 0.0) for at in at_ms]
