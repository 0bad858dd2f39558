"""A paper account goes on with what it was opened with, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from adapters.paper.state import Account
from daemon.domain.failures import ConfigurationError, VenueError
from daemon.domain.units import iso


def refuse_other_opening(
    account: Account, venue: str, starting_cash: Mapping[str, Decimal]
) -> None:
    """Raise ConfigurationError where settings name another venue or another beginning."""
    if account.venue == venue and account.starting_cash == dict(starting_cash):
        return
    opened = ", ".join(f"{a} {c}" for c, a in sorted(account.starting_cash.items()))
    wanted = ", ".join(f"{a} {c}" for c, a in sorted(starting_cash.items()))
    raise ConfigurationError(
        f"paper.starting_cash = {wanted} at {venue}: this state folder holds a paper account of "
        f"{account.venue} opened with {opened}; set that back, or name another state folder"
    )


def unusable(venue: str, now_ms: int) -> VenueError:
    """Say that an account is ahead of its record, and must be read from it again."""
    return VenueError(
        f"paper account of {venue} at {iso(now_ms)}: its ledger could not be written; restart to "
        "go on from what is recorded"
    )


def replaced(venue: str, executions_n: int, journalled_n: int) -> VenueError:
    """Say that an account has not reached what was journalled of it: it is another one."""
    return VenueError(
        f"paper account of {venue} has {executions_n} executions, but {journalled_n} were "
        "journalled: its ledger was replaced; put the old one back, or move the whole state folder "
        "away to start anew"
    )
