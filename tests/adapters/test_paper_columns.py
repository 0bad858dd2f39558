"""Spare columns of a paper account: nothing trades there until a contract takes one, for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from adapters.paper import MemoryStore, PaperVenue, SqliteStore
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import InstrumentKey, Standing, Universe, spare_columns
from daemon.domain.messages import InstrumentChanged, OrderFilled, OrderRejected
from daemon.domain.order import Order
from tests.contract.paper_world import (
    NAN,
    START_MS,
    at,
    bars,
    held,
    make_universe,
    order,
    rates,
    settings,
)

NEW = InstrumentKey("paper", "NEW/USDT:USDT")
BEGUN = Universe((*make_universe().instruments, *spare_columns("paper", "USDT", 2)))
BEFORE, AFTER = (100.0, 10.0, 1.0, NAN, NAN), (100.0, 10.0, 1.0, 50.0, NAN)


def opened(store: SqliteStore | MemoryStore, universe: Universe = BEGUN) -> PaperVenue:
    return PaperVenue(universe, settings(), store, opened_ms=START_MS)


def joins(column: int = 3, name: InstrumentKey = NEW, settle: str = "USDT") -> InstrumentChanged:
    found = replace(BEGUN.instruments[0], key=name, settle=settle)
    return InstrumentChanged(at(1), column, found, Standing.TRADING, "it was listed")


def buy(order_id: str, number: int, quantity: str = "0.5") -> Order:
    plain = order(order_id, quantity, number=number)
    return structs.replace(plain, key=NEW, index=3, reference_price=50.0)


def traded(venue: PaperVenue, orders: Sequence[Order]) -> list[str]:
    return [type(event).__name__ for event in venue.submit(orders)]


def test_nothing_trades_in_a_free_column() -> None:
    venue = opened(MemoryStore())
    venue.observe(bars(1, BEFORE))
    spare = structs.replace(order("a", "1"), key=BEGUN.instruments[3].key, index=3)
    (answer,) = venue.submit([spare])
    assert isinstance(answer, OrderRejected)
    (answer,) = venue.submit([buy("b", 1)])
    assert isinstance(answer, OrderRejected)


def test_a_contract_that_joins_trades_pays_funding_and_survives_restarts(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "paper.db")
    venue = opened(store)
    venue.observe(bars(1, BEFORE))
    venue.observe(joins())
    venue.observe(bars(2, AFTER))
    (fill,) = venue.submit([buy("a", 2)])
    assert isinstance(fill, OrderFilled)
    assert fill.fill.key == NEW
    store.close()
    store = SqliteStore(tmp_path / "paper.db")
    venue = opened(store, BEGUN.with_instrument(3, joins().instrument))
    assert held(venue) == {"NEW": "0.5"}
    (fill,) = venue.submit([buy("again", 2, "0.25")])
    assert isinstance(fill, OrderFilled), "what the bars told of it is known after a restart"
    venue.submit([buy("back", 2, "-0.25")])
    venue.observe(rates(3, (NAN, NAN, NAN, 0.001, NAN)))
    paid = venue.observe(bars(3, AFTER))
    assert [getattr(event, "key", None) for event in paid] == [NEW]
    (fill,) = venue.submit([buy("b", 3, "-0.5")])
    assert isinstance(fill, OrderFilled)
    assert held(venue) == {}
    store.close()


def test_what_the_engine_never_heard_of_joins_again(tmp_path: Path) -> None:
    """A kill between the venue's commit and the journal's: the engine still has a free column."""
    store = SqliteStore(tmp_path / "paper.db")
    venue = opened(store)
    venue.observe(bars(1, BEFORE))
    venue.observe(joins())
    venue.observe(bars(2, AFTER))
    store.close()
    store = SqliteStore(tmp_path / "paper.db")
    venue = opened(store)
    venue.observe(joins(column=4))
    venue.observe(bars(3, (100.0, 10.0, 1.0, NAN, 50.0)))
    (fill,) = venue.submit([structs.replace(buy("a", 3), index=4)])
    assert isinstance(fill, OrderFilled)
    assert fill.fill.index == 4
    store.close()


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (joins(column=0), r"column 0 is not paper:NEW"),
        (joins(name=BEGUN.instruments[1].key), r"paper:ETH/USDT:USDT has a column already"),
        (joins(name=InstrumentKey("other", "NEW/USDT:USDT")), r"column 3 is not at other"),
        (joins(settle="USDC"), r"settles in USDC"),
    ],
)
def test_who_may_not_join_is_refused(wrong: InstrumentChanged, why: str) -> None:
    venue = opened(MemoryStore())
    venue.observe(bars(1, BEFORE))
    with pytest.raises(InvariantViolated, match=why):
        venue.observe(wrong)


def test_a_taken_column_is_taken() -> None:
    venue = opened(MemoryStore())
    venue.observe(joins())
    with pytest.raises(InvariantViolated, match="column 3 is not paper:OTHER"):
        venue.observe(joins(name=InstrumentKey("paper", "OTHER/USDT:USDT")))
