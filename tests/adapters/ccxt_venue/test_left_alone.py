"""A venue that bans without saying for how long is left alone longer and longer."""

from __future__ import annotations

import asyncio

import pytest

from adapters.ccxt_venue import calls
from adapters.ccxt_venue.calls import CROWD_PAUSE_S, CROWD_PAUSE_S_MAX, Caller, LeftAlone
from adapters.ccxt_venue.keys import Credentials, Hidden
from adapters.ccxt_venue.streams import PrivateStream
from adapters.ccxt_venue.wire import watch
from tests.adapters.ccxt_venue.loopback import API_KEY, SECRET, Script, ccxt_of, serving, shut

PAGE = "<html><body>Forbidden: access too frequent</body></html>"
TIME = {
    "binanceusdm": '{"serverTime": 1700000000000}',
    "bybit": '{"retCode":0,"time":1700000000000}',
}


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit"])
async def test_pauses_double_while_it_bans_and_begin_anew_once_it_answers(
    venue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bybit lifts a ban after ten minutes of silence; asked every five seconds, never."""
    at_s = [0.0]
    monkeypatch.setattr(calls, "now_s", lambda: at_s[0])
    keys = Credentials(venue, Hidden(API_KEY), Hidden(SECRET)).redactor()
    pauses = []
    async with serving(Script(PAGE, 403, content_type="text/html")) as banning:
        client = ccxt_of(venue, f"http://127.0.0.1:{banning.port}/")
        watch(client)
        caller = Caller(venue, client, keys)
        for _ in range(9):
            await caller.once("fetch_time")
            pauses.append(caller.left_alone_s)
            asked_n = len(banning.requests)
            await caller.once("fetch_time")
            assert len(banning.requests) == asked_n, "it was asked although it wanted nobody"
            at_s[0] += pauses[-1] + 1
        await shut(client)
    assert pauses[:3] == [CROWD_PAUSE_S, 2 * CROWD_PAUSE_S, 4 * CROWD_PAUSE_S]
    assert pauses[-1] == CROWD_PAUSE_S_MAX >= 600
    async with serving(Script(TIME[venue])) as answering:
        client = ccxt_of(venue, f"http://127.0.0.1:{answering.port}/")
        watch(client)
        caller.api = client
        await caller.once("fetch_time")
        await shut(client)
        assert not caller.left_alone_s
        assert caller._crowds_n == 0


async def test_a_private_stream_is_not_dialled_while_the_venue_wants_no_request() -> None:
    keys = Credentials("binanceusdm", Hidden(API_KEY), Hidden(SECRET)).redactor()
    async with serving(Script(PAGE, 403, content_type="text/html")) as banning:
        client = ccxt_of("binanceusdm", f"http://127.0.0.1:{banning.port}/")
        watch(client)
        caller, dialled = Caller("binanceusdm", client, keys), asyncio.Event()

        async def watch_orders() -> None:
            dialled.set()
            await asyncio.Event().wait()

        client.watch_orders, client.client, client.on_connected = watch_orders, None, None
        stream = PrivateStream(
            caller, silence_s=60, renew_s=60, on_hint=lambda hint: None, on_open=lambda: None
        )
        await caller.once("fetch_time")
        caller._alone_until_s = calls.now_s() + 0.3
        running = asyncio.create_task(stream.run())
        await asyncio.sleep(0.1)
        assert not dialled.is_set()
        async with asyncio.timeout(2):
            await dialled.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await shut(client)


@pytest.mark.parametrize("venue", ["binanceusdm", "bybit"])
async def test_what_waits_for_its_turn_does_not_leave_once_the_venue_wants_none(venue: str) -> None:
    keys = Credentials(venue, Hidden(API_KEY), Hidden(SECRET)).redactor()
    async with serving(Script(TIME[venue])) as answering:
        client, waits, turn = ccxt_of(venue, f"http://127.0.0.1:{answering.port}/"), [0], []

        async def throttle(cost: float | None = None) -> None:
            waits[0] += 1
            turn.append(asyncio.get_running_loop().create_future())
            await turn[-1]

        client.enableRateLimit, client.throttle = True, throttle
        watch(client)
        caller = Caller(venue, client, keys)
        waiting = [asyncio.create_task(caller.once("fetch_time")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert waits == [3]
        turn.pop().set_result(None)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert len(answering.requests) == 1
        caller._alone_until_s = calls.now_s() + 60
        for one in turn:
            one.set_result(None)
        troubles = [(await one).trouble for one in waiting]
        await shut(client)
        assert len(answering.requests) == 1
        assert sum(isinstance(one, LeftAlone) for one in troubles) == 2
