"""Tell whose waits cost no time: tests in which all that is waited for is in their own process.

Their event loop jumps over every wait (`tests.simulation.jumping_loop`), so a pause of ten seconds,
a receive window or a patience that runs out takes as long as what is done meanwhile. Whoever waits
for another process, for a thread that asyncio did not start, or for a market that runs with the
machine's clock needs the wall's time and is named among the exceptions.
"""

from __future__ import annotations

from typing import Final

JUMPING: Final = (
    "tests/adapters/ccxt_venue/",
    "tests/adapters/exchange/",
    "tests/adapters/rehearsal/",
    "tests/simulation/test_order_faults.py",
)
WAITING: Final = (
    # whole sessions, whose threads are not all asyncio's
    "tests/adapters/ccxt_venue/test_fees_in_coin.py",
    # other processes
    "tests/adapters/rehearsal/test_settings_and_launch.py",
    # a market that runs with the machine's clock
    "tests/adapters/exchange/test_feed.py::test_several_times_real_speed",
    "tests/adapters/exchange/test_feed_gaps.py",
    "tests/adapters/exchange/test_feed.py::test_bars_wait_for_their_rates",
    "tests/adapters/exchange/test_owed_bars.py",
    "tests/adapters/exchange/test_several.py",
)


def jumps(test: str) -> bool:
    """Tell whether the waits of a test, by its name as pytest gives it, are jumped over."""
    return test.startswith(JUMPING) and not test.startswith(WAITING)
