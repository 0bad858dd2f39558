"""A paper account when contracts change: new rules hold, and what ends is settled, once."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.paper import SqliteStore
from adapters.paper.venue import PaperVenue
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import Standing
from daemon.domain.messages import InstrumentChanged, OrderEnded, OrderRejected
from daemon.domain.order import SETTLEMENT_PREFIX
from tests.contract.paper_world import (
    PRICES,
    START_MS,
    MakeVenue,
    account_of,
    at,
    bars,
    cash,
    fills_of,
    held,
    make_universe,
    order,
    quantities,
    settings,
)


def changed(
    standing: Standing, index: int = 0, bar: int = 2, **rules: Decimal
) -> InstrumentChanged:
    instrument = make_universe().instruments[index]
    now = replace(instrument, rules=replace(instrument.rules, **rules))
    return InstrumentChanged(at(bar), index, now, standing, "because")


def test_a_contract_that_ends_is_settled_at_its_last_price_without_a_fee(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES))
    venue.submit([order("a", "2"), order("b", "-30", index=1)])
    venue.observe(bars(2, (110.0, 10.0, 1.0)))
    before = cash(venue)
    told = venue.observe(changed(Standing.GONE))
    assert quantities(told) == [
        (f"{SETTLEMENT_PREFIX}paper:BTC/USDT:USDT:{at(2)}", "-2", "110.00000000")
    ]
    assert fills_of(told)[0].fee == 0
    assert cash(venue) == before + 220
    assert held(venue) == {"ETH": "-30"}
    assert venue.observe(changed(Standing.GONE, bar=3)) == [], "it was settled twice"
    refused = venue.submit([order("c", "1", number=2)])
    assert [type(e) for e in refused] == [OrderRejected]


def test_what_rests_on_a_contract_that_ends_is_ended(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES))
    venue.submit([order("far", "1", limit="50.0")])
    told = venue.observe(changed(Standing.GONE))
    assert [(e.order_id, e.reason) for e in told if isinstance(e, OrderEnded)] == [
        ("far", "the contract ended")
    ]
    venue.observe(bars(2, (40.0, 10.0, 1.0)))
    assert held(venue) == {}


def test_new_rules_are_those_that_orders_are_held_to(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES))
    venue.observe(changed(Standing.TRADING, quantity_step=Decimal(1)))
    first, second = venue.submit([order("a", "1.5"), order("b", "3")])
    assert isinstance(first, OrderRejected)
    assert "no multiple of the lot 1" in first.reason
    assert quantities([second]) == [("b", "3", "100.0")]


def test_a_contract_listed_again_is_traded_again(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES))
    venue.observe(changed(Standing.GONE))
    venue.observe(changed(Standing.TRADING, bar=3))
    assert quantities(venue.submit([order("a", "1")])) == [("a", "1", "100.0")]


def test_a_settlement_is_in_the_record_and_a_restart_goes_on_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "paper.sqlite"
    with contextlib.closing(SqliteStore(path)) as store:
        venue = PaperVenue(make_universe(), settings(), store, opened_ms=START_MS)
        venue.observe(bars(1, PRICES))
        venue.submit([order("a", "2")])
        venue.observe(changed(Standing.GONE))
        before = account_of(venue)
    with contextlib.closing(SqliteStore(path)) as store:
        again = PaperVenue(make_universe(), settings(), store, opened_ms=START_MS)
        assert account_of(again) == before
        assert [str(f.quantity) for f in fills_of(again.snapshot(0))] == ["2", "-2"]
        assert again.observe(changed(Standing.GONE, bar=3)) == []


def test_a_change_of_another_contract_in_the_column_is_refused(make: MakeVenue) -> None:
    wrong = replace(changed(Standing.TRADING).instrument, key=make_universe().instruments[1].key)
    with pytest.raises(InvariantViolated, match="column 0 is not paper:ETH"):
        make().observe(InstrumentChanged(at(2), 0, wrong, Standing.TRADING, ""))
