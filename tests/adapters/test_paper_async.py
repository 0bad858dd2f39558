import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.paper import AsyncPaperVenue, MemoryStore, SqliteStore
from adapters.paper.state import Changes, VenueState
from daemon.domain.order import OrderId
from daemon.ports import AccountView, OrderEntry
from tests.contract.paper_world import bars, fills_of, key, make_venue, order, rates

PRICES = (100.0, 10.0, 1.0)


class WatchedStore(SqliteStore):
    """Note which threads commit, and wait for a sign when told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.threads: set[str] = set()
        self.may_commit = threading.Event()
        self.may_commit.set()
        self.began = threading.Event()

    def commit(self, state: VenueState, changes: Changes) -> None:
        self.threads.add(threading.current_thread().name)
        self.began.set()
        assert self.may_commit.wait(10)
        super().commit(state, changes)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[WatchedStore]:
    opened = WatchedStore(tmp_path / "paper.db")
    yield opened
    opened.close()


@pytest.mark.parametrize("durable", [True, False])
async def test_the_ports_give_the_answers_of_the_core(store: WatchedStore, durable: bool) -> None:
    core = make_venue(store if durable else MemoryStore())
    async with AsyncPaperVenue(core) as venue:
        entry: OrderEntry = venue
        account: AccountView = venue
        await account.observe(rates(2, PRICES))
        await account.observe(bars(1, PRICES, volumes=10.0))
        told = await entry.submit([order("a", "1.5")])
        assert [str(f.quantity) for f in fills_of(told)] == ["1.000"]
        assert await entry.query(OrderId("a"), key(0)) == told
        ended = await entry.cancel(OrderId("a"), key(0))
        assert list(ended[:-1]) == list(told)
        assert list(fills_of(await account.snapshot(1, core.venue))) == fills_of(told)


async def test_a_durable_venue_never_blocks_the_loop(store: WatchedStore) -> None:
    core = make_venue(store)
    store.threads.clear()
    async with AsyncPaperVenue(core) as venue:
        await venue.observe(bars(1, PRICES))
        store.may_commit.clear()
        store.began.clear()
        waiting = asyncio.create_task(venue.submit([order("a", "1")]))
        await asyncio.to_thread(store.began.wait, 10)
        assert not waiting.done()  # the loop runs while the disk does not answer
        store.may_commit.set()
        assert len(fills_of(await waiting)) == 1
    assert threading.main_thread().name not in store.threads
    assert len(store.threads) == 1


async def test_a_cancelled_submit_is_carried_out_and_can_be_asked_about(
    store: WatchedStore,
) -> None:
    async with AsyncPaperVenue(make_venue(store)) as venue:
        await venue.observe(bars(1, PRICES))
        store.may_commit.clear()
        store.began.clear()
        waiting = [asyncio.create_task(venue.submit([order(i, "1")])) for i in ("a", "b")]
        await asyncio.to_thread(store.began.wait, 10)  # a is at the disk, b waits behind it
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert all(task.cancelled() for task in waiting)
        store.may_commit.set()
        for order_id in (OrderId("a"), OrderId("b")):
            assert len(fills_of(await venue.query(order_id, key(0)))) == 1
