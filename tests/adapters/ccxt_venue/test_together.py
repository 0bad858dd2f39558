"""Who may be at it together: orders are, an account is read alone, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from adapters.ccxt_venue.together import Company


@pytest.mark.parametrize("seed", range(20))
async def test_those_who_are_alone_are_alone_whatever_the_order(seed: int) -> None:
    rng, company = Random(seed), Company()
    inside: list[str] = []
    most = 0

    async def be(kind: str) -> None:
        nonlocal most
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        async with company.alone() if kind == "alone" else company.together():
            inside.append(kind)
            try:
                for _ in range(rng.randrange(1, 6)):
                    assert "alone" not in inside or len(inside) == 1
                    most = max(most, len(inside))
                    await asyncio.sleep(0)
            finally:
                inside.remove(kind)

    tasks = [
        asyncio.create_task(be(rng.choice(("alone", "together", "together")))) for _ in range(40)
    ]
    for task in rng.sample(tasks, 8):  # who is cancelled while waiting or inside leaves no lock
        await asyncio.sleep(0)
        task.cancel()
    async with asyncio.timeout(5):
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [one for one in found if isinstance(one, Exception)]
    async with asyncio.timeout(1), company.alone():
        assert most > 1


async def test_a_company_without_end_keeps_nobody_out() -> None:
    company, stop = Company(), asyncio.Event()

    async def come_and_go() -> None:
        while not stop.is_set():
            async with company.together():
                await asyncio.sleep(0.001)

    guests = [asyncio.create_task(come_and_go()) for _ in range(5)]
    try:
        await asyncio.sleep(0.01)
        async with asyncio.timeout(2), company.alone():
            pass
    finally:
        stop.set()
        await asyncio.gather(*guests)
