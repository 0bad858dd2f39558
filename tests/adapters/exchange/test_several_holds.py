"""Two real feeds and one engine: a venue in trouble is held, and the other trades on."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Final

import numpy as np
import pytest

from adapters.clocks import TransportClock
from adapters.exchange.watch import WatchRules
from daemon.domain.instrument import CashKey, Universe
from daemon.domain.messages import (
    FeedNotice,
    FeedTrouble,
    OrderFilled,
    Snapshotted,
    Started,
    Tick,
    Transferred,
)
from daemon.domain.order import Fill, Order
from daemon.domain.portfolio import AccountSnapshot
from daemon.domain.units import HOUR_MS
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.risk import RiskLimits, TradingState
from daemon.engine.rules import EngineRules
from strategies.relative_strength import RelativeStrength, RelativeStrengthSettings
from tests.adapters.exchange.feed_rig import until
from tests.adapters.exchange.test_several import COLUMNS, Two, two_venues
from tests.engine.world import H1, M30, feed, submitted

# An instant of lock-step is half an hour, and one may begin between a venue's answer and our look.
OFFSET_MAX_MS: Final = 10 * HOUR_MS
RULES: Final = WatchRules(
    offset_max_ms=OFFSET_MAX_MS, offset_every_s=0.4, venue_down_s=0.5, standstill_s=1e9
)
KNOBS: Final = RelativeStrengthSettings(lookback_bars=1, legs_each_side=1, band_weight=0.0)
HERE, THERE = "binanceusdm", "binance"
DEADLINE_MS: Final = 20_000


class MarketClock(TransportClock):
    """Take the market's time for the machine's UTC, off by as much as a test wants."""

    def __init__(self, market_ms: Callable[[], int]) -> None:
        self._market_ms = market_ms
        self.off_ms = 0

    def wall_ms(self) -> int:
        """Give the machine's UTC time in ms, as it is set here."""
        return self._market_ms() + self.off_ms


@dataclass
class Traded:
    """Hold an engine that two real feeds feed; what it sends is filled at once at the mark."""

    made: Two
    engine: Engine
    clocks: list[MarketClock]
    taken_n: int = 0
    sent: list[Order] = field(default_factory=list)

    def take(self) -> None:
        """Let the engine take what the feeds have told."""
        fresh = self.made.told[self.taken_n :]
        self.taken_n += len(fresh)
        self._fill(submitted(feed(self.engine, *fresh)))

    async def hours(self, count: int) -> list[Order]:
        """Let hours pass, deadlines included; give what was sent."""
        before = len(self.sent)
        for _ in range(2 * count):
            await self.made.advance(1)
            self.take()
            tick = Tick(self.made.clock.now() + DEADLINE_MS)
            self._fill(submitted(feed(self.engine, tick)))
        return self.sent[before:]

    def _fill(self, orders: list[Order]) -> None:
        while orders:
            self.sent += orders
            orders = submitted(feed(self.engine, *map(self._filled, orders)))

    def _filled(self, order: Order) -> OrderFilled:
        price = Decimal(repr(self.engine.state.book.prices[order.index]))
        name, key, index = order.order_id, order.key, order.index
        at_ms = order.as_of_ms
        return OrderFilled(
            Fill(f"of {name}", name, key, index, order.quantity, price, Decimal(0), at_ms)
        )

    @property
    def venues(self) -> set[str]:
        """Name the venues at which something is held."""
        held, instruments = self.engine.state.book.held, self.engine.universe.instruments
        return {i.key.venue for i, quantity in zip(instruments, held, strict=True) if quantity}

    @property
    def net(self) -> float:
        """Give the net weight of the book."""
        return float(self.engine.state.book.weights().sum())

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is true of what the engine has taken."""

        def now() -> bool:
            self.take()
            return true()

        await until(now, what)

    def notices(self, venue: str) -> list[tuple[FeedTrouble, bool]]:
        """List what was told of a venue: which trouble, and whether it began or ended."""
        told = [e for e in self.made.told if isinstance(e, FeedNotice) and e.venue == venue]
        return [(e.trouble, e.active) for e in told]


def engine_for(universe: Universe) -> Engine:
    """Give an engine that ranks by the last hour and decides each hour."""
    rules = EngineRules(
        cadence=CadenceRules(M30, (H1,), deadline_ms=DEADLINE_MS, alive_ms=4 * HOUR_MS),
        limits=RiskLimits(name_weight_max=0.6),
        cost=np.full(len(universe), 0.0006),
        bars_n={H1: 8},
    )
    return Engine(universe, RelativeStrength(KNOBS), rules)


@contextlib.asynccontextmanager
async def traded() -> AsyncIterator[Traded]:
    """Give a warm engine with 10,000 USDT over two feeds that compare clocks with their venues."""
    async with two_venues() as made:
        clocks = [MarketClock(made.exchange.exchange.clock_ms) for _ in made.feed._feeds]
        for one, clock in zip(made.feed._feeds, clocks, strict=True):
            rules = replace(one._settings, watch=RULES, settle_timeout_s=0.6)
            one._settings, one._transport = rules, clock
        universe = Universe(tuple(await made.feed.instruments()))
        assert len(universe) == len(COLUMNS)
        engine = engine_for(universe)
        feed(engine, Started(made.start_ms, "run", warming=True))
        async for event in made.feed.history(made.start_ms - 6 * HOUR_MS, made.start_ms):
            engine.process(event)
        cash, money = CashKey(HERE, "USDT"), Decimal(10_000)
        feed(
            engine,
            Started(made.start_ms, "run"),
            Transferred("deposit", cash, made.start_ms, money),
            Snapshotted(AccountSnapshot(HERE, made.start_ms, {}, {cash: money}, 0)),
            Snapshotted(AccountSnapshot(THERE, made.start_ms, {}, {}, 0)),
        )
        assert engine.state.trading is TradingState.TRADING
        await made.listen()
        yield Traded(made, engine, clocks)


def balanced(held: Traded) -> None:
    assert held.engine.state.trading is TradingState.TRADING
    assert held.venues
    assert abs(held.net) < 0.02


@pytest.mark.timeout(60)
async def test_a_clock_that_is_off_at_one_venue_holds_that_venue_alone() -> None:
    async with traded() as held:
        held.clocks[1].off_ms = 3 * OFFSET_MAX_MS
        await held.until(lambda: bool(held.engine.state.holds), "nobody was told")
        assert held.engine.state.held_venues == {THERE}
        sent = await held.hours(4)
        assert {o.key.venue for o in sent} == {HERE}
        balanced(held)
        held.clocks[1].off_ms = 0
        await held.until(lambda: not held.engine.state.holds, "the hold did not end")
        sent = await held.hours(6)
        assert THERE in {o.key.venue for o in sent}
        balanced(held)
        assert held.notices(THERE) == [
            (FeedTrouble.CLOCK_OFFSET, True),
            (FeedTrouble.CLOCK_OFFSET, False),
        ]
        assert held.notices(HERE) == []


@pytest.mark.timeout(90)
async def test_a_venue_that_is_down_while_clocks_are_watched_leaves_the_other_trading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("adapters.exchange.client.ATTEMPTS_MAX", 2)
    async with traded() as held:
        await held.hours(2)
        balanced(held)
        held.made.line.cut()
        sent = await held.hours(1)
        await held.until(lambda: bool(held.notices(THERE)), "nobody was told that it is down")
        sent += await held.hours(1)
        assert HERE in {o.key.venue for o in sent}
        assert held.engine.state.trading is TradingState.TRADING
        assert abs(held.net) < 0.02
        held.made.line.is_cut = False
        down = FeedTrouble.VENUE_DOWN
        await held.until(lambda: (down, False) in held.notices(THERE), "it did not come back")
        await held.until(lambda: not held.engine.state.holds, "a hold outlived the outage")
        await held.made.subscribed()
        sent = await held.hours(6)
        assert THERE in {o.key.venue for o in sent}
        balanced(held)
        assert held.notices(HERE) == []
