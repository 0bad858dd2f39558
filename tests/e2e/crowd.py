"""Many pages at once, in a process of their own: `python -m tests.e2e.crowd ADDRESS PAGES`.

Half of them read what they are told, the others open the stream and never read it. Two more ask for
the metrics without a pause. Prints one JSON object when its input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter

import aiohttp


async def read(session: aiohttp.ClientSession, address: str, told: Counter[str]) -> None:
    """Be a page that reads."""
    async with session.get(f"{address}/api/events") as stream:
        told[f"page {stream.status}"] += 1
        async for _ in stream.content.iter_any():
            told["parts"] += 1


async def stall(address: str, told: Counter[str]) -> None:
    """Be a page that asks and never reads."""
    host, _, port = address.removeprefix("http://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1)
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    await writer.drain()
    told["stalled"] += 1
    await asyncio.Event().wait()


async def scrape(session: aiohttp.ClientSession, address: str, told: Counter[str]) -> None:
    """Ask for the metrics without a pause."""
    while True:
        async with session.get(f"{address}/metrics") as answer:
            await answer.read()
            told[f"metrics {answer.status}"] += 1


async def main(address: str, pages: int) -> None:
    """Look on until our input ends."""
    told = Counter[str]()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        wishes = [read(session, address, told) for _ in range(pages // 2)]
        wishes += [stall(address, told) for _ in range(pages - pages // 2)]
        wishes += [scrape(session, address, told) for _ in range(2)]
        tasks = [asyncio.create_task(wish) for wish in wishes]
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1].rstrip("/"), int(sys.argv[2])))
