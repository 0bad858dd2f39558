"""Events and commands as a run makes them, for the journal's tests."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from daemon.domain.bar import FIELDS, Window
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import (
    BarsClosed,
    Command,
    Decided,
    Estimate,
    Event,
    FundingPaid,
    OrderFilled,
    Submit,
    Tick,
)
from daemon.domain.order import Approved, Fill, Order, OrderId, OrderKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import HOUR_MS, Timeframe

START_MS = 1_700_006_400_000
BTC = InstrumentKey("paper", "BTC/USDT:USDT")
Pair = tuple[Event, Sequence[Command]]


def bars(close_ms: int, instruments_n: int = 3) -> BarsClosed:
    """Make a cross-section in which one bar is absent."""
    values = np.arange(instruments_n * FIELDS, dtype=float).reshape(instruments_n, FIELDS) + 100
    values[-1] = np.nan
    proof = np.array([1] * (instruments_n - 1) + [0], dtype=np.uint8)
    return BarsClosed(close_ms, values, proof, values[:, 3].copy())


def order(number: int, at_ms: int) -> Order:
    """Make a market order."""
    order_id = OrderId(f"o{number}")
    return Order(order_id, BTC, 0, Decimal("0.010"), OrderKind.MARKET, at_ms, 100.0)


def filled(number: int, at_ms: int) -> OrderFilled:
    """Make a fill."""
    price, fee = Decimal("100.10"), Decimal("0.0005")
    fill = Fill(f"t{number}", OrderId(f"o{number}"), BTC, 0, Decimal("0.01"), price, fee, at_ms)
    return OrderFilled(fill)


def funding(at_ms: int) -> FundingPaid:
    """Make a funding cash flow."""
    cash_key = CashKey("paper", "USDT")
    return FundingPaid(f"f{at_ms}", BTC, cash_key, at_ms, 0.0001, Decimal("-0.0001"))


def decided(number: int, at_ms: int, instruments_n: int = 3) -> Decided:
    """Make a decision with one order."""
    zeros = np.zeros(instruments_n)
    return Decided(
        Decision(
            as_of_ms=at_ms,
            sequence=number,
            kind=DecisionKind.TRADED,
            bars_digest="ab",
            absent=(2,),
            equity=10_000.0,
            marks=np.array([100.0, 3.0, np.nan]),
            weights_before=zeros,
            predictions=(),
            target=TargetPortfolio(at_ms, zeros + 0.1, zeros, zeros),
            orders=(order(number, at_ms),),
            refusals=(),
        )
    )


def estimate(at_ms: int, bars_n: int = 64) -> Estimate:
    """Make a request with a window that is far bigger than everything else."""
    values = np.full((bars_n, 3, FIELDS), 7.0)
    return Estimate(at_ms, (Window(Timeframe(60), at_ms, values),))


def an_hour(number: int) -> list[Pair]:
    """Make what happens around one decision."""
    at_ms = START_MS + number * HOUR_MS
    approved = Approved(order(number, at_ms))
    return [
        (bars(at_ms), [estimate(at_ms)]),
        (Tick(at_ms + 1), [decided(number, at_ms), Submit(approved)]),
        (filled(number, at_ms), []),
        (funding(at_ms), []),
    ]
