"""What a plan of faults may ask of the bank, and what it tells of a symbol's margin."""

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import IncomeKind, Liquidated, OrderStatus
from adapters.rehearsal.bank.terms import MarginMode, Origin, RefusalReason
from tests.adapters.rehearsal.bank.bank_rig import (
    BTC,
    ETH,
    KEY,
    OTHER,
    PLAIN,
    USDT,
    D,
    PlannedQuotes,
    bank_at,
    cash,
    held,
    limit,
    market,
    now,
    of_kind,
    placed,
    reason,
    rules,
)


def test_a_liquidation_that_is_called_for_does_what_a_due_one_does() -> None:
    bank = bank_at()
    placed(bank, market("1"))
    resting = placed(bank, limit("0.1", "950"))
    assert bank.liquidate(KEY, BTC) is None
    assert held(bank) == 0
    assert now(bank, resting).status is OrderStatus.EXPIRED
    (event,) = of_kind(bank.take_events(), Liquidated)
    assert event.quantity == 1
    (fee,) = bank.income(KEY, kind=IncomeKind.LIQUIDATION_FEE)
    assert fee.amount < 0
    assert cash(bank) == sum(line.amount for line in bank.income(KEY))
    assert reason(bank.liquidate(KEY, BTC)) is RefusalReason.REDUCE_ONLY


def test_a_contract_may_end_before_its_time_and_stays_ended_over_a_restart() -> None:
    bank = bank_at()
    placed(bank, market("1"))
    placed(bank, limit("0.1", "950"), OTHER)
    bank.delist(BTC)
    assert (held(bank), bank.open_orders(OTHER)) == (D(0), [])
    quotes = PlannedQuotes({BTC: [(0, "1000", "1")], ETH: [(0, "1000", "1")]})
    later = Bank.restore(rules(), quotes, PLAIN, bank.snapshot())
    for one in (bank, later):
        assert reason(one.place(KEY, market("1"))) is RefusalReason.DELISTED
        assert one.symbol_refusal(ETH) is None


def test_orders_and_last_trades_are_listed() -> None:
    bank = bank_at()
    first = placed(bank, market("1"))
    bank.advance(5)
    second = placed(bank, limit("0.1", "950", symbol=ETH))
    assert [o.order_id for o in bank.orders(KEY)] == [first.order_id, second.order_id]
    assert [o.order_id for o in bank.orders(KEY, ETH)] == [second.order_id]
    assert [o.order_id for o in bank.orders(KEY, after_id=first.order_id)] == [second.order_id]
    assert (bank.last_trade_ms(KEY, BTC), bank.last_trade_ms(KEY, ETH)) == (0, None)


@settings(max_examples=40)
@given(
    quantity=st.decimals("0.5", "30", places=3),
    long=st.booleans(),
    isolated=st.booleans(),
    other=st.sampled_from(["0", "2", "-2"]),
)
def test_the_liquidation_price_is_where_the_venue_steps_in(
    quantity: D, long: bool, isolated: bool, other: str
) -> None:
    signed = quantity if long else -quantity
    told = _at_price(None, signed, isolated=isolated, other=other)
    price = told.margin_of(KEY, BTC).liquidation
    if price == 0:
        assert long, "a short always has one"
        return
    step = D("0.01") if long else D("-0.01")
    before = _at_price(price + step, signed, isolated=isolated, other=other)
    beyond = _at_price(price - step, signed, isolated=isolated, other=other)
    # of cross positions the largest goes first, so it need not be this one
    assert [o.origin is Origin.LIQUIDATION for o in before.orders(KEY)].count(True) == 0
    assert [o.origin is Origin.LIQUIDATION for o in beyond.orders(KEY)].count(True) > 0


def _at_price(price: D | None, signed: D, *, isolated: bool, other: str) -> Bank:
    """Hold `signed` BTC and some ETH, and let BTC alone print `price`."""
    prints = {BTC: [(0, "1000", "1")], ETH: [(0, "1000", "1")]}
    if price is not None:
        prints[BTC].append((10, str(price), "1"))
    bank = Bank(rules(), PlannedQuotes(prints), PLAIN)
    bank.open_account(KEY, {USDT: D(6_000)})
    if isolated:
        bank.set_margin_mode(KEY, BTC, MarginMode.ISOLATED)
    placed(bank, market(str(signed)))
    if D(other):
        placed(bank, market(other, ETH))
    bank.advance(20)
    return bank


def test_margin_of_a_symbol_counts_its_open_orders() -> None:
    bank = bank_at()
    placed(bank, market("1"))
    placed(bank, limit("1", "950"))
    margin = bank.margin_of(KEY, BTC)
    assert (margin.position, margin.initial, margin.maintenance) == (D(100), D(200), D(10))


def test_a_market_order_whose_best_price_lies_beyond_the_band_is_refused() -> None:
    import msgspec

    bank = bank_at(settings=msgspec.structs.replace(PLAIN, half_spread_bps=D(1_001)))
    assert reason(bank.place(KEY, market("1"))) is RefusalReason.PRICE_BAND
