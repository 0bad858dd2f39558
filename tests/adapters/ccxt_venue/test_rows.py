"""The venues' records as exact values; expected numbers are written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ccxt_venue import rows_binance, rows_bybit, rows_okx
from adapters.ccxt_venue.quirks import QUIRKS, Readers
from adapters.ccxt_venue.rows import (
    Balance,
    CashFlow,
    CashKind,
    Cause,
    Execution,
    Holding,
    OrderRecord,
    base_units,
    exact,
    flag,
    instant,
    one_each,
    signed,
)
from daemon.domain.failures import BadPayload, InvariantViolated
from daemon.domain.order import DoneReason
from tests.adapters.ccxt_venue.payloads import (
    BINANCE_ACCOUNT,
    BINANCE_INCOME,
    BINANCE_ORDER,
    BINANCE_POSITION,
    BINANCE_TRADE,
    BYBIT_FUNDING,
    BYBIT_ORDER,
    BYBIT_POSITION,
    BYBIT_TRADE,
    BYBIT_TRANSFER,
    OKX_BILL,
    OKX_ORDER,
    OKX_POSITION,
    OKX_TRADE,
    SIZES,
    bybit,
    okx,
)

VENUES = tuple(QUIRKS)
D = Decimal
SIZE = SIZES.__getitem__
TRADES = {"binanceusdm": BINANCE_TRADE, "bybit": BYBIT_TRADE, "okx": OKX_TRADE}
ORDERS = {"binanceusdm": BINANCE_ORDER, "bybit": BYBIT_ORDER, "okx": OKX_ORDER}


def readers(venue: str) -> Readers:
    return QUIRKS[venue].readers


# ---- fills ---------------------------------------------------------------------------------------


def test_a_binance_trade_is_read() -> None:
    assert rows_binance.execution(BINANCE_TRADE) == Execution(
        trade_id="BTCUSDT:698759:25851813",
        order_id="25851813",
        client_id=None,
        symbol_id="BTCUSDT",
        quantity=D("-0.002"),
        price=D("7819.01"),
        fee=D("0.07819010"),
        fee_currency="USDT",
        at_ms=1569514978020,
    )


def test_a_bybit_trade_is_read_and_a_negative_fee_is_a_rebate() -> None:
    assert rows_bybit.execution(BYBIT_TRADE) == Execution(
        trade_id="2210000000101610464",
        order_id="1549452573428424448",
        client_id="ours",
        symbol_id="BTCUSDT",
        quantity=D("0.01"),
        price=D("102.8"),
        fee=D("-0.0000025"),
        fee_currency="USDT",
        at_ms=1699445151998,
    )


def test_an_okx_trade_is_read_in_base_units_and_its_fee_turned_round() -> None:
    assert rows_okx.execution(OKX_TRADE, SIZE) == Execution(
        trade_id="BTC-USDT-SWAP:107601752:317321390244397056",
        order_id="317321390244397056",
        client_id="ours",
        symbol_id="BTC-USDT-SWAP",
        quantity=D("-0.03"),  # 3 contracts of 0.01 BTC
        price=D("26543.9"),
        fee=D("0.39815850"),
        fee_currency="USDT",
        at_ms=1621927314985,
    )


@pytest.mark.parametrize("venue", ["binanceusdm", "okx"])
def test_both_sides_of_a_trade_with_oneself_are_two_fills(venue: str) -> None:
    name = "orderId" if venue == "binanceusdm" else "ordId"
    one = readers(venue).execution(TRADES[venue], SIZE)
    other = readers(venue).execution({**TRADES[venue], name: "77"}, SIZE)
    assert isinstance(one, Execution)
    assert isinstance(other, Execution)
    assert one.trade_id != other.trade_id


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("Trade", Cause.ORDER),
        ("BlockTrade", Cause.ORDER),
        ("MovePosition", Cause.ORDER),
        ("FutureSpread", Cause.ORDER),
        ("AdlTrade", Cause.DELEVERAGING),
        ("BustTrade", Cause.LIQUIDATION),
        ("Delivery", Cause.SETTLEMENT),
    ],
)
def test_bybit_fills_tell_why(kind: str, cause: Cause) -> None:
    found = rows_bybit.execution({**BYBIT_TRADE, "execType": kind})
    assert isinstance(found, Execution)
    assert found.cause is cause


@pytest.mark.parametrize(
    ("subtype", "cause"),
    [
        ("1", Cause.ORDER),
        ("104", Cause.LIQUIDATION),
        ("126", Cause.DELEVERAGING),
        ("112", Cause.SETTLEMENT),
    ],
)
def test_okx_fills_tell_why(subtype: str, cause: Cause) -> None:
    assert rows_okx.execution({**OKX_TRADE, "subType": subtype}, SIZE).cause is cause


@pytest.mark.parametrize(
    ("client_id", "cause"),
    [
        ("eq65bbf840-6-1", Cause.ORDER),
        ("autoclose-1700000000000", Cause.LIQUIDATION),
        ("adl_autoclose", Cause.DELEVERAGING),
        ("settlement_autoclose-1", Cause.SETTLEMENT),
    ],
)
def test_binance_orders_tell_why(client_id: str, cause: Cause) -> None:
    assert rows_binance.cause_of(client_id) is cause


# ---- funding and other cash ----------------------------------------------------------------------


def test_funding_can_never_become_a_fill() -> None:
    # 0.10232512 in a record of Bybit is paid, though it looks like a trade of 0.98.
    found = rows_bybit.execution(BYBIT_FUNDING)
    assert isinstance(found, CashFlow)
    assert (found.kind, found.amount) == (CashKind.FUNDING, D("-0.10232512"))
    # A side, a price and a quantity do not make it one, whatever they are.
    for fields in ({"side": "Buy"}, {"execQty": "1000"}, {"orderLinkId": "eq65bbf840-6-1"}):
        assert isinstance(rows_bybit.execution({**BYBIT_FUNDING, **fields}), CashFlow)


@given(st.text(max_size=12).filter(lambda name: name not in rows_bybit._FILLS))
def test_no_other_word_of_bybit_makes_a_fill(name: str) -> None:
    try:
        found = rows_bybit.execution({**BYBIT_FUNDING, "execType": name})
    except BadPayload:
        return
    assert isinstance(found, CashFlow)


def test_the_sign_of_funding_is_that_of_the_cash_at_every_venue() -> None:
    paid = {
        "binanceusdm": (rows_binance.cash_flow(BINANCE_INCOME), D("0.375"), BINANCE_INCOME),
        "bybit": (rows_bybit.execution(BYBIT_FUNDING), D("0.10232512"), BYBIT_FUNDING),
        "okx": (rows_okx.cash_flow(OKX_BILL), D("0.014875271224"), OKX_BILL),
    }
    names = {"binanceusdm": "income", "bybit": "execFee", "okx": "balChg"}
    signs = {"binanceusdm": 1, "bybit": -1, "okx": 1}  # there a positive number is paid
    for venue, (flow, amount, row) in paid.items():
        assert isinstance(flow, CashFlow)
        assert flow.kind is CashKind.FUNDING
        assert flow.amount == -amount
        assert flow.amount == signs[venue] * D(row[names[venue]])
        assert flow.currency == "USDT"


BYBIT_LIQUIDATION = {**BYBIT_TRANSFER, "type": "LIQUIDATION", "tradeId": "7e2a"}


@pytest.mark.parametrize(
    ("read", "row", "kind"),
    [
        (rows_binance.cash_flow, {**BINANCE_INCOME, "incomeType": "TRANSFER"}, CashKind.TRANSFER),
        (rows_binance.cash_flow, {**BINANCE_INCOME, "incomeType": "COMMISSION"}, CashKind.TRADE),
        (rows_binance.cash_flow, {**BINANCE_INCOME, "incomeType": "REALIZED_PNL"}, CashKind.TRADE),
        (rows_binance.cash_flow, {**BINANCE_INCOME, "incomeType": "NEW_THING"}, CashKind.OTHER),
        (rows_bybit.cash_flow, BYBIT_TRANSFER, CashKind.TRANSFER),
        (rows_bybit.cash_flow, {**BYBIT_TRANSFER, "type": "TRADE"}, CashKind.TRADE),
        (rows_bybit.cash_flow, {**BYBIT_TRANSFER, "type": "NEW_THING"}, CashKind.OTHER),
        (rows_bybit.cash_flow, BYBIT_LIQUIDATION, CashKind.TRADE),
        (rows_bybit.cash_flow, {**BYBIT_LIQUIDATION, "tradeId": ""}, CashKind.OTHER),
        (rows_okx.cash_flow, {**OKX_BILL, "type": "1"}, CashKind.TRANSFER),
        (rows_okx.cash_flow, {**OKX_BILL, "type": "2"}, CashKind.TRADE),
        (rows_okx.cash_flow, {**OKX_BILL, "type": "77"}, CashKind.OTHER),
    ],
)
def test_cash_is_told_apart_by_the_venues_own_word(
    read: Callable[[dict[str, Any]], CashFlow], row: dict[str, Any], kind: CashKind
) -> None:
    assert read(row).kind is kind


def test_a_withdrawal_is_a_transfer_with_its_sign() -> None:
    found = rows_bybit.cash_flow(BYBIT_TRANSFER)
    assert (found.amount, found.symbol_id) == (D("-25.5"), "")


def test_records_of_income_with_one_number_but_two_kinds_stay_two() -> None:
    other = {**BINANCE_INCOME, "incomeType": "COMMISSION"}
    assert rows_binance.cash_flow(BINANCE_INCOME).flow_id != rows_binance.cash_flow(other).flow_id


# ---- orders --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("venue", "quantity", "filled", "done"),
    [
        ("binanceusdm", D("-0.010"), D("-0.004"), None),
        ("bybit", D("-0.010"), D("-0.004"), DoneReason.CANCELLED),
        ("okx", D("-0.01"), D("-0.004"), DoneReason.CANCELLED),
    ],
)
def test_an_order_is_read(
    venue: str, quantity: Decimal, filled: Decimal, done: DoneReason | None
) -> None:
    found = readers(venue).order_record(ORDERS[venue], SIZE)
    assert isinstance(found, OrderRecord)
    assert (found.client_id, found.quantity, found.filled) == ("ours", quantity, filled)
    assert found.done is done
    assert found.reduce_only is (venue == "bybit")


@pytest.mark.parametrize(
    ("venue", "name"),
    [("binanceusdm", "status"), ("bybit", "orderStatus"), ("okx", "state")],
)
def test_an_unknown_state_is_no_state(venue: str, name: str) -> None:
    with pytest.raises(BadPayload):
        readers(venue).order_record({**ORDERS[venue], name: "BRAND_NEW"}, SIZE)


# ---- positions and balances ----------------------------------------------------------------------


def test_positions_carry_their_sign() -> None:
    short = (D("-0.85"), D("50100.5"), True)
    for venue, payload in (
        ("binanceusdm", [BINANCE_POSITION]),
        ("bybit", bybit([BYBIT_POSITION])),
        ("okx", okx([{**OKX_POSITION, "avgPx": "50100.5"}])),
    ):
        (found,) = readers(venue).holdings(payload, SIZE)
        assert isinstance(found, Holding)
        assert (found.quantity, found.entry_price, found.one_way) == short


def test_a_flat_position_has_no_side_and_no_price() -> None:
    flat = [
        rows_binance.holdings([{**BINANCE_POSITION, "positionAmt": "0", "entryPrice": "0"}]),
        rows_bybit.holdings(bybit([{**BYBIT_POSITION, "side": "", "size": "0", "avgPrice": ""}])),
        rows_okx.holdings(okx([{**OKX_POSITION, "pos": "0", "avgPx": ""}]), SIZE),
    ]
    for (one,) in flat:
        assert one.quantity == 0
        assert one.entry_price is None


def test_hedge_mode_is_seen() -> None:
    (one,) = rows_binance.holdings([{**BINANCE_POSITION, "positionSide": "SHORT"}])
    (two,) = rows_bybit.holdings(bybit([{**BYBIT_POSITION, "positionIdx": 2}]))
    (three,) = rows_okx.holdings(okx([{**OKX_POSITION, "posSide": "short", "pos": "85"}]), SIZE)
    assert [one.one_way, two.one_way, three.one_way] == [False] * 3
    assert three.quantity == D("-0.85")


def test_balances_are_read() -> None:
    usdt = Balance("USDT", D("103.12345678"), D("104.12345679"))
    assert rows_binance.balances(BINANCE_ACCOUNT) == (usdt,)
    coin = {"coin": "USDT", "walletBalance": "103.12345678", "equity": "104.12345679"}
    assert rows_bybit.balances(bybit([{"accountType": "UNIFIED", "coin": [coin]}])) == (usdt,)
    detail = {"ccy": "USDT", "cashBal": "103.12345678", "eq": "104.12345679"}
    assert rows_okx.balances(okx([{"details": [detail]}])) == (usdt,)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("payload", [None, "", "<html>", {}, {"data": None}, {"list": []}, 3])
def test_a_broken_answer_never_means_flat(venue: str, payload: object) -> None:
    with pytest.raises(BadPayload):
        readers(venue).holdings(payload, SIZE)
    with pytest.raises(BadPayload):
        readers(venue).balances(payload)


@pytest.mark.parametrize(
    ("venue", "payload"),
    [
        ("bybit", {**bybit([]), "retCode": 10016}),
        ("bybit", {"result": {"list": []}}),
        ("okx", {**okx([]), "code": "50026"}),
        ("okx", {"data": []}),
    ],
)
def test_an_empty_list_under_an_error_code_never_means_flat(
    venue: str, payload: dict[str, Any]
) -> None:
    with pytest.raises(BadPayload):
        readers(venue).holdings(payload, SIZE)


@pytest.mark.parametrize("code", [None, "", "51008"])
def test_an_item_of_okx_must_say_success_itself(code: str | None) -> None:
    row = {"clOrdId": "ours", "ordId": "1", "sCode": code}
    with pytest.raises(BadPayload):
        rows_okx.acknowledgement(okx([row]), "ours")
    assert rows_okx.acknowledgement(okx([{**row, "sCode": "0"}]), "ours").order_id == "1"


# ---- fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize("venue", VENUES)
def test_a_record_that_lacks_any_field_it_needs_is_refused(venue: str) -> None:
    needed = {
        "binanceusdm": "symbol id orderId side price qty commission commissionAsset time",
        "bybit": "symbol orderId orderLinkId side execPrice execQty execFee execId execTime",
        "okx": "instId ordId clOrdId side fillPx fillSz fee feeCcy tradeId ts",
    }
    for name in needed[venue].split():
        cut = {key: value for key, value in TRADES[venue].items() if key != name}
        for row in (cut, {**cut, name: None}, {**cut, name: 1.5}, {**cut, name: []}):
            with pytest.raises(BadPayload):
                readers(venue).execution(row, SIZE)


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("odd", ["0", "-1", "nan", "inf", "1,5", "", True])
def test_an_odd_quantity_is_refused(venue: str, odd: object) -> None:
    name = {"binanceusdm": "qty", "bybit": "execQty", "okx": "fillSz"}[venue]
    with pytest.raises(BadPayload):
        readers(venue).execution({**TRADES[venue], name: odd}, SIZE)


@given(st.decimals(-(10**17), 10**17, allow_nan=False, allow_infinity=False, places=12))
def test_a_number_keeps_every_digit(number: Decimal) -> None:
    assert exact({"x": str(number)}, "x") == number


@given(st.decimals(0, 10**9, places=6), st.sampled_from(["Buy", "sell", "SELL", "buy"]))
def test_a_side_gives_the_sign_and_nothing_else(quantity: Decimal, side: str) -> None:
    found = signed(quantity, side)
    assert abs(found) == quantity
    assert (found >= 0) if side.lower() == "buy" else (found <= 0)


@pytest.mark.parametrize(("quantity", "side"), [("1", "both"), ("1", ""), ("-1", "sell")])
def test_an_odd_side_is_refused(quantity: str, side: str) -> None:
    with pytest.raises(BadPayload):
        signed(D(quantity), side)


def test_instants_and_flags_are_strict() -> None:
    assert instant({"x": 1}, "x") == instant({"x": "1"}, "x") == 1
    for bad in ("1.5", "-1", "", None, True, "\uff11"):
        with pytest.raises(BadPayload):
            instant({"x": bad}, "x")
    assert [flag({"x": one}, "x") for one in (True, "true", False, "false")] == [
        True,
        True,
        False,
        False,
    ]
    for odd in (1, 0, "yes", None):
        with pytest.raises(BadPayload):
            flag({"x": odd}, "x")


def test_contracts_become_base_units_and_never_vanish() -> None:
    assert base_units(D(3), "BTC-USDT-SWAP", SIZE) == D("0.03")
    assert base_units(D(3), "BTCUSDT", one_each) == 3
    with pytest.raises(InvariantViolated):
        base_units(D(3), "X", lambda symbol: D(0))
