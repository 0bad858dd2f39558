"""Adversarial schedules through real ccxt and sockets: net and beta after every single fill.

The loop does not idle: where nothing is under way, its time jumps to the next timer.
"""

from __future__ import annotations

from unittest.mock import patch

import pytest

from tests.adapters.ccxt_venue.both_rig import KEY, VENUES
from tests.simulation import jumping_loop
from tests.simulation.live_schedules import LiveSchedule, scheduled
from tests.simulation.schedules import Exposures, N, shown
from tests.simulation.statement import statement_differences

ROUNDING = 1e-9
HOURS = 1
ORDERS_MIN = 100  # every run sends more
FAULTS_MIN = 5
CHUNK, CHUNKS = 5, 2  # runs of a test and tests of a dialect: 20 in all
SOAK_CHUNK, SOAK_CHUNKS = 25, 10  # 500 in all
ARRIVAL_MARGIN_S = 0.05  # the clock of a loopback venue is known to less than that


def check(run: LiveSchedule, seed: int) -> None:
    """Hold one run against the bounds, and its book against the venue."""
    seen = run.truth.seen
    assert max(seen.net) <= 1 + ROUNDING, f"seed {seed}: net {max(seen.net)}"
    assert max(seen.beta) <= 1 + ROUNDING, f"seed {seed}: beta {max(seen.beta)}"
    bank = run.running.exchange.accounts.bank
    names = [one.client_id for one in bank.orders(KEY)]
    assert len(set(names)) == len(names), f"seed {seed}: an order was doubled"
    assert set(names) <= set(run.sent), f"seed {seed}: an order without an intent"
    found = statement_differences(run.engine.state.book.ledger, bank, KEY)
    assert not found, f"seed {seed}: the book is not the venue's statement: {found}"


async def campaign(venue: str, seeds: range) -> None:
    """Run all seeds at a venue; print worst and p99.9."""
    seen, orders = Exposures(), list[int]()
    for seed in seeds:
        async with scheduled(seed, venue) as run:
            await run.run(HOURS, ORDERS_MIN, FAULTS_MIN)
            check(run, seed)
            seen.net += run.truth.seen.net
            seen.beta += run.truth.seen.beta
            orders.append(len(run.sent))
            assert run.struck_n > FAULTS_MIN, f"seed {seed}: only {run.struck_n} faults struck"
    assert min(orders) > ORDERS_MIN, f"only {min(orders)} orders"
    print(f"\n{venue}: {len(seeds)} runs of {N} instruments, {sum(orders)} orders")
    print(f"  {min(orders)} orders in the smallest run, {max(orders)} in the greatest")
    print(f"  {len(seen.net)} fills; {shown('net', seen.net)}; {shown('beta', seen.beta)}")


def run_all(venue: str, first: int, count: int) -> None:
    with patch("adapters.ccxt_venue.desk.ARRIVAL_MARGIN_S", ARRIVAL_MARGIN_S):
        jumping_loop.run(campaign(venue, range(first, first + count)))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(CHUNKS))
@pytest.mark.parametrize("venue", VENUES)
def test_through_sockets_no_fill_leaves_net_or_beta_past_its_bound(venue: str, number: int) -> None:
    run_all(venue, number * CHUNK, CHUNK)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", range(SOAK_CHUNKS))
@pytest.mark.parametrize("venue", VENUES)
def test_through_sockets_no_fill_of_many_leaves_net_or_beta_past_its_bound(
    venue: str, number: int
) -> None:
    run_all(venue, 1_000 + number * SOAK_CHUNK, SOAK_CHUNK)
