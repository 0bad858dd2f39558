"""The ledger: exact cash flows by hand, conservation, how positions grow, shrink and turn."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.order import Fill, OrderId
from daemon.domain.portfolio import AccountSnapshot, Ledger, Position

BTC = InstrumentKey("v", "BTC/USDT:USDT")
ETH = InstrumentKey("v", "ETH/USDT:USDT")
USDT = CashKey("v", "USDT")
ZERO = Decimal(0)


def fill(quantity: str, price: str, fee: str = "0", key: InstrumentKey = BTC) -> Fill:
    size = Decimal(quantity)
    return Fill("t", OrderId("o"), key, 0, size, Decimal(price), Decimal(fee), 0)


def ledger_of(*fills: Fill) -> Ledger:
    ledger = Ledger()
    for one in fills:
        ledger.apply_fill(one, USDT)
    return ledger


@pytest.mark.parametrize(
    ("fills", "quantity", "cost", "average", "cash"),
    [
        ([("2", "100")], "2", "200", "100", "-200"),
        ([("2", "100"), ("2", "110")], "4", "420", "105", "-420"),
        ([("-2", "100"), ("-1", "130")], "-3", "-330", "110", "330"),
        ([("4", "100"), ("-1", "120")], "3", "300", "100", "-280"),  # 20 earned, cost unchanged
        ([("2", "100"), ("-2", "120")], "0", "0", None, "40"),
        ([("2", "100"), ("-5", "120")], "-3", "-360", "120", "400"),  # turned at the fill's price
        ([("-2", "100"), ("5", "90")], "3", "270", "90", "-250"),
    ],
)
def test_a_position_keeps_its_average_price_until_it_grows_or_turns(
    fills: list[tuple[str, str]], quantity: str, cost: str, average: str | None, cash: str
) -> None:
    ledger = ledger_of(*(fill(q, p) for q, p in fills))
    position = ledger.positions[BTC]
    assert position == Position(Decimal(quantity), Decimal(cost))
    assert position.average_price == (None if average is None else Decimal(average))
    assert ledger.cash[USDT] == Decimal(cash)
    assert ledger.quantity(BTC) == Decimal(quantity)


def test_fees_turnover_and_fills_are_counted() -> None:
    ledger = ledger_of(fill("2", "100", "0.10"), fill("-1", "90", "-0.01"))
    assert (ledger.fees, ledger.turnover, ledger.fills) == (Decimal("0.09"), Decimal(290), 2)
    assert ledger.cash[USDT] == Decimal("-110.09")


def test_equity_is_cash_and_positions_at_their_marks() -> None:
    ledger = ledger_of(fill("2", "100"), fill("-3", "10", key=ETH))
    ledger.apply_transfer(USDT, Decimal(1000))
    assert ledger.equity({BTC: Decimal(105), ETH: Decimal(12)}) == Decimal(1004)
    with pytest.raises(KeyError):
        ledger.equity({BTC: Decimal(1)})


def test_a_closed_position_needs_no_mark() -> None:
    ledger = ledger_of(fill("2", "100"), fill("-2", "101"))
    assert ledger.equity({}) == Decimal(2)


def test_the_wallet_of_a_venue_shows_cash_plus_the_cost_of_open_positions() -> None:
    ledger = ledger_of(fill("2", "100"), fill("-1", "120", "0.5"))
    ledger.apply_transfer(USDT, Decimal(1000))
    assert ledger.wallet_balance(USDT, [BTC, ETH]) == Decimal("1019.5")  # 1000 + 20 gain - fee
    assert ledger.wallet_balance(CashKey("v", "BNB"), []) == ZERO


def test_funding_and_transfers_move_cash_only() -> None:
    ledger = ledger_of(fill("2", "100"))
    ledger.apply_funding(USDT, Decimal("-0.5"))
    ledger.apply_transfer(USDT, Decimal(30))
    assert ledger.cash[USDT] == Decimal("-170.5")
    assert (ledger.funding, ledger.transfers) == (Decimal("-0.5"), Decimal(30))
    assert ledger.quantity(BTC) == 2
    assert ledger.turnover == 200


def test_an_adjustment_is_no_trade() -> None:
    ledger = ledger_of(fill("2", "100"))
    ledger.apply_adjustment(BTC, USDT, Decimal(-2), Decimal(5))
    ledger.apply_adjustment(ETH, USDT, Decimal(7), ZERO)
    assert ledger.quantity(BTC) == 0
    assert ledger.quantity(ETH) == 7
    assert ledger.cash[USDT] == Decimal(-195)
    assert (ledger.adjustments, ledger.fills, ledger.turnover) == (Decimal(5), 1, Decimal(200))


amounts = st.decimals(-1_000, 1_000, places=4)
steps = st.one_of(
    st.tuples(
        st.just("fill"),
        st.sampled_from([BTC, ETH]),
        amounts.filter(bool),
        st.decimals("0.0001", 100_000, places=4),
        st.decimals(-1, 10, places=8),
    ),
    st.tuples(st.sampled_from(["funding", "transfer"]), amounts),
)


@given(st.lists(steps, max_size=30), st.decimals("0.01", 1_000, places=2))
def test_what_comes_in_goes_out_exactly(moves: list[tuple[object, ...]], mark: Decimal) -> None:
    """Cash + what was paid + fees - funding - transfers is zero, to the last digit."""
    ledger = Ledger()
    spent = quantity_at_mark = ZERO
    for move in moves:
        match move:
            case ("fill", InstrumentKey() as key, Decimal() as size, Decimal() as price, fee):
                assert isinstance(fee, Decimal)
                ledger.apply_fill(Fill("t", OrderId("o"), key, 0, size, price, fee, 0), USDT)
                spent += size * price
                quantity_at_mark += size * mark
            case ("funding", Decimal() as amount):
                ledger.apply_funding(USDT, amount)
            case (_, Decimal() as amount):
                ledger.apply_transfer(USDT, amount)
            case _:
                raise AssertionError(move)
    cash = sum(ledger.cash.values(), ZERO)
    assert cash + spent + ledger.fees - ledger.funding - ledger.transfers == 0
    assert ledger.equity({BTC: mark, ETH: mark}) == cash + quantity_at_mark


def test_a_snapshot_names_only_its_own_venue() -> None:
    foreign = InstrumentKey("other", "BTC/USDT:USDT")
    with pytest.raises(InvariantViolated, match="other:BTC/USDT:USDT"):
        AccountSnapshot("v", 0, {BTC: Decimal(1), foreign: Decimal(1)}, {})
