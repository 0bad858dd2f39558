"""The paper venue's core: a simulated account that trades at the bars it is shown.

`observe` a market event, then `submit`, `cancel`, `query` at the instant of the last BarsClosed.
Everything an answer says is in the store before the answer is given, so that a killed caller can
always ask again: an order is filled once however often it is sent. The fill rule is in `rule`, the
funding rule in `funding`. It never reads a clock, and knows nothing of modes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from itertools import product
from typing import Final

from adapters.paper.admission import Admission, is_beyond, maker_price, taking
from adapters.paper.columns import column_taken
from adapters.paper.funding import FundingBook
from adapters.paper.opening import refuse_other_opening, replaced, unusable
from adapters.paper.rescaling import is_news, of_old_units, rescale
from adapters.paper.rule import FillRule, Terms
from adapters.paper.settings import PaperSettings
from adapters.paper.state import (
    ZERO,
    Account,
    Changes,
    LedgerStore,
    Loaded,
    Market,
    PaperOrder,
    PaperStatus,
    VenueState,
)
from adapters.paper.stories import answer_again, story
from daemon.domain.instrument import CashKey, InstrumentKey, Standing, Universe
from daemon.domain.messages import (
    BarsClosed,
    FundingPaid,
    FundingRates,
    InstrumentChanged,
    MarketEvent,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    Rescaled,
    Snapshotted,
    Transferred,
    VenueEvent,
)
from daemon.domain.order import SETTLEMENT_PREFIX, Fill, Order, OrderId, OrderKind
from daemon.domain.portfolio import AccountSnapshot
from daemon.domain.units import money, require

ENDED_KEPT: Final = 4_096
UNBOOKED_MAX: Final = 1_024  # fills
# looking up a member of an enum is slow
_OPEN, _FILLED, _LIMIT = PaperStatus.OPEN, PaperStatus.FILLED, OrderKind.LIMIT


class PaperVenue:
    """Trade a universe on paper; an account of several venues has cash at each of them.

    opened_ms: market time of a new account's opening; an account that the store already holds keeps
    its own. Raises ConfigurationError for settings that do not fit the universe or the account.
    """

    def __init__(
        self,
        universe: Universe,
        settings: PaperSettings,
        store: LedgerStore,
        *,
        opened_ms: int = 0,
    ) -> None:
        settings.check_currencies(universe)
        self.venues = tuple(dict.fromkeys(i.key.venue for i in universe.instruments))
        self.venue = "+".join(self.venues)
        self._store = store
        self._rule = FillRule(settings)
        self._by_index = tuple(Terms.of(n, i) for n, i in enumerate(universe.instruments))
        spare = [i.is_spare for i in universe.instruments]
        self._terms = {t.key: t for t in self._by_index if not spare[t.index]}
        self._budget: dict[int, Decimal] = {}
        self._admission = Admission(len(universe))
        self._orders: dict[OrderId, PaperOrder] = {}
        self._resting: dict[OrderId, PaperOrder] = {}
        self._ended: deque[OrderId] = deque()
        self._changes = Changes()
        self._unbooked: list[tuple[Fill, CashKey]] = []
        self._is_ahead = False
        self._trade_prefix = ""
        loaded = store.load(ENDED_KEPT)
        names = tuple(str(i.key) for i in universe.instruments)
        if loaded is None:
            self._open(names, settings, opened_ms)
        else:
            self._resume(loaded, names, settings)
        self._trade_prefix = f"{self._account.opened_ms:x}-"

    # ---- what the caller may do ------------------------------------------------------------------

    @property
    def is_durable(self) -> bool:
        """Tell whether calls wait for a disk."""
        return self._store.is_durable

    @property
    def instant_ms(self) -> int:
        """Give the close of the newest bars seen, 0 before the first."""
        return self._market.instant_ms

    @property
    def executions_cursor(self) -> int:
        """Give the number of the last fill or cash flow."""
        return self._account.executions_n

    @property
    def funding_too_late_n(self) -> int:
        """Count the settlements that could not be booked: their rate came over a day late."""
        return self._state.funding.too_late_n

    def submit(self, orders: Sequence[Order]) -> list[VenueEvent]:
        """Admit or refuse orders in this order and fill what can be filled at once.

        What fills completely is answered by its fill alone; what rests is accepted first. An order
        id that is known with the same terms answers with what became of it.
        """
        self._check_usable()
        events: list[VenueEvent] = []
        for order in orders:
            self._submit(order, events)
        self._commit()
        return events

    def cancel(self, order_id: OrderId, key: InstrumentKey) -> list[VenueEvent]:
        """Stop an order; one that already ended answers with how it ended."""
        self._check_usable()
        record = self._find(order_id)
        if record is None:
            return [OrderAbsent(order_id, self._now_ms)]
        if record.status is PaperStatus.OPEN:
            self._end(record, PaperStatus.CANCELLED, "cancelled on request")
            self._commit()
        return story(record)

    def query(self, order_id: OrderId, key: InstrumentKey) -> list[VenueEvent]:
        """Tell what became of an order as `submit` would, with its end; or OrderAbsent."""
        self._check_usable()
        record = self._find(order_id)
        return [OrderAbsent(order_id, self._now_ms)] if record is None else story(record)

    def snapshot(self, executions_cursor: int, venue: str = "") -> list[VenueEvent]:
        """Give fills and cash flows after the cursor, then one Snapshotted; below 0 only that.

        venue: whose positions and cash the Snapshotted holds, empty for the first; executions are
        those of all venues, which share one count.
        Raises VenueError for a cursor that this account has not reached: it is another account.
        """
        self._check_usable()
        account = self._account
        if executions_cursor > account.executions_n:
            raise replaced(self.venue, account.executions_n, executions_cursor)
        if executions_cursor < 0:
            return [Snapshotted(self._snapshot(venue))]
        found = self._store.executions_after(executions_cursor, account.executions_n)
        return [*found, Snapshotted(self._snapshot(venue))]

    def observe(self, event: MarketEvent) -> list[VenueEvent]:
        """See a market event: book funding on what was held, then fill what rests."""
        self._check_usable()
        events: list[VenueEvent] = []
        match event:
            case BarsClosed():
                self._see_bars(event)
                self._book_funding(events)
                if self._resting:
                    for record in tuple(self._resting.values()):
                        self._try_fill(record, events)
            case FundingRates():
                require(len(event.rates) == len(self._by_index), "rates do not fit the universe")
                self._state.funding.add(event)
                self._book_funding(events)
                self._changes.bars = True
            case InstrumentChanged():
                self._take_terms(event, events)
            case Rescaled():
                self._rescale(event, events)
            case _:
                return events  # a revision comes too late to trade on
        self._commit()
        return events

    # ---- opening and resuming --------------------------------------------------------------------

    def _open(self, symbols: tuple[str, ...], settings: PaperSettings, opened_ms: int) -> None:
        cash = dict(settings.starting_cash)
        self._account = Account(self.venue, opened_ms, cash)
        self._market = Market.empty(symbols)
        self._now_ms = opened_ms
        self._state = VenueState(self._account, self._market, FundingBook())
        self._held: dict[int, Decimal] = {}
        for venue, (currency, amount) in product(self.venues, sorted(cash.items())):
            cash_key = CashKey(venue, currency)
            self._account.ledger.apply_transfer(cash_key, amount)
            self._next_execution()
            name = f"deposit:{venue}:{currency}:{opened_ms}"
            self._record(Transferred(name, cash_key, opened_ms, amount))
        self._changes.bars = True
        self._commit()

    def _resume(self, loaded: Loaded, symbols: tuple[str, ...], settings: PaperSettings) -> None:
        account, market = loaded.state.account, loaded.state.market
        refuse_other_opening(account, self.venue, settings.starting_cash)
        funding = loaded.state.funding.aligned(market.symbols, symbols)
        self._account = account
        self._market = market.aligned(symbols)
        self._now_ms = max(account.opened_ms, market.instant_ms)
        self._state = VenueState(account, self._market, funding)
        self._held = {
            self._terms[key].index: position.quantity
            for key, position in account.ledger.positions.items()
            if position.quantity and key in self._terms
        }
        for record in loaded.orders:
            self._remember(record)

    def _remember(self, record: PaperOrder) -> None:
        order = record.order
        self._orders[order.order_id] = record
        terms = self._terms.get(order.key)
        if record.status is not PaperStatus.OPEN:
            self._forget_oldest(order.order_id)
        elif terms is not None:  # of another universe: it rests unseen until cancelled
            record.index = terms.index
            self._resting[order.order_id] = record

    # ---- orders ----------------------------------------------------------------------------------

    def _submit(self, order: Order, events: list[VenueEvent]) -> None:
        order_id = order.order_id
        known = self._orders.get(order_id)
        if known is None and self._store.is_durable:
            known = self._store.find(order_id)
        if known is not None:
            events.extend(answer_again(known, order, self._now_ms))
            return
        now_ms, terms = self._now_ms, self._terms.get(order.key)
        if order.as_of_ms > now_ms:
            now_ms = order.as_of_ms
        if terms is None:
            events.append(OrderRejected(order_id, now_ms, f"unknown instrument {order.key}"))
            return
        index, account = terms.index, self._account
        held, mark = self._held.get(index, ZERO), self._market.closes[index]
        refusal = of_old_units(order, account) or self._admission.refusal(order, terms, held, mark)
        if refusal is None and order.post_only:
            refusal = taking(order, self._market.reference(index))
        if refusal is not None:
            events.append(OrderRejected(order_id, now_ms, f"{order.key.symbol}: {refusal}"))
            return
        account.orders_n += 1
        record = PaperOrder(order, account.orders_n, index, now_ms)
        self._orders[order_id] = self._changes.orders[order_id] = record
        told_n = len(events)
        self._try_fill(record, events)
        if record.status is _FILLED:  # a fill of everything says that it was accepted, too
            return
        events.insert(told_n, OrderAccepted(order_id, now_ms))
        if record.status is _OPEN:
            self._resting[order_id] = record

    def _try_fill(self, record: PaperOrder, events: list[VenueEvent]) -> None:
        """Fill what the rule allows at this instant; what is left rests."""
        order, index, market = record.order, record.index, self._market
        reference = market.reference(index)
        # A decision must never trade at the open of a bar that began before it.
        if not reference > 0 or order.as_of_ms > market.instant_ms:
            return
        wanted = order.quantity - record.filled
        if order.reduce_only:
            held = self._held.get(index, ZERO)
            if held * wanted >= ZERO:
                self._expire(record, events)
                return
            wanted = wanted if abs(wanted) <= abs(held) else -held
        terms, volume = self._by_index[index], market.volumes[index]
        used = market.used.get(index, ZERO)
        quantity = wanted if self._rule.is_unlimited else self._capped(wanted, used, terms)
        if not quantity:
            return
        price = self._rule.price(terms, reference, quantity, used, volume)
        if order.post_only:
            price = maker_price(order, reference)
        if order.kind is _LIMIT and is_beyond(price, quantity, order.limit_price):
            return
        if price <= ZERO:
            return
        size = abs(quantity)
        market.used[index] = used + size
        self._fill(record, terms, quantity, price, self._rule.fee(size * price), events)
        if order.reduce_only and record.status is _OPEN and index not in self._held:
            self._expire(record, events)

    def _capped(self, wanted: Decimal, used: Decimal, terms: Terms) -> Decimal:
        """Limit a signed quantity to what is left of the instrument's budget at this instant."""
        budget = self._budget.get(terms.index)
        if budget is None:
            budget = self._rule.capacity(terms, self._market.volumes[terms.index])
            self._budget[terms.index] = budget
        left = budget - used
        if abs(wanted) <= left:
            return wanted
        if left <= 0:
            return ZERO
        return left if wanted > 0 else -left

    def _fill(
        self,
        record: PaperOrder,
        terms: Terms,
        quantity: Decimal,
        price: Decimal,
        fee: Decimal,
        events: list[VenueEvent],
    ) -> None:
        order, index, at_ms = record.order, record.index, self._market.instant_ms
        account, order_id = self._account, order.order_id
        account.executions_n += 1
        trade_id = f"{self._trade_prefix}{account.executions_n}"
        fill = Fill(trade_id, order_id, terms.key, index, quantity, price, fee, at_ms)
        self._unbooked.append((fill, terms.cash_key))
        holdings = self._held
        held = holdings.get(index, ZERO) + quantity
        if held:
            holdings[index] = held
        else:
            del holdings[index]
        record.filled += quantity
        record.fills.append(fill)
        event = OrderFilled(fill)
        self._changes.executions.append(event)
        events.append(event)
        self._changes.orders[order_id] = record
        if record.filled == order.quantity:
            record.status, record.ended_ms = _FILLED, self._now_ms
            self._resting.pop(order_id, None)
            self._forget_oldest(order_id)

    def _expire(self, record: PaperOrder, events: list[VenueEvent]) -> None:
        self._end(record, PaperStatus.EXPIRED, "reduce_only: nothing is left to reduce")
        events.append(OrderEnded(record.order.order_id, record.ended_ms, record.reason))

    def _end(self, record: PaperOrder, status: PaperStatus, reason: str) -> None:
        order_id = record.order.order_id
        record.status, record.reason, record.ended_ms = status, reason, self._now_ms
        self._resting.pop(order_id, None)
        self._changes.orders[order_id] = record
        self._forget_oldest(order_id)

    def _forget_oldest(self, ended_id: OrderId) -> None:
        ended = self._ended
        ended.append(ended_id)
        if len(ended) > ENDED_KEPT:
            del self._orders[ended.popleft()]

    def _find(self, order_id: OrderId) -> PaperOrder | None:
        found = self._orders.get(order_id)
        if found is None and self._store.is_durable:
            return self._store.find(order_id)
        return found

    # ---- bars and funding ------------------------------------------------------------------------

    def _see_bars(self, event: BarsClosed) -> None:
        market, funding = self._market, self._state.funding
        require(len(event.values) == len(self._by_index), "bars do not fit the universe")
        # Settlements before this instant no longer wait for a bar.
        if market.see(event):
            funding.remember(event.close_ms, self._held, market.closes)
        else:
            funding.update_closes(market.closes)
        self._budget.clear()
        if market.instant_ms > self._now_ms:
            self._now_ms = market.instant_ms
        self._changes.bars = True

    def _take_terms(self, event: InstrumentChanged, events: list[VenueEvent]) -> None:
        """Trade by the venue's present rules; settle what is held of a contract that ended."""
        index, instrument = event.index, event.instrument
        terms = Terms.of(index, instrument)
        if self._by_index[index].key != terms.key:
            cash = self._account.starting_cash
            self._by_index = column_taken(self._by_index, terms, instrument, cash)
            self._market.rename(index, str(terms.key))
            self._changes.bars = True
        if event.standing is not Standing.GONE:
            self._terms[terms.key] = terms
            self._by_index = (*self._by_index[:index], terms, *self._by_index[index + 1 :])
            return
        self._cancel_resting(index, "the contract ended", events)
        self._terms.pop(terms.key, None)
        price = self._market.closes[index]
        if index in self._held and price > 0:
            self._settle(terms, event.at_ms, price, events)

    def _settle(self, terms: Terms, at_ms: int, price: float, events: list[VenueEvent]) -> None:
        """Close a position at the last price, as venues do when a contract ends; without a fee."""
        order_id = OrderId(f"{SETTLEMENT_PREFIX}{terms.key}:{at_ms}")
        quantity, exact = -self._held.pop(terms.index), money(Decimal(repr(price)))
        trade_id = self._next_execution()
        instant_ms = self._market.instant_ms
        fill = Fill(trade_id, order_id, terms.key, terms.index, quantity, exact, ZERO, instant_ms)
        self._unbooked.append((fill, terms.cash_key))
        self._record(OrderFilled(fill))
        events.append(OrderFilled(fill))
        self._changes.bars = True

    def _rescale(self, event: Rescaled, events: list[VenueEvent]) -> None:
        """Count a contract in its new units, once; what rests in the old ones is cancelled."""
        if not is_news(self._state, event):
            return
        self._cancel_resting(event.index, "it is counted in other units now", events)
        self._book_fills()
        rescale(self._state, event, self._held)
        self._budget.clear()
        self._next_execution()
        self._record(event)
        self._changes.bars = True

    def _cancel_resting(self, index: int, why: str, events: list[VenueEvent]) -> None:
        for record in [r for r in self._resting.values() if r.index == index]:
            self._end(record, PaperStatus.EXPIRED, why)
            events.append(OrderEnded(record.order.order_id, record.ended_ms, record.reason))

    def _book_funding(self, events: list[VenueEvent]) -> None:
        funding, market = self._state.funding, self._market
        if not funding.rates:
            return
        self._book_fills()
        indices = range(len(self._by_index))
        settled = None if market.final else {i for i in indices if market.is_settled(i)}
        for due in funding.due(settled):
            terms = self._by_index[due.index]
            self._account.ledger.apply_funding(terms.cash_key, due.amount)
            self._next_execution()
            name = f"funding:{terms.key}:{due.settle_ms}"
            paid = FundingPaid(name, terms.key, terms.cash_key, due.settle_ms, due.rate, due.amount)
            self._record(paid)
            events.append(paid)

    # ---- the account -----------------------------------------------------------------------------

    def _next_execution(self) -> str:
        """Count an execution and name it: by the account's opening, so that no two share a name."""
        account = self._account
        account.executions_n += 1
        return f"{self._trade_prefix}{account.executions_n}"

    def _book_fills(self) -> None:
        """Enter the fills since the last look into the ledger, in their order.

        Together, because what runs again and again runs several times faster; the ledger is only
        looked at when it is written down, when funding is due and when somebody asks.
        """
        apply_fill = self._account.ledger.apply_fill
        for fill, cash_key in self._unbooked:
            apply_fill(fill, cash_key)
        self._unbooked.clear()

    def _record(self, event: VenueEvent) -> None:
        self._changes.executions.append(event)

    def _snapshot(self, venue: str) -> AccountSnapshot:
        self._book_fills()
        ledger, venue = self._account.ledger, venue or self.venues[0]
        require(venue in self.venues, f"venue {venue!r}: this account is at {self.venue}")
        held = {k: p.quantity for k, p in ledger.positions.items() if p.quantity}
        quantities = {k: quantity for k, quantity in held.items() if k.venue == venue}
        cash = {k: amount for k, amount in ledger.cash.items() if k.venue == venue}
        return AccountSnapshot(venue, self._now_ms, quantities, cash, self._account.executions_n)

    def _commit(self) -> None:
        changes, store = self._changes, self._store
        if not (changes.bars or changes.orders or changes.executions):
            return
        if store.is_durable or len(self._unbooked) > UNBOOKED_MAX:
            self._book_fills()
        self._changes = Changes()
        # Should the store fail, memory stays ahead of the record and must not be trusted any more.
        self._is_ahead = True
        store.commit(self._state, changes)
        self._is_ahead = False

    def _check_usable(self) -> None:
        if self._is_ahead:
            raise unusable(self.venue, self._now_ms)
