"""One suite that the paper venue passes with every store: what it promises to the engine."""

import contextlib
import dataclasses
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from adapters.paper import MemoryStore, PaperVenue, SqliteStore
from adapters.paper.state import LedgerStore
from daemon.domain.failures import ConfigurationError, InvariantViolated, VenueError
from daemon.domain.instrument import CashKey, InstrumentKey, Universe
from daemon.domain.messages import (
    FundingPaid,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    Revised,
    Snapshotted,
    Transferred,
)
from daemon.domain.order import OrderId
from daemon.domain.portfolio import AccountSnapshot
from tests.contract.paper_world import (
    CASH_KEY,
    NAN,
    PRICES,
    START_MS,
    SYMBOLS,
    MakeVenue,
    account_of,
    at,
    bars,
    cash,
    fills_of,
    held,
    key,
    make_universe,
    order,
    quantities,
    rates,
    settings,
)

# ---- prices and costs ----------------------------------------------------------------------------


def test_a_market_order_fills_at_the_open_of_the_bar_that_starts_now(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, opens=(101.0, 11.0, 1.0)))
    events = venue.submit([order("a", "0.500")])
    (fill,) = fills_of(events)
    assert (str(fill.quantity), str(fill.price), fill.at_ms) == ("0.500", "101.0", at(1))
    assert fill.key == key(0)
    assert len(events) == 1
    assert cash(venue) == Decimal(10000) - Decimal("50.5")


def test_spread_latency_impact_and_fee_are_charged_as_documented(make: MakeVenue) -> None:
    venue = make(fee_bps=5.0, half_spread_bps=2.0, latency_bps=1.0, impact_bps=100.0)
    venue.observe(bars(1, (1_000.0, 10.0, 1.0)))
    (buy,) = fills_of(venue.submit([order("a", "40")]))
    # 40 of 1,000 is 0.04, its root 0.2: impact 20 bps; with spread and latency 23 bps of 1,000
    assert buy.price == Decimal("1002.3")
    assert buy.fee == Decimal("20.046")  # 5 bps of 40 x 1,002.30
    assert cash(venue) == Decimal(10000) - 40 * Decimal("1002.3") - Decimal("20.046")


def test_prices_are_rounded_to_the_tick_against_us(make: MakeVenue) -> None:
    venue = make(half_spread_bps=1.0)
    venue.observe(bars(1, PRICES))
    buy, sell = fills_of(venue.submit([order("a", "1"), order("b", "-1")]))
    assert (buy.price, sell.price) == (Decimal("100.1"), Decimal("99.9"))  # of 100.01 and 99.99


def test_a_reference_on_the_tick_stays_on_the_tick_without_costs(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, (100.1, 10.3, 0.7)))
    orders = [
        order("a", "1"),
        order("b", "-1"),
        order("c", "1", index=1),
        order("d", "-9", index=2),
    ]
    assert [str(f.price) for f in fills_of(venue.submit(orders))] == [
        "100.1",
        "100.1",
        "10.3",
        "0.7",
    ]


# ---- capacity ------------------------------------------------------------------------------------


def test_capacity_is_shared_in_submission_order_and_the_rest_rolls(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=10.0))  # a tenth is 1.000
    first = venue.submit([order("a", "0.6"), order("b", "-0.7"), order("c", "0.5")])
    assert quantities(first) == [("a", "0.6", "100.0"), ("b", "-0.400", "100.0")]
    assert quantities(venue.submit([order("d", "0.1")])) == []
    second = venue.observe(bars(2, (102.0, 10.0, 1.0), volumes=6.0))
    assert quantities(second) == [("b", "-0.300", "102.0"), ("c", "0.300", "102.0")]
    third = venue.observe(bars(3, (103.0, 10.0, 1.0), volumes=6.0))
    assert quantities(third) == [("c", "0.200", "103.0"), ("d", "0.1", "103.0")]
    assert quantities(venue.observe(bars(4, PRICES))) == []
    assert held(venue) == {"BTC": "0.500"}


def test_each_instrument_has_a_budget_of_its_own(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=(10.0, 100.0, 0.0)))
    orders = [order("a", "5"), order("b", "5", index=1), order("c", "9", index=2)]
    events = venue.submit(orders)
    assert quantities(events) == [("a", "1.000", "100.0"), ("b", "5", "10.0")]


def test_capacity_comes_in_whole_lots(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=0.5678))  # a tenth is 0.05678
    assert quantities(venue.submit([order("a", "1")])) == [("a", "0.056", "100.0")]


def test_without_a_share_everything_fills_at_once(make: MakeVenue) -> None:
    venue = make(participation_share=None)
    venue.observe(bars(1, PRICES, volumes=0.0))
    assert quantities(venue.submit([order("a", "123")])) == [("a", "123", "100.0")]


def test_slicing_an_order_at_one_instant_saves_no_impact(make: MakeVenue) -> None:
    whole, sliced = make(impact_bps=1000.0), make(impact_bps=1000.0)
    for venue in (whole, sliced):
        venue.observe(bars(1, (1e5, 10.0, 1.0)))
    whole.submit([order("a", "80")])
    sliced.submit([order(f"s{i}", "10") for i in range(8)])
    assert held(whole) == held(sliced)
    # 80 at 282.8 bps of 100,000 cost 226,274; rounding to the tick (0.1) may cost 80 x 0.1 more
    spent = Decimal(10_000) - cash(whole) - 8_000_000
    assert 226_274 <= spent <= 226_274 + 8
    assert abs(cash(whole) - cash(sliced)) <= 8


# ---- when there is no price yet ------------------------------------------------------------------


def test_an_order_before_any_bar_rests_until_the_first_open(make: MakeVenue) -> None:
    venue = make()
    assert venue.submit([order("a", "1")]) == [OrderAccepted(OrderId("a"), at(1))]
    assert quantities(venue.observe(bars(1, PRICES))) == [("a", "1", "100.0")]


def test_an_unknown_open_leaves_the_order_resting(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, opens=(NAN, 10.0, 1.0)))
    assert quantities(venue.submit([order("a", "1"), order("b", "1", index=1)])) == [
        ("b", "1", "10.0")
    ]
    late = venue.observe(bars(1, (NAN, NAN, NAN), opens=(105.0, 99.0, NAN)))
    assert quantities(late) == [("a", "1", "105.0")]
    # the first open stays: what came later for an instrument whose open was known counts nothing
    assert quantities(venue.submit([order("c", "1", index=1)])) == [("c", "1", "10.0")]


def test_a_late_bar_is_waited_for_so_that_its_volume_counts(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=1_000.0))
    venue.observe(bars(2, (NAN, 10.0, 1.0), opens=(101.0, 10.0, 1.0), final=False))
    assert quantities(venue.submit([order("a", "1", number=2)])) == []
    late = venue.observe(bars(2, (101.0, NAN, NAN), opens=(NAN,) * 3, volumes=5.0, final=False))
    assert quantities(late) == [("a", "0.500", "101.0")]


def test_an_absent_bar_leaves_the_last_closed_volume(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=20.0))
    venue.observe(bars(2, (NAN, 10.0, 1.0), opens=(101.0, 10.0, 1.0), final=True))
    assert quantities(venue.submit([order("a", "5", number=2)])) == [("a", "2.000", "101.0")]


def test_a_decision_never_trades_at_an_open_before_it(venue: PaperVenue) -> None:
    assert quantities(venue.submit([order("a", "1", number=2)])) == []
    assert quantities(venue.observe(bars(2, (102.0, 10.0, 1.0)))) == [("a", "1", "102.0")]


def test_bars_of_the_past_change_neither_fills_nor_volumes(venue: PaperVenue) -> None:
    venue.observe(bars(3, (103.0, 10.0, 1.0), volumes=10.0))
    venue.observe(bars(2, (1.0, 1.0, 1.0), volumes=1e9))
    assert quantities(venue.submit([order("a", "5", number=3)])) == [("a", "1.000", "103.0")]


def test_after_the_last_word_on_an_instant_its_volumes_are_fixed(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, (100.0, NAN, 1.0), opens=(NAN, 10.0, 1.0), volumes=10.0, final=True))
    venue.observe(bars(1, (NAN, 10.0, NAN), opens=(100.0, NAN, NAN), volumes=1e9))
    events = venue.submit([order("a", "5"), order("b", "5", index=1)])
    assert quantities(events) == [("a", "1.000", "100.0")]


def test_a_revision_changes_nothing(venue: PaperVenue) -> None:
    row = bars(1, PRICES).values[0]
    assert venue.observe(Revised(at(1), 0, row, row * 2)) == []
    assert quantities(venue.submit([order("a", "1")])) == [("a", "1", "100.0")]


def test_bars_of_another_universe_are_a_programmers_mistake(venue: PaperVenue) -> None:
    with pytest.raises(InvariantViolated, match="do not fit"):
        venue.observe(bars(2, (1.0, 2.0)))
    with pytest.raises(InvariantViolated, match="do not fit"):
        venue.observe(rates(2, (1.0, 2.0)))


# ---- limit orders --------------------------------------------------------------------------------


def test_a_limit_order_fills_only_inside_its_limit_costs_included(make: MakeVenue) -> None:
    venue = make(half_spread_bps=10.0)
    venue.observe(bars(1, PRICES))  # a buy costs 100.1, a sale gives 99.9
    orders = [
        order("a", "1", limit="100.1"),
        order("b", "1", limit="100"),
        order("c", "-1", limit="99.9"),
        order("d", "-1", limit="100"),
    ]
    assert quantities(venue.submit(orders)) == [("a", "1", "100.1"), ("c", "-1", "99.9")]
    assert quantities(venue.observe(bars(2, (99.0, 10.0, 1.0)))) == [("b", "1", "99.1")]
    assert quantities(venue.observe(bars(3, (101.0, 10.0, 1.0)))) == [("d", "-1", "100.8")]


# ---- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quantity": "0.0015"}, "quantity 0.0015 is no multiple of the lot 0.001"),
        ({"quantity": "0"}, "quantity 0 is no multiple"),
        ({"quantity": "NaN"}, "quantity NaN is no multiple"),
        ({"quantity": "Infinity"}, "quantity Infinity is no multiple"),
        ({"quantity": "1e30"}, "no multiple of the lot"),
        ({"quantity": "0.001"}, "quantity 0.001 is below the minimum 0.002"),
        ({"quantity": "-0.049"}, "notional 4.9000 is below the minimum 5"),
        ({"quantity": "1", "limit": "100.05"}, "limit price 100.05 is no multiple of the tick 0.1"),
        ({"quantity": "1", "limit": "0"}, "limit price 0 is no multiple"),
        ({"quantity": "1", "reduce_only": True}, "does not reduce the position 0"),
    ],
)
def test_an_order_against_the_rules_is_rejected_with_the_reason(
    venue: PaperVenue, changes: dict[str, object], reason: str
) -> None:
    (event,) = venue.submit([order("a", **changes)])  # type: ignore[arg-type]
    assert isinstance(event, OrderRejected)
    assert reason in event.reason
    assert "BTC/USDT:USDT" in event.reason
    assert venue.query(OrderId("a"), key(0)) == [OrderAbsent(OrderId("a"), at(1))]
    assert held(venue) == {}


def test_the_minimum_notional_is_exact_and_follows_the_mark(venue: PaperVenue) -> None:
    assert quantities(venue.submit([order("a", "0.05")])) == [("a", "0.05", "100.0")]  # 5 USDT
    venue.observe(bars(2, (30.0, 10.0, 1.0)))
    (event,) = venue.submit([order("b", "0.166", number=2)])  # 4.98 USDT
    assert isinstance(event, OrderRejected)
    assert len(venue.submit([order("c", "0.167", number=2)])) == 1


def test_an_unknown_instrument_is_rejected(venue: PaperVenue) -> None:
    foreign = order("a", "1")
    foreign = type(foreign)(
        foreign.order_id,
        InstrumentKey("paper", "XRP/USDT:USDT"),
        0,
        foreign.quantity,
        foreign.kind,
        foreign.as_of_ms,
        1.0,
    )
    (event,) = venue.submit([foreign])
    assert isinstance(event, OrderRejected)
    assert "unknown instrument paper:XRP/USDT:USDT" in event.reason


def test_one_refused_order_does_not_stop_the_others(venue: PaperVenue) -> None:
    events = venue.submit([order("a", "0.0001"), order("b", "1")])
    kinds = [type(event) for event in events]
    assert kinds == [OrderRejected, OrderFilled]


# ---- reduce only ---------------------------------------------------------------------------------


def test_reduce_only_is_capped_at_the_position_and_ends(venue: PaperVenue) -> None:
    venue.submit([order("a", "2")])
    events = venue.submit([order("b", "-5", reduce_only=True)])
    assert quantities(events) == [("b", "-2", "100.0")]
    assert isinstance(events[-1], OrderEnded)
    assert "nothing is left to reduce" in events[-1].reason
    assert held(venue) == {}
    assert venue.query(OrderId("b"), key(0)) == events


def test_reduce_only_goes_on_at_the_next_open_but_never_turns_the_position(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES))
    venue.submit([order("a", "2")])
    venue.observe(bars(2, PRICES, volumes=10.0))
    events = venue.submit([order("b", "-2", reduce_only=True, number=2)])
    assert quantities(events) == [("b", "-1.000", "100.0")]
    venue.submit([order("c", "-0.7", number=2)])  # rests behind b
    events = venue.observe(bars(3, PRICES, volumes=7.0))
    assert quantities(events) == [("b", "-0.700", "100.0")]
    events = venue.observe(bars(4, PRICES, volumes=100.0))
    assert quantities(events) == [("b", "-0.300", "100.0"), ("c", "-0.7", "100.0")]
    assert held(venue) == {"BTC": "-0.7"}


def test_a_resting_reduce_only_order_ends_when_another_order_closed_the_position(
    make: MakeVenue,
) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=20.0))
    venue.submit([order("a", "2")])
    events = venue.submit([order("b", "-2"), order("c", "-2", reduce_only=True)])
    assert quantities(events) == []
    events = venue.observe(bars(2, PRICES, volumes=1_000.0))
    assert quantities(events) == [("b", "-2", "100.0")]
    assert isinstance(events[-1], OrderEnded)
    assert events[-1].order_id == "c"


def test_reduce_only_may_be_below_both_minima_when_it_closes_all(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=0.01))  # capacity is one lot, below the minimum of two
    venue.submit([order("a", "0.100")])
    assert held(venue) == {"BTC": "0.001"}
    venue.cancel(OrderId("a"), key(0))
    venue.observe(bars(2, PRICES))
    events = venue.submit([order("b", "-0.001", reduce_only=True, number=2)])
    assert quantities(events) == [("b", "-0.001", "100.0")]
    assert held(venue) == {}


# ---- asking and cancelling -----------------------------------------------------------------------


def test_sending_an_order_again_answers_and_never_fills_again(venue: PaperVenue) -> None:
    first = venue.submit([order("a", "1")])
    assert venue.submit([order("a", "1"), order("a", "1.000")]) == first + first
    assert held(venue) == {"BTC": "1"}
    (event,) = venue.submit([order("a", "2")])
    assert isinstance(event, OrderRejected)
    assert "other terms" in event.reason
    assert held(venue) == {"BTC": "1"}


def test_a_query_tells_the_whole_story(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=10.0))
    first = venue.submit([order("a", "1.5")])
    assert venue.query(OrderId("a"), key(0)) == first
    second = venue.observe(bars(2, PRICES))
    assert venue.query(OrderId("a"), key(0)) == first + second
    assert [str(f.quantity) for f in fills_of(first + second)] == ["1.000", "0.500"]
    assert venue.query(OrderId("b"), key(0)) == [OrderAbsent(OrderId("b"), at(2))]


def test_a_cancelled_order_keeps_its_fills_and_fills_no_more(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=10.0))
    story = venue.submit([order("a", "1.5")])
    events = venue.cancel(OrderId("a"), key(0))
    assert events[:-1] == story
    assert isinstance(events[-1], OrderEnded)
    assert events[-1].at_ms == at(1)
    assert venue.cancel(OrderId("a"), key(0)) == events == venue.query(OrderId("a"), key(0))
    assert quantities(venue.observe(bars(2, PRICES))) == []
    assert venue.submit([order("a", "1.5")]) == events


def test_cancelling_what_is_filled_or_unknown_says_so(venue: PaperVenue) -> None:
    story = venue.submit([order("a", "1")])
    assert venue.cancel(OrderId("a"), key(0)) == story
    assert venue.cancel(OrderId("zz"), key(0)) == [OrderAbsent(OrderId("zz"), at(1))]


# ---- the account ---------------------------------------------------------------------------------


def test_a_new_account_begins_with_a_deposit(make: MakeVenue) -> None:
    deposit, snapshot = make().snapshot(0)
    assert isinstance(deposit, Transferred)
    assert (deposit.cash_key, deposit.amount) == (CASH_KEY, Decimal(10000))
    assert snapshot == Snapshotted(
        AccountSnapshot("paper", START_MS, {}, {CASH_KEY: Decimal(10000)}, 1)
    )


def test_a_snapshot_gives_what_came_after_the_cursor(venue: PaperVenue) -> None:
    cursor = venue.executions_cursor
    filled = venue.submit([order("a", "1"), order("b", "-10", index=1)])
    venue.observe(rates(2, (0.001, NAN, NAN)))
    paid = venue.observe(bars(2, PRICES))
    *executions, last = venue.snapshot(cursor)
    assert executions == [*filled, *paid]
    assert isinstance(last, Snapshotted)
    assert last.snapshot.executions_cursor == cursor + 3
    assert last.snapshot.quantities == {key(0): Decimal(1), key(1): Decimal(-10)}
    assert len(venue.snapshot(last.snapshot.executions_cursor)) == 1


def test_a_cursor_of_another_account_is_refused(venue: PaperVenue) -> None:
    with pytest.raises(VenueError, match="1 executions, but 7 were journalled"):
        venue.snapshot(7)


def test_trade_ids_are_unique_and_increase(venue: PaperVenue) -> None:
    events = venue.submit([order(f"o{i}", "1") for i in range(5)])
    numbers = [int(f.trade_id.split("-")[1]) for f in fills_of(events)]
    assert numbers == [2, 3, 4, 5, 6]  # the deposit was 1
    assert {f.trade_id.split("-")[0] for f in fills_of(events)} == {f"{START_MS:x}"}


def test_settings_that_do_not_fit_the_universe_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"starting_cash has USDT only.*settles in USDC"):
        PaperVenue(make_universe(settle="USDC"), settings(), MemoryStore())


def two_venues(store: LedgerStore) -> PaperVenue:
    """Give an account at two venues that both trade the first symbol."""
    instruments = list(make_universe().instruments[:2])
    there = InstrumentKey("elsewhere", instruments[0].key.symbol)
    instruments[1] = dataclasses.replace(instruments[0], key=there)
    return PaperVenue(Universe(tuple(instruments)), settings(), store, opened_ms=START_MS)


def test_an_account_at_two_venues_has_cash_and_positions_at_each() -> None:
    store = MemoryStore()
    venue = two_venues(store)
    venue.observe(rates(2, (0.01, 0.03)))
    venue.observe(bars(1, (100.0, 200.0)))
    buy = order("a", "2")
    there = InstrumentKey("elsewhere", SYMBOLS[0])
    sell = msgspec.structs.replace(order("b", "-1", index=1), key=there)
    told = fills_of(venue.submit([buy, sell]))
    assert [(f.key.venue, str(f.quantity)) for f in told] == [("paper", "2"), ("elsewhere", "-1")]
    paid = [e for e in venue.observe(bars(2, (100.0, 200.0))) if isinstance(e, FundingPaid)]
    assert [(p.cash_key.venue, p.amount) for p in paid] == [
        ("paper", Decimal(-2)),
        ("elsewhere", Decimal(6)),
    ]
    assert len({p.cashflow_id for p in paid}) == 2, "the same symbol settles at two venues"
    *executions, last = venue.snapshot(0, "elsewhere")
    assert isinstance(last, Snapshotted)
    assert len(executions) == venue.executions_cursor == 6  # two deposits, two fills, two payments
    assert last.snapshot.quantities == {there: Decimal(-1)}
    assert last.snapshot.cash == {CashKey("elsewhere", "USDT"): Decimal(10_206)}
    assert account_of(venue).cash == {CASH_KEY: Decimal(9_798)}
    with pytest.raises(InvariantViolated, match=r"venue 'third': this account is at paper\+else"):
        venue.snapshot(0, "third")


def test_an_account_of_one_venue_is_not_taken_for_one_of_two(tmp_path: Path) -> None:
    with contextlib.closing(SqliteStore(tmp_path / "paper.sqlite")) as store:
        PaperVenue(make_universe(), settings(), store, opened_ms=START_MS)
    with (
        contextlib.closing(SqliteStore(tmp_path / "paper.sqlite")) as store,
        pytest.raises(ConfigurationError, match=r"at paper\+elsewhere.*paper account of paper"),
    ):
        two_venues(store)


def test_the_account_adds_up_after_everything(venue: PaperVenue) -> None:
    venue.submit([order("a", "2"), order("b", "-10", index=1)])
    venue.observe(rates(2, (0.001, 0.002, NAN)))
    venue.observe(bars(2, (110.0, 11.0, 1.0)))
    venue.submit([order("c", "-3", number=2), order("d", "10", index=1, number=2)])
    assert held(venue) == {"BTC": "-1"}
    # 2 x 10 gained on BTC, 10 x 1 lost on ETH, funding -0.22 + 0.22; short 1 BTC at 110
    assert cash(venue) == Decimal(10000) + 20 - 10 + 110
    assert account_of(venue).at_ms == at(2)
