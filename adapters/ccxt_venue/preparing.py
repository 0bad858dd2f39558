"""What is verified before the first order: the key's rights, the account, its modes, what rests.

Everything that is set is read back: a venue that says 'done' and still shows something else is not
traded at. Nothing here is about the market; it is asked once, at start.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import structlog

from adapters.ccxt_venue.calls import Caller
from adapters.ccxt_venue.client_ids import order_id_of
from adapters.ccxt_venue.desk import Desk
from adapters.ccxt_venue.keys import KeyRights
from adapters.ccxt_venue.listings import Listings
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.rows import OrderRecord
from daemon.domain.failures import ConfigurationError, VenueError
from daemon.domain.messages import VenueEvent
from daemon.domain.order import OrderId

_log = structlog.get_logger()


class AccountModes(Protocol):
    """Read and set how one venue's account trades."""

    async def rights(self) -> KeyRights:
        """Read what the key may do."""
        ...

    async def account_id(self) -> str:
        """Read what tells this account from any other at the venue."""
        ...

    async def set_modes(self, symbol_ids: Collection[str], leverage: int) -> None:
        """Set one-way positions, cross margin and leverage, and read them back.

        Raises VenueError naming what the venue shows instead.
        """
        ...

    async def cancel_foreign(self, symbol_id: str, order_id: str) -> None:
        """Ask for the end of an order that has no name of ours, by the venue's id."""
        ...


@dataclass(frozen=True, slots=True)
class Wishes:
    """Hold what a start asks for. account: its name, known: orders that the journal holds open.

    open_orders: cancel_ours, cancel_all, count or refuse.
    """

    account: str
    leverage: int
    open_orders: str
    known: frozenset[OrderId]


def account_name(venue: str, account_id: str) -> str:
    """Name an account for people, settings and latches without telling its id."""
    digest = hashlib.sha256(f"{venue} {account_id}".encode()).hexdigest()
    return f"{venue}-{digest[:12]}"


async def checked_account(caller: Caller, modes: AccountModes, wanted: str) -> str:
    """Refuse a key that may withdraw or may not trade, and any other account than the one named.

    Raises ConfigurationError that says the account's name.
    """
    venue = caller.venue
    rights = await modes.rights()
    if rights.may_withdraw:
        raise ConfigurationError(
            f"the key for {venue} may withdraw: make one there that may only read and trade"
        )
    if not rights.may_trade:
        raise ConfigurationError(f"the key for {venue} may not trade futures; allow it there")
    name = account_name(venue, await modes.account_id())
    if name != wanted:
        raise ConfigurationError(
            f"live.account = {wanted!r}: the key opens account {name}; name it to trade with real "
            "money there"
        )
    return name


async def settle_open_orders(
    names: Names, listings: Listings, modes: AccountModes, desk: Desk, wishes: Wishes
) -> list[VenueEvent]:
    """Name and, by policy, cancel what rests and is in no journal; give the ends of our own.

    Raises ConfigurationError where the policy is to refuse, VenueError for one that stays.
    """
    strange = _strange(await listings.open_orders(), names.venue, wishes.known)
    if not strange:
        return []
    text = "; ".join(f"{o.symbol_id} {o.quantity} ({o.client_id or o.order_id})" for o in strange)
    _log.warning("strange_orders_found", venue=names.venue, orders=text)
    foreign = [o for o in strange if order_id_of(names.venue, o.client_id) is None]
    if wishes.open_orders == "count":  # the engine counts them as long as they rest
        strange, foreign = [one for one in strange if one not in foreign], []
    if wishes.open_orders == "refuse" or (foreign and wishes.open_orders != "cancel_all"):
        raise ConfigurationError(
            f"live.open_orders = {wishes.open_orders!r}: orders rest at {names.venue} that are in "
            f"no journal of ours: {text}; cancel them there, or accept cancel_all or count"
        )
    events: list[VenueEvent] = []
    for one in strange:
        ours = order_id_of(names.venue, one.client_id)
        if ours is None:
            await modes.cancel_foreign(one.symbol_id, one.order_id)
        else:
            events += await desk.cancel(ours, names.key(one.symbol_id))
    left = _strange(await listings.open_orders(), names.venue, wishes.known)
    if wishes.open_orders == "count":
        left = [o for o in left if order_id_of(names.venue, o.client_id) is not None]
    if left:
        raise VenueError(f"{names.venue}: order {left[0].order_id} rests although it was cancelled")
    return events


def _strange(
    found: Collection[OrderRecord], venue: str, known: frozenset[OrderId]
) -> list[OrderRecord]:
    return [one for one in found if order_id_of(venue, one.client_id) not in known]
