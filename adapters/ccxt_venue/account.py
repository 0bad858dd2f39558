"""The account as the venue tells it: fills and cash flows since a cursor, then what is held now.

What is held is read before and after the fills, and told only when both readings agree: an account
that changes in between is read again. The cash is told in the form of our ledger, without the cost
of open positions, which the venue's wallet still counts in:

    cash = wallet - sum(quantity x entry price)

Venues round entry prices and each gain, so this is exact up to `cash_rounding`, which is told too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

import structlog

from adapters.ccxt_venue.client_ids import order_id_of
from adapters.ccxt_venue.desk import Desk, fill_of
from adapters.ccxt_venue.listings import Listings, Told
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.quirks import Quirks
from adapters.ccxt_venue.rows import Balance, CashFlow, CashKind, Cause, Execution, Holding
from adapters.ccxt_venue.rows_binance import cause_of
from daemon.domain.failures import VenueError
from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.messages import (
    FundingPaid,
    OrderFilled,
    Snapshotted,
    Transferred,
    VenueEvent,
)
from daemon.domain.order import (
    DELEVERAGING_PREFIX,
    FOREIGN_PREFIX,
    LIQUIDATION_PREFIX,
    SETTLEMENT_PREFIX,
    OrderId,
)
from daemon.domain.portfolio import AccountSnapshot, OpenOrder
from daemon.domain.units import MINUTE_MS

ACCOUNT_ONLY: Final = -1
READINGS_MAX: Final = 6
READING_PAUSE_S: Final = 0.1
OVERLAP_MS: Final = 5 * MINUTE_MS  # a fill may be listed so much later than it happened
AHEAD_MS: Final = MINUTE_MS  # the venue's clock may be ahead of ours: its newest fills count too
DIGITS: Final = Decimal("1e-8")
PENNY: Final = Decimal("0.0001")  # what rounding each gain to eight decimals can amount to
_PREFIXES: Final = {
    Cause.ORDER: FOREIGN_PREFIX,
    Cause.LIQUIDATION: LIQUIDATION_PREFIX,
    Cause.DELEVERAGING: DELEVERAGING_PREFIX,
    Cause.SETTLEMENT: SETTLEMENT_PREFIX,
}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Held:
    """Hold one reading of what the account holds."""

    holdings: tuple[Holding, ...]
    balances: tuple[Balance, ...]


class Account:
    """Read the account. begun_ms: nothing of before is ever told as an event; None: not begun."""

    def __init__(
        self,
        quirks: Quirks,
        names: Names,
        listings: Listings,
        desk: Desk,
        now_ms: Callable[[], int],
        *,
        begun_ms: int | None,
        on_begun: Callable[[int], None],
    ) -> None:
        self._quirks = quirks
        self._names = names
        self._listings = listings
        self._desk = desk
        self._now_ms = now_ms
        self._begun_ms = begun_ms
        self._on_begun = on_begun
        self._outside: set[str] = set()  # contracts beside the universe that were held once

    async def snapshot(self, cursor: int) -> list[VenueEvent]:
        """Give what happened after `cursor`, then what is held; raises VenueError.

        A cursor of 0 begins a book: what is held now is its beginning, and nothing before it is
        told. ACCOUNT_ONLY tells only what is held. An account that never stands still is not told:
        what is held would count fills that the events before it lack.
        """
        for _ in range(READINGS_MAX):
            at_ms = self._now_ms()
            before = await self._held()
            events = await self.since(cursor, at_ms, before.holdings)
            # Between the readings: what of it fills meanwhile would show as a change.
            resting = await self._resting()
            after = await self._held()
            if before == after:
                break
            await asyncio.sleep(READING_PAUSE_S)
        else:
            _log.warning("account_keeps_changing", venue=self._quirks.venue)
            if cursor == 0:
                raise VenueError(f"{self._quirks.venue}: no book begins while the account changes")
            return events
        if cursor == 0:
            at_ms = self._now_ms()
            self._begun_ms = at_ms
            self._on_begun(at_ms)
        ratio = await self._listings.margin_ratio()
        return [*events, Snapshotted(self._told(after, at_ms, ratio, resting))]

    async def since(
        self, cursor: int, until_ms: int, holdings: Sequence[Holding] = ()
    ) -> list[VenueEvent]:
        """Give the fills and cash flows after a cursor, some of them told before."""
        if cursor <= 0:
            return []
        since_ms = max(cursor - OVERLAP_MS, (self._begun_ms or 0) + 1)
        told = await self._listings.told(
            since_ms, max(self._now_ms(), until_ms) + AHEAD_MS, self._asked(holdings)
        )
        events = [await self._event(one) for one in told]
        return [event for event in events if event is not None]

    async def _resting(self) -> dict[OrderId, OpenOrder]:
        """Name everything that rests: ours by our id, the rest by the venue's."""
        found = {}
        for one in await self._listings.open_orders():
            ours = order_id_of(self._quirks.venue, one.client_id)
            # the venue may give one number to orders of two contracts
            theirs = OrderId(f"{FOREIGN_PREFIX}{one.symbol_id}:{one.order_id}")
            name = theirs if ours is None else ours
            key = self._names.any_key(one.symbol_id)
            found[name] = OpenOrder(key, one.quantity - one.filled, float(one.price))
        return found

    async def _held(self) -> Held:
        return Held(await self._listings.holdings(), await self._listings.balances())

    def _asked(self, holdings: Iterable[Holding]) -> tuple[str, ...]:
        """Name the contracts whose fills are asked for: ours, and whatever else was ever held."""
        ids = [self._names.symbol_id(key) for key in self._names.ours]
        ours = set(ids)
        self._outside.update(h.symbol_id for h in holdings if h.symbol_id not in ours)
        ids += sorted(self._outside)
        return tuple(dict.fromkeys(ids))

    # ---- one record ----------------------------------------------------------------------------

    async def _event(self, told: Told) -> VenueEvent | None:
        if isinstance(told, CashFlow):
            return self._flow(told)
        key = self._names.any_key(told.symbol_id)
        if self._names.currency(key) not in self._names.currencies:
            _log.warning("fill_in_foreign_currency", trade=told.trade_id, symbol=key.symbol)
            return None  # it moved no cash of ours; the position itself is told
        return OrderFilled(fill_of(told, await self._whose(told), self._names))

    async def _whose(self, told: Execution) -> OrderId:
        """Name the order of a fill: ours by our id, any other by the venue's."""
        known = self._desk.ours.get((told.symbol_id, told.order_id))
        if known is not None:
            return known
        name, cause = told.client_id, told.cause
        if name is None:
            name = await self._listings.client_id(told.symbol_id, told.order_id)
            cause = cause_of(name) if cause is Cause.ORDER else cause
        ours = order_id_of(self._quirks.venue, name)
        if ours is not None:
            self._desk.note_ours(told.symbol_id, told.order_id, ours)
            return ours
        return OrderId(f"{_PREFIXES[cause]}{told.symbol_id}:{told.order_id}")

    def _flow(self, told: CashFlow) -> VenueEvent | None:
        name = f"{self._quirks.venue}:{told.flow_id}"
        cash_key = CashKey(self._quirks.venue, told.currency)
        if told.kind is CashKind.TRADE:
            return None  # inside the fills
        if told.kind is CashKind.OTHER:
            _log.warning("cash_flow_of_other_kind", name=told.name, amount=str(told.amount))
        # What a contract costs or brings is gain or loss, the fee of a liquidation too: no deposit.
        if told.kind is CashKind.FUNDING or (told.kind is CashKind.OTHER and told.symbol_id):
            key = self._names.any_key(told.symbol_id)
            # The venue's record does not repeat the rate.
            return FundingPaid(name, key, cash_key, told.at_ms, math.nan, told.amount)
        return Transferred(name, cash_key, told.at_ms, told.amount)

    # ---- what is held ----------------------------------------------------------------------------

    def _told(
        self,
        held: Held,
        at_ms: int,
        margin_ratio: float | None,
        resting: dict[OrderId, OpenOrder],
    ) -> AccountSnapshot:
        venue = self._quirks.venue
        both = [one.symbol_id for one in held.holdings if not one.one_way and one.quantity]
        if both:
            raise VenueError(f"{venue}: {both[0]} is held in hedge mode; one-way mode was set")
        quantities: dict[InstrumentKey, Decimal] = {}
        for one in held.holdings:  # some venues list cross and isolated margin apart
            if one.quantity:
                key = self._names.any_key(one.symbol_id)
                quantities[key] = quantities.get(key, Decimal(0)) + one.quantity
        cash = {
            CashKey(venue, b.currency): b.wallet
            for b in held.balances
            if b.currency in self._names.currencies
        }
        rounding = dict.fromkeys(cash, PENNY)
        for one in held.holdings:
            if not one.quantity or one.entry_price is None:
                continue
            currency = self._names.currency(self._names.any_key(one.symbol_id))
            if currency not in self._names.currencies:
                continue  # its cash is not ours; the position itself is told
            paid = CashKey(venue, currency)
            if paid not in cash:
                raise VenueError(f"{venue}: {one.symbol_id} is held, but no {currency} is told")
            cash[paid] -= one.quantity * one.entry_price
            rounding[paid] += abs(one.quantity) * _half_a_digit(one.entry_price)
        return AccountSnapshot(
            venue=venue,
            at_ms=at_ms,
            quantities={key: quantity for key, quantity in quantities.items() if quantity},
            cash={key: amount.quantize(DIGITS) for key, amount in cash.items()},
            executions_cursor=at_ms,
            margin_ratio=margin_ratio,
            cash_rounding=rounding,
            open_orders=resting,
            marks={self._names.any_key(h.symbol_id): _mark(h) for h in held.holdings if h.quantity},
            other={
                CashKey(venue, b.currency): b.wallet
                for b in held.balances
                if b.wallet and b.currency not in self._names.currencies
            },
        )


def _mark(held: Holding) -> float:
    """Give the venue's price of a position, its own entry price where none is shown."""
    return float(held.mark or held.entry_price or 0)


def _half_a_digit(price: Decimal) -> Decimal:
    """Give the most by which a rounded price may be off."""
    exponent = price.as_tuple().exponent
    return Decimal(5).scaleb(int(exponent) - 1)
