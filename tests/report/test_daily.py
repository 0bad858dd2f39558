"""The summary of a day by worked figures."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from msgspec.structs import replace as changed

from daemon.domain.covariance import Covariance
from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import FundingPaid, Transferred
from daemon.domain.order import Fill, Order, OrderId, OrderKind
from daemon.domain.units import DAY_MS
from daemon.report.daily import Day, day_of, day_values, day_words

START_MS = 1_706_054_400_000  # 2024-01-24
H_MS = 3_600_000
KEY = InstrumentKey("v", "A/USDT:USDT")
CASH = CashKey("v", "USDT")


def decision(hours: float, equity: float, weights: tuple[float, float]) -> Decision:
    return Decision(
        as_of_ms=START_MS + round(hours * H_MS),
        sequence=0,
        kind=DecisionKind.TRADED,
        bars_digest="",
        absent=(),
        equity=equity,
        marks=np.ones(2),
        weights_before=np.array(weights),
        predictions=(),
        target=None,
        orders=(),
        refusals=(),
    )


def fill(trade: str, order: str, quantity: str, price: str) -> Fill:
    return Fill(
        trade_id=trade, order_id=OrderId(order), key=KEY, index=0, quantity=Decimal(quantity),
        price=Decimal(price), fee=Decimal("0.5"), at_ms=START_MS + H_MS,
    )  # fmt: skip


def order(name: str, reference: float) -> Order:
    return Order(
        order_id=OrderId(name), key=KEY, index=0, quantity=Decimal(1), kind=OrderKind.MARKET,
        as_of_ms=START_MS, reference_price=reference,
    )  # fmt: skip


def transfer(hours: float, amount: str) -> Transferred:
    return Transferred(amount + str(hours), CASH, START_MS + round(hours * H_MS), Decimal(amount))


DAY = Day(
    start_ms=START_MS,
    decisions=[
        decision(1, 1000.0, (0.0, 0.0)),
        decision(2, 1100.0, (0.5, -0.4)),
        decision(3, 1045.0, (0.5, -0.7)),
    ],
    closing=decision(24, 1150.0, (0.6, -0.6)),
    orders=[order("o1", 100.0), order("o2", 100.0)],
    fills=[
        fill("1", "o1", "2", "101"),
        fill("1", "o1", "2", "101"),  # resent: counts once
        fill("2", "o2", "-1", "99"),
        fill("3", "not ours", "1", "50"),
    ],
    funding=[FundingPaid("f", KEY, CASH, START_MS, 1e-4, Decimal("-0.25"))],
    transfers=[transfer(1, "1000"), transfer(5, "50"), transfer(24.5, "7")],
    covariances=[Covariance(START_MS, "e", np.array([1.0, 1.0]), np.eye(2))],
)


def test_a_day_by_hand() -> None:
    told = day_values(DAY)
    assert (told["day"], told["is_whole"], told["decisions_n"]) == ("2024-01-24", True, 3)
    # the first deposit was in the equity of the first decision, the last came after the day
    assert told["transfers"] == Decimal(50)
    assert told["pnl"] == pytest.approx(1150 - 1000 - 50)
    assert told["return"] == pytest.approx(0.1)
    assert told["drawdown_worst"] == pytest.approx(1 - 1045 / 1100)
    assert told["gross_weight_worst"] == pytest.approx(1.2)
    assert told["net_weight_worst"] == pytest.approx(-0.2)
    assert told["net_weight_mean"] == pytest.approx((0 + 0.1 - 0.2 + 0) / 4)
    assert told["beta_weight_worst"] == pytest.approx(-0.2)  # both betas are 1
    assert (told["fills_n"], told["fees"], told["funding"]) == (3, Decimal("1.5"), Decimal("-0.25"))
    assert told["turnover"] == pytest.approx(202 + 99 + 50)
    assert told["slippage"] == pytest.approx(2 * 1 + 1 * 1)
    assert told["slippage_bps"] == pytest.approx(1e4 * 3 / 301)
    assert told["slippage_known_share"] == pytest.approx(301 / 351)
    assert day_words(told).startswith(
        "2024-01-24: P&L +100.00 (+10.00%) to 1,150.00, drawdown 5.00%"
    )


def test_what_is_not_known_is_none_and_never_zero() -> None:
    quiet = replace(DAY, closing=None, fills=[], covariances=[], decisions=DAY.decisions[:1])
    told = day_values(quiet)
    assert told["is_whole"] is False
    for name in ("slippage", "slippage_bps", "slippage_known_share", "beta_weight_worst"):
        assert told[name] is None, name
    unknown = changed(DAY.decisions[1], weights_before=np.array([0.5, np.nan]))
    assert day_values(replace(DAY, decisions=[unknown]))["gross_weight_worst"] == pytest.approx(1.2)


def test_a_book_in_a_coin_of_unknown_volatility_has_no_beta() -> None:
    half = Covariance(START_MS, "e", np.array([1.0, np.nan]), np.eye(2))
    told = day_values(replace(DAY, covariances=[half], closing=None))
    assert told["beta_weight_worst"] == 0.0  # of the first decision, which held nothing


def test_a_day_begins_at_midnight() -> None:
    assert day_of(START_MS) == START_MS
    assert day_of(START_MS - 1) == START_MS - DAY_MS
