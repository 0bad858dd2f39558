"""Stored bars as events: one per instant, funding first, nothing from the future but the open."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import instruments_from, load_rules
from adapters.history.store import Funding, Panel, load_panel
from daemon.codec import decode_message, encode_message
from daemon.domain.bar import Proof
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import Instrument
from daemon.domain.messages import BarsClosed, FundingRates, MarketEvent
from daemon.domain.units import Timeframe
from tests.adapters.history.samples import M30, MIDNIGHT, bars_of, store, without

VENUE, SYMBOLS = "somewhere", ["BTCUSDT", "ETHUSDT"]


@pytest.fixture
def instruments(repository_root: Path) -> tuple[Instrument, ...]:
    table = load_rules(repository_root / "config" / "trading_rules.toml")
    return instruments_from(table, VENUE, SYMBOLS).instruments


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    """Twelve instants; both coins lack row 4, ETH also row 7."""
    store(tmp_path, VENUE, "BTCUSDT", without(bars_of(12, seed=1), [4]))
    store(tmp_path, VENUE, "ETHUSDT", without(bars_of(12, seed=2), [4, 7]))
    return load_panel(tmp_path, VENUE, SYMBOLS, M30)


def at(row: int) -> int:
    """Give the close of a row."""
    return MIDNIGHT + (row + 1) * M30.ms


def funding_at(*instants: int) -> Funding:
    rates = 1e-4 * np.arange(1.0, 1.0 + 2 * len(instants)).reshape(-1, 2)
    return Funding(np.array(instants, dtype=np.int64), rates, ())


def bars_in(events: list[MarketEvent]) -> list[BarsClosed]:
    return [event for event in events if isinstance(event, BarsClosed)]


def test_every_instant_has_one_final_event_also_when_nobody_has_a_bar(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    events = bars_in(list(ReplayFeed(panel, M30, instruments).replay(0, at(99))))
    assert [event.close_ms for event in events] == [at(row) for row in range(12)]
    assert all(event.final for event in events)
    there, not_there = Proof.HISTORY, Proof.ABSENT
    assert events[3].proof.tolist() == [there, there]
    assert events[4].proof.tolist() == [not_there, not_there]
    assert events[7].proof.tolist() == [there, not_there]
    assert np.isnan(events[4].values).all()
    for t, event in enumerate(events):
        assert event.values.tobytes() == panel.values[t].tobytes()
        assert np.shares_memory(event.values, panel.values)


def test_opens_are_those_of_the_bars_that_start_at_the_instant(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    events = bars_in(list(ReplayFeed(panel, M30, instruments).replay(0, at(99))))
    assert events[2].opens.tolist() == events[3].values[:, 0].tolist()
    assert np.isnan(events[3].opens).all()  # the next instant has no bars
    assert np.isnan(events[6].opens).tolist() == [False, True]
    assert np.isnan(events[11].opens).all()  # the files end


def test_events_survive_the_journals_encoding(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    feed = ReplayFeed(panel, M30, instruments, funding_at(at(1)))
    for event in feed.replay(0, at(99)):
        assert encode_message(decode_message(encode_message(event))) == encode_message(event)


def test_funding_comes_before_the_bars_of_its_instant_and_once(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    funding = funding_at(at(1), at(3) + 60_000, at(5), at(30))
    events = list(ReplayFeed(panel, M30, instruments, funding).replay(at(0), at(6)))
    order = [
        ("funding", e.settle_ms) if isinstance(e, FundingRates) else ("bars", e.close_ms)
        for e in events
        if isinstance(e, FundingRates | BarsClosed)
    ]
    assert order == [
        ("funding", at(1)),
        ("bars", at(1)),
        ("bars", at(2)),
        ("bars", at(3)),
        ("funding", at(3) + 60_000),
        ("bars", at(4)),
        ("funding", at(5)),
        ("bars", at(5)),
        ("bars", at(6)),
    ]
    paid = next(e for e in events if isinstance(e, FundingRates))
    assert paid.rates.tolist() == [1e-4, 2e-4]
    assert np.isnan(paid.marks).all()


def test_since_is_exclusive_and_until_inclusive_so_that_pieces_join(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    feed = ReplayFeed(panel, M30, instruments, funding_at(at(2), at(5)))
    whole = [encode_message(event) for event in feed.replay(0, at(11))]
    for cut in (at(1), at(2), at(5), at(5) + 1, at(11)):
        pieces = [*feed.replay(0, cut), *feed.replay(cut, at(11))]
        assert [encode_message(event) for event in pieces] == whole


def test_bars_after_until_never_show_but_for_their_opens(
    tmp_path: Path, panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    changed = bars_of(12, seed=1)
    changed.values[7, 1] *= 1.5  # its open stays: that is known at the close before it
    changed.values[7, 4] += 1.0
    changed.values[8:] = bars_of(12, seed=5).values[8:]
    store(tmp_path, VENUE, "BTCUSDT", without(changed, [4]))
    other = load_panel(tmp_path, VENUE, SYMBOLS, M30)
    assert other.values.tobytes() != panel.values.tobytes()
    one = ReplayFeed(panel, M30, instruments).replay(0, at(6))
    two = ReplayFeed(other, M30, instruments).replay(0, at(6))
    assert [encode_message(e) for e in one] == [encode_message(e) for e in two]


def test_a_feed_refuses_what_does_not_fit_together(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    with pytest.raises(InvariantViolated, match="1 instruments for 2 columns"):
        ReplayFeed(panel, M30, instruments[:1])
    with pytest.raises(InvariantViolated, match="is no 1h grid"):
        ReplayFeed(panel, Timeframe(60), instruments)
    wide = Funding(np.array([at(1)]), np.zeros((1, 3)), ())
    with pytest.raises(InvariantViolated, match="want"):
        ReplayFeed(panel, M30, instruments, wide)
    empty = Panel(panel.close_ms[:0], panel.values[:0], panel.opens[:0])
    with pytest.raises(InvariantViolated, match="without instants"):
        ReplayFeed(empty, M30, instruments)


class SteppedClock:
    """A market clock that a test moves by hand."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._moved = asyncio.Condition()

    def now(self) -> int:
        return self._now_ms

    async def sleep_until(self, at_ms: int) -> int:
        async with self._moved:
            if self._now_ms < at_ms:
                await self._moved.wait()
        return self._now_ms

    async def move_to(self, now_ms: int) -> None:
        async with self._moved:
            self._now_ms = now_ms
            self._moved.notify_all()
        for _ in range(3):  # let the sleepers look at the clock
            await asyncio.sleep(0)


async def test_the_port_gives_the_same_events_at_the_pace_of_the_clock(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    clock = SteppedClock(at(2))
    feed = ReplayFeed(panel, M30, instruments, funding_at(at(4)), clock)
    assert list(await feed.instruments()) == list(instruments)
    past = [encode_message(event) async for event in feed.history(0, at(1))]
    seen: list[MarketEvent] = []

    async def consume() -> None:
        async for event in feed.events(at(1)):
            seen.append(event)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(consume())
        steps = ((at(2), at(2)), (at(2) + 7, at(2)), (at(4) + 5, at(4)), (at(50), at(11)))
        for now_ms, last_close_ms in steps:
            await clock.move_to(now_ms)
            await feed.settled(now_ms)
            assert bars_in(seen)[-1].close_ms == last_close_ms
    whole = [encode_message(event) for event in feed.replay(0, at(11))]
    assert past + [encode_message(event) for event in seen] == whole
    await feed.settled(at(99))
    await feed.close()


async def test_without_a_clock_the_port_runs_to_the_end_of_the_files(
    panel: Panel, instruments: tuple[Instrument, ...]
) -> None:
    feed = ReplayFeed(panel, M30, instruments)
    assert len(feed) == 12
    assert [e.close_ms async for e in feed.events(at(8)) if isinstance(e, BarsClosed)] == [
        at(9),
        at(10),
        at(11),
    ]
    assert [event async for event in feed.events(at(11))] == []
