"""A fixed run of the paper venue that can be killed anywhere: also the program that gets killed.

    python -m tests.adapters.paper_plan LEDGER FIRST_STEP [COMMIT before|after]

plays the plan from FIRST_STEP, prints each step once it is answered, and with COMMIT kills itself
with SIGKILL just before or just after that commit of the store.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from adapters.paper import PaperVenue, SqliteStore
from adapters.paper.state import Changes, LedgerStore, VenueState
from daemon.domain.messages import VenueEvent
from tests.contract.paper_world import (
    NAN,
    START_MS,
    bars,
    key,
    make_universe,
    order,
    rates,
    settings,
)

BARS_N = 24
COSTS: dict[str, object] = {
    "fee_bps": 5.0,
    "half_spread_bps": 1.0,
    "impact_bps": 20.0,
    "latency_bps": 0.5,
}
Step = Callable[[PaperVenue], list[VenueEvent]]


def plan() -> list[Step]:
    """List what is asked of the venue: bars, orders larger than a bar fills, funding, cancels."""
    steps: list[Step] = []
    for n in range(1, BARS_N):
        prices = (100.0 + n % 5, 10.0 - n % 3, 1.0 + 0.1 * (n % 4))
        rate = rates(n, (0.001, -0.002, 0.003) if n % 4 == 0 else (NAN, NAN, NAN))
        bar = bars(n, prices, volumes=40.0 + n)
        side = "-" if n % 2 else ""
        orders = [
            order(f"o{n}a", f"{side}{3 + n % 3}", number=n),
            order(f"o{n}b", f"{side}2.5", index=1, number=n),
            order(f"o{n}c", "-1", number=n, reduce_only=True),
        ]
        steps.append(lambda venue, rate=rate: venue.observe(rate))  # type: ignore[misc]
        steps.append(lambda venue, bar=bar: venue.observe(bar))  # type: ignore[misc]
        steps.append(lambda venue, orders=orders: venue.submit(orders))  # type: ignore[misc]
        if n % 3 == 0:
            steps.append(lambda venue, i=orders[0].order_id: venue.cancel(i, key(0)))  # type: ignore[misc]
    return steps


def open_venue(store: LedgerStore) -> PaperVenue:
    """Open or resume the account of the plan."""
    return PaperVenue(make_universe(), settings(**COSTS), store, opened_ms=START_MS)


class FatalStore(SqliteStore):
    """Die by SIGKILL around a given commit."""

    def __init__(self, path: Path, commit: int, when: str) -> None:
        super().__init__(path)
        self._commits_left = commit
        self._when = when

    def commit(self, state: VenueState, changes: Changes) -> None:
        self._commits_left -= 1
        if self._commits_left == 0 and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        super().commit(state, changes)
        if self._commits_left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    path, first = Path(sys.argv[1]), int(sys.argv[2])
    store = FatalStore(path, int(sys.argv[3]), sys.argv[4]) if sys.argv[3:] else SqliteStore(path)
    venue = open_venue(store)
    for number, step in enumerate(plan()):
        if number >= first:
            step(venue)
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
