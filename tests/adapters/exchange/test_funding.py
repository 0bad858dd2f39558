"""The timetable of funding: what settles, or joins, while it is read is not forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from adapters.exchange.carried import Settlements
from adapters.exchange.funding import FundingTable
from adapters.exchange.mapping import Settled
from adapters.exchange.reader import VenueReader
from daemon.domain.failures import VenueError
from daemon.domain.instrument import spare_columns
from daemon.domain.messages import FundingRates
from daemon.domain.units import HOUR_MS, MINUTE_MS
from tests.adapters.exchange.feed_rig import SYMBOLS, Rig, rig, unified

LATE = unified(SYMBOLS[2])


@dataclass
class Line:
    """Hold a table of three columns, the last of them free, over a real reader."""

    made: Rig
    reader: VenueReader
    table: FundingTable
    told: list[FundingRates] = field(default_factory=list)
    at_s: float = 0.0

    async def step(self, market_ms: int) -> None:
        """Let the table look, and wait until what it asks is answered."""
        self.at_s += 10.0  # longer than any pause between questions
        async with asyncio.TaskGroup() as group:
            self.table.step(market_ms, self.at_s, group, self.told.append)

    def while_read(self, act: Callable[[], None], *, after: bool) -> None:
        """Do something once while the timetable is being read, before or after the answer."""
        ask, done = self.reader.next_settlements, list[bool]()

        async def asked(symbols: Sequence[str]) -> dict[str, int]:
            if not after and not done:
                done.append(True)
                act()
            told = await ask(symbols)
            if after and not done:
                done.append(True)
                act()
            return told

        self.reader.next_settlements = asked  # type: ignore[method-assign]

    def paid(self) -> list[tuple[int, int]]:
        """List what was told: hours since the start and column."""
        start_ms = self.made.start_ms
        return [
            ((one.settle_ms - start_ms) // HOUR_MS, int(column))
            for one in self.told
            for column in np.flatnonzero(~np.isnan(one.rates))
        ]


@contextlib.asynccontextmanager
async def table() -> AsyncIterator[Line]:
    async with rig() as made:
        instruments = await made.feed.instruments()
        spare = spare_columns("binanceusdm", "USDT", 1)[0].key.symbol
        symbols = [*(i.key.symbol for i in instruments[:2]), spare]
        reader = made.feed._reader()
        found = FundingTable(
            reader, symbols, made.start_ms, patience_s=10.0, available=True, answer_is_final=True
        )
        await made.listen()
        yield Line(made, reader, found)


@pytest.mark.parametrize("after", [False, True])
async def test_who_joins_while_the_timetable_is_read_is_paid_at_the_next_settlement(
    after: bool,
) -> None:
    async with table() as line:
        await line.made.advance(14)
        at_ms = line.made.clock.now()
        joined_ms = at_ms + MINUTE_MS
        line.while_read(lambda: line.table.admit(2, LATE, joined_ms), after=after)
        await line.step(at_ms)
        assert line.table._known_ms[LATE] == joined_ms, "it is followed from when it joined"
        await line.step(at_ms)  # the timetable is read again, for it alone was not asked about
        await line.made.advance(2)
        await line.step(line.made.clock.now())
        market = line.made.exchange.exchange.market
        first_ms, last_ms = line.made.start_ms + 1, line.made.clock.now() + 1
        expected = [
            ((payment.time_ms - line.made.start_ms) // HOUR_MS, column)
            for column, symbol in enumerate(SYMBOLS)
            for payment in market.settlements(symbol, first_ms, last_ms)
        ]
        assert sorted(line.paid()) == sorted(expected)
        assert (8, 2) in expected


@pytest.mark.parametrize("after", [False, True])
async def test_what_settles_while_the_timetable_is_read_is_paid_once(after: bool) -> None:
    async with table() as line:
        await line.made.advance(15)
        before_ms = line.made.clock.now()
        await line.step(before_ms)
        await line.made.advance(1)  # the venue has settled, and names the settlement after it
        settle_ms = line.made.clock.now()
        line.table._read_ms = None
        line.while_read(lambda: line.table.reach(settle_ms, line.at_s), after=after)
        await line.step(settle_ms - MINUTE_MS)
        assert line.paid() == []
        for _ in range(3):
            await line.step(settle_ms)
        assert sorted(line.paid()) == [(8, 0), (8, 1)]


async def test_a_settlement_that_the_answer_passes_over_is_still_paid() -> None:
    async with table() as line:
        await line.made.advance(15)
        await line.step(line.made.clock.now())
        await line.made.advance(1)
        settle_ms = line.made.clock.now()
        line.table._read_ms = None
        await line.step(settle_ms - MINUTE_MS)  # our clock is behind: the answer names the next
        for _ in range(3):
            await line.step(settle_ms)
        assert sorted(line.paid()) == [(8, 0), (8, 1)]


async def test_a_timetable_that_could_not_be_read_is_read_again() -> None:
    async with table() as line:
        await line.made.advance(14)

        def fails() -> None:
            raise VenueError("no answer")

        line.while_read(fails, after=True)
        await line.step(line.made.clock.now())
        assert line.table._next_ms == {}
        await line.step(line.made.clock.now())
        assert set(line.table._next_ms) == {unified(one) for one in SYMBOLS[:2]}


async def test_an_answer_that_lacks_who_settles_meanwhile_lets_nobody_be_paid_twice() -> None:
    async with table() as line:
        await line.made.advance(15)
        await line.step(line.made.clock.now())
        await line.made.advance(1)
        settle_ms, ask = line.made.clock.now(), line.reader.next_settlements
        line.table._read_ms = None

        async def lacking(symbols: Sequence[str]) -> dict[str, int]:
            line.reader.next_settlements = ask  # type: ignore[method-assign]
            line.table.reach(settle_ms, line.at_s)
            return {}

        line.reader.next_settlements = lacking  # type: ignore[method-assign]
        await line.step(settle_ms - MINUTE_MS)
        for _ in range(3):
            await line.step(settle_ms)
        assert sorted(line.paid()) == [(8, 0), (8, 1)]


# ---- what a feed that is begun again goes on with ------------------------------------------------


def begin_again(line: Line, kept: Settlements, after_ms: int) -> None:
    """Let another table follow the first two symbols after `after_ms`."""
    reader, symbols = line.reader, line.table._symbols
    line.table = FundingTable(reader, symbols, after_ms, patience_s=30.0, available=True, kept=kept)


async def unanswered(*_: object) -> list[Settled]:
    raise VenueError("no answer")


async def not_yet(*_: object) -> list[Settled]:
    return []


@pytest.mark.parametrize("outage_h", [0, 3])
async def test_what_was_not_paid_when_a_feed_failed_is_paid_by_the_next_however_long_it_took(
    monkeypatch: pytest.MonkeyPatch, outage_h: int
) -> None:
    async with table() as line:
        kept = Settlements()
        begin_again(line, kept, line.made.start_ms)
        await line.made.advance(15)
        await line.step(line.made.clock.now())
        await line.made.advance(1)
        with monkeypatch.context() as silent:
            silent.setattr(line.reader, "settled", unanswered)
            await line.step(line.made.clock.now())
        assert line.paid() == []
        begin_again(line, kept, line.made.clock.now())
        await line.made.advance(2 * outage_h)
        for _ in range(3):
            await line.step(line.made.clock.now())
        assert sorted(line.paid()) == [(8, 0), (8, 1)]


async def test_what_settles_while_a_feed_rests_is_paid_though_its_rates_come_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with table() as line:
        kept = Settlements()
        begin_again(line, kept, line.made.start_ms)
        await line.made.advance(15)
        await line.step(line.made.clock.now())
        await line.made.advance(1)
        begin_again(line, kept, line.made.clock.now())
        with monkeypatch.context() as early:
            early.setattr(line.reader, "settled", not_yet)
            early.setattr(line.reader, "funding_between", not_yet)
            await line.step(line.made.clock.now())
        for _ in range(3):
            await line.step(line.made.clock.now())
        assert sorted(line.paid()) == [(8, 0), (8, 1)]


async def test_what_settled_before_any_timetable_was_read_is_paid_by_the_next_feed() -> None:
    async with table() as line:
        kept = Settlements()
        begin_again(line, kept, line.made.start_ms)
        await line.made.advance(17)
        begin_again(line, kept, line.made.clock.now())
        for _ in range(3):
            await line.step(line.made.clock.now())
        assert sorted(line.paid()) == [(8, 0), (8, 1)]
