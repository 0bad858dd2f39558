"""An account that cannot be read: told once, nothing opened, asked again, halted at last."""

from __future__ import annotations

from daemon.domain.messages import (
    AccountUnread,
    AlertKind,
    AskSnapshot,
    Command,
    Operator,
    OperatorAction,
    Started,
    Tick,
)
from daemon.engine.engine import Engine
from daemon.engine.risk import TradingState
from daemon.engine.unread import ASK_AGAIN_MS
from tests.engine.world import (
    VENUE,
    FixedWeights,
    alerts,
    at,
    bars,
    feed,
    fill_of,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

WANTED = (0.2, -0.2, 0.1, -0.1)
UNREAD = AccountUnread(VENUE, at(3), "HTTP 503")


def wanting(*weights: tuple[float, ...]) -> Engine:
    """Give an engine whose n-th decision wants the n-th weights, the last for ever."""
    by_hour = [at(4 + 2 * n) for n in range(len(weights))]

    def wanted(as_of_ms: int) -> tuple[float, ...]:
        return weights[max(n for n, at_ms in enumerate(by_hour) if at_ms <= as_of_ms)]

    return trading_engine(FixedWeights(wanted))


def decide(engine: Engine, bar: int) -> int:
    """Close bar and fill whatever is sent; give the number of orders."""
    orders, sent = submitted(feed(engine, bars(bar))), 0
    while orders:
        sent += len(orders)
        fills = [fill_of(order, f"fill of {order.order_id}") for order in orders]
        orders = submitted(feed(engine, *fills))
    return sent


def asked(commands: list[Command]) -> int:
    return sum(isinstance(c, AskSnapshot) and c.executions_cursor >= 0 for c in commands)


def held(engine: Engine) -> dict[int, str]:
    ledger, instruments = engine.state.book.ledger, engine.universe.instruments
    quantities = {n: ledger.quantity(i.key) for n, i in enumerate(instruments)}
    return {n: str(quantity) for n, quantity in quantities.items() if quantity}


def read(engine: Engine) -> list[Command]:
    (cash,) = engine.state.book.ledger.cash.values()
    return feed(engine, snapshot(held(engine), str(cash)))


def test_it_is_told_once_and_nothing_is_opened_until_it_is_read() -> None:
    engine = wanting(WANTED)
    feed(engine, bars(3))
    (told,) = alerts(feed(engine, UNREAD, UNREAD), AlertKind.ACCOUNT)
    assert "cannot be read: HTTP 503" in told.text
    assert trading(engine) is TradingState.REDUCE_ONLY
    assert decide(engine, 4) == 0
    (again,) = alerts(read(engine), AlertKind.ACCOUNT)
    assert "is read again after" in again.text
    assert trading(engine) is TradingState.TRADING
    assert decide(engine, 6) > 0


def test_reducing_goes_on_meanwhile() -> None:
    engine = wanting(WANTED, (0.0,) * 4)
    assert decide(engine, 4) > 0
    feed(engine, UNREAD)
    assert decide(engine, 6) > 0
    assert held(engine) == {}


def test_it_is_asked_again_at_growing_distances_and_once_at_a_time() -> None:
    engine = wanting(WANTED)
    feed(engine, bars(3), UNREAD)
    since_ms, times = engine.state.now_ms, []
    for second in range(1, 120):
        now_ms = since_ms + second * 1_000
        if asked(feed(engine, Tick(now_ms))):
            times.append(second)
            assert asked(feed(engine, Tick(now_ms))) == 0
            feed(engine, UNREAD)
    assert times == [5, 15, 35, 75]
    assert engine.wake_ms <= since_ms + 75_000 + 16 * ASK_AGAIN_MS


def test_after_the_bounded_time_it_halts_and_names_it_and_a_resume_counts_anew() -> None:
    engine = wanting(WANTED)
    feed(engine, bars(3), UNREAD)
    since_ms, most_ms = engine.state.now_ms, engine.rules.unread_max_ms
    assert alerts(feed(engine, Tick(since_ms + most_ms - 1)), AlertKind.HALTED) == []
    (told,) = alerts(feed(engine, Tick(since_ms + most_ms)), AlertKind.HALTED)
    assert told.text == f"{VENUE}: the account was unread for {most_ms / 1000:.0f} s"
    assert trading(engine) is TradingState.HALTED
    read(engine)
    assert trading(engine) is TradingState.HALTED, "only an operator ends a halt"
    feed(engine, UNREAD)
    told_ms = engine.state.now_ms
    asks = feed(engine, Operator(OperatorAction.RESUME, "r", told_ms))
    assert asked(asks) == 1
    assert alerts(feed(engine, Tick(told_ms + most_ms - 1)), AlertKind.HALTED) == []
    assert alerts(feed(engine, Tick(told_ms + most_ms)), AlertKind.HALTED)


def test_at_a_start_nothing_is_traded_before_it_is_read_and_a_halt_ends_the_wait() -> None:
    engine = wanting(WANTED)
    feed(engine, Started(at(3), "again"), UNREAD)
    assert trading(engine) is TradingState.RECONCILING
    feed(engine, Tick(engine.state.now_ms + engine.rules.unread_max_ms))
    assert trading(engine) is TradingState.HALTED


def test_a_snapshot_of_the_state_keeps_it_and_an_older_one_has_none() -> None:
    engine, other = wanting(WANTED), wanting(WANTED)
    feed(engine, bars(3), UNREAD)
    plain = engine.state.to_plain()
    other.restore(plain)
    assert other.state.unread == engine.state.unread != {}
    other.restore({k: v for k, v in plain.items() if k != "unread"})
    assert other.state.unread == {}
