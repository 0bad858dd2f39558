"""Traps of exchange clients that concern data, each with a test that fails without its remedy.

Letters and numbers are those of section 4 of the notes on exchanges. The real client runs against a
real exchange on loopback, in lock-step; what a remedy is stands in the docstring of its test. What
concerns the stream is played where frames are judged as they come, and where the client's cache is
read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import numpy as np
import pytest
import structlog

from adapters.exchange.frames import FRAME_READERS
from adapters.rehearsal.faults import Fault, Strike
from adapters.rehearsal.universe import NAMES
from daemon.domain.bar import Proof
from daemon.domain.failures import VenueError
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, SYMBOLS, Rig, rig


@asynccontextmanager
async def listening(symbols: tuple[str, ...] = SYMBOLS, **changes: Any) -> AsyncIterator[Rig]:
    """Run a feed past its first instants, when frames only prime."""
    with structlog.testing.capture_logs():
        async with rig(symbols=symbols, **({"stream_patience_s": 0.2} | changes)) as made:
            await made.listen()
            await made.advance(3)
            yield made


@pytest.fixture(params=["frames", "cache"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Judge frames as they come, or read the client's cache as for venues we do not know."""
    if request.param == "cache":
        monkeypatch.delitem(cast(dict[str, object], FRAME_READERS), "binanceusdm")
    return str(request.param)


def strike(made: Rig, fault: Fault, count: int = 1, symbol: str = "", seconds: float = 0.3) -> None:
    made.exchange.exchange.faults.put(Strike(fault, count, symbol, seconds))


def expect_all_bars(made: Rig) -> None:
    """Hold that every bar up to now came once, true to the bit, and none was called revised."""
    came: dict[tuple[int, int], int] = {}
    for bars in made.bars:
        truth = made.truth(bars.close_ms)
        for index in np.flatnonzero(bars.proof):
            np.testing.assert_array_equal(bars.values[index], truth[index])
            came[bars.close_ms, int(index)] = came.get((bars.close_ms, int(index)), 0) + 1
    instants_n = len({close_ms for close_ms, _ in came})
    assert max(close_ms for close_ms, _ in came) == made.clock.now()
    assert len(came) == instants_n * len(made.symbols)
    assert set(came.values()) == {1}
    assert made.revised == []


async def expect_stream(made: Rig) -> None:
    """Hold that the stream is back and proves every bar."""
    await subscribed_again(made)
    for _ in range(6):  # on a busy machine, one may come late
        await made.advance(1)
        if set(made.bars[-1].proof) == {Proof.SUCCESSOR}:
            return
    raise AssertionError("the stream does not prove bars")


async def subscribed_again(made: Rig) -> None:
    """Wait until the stream is back."""
    for _ in range(400):
        stream = made.feed._pump and made.feed._pump._stream
        if stream and not stream._lost and len(made.exchange.exchange.hub.streams) == len(SYMBOLS):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the stream did not come back")


@pytest.mark.parametrize("fault", [Fault.NOT_JSON_200, Fault.CUT_JSON_200])
async def test_a_an_answer_that_is_not_json_is_not_the_word_none(fault: Fault) -> None:
    """Remedy: `VenueClient` refuses a body that was not parsed into a list or an object."""
    async with listening(stream=False) as made:
        for symbol in SYMBOLS:
            strike(made, fault, 1, symbol)
        await made.advance(1)
        assert made.exchange.exchange.faults.struck_n[fault] == len(SYMBOLS)
        assert made.health.absent_n == 0, "garbage was taken for the venue's word"
        expect_all_bars(made)


@pytest.mark.usefixtures("way")
async def test_c_a_garbage_frame_does_not_leave_a_deaf_socket() -> None:
    """Remedy: a frame that cannot be read ends its socket at once.

    The patience is long: on a busy machine REST would else have told the bar before the frame came.
    """
    async with listening(stream_deadline_bars=1000, stream_patience_s=3.0) as made:
        strike(made, Fault.GARBAGE_FRAME)
        await made.advance(1)
        assert made.health.broken_n == 1
        assert made.health.replaced_n == 0, "it was found by silence only"
        await expect_stream(made)
        expect_all_bars(made)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("fault", [Fault.STALL, Fault.HALF_OPEN])
async def test_d_a_silent_stream_is_found_by_its_data_and_replaced(fault: Fault) -> None:
    """Remedy: bars that REST has and the stream did not show count against its socket."""
    async with listening() as made:
        strike(made, fault, 2 if fault is Fault.STALL else 1)
        await made.advance(2)
        assert made.health.replaced_n == 1
        await expect_stream(made)
        expect_all_bars(made)


async def test_d_a_stream_that_is_silent_about_one_symbol_is_replaced_after_the_deadline() -> None:
    """Remedy: the deadline counts bars of each symbol, not frames of the socket."""
    async with listening() as made:
        strike(made, Fault.STALL, 3, "ETHUSDT")
        await made.advance(2)  # of the first bar, the stream had shown the beginning
        assert made.health.replaced_n == 0
        await made.advance(1)
        assert made.health.replaced_n == 1
        await expect_stream(made)
        expect_all_bars(made)


@pytest.mark.usefixtures("way")
async def test_e_a_burst_at_a_close_starves_no_symbol() -> None:
    """Remedy: every frame is judged, or every symbol's rows are read at each, not only the one
    that a call returned.
    """
    symbols = NAMES[:12]
    async with listening(symbols, stream_patience_s=3.0) as made:
        rereads_n = made.health.bars_n.get(Proof.REREAD, 0)
        await made.advance(8)
        assert made.health.bars_n.get(Proof.REREAD, 0) == rereads_n
        expect_all_bars(made)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("stream", [True, False])
async def test_f_a_running_bar_is_never_told(stream: bool) -> None:
    """Remedy: closed is what has a successor, is flagged, or was re-read after its close."""
    async with listening(stream=stream) as made:
        await made.advance(4)
        assert max(bars.close_ms for bars in made.bars) == made.clock.now()
        expect_all_bars(made)


@pytest.mark.usefixtures("way")
async def test_1_another_consumer_of_the_same_client_steals_nothing() -> None:
    """Remedy: frames or the cache are read, not the slice of what is new."""
    async with listening() as made:
        api = made.feed._opened().api

        async def thief() -> None:
            while True:
                await api.watch_ohlcv("BTC/USDT:USDT", "30m")

        stealing = asyncio.create_task(thief())
        await asyncio.sleep(0.05)
        rereads_n = made.health.bars_n.get(Proof.REREAD, 0)
        await made.advance(6)
        stealing.cancel()
        await asyncio.gather(stealing, return_exceptions=True)
        assert made.health.bars_n.get(Proof.REREAD, 0) == rereads_n
        expect_all_bars(made)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "fault", [Fault.LATE_FRAMES, Fault.SHUFFLED_FRAMES, Fault.DUPLICATE_FRAMES]
)
@pytest.mark.parametrize("symbol", ["", "ETHUSDT"])
async def test_2_frames_that_overwrite_a_closed_row_change_nothing(
    fault: Fault, symbol: str
) -> None:
    """Remedy: the row is kept with its closed flag; what is written over it later has none."""
    async with listening(audit_every_bars=0) as made:
        for count in (1, 2, 3):
            strike(made, fault, count, symbol)
            await made.advance(count + 2)
        expect_all_bars(made)


@pytest.mark.parametrize(
    ("fault", "count"), [(Fault.DROP_SOCKETS, 1), (Fault.DIAL_REFUSED, 2), (Fault.DIAL_HANG, 1)]
)
async def test_3_a_broken_connection_is_dialled_anew_by_itself(fault: Fault, count: int) -> None:
    """Remedy: the watchers never stop asking, with pauses that grow."""
    async with listening() as made:
        made.feed._opened().api.options["ws"] = {"connectionTimeout": 1000}
        if fault is not Fault.DROP_SOCKETS:
            strike(made, fault, count)
        strike(made, Fault.DROP_SOCKETS)
        await made.advance(1)
        await expect_stream(made)
        assert made.exchange.exchange.faults.struck_n[fault] == count
        expect_all_bars(made)


async def test_3_a_dial_that_takes_long_is_not_given_up_for_another() -> None:
    """Remedy: a socket that is being dialled cannot count as deaf yet."""
    async with listening(stream_patience_s=0.05) as made:
        made.feed._opened().api.options["ws"] = {"connectionTimeout": 1000}
        strike(made, Fault.DIAL_HANG)
        strike(made, Fault.DROP_SOCKETS)
        for _ in range(8):  # bars go on being missed
            await made.advance(1)
            await asyncio.sleep(0.05)
        assert made.health.replaced_n == 0
        await expect_stream(made)
        expect_all_bars(made)


async def test_3_a_refused_subscription_is_asked_for_again() -> None:
    """Remedy: an answer that refuses ends the socket; the client would wait for ever."""
    async with listening(stream_deadline_bars=1000) as made:
        strike(made, Fault.SUBSCRIBE_REFUSED)
        strike(made, Fault.DROP_SOCKETS)
        await made.advance(1)
        await subscribed_again(made)
        assert made.exchange.exchange.faults.struck_n[Fault.SUBSCRIBE_REFUSED] == 1
        assert made.health.replaced_n == 0, "it was found by silence only"
        await expect_stream(made)
        expect_all_bars(made)


async def test_3_refusals_that_lie_far_apart_never_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remedy: bars that came end a row of refusals; over months every stream would be given up."""
    monkeypatch.setattr("adapters.exchange.stream.REFUSALS_SOON", 1)
    async with listening(stream_deadline_bars=1000) as made:
        for times in range(1, len(SYMBOLS) + 2):  # one of them is refused a second time
            strike(made, Fault.SUBSCRIBE_REFUSED)
            strike(made, Fault.DROP_SOCKETS)
            await made.advance(1)
            await subscribed_again(made)
            assert made.exchange.exchange.faults.struck_n[Fault.SUBSCRIBE_REFUSED] == times
            await expect_stream(made)
        expect_all_bars(made)


@pytest.mark.parametrize("fault", [Fault.HTTP_429, Fault.HTTP_418])
async def test_5_a_venue_that_bans_is_not_asked_before_it_allows_it(fault: Fault) -> None:
    """Remedy: Retry-After is kept from the raw answer, and no request leaves before."""
    async with listening(stream=False, settle_timeout_s=0.2) as made:
        strike(made, fault, 50, seconds=1.0)
        await made.advance(1)
        struck_n = made.exchange.exchange.faults.struck_n[fault]
        await asyncio.sleep(0.3)
        with pytest.raises(VenueError, match="left alone"):
            await made.feed.server_time()
        # those on their way when the first refusal came were refused as well
        assert made.exchange.exchange.faults.struck_n[fault] == struck_n <= len(SYMBOLS) + 3
        strike(made, Fault.NONE)
        for _ in range(20):
            await made.feed.settled(made.clock.now())
            await asyncio.sleep(0.05)
        expect_all_bars(made)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.RESET_BODY, Fault.HTTP_503, Fault.MAINTENANCE])
async def test_5_requests_that_fail_are_asked_again(fault: Fault) -> None:
    """Remedy: a question without an answer leaves its bars open until there is one."""
    async with listening(stream=False) as made:
        made.feed._opened().api.timeout = 300
        strike(made, fault, 2, "ETHUSDT")
        await made.advance(1)
        assert made.exchange.exchange.faults.struck_n[fault] == 2
        assert made.health.rest_failures_n == 2
        assert made.health.absent_n == 0
        expect_all_bars(made)


async def test_a_list_of_markets_that_lacks_ours_is_not_believed() -> None:
    """Remedy: our instruments stay in the client's list until they count as gone."""
    async with listening(markets_every_ms=1) as made:
        strike(made, Fault.EMPTY_EXCHANGE_INFO, 3)
        await made.advance(4)
        assert made.exchange.exchange.faults.struck_n[Fault.EMPTY_EXCHANGE_INFO] == 3
        assert made.health.absent_n == 0
        await expect_stream(made)
        expect_all_bars(made)


async def test_one_answer_alone_does_not_revise_a_bar_and_two_do() -> None:
    """Remedy: what contradicts an emitted bar is asked for once more before it is told."""
    async with listening(audit_every_bars=4) as made:
        strike(made, Fault.DIFFERING_ROW_200, 1, "ETHUSDT")
        await made.advance(5)
        assert made.exchange.exchange.faults.struck_n[Fault.DIFFERING_ROW_200] == 1
        expect_all_bars(made)
        strike(made, Fault.REVISED_REST, 1, "ETHUSDT")
        await made.advance(9)
        assert len(made.revised) == 1


@pytest.mark.usefixtures("way")
async def test_a_bar_that_the_stream_corrects_is_told_without_waiting_for_an_audit() -> None:
    """Remedy: rows of bars that were emitted are looked at too."""
    async with listening(audit_every_bars=0) as made:
        strike(made, Fault.REVISED_FRAME, 1, "ETHUSDT")
        await made.advance(3)
        assert made.exchange.exchange.faults.struck_n[Fault.REVISED_FRAME] == 1
        [revised] = made.revised
        assert revised.index == 1
        np.testing.assert_array_equal(revised.before, made.truth(revised.close_ms)[1])
        asked = ("ETH/USDT:USDT", "30m", revised.close_ms - HALF_HOUR_MS, 1)
        [row], _ = await made.feed.client.ask("fetch_ohlcv", *asked)
        assert row[1:] == list(revised.after) != list(revised.before)
