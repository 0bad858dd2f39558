"""Hand every contract test a paper venue over each store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.paper import MemoryStore, PaperVenue, SqliteStore
from tests.contract.paper_world import PRICES, MakeVenue, bars, make_venue


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeVenue]:
    stores: list[SqliteStore] = []

    def build(**changes: object) -> PaperVenue:
        if request.param == "memory":
            return make_venue(MemoryStore(), **changes)
        stores.append(SqliteStore(tmp_path / f"paper{len(stores)}.db"))
        return make_venue(stores[-1], **changes)

    yield build
    for store in stores:
        store.close()


@pytest.fixture
def venue(make: MakeVenue) -> PaperVenue:
    opened = make()
    opened.observe(bars(1, PRICES))
    return opened
