"""What of a lane's commands is carried out at once: orders, and a few questions at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from daemon.domain.messages import Cancel, Command, Query, Submit
from daemon.domain.order import OrderId

ASKED_AT_ONCE: Final = 8


def alike(commands: Sequence[Command]) -> Iterator[list[Command]]:
    """Cut commands into runs of those that may be under way at once, in their order.

    Sends are one run. So are cancels: none waits for what is asked about another's order. Questions
    about orders are runs of a few. No order is twice in one. Anything else is by itself.
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
        case Cancel(), Cancel(order_id=name):
            return name not in _named(run)
        case Query(), Query(order_id=name):
            return len(run) < ASKED_AT_ONCE and name not in _named(run)
        case _:
            return False


def _named(run: Sequence[Command]) -> set[OrderId]:
    return {one.order_id for one in run if isinstance(one, Cancel | Query)}
