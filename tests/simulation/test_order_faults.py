"""Each fault of an account ends in a book that is the venue's, at both venues."""

from __future__ import annotations

import asyncio

import pytest

from adapters.rehearsal.faults import Fault
from tests.adapters.ccxt_venue.both_rig import VENUES
from tests.simulation.order_faults import SAFE_S_MAX, Found, faults_of, struck, table

AT_ONCE = 4
TRIES = 3  # a machine that stalls past a request's deadline loses the order before it is struck


@pytest.mark.parametrize("venue", VENUES)
async def test_after_every_fault_no_order_is_in_doubt_or_doubled_and_the_book_is_the_venues(
    venue: str,
) -> None:
    room = asyncio.Semaphore(AT_ONCE)
    found: list[Found] = []
    troubles: list[str] = []

    async def one(fault: Fault) -> None:
        async with room:
            try:
                for _ in range(TRIES):
                    found.append(await struck(venue, fault))
                    if found[-1].struck_n:
                        break
            except (TimeoutError, AssertionError) as e:
                troubles.append(f"{fault}: {e!r}")

    await asyncio.gather(*(one(fault) for fault in faults_of(venue)))
    print("\n" + table(sorted(found, key=lambda row: row.fault)))
    assert not troubles, troubles
    never = set(faults_of(venue)) - {row.fault for row in found if row.struck_n}
    assert not never, f"{sorted(never)} never struck"
    for row in found:
        assert not row.doubled, row.fault
        assert row.unexplained == (), row.fault
        assert row.safe_s < SAFE_S_MAX
