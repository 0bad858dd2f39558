"""Print what each fault does to a whole live session.

python -m tests.simulation.fault_table [--seed N] [binanceusdm] [bybit]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import structlog

from tests.adapters.ccxt_venue.both_rig import VENUES
from tests.simulation.fault_sessions import at_once, faults_of, table

SESSIONS_N = 3


def main() -> None:
    """Strike sessions at the named venues, one venue after another, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("venues", nargs="*", help=f"of {', '.join(VENUES)}; all unless named")
    parser.add_argument("--seed", type=int, default=1, help="of market and order of the faults")
    chosen = parser.parse_args()
    quiet = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=quiet)
    for venue in chosen.venues or VENUES:
        with tempfile.TemporaryDirectory() as folder:
            faults = faults_of(venue)
            rows = asyncio.run(at_once(venue, faults, Path(folder), chosen.seed, SESSIONS_N))
        sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main()
