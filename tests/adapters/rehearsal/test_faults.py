"""Faults as a client meets them, several at once, of one instrument, planned and at random."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest

from adapters.rehearsal.fault_plan import FaultPlan, PlannedStrike, random_strikes
from adapters.rehearsal.faults import PRIVATE_FAULTS, Fault, FaultSwitch, Strike
from adapters.rehearsal.server import RunningExchange
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT, RehearsalSettings
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, MINUTE_MS
from tests.adapters.rehearsal.conftest import Post, Start

HALF_HOUR_MS = 30 * MINUTE_MS
START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
KLINES = "/fapi/v1/klines?symbol=BTCUSDT&interval=30m&limit=5"
SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


async def get(running: RunningExchange, path: str = KLINES) -> tuple[int, str, Any]:
    """Ask once; give status, text and headers."""
    async with aiohttp.ClientSession() as session, session.get(running.rest_url + path) as answer:
        return answer.status, await answer.text(), answer.headers


def put(running: RunningExchange, fault: Fault, count: int = 1, **more: Any) -> None:
    running.exchange.faults.put(Strike(fault, count, **more))


# ---- the switch ----------------------------------------------------------------------------------


def test_several_faults_are_active_at_once_and_each_is_counted() -> None:
    switch = FaultSwitch()
    switch.set("stall", 2)
    switch.set("http_503", 1, symbol="ETHUSDT")
    assert switch.left == 3
    assert not switch.takes(Fault.HTTP_503, symbol="BTCUSDT")
    assert not switch.takes(Fault.HTTP_503), "a fault of one instrument struck everyone"
    assert switch.takes(Fault.HTTP_503, symbol="ETHUSDT")
    assert not switch.takes(Fault.HTTP_503, symbol="ETHUSDT")
    assert switch.takes(Fault.STALL, symbol="SOLUSDT"), "a fault of all passed one by"
    assert switch.struck_n == Counter({Fault.HTTP_503: 1, Fault.STALL: 1})
    switch.set("stall", 7)
    assert switch.left == 7, "the same fault is replaced, not added"
    switch.set("none", 1)
    assert (switch.left, switch.fault) == (0, Fault.NONE)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ({"kind": "stall", "symbol": "NOSUCH"}, "symbol 'NOSUCH': accepted is one of BTCUSDT"),
        ({"kind": "slow", "seconds": "long"}, "seconds 'long': accepted is a number"),
        ({"kind": "slow", "seconds": 1e9}, "accepted is -345600..345600"),
    ],
)
async def test_wrong_faults_are_refused_by_name(
    start: Start, post: Post, body: dict[str, Any], complaint: str
) -> None:
    answer = await post(await start(), "fault", **body)
    assert answer["status"] == 400
    assert complaint in answer["error"]


async def test_the_state_tells_what_waits_and_what_did_strike(start: Start, post: Post) -> None:
    running = await start()
    await post(running, "fault", kind="http_503", count=2, symbol="BTCUSDT")
    await get(running)
    state = json.loads((await get(running, "/rehearsal/state"))[1])
    assert state["faults"] == [{"kind": "http_503", "left": 1, "symbol": "BTCUSDT"}]
    assert state["faults_struck"] == {"http_503": 1}


# ---- REST ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "retry"),
    [
        (Fault.HTTP_418, 418, "7"),
        (Fault.HTTP_429, 429, "7"),
        (Fault.HTTP_503, 503, None),
        (Fault.MAINTENANCE, 503, None),
    ],
)
async def test_refusals_have_their_status_and_retry_after(
    start: Start, fault: Fault, status: int, retry: str | None
) -> None:
    running = await start()
    put(running, fault, seconds=7.0)
    told, _, headers = await get(running)
    assert (told, headers.get("Retry-After")) == (status, retry)
    assert (await get(running))[0] == 200


async def test_klines_can_be_absent_lag_or_differ_for_one_answer(start: Start) -> None:
    running = await start()
    true = json.loads((await get(running))[1])
    put(running, Fault.EMPTY_LIST_200)
    assert json.loads((await get(running))[1]) == []
    put(running, Fault.LAGGING_200)
    assert json.loads((await get(running))[1]) == true[:-2]
    put(running, Fault.DIFFERING_ROW_200)
    other = json.loads((await get(running))[1])
    assert [a == b for a, b in zip(true, other, strict=True)] == [True, True, True, False, True]
    assert json.loads((await get(running))[1]) == true


async def test_bodies_can_be_cut_broken_off_late_or_never_come(start: Start) -> None:
    running = await start()
    put(running, Fault.CUT_JSON_200)
    with pytest.raises(json.JSONDecodeError):
        json.loads((await get(running))[1])
    put(running, Fault.RESET_BODY)
    with pytest.raises(aiohttp.ClientError):
        await get(running)
    loop = asyncio.get_running_loop()
    put(running, Fault.SLOW, seconds=0.2)
    began = loop.time()
    assert (await get(running))[0] == 200
    assert loop.time() - began >= 0.2
    put(running, Fault.HANG)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await get(running)


async def test_the_list_of_contracts_and_the_clock_can_be_wrong(start: Start) -> None:
    running = await start()
    put(running, Fault.EMPTY_EXCHANGE_INFO)
    assert json.loads((await get(running, "/fapi/v1/exchangeInfo"))[1])["symbols"] == []
    put(running, Fault.CLOCK_JUMP, seconds=-5.0)
    assert json.loads((await get(running, "/fapi/v1/time"))[1])["serverTime"] == START_MS - 5000
    assert json.loads((await get(running, "/fapi/v1/time"))[1])["serverTime"] == START_MS


async def test_a_revised_kline_differs_for_good_and_stays_published_to_the_bit(
    start: Start,
) -> None:
    running = await start()
    before = json.loads((await get(running))[1])
    put(running, Fault.REVISED_REST, symbol="BTCUSDT")
    await running.exchange.move_to(START_MS + HALF_HOUR_MS)
    after = json.loads((await get(running))[1])
    changed = [row for row in after if row[0] == START_MS - 2 * HALF_HOUR_MS]
    (old,) = [row for row in before if row[0] == changed[0][0]]
    assert changed[0] != old
    kline = running.exchange.publication.kline(
        "BTCUSDT", HALF_HOUR_MS, changed[0][0], running.exchange.now_ms
    )
    assert kline is not None
    assert (kline.high, kline.volume) == (float(changed[0][2]), float(changed[0][5]))
    assert (await get(running, KLINES.replace("BTC", "ETH")))[0] == 200


# ---- sockets -------------------------------------------------------------------------------------


async def frames_of(
    running: RunningExchange, symbol: str, instants: int, *strikes: Strike
) -> list[Any]:
    """Listen to one symbol through some instants; give its kline frames after the greeting.

    What is to strike is switched on after the greeting.
    """
    name = f"{symbol.lower()}@kline_30m"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{running.ws_url}/ws/{name}") as socket,
    ):
        await socket.receive_json(timeout=5)
        for strike in strikes:
            running.exchange.faults.put(strike)
        for _ in range(instants):
            await running.exchange.move_to(running.exchange.now_ms + HALF_HOUR_MS)
        frames = []
        while True:
            try:
                frames.append(await socket.receive_json(timeout=0.1))
            except TimeoutError:
                return frames


def seen(frames: list[Any]) -> list[tuple[int, bool]]:
    """Write frames as places of their bars and closed flags."""
    return [((f["k"]["t"] - START_MS) // HALF_HOUR_MS, f["k"]["x"]) for f in frames]


async def test_frames_can_be_doubled_late_or_silent_about_one_symbol(start: Start) -> None:
    healthy = [(0, True), (1, False), (1, True), (2, False)]
    for strike, expected in (
        (Strike(Fault.NONE), healthy),
        (Strike(Fault.DUPLICATE_FRAMES), [healthy[0], healthy[0], healthy[1], *healthy[1:]]),
        (Strike(Fault.LATE_FRAMES), [(1, True), (2, False), (0, True), (1, False)]),
        (Strike(Fault.STALL, 1, "ETHUSDT"), healthy),
        (Strike(Fault.STALL, 1, "BTCUSDT"), healthy[2:]),
    ):
        assert seen(await frames_of(await start(), "BTCUSDT", 2, strike)) == expected, strike


@pytest.mark.parametrize(
    ("fault", "is_spoiled"),
    [
        (Fault.KLINE_NAN, lambda k: k["c"] == "NaN"),
        (Fault.KLINE_NULL, lambda k: k["v"] is None),
        (Fault.KLINE_TYPES, lambda k: isinstance(k["h"], list)),
        (Fault.KLINE_NEGATIVE_VOLUME, lambda k: float(k["v"]) < 0),
        (Fault.KLINE_HIGH_BELOW_LOW, lambda k: float(k["h"]) < float(k["l"])),
        (Fault.KLINE_OFF_GRID, lambda k: k["t"] % HALF_HOUR_MS != 0),
        (Fault.KLINE_OTHER_SYMBOL, lambda k: k["s"] not in SYMBOLS),
    ],
)
async def test_one_frame_is_spoiled(start: Start, fault: Fault, is_spoiled: Any) -> None:
    running = await start()
    put(running, fault, symbol="BTCUSDT")
    frames = await frames_of(running, "BTCUSDT", 2)
    assert [bool(is_spoiled(frame["k"])) for frame in frames] == [True, False, False, False]


async def test_a_half_open_socket_answers_no_ping_and_a_new_one_does(start: Start) -> None:
    running = await start()
    async with aiohttp.ClientSession() as session:
        url = f"{running.ws_url}/ws/btcusdt@kline_30m"
        async with session.ws_connect(url, autoping=False) as socket:
            await socket.receive(timeout=5)
            await socket.ping()
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.PONG
            put(running, Fault.HALF_OPEN)
            await running.exchange.move_to(START_MS + HALF_HOUR_MS)
            await socket.ping()
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.2)
            async with session.ws_connect(url, autoping=False) as fresh:
                assert (await fresh.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT


async def test_dials_and_subscriptions_can_be_refused(start: Start) -> None:
    running = await start()
    put(running, Fault.DIAL_REFUSED)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{running.ws_url}/ws")
        async with session.ws_connect(f"{running.ws_url}/ws") as socket:
            put(running, Fault.SUBSCRIBE_REFUSED)
            wish = {"method": "SUBSCRIBE", "params": ["btcusdt@kline_30m"], "id": 1}
            await socket.send_json(wish)
            assert "error" in await socket.receive_json(timeout=5)
            assert running.exchange.hub.streams == []
            await socket.send_json(wish)
            assert await socket.receive_json(timeout=5) == {"result": None, "id": 1}
        put(running, Fault.DIAL_HANG)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await session.ws_connect(f"{running.ws_url}/ws")


# ---- plans ---------------------------------------------------------------------------------------


def test_random_faults_depend_on_seed_and_instant_alone() -> None:
    instants = range(START_MS, START_MS + 20 * DAY_MS, HALF_HOUR_MS)
    drawn = [random_strikes(3, at_ms, SYMBOLS) for at_ms in instants]
    assert drawn == [random_strikes(3, at_ms, SYMBOLS) for at_ms in instants]
    assert drawn != [random_strikes(4, at_ms, SYMBOLS) for at_ms in instants]
    kinds = {strike.fault for strikes in drawn for strike in strikes}
    assert kinds == set(Fault) - PRIVATE_FAULTS - {Fault.NONE}
    assert max(len(strikes) for strikes in drawn) == 2, "several at once"
    assert {s.symbol for strikes in drawn for s in strikes} == {"", *SYMBOLS}


def test_a_resumed_plan_goes_on_where_it_would_have_been() -> None:
    planned = (PlannedStrike(START_MS + 7, "stall", 2), PlannedStrike(START_MS, "hang"))
    whole = FaultPlan(planned, 3, SYMBOLS, HALF_HOUR_MS)
    end_ms = START_MS + 4 * DAY_MS
    at_once = whole.due(START_MS - 1, end_ms)
    step_ms = 999_983
    in_parts = [
        strike
        for after_ms in range(START_MS - 1, end_ms, step_ms)
        for strike in whole.due(after_ms, min(after_ms + step_ms, end_ms))
    ]
    assert Counter(map(str, in_parts)) == Counter(map(str, at_once))
    assert [s.fault for s in FaultPlan(planned, None, SYMBOLS, HALF_HOUR_MS).due(0, end_ms)] == [
        Fault.HANG,
        Fault.STALL,
    ]


async def test_a_plan_in_the_settings_strikes_at_its_instant(start: Start) -> None:
    settings = RehearsalSettings(
        faults=(PlannedStrike(START_MS + HALF_HOUR_MS, "http_503", 2, "BTCUSDT"),), fault_seed=9
    )
    assert RehearsalSettings.from_json(settings.to_json()) == settings
    running = await start(faults=settings.faults)
    assert (await get(running))[0] == 200
    await running.exchange.move_to(START_MS + HALF_HOUR_MS)
    assert [(await get(running))[0] for _ in range(3)] == [503, 503, 200]


@pytest.mark.parametrize(
    ("faults", "complaint"),
    [
        ([{"at_ms": START_MS, "kind": "quake"}], "kind 'quake': accepted is none"),
        ([{"at_ms": START_MS}], "accepted are tables with at_ms, kind"),
        ([{"at_ms": START_MS, "kind": "stall", "count": "two"}], "faults.count 'two'"),
        ([{"at_ms": START_MS, "kind": "stall", "count": 0}], "count 0: accepted is 1 or more"),
        ("stall", "faults 'stall': accepted is a list"),
    ],
)
def test_wrong_plans_are_refused_by_name(faults: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        RehearsalSettings.from_mapping({"faults": faults})


def test_a_plan_for_a_coin_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"faults\.symbol 'NOSUCH'"):
        FaultPlan((PlannedStrike(0, "stall", 1, "NOSUCH"),), None, SYMBOLS, HALF_HOUR_MS)
