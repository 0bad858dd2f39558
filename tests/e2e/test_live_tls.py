"""A whole daemon with real orders whose client keeps the venue's own addresses, TLS included."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.rehearsal.faults import Fault
from daemon.domain.messages import OrderFilled, OrderRejected, Submit
from daemon.settings import Settings
from tests.e2e.live_rig import (
    VENUES,
    Seen,
    check_agrees,
    check_once_each,
    decided_n,
    exchange,
    live_settings,
    run_live,
)
from tests.e2e.tls_proxy import HOSTS, TlsFront, only_loopback, tls_front


def at_the_real_address(settings: Settings, front: TlsFront) -> Settings:
    """Take every redirected URL out of the client's options; a proxy leads it instead."""
    given = {**settings.exchange.options, **front.options(), "timeout": 5_000}
    del given["urls"]
    led = settings.exchange.model_copy(update={"options": given})
    return settings.model_copy(update={"exchange": led})


@pytest.mark.parametrize("venue", VENUES)
async def test_a_rebalance_over_tls_at_the_real_host_names_is_the_banks_to_the_last_digit(
    tmp_path: Path, venue: str
) -> None:
    with only_loopback() as beyond:
        async with (
            exchange(venue) as running,
            tls_front(running.rest_url, tmp_path, HOSTS[venue]) as front,
        ):
            settings = at_the_real_address(live_settings(running, tmp_path / "state"), front)
            struck = [-1]

            def until(seen: Seen) -> bool:
                if decided_n(seen) > struck[0]:  # the first time before anything was decided
                    struck[0] = decided_n(seen)
                    # a refusal whose class is another one at the real address
                    running.exchange.faults.set(Fault.INSUFFICIENT_MARGIN.value, 1)
                return decided_n(seen) >= 4

            seen = await run_live(settings, until)
            assert running.exchange.faults.struck_n[Fault.INSUFFICIENT_MARGIN] >= 1
            sent = [c.approved.order for c in seen.commands if isinstance(c, Submit)]
            refused = [e for e in seen.events if isinstance(e, OrderRejected)]
            assert len(sent) > 6
            assert any("margin_insufficient" in e.reason for e in refused)
            assert any(isinstance(e, OrderFilled) for e in seen.events)
            check_once_each(tmp_path / "state", running)
            check_agrees(seen.ledger, running)
        assert beyond == []
    assert set(front.led) == set(HOSTS[venue])
    assert front.refused == []
