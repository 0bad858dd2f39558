"""Many simulated days of service with everything on: nothing grows, nothing is missed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.servers import Servers, servers_in
from tests.e2e.service import DECISIONS_A_DAY, Service, serve

# a venue that spoils the last word on several bars at once may be asked again too late for one
LATE_A_DAY_MAX = 0.1
FILES_MAX = 45
LAG_P99_MS_MAX = 1_000.0  # at a day in ten seconds, on a machine with other work
SOCKETS_MAX = 20
THREADS_MAX = 20
DISK_MIB_A_DAY_MAX = 1.0  # the journal and the recorded bars of 12 instruments
MEMORY_MIB_A_DAY_MAX = 0.5  # once the caches have filled; what leaks a bar or a message has more
WARMING_MIB_MAX = 40.0  # while windows, streams and caches fill


@pytest.fixture
def servers(tmp_path: Path, valkey_binary: Path, mosquitto_binary: Path) -> Iterator[Servers]:
    both = servers_in(tmp_path, valkey_binary, mosquitto_binary)
    yield both
    both.end()


def check(served: Service, days: int) -> None:
    """Hold what does not depend on how long it was."""
    print(served.text())
    assert served.code == 0
    assert served.decisions_n == days * DECISIONS_A_DAY
    assert served.missed_n == 0
    assert sum(map(len, served.late.values())) <= LATE_A_DAY_MAX * days
    assert len(served.uses) >= days - 1
    assert served.greatest(lambda use: use.files_n) <= FILES_MAX
    assert served.greatest(lambda use: use.sockets_n) <= SOCKETS_MAX
    assert served.greatest(lambda use: use.threads_n) <= THREADS_MAX
    assert served.slope(lambda use: use.disk_mib, after_day=1) <= DISK_MIB_A_DAY_MAX
    assert served.greatest(lambda use: use.lag_p99_ms, after_day=1) <= LAG_P99_MS_MAX
    assert min(served.struck[what] for what in ("page", "scrape", "notice")) > 0


@pytest.mark.timeout(300)
async def test_three_days_of_service_leave_nothing_behind(tmp_path: Path, servers: Servers) -> None:
    served = await serve(tmp_path, servers, 3, seed=1)
    check(served, 3)
    first, *_, last = served.uses
    assert last.daemon_mib - first.daemon_mib <= WARMING_MIB_MAX
    assert last.worker_mib - first.worker_mib <= WARMING_MIB_MAX
    assert last.page_mib - first.page_mib <= WARMING_MIB_MAX


@pytest.mark.soak(minutes=8)
@pytest.mark.timeout(3600)
async def test_thirty_days_of_service_leave_nothing_behind(
    tmp_path: Path, servers: Servers
) -> None:
    served = await serve(tmp_path, servers, 30, seed=2)
    check(served, 30)
    assert served.slope(lambda use: use.daemon_mib, after_day=10) <= MEMORY_MIB_A_DAY_MAX
    assert served.slope(lambda use: use.worker_mib, after_day=10) <= MEMORY_MIB_A_DAY_MAX
    assert served.slope(lambda use: use.page_mib, after_day=10) <= MEMORY_MIB_A_DAY_MAX
