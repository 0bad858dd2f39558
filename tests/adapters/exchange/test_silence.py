"""Streams that say nothing of our bars are found by silence alone, and not replaced for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest

from adapters.exchange.deafness import Deafness
from adapters.exchange.frames import FRAME_READERS
from adapters.rehearsal.faults import Fault, Strike
from daemon.domain.bar import Proof
from tests.adapters.exchange.feed_rig import Rig, rig, until
from tests.adapters.exchange.test_watch import WITHOUT_CLOCK, ShiftedClock

SILENCE_S = 50.0
PONG = '{"op": "pong", "success": true, "ret_msg": "pong"}'


@pytest.fixture(params=[True, False], ids=["frames", "cache"])
def by_frames(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Judge frames as they come, or read the client's cache."""
    if not request.param:
        monkeypatch.delitem(cast(dict[str, object], FRAME_READERS), "binanceusdm")
    return bool(request.param)


async def expect_pong(made: Rig) -> None:
    """Answer pings nobody sent, with words that are no bars; they arrive."""
    assert made.feed._pump is not None
    stream, hub = made.feed._pump._stream, made.exchange.exchange.hub
    assert stream is not None
    before = stream.frames
    for socket in list(hub._sockets):
        await hub._send(socket, PONG)
    await until(lambda: stream.frames > before, "no pong came")


@pytest.mark.usefixtures("by_frames")
@pytest.mark.parametrize("says_pong", [False, True])
async def test_an_open_socket_without_bars_is_replaced_although_it_answers_pings(
    says_pong: bool,
) -> None:
    transport = ShiftedClock()
    rules = replace(WITHOUT_CLOCK, silence_s=SILENCE_S, standstill_s=1e9)
    async with rig(
        transport=transport, watch=rules, stream_patience_s=1e6, settle_timeout_s=0.2
    ) as made:
        await made.listen()
        await made.advance(3)
        made.exchange.exchange.faults.put(Strike(Fault.STALL, 2))
        for _ in range(2):
            transport.later_s += 0.6 * SILENCE_S
            if says_pong:
                await expect_pong(made)
            await made.advance(1)
        await until(lambda: made.health.replaced_n == 1, "silence was not noticed")
        await made.subscribed()


async def test_a_symbol_that_is_never_streamed_costs_the_others_ever_less() -> None:
    async with rig(stream_patience_s=0.05) as made:
        await made.listen()
        await made.advance(3)
        made.exchange.exchange.faults.put(Strike(Fault.STALL, 100_000, "ETHUSDT"))
        assert made.feed._pump is not None
        stream = made.feed._pump._stream
        assert stream is not None
        for _ in range(30):
            await made.advance(1)
            await until(lambda: not stream._lost, "the stream did not come back")
        assert 1 <= made.health.replaced_n <= 4, "after 2, 4, 8 and 16 bars that were missed"
        for bars in made.bars:
            np.testing.assert_array_equal(bars.values, made.truth(bars.close_ms))
        others = [int(bars.proof[i]) for bars in made.bars[3:] for i in (0, 2)]
        assert others.count(Proof.SUCCESSOR) >= 0.7 * len(others)


def test_the_patience_with_an_instrument_doubles_and_its_proof_ends_that() -> None:
    deaf, watched = Deafness(5, 2), range(5)
    replaced = []
    for bar in range(1, 31):
        if deaf.missed(3, watched):
            deaf.dialled([3])
            replaced.append(bar)
    assert replaced == [2, 2 + 4, 2 + 4 + 8, 2 + 4 + 8 + 16]
    deaf.proven(3)
    assert [bool(deaf.missed(3, watched)) for _ in range(2)] == [False, True]


def test_half_of_the_instruments_are_enough_once_and_do_not_count_again_unseen() -> None:
    deaf, watched = Deafness(4, 3), range(4)
    assert deaf.missed(0, watched) == []
    assert deaf.missed(1, watched) == [0, 1]
    deaf.dialled([0, 1])
    assert [deaf.missed(0, watched), deaf.missed(1, watched)] == [[], []]
    deaf.shown(0)
    deaf.shown(1)
    assert deaf.missed(0, watched) == [0, 1], "the new socket had shown them"
    assert deaf.missed(2, watched) == [2], "half of the two that are known to be streamed"


@pytest.mark.usefixtures("by_frames")
async def test_what_a_broken_socket_had_shown_does_not_vouch_for_the_new_one() -> None:
    async with rig(stream_patience_s=0.2) as made:
        await made.listen()
        await made.advance(3)
        pump, faults = made.feed._pump, made.exchange.exchange.faults
        assert pump is not None
        newest_ms = made.clock.now()
        faults.put(Strike(Fault.STALL, 100_000))  # the new socket will bring nothing
        made.exchange.exchange.hub.cut_all()
        await until(lambda: made.health.broken_n == 1, "the broken socket was not seen")
        await made.subscribed()
        assert not any(pump._gate.shown(index, newest_ms) for index in range(3))
        assert not made.feed.client.api.ohlcvs, "its rows would be read as those of the new one"
