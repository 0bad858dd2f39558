"""The order table: allowed transitions, fills counted once, nothing lost in a snapshot."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from daemon import codec
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.order import (
    Done,
    DoneReason,
    InFlight,
    Order,
    OrderId,
    OrderKind,
    OrderState,
    Resting,
    Uncertain,
)
from daemon.engine.orders import ENDED_KEPT, TOLD_AGAIN_MS, TRANSITIONS, OrderTable

KEY = InstrumentKey("venue", "BTC/USDT:USDT")


def order(order_id: str, quantity: str = "2") -> Order:
    return Order(OrderId(order_id), KEY, 0, Decimal(quantity), OrderKind.MARKET, 0, 100.0)


def test_an_order_ends_when_its_fills_add_up_to_its_quantity() -> None:
    table = OrderTable()
    table.submit(order("a"))
    table.accept(OrderId("a"))
    table.fill(OrderId("a"), "t1", Decimal("0.5"))
    assert table.open[OrderId("a")].left == Decimal("1.5")
    table.fill(OrderId("a"), "t2", Decimal("1.5"))
    assert not table.open
    assert table.ended[OrderId("a")] is DoneReason.FILLED


def test_an_id_is_never_used_twice_even_after_the_order_ended() -> None:
    table = OrderTable()
    table.submit(order("a"))
    table.end(OrderId("a"), DoneReason.CANCELLED)
    with pytest.raises(InvariantViolated, match="was used before"):
        table.submit(order("a"))


def test_a_fill_before_the_acknowledgement_counts_as_an_admission() -> None:
    table = OrderTable()
    table.submit(order("a"))
    table.fill(OrderId("a"), "t1", Decimal(1))
    assert isinstance(table.open[OrderId("a")].state, Resting)
    table.accept(OrderId("a"))
    assert isinstance(table.open[OrderId("a")].state, Resting)


def test_a_second_doubt_changes_nothing() -> None:
    table = OrderTable()
    table.submit(order("a")).state = Uncertain(2, 7_000)
    record = table.doubt(OrderId("a"))
    assert record is not None
    assert record.state == Uncertain(2, 7_000)


def test_answers_about_orders_that_are_over_change_nothing() -> None:
    table = OrderTable()
    table.submit(order("a"))
    table.end(OrderId("a"), DoneReason.REJECTED)
    assert table.accept(OrderId("a")) is None
    assert table.end(OrderId("a"), DoneReason.FILLED) is None
    assert table.ended[OrderId("a")] is DoneReason.REJECTED


def test_the_memory_of_ended_orders_is_bounded() -> None:
    table = OrderTable()
    for i in range(ENDED_KEPT + 10):
        table.submit(order(f"o{i}"))
        table.end(OrderId(f"o{i}"), DoneReason.CANCELLED)
    assert len(table.ended) == ENDED_KEPT
    assert table.ended_n == ENDED_KEPT + 10


def test_a_table_survives_the_snapshot_codec() -> None:
    table = OrderTable()
    for name in ("a", "b", "c"):
        table.submit(order(name))
    table.accept(OrderId("a"))
    table.fill(OrderId("a"), "t1", Decimal("0.25"))
    table.doubt(OrderId("b"))
    table.end(OrderId("c"), DoneReason.ABSENT)
    plain = codec.decode(codec.encode(table.to_plain()), dict[str, Any])
    again = OrderTable.from_plain(plain)
    assert again.to_plain() == table.to_plain()
    assert "t1" in again.trade_ids
    assert again.open[OrderId("a")].left == Decimal("1.75")


STATES: tuple[OrderState, ...] = (
    InFlight(),
    Resting(),
    Uncertain(2),
    Done(DoneReason.FILLED),
)
ALLOWED = {
    (InFlight, Resting),
    (InFlight, Uncertain),
    (InFlight, Done),
    (Resting, Resting),
    (Resting, Uncertain),
    (Resting, Done),
    (Uncertain, Resting),
    (Uncertain, Done),
}


@pytest.mark.parametrize("before", STATES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("after", STATES, ids=lambda s: type(s).__name__)
def test_only_the_transitions_of_the_table_are_possible(
    before: OrderState, after: OrderState
) -> None:
    table = OrderTable()
    record = table.submit(order("a"))
    record.state = before
    moves: dict[type, Callable[[], object]] = {
        InFlight: lambda: table.submit(order("a")),
        Resting: lambda: table.accept(OrderId("a")),
        Uncertain: lambda: table.doubt(OrderId("a")),
        Done: lambda: table.end(OrderId("a"), DoneReason.CANCELLED),
    }
    if (type(before), type(after)) in ALLOWED:
        moves[type(after)]()
        assert type(record.state) is type(after)
    elif type(after) is Uncertain is type(before):
        moves[type(after)]()  # a doubt that is there already stays what it is
        assert record.state == before
    else:
        with pytest.raises(InvariantViolated, match=r"cannot become|was used before"):
            moves[type(after)]()
    assert {(a, b) for a, some in TRANSITIONS.items() for b in some} == ALLOWED


def test_a_fill_beyond_the_order_ends_it() -> None:
    table = OrderTable()
    table.submit(order("a", "-2"))
    record = table.fill(OrderId("a"), "t1", Decimal(-3))
    assert record is not None
    assert record.is_overfilled
    assert not table.open


def test_fills_of_orders_that_are_not_ours_are_remembered_too() -> None:
    table = OrderTable()
    assert table.fill(OrderId("x"), "t1", Decimal(1)) is None
    assert "t1" in table.trade_ids
    assert table.doubt(OrderId("x")) is None


def test_trades_are_forgotten_when_told_and_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.engine.orders.TRADE_IDS_KEPT", 3)
    table = OrderTable()
    for i in range(5):
        table.fill(OrderId("x"), f"t{i}", Decimal(1), at_ms=i)
    assert len(table.trade_ids) == 5
    table.forget_trades(TOLD_AGAIN_MS + 5)
    assert [(f"t{i}" in table.trade_ids) for i in range(5)] == [False, False, True, True, True]


def test_trades_that_are_told_again_without_a_restart_are_all_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each reading of the account reaches back some minutes before the one that was agreed on."""
    monkeypatch.setattr("daemon.engine.orders.TRADE_IDS_KEPT", 1)
    table, hour = OrderTable(), TOLD_AGAIN_MS
    for at_ms in (0, 1, 2, 3):
        table.fill(OrderId("x"), f"t{at_ms}", Decimal(1), at_ms=at_ms)
    again = OrderTable.from_plain(table.to_plain())
    again.forget_trades(hour + 2)
    assert list(again.trade_ids) == ["t2", "t3"]
