"""Several requests at once: a few of many, and which kinds exclude each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

PARALLEL_N: Final = 8  # requests of one kind under way at once
Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


async def side_by_side(
    ask: Callable[[Asked], Awaitable[Answer]], many: Sequence[Asked]
) -> list[Answer]:
    """Ask about each of many, a few at once, and give the answers in the order of the questions.

    The first failure ends the others and is raised as it is.
    """
    room = asyncio.Semaphore(PARALLEL_N)

    async def in_turn(one: Asked) -> Answer:
        async with room:
            return await ask(one)

    try:
        async with asyncio.TaskGroup() as group:
            asking = [group.create_task(in_turn(one)) for one in many]
    except BaseExceptionGroup as several:
        raise several.exceptions[0] from several
    return [one.result() for one in asking]


class Company:
    """Let many of one kind in together, or one of the other kind alone.

    Nobody waits for ever: who wants to be alone closes the door behind those who are inside.
    """

    def __init__(self) -> None:
        self._door, self._room = asyncio.Lock(), asyncio.Lock()
        self._inside_n = 0

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Be inside with others of this kind."""
        async with self._door:
            if not self._inside_n:
                await self._room.acquire()
            self._inside_n += 1
        try:
            yield
        finally:
            self._inside_n -= 1
            if not self._inside_n:
                self._room.release()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be inside without anybody."""
        async with self._door:
            await self._room.acquire()
        try:
            yield
        finally:
            self._room.release()
