"""`equipoise flatten --independent`: latch first, then close the account; no daemon is needed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import suppress

from adapters.ccxt_venue.closing import Closed, Closer, ClosingRules, Say
from adapters.ccxt_venue.opening import connected
from adapters.ccxt_venue.preparing import account_name
from adapters.ccxt_venue.quirks import quirks_of
from adapters.clocks import TransportClock
from adapters.control import Halt, Latches
from daemon.domain.failures import ConfigurationError, CorruptFile
from daemon.settings import Settings
from daemon.wiring.control import account_at, latches_at, live_latches
from daemon.wiring.live_session import credentials_of

__all__ = ["ClosingRules", "flatten_account"]

HALTED_WHY = "the account is being flattened by hand, without its daemons"


def flatten_account(
    settings: Settings,
    rules: ClosingRules,
    say: Say,
    environment: Mapping[str, str] | None = None,
) -> Closed:
    """Set the latches of state folder and account, then cancel and close everything at the venue.

    Raises ConfigurationError for an account that is not named or not the key's, OSError where the
    latch cannot be set (nothing is sent then), VenueError where the venue cannot be spoken to.
    """
    around = os.environ if environment is None else environment
    quirks_of(settings.exchange.id)
    account = _account(settings, say)
    _latch(settings, account, around, say)
    return asyncio.run(_flattened(settings, account, rules, say, around))


def _account(settings: Settings, say: Say) -> str:
    """Name the account that is meant: of the settings, which must agree with the book's."""
    named, book = settings.live.account, ""
    try:
        book = account_at(settings.run.state_folder)
    except CorruptFile as e:
        if not named:
            raise
        say(str(e))
    if named and book and named != book:
        raise ConfigurationError(
            f"live.account = {named!r}: the book in {settings.run.state_folder} is of {book}; "
            "name the folder of the account that is meant"
        )
    if not named and not book:
        raise ConfigurationError(
            "live.account = '': name the account that is to be flattened, or the state folder of "
            "its book"
        )
    return named or book


def _latch(settings: Settings, account: str, around: Mapping[str, str], say: Say) -> None:
    folder = settings.run.state_folder
    folder.mkdir(parents=True, exist_ok=True)
    files = list(live_latches(folder, account, around).files)
    with suppress(CorruptFile):  # named before
        files += latches_at(folder, around).files
    latches = Latches(tuple(dict.fromkeys(files)))
    latches.open()
    latches.set(Halt(HALTED_WHY, "", TransportClock().wall_ms()))
    say(f"the halt latch of {account} and of {folder} is set")


async def _flattened(
    settings: Settings, account: str, rules: ClosingRules, say: Say, around: Mapping[str, str]
) -> Closed:
    venue, live = settings.exchange.id, settings.live
    keys = credentials_of(settings, around)
    window_ms = live.receive_window_ms
    async with connected(venue, settings.exchange.options, keys, (), window_ms) as link:
        opens = account_name(venue, await link.modes.account_id())
        if opens != account:
            raise ConfigurationError(
                f"live.account = {account!r}: the key opens account {opens}; nothing was sent"
            )
        return await Closer(link, rules, TransportClock().wall_ms, say).flatten(account)
