"""The replay shell: consequences before the next instant, effects in order, a loop is an error."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest

from adapters.journal import MemoryJournal
from adapters.paper import PaperVenue
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    AlertKind,
    BarsClosed,
    EstimatesMissing,
    Event,
    MarketEvent,
    OrderUncertain,
    Snapshotted,
    Started,
    VenueEvent,
)
from daemon.domain.order import Order, OrderId
from daemon.engine.engine import Engine
from daemon.runtime.recovery import recover
from daemon.runtime.replay import ReplayShell
from strategies.relative_strength import RelativeStrength, RelativeStrengthSettings
from tests.engine.world import BAR_MS, CASH_KEY, FixedWeights, FollowForecasts, at, make_engine
from tests.runtime.rig import WARM_BARS, Momentum, funding_of, line_of, panel_of, venue_core

BARS = 60
PAIRS = ((0.1, -0.1, 0.0, 0.0), (0.0, 0.1, -0.1, 0.0))


def pairs_in_turn(as_of_ms: int) -> tuple[float, ...]:
    return PAIRS[as_of_ms // (2 * BAR_MS) % 2]


class NotedVenue:
    """Note what is asked of the real venue, in order."""

    def __init__(self, inner: PaperVenue) -> None:
        self.inner = inner
        self.calls: list[str] = []

    def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        self.calls.append(f"submit {len(orders)}")
        return self.inner.submit(orders)

    def cancel(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        self.calls.append("cancel")
        return self.inner.cancel(order_id, key)

    def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        self.calls.append("query")
        return self.inner.query(order_id, key)

    def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        self.calls.append("snapshot")
        return self.inner.snapshot(executions_cursor, venue)

    def observe(self, event: MarketEvent) -> Sequence[VenueEvent]:
        return self.inner.observe(event)


def events_of(volume: float = 300.0) -> tuple[list[MarketEvent], list[MarketEvent]]:
    feed = line_of(panel_of(BARS, volume=volume), funding=funding_of(BARS)).feed
    return list(feed.replay(0, at(WARM_BARS))), list(feed.replay(at(WARM_BARS), at(BARS)))


def run(shell: ReplayShell, volume: float = 300.0) -> ReplayShell:
    warm, live = events_of(volume)
    shell.warm_up(warm)
    shell.start(at(WARM_BARS), "run")
    shell.run(live)
    return shell


def test_a_run_decides_every_hour_and_its_book_is_the_venue_s() -> None:
    core = venue_core()
    shell = run(ReplayShell(make_engine(FollowForecasts()), core, Momentum()))
    assert [d.as_of_ms for d in shell.result.decisions] == [at(b) for b in range(8, BARS + 1, 2)]
    last = core.snapshot(-1)[-1]
    assert isinstance(last, Snapshotted)
    ledger = shell.engine.state.book.ledger
    assert {k: p.quantity for k, p in ledger.positions.items() if p.quantity} == (
        last.snapshot.quantities
    )
    assert ledger.cash == last.snapshot.cash
    assert ledger.funding != 0
    assert shell.result.events_n > BARS
    shell.engine.state.book.check_mirror()


def test_history_is_only_looked_at() -> None:
    venue = NotedVenue(venue_core())
    shell = ReplayShell(make_engine(FollowForecasts()), venue, Momentum())
    shell.warm_up(events_of()[0])
    assert venue.calls == []
    assert shell.result.decisions == []
    assert shell.engine.state.instant_ms == at(WARM_BARS)


def test_every_instant_is_finished_before_the_next_one_is_seen() -> None:
    seen: list[int] = []

    def look(close_ms: int, engine: Engine) -> None:
        seen.append(close_ms)
        assert engine.state.instant_ms == close_ms
        assert engine.quiescent
        if close_ms % (2 * BAR_MS) == 0:
            assert shell.result.decisions[-1].as_of_ms == close_ms

    shell = ReplayShell(make_engine(FollowForecasts()), venue_core(), Momentum(), None, look)
    run(shell)
    assert seen == [at(b) for b in range(WARM_BARS + 1, BARS + 1)]


def test_orders_of_one_answer_go_out_together_and_cancels_before_them() -> None:
    venue = NotedVenue(venue_core())
    run(ReplayShell(make_engine(FixedWeights(pairs_in_turn)), venue, None), volume=40.0)
    assert venue.calls[0] == "snapshot"
    assert venue.calls[1] == "submit 2"
    assert "cancel" in venue.calls
    after = venue.calls.index("cancel")
    assert venue.calls[after - 1].startswith("submit")


def test_the_real_rule_strategy_runs_without_an_estimator() -> None:
    settings = RelativeStrengthSettings(lookback_bars=3, legs_each_side=1, gross_weight=0.4)
    engine = make_engine(RelativeStrength(settings))  # type: ignore[arg-type]
    shell = run(ReplayShell(engine, venue_core(), None))
    assert sum(len(d.orders) for d in shell.result.decisions) > 20
    assert engine.state.book.net_weight_worst <= 0.25 * 1.001


def test_a_strategy_that_needs_forecasts_needs_an_estimator() -> None:
    with pytest.raises(
        InvariantViolated, match="follow_forecasts or a covariance needs an estimator"
    ):
        ReplayShell(make_engine(FollowForecasts()), venue_core(), None)


def test_what_was_recorded_can_be_replayed_without_venue_and_estimator() -> None:
    journal = MemoryJournal(keep_entries=True)
    shell = run(ReplayShell(make_engine(FollowForecasts()), venue_core(), Momentum(), journal))
    again = make_engine(FollowForecasts())
    assert recover(again, journal).tail_n == journal.entries_n == shell.result.events_n
    assert again.state.book.ledger == shell.engine.state.book.ledger


def test_the_same_run_twice_gives_the_same_decisions() -> None:
    runs = [
        run(ReplayShell(make_engine(FollowForecasts()), venue_core(), Momentum())) for _ in range(2)
    ]
    first, second = ([d.digest for d in one.result.decisions] for one in runs)
    assert first == second


class Late(Momentum):
    """Never answer in time."""

    def estimate_sync(self, as_of_ms: int, windows: object) -> Event:
        return EstimatesMissing(as_of_ms, "late")


def test_alerts_are_kept_for_the_caller() -> None:
    shell = run(ReplayShell(make_engine(FollowForecasts()), venue_core(), Late()))
    assert {a.kind for a in shell.result.alerts} == {AlertKind.ESTIMATES_STALE}
    assert all(not d.orders for d in shell.result.decisions)


class Restarting(NotedVenue):
    """Answer the question for the account with what asks for it."""

    def snapshot(self, executions_cursor: int, venue: str) -> Sequence[VenueEvent]:
        return [Started(0, "again")]  # type: ignore[list-item]  # no venue may say this


class Deaf(NotedVenue):
    """Never say what became of an order."""

    def submit(self, orders: Sequence[Order]) -> Sequence[VenueEvent]:
        return [OrderUncertain(o.order_id, 0, "silence") for o in orders]

    def query(self, order_id: OrderId, key: InstrumentKey) -> Sequence[VenueEvent]:
        return [OrderUncertain(order_id, 0, "silence")]


def test_consequences_without_end_are_an_error_and_not_a_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("daemon.runtime.replay.CONSEQUENCES_MAX", 100)
    engine = make_engine(FixedWeights(pairs_in_turn))
    with pytest.raises(InvariantViolated, match="Started caused 100 events: a loop"):
        run(ReplayShell(engine, Restarting(venue_core()), None))


def test_a_deaf_venue_halts_the_run_and_costs_nothing() -> None:
    shell = run(ReplayShell(make_engine(FixedWeights(pairs_in_turn)), Deaf(venue_core()), None))
    assert AlertKind.ORDER_UNRESOLVED in {a.kind for a in shell.result.alerts}
    assert shell.engine.state.book.ledger.cash[CASH_KEY] == Decimal(10_000)


def test_events_may_be_a_stream_that_is_read_once() -> None:
    warm, live = events_of()
    shell = ReplayShell(make_engine(FollowForecasts()), venue_core(), Momentum())
    shell.warm_up(iter(warm))
    shell.start(at(WARM_BARS), "run")
    result = shell.run(e for e in live if isinstance(e, BarsClosed))
    assert len(result.decisions) == (BARS - WARM_BARS) // 2


# ---- instants that come in pieces ----------------------------------------------------------------


def in_pieces(events: Sequence[MarketEvent], seed: int) -> list[MarketEvent]:
    """Split instants as a feed does that waits for nobody: all opens come with the first bars."""
    dice, told = random.Random(seed), list[MarketEvent]()
    for event in events:
        if not isinstance(event, BarsClosed) or dice.random() < 0.3:
            told.append(event)
            continue
        count = len(event.opens)
        piece_of = np.array([dice.randrange(3) for _ in range(count)])
        opens = event.opens
        for number in range(3):
            mine = piece_of == number
            values = np.where(mine[:, None], event.values, np.nan)
            proof = np.where(mine, event.proof, np.uint8(0)).astype(np.uint8)
            told.append(BarsClosed(event.close_ms, values, proof, opens, number == 2))
            opens = np.full(count, np.nan)
    return told


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("volume", [300.0, 2.0])
def test_an_instant_that_comes_in_pieces_is_decided_and_filled_as_one_that_comes_whole(
    seed: int, volume: float
) -> None:
    whole = run(ReplayShell(make_engine(FollowForecasts()), venue_core(), Momentum()), volume)
    shell = ReplayShell(make_engine(FollowForecasts()), venue_core(), Momentum())
    warm, live = events_of(volume)
    shell.warm_up(warm)
    shell.start(at(WARM_BARS), "run")
    shell.run(in_pieces(live, seed))
    assert shell.result.events_n > whole.result.events_n
    digests = [[d.digest for d in one.result.decisions] for one in (shell, whole)]
    assert digests[0] == digests[1]
    ours, theirs = (one.engine.state.book.ledger for one in (shell, whole))
    assert ours.positions == theirs.positions
    assert ours.cash == theirs.cash
