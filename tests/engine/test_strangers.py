"""What a venue does to us by force is named, opens nothing it must not, and is evened out."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import structs

from daemon.domain.messages import (
    AlertKind,
    Command,
    Operator,
    OperatorAction,
    OrderFilled,
    Started,
)
from daemon.domain.order import DELEVERAGING_PREFIX, LIQUIDATION_PREFIX, Order, OrderId, OrderKind
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from tests.engine.test_unread import held
from tests.engine.world import (
    FixedWeights,
    alerts,
    at,
    bars,
    feed,
    fill_of,
    key,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

WANTED = (0.2, -0.2, 0.1, -0.1)


def holding() -> Engine:
    engine = trading_engine(FixedWeights(lambda as_of_ms: WANTED))
    filled(engine, feed(engine, bars(3), bars(4)))
    assert engine.state.book.gross > 5_000
    return engine


def filled(engine: Engine, told: list[Command]) -> list[Order]:
    """Fill whatever was sent until nothing more is; give all orders."""
    orders, sent = submitted(told), list[Order]()
    while orders:
        sent += orders
        fills = [fill_of(order, f"fill of {order.order_id}") for order in orders]
        orders = submitted(feed(engine, *fills))
    return sent


def forced(engine: Engine, prefix: str, share: float = 1.0) -> OrderFilled:
    """Take (a share of) the first position away."""
    taken = f"{-engine.state.book.held[0] * share:.2f}"
    order = Order(OrderId("x"), key(0), 0, Decimal(taken), OrderKind.MARKET, at(4), 100.0)
    fill = fill_of(order, f"{prefix}{taken}").fill
    return OrderFilled(structs.replace(fill, order_id=OrderId(f"{prefix}9")))


def net_weight(engine: Engine) -> float:
    return abs(engine.state.book.net / engine.state.book.equity)


def test_a_forced_reduction_is_told_and_evened_out_and_trading_goes_on() -> None:
    engine = holding()
    told = feed(engine, forced(engine, DELEVERAGING_PREFIX, 0.5))
    (alert,) = alerts(told, AlertKind.FORCED)
    assert "BTC/USDT:USDT was reduced by force" in alert.text
    assert not alerts(told, AlertKind.STRANGE_FILL)
    assert trading(engine) is TradingState.TRADING
    sent = filled(engine, told)
    assert sent
    assert net_weight(engine) < 0.01


def test_after_a_liquidation_nothing_is_opened_until_a_resume_and_the_rest_is_evened_out() -> None:
    engine = holding()
    told = feed(engine, forced(engine, LIQUIDATION_PREFIX))
    (alert,) = alerts(told, AlertKind.FORCED)
    assert "BTC/USDT:USDT was liquidated" in alert.text
    assert "nothing is opened until a resume" in alert.text
    assert trading(engine) is TradingState.REDUCE_ONLY
    sent = filled(engine, told)
    assert sent
    assert all(order.reduce_only for order in sent)
    assert net_weight(engine) < 0.01
    assert filled(engine, feed(engine, bars(5), bars(6))) == []
    (cash,) = engine.state.book.ledger.cash.values()
    resume = Operator(OperatorAction.RESUME, "r", at(6))
    feed(engine, resume, snapshot(held(engine), str(cash)))
    assert trading(engine) is TradingState.TRADING
    assert filled(engine, feed(engine, bars(7), bars(8)))


@pytest.mark.parametrize("prefix", [DELEVERAGING_PREFIX, LIQUIDATION_PREFIX])
def test_what_happened_while_we_were_away_is_told_too(prefix: str) -> None:
    engine = holding()
    feed(engine, Started(at(5), "again"))
    told = feed(engine, forced(engine, prefix))
    assert alerts(told, AlertKind.FORCED)
    (cash,) = engine.state.book.ledger.cash.values()
    feed(engine, snapshot(held(engine), str(cash)))
    liquidated = prefix == LIQUIDATION_PREFIX
    wanted = TradingState.REDUCE_ONLY if liquidated else TradingState.TRADING
    assert trading(engine) is wanted
