"""A paper account whose contract is counted in other units: positions, prices and funding follow.

The change is one of the account's executions, so that what it holds can always be added up again.
"""

from __future__ import annotations

from decimal import Decimal

from adapters.paper.state import Account, VenueState
from daemon.domain.messages import Rescaled
from daemon.domain.order import Order
from daemon.domain.scales import rescaled_quantity

_ZERO = Decimal(0)


def is_news(state: VenueState, event: Rescaled) -> bool:
    """Tell whether a change of units was not booked yet; 1 for 1 is none."""
    booked_ms = state.account.rescaled.get(str(event.key), 0)
    return event.new_n != event.old_n and event.at_ms > booked_ms


def of_old_units(order: Order, account: Account) -> str | None:
    """Give the reason to refuse an order that was sized in units of before, or None."""
    if not account.rescaled or order.as_of_ms >= account.rescaled.get(str(order.key), 0):
        return None
    return "sized before it was counted in other units"


def rescale(state: VenueState, event: Rescaled, held: dict[int, Decimal]) -> None:
    """Count everything of one contract in new units; held: what the venue has at hand, by index."""
    index, new_n, old_n = event.index, event.new_n, event.old_n
    account, market = state.account, state.market
    account.rescaled[str(event.key)] = event.at_ms
    before = account.ledger.quantity(event.key)
    if before:
        after = rescaled_quantity(before, new_n, old_n)
        cash_key = next(iter(account.ledger.cash))  # no cash moves
        account.ledger.apply_adjustment(event.key, cash_key, after - before, _ZERO)
        held[index] = account.ledger.quantity(event.key)
    market.opens = _priced(market.opens, event)
    market.closes = _priced(market.closes, event)
    market.volumes = market.volumes.copy()
    market.volumes[index] = market.volumes[index] * new_n / old_n
    market.used.pop(index, None)
    for past in state.funding.past:
        past.closes = _priced(past.closes, event)
        if index in past.held:
            past.held[index] = rescaled_quantity(past.held[index], new_n, old_n)


def _priced(prices: list[float], event: Rescaled) -> list[float]:
    shown = prices.copy()
    shown[event.index] = shown[event.index] * event.old_n / event.new_n
    return shown
