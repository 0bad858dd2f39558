"""Each fault of an account strikes a whole live session: it is seen, safe and reconciled."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from adapters.rehearsal.faults import Fault
from daemon.domain.messages import OrderRejected
from daemon.domain.order import OrderId
from tests.adapters.ccxt_venue.both_rig import VENUES
from tests.simulation.fault_reactions import REACTIONS
from tests.simulation.fault_sessions import Row, at_once, faults_of, table
from tests.simulation.order_faults import faults_of as faults_known

# One of each family and half of them a venue; `test_order_faults` lets all strike both venues
# without an engine, and the soak test below all of them whole sessions at both.
SMALL: Final = (
    Fault.ORDER_LOST_RESET,
    Fault.ORDER_REFUSED_503,
    Fault.INSUFFICIENT_MARGIN,
    Fault.FILL_DUPLICATED,
    Fault.FILL_BEFORE_ACK,
    Fault.USER_STREAM_DROPPED,
    Fault.USER_FRAME_GARBAGE,
    Fault.SYMBOL_HALTED,
    Fault.SYMBOL_DELISTED,
    Fault.LIQUIDATION,
    Fault.FORCED_REDUCTION,
    Fault.MANUAL_TRADE,
    Fault.CLOCK_SKEW,
    Fault.MAINTENANCE,
)
SEEDS: Final = range(1, 3)


def check(rows: list[Row]) -> None:
    """Hold each row against the stated reaction."""
    print("\n" + table(rows))
    for row in rows:
        reaction = REACTIONS[row.fault]
        assert row.struck_n >= 1, f"{row.fault} never struck"
        assert not reaction.is_seen or row.seen_s is not None, f"{row.fault} was not seen"
        wanted = "trading" if reaction.trading is None else str(reaction.trading)
        assert row.trading == wanted, f"{row.fault}: {row.trading}"


def test_every_fault_of_an_account_has_a_stated_reaction() -> None:
    for venue in VENUES:
        assert set(faults_of(venue)) >= set(faults_known(venue))


def test_a_sign_is_what_names_the_fault() -> None:
    margin = OrderRejected(OrderId("x"), 1, "margin_insufficient (-2019): no")
    assert REACTIONS[Fault.INSUFFICIENT_MARGIN].is_sign(margin)
    assert not REACTIONS[Fault.CLOCK_SKEW].is_sign(margin)
    assert not REACTIONS[Fault.LIQUIDATION].is_sign(margin)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_session_is_safe_after_each_kind_of_fault_and_its_book_is_the_statement(
    venue: str, tmp_path: Path
) -> None:
    half = SMALL[VENUES.index(venue) :: len(VENUES)]
    rows = await at_once(venue, half, tmp_path, seed=7, sessions_n=2)
    assert len(rows) == len(half)
    check(rows)


@pytest.mark.soak(minutes=4)
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("venue", VENUES)
async def test_a_session_is_safe_after_every_fault_whatever_the_order_they_come_in(
    venue: str, tmp_path: Path
) -> None:
    for seed in SEEDS:
        faults = faults_of(venue)
        rows = await at_once(venue, faults, tmp_path / f"{seed}", seed, sessions_n=3)
        assert len(rows) == len(faults)
        check(rows)
