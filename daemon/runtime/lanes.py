"""What of a lane's commands is carried out at once: orders, and a few questions at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from daemon.domain.messages import Cancel, Command, Query, Submit

ASKED_AT_ONCE: Final = 8


def alike(commands: Sequence[Command]) -> Iterator[list[Command]]:
    """Cut commands into runs of those that may be under way at once, in their order.

    Sends are one run. Cancels and questions about orders are runs of a few, no order twice in one.
    Anything else is by itself.
    """
    run: list[Command] = []
    for command in commands:
        if run and not _joins(run, command):
            yield run
            run = []
        run.append(command)
    if run:
        yield run


def _joins(run: Sequence[Command], command: Command) -> bool:
    match run[-1], command:
        case Submit(), Submit():
            return True
        case Cancel() | Query(), Cancel(order_id=name) | Query(order_id=name):
            others = {one.order_id for one in run if isinstance(one, Cancel | Query)}
            return len(run) < ASKED_AT_ONCE and name not in others
        case _:
            return False
