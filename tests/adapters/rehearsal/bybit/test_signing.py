"""Who is let in: keys, signatures and clocks of the private half in Bybit's words."""

from __future__ import annotations

from typing import Any

import aiohttp
import ccxt
import pytest
from yarl import URL

from adapters.rehearsal.bybit.signing import signature
from adapters.rehearsal.server import RunningExchange
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT, PaceKind
from daemon.domain.units import DAY_MS
from tests.adapters.rehearsal.bybit.conftest import KEY, SECRET, ConnectBybit, StartBybit

START_MS = ORIGIN_MS_DEFAULT + 3 * DAY_MS
QUERY = "category=linear&settleCoin=USDT"


async def asked(running: RunningExchange, **changes: Any) -> int:
    """Ask for positions with a signed request of which something may be changed; give the code."""
    parts: dict[str, Any] = {
        "key": KEY,
        "secret": SECRET,
        "stamp": START_MS,
        "window": 5000,
        "signed": QUERY,
    } | changes
    text = f"{parts['stamp']}{parts['key']}{parts['window']}{parts['signed']}"
    headers = {
        "X-BAPI-API-KEY": parts["key"],
        "X-BAPI-TIMESTAMP": str(parts["stamp"]),
        "X-BAPI-RECV-WINDOW": str(parts["window"]),
        "X-BAPI-SIGN": signature(parts["secret"], text),
    }
    url = URL(f"{running.rest_url}/v5/position/list?{QUERY}", encoded=True)
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as reply:
        return int((await reply.json())["retCode"])


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"key": "another"}, 10003),
        ({"secret": "another"}, 10004),
        ({"signed": QUERY + "&limit=1"}, 10004),
        ({"stamp": START_MS - 5000}, 0),
        ({"stamp": START_MS + 999}, 0),
        ({"stamp": START_MS - 9000, "window": 9000}, 0),
        ({"stamp": START_MS, "window": 10**6}, 10002),
        ({"stamp": "soon"}, 10002),
    ],
)
async def test_key_signature_and_time_are_checked(
    bybit: StartBybit, changes: dict[str, Any], code: int
) -> None:
    assert await asked(await bybit(), **changes) == code


async def test_a_body_is_signed_as_well(bybit: StartBybit, client_of: ConnectBybit) -> None:
    running = await bybit()
    client = client_of(running)
    await client.load_markets()
    signed = client.sign("v5/order/create", ["private"], "POST", {"category": "linear"})
    body = signed["body"].replace("linear", "Linear")
    url = f"{running.rest_url}/v5/order/create"
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=signed["headers"]) as reply,
    ):
        assert (await reply.json())["retCode"] == 10004


async def test_ccxt_tells_the_refusals_apart(bybit: StartBybit, client_of: ConnectBybit) -> None:
    running = await bybit()
    with pytest.raises(ccxt.AuthenticationError, match="10003"):
        await client_of(running, key="another").fetch_balance()
    with pytest.raises(ccxt.AuthenticationError, match="10004") as caught:
        await client_of(running, secret="another").fetch_balance()
    assert KEY not in str(caught.value)


async def test_with_the_wall_as_pace_the_markets_time_alone_counts(
    bybit: StartBybit, client_of: ConnectBybit
) -> None:
    running = await bybit(pace=PaceKind.FACTOR, factor=1.0)
    client = client_of(running)
    with pytest.raises(ccxt.InvalidNonce, match="10002"):
        await client.fetch_balance()
    await client.load_time_difference()
    assert (await client.fetch_balance())["USDT"]["total"] == 100_000


@pytest.mark.parametrize(("away_ms", "code"), [(-5_001, 10002), (1_000, 10002), (999, 0)])
async def test_the_window_ends_at_its_last_ms(bybit: StartBybit, away_ms: int, code: int) -> None:
    running = await bybit(pace=PaceKind.FACTOR, factor=1e-6)  # one of its ms lasts a thousand s
    now_ms = running.exchange.clock_ms()
    assert await asked(running, stamp=now_ms + away_ms) == code


async def test_in_lock_step_a_clients_clock_is_believed_once(bybit: StartBybit) -> None:
    theirs_ms = START_MS + 500 * DAY_MS
    running = await bybit()
    assert await asked(running, stamp=theirs_ms, secret="another") == 10004
    assert await asked(running, stamp=theirs_ms) == 0
    assert await asked(running, stamp=theirs_ms - 60_000) == 10002
    assert await asked(running, stamp=theirs_ms + 60_000) == 10002
    assert await asked(running, stamp=START_MS) == 0  # the market's time is always right
