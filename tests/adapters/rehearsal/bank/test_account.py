"""Cash, positions, margin and the statement, with figures written out by hand."""

import msgspec
import pytest

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.ledger import exchange
from adapters.rehearsal.bank.records import (
    FLAT,
    AccountUpdated,
    BankPosition,
    FundingBooked,
    Income,
    IncomeKind,
    Liquidated,
    OrderStatus,
)
from adapters.rehearsal.bank.terms import MarginMode, RefusalReason
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

FREE = msgspec.structs.replace(
    PLAIN, maker_fee_bps=D(0), taker_fee_bps=D(0), depth_notional=D(1_000_000)
)


def test_opening_closing_and_flipping_realise_what_was_closed() -> None:
    opened = exchange(FLAT, D(2), D(100)).position
    assert opened == BankPosition(D(2), D(200))
    more = exchange(opened, D(1), D(130)).position
    assert (more.entry_price, more.quantity) == (D(110), D(3))
    part = exchange(more, D(-1), D(120))  # 120 - 110
    assert (part.realised, part.position) == (D(10), BankPosition(D(2), D(220)))
    flip = exchange(part.position, D(-5), D(100))  # 2 x (100 - 110)
    assert (flip.realised, flip.position) == (D(-20), BankPosition(D(-3), D(-300)))
    closed = exchange(flip.position, D(3), D(90))  # 3 x (100 - 90)
    assert (closed.realised, closed.position, closed.dust) == (D(30), FLAT, D(0))


def test_a_third_of_a_cost_is_rounded_and_nothing_is_lost() -> None:
    position = BankPosition(D(3), D(100))
    gains = []
    for _ in range(3):
        result = exchange(position, D(-1), D(40))
        gains.append(result.realised)
        position = result.position
    assert gains[0] == D("6.66666667")
    assert sum(gains) == 20  # 120 - 100
    assert position == FLAT


def test_a_round_trip_costs_its_spread_and_its_fees_and_each_is_a_line() -> None:
    bank = bank_at()
    placed(bank, market("0.1"))
    placed(bank, market("-0.1"))
    lines = [(line.kind, line.amount) for line in bank.income(KEY)]
    assert lines == [
        (IncomeKind.TRANSFER, D(10_000)),
        (IncomeKind.COMMISSION, D("-0.05005")),  # 5 bps of 100.1
        (IncomeKind.REALISED, D("-0.2")),  # 0.1 x (999 - 1001)
        (IncomeKind.COMMISSION, D("-0.04995")),
    ]
    assert cash(bank) == D("9999.7")


def test_longs_pay_positive_funding_on_what_is_held_at_the_settlement() -> None:
    bank = bank_at((900, "1100", "1"), funding=[(1_000, "0.001"), (2_000, "-0.002")], settings=FREE)
    placed(bank, market("2"))
    placed(bank, market("-1"), OTHER)
    events = of_kind(bank.advance(1_000), FundingBooked)
    assert [(e.account, e.income.amount, e.mark) for e in events] == [
        (KEY, D("-2.2"), D(1100)),  # 2 x 1100 x 0.001
        (OTHER, D("1.1"), D(1100)),
    ]
    placed(bank, market("-2"))
    events = of_kind(bank.advance(2_000), FundingBooked)
    assert [(e.account, e.income.amount) for e in events] == [(OTHER, D("-2.2"))]
    assert [line.amount for line in bank.income(KEY, kind=IncomeKind.FUNDING)] == [D("-2.2")]


def test_funding_settles_before_the_prints_of_its_own_instant() -> None:
    bank = bank_at((1_000, "950", "9"), funding=[(1_000, "0.001")], settings=FREE)
    placed(bank, market("1"))
    placed(bank, limit("1", "950"))
    paid = of_kind(bank.advance(1_000), FundingBooked)
    # one was held and the last price was 1000; the bid fills at that instant, but after
    assert [(e.quantity, e.mark) for e in paid] == [(D(1), D(1000))]
    assert held(bank) == 2


def test_an_isolated_gain_serves_no_other_position() -> None:
    bank = bank_at((1, "1090", "1"), settings=FREE)
    bank.set_margin_mode(KEY, BTC, MarginMode.ISOLATED)
    placed(bank, market("10"))
    bank.advance(1)
    # 1090 of initial margin at the new price, 890 of gain that stays where it is
    valued = bank.balance(KEY, USDT)
    assert (valued.unrealised, valued.initial) == (D(890), D(1090))
    assert valued.available == 10_000 - 1090


def test_transfers_are_lines_and_no_more_can_be_withdrawn_than_is_free() -> None:
    bank = bank_at(settings=FREE)
    placed(bank, market("50"))  # 50 050 at leverage 10
    free = bank.balance(KEY, USDT).available
    assert D(4_000) < free < D(5_000)
    assert reason(bank.transfer(KEY, USDT, -free - D("0.01"))) is RefusalReason.FUNDS
    assert reason(bank.transfer(KEY, USDT, D(0))) is RefusalReason.FUNDS
    assert reason(bank.transfer(KEY, USDT, D("0.000000001"))) is RefusalReason.FUNDS
    taken = bank.transfer(KEY, USDT, -D(4_000))
    assert isinstance(taken, Income)
    assert taken.kind is IncomeKind.TRANSFER
    assert cash(bank) == 6_000
    assert bank.income(KEY, after_id=taken.income_id) == []
    assert bank.income(KEY, after_id=taken.income_id - 1) == [taken]
    assert bank.currencies(KEY) == (USDT,)


def test_open_orders_bind_margin_at_their_worst_case() -> None:
    bank = bank_at(settings=FREE)
    placed(bank, limit("50", "1000"))
    placed(bank, limit("-40", "1010"))
    # the buys need 5 000, the sells 4 040: both cannot be the worst case
    assert bank.balance(KEY, USDT).initial == 5_000
    assert reason(bank.place(KEY, limit("51", "1000"))) is RefusalReason.MARGIN
    placed(bank, limit("-40", "1010"))
    assert bank.balance(KEY, USDT).initial == D(8_080)


def test_leverage_and_modes_are_set_within_what_the_margin_allows() -> None:
    bank = bank_at(settings=FREE)
    assert reason(bank.set_leverage(KEY, BTC, 10)) is RefusalReason.NO_CHANGE
    assert reason(bank.set_leverage(KEY, BTC, 51)) is RefusalReason.LEVERAGE_RANGE
    assert reason(bank.set_leverage(KEY, "DOGEUSDT", 5)) is RefusalReason.UNKNOWN_SYMBOL
    placed(bank, market("50"))
    assert reason(bank.set_leverage(KEY, BTC, 4)) is RefusalReason.MARGIN
    assert bank.set_leverage(KEY, BTC, 25) is None
    assert bank.positions(KEY)[0].leverage == 25
    locked = bank.set_margin_mode(KEY, BTC, MarginMode.ISOLATED)
    assert reason(locked) is RefusalReason.MODE_LOCKED
    unchanged = bank.set_margin_mode(KEY, ETH, MarginMode.CROSS)
    assert reason(unchanged) is RefusalReason.NO_CHANGE
    assert bank.set_margin_mode(KEY, ETH, MarginMode.ISOLATED) is None


def test_a_cross_account_below_maintenance_is_liquidated_and_owes_nothing() -> None:
    deep = msgspec.structs.replace(PLAIN, depth_notional=D(1_000_000))
    bank = bank_at((1, "910", "1"), (2, "864", "1"), settings=deep)
    placed(bank, market("30", ETH))
    placed(bank, market("-1"))
    bank.set_leverage(KEY, ETH, 50)
    placed(bank, market("40", ETH))
    resting = placed(bank, limit("-1", "1100"))
    assert held(bank, ETH) == 70
    events = bank.advance(1)
    assert of_kind(events, Liquidated) == []
    events = bank.advance(2)
    assert [(e.symbol, e.quantity) for e in of_kind(events, Liquidated)] == [
        (ETH, D(70)),  # the larger one; the rest is carried
    ]
    assert now(bank, resting).end_reason == "liquidation"
    fees = bank.income(KEY, kind=IncomeKind.LIQUIDATION_FEE)
    # 50 bps of what was sold at 863.1, which is 864 less 10 bps, down to the step
    assert [line.amount for line in fees] == [-70 * D("863.1") * D("0.005")]
    assert held(bank, ETH) == 0
    assert held(bank) == -1
    assert cash(bank, OTHER) == 10_000


def test_one_currencys_losses_leave_another_currencys_positions_alone() -> None:
    names = rules()
    names[ETH] = msgspec.structs.replace(names[ETH], currency="USDC")
    quotes = PlannedQuotes({BTC: [(0, "1000", "1")], ETH: [(0, "1000", "1"), (1, "860", "1")]})
    bank = Bank(names, quotes, FREE)
    bank.open_account(KEY, {USDT: D(10_000), "USDC": D(910)})
    placed(bank, market("9"))
    placed(bank, market("6", ETH))
    assert bank.balance(KEY, "USDC").equity == 910 - 6  # bought 1 above the last price
    bank.advance(1)
    # 910 - 6 x 141 = 64 is carried by a maintenance of 51.6
    assert held(bank, ETH) == 6
    assert isinstance(bank.transfer(KEY, "USDC", D(100)), Income)
    placed(bank, market("-6", ETH))
    assert cash(bank) == 10_000
    assert bank.balance(KEY, "USDC").cash == 1_010 - 6 * (1_001 - D("859.1"))


def test_a_crash_through_the_margin_is_made_good_by_the_house() -> None:
    bank = bank_at((1, "500", "1"), settings=FREE)
    placed(bank, market("90"))
    bank.advance(1)
    assert cash(bank) == 0
    assert held(bank) == 0
    insured = bank.income(KEY, kind=IncomeKind.INSURANCE)
    assert len(insured) == 1
    assert insured[0].amount > 30_000


def test_an_isolated_position_loses_its_own_margin_and_no_more() -> None:
    bank = bank_at((1, "700", "1"), settings=FREE)
    bank.set_margin_mode(KEY, BTC, MarginMode.ISOLATED)
    placed(bank, market("10"))  # at 1001: margin of its own 1001
    assert bank.positions(KEY)[0].position.margin == 1001
    placed(bank, market("-5"))
    assert bank.positions(KEY)[0].position.margin == D("500.5")
    before = cash(bank)
    events = bank.advance(1)
    assert [e.symbol for e in of_kind(events, Liquidated)] == [BTC]
    assert cash(bank) == before - D("500.5")


def test_a_delisting_cancels_orders_and_settles_the_position_at_the_last_price() -> None:
    bank = bank_at((500, "1040", "1"), delisted_ms=1_000)
    placed(bank, market("1", ETH))
    paid = bank.trades(KEY)
    resting = placed(bank, limit("1", "950", symbol=ETH))
    before = cash(bank)
    bank.advance(2_000)
    assert held(bank, ETH) == 0
    assert now(bank, resting).end_reason == "delisted"
    settled = bank.trades(KEY)[-1]
    assert (settled.price, settled.quantity, settled.fee) == (D(1040), D(-1), D(0))
    assert settled.at_ms == 1_000
    assert cash(bank) == before + 1040 - sum(t.quantity * t.price for t in paid)
    assert reason(bank.place(KEY, market("1", ETH))) is RefusalReason.DELISTED


def test_the_venue_may_reduce_a_position_by_force() -> None:
    bank = bank_at()
    assert reason(bank.reduce_forcibly(KEY, BTC, D(1))) is RefusalReason.REDUCE_ONLY
    placed(bank, market("-1"))
    first = bank.reduce_forcibly(KEY, BTC, D("0.4"))
    assert getattr(first, "status", None) is OrderStatus.FILLED
    assert held(bank) == D("-0.6")
    bank.reduce_forcibly(KEY, BTC, D(5))
    assert held(bank) == 0


def test_a_fill_is_followed_by_what_the_account_now_holds() -> None:
    bank = bank_at()
    placed(bank, market("0.1"))
    said = of_kind(bank.take_events(), AccountUpdated)
    assert [(e.cash, e.position.quantity) for e in said] == [(cash(bank), D("0.1"))]
    assert bank.take_events() == ()


def test_a_position_without_a_price_is_refused_not_invented() -> None:
    bank = bank_at()
    assert reason(bank.position(KEY, "DOGEUSDT")) is RefusalReason.UNKNOWN_SYMBOL
    view = bank.position(KEY, ETH)
    assert getattr(view, "position", None) == FLAT


@pytest.mark.parametrize("amount", [D(-1), D("0.123456789")])
def test_a_first_deposit_must_be_money(amount: object) -> None:
    bank = bank_at()
    with pytest.raises(Exception, match=r"deposit|decimals"):
        bank.open_account("third", {USDT: amount})  # type: ignore[dict-item]  # parametrised
