"""A venue in trouble leaves the others of the book trading; its own instruments only reduce."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_
from decimal import Decimal
from random import Random

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.domain.instrument import InstrumentKey, Standing, Universe
from daemon.domain.messages import (
    AlertKind,
    Cancel,
    Command,
    FeedNotice,
    FeedTrouble,
    InstrumentChanged,
    OrderAccepted,
    OrderEnded,
    Snapshotted,
    Started,
)
from daemon.domain.order import Order, OrderId, OrderKind, RefusalReason, Refused
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.engine import Engine
from daemon.engine.risk import Risk, RiskLimits, TradingState
from strategies.relative_strength import RelativeStrength, RelativeStrengthSettings
from tests.engine.world import (
    CASH_KEY,
    VENUE,
    FixedWeights,
    alerts,
    at,
    bars,
    decided,
    deposit,
    feed,
    fill_of,
    make_engine,
    snapshot,
    submitted,
    trading,
    universe_of,
)

OTHER = "other"
MINE, THEIRS = range(4), range(4, 8)  # columns of the two venues
N = 8
LEANING = (0.2, 0.1, -0.1, 0.0, -0.2, -0.1, 0.1, 0.0)  # long here, short there


def two_venues() -> Universe:
    here = universe_of().instruments
    there = [with_(i, key=InstrumentKey(OTHER, i.key.symbol)) for i in here]
    return Universe((*here, *there))


def accounts() -> list[Snapshotted]:
    empty = AccountSnapshot(OTHER, at(0), {}, {}, 0)
    return [snapshot(), Snapshotted(empty)]


def engine_of(
    strategy: FixedWeights | RelativeStrength, limits: RiskLimits | None = None
) -> Engine:
    engine = make_engine(strategy, universe=two_venues(), limits=limits)  # type: ignore[arg-type]
    feed(engine, Started(at(0), "run", warming=True), bars(1, n=N), bars(2, n=N))
    feed(engine, Started(at(2), "run"), deposit(), *accounts())
    assert trading(engine) is TradingState.TRADING
    return engine


def wanting(*weights: Sequence[float]) -> Engine:
    """Give an engine whose n-th decision from bar 4 on wants the n-th weights, the last on."""
    by_hour = [at(4 + 2 * n) for n in range(len(weights))]
    return engine_of(
        FixedWeights(lambda t: weights[max(n for n, at_ms in enumerate(by_hour) if at_ms <= t)])
    )


def notice(venue: str, active: bool = True) -> FeedNotice:
    return FeedNotice(at(2), venue, FeedTrouble.CLOCK_OFFSET, active, "its clock is 3.0 s off")


def decide(
    engine: Engine, bar: int, closes: Sequence[float] | float = 100.0
) -> tuple[list[Order], list[Command]]:
    """Close a bar, fill whatever is sent; give all orders and all commands."""
    told = feed(engine, bars(bar, closes, n=N))
    sent, orders = list[Order](), submitted(told)
    while orders:
        sent += orders
        more = feed(engine, *(fill_of(o, f"fill of {o.order_id}") for o in orders))
        told, orders = told + more, submitted(more)
    return sent, told


def at_venue(orders: Sequence[Order], columns: range) -> list[Order]:
    return [o for o in orders if o.index in columns]


def net(engine: Engine) -> float:
    return float(engine.state.book.weights().sum())


def test_while_one_venue_is_held_the_other_opens_and_the_book_stays_neutral() -> None:
    engine = wanting(LEANING)
    told = feed(engine, notice(OTHER))
    assert [a.text for a in alerts(told, AlertKind.FEED)] == [
        "other: its clock is 3.0 s off; its instruments only reduce, those of other venues trade on"
    ]
    assert trading(engine) is TradingState.TRADING
    sent, told = decide(engine, 4)
    assert at_venue(sent, MINE)
    assert not at_venue(sent, THEIRS)
    assert net(engine) == pytest.approx(0, abs=1e-3), "what it could not open was not made up for"
    (decision,) = decided(told)
    assert not decision.refusals, "it was planned, and only risk stopped it"
    assert "nothing is opened at other: its clock is 3.0 s off" in decision.note
    feed(engine, notice(OTHER, active=False))
    sent, told = decide(engine, 6)
    assert at_venue(sent, THEIRS)
    assert net(engine) == pytest.approx(0, abs=1e-3)
    assert "opened" not in decided(told)[0].note


def test_what_a_held_venue_has_may_shrink_and_neither_grows_nor_turns() -> None:
    more = tuple(w * 2 for w in LEANING)
    turned = tuple(-w for w in LEANING)
    engine = wanting(LEANING, more, turned)
    decide(engine, 4)
    before = list(engine.state.book.held)
    feed(engine, notice(OTHER))
    sent, _ = decide(engine, 6)
    assert not at_venue(sent, THEIRS)
    assert list(engine.state.book.held)[4:] == before[4:]
    assert net(engine) == pytest.approx(0, abs=1e-3)
    sent, _ = decide(engine, 8)
    assert at_venue(sent, THEIRS), "it may reduce"
    assert list(engine.state.book.held)[4:] == [0, 0, 0, 0]
    assert net(engine) == pytest.approx(0, abs=1e-3)


def test_what_a_held_venue_has_need_not_go_and_what_it_lacks_is_not_counted_on() -> None:
    engine = wanting(LEANING)
    decide(engine, 4)
    held = engine.state.book.quantity != 0
    assert held.tolist() == [True, True, True, False, True, True, True, False]
    feed(engine, notice(OTHER))
    may = engine.state.book.eligible(at(4))
    assert may.tolist() == [True, True, True, True, True, True, True, False]
    feed(engine, notice(OTHER, active=False))
    assert engine.state.book.eligible(at(4)).all()


def test_a_strategy_builds_its_whole_book_at_the_venue_that_trades() -> None:
    knobs = RelativeStrengthSettings(lookback_bars=1, legs_each_side=2, band_weight=0.0)
    rising = [100.0, 101.0, 102.0, 103.0, 98.0, 97.0, 104.0, 105.0]
    engine = engine_of(RelativeStrength(knobs))
    feed(engine, notice(OTHER), bars(3, n=N))
    sent, _ = decide(engine, 4, rising)
    assert {o.index for o in sent} == set(MINE)
    weights = engine.state.book.weights()
    assert np.abs(weights).sum() == pytest.approx(1.0, abs=0.02)
    assert net(engine) == pytest.approx(0, abs=1e-2)
    feed(engine, notice(OTHER, active=False), bars(5, rising, n=N))
    sent, _ = decide(engine, 6, [2 * a - 100 for a in rising])
    assert at_venue(sent, THEIRS)


def test_each_venue_held_is_the_whole_book_and_one_that_comes_back_trades() -> None:
    engine = wanting(LEANING)
    feed(engine, notice(OTHER), notice(VENUE))
    assert trading(engine) is TradingState.REDUCE_ONLY
    assert engine.state.book.all_trade, "the trading state binds it, no column by itself"
    assert decide(engine, 4)[0] == []
    feed(engine, notice(VENUE, active=False))
    assert trading(engine) is TradingState.TRADING
    sent, _ = decide(engine, 6)
    assert at_venue(sent, MINE)
    assert not at_venue(sent, THEIRS)
    feed(engine, notice(OTHER, active=False))
    assert engine.state.book.all_trade


def test_a_hold_of_a_venue_that_the_book_has_not_binds_all_of_it() -> None:
    engine = wanting(LEANING)
    feed(engine, notice("elsewhere"))
    assert trading(engine) is TradingState.REDUCE_ONLY
    assert decide(engine, 4)[0] == []


def test_a_snapshot_keeps_which_venue_is_held_and_a_restart_looks_anew() -> None:
    engine, other = wanting(LEANING), wanting(LEANING)
    feed(engine, notice(OTHER))
    other.restore(engine.state.to_plain())
    sent, _ = decide(other, 4)
    assert at_venue(sent, MINE)
    assert not at_venue(sent, THEIRS)
    feed(other, Started(at(4), "again"))
    assert other.state.book.all_trade
    assert other.state.holds_text == ""
    unheld = wanting(LEANING).state.to_plain()
    engine.restore(unheld)
    assert engine.state.book.all_trade, "what was held before was not forgotten"


def test_risk_has_the_last_word_on_a_held_venue() -> None:
    engine = wanting(LEANING)
    decide(engine, 4)
    feed(engine, notice(OTHER))
    book = engine.state.book
    risk = Risk(RiskLimits(), book)
    for index in (5, 7):  # short, and flat
        for quantity in ("1.00", "-1.00"):
            size = float(quantity)
            key = book.universe.instruments[index].key
            order = Order(
                OrderId("o"), key, index, Decimal(quantity), OrderKind.MARKET, at(4), 100.0
            )
            verdict = risk.judge(order, size, TradingState.TRADING, at(4), 0)
            if book.held[index] * size < 0:
                assert not isinstance(verdict, Refused)
            else:
                assert isinstance(verdict, Refused)
                assert verdict.reason is RefusalReason.STANDING


def test_a_plan_that_would_open_there_is_dropped_before_its_other_side_leans() -> None:
    narrow = RiskLimits(net_weight_max=0.05)
    engine = engine_of(FixedWeights(lambda t: LEANING), narrow)
    first = submitted(feed(engine, bars(4, n=N)))
    assert first
    assert not engine.quiescent
    feed(engine, *(OrderAccepted(o.order_id, at(4)) for o in first))
    told = feed(engine, notice(OTHER))
    taken_back = {c.order_id for c in told if isinstance(c, Cancel)}
    assert taken_back == {o.order_id for o in at_venue(first, THEIRS)}
    assert "what they would open is held back" in decided(told)[0].note
    assert not submitted(feed(engine, *(fill_of(o, f"f{o.order_id}") for o in first)))
    decide(engine, 6)
    assert net(engine) == pytest.approx(0, abs=1e-3), "the next decision did not mend it"


def test_what_only_reduces_goes_on_when_its_venue_is_held_midway() -> None:
    narrow = RiskLimits(net_weight_max=0.05)
    wanted = {at(4): LEANING, at(6): (0.0,) * N}
    engine = engine_of(FixedWeights(lambda t: wanted[t]), narrow)
    decide(engine, 4)
    orders = submitted(feed(engine, bars(6, n=N)))
    assert orders
    told = feed(engine, notice(OTHER))
    assert not decided(told)
    while orders:
        orders = submitted(feed(engine, *(fill_of(o, f"f{o.order_id}") for o in orders)))
    assert engine.state.book.gross == 0


@pytest.mark.parametrize("standing", [s for s in Standing if s is not Standing.TRADING])
def test_a_hold_neither_hides_nor_heals_what_a_venue_says_of_an_instrument(
    standing: Standing,
) -> None:
    engine = wanting(LEANING)
    book, instrument = engine.state.book, engine.universe.instruments[5]
    feed(engine, notice(OTHER))
    same = InstrumentChanged(at(2), 5, instrument, Standing.TRADING, "as before")
    assert alerts(feed(engine, same)) == []
    changed = InstrumentChanged(at(3), 5, instrument, standing, "because")
    told = alerts(feed(engine, changed), AlertKind.INSTRUMENT)
    assert [a.text for a in told] == [f"{instrument.key} is {standing.words}: because"]
    assert book.standing[5] == standing
    feed(engine, notice(OTHER, active=False))
    assert book.standing[5] == standing
    feed(engine, notice(OTHER), InstrumentChanged(at(3), 5, instrument, Standing.TRADING, "again"))
    assert book.standing[5] == Standing.REDUCE_ONLY
    assert book.standing_of_its_own(5) is Standing.TRADING


# ---- in any order of events ----------------------------------------------------------------------

VENUES = (VENUE, OTHER, "elsewhere")
WIDTH = len(VENUES)
ACTS = ("fill", "part", "end", "decide", *(f"hold {v}" for v in VENUES), "free")


@dataclass
class Venue:
    """Hold what was really traded and what is open, apart from the engine's own book."""

    engine: Engine
    held: list[Decimal] = field(default_factory=lambda: [Decimal(0)] * N)
    left: dict[OrderId, tuple[Order, Decimal]] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)
    fills_n: int = 0

    def only_reduces(self, index: int) -> bool:
        venue = VENUE if index in MINE else OTHER
        return venue in self.holds or "elsewhere" in self.holds

    def take(self, *commands: Command) -> None:
        """Take what the engine sends, which opens nothing at a held venue."""
        for order in submitted(commands):
            if self.only_reduces(order.index):
                held = self.held[order.index]
                assert held * order.quantity < 0, f"{order} opens, {held} is held"
                rests = [
                    left
                    for one, left in self.left.values()
                    if one.index == order.index and left * order.quantity > 0
                ]
                assert abs(sum(rests) + order.quantity) <= abs(held), f"{order} turns {held}"
            self.left[order.order_id] = order, order.quantity
            feed(self.engine, OrderAccepted(order.order_id, order.as_of_ms))

    def fill(self, share: Decimal) -> None:
        for name, (order, left) in list(self.left.items())[:1]:
            size = (left * share).quantize(Decimal("0.01")) or left
            self.held[order.index] += size
            self.left[name] = order, left - size
            if left == size:
                del self.left[name]
            self.fills_n += 1
            self.take(*feed(self.engine, fill_of(order, f"f{self.fills_n}", str(size))))

    def end(self) -> None:
        for name in list(self.left)[:1]:
            del self.left[name]
            self.take(*feed(self.engine, OrderEnded(name, at(2), "cancelled")))

    def cancel_all(self) -> None:
        """Confirm what a new decision takes back, as a venue does."""
        while self.left:
            self.end()


def balanced(dice: Random) -> list[float]:
    wanted = [dice.choice((-0.3, -0.1, 0.0, 0.1, 0.3)) for _ in range(N)]
    mean = sum(wanted) / N
    return [w - mean for w in wanted]


@settings(max_examples=150)
@given(st.lists(st.sampled_from(ACTS), max_size=40), st.integers(0, 10**6))
@example(["decide", "hold other", "fill", "fill", "fill", "decide"], 1)
def test_no_order_that_opens_risk_at_a_held_venue_ever_leaves(acts: list[str], seed: int) -> None:
    dice = Random(seed)
    table = {at(bar): balanced(dice) for bar in range(4, 90)}
    limits = RiskLimits(net_weight_max=0.1, order_weight_max=0.2)
    engine = engine_of(FixedWeights(lambda t: table[t]), limits)
    venue, bar = Venue(engine), 2
    for act in acts:
        name = act.removeprefix("hold ")
        if name in VENUES:
            venue.holds.add(name)
            venue.take(*feed(engine, notice(name)))
        elif act == "free" and venue.holds:
            name = min(venue.holds)
            venue.holds.discard(name)
            venue.take(*feed(engine, notice(name, active=False)))
        elif act == "decide":
            bar += 2
            told = feed(engine, bars(bar, n=N))
            venue.take(*told)
            if any(isinstance(c, Cancel) for c in told):
                venue.cancel_all()
        elif act == "end":
            venue.end()
        else:
            venue.fill(Decimal(1) if act == "fill" else Decimal("0.4"))
    assert engine.state.book.held == [float(q) for q in venue.held]
    assert trading(engine) is not TradingState.HALTED
    whole = "elsewhere" in venue.holds or {VENUE, OTHER} <= venue.holds
    assert (trading(engine) is TradingState.REDUCE_ONLY) == whole
    assert CASH_KEY in engine.state.book.ledger.cash
