"""Say commands in short words, so that a story of events and commands can be read aloud."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never

from daemon.domain.decision import Decision
from daemon.domain.messages import (
    Alert,
    AskSnapshot,
    Cancel,
    Command,
    Decided,
    DecisionsFlagged,
    Estimate,
    Event,
    Query,
    Submit,
)
from daemon.domain.order import Order, OrderId
from daemon.domain.units import utc
from daemon.engine.engine import Engine


def hour(at_ms: int) -> str:
    return f"{utc(at_ms):%H:%M}"


def number(order_id: str) -> str:
    """Turn `eq65542620-0-1` into `02:00-0-1`: when, which coin, which child."""
    when, rest = order_id.removeprefix("eq").split("-", 1)
    when, _, extra = when.partition("x")
    rest = f"x-{rest}" if extra else rest
    return f"{hour(int(when, 16) * 1000)}-{rest}"


def said(command: Command) -> str:
    match command:
        case Submit(approved=approved):
            return f"submit {_order(approved.order)}"
        case Cancel(order_id=order_id):
            return f"cancel {number(order_id)}"
        case Query(order_id=order_id):
            return f"query {number(order_id)}"
        case AskSnapshot(executions_cursor=cursor):
            return f"snapshot after {cursor}"
        case Estimate(as_of_ms=as_of_ms, windows=windows):
            frames = " ".join(f"{w.timeframe.label}@{hour(w.newest_ms)}" for w in windows)
            return f"estimate {hour(as_of_ms)}: {frames}"
        case Decided(decision=decision):
            return _decision(decision)
        case DecisionsFlagged(index=index, close_ms=close_ms, instants=instants):
            used = " ".join(hour(at_ms) for at_ms in instants)
            return f"flag {index}@{hour(close_ms)}: {used}"
        case Alert(kind=kind, text=text):
            return f"alert {kind}: {text}"
        case _:
            assert_never(command)


def _order(order: Order) -> str:
    reduce = " reduce-only" if order.reduce_only else ""
    return f"{number(order.order_id)} {order.quantity}{reduce}"


def _decision(decision: Decision) -> str:
    absent = f" without {list(decision.absent)}" if decision.absent else ""
    refused = f", {len(decision.refusals)} refused" if decision.refusals else ""
    note = f" ({decision.note})" if decision.note else ""
    count = len(decision.orders)
    return f"{decision.kind} {hour(decision.as_of_ms)}, {count} orders{refused}{absent}{note}"


class Story:
    """Send events to an engine, remember the orders, and say what came of each event."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.orders: dict[str, Order] = {}
        self.trades_n = 0

    def __call__(self, *events: Event) -> list[str]:
        told: list[str] = []
        for event in events:
            commands: Sequence[Command] = self.engine.process(event)
            for command in commands:
                if isinstance(command, Submit):
                    order = command.approved.order
                    self.orders[number(order.order_id)] = order
            told += [said(command) for command in commands]
        return told

    def id(self, name: str) -> OrderId:
        return self.orders[name].order_id
