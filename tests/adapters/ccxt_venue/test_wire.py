"""What the wire notes: what began, what was answered, and nothing that could be a secret."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from adapters.ccxt_venue.wire import HeldBack, listening, unless, watch

URL = "http://venue.example:81/fapi/v1/order?symbol=X&signature=abc"


class Client:
    """Stand for a ccxt client whose answers come when the test says so."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()

    async def fetch(self, url: str, method: str, headers: object, body: object) -> object:
        await self.gate.wait()
        return self.on_rest_response(200, "OK", url, method, {"Retry-After": "3"}, "{}", {}, None)

    def on_rest_response(self, *answer: object) -> object:
        return answer[5]


async def test_a_request_is_noted_when_it_begins_and_its_answer_when_it_is_complete() -> None:
    client: Any = Client()
    watch(client)
    with listening() as heard:
        call = asyncio.create_task(client.fetch(URL, "POST"))
        await asyncio.sleep(0)
        (one,) = heard
        assert (one.method, one.path, one.host) == ("POST", "/fapi/v1/order", "venue.example")
        assert (one.status, one.body) == (None, None)
        client.gate.set()
        assert await call == "{}"
        assert (one.status, one.body, one.retry_after_s) == (200, "{}", 3.0)
        assert "abc" not in repr(one)


async def test_two_like_requests_at_once_both_get_their_answer() -> None:
    client: Any = Client()
    watch(client)
    with listening() as heard:
        calls = [asyncio.create_task(client.fetch(URL, "POST")) for _ in range(2)]
        await asyncio.sleep(0)
        assert [one.status for one in heard] == [None, None]
        client.gate.set()
        await asyncio.gather(*calls)
    assert [one.status for one in heard] == [200, 200]


async def test_two_calls_hear_their_own_requests_only() -> None:
    client: Any = Client()
    watch(client)
    watch(client)  # a second time changes nothing
    client.gate.set()

    async def call(method: str) -> list[str]:
        with listening() as heard:
            await client.fetch(URL, method)
            return [one.method for one in heard]

    assert list(await asyncio.gather(call("POST"), call("GET"))) == [["POST"], ["GET"]]


async def test_nobody_need_listen() -> None:
    client: Any = Client()
    watch(client)
    client.gate.set()
    assert await client.fetch(URL, "GET") == "{}"


async def test_a_request_that_is_held_back_never_begins_and_is_not_heard() -> None:
    client: Any = Client()
    watch(client)
    client.gate.set()
    reasons = iter(["", "halted"])
    with listening() as heard, unless(lambda: next(reasons)):
        assert await client.fetch(URL, "POST") == "{}"
        with pytest.raises(HeldBack, match="halted"):
            await client.fetch(URL, "POST")
    assert len(heard) == 1
    assert await client.fetch(URL, "POST") == "{}", "outside of it nothing is asked"
