"""Acts that the engine's scenarios share: decide, fill, wish."""

from __future__ import annotations

from daemon.domain.messages import (
    Command,
    Operator,
    OperatorAction,
    OrderAccepted,
)
from daemon.domain.order import Order
from daemon.engine.engine import Engine
from tests.engine.world import (
    at,
    bars,
    feed,
    fill_of,
    forecast,
    submitted,
    trading_engine,
)

PAIR = (0.1, -0.1, 0.0, 0.0)


def wish(action: OperatorAction, request: str = "1") -> Operator:
    return Operator(action, request, at(0))


def decide(engine: Engine, bar: int, means: tuple[float, ...]) -> list[Command]:
    """Close a bar on the hour and answer the question for forecasts."""
    return feed(engine, bars(bar, n=len(means)), forecast(bar, means))


def accept_all(engine: Engine, orders: list[Order]) -> None:
    """Let the venue admit orders."""
    feed(engine, *(OrderAccepted(o.order_id, at(0)) for o in orders))


def fill_all(engine: Engine, orders: list[Order], prefix: str = "t") -> list[Command]:
    """Fill orders, and those that their fills make room for."""
    told: list[Command] = []
    queue = list(orders)
    while queue:
        order = queue.pop(0)
        commands = feed(engine, fill_of(order, f"{prefix}-{order.order_id}"))
        queue += submitted(commands)
        told += commands
    return told


def with_a_pair(**changes: object) -> Engine:
    """Give an engine that is long 10 coins of the first and short 10 of the second."""
    engine = trading_engine(**changes)  # type: ignore[arg-type]
    fill_all(engine, submitted(decide(engine, 4, PAIR)))
    assert engine.state.book.held[:2] == [10.0, -10.0]
    return engine
