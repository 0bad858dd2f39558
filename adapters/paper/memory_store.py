"""Keep the newest executions in memory: the store of backtests, which never restart."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Final

from adapters.paper.state import Changes, Loaded, PaperOrder, VenueState
from daemon.domain.failures import VenueError
from daemon.domain.messages import VenueEvent
from daemon.domain.order import OrderId

EXECUTIONS_KEPT: Final = 16_384


class MemoryStore:
    """Forget everything at the end of the process, and old executions before."""

    is_durable = False

    def __init__(self) -> None:
        self._executions: deque[VenueEvent] = deque(maxlen=EXECUTIONS_KEPT)

    def load(self, ended_kept: int) -> Loaded | None:
        """Give None: an account in memory is always new."""
        return None

    def commit(self, state: VenueState, changes: Changes) -> None:
        """Keep the executions; the state is the venue's own memory."""
        if changes.executions:
            self._executions.extend(changes.executions)

    def executions_after(self, cursor: int, last: int) -> Iterable[VenueEvent]:
        """Give the executions cursor + 1 .. last; raises VenueError when they are forgotten."""
        wanted, kept = last - cursor, len(self._executions)
        if wanted > kept:
            raise VenueError(
                f"executions after {cursor} were asked for, but an account in memory keeps the "
                f"last {kept} only"
            )
        return list(islice(self._executions, kept - wanted, kept))

    def find(self, order_id: OrderId) -> PaperOrder | None:
        """Give None: what the venue has forgotten is gone."""
        return None
