"""What others did with the account: one policy, over both sides, however it is learnt."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import codec
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    AlertKind,
    Cancel,
    Command,
    OrderEnded,
    OrderFilled,
    Snapshotted,
    Started,
    Tick,
)
from daemon.domain.order import (
    FOREIGN_PREFIX,
    OUTSIDE,
    DoneReason,
    Fill,
    OrderId,
    RefusalReason,
)
from daemon.domain.portfolio import AccountSnapshot, OpenOrder
from daemon.engine.engine import Engine
from daemon.engine.foreign import TRIES_MAX
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.risk import RiskLimits, TradingState
from tests.engine.world import (
    CASH_KEY,
    VENUE,
    FixedWeights,
    alerts,
    at,
    bars,
    decided,
    feed,
    fill_of,
    key,
    make_engine,
    snapshot,
    submitted,
    trading,
    trading_engine,
)

PEPE = InstrumentKey(VENUE, "PEPE/USDT:USDT")
ADOPT, FLATTEN, HALT = ReconcilePolicy.ADOPT, ReconcilePolicy.FLATTEN, ReconcilePolicy.HALT
PAIR = FixedWeights(lambda as_of_ms: [0.1, -0.1, 0.0, 0.0])
NOTHING = FixedWeights(lambda as_of_ms: [0.0, 0.0, 0.0, 0.0])


def by_hand(quantity: str, name: str, column: int = 0, price: str = "100") -> OrderFilled:
    """Let the owner trade; column OUTSIDE is a contract beside the universe."""
    contract = PEPE if column == OUTSIDE else key(column)
    amounts = Decimal(quantity), Decimal(price), Decimal("0.1")
    return OrderFilled(
        Fill(name, OrderId(f"{FOREIGN_PREFIX}{name}"), contract, column, *amounts, at(3))
    )


def account(
    engine: Engine,
    held: Mapping[InstrumentKey, str],
    *,
    cash: str | None = None,
    resting: Mapping[str, OpenOrder] | None = None,
    mark: float = 10.0,
    at_ms: int = at(3),
) -> Snapshotted:
    """Let the venue tell its account; cash is what we believe unless given."""
    ours = engine.state.book.ledger.cash.get(CASH_KEY, Decimal(0))
    return Snapshotted(
        AccountSnapshot(
            VENUE,
            at_ms,
            {k: Decimal(q) for k, q in held.items()},
            {CASH_KEY: ours if cash is None else Decimal(cash)},
            open_orders={OrderId(o): one for o, one in (resting or {}).items()},
            marks=dict.fromkeys(held, mark),
        )
    )


def differing(engine: Engine, told: Snapshotted) -> list[Command]:
    """Tell an account until it is acted on."""
    return feed(engine, told, told, told)


def at_work(policy: ReconcilePolicy, strategy: FixedWeights = NOTHING) -> Engine:
    return trading_engine(strategy, reconcile=policy)


# ---- positions at the first start ----------------------------------------------------------------


@pytest.mark.parametrize("policy", list(ReconcilePolicy))
def test_a_first_account_without_positions_begins_the_book_under_every_policy(
    policy: ReconcilePolicy,
) -> None:
    engine = make_engine(NOTHING, reconcile=policy)
    feed(engine, Started(at(2), "run"), snapshot({}, "500"))
    assert trading(engine) is TradingState.TRADING
    assert engine.state.book.cash == 500.0


def test_a_first_account_with_a_position_halts_and_names_it_unless_told_otherwise() -> None:
    engine = make_engine(NOTHING)
    told = feed(engine, Started(at(2), "run"), account(engine, {key(0): "3", PEPE: "7"}))
    assert trading(engine) is TradingState.HALTED
    (halted,) = alerts(told, AlertKind.HALTED)
    for said in (f"{key(0)}", "PEPE/USDT:USDT: ours 0, venue 7", "live.foreign = halt"):
        assert said in halted.text
    assert engine.state.book.ledger.positions == {}


def test_a_first_account_is_flattened_reduce_only_before_anything_is_decided() -> None:
    engine = make_engine(NOTHING, reconcile=FLATTEN, limits=RiskLimits(net_weight_max=0.25))
    feed(engine, Started(at(0), "run", warming=True), bars(1), bars(2), Started(at(2), "run"))
    told = feed(engine, account(engine, {key(0): "10", key(1): "-10"}, cash="10000"))
    sent = submitted(told)
    assert sorted((o.index, o.quantity) for o in sent) == [
        (0, Decimal("-10.00")),
        (1, Decimal("10.00")),
    ]
    assert all(o.reduce_only for o in sent)
    fills = [fill_of(o, f"t{n}") for n, o in enumerate(sent)]
    (record,) = decided([*told, *feed(engine, *fills)])
    assert "live.foreign = flatten" in record.note
    assert engine.state.book.held == [0.0] * 4


# ---- fills and differences while trading ---------------------------------------------------------


def test_a_trade_by_hand_is_taken_named_and_traded_on_from() -> None:
    engine = at_work(ADOPT)
    told = feed(engine, by_hand("2", "t1"))
    assert "fill t1 of 2" in alerts(told, AlertKind.STRANGE_FILL)[0].text
    assert trading(engine) is TradingState.TRADING
    assert submitted(told) == []
    assert engine.state.book.held[0] == 2.0
    sent = submitted(feed(engine, bars(3), bars(4)))
    assert [(o.index, o.quantity) for o in sent] == [(0, Decimal("-2.00"))]  # the target is flat


def test_a_trade_by_hand_halts_where_that_is_the_policy() -> None:
    engine = at_work(HALT)
    feed(engine, by_hand("2", "t1"))
    assert trading(engine) is TradingState.HALTED
    assert "live.foreign = halt" in engine.state.halted_why
    assert engine.state.book.held[0] == 2.0, "the venue's word moves the book all the same"


def test_what_a_trade_by_hand_added_is_closed_at_once_and_no_more() -> None:
    engine = at_work(FLATTEN, PAIR)
    sent = submitted(feed(engine, bars(3), bars(4)))
    feed(engine, *[fill_of(o, f"o{n}") for n, o in enumerate(sent)])
    assert engine.state.book.held[:2] == [10.0, -10.0]
    (closing,) = submitted(feed(engine, by_hand("5", "t1")))
    assert (closing.index, closing.quantity, closing.reduce_only) == (0, Decimal("-5.00"), True)
    told = feed(engine, fill_of(closing, "c1"))
    assert engine.state.book.held[:2] == [10.0, -10.0]
    assert submitted(told) == []


def test_a_trade_by_hand_that_lessens_a_position_is_left_to_the_next_decision() -> None:
    engine = at_work(FLATTEN, PAIR)
    sent = submitted(feed(engine, bars(3), bars(4)))
    feed(engine, *[fill_of(o, f"o{n}") for n, o in enumerate(sent)])
    assert submitted(feed(engine, by_hand("-4", "t1"))) == []
    again = submitted(feed(engine, bars(5), bars(6)))
    assert [(o.index, o.quantity) for o in again] == [(0, Decimal("4.00"))]


def test_a_position_that_turned_its_side_by_hand_is_closed_whole() -> None:
    engine = at_work(FLATTEN, PAIR)
    sent = submitted(feed(engine, bars(3), bars(4)))
    feed(engine, *[fill_of(o, f"o{n}") for n, o in enumerate(sent)])
    (closing,) = submitted(feed(engine, by_hand("-13", "t1")))
    assert (closing.quantity, closing.reduce_only) == (Decimal("3.00"), True)


@pytest.mark.parametrize("paused", [True, False])
def test_closing_waits_for_a_pause_to_end(paused: bool) -> None:
    engine = at_work(FLATTEN)
    engine.state.paused = paused
    assert bool(submitted(feed(engine, by_hand("2", "t1")))) is not paused
    engine.state.paused = False
    feed(engine, bars(3))
    assert engine.state.closing == {}


@pytest.mark.parametrize("policy", [ADOPT, FLATTEN])
def test_a_difference_without_a_fill_takes_the_same_path(policy: ReconcilePolicy) -> None:
    engine = at_work(policy)
    told = differing(engine, account(engine, {key(0): "2"}, cash="9800"))
    assert "adopted" in alerts(told, AlertKind.RECONCILED)[0].text
    assert engine.state.book.held[0] == 2.0
    assert engine.state.book.ledger.fills == 0, "no trade is invented"
    wanted = [(0, Decimal("-2.00"))] if policy is FLATTEN else []
    assert [(o.index, o.quantity) for o in submitted(told)] == wanted


@pytest.mark.parametrize("policy", list(ReconcilePolicy))
def test_fills_of_while_we_were_away_take_the_same_path(policy: ReconcilePolicy) -> None:
    engine = at_work(policy)
    feed(engine, Started(at(2), "again"))
    told = feed(engine, by_hand("2", "t1"), account(engine, {key(0): "2"}, cash="9799.9"))
    assert alerts(told, AlertKind.STRANGE_FILL)
    assert (trading(engine) is TradingState.HALTED) is (policy is HALT)
    assert bool(submitted(told)) is (policy is FLATTEN)


@given(
    policy=st.sampled_from([ADOPT, FLATTEN]),
    steps=st.lists(st.tuples(st.integers(0, 3), st.integers(-8, 8).filter(bool)), max_size=6),
)
def test_flattening_never_opens_and_the_book_is_always_the_venues(
    policy: ReconcilePolicy, steps: list[tuple[int, int]]
) -> None:
    engine, truth, n = at_work(policy), [Decimal(0)] * 4, 0
    for column, quantity in steps:
        n += 1
        truth[column] += quantity
        sent = submitted(feed(engine, by_hand(str(quantity), f"h{n}", column)))
        while sent:
            order, *sent = sent
            held = truth[order.index]
            assert order.reduce_only
            assert held * order.quantity < 0
            assert abs(order.quantity) <= abs(held)
            truth[order.index] += order.quantity
            n += 1
            sent += submitted(feed(engine, fill_of(order, f"o{n}")))
    ledger = engine.state.book.ledger
    assert [ledger.quantity(key(column)) for column in range(4)] == truth
    if policy is FLATTEN:
        assert truth == [Decimal(0)] * 4


# ---- beside the universe -------------------------------------------------------------------------


def test_a_position_beside_the_universe_counts_in_the_exposure_and_in_the_equity() -> None:
    engine = at_work(ADOPT)
    differing(engine, account(engine, {PEPE: "100"}, cash="9000"))
    book = engine.state.book
    assert (book.net, book.gross, book.gross_worst) == (1_000.0, 1_000.0, 1_000.0)
    assert book.equity == 10_000.0
    assert book.worst_at(VENUE, 0, 0.0) == 1_000.0
    book.check_mirror()
    feed(engine, account(engine, {PEPE: "100"}, mark=11.0))
    assert book.net == 1_100.0


def test_net_room_taken_beside_the_universe_is_not_there_for_orders() -> None:
    engine = trading_engine(PAIR, reconcile=ADOPT, limits=RiskLimits(net_weight_max=0.12))
    differing(engine, account(engine, {PEPE: "100"}, cash="9000"))
    first, *_ = submitted(feed(engine, bars(3), bars(4)))
    assert first.quantity < 0, "the side that leans against what is held goes first"
    for order in submitted(feed(engine, fill_of(first, "f1"))):
        assert engine.state.book.net + engine.state.book.pending_up <= 0.12 * 10_000
        assert order.index == 0


def test_beta_counts_what_is_beside_the_universe_at_one() -> None:
    engine = trading_engine(NOTHING, reconcile=ADOPT, limits=RiskLimits(beta_weight_max=0.2))
    differing(engine, account(engine, {PEPE: "100"}, cash="9000"))
    assert engine.state.book.beta is not None
    assert engine.state.book.beta.net == 1_000.0


def test_a_position_beside_the_universe_is_closed_reduce_only_in_sizes_that_risk_allows() -> None:
    engine = trading_engine(NOTHING, reconcile=FLATTEN, limits=RiskLimits(order_weight_max=0.05))
    told = differing(engine, account(engine, {PEPE: "100"}, cash="9000"))
    sizes = []
    while sent := submitted(told):
        (order,) = sent
        assert (order.key, order.index, order.reduce_only) == (PEPE, OUTSIDE, True)
        sizes.append(order.quantity)
        told = feed(engine, fill_of(order, f"c{len(sizes)}", price="10"))
    assert sum(sizes) == -100
    assert max(map(abs, sizes)) <= 50
    assert engine.state.book.net == 0.0
    assert engine.state.book.equity == 10_000.0
    assert engine.state.orders.open == {}


def test_a_close_beside_the_universe_that_is_refused_is_tried_a_bounded_number_of_times() -> None:
    engine = at_work(FLATTEN)
    told, sent_n = differing(engine, account(engine, {PEPE: "100"}, cash="9000")), 0
    for _ in range(3 * TRIES_MAX):
        for order in submitted(told):
            sent_n += 1
            told = feed(engine, OrderEnded(order.order_id, at(3), "rejected"))
    assert sent_n == TRIES_MAX


def test_closing_beside_the_universe_keeps_to_the_orders_of_a_minute() -> None:
    other, limits = InstrumentKey(VENUE, "WIF/USDT:USDT"), RiskLimits(orders_minute_max=1)
    engine = trading_engine(NOTHING, reconcile=FLATTEN, limits=limits)
    told = differing(engine, account(engine, {PEPE: "10", other: "10"}, cash="9800"))
    begun_ms = engine.state.now_ms
    assert [o.key for o in submitted(told)] == [PEPE]
    assert submitted(feed(engine, Tick(begun_ms + 59_999))) == []
    assert [o.key for o in submitted(feed(engine, Tick(begun_ms + 60_000)))] == [other]


def test_fills_beside_the_universe_are_booked_to_the_last_digit_and_halt_where_told() -> None:
    engine = at_work(HALT)
    feed(engine, by_hand("3", "t1", OUTSIDE, "1.7"))
    ledger = engine.state.book.ledger
    assert ledger.quantity(PEPE) == 3
    assert ledger.cash[CASH_KEY] == Decimal("9994.8")  # 3 at 1.7 and a fee of 0.1
    assert trading(engine) is TradingState.HALTED


def test_what_is_beside_the_universe_survives_a_snapshot_of_the_state() -> None:
    engine = at_work(ADOPT)
    resting = {"venue:9": OpenOrder(PEPE, Decimal(5), 10.0)}
    differing(engine, account(engine, {PEPE: "100"}, cash="9000", resting=resting))
    feed(engine, by_hand("2", "t1"))
    again = make_engine(NOTHING, reconcile=ADOPT)
    again.restore(codec.decode(codec.encode(engine.state.to_plain()), dict))
    assert again.state.to_plain().keys() == engine.state.to_plain().keys()
    assert codec.encode(again.state.to_plain()) == codec.encode(engine.state.to_plain())
    assert again.state.book.outside.worst == engine.state.book.outside.worst == 1_050.0
    again.state.book.check_mirror()


# ---- orders of others ----------------------------------------------------------------------------


def rests(column: int, left: str, price: float = 100.0) -> OpenOrder:
    return OpenOrder(key(column), Decimal(left), price)


def test_an_order_of_the_owner_counts_at_its_worst_case_as_long_as_it_rests() -> None:
    engine = trading_engine(NOTHING, reconcile=ADOPT, limits=RiskLimits(beta_weight_max=1.0))
    book = engine.state.book
    told = feed(engine, account(engine, {}, resting={"venue:7": rests(0, "8")}))
    assert "venue:7" in alerts(told, AlertKind.RECONCILED)[0].text
    assert (book.pending_up, book.gross_worst) == (800.0, 800.0)
    assert book.beta is not None
    assert book.beta.up == 800.0
    assert book.worst_name_and_gross(0, 1.0)[0] == 900.0
    assert alerts(feed(engine, account(engine, {}, resting={"venue:7": rests(0, "8")}))) == []
    assert book.pending_up == 800.0, "told twice, counted once"
    feed(engine, account(engine, {}, resting={"venue:7": rests(0, "3")}))
    assert book.pending_up == 300.0
    feed(engine, account(engine, {}))
    assert (book.pending_up, book.gross_worst, book.beta.up) == (0.0, 0.0, 0.0)


def test_no_order_of_ours_leans_on_room_that_an_order_of_the_owner_may_take() -> None:
    engine = trading_engine(PAIR, reconcile=ADOPT, limits=RiskLimits(net_weight_max=0.12))
    feed(engine, account(engine, {}, resting={"venue:7": rests(2, "10")}))  # 0.1 of equity
    sent = submitted(feed(engine, bars(3), bars(4)))
    book = engine.state.book
    assert book.net + book.pending_up <= 0.12 * book.equity
    assert sum(float(o.quantity) for o in sent if o.quantity > 0) * 100 <= 0.02 * book.equity


def test_what_of_it_fills_is_counted_as_held_and_no_longer_as_open() -> None:
    engine = at_work(ADOPT)
    book = engine.state.book
    feed(engine, account(engine, {}, resting={"venue:t1": rests(0, "8")}))
    feed(engine, by_hand("5", "t1"))
    assert (book.held[0], book.pending_up) == (5.0, 300.0)
    assert book.worst_net()[1] == 500.0
    feed(engine, OrderFilled(_another(by_hand("3", "t1"))))
    assert (book.held[0], book.pending_up) == (8.0, 0.0)


def _another(one: OrderFilled) -> Fill:
    fill = one.fill
    same = fill.order_id, fill.key, fill.index, fill.quantity, fill.price, fill.fee, fill.at_ms
    return Fill("another trade", *same)


@pytest.mark.parametrize(("policy", "cancelled"), [(ADOPT, False), (HALT, False), (FLATTEN, True)])
def test_an_order_of_the_owner_is_cancelled_only_where_all_is_flattened(
    policy: ReconcilePolicy, cancelled: bool
) -> None:
    engine = at_work(policy)
    resting = {"venue:7": rests(0, "8"), "venue:8": OpenOrder(PEPE, Decimal(-4), 5.0)}
    told = feed(engine, account(engine, {}, resting=resting))
    stopped = [(c.order_id, c.key) for c in told if isinstance(c, Cancel)]
    assert stopped == ([("venue:7", key(0)), ("venue:8", PEPE)] if cancelled else [])
    assert (engine.state.book.pending_up, engine.state.book.pending_down) == (800.0, 20.0)


def test_a_cancel_that_did_not_help_is_sent_again_later_and_not_for_ever() -> None:
    engine, cancels = at_work(FLATTEN), 0
    for minute in range(3_000):
        told = account(
            engine, {}, resting={"venue:7": rests(0, "8")}, at_ms=at(3) + minute * 60_000
        )
        found = [c for c in feed(engine, told) if isinstance(c, Cancel)]
        assert len(found) <= 1
        cancels += len(found)
    assert cancels == 8


@pytest.mark.parametrize("known", [True, False])
def test_an_order_with_our_name_that_is_not_open_with_us_is_stopped(known: bool) -> None:
    engine = at_work(ADOPT)
    if known:
        engine.state.orders.ended[OrderId("eq1-0-1")] = DoneReason.ABSENT
    resting = {"eq1-0-1": rests(0, "8"), "venue:7": rests(1, "1")}
    told = feed(engine, account(engine, {}, resting=resting))
    assert [c for c in told if isinstance(c, Cancel)] == [Cancel(OrderId("eq1-0-1"), key(0))]
    assert engine.state.book.pending_up == 900.0
    feed(engine, OrderEnded(OrderId("eq1-0-1"), at(3), "cancelled"))
    assert engine.state.book.pending_up == 100.0


def test_our_own_open_orders_are_no_strangers() -> None:
    engine = at_work(ADOPT, PAIR)
    sent = submitted(feed(engine, bars(3), bars(4)))
    before = engine.state.book.pending_up
    resting = {str(o.order_id): OpenOrder(o.key, o.quantity) for o in sent}
    assert feed(engine, account(engine, {}, resting=resting)) == []
    assert engine.state.book.pending_up == before


def test_a_stranger_leaves_no_crumb_behind_whatever_its_size() -> None:
    @given(st.lists(st.decimals("0.01", "9", places=2), min_size=1, max_size=5))
    def runs(sizes: list[Decimal]) -> None:
        engine = at_work(ADOPT)
        for number, size in enumerate(sizes):
            feed(engine, account(engine, {}, resting={f"venue:{number}": rests(0, str(size))}))
        feed(engine, account(engine, {}))
        assert engine.state.book.pending_buy[0] == 0.0
        assert engine.state.strangers == {}

    runs()


def test_the_venue_limit_counts_what_rests_beside_the_universe() -> None:
    limits = RiskLimits(venue_weight_max=0.25, net_weight_max=0.5)
    engine = trading_engine(PAIR, reconcile=ADOPT, limits=limits)
    feed(engine, account(engine, {}, resting={"venue:8": OpenOrder(PEPE, Decimal(-400), 5.0)}))
    (record,) = decided(feed(engine, bars(3), bars(4)))
    assert {r.reason for r in record.refusals} == {RefusalReason.VENUE}
