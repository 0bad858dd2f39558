"""Take operators' requests from a Redis stream and answer on another; ask as an operator does.

    {namespace}:{run}:commands   one entry a request, field `payload`; taken away once it is kept
    {namespace}:{run}:answers    one entry an answer, field `payload`; gone after an hour

An entry is taken away after the request is on our disk: a crash between the two hears it again,
which its id makes harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from daemon.status.listening import REFUSED_PAUSE_S, Desk, Followers, Listener, Ticket

BLOCK_MS: Final = 1000  # shorter than any command's time limit
BATCH: Final = 10
ASK_AGAIN_S: Final = 0.5
COMMANDS_MAX: Final = 1000
ANSWERS_MAX: Final = 200
ANSWERS_LIFETIME_MS: Final = 3_600_000
PAYLOAD: Final = b"payload"
VIA: Final = "redis"

Entry = tuple[bytes, dict[bytes, bytes]]
Connect = Callable[[], Redis]
"""Makes a client that gives bytes."""
Understood = Callable[[str], dict[str, object] | None]
"""Reads the payload of an answer; None when it is not the one that is waited for."""


class RedisCommands:
    """Listen to one run's commands at one server."""

    def __init__(
        self, connect: Connect, desk: Desk, *, namespace: str, run: str, server: str
    ) -> None:
        self._connect = connect
        self._desk = desk
        self._commands = f"{namespace}:{run}:commands"
        self._answers = f"{namespace}:{run}:answers"
        self._answering = asyncio.Lock()  # one at a time: the client has few connections
        self.listener = Listener(self._serve, server=server)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Listen in the background for as long as the context lasts."""
        return self.listener.running()

    async def _serve(self, hears: Callable[[], None]) -> None:
        client, followers = self._connect(), Followers()
        try:
            # Whoever floods us while we are away is not read to the end.
            await client.xtrim(self._commands, maxlen=COMMANDS_MAX, approximate=False)
            hears()
            while True:
                for entry_id, fields in await _entries(client, self._commands, b"0-0"):
                    payload = fields.get(PAYLOAD, b"")
                    ticket = await self._desk.take(payload, via=VIA)
                    await client.xdel(self._commands, entry_id)
                    if ticket is None:
                        await asyncio.sleep(REFUSED_PAUSE_S)
                    else:
                        followers.follow(self._answer(client, ticket))
        finally:
            await followers.close()
            await client.aclose()

    async def _answer(self, client: Redis, ticket: Ticket) -> None:
        payload = await ticket.answer()
        if payload is None:
            return
        pipe = client.pipeline(transaction=True)
        pipe.xadd(self._answers, {PAYLOAD: payload}, maxlen=ANSWERS_MAX, approximate=False)
        pipe.pexpire(self._answers, ANSWERS_LIFETIME_MS)
        async with self._answering:
            await pipe.execute()


async def _entries(client: Redis, stream: str, after: bytes) -> list[Entry]:
    """Give what a stream holds after an entry, waiting up to BLOCK_MS for it."""
    found: Any = await client.xread({stream: after}, count=BATCH, block=BLOCK_MS)
    return [(name, fields or {}) for _, entries in found or () for name, fields in entries]


async def ask_over_redis(
    connect: Connect,
    payload: str,
    understood: Understood,
    *,
    namespace: str,
    run: str,
    wait_s: float,
) -> tuple[dict[str, object] | None, str]:
    """Send a request and wait for its answer; gives (answer, "") or (None, why there is none)."""
    commands, answers = f"{namespace}:{run}:commands", f"{namespace}:{run}:answers"
    why = f"no answer within {wait_s:g} s"
    try:
        async with asyncio.timeout(wait_s):
            while True:  # sent twice it is still one request
                try:
                    return await _asked(connect, commands, answers, payload, understood), ""
                except (RedisError, OSError) as e:
                    why = f"{type(e).__name__}: {e}"
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        return None, why


async def _asked(
    connect: Connect, commands: str, answers: str, payload: str, understood: Understood
) -> dict[str, object]:
    client = connect()
    try:
        newest: Any = await client.xrevrange(answers, count=1)
        seen = newest[0][0] if newest else b"0-0"
        await client.xadd(commands, {PAYLOAD: payload}, maxlen=COMMANDS_MAX, approximate=False)
        while True:
            for name, fields in await _entries(client, answers, seen):
                seen = name
                answer = understood(fields.get(PAYLOAD, b"").decode("utf-8", "replace"))
                if answer is not None:
                    return answer
    finally:
        await client.aclose()
