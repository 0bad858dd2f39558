"""The feed that an engine sees: bad bars absent, everything else as it was told."""

from collections.abc import Iterator
from decimal import Decimal

import numpy as np
import pytest

from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Panel
from daemon.domain.bar import Floats, Proof
from daemon.domain.cleansing import CleansingRule, CleansingRules, Removal, without
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.domain.messages import BarsClosed, MarketEvent, PriceDoubted, Revised
from daemon.domain.units import Timeframe
from daemon.wiring.cleansed_feed import CleansedFeed
from tests.domain.test_cleansing import STEP, T0, closes, faulty, judged, market, still

M30 = Timeframe(30)


def instruments(n: int) -> tuple[Instrument, ...]:
    rules = TradingRules(Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
    return tuple(
        Instrument(InstrumentKey("v", f"C{k}/USDT:USDT"), f"C{k}", "USDT", "USDT", rules)
        for k in range(n)
    )


def replay_of(values: Floats) -> ReplayFeed:
    opens = np.concatenate([values[1:, :, 0], np.full((1, values.shape[1]), np.nan)])
    panel = Panel(closes(len(values)), values, opens)
    return ReplayFeed(panel, M30, instruments(values.shape[1]))


async def told(feed: CleansedFeed) -> list[MarketEvent]:
    return [event async for event in feed.history(0, 1 << 60)]


def seen(events: list[MarketEvent], like: Floats) -> Floats:
    """Lay what was told on the grid of the raw bars."""
    got = np.full_like(like, np.nan)
    for event in events:
        if isinstance(event, BarsClosed):
            row = (event.close_ms - T0) // STEP - 1
            present = event.proof != Proof.ABSENT
            assert np.isnan(got[row, present]).all(), "a bar was told twice"
            got[row, present] = event.values[present]
    return got


async def test_a_clean_feed_passes_through_as_the_very_same_events() -> None:
    inner = replay_of(market(100))
    feed = CleansedFeed(inner, CleansingRules(), M30)
    raw = [event async for event in inner.history(0, 1 << 60)]
    events = await told(feed)
    assert len(events) == 100
    for one, other in zip(events, raw, strict=True):
        assert isinstance(one, BarsClosed)
        assert isinstance(other, BarsClosed)
        assert one.values is other.values or one.values.base is other.values.base
        assert one.values.tobytes() == other.values.tobytes()
        assert (one.proof == other.proof).all()
    assert feed.removed_n == {}
    assert feed.shown({"v": {"a": 1}}) == {"v": {"a": 1}}


@pytest.mark.parametrize("seed", range(4))
async def test_an_engine_sees_what_a_backtest_over_the_same_bars_sees(seed: int) -> None:
    values = faulty(200, seed)
    values[~np.isfinite(values).all(axis=2)] = np.nan
    raw: list[MarketEvent] = []
    records: list[Removal] = []
    feed = CleansedFeed(
        replay_of(values), CleansingRules(), M30, on_judged=records.extend, on_raw=raw.append
    )
    events = await told(feed)
    result = judged(values)
    assert seen(events, values).tobytes() == without(values, result.removed).tobytes()
    assert seen(raw, values).tobytes() == values.tobytes(), "what is stored stays raw"
    assert sorted(records, key=lambda r: (r.close_ms, r.index)) == sorted(
        result.records(closes(200)), key=lambda r: (r.close_ms, r.index)
    )
    assert feed.shown({"v": {}}) == {"v": {"bars_removed_n": int(result.removed.sum())}}


def pieces(values: Floats, seed: int) -> Iterator[BarsClosed]:
    """Tell each instant in three pieces, as bars are proven; some never say that they were all."""
    rng = np.random.default_rng(seed)
    n = values.shape[1]
    for t, close_ms in enumerate(closes(len(values)).tolist()):
        when = rng.integers(0, 3, n)
        for piece in range(3):
            mine = (when == piece) & ~np.isnan(values[t, :, 3])
            proof = np.where(mine, Proof.SUCCESSOR, Proof.ABSENT).astype(np.uint8)
            bars = np.where(mine[:, None], values[t], np.nan)
            proven_ms = np.where(mine, close_ms + 10 * piece, 0)
            final = piece == 2 and t % 3 != 0
            yield BarsClosed(close_ms, bars, proof, np.full(n, np.nan), final, proven_ms)


@pytest.mark.parametrize("seed", range(4))
async def test_pieces_that_never_end_are_judged_when_the_next_instant_comes(seed: int) -> None:
    values = faulty(150, seed)
    values[~np.isfinite(values).all(axis=2)] = np.nan
    values[-1] = market(1, 6)[0]
    feed = CleansedFeed(replay_of(values), CleansingRules(), M30)
    await feed.instruments()
    events = [one for piece in pieces(values, seed) for one in feed.cleansed(piece)]
    wanted = without(values, judged(values).removed)
    assert seen(events, values)[:-1].tobytes() == wanted[:-1].tobytes()
    for event in events:
        if isinstance(event, PriceDoubted):
            continue
        assert isinstance(event, BarsClosed)
        present = event.proof != Proof.ABSENT
        assert event.proven_ms is not None
        assert ((event.proven_ms > 0) == present).all()


async def test_a_revision_of_a_bar_that_nobody_saw_is_not_told() -> None:
    values = market(30)
    for n in range(5):
        still(values, 20, n)
    feed = CleansedFeed(replay_of(values), CleansingRules(), M30)
    await told(feed)
    at_ms = int(closes(30)[20])
    revised = Revised(at_ms, 1, values[20, 1], values[21, 1])
    assert list(feed.cleansed(revised)) == []
    other = Revised(at_ms - STEP, 1, values[19, 1], values[21, 1])
    assert list(feed.cleansed(other)) == [other]


async def test_a_late_bar_is_judged_and_does_not_disturb_the_later_ones() -> None:
    values = market(30)
    late = values[10, 2].copy()
    values[10, 2] = np.nan
    feed = CleansedFeed(replay_of(values), CleansingRules(), M30)
    await told(feed)
    at_ms = int(closes(30)[10])
    for bar, is_kept in ((late, True), (late * [1, 1, -1, 1, 1], False)):
        rows = np.full((5, 5), np.nan)
        rows[2] = bar
        proof = np.array([0, 0, 2, 0, 0], dtype=np.uint8)
        piece = BarsClosed(at_ms, rows, proof, np.full(5, np.nan), False)
        (event,) = feed.cleansed(piece)
        assert isinstance(event, BarsClosed)
        assert (event.proof[2] != Proof.ABSENT) == is_kept
    assert feed._cleanser is not None
    assert (feed._cleanser.memory.last_ms == closes(30)[-1]).all()


@pytest.mark.parametrize("times", [2.0, 3.0, 10.0])
async def test_the_past_of_a_contract_that_joined_is_not_compared_with_its_first_live_bar(
    times: float,
) -> None:
    values = market(60)
    climbed = np.geomspace(1.0, times, 60)[:, None] * [1.0, 1.002, 0.998, 1.001]
    values[:, 2, :4] = climbed
    past = values[:50, 2].copy()
    values[:50, 2] = np.nan
    feed = CleansedFeed(replay_of(values), CleansingRules(), M30)
    await told(feed)
    seen_n = 0
    for at_ms, bar in zip(closes(60)[:50].tolist(), past, strict=True):
        (event,) = feed.cleansed(one_bar(at_ms, 2, bar))
        assert isinstance(event, BarsClosed)
        seen_n += event.proof[2] != Proof.ABSENT
    assert seen_n == 50
    assert feed.removed_n == {}
    wrong = past[10] * [1, 1, -1, 1, 1]
    (event,) = feed.cleansed(one_bar(int(closes(60)[10]), 2, wrong))
    assert isinstance(event, BarsClosed)
    assert event.proof[2] == Proof.ABSENT, "what cannot be is removed all the same"


async def test_a_late_bar_of_a_contract_that_was_there_before_is_compared_as_ever() -> None:
    values = market(30)
    late = values[20, 2] * [10.0, 10.0, 10.0, 10.0, 1.0]
    values[20, 2] = np.nan
    feed = CleansedFeed(replay_of(values), CleansingRules(), M30)
    await told(feed)
    (event,) = feed.cleansed(one_bar(int(closes(30)[20]), 2, late))
    assert isinstance(event, BarsClosed)
    assert event.proof[2] == Proof.ABSENT


def one_bar(close_ms: int, index: int, bar: Floats) -> BarsClosed:
    """Tell the bar of one instrument alone."""
    rows, proof = np.full((5, 5), np.nan), np.zeros(5, dtype=np.uint8)
    rows[index], proof[index] = bar, Proof.REREAD
    return BarsClosed(close_ms, rows, proof, np.full(5, np.nan), False)


async def test_history_reaches_back_for_the_store_and_the_engine_sees_what_it_asked_for() -> None:
    values = market(50)
    raw: list[MarketEvent] = []
    start_ms = int(closes(50)[9])
    feed = CleansedFeed(
        replay_of(values), CleansingRules(), M30, on_raw=raw.append, raw_from_ms=start_ms
    )
    since_ms = int(closes(50)[29])
    events = [event async for event in feed.history(since_ms, 1 << 60)]
    assert len(events) == 20
    assert len(raw) == 40


async def test_a_restart_primes_with_the_marks_of_the_book() -> None:
    values = market(20)
    values[:, 1, :4] *= 10.0
    marks = np.full(5, 100.0)
    feed = CleansedFeed(replay_of(values), CleansingRules(), M30)
    await feed.prime(marks, T0)
    events = await told(feed)
    assert np.isnan(seen(events, values)[:, 1]).all()
    assert feed.removed_n == {CleansingRule.RESCALED: 20}
