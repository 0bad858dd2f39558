"""A paper account over a change of units: once, exactly, durably, and by the lots of its orders."""

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from adapters.paper import MemoryStore, PaperVenue, SqliteStore
from daemon.domain.bar import Proof
from daemon.domain.messages import (
    BarsClosed,
    MarketEvent,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    Rescaled,
    Snapshotted,
)
from daemon.domain.order import Order, OrderId, OrderKind
from tests.simulation.market_life import PAPER, START_MS, N, at, universe

KEY = universe().instruments[2].key
CHANGE = Rescaled(at(5), 2, KEY, 1, 15)


def bars(bar: int) -> BarsClosed:
    values = np.full((N, 5), 100.0)
    values[:, 4] = 5_000.0
    return BarsClosed(at(bar), values, np.full(N, Proof.SUCCESSOR, np.uint8), values[:, 0].copy())


def order(name: str, quantity: str, bar: int, limit: str | None = None) -> Order:
    kind = OrderKind.MARKET if limit is None else OrderKind.LIMIT
    price = None if limit is None else Decimal(limit)
    return Order(OrderId(name), KEY, 2, Decimal(quantity), kind, at(bar), 100.0, price, False)


def held(venue: PaperVenue) -> Decimal:
    (snapshot,) = venue.snapshot(-1)
    assert isinstance(snapshot, Snapshotted)
    return snapshot.snapshot.quantities[KEY]


def begun(store: MemoryStore | SqliteStore) -> PaperVenue:
    venue = PaperVenue(universe(), PAPER, store, opened_ms=START_MS)
    for bar in range(5):
        venue.observe(bars(bar))
    return venue


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "paper.sqlite"


def test_a_change_counts_once_also_over_a_restart_and_adds_up(path: Path) -> None:
    store = SqliteStore(path)
    venue = begun(store)
    events = venue.submit([order("a", "-7.5", 4), order("rests", "1", 4, limit="50")])
    assert any(isinstance(e, OrderFilled) for e in events)
    cash = venue.snapshot(-1)[0].snapshot.cash  # type: ignore[union-attr]
    (ended,) = venue.observe(CHANGE)
    assert isinstance(ended, OrderEnded)
    assert ended.order_id == "rests"
    assert held(venue) == Decimal("-0.5")
    told: list[MarketEvent] = [CHANGE, bars(5), CHANGE]
    for event in told:
        assert venue.observe(event) == []
    store.close()
    again = SqliteStore(path)
    venue = PaperVenue(universe(), PAPER, again, opened_ms=START_MS)
    venue.observe(CHANGE)
    assert held(venue) == Decimal("-0.5")
    assert venue.snapshot(-1)[0].snapshot.cash == cash  # type: ignore[union-attr]
    assert CHANGE in venue.snapshot(0)
    again.close()


def test_an_order_that_was_sized_in_the_old_units_is_refused() -> None:
    venue = begun(MemoryStore())
    venue.observe(CHANGE)
    venue.observe(bars(5))
    (refused,) = venue.submit([order("old", "3", 4)])
    assert isinstance(refused, OrderRejected)
    assert "other units" in refused.reason
    (filled,) = venue.submit([order("new", "3", 5)])
    assert isinstance(filled, OrderFilled)
