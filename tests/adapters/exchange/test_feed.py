"""The feed through real ccxt and a real exchange: what it tells equals the market, to the bit."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from typing import cast

import numpy as np
import pytest
import structlog

from adapters.clocks import LockStepClock, TransportClock, VenueClock
from adapters.exchange.feed import CcxtFeed, FeedSettings
from adapters.exchange.frames import FRAME_READERS
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import serve
from adapters.rehearsal.settings import AbsentBar, LateBar, PaceKind, RehearsalSettings
from daemon.domain.bar import Proof
from daemon.domain.failures import BadPayload, ConfigurationError, VenueError
from daemon.domain.messages import BarsClosed, FundingRates
from daemon.domain.units import DAY_MS, HOUR_MS, MINUTE_MS, Timeframe
from daemon.ports import Warmup
from tests.adapters.exchange.feed_rig import (
    HALF_HOUR_MS,
    SYMBOLS,
    Rig,
    rig,
    settings_for,
    unified,
    until,
)

DAY_INSTANTS = 48
MARKET_START_MS = RehearsalSettings(history_days=5).origin_ms + 5 * DAY_MS


def expect_the_truth(made: Rig, instants: int) -> None:
    """Compare every cross-section with the market's own bars, bit for bit."""
    assert [bars.close_ms for bars in made.bars] == [
        made.start_ms + (step + 1) * HALF_HOUR_MS for step in range(instants)
    ]
    for bars in made.bars:
        np.testing.assert_array_equal(bars.values, made.truth(bars.close_ms))
        assert bars.final
    assert made.revised == []


async def test_two_simulated_days_arrive_complete_and_equal_to_the_bit() -> None:
    async with rig() as made:
        await made.listen()
        await made.advance(2 * DAY_INSTANTS)
        expect_the_truth(made, 2 * DAY_INSTANTS)
        for bars in made.bars[1:]:  # the first frames may have primed only
            assert set(bars.proof) == {Proof.SUCCESSOR}
        for bars in made.bars:
            np.testing.assert_array_equal(bars.opens, made.opens(bars.close_ms))


async def test_an_absent_and_a_late_bar_are_told_as_such() -> None:
    late_open_ms = MARKET_START_MS + 4 * HALF_HOUR_MS
    late_close_ms = late_open_ms + HALF_HOUR_MS
    absent_open_ms = MARKET_START_MS + 9 * HALF_HOUR_MS
    delay_ms = 47 * MINUTE_MS
    market = RehearsalSettings(
        coins=3,
        history_days=5,
        late_bars=(LateBar("ETHUSDT", late_open_ms, delay_ms),),
        absent_bars=(AbsentBar("SOLUSDT", absent_open_ms),),
    )
    async with rig(market, stream_patience_s=0.3) as made:
        assert made.start_ms == MARKET_START_MS
        await made.listen()
        await made.advance(16)
        by_close: dict[int, list[BarsClosed]] = {}
        for bars in made.bars:
            by_close.setdefault(bars.close_ms, []).append(bars)

        # what follows the late bar is held back as long, so both come together after 47 minutes
        for close_ms in (late_close_ms, late_close_ms + HALF_HOUR_MS):
            first, second = by_close.pop(close_ms)
            assert (first.final, second.final) == (False, True)
            assert list(first.proof > 0) == [True, False, True]
            assert list(second.proof > 0) == [False, True, False]
            assert list(np.isnan(first.opens)) == [False, True, False]
            np.testing.assert_array_equal(second.values[1], made.truth(close_ms)[1])
            np.testing.assert_array_equal(second.opens[1], made.opens(close_ms)[1])
        places = [(bars.close_ms - late_close_ms) // HALF_HOUR_MS for bars in made.bars[4:9]]
        assert places == [0, 1, 0, 1, 2]

        (absent,) = by_close.pop(absent_open_ms + HALF_HOUR_MS)
        assert not absent.final
        assert list(absent.proof > 0) == [True, True, False]
        assert np.isnan(absent.values[2]).all()
        assert len(by_close) == 16 - 1 - 3  # one instant of the 16 was the release itself
        for close_ms, (bars,) in by_close.items():
            np.testing.assert_array_equal(bars.values, made.truth(close_ms))


async def test_funding_settles_before_the_bars_of_its_instant() -> None:
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT", "DOGEUSDT")
    async with rig(symbols=symbols) as made:
        await made.listen()
        await made.advance(DAY_INSTANTS)
        market = made.exchange.exchange.market
        settled = {event.settle_ms: event for event in made.funding}
        expected: dict[int, dict[int, float]] = {}
        for index, symbol in enumerate(symbols):
            first, last = made.start_ms + 1, made.start_ms + DAY_MS + 1
            for payment in market.settlements(symbol, first, last):
                expected.setdefault(payment.time_ms, {})[index] = payment.rate
        assert set(settled) == set(expected)
        assert len({frozenset(rates) for rates in expected.values()}) > 1, "intervals should differ"
        for settle_ms, rates in expected.items():
            got = settled[settle_ms].rates
            assert {int(i) for i in np.flatnonzero(~np.isnan(got))} == set(rates)
            for index, rate in rates.items():
                assert got[index] == pytest.approx(rate, abs=1e-8)
        for before, after in itertools.pairwise(made.told):
            if isinstance(before, FundingRates):
                assert isinstance(after, BarsClosed)
                assert after.close_ms == before.settle_ms


async def test_funding_comes_first_even_if_the_bars_are_ahead_of_our_clock() -> None:
    async with rig(lag_ms=5_000) as made:
        await made.listen()
        await made.advance(15)  # half an hour before the first settlement
        settle_ms = made.clock.now() + HALF_HOUR_MS
        assert await made.clock.sleep_until(settle_ms) == settle_ms
        await until(lambda: made.bars[-1].close_ms == settle_ms, "the bars of the settlement")
        assert [event.settle_ms for event in made.funding] == [settle_ms]
        assert made.told.index(made.funding[0]) < made.told.index(made.bars[-1])


async def test_a_market_in_lock_step_without_funding_costs_no_waiting() -> None:
    async with rig(funding_patience_s=60.0, settle_timeout_s=90.0) as made:
        market = made.exchange.exchange.market
        made.exchange.exchange.market.settlements = lambda *_: ()  # type: ignore[method-assign]
        assert market.settlements("BTCUSDT", 0, 10**15) == ()
        await made.listen()
        async with asyncio.timeout(20):
            await made.advance(18)
        expect_the_truth(made, 18)
        assert made.funding == []


@pytest.mark.parametrize(("patience_s", "rates_first"), [(10.0, True), (0.0, False)])
async def test_bars_wait_for_their_rates_only_so_long(patience_s: float, rates_first: bool) -> None:
    async with rig(funding_patience_s=patience_s) as made:
        await made.listen()
        await made.advance(15)  # half an hour before the first settlement
        await made.fault("http_503", 1)
        await made.advance(1)
        settle_ms = made.clock.now()
        async with asyncio.timeout(10):
            while not made.funding:
                await made.feed.settled(settle_ms)
                await asyncio.sleep(0.05)
        assert settle_ms == made.start_ms + 8 * HOUR_MS == made.funding[0].settle_ms
        at_rates = next(i for i, e in enumerate(made.told) if isinstance(e, FundingRates))
        at_bars = next(i for i, e in enumerate(made.told) if e is made.bars[15])
        assert (at_rates < at_bars) is rates_first


async def test_what_a_broken_connection_had_shown_of_a_bar_does_not_become_final(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The new connection begins beyond the bar; its first row must not vouch for the old one."""
    monkeypatch.delitem(cast(dict[str, object], FRAME_READERS), "binanceusdm")
    async with rig() as made:
        await made.listen()
        await made.advance(2)
        made.exchange.exchange.hub.cut_all()
        await made.advance(3)
        expect_the_truth(made, 5)


async def test_the_warm_up_equals_the_market_and_shows_its_progress() -> None:
    async with rig() as made:
        progress: list[Warmup] = []
        made.feed._on_warmup = progress.append
        since_ms = made.start_ms - 2 * DAY_MS
        events = [event async for event in made.feed.history(since_ms, made.start_ms)]
        bars = [event for event in events if isinstance(event, BarsClosed)]
        assert [b.close_ms for b in bars] == list(
            range(since_ms + HALF_HOUR_MS, made.start_ms + 1, HALF_HOUR_MS)
        )
        for b in bars:
            np.testing.assert_array_equal(b.values, made.truth(b.close_ms))
            np.testing.assert_array_equal(b.opens, made.opens(b.close_ms))
            assert set(b.proof) == {Proof.REREAD}
        assert {p.symbol for p in progress} == {unified(s) for s in SYMBOLS}
        assert all(p.bars == p.bars_wanted == 2 * DAY_INSTANTS for p in progress)
        paid = [event.settle_ms for event in events if isinstance(event, FundingRates)]
        assert paid == [since_ms + k * 8 * HOUR_MS for k in range(1, 7)]
        for before, after in itertools.pairwise(events):
            if isinstance(before, FundingRates):
                assert isinstance(after, BarsClosed)
                assert after.close_ms == before.settle_ms


async def test_a_warm_up_longer_than_a_page_has_no_seam() -> None:
    market = RehearsalSettings(coins=1, history_days=30)
    async with rig(market, symbols=("BTCUSDT",)) as made:
        since_ms = made.start_ms - 29 * DAY_MS
        bars = [
            event
            async for event in made.feed.history(since_ms, made.start_ms + HOUR_MS)
            if isinstance(event, BarsClosed)
        ]
        assert len(bars) == 29 * DAY_INSTANTS  # the running bar is no bar yet
        assert bars[-1].close_ms == made.start_ms
        for b in bars[::40] + bars[996:1002]:
            np.testing.assert_array_equal(b.values, made.truth(b.close_ms))
            np.testing.assert_array_equal(b.opens, made.opens(b.close_ms))


async def test_a_gap_since_the_last_run_is_filled_with_bars_and_funding() -> None:
    async with rig() as made:
        await made.listen(after_ms=made.start_ms - DAY_MS)
        await made.advance(2)
        assert [bars.close_ms for bars in made.bars] == [
            made.start_ms - DAY_MS + step * HALF_HOUR_MS for step in range(1, DAY_INSTANTS + 3)
        ]
        assert set(made.bars[0].proof) == {Proof.REREAD}
        for bars in made.bars:
            np.testing.assert_array_equal(bars.values, made.truth(bars.close_ms))
        assert [event.settle_ms for event in made.funding] == [
            made.start_ms - DAY_MS + k * 8 * HOUR_MS for k in (1, 2, 3)
        ]


async def test_without_a_stream_rest_tells_the_same_bars() -> None:
    async with rig(stream=False) as made:
        await made.listen()
        await made.advance(DAY_INSTANTS)
        expect_the_truth(made, DAY_INSTANTS)
        assert set(made.bars[0].proof) == {Proof.REREAD}
        np.testing.assert_array_equal(made.bars[0].opens, made.opens(made.bars[0].close_ms))


async def test_a_venue_without_joint_streams_and_flags_is_watched_symbol_by_symbol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(cast(dict[str, object], FRAME_READERS), "binanceusdm")
    async with rig() as made:
        made.feed._opened().api.has["watchOHLCVForSymbols"] = False
        await made.listen()
        await made.advance(12)
        expect_the_truth(made, 12)
        assert set(made.bars[-1].proof) == {Proof.SUCCESSOR}


async def test_a_corrected_bar_is_told_as_a_revision_and_not_sent_again() -> None:
    async with rig(audit_every_bars=4) as made:
        await made.listen()
        await made.advance(3)
        gate = made.feed._pump._gate if made.feed._pump else None
        assert gate is not None
        close_ms = made.bars[2].close_ms
        known = gate._columns[1].final[close_ms - HALF_HOUR_MS]
        wrong = (*known.values[:4], known.values[4] + 1.0)  # as if the venue had told this first
        gate._columns[1].final[close_ms - HALF_HOUR_MS] = dataclasses.replace(known, values=wrong)
        await made.advance(3)
        (revised,) = made.revised
        assert (revised.close_ms, revised.index) == (close_ms, 1)
        np.testing.assert_array_equal(revised.before, wrong)
        np.testing.assert_array_equal(revised.after, made.truth(close_ms)[1])
        assert len(made.bars) == 6


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("drop_sockets", 1),
        ("stall", 2),
        ("garbage_frame", 1),
        ("not_json_200", 3),
        ("http_503", 3),
        ("http_429", 1),
    ],
)
async def test_a_fault_costs_no_bar(kind: str, count: int) -> None:
    async with rig(stream_patience_s=0.3) as made:
        await made.listen()
        await made.advance(3)
        await made.fault(kind, count)
        await made.advance(6)
        assert made.feed._pump is not None
        expect_the_truth(made, 9)
        assert made.exchange.exchange.faults.left == 0, "the fault never struck"


async def test_after_a_garbage_frame_the_stream_is_back_and_proves_again() -> None:
    async with rig(stream_patience_s=0.3) as made:
        await made.listen()
        await made.advance(2)
        with structlog.testing.capture_logs() as logs:
            await made.fault("garbage_frame", 1)
            await made.advance(4)
        names = [entry["event"] for entry in logs]
        assert names.count("frame_unreadable") == 1
        assert names.count("stream_lost") == 1, "an outage is logged once"
        assert Proof.SUCCESSOR in made.bars[-1].proof


async def test_a_silent_stream_is_found_by_what_rest_shows_and_replaced() -> None:
    async with rig(stream_patience_s=0.4) as made:
        await made.listen()
        await made.advance(2)
        await made.fault("stall", 2)
        with structlog.testing.capture_logs() as logs:
            await made.advance(6)
        assert "stream_replaced" in [entry["event"] for entry in logs]
        assert set(made.bars[2].proof) == {Proof.REREAD}
        assert any(Proof.SUCCESSOR in bars.proof for bars in made.bars[4:])
        expect_the_truth(made, 8)


async def test_garbage_is_never_read_as_no_bars() -> None:
    """A gateway page with status 200 leaves the bars open; they come when REST recovers."""
    async with rig(stream=False) as made:
        await made.listen()
        await made.advance(1)
        await made.fault("not_json_200", 9)
        await made.advance(1)
        for bars in made.bars:
            present = ~np.isnan(bars.values[:, 3])
            np.testing.assert_array_equal(bars.values[present], made.truth(bars.close_ms)[present])
        got = np.nansum([b.proof > 0 for b in made.bars if b.close_ms == made.clock.now()], axis=0)
        assert list(got) == [1, 1, 1], "each bar exactly once, in however many messages"


async def test_settled_waits_until_the_consumer_has_taken_everything() -> None:
    async with rig() as made:
        gate = asyncio.Event()
        taken: list[int] = []

        async def slow() -> None:
            async for event in made.feed.events(made.start_ms):
                if isinstance(event, BarsClosed):
                    await gate.wait()
                    taken.append(event.close_ms)

        made.consumer = asyncio.create_task(slow())
        await made.subscribed()
        now = await made.clock.sleep_until(made.start_ms + HALF_HOUR_MS)
        waiting = asyncio.create_task(made.feed.settled(now))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await asyncio.shield(waiting)
        assert not waiting.done()
        gate.set()
        await waiting
        assert taken == [now]


async def test_several_times_real_speed_with_the_venues_clock() -> None:
    market = RehearsalSettings(coins=3, history_days=5, pace=PaceKind.FACTOR, factor=3600.0)
    transport = TransportClock()
    async with await serve(market) as exchange:
        options = ccxt_options(exchange.rest_url, exchange.ws_url)
        settings = settings_for(options, reread_grace_ms=2_000, stream_patience_s=0.2)
        clock = VenueClock(lambda: feed.server_time(), transport, speed=3600.0)
        feed = CcxtFeed(settings, clock, transport)
        await clock.measure()
        start = clock.now()
        told: list[BarsClosed] = []
        async with asyncio.timeout(15):
            async for event in feed.events(start):
                if isinstance(event, BarsClosed):
                    told.append(event)
                if len(told) >= 4:
                    break
        await feed.close()
        first = Timeframe(30).next_close(start)
        assert [b.close_ms for b in told] == [first + k * HALF_HOUR_MS for k in range(4)]
        helper = Rig(exchange, feed, LockStepClock("http://x", feed.close), SYMBOLS, start)
        for bars in told:
            np.testing.assert_array_equal(bars.values, helper.truth(bars.close_ms))


# ---- refusals ------------------------------------------------------------------------------------


async def said_by(made: Rig) -> str:
    """Give the words with which a feed refuses to load its instruments."""
    with pytest.raises((VenueError, ConfigurationError)) as refused:
        await made.feed.instruments()
    return str(refused.value)


async def test_an_unknown_exchange_id_names_the_nearest() -> None:
    async with rig() as made:
        made.feed._settings = FeedSettings("binanceusd", ("top:3",))
        said = await said_by(made)
        assert "'binanceusd'" in said
        assert "binanceusdm" in said


async def test_a_timeframe_that_the_venue_lacks_is_named_with_what_it_has() -> None:
    async with rig(timeframe=Timeframe(90)) as made:
        said = await said_by(made)
        assert "'90m'" in said
        assert "30m" in said


async def test_an_unknown_symbol_names_the_nearest_of_the_venue() -> None:
    async with rig(symbols=("BTCUSDC",), exchange_settings=RehearsalSettings(coins=3)) as made:
        assert "BTCUSDT" in await said_by(made)


@pytest.mark.parametrize(("kind", "status"), [("http_451", "451"), ("http_403", "403")])
async def test_a_geo_block_is_explained_and_not_repeated(kind: str, status: str) -> None:
    async with rig() as made:
        await made.fault(kind, 2)
        said = await said_by(made)
        assert f"HTTP {status}" in said
        assert "Choose another exchange id" in said
        assert made.exchange.exchange.faults.left == 1, "a lasting refusal was asked again"


async def test_a_page_instead_of_json_is_an_error_with_a_name() -> None:
    async with rig() as made:
        await made.fault("not_json_200", 99)
        with pytest.raises(BadPayload, match="not JSON"):
            await made.feed.server_time()


async def test_keys_are_refused_in_the_options_of_the_feed() -> None:
    async with rig() as made:
        made.feed._settings = settings_for({"apiKey": "k"})
        assert "'apiKey'" in await said_by(made)


async def test_the_top_and_exact_rules_come_from_the_venue() -> None:
    async with rig(RehearsalSettings(coins=6, history_days=5), symbols=("top:3",)) as made:
        instruments = await made.feed.instruments()
        assert len(instruments) == 3
        assert all(i.key.venue == "binanceusdm" for i in instruments)
        bitcoin = next(i for i in instruments if i.base == "BTC")
        assert str(bitcoin.rules.price_step) == "0.1"
        assert str(bitcoin.rules.quantity_step) == "0.001"
        assert str(bitcoin.rules.notional_min) == "100"


async def test_a_feed_closed_while_somebody_is_busy_with_an_event_ends() -> None:
    async with rig() as made:
        gate, taken = asyncio.Event(), list[int]()

        async def slow() -> None:
            async for event in made.feed.events(made.start_ms):
                if isinstance(event, BarsClosed):
                    taken.append(event.close_ms)
                    await gate.wait()

        made.consumer = asyncio.create_task(slow())
        await made.subscribed()
        now = await made.clock.sleep_until(made.start_ms + HALF_HOUR_MS)
        await until(lambda: bool(taken), "no bar came")
        await made.feed.close()
        gate.set()
        async with asyncio.timeout(5):
            await made.consumer
        assert taken == [now]
