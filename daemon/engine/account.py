"""What the venue says we hold, beside what we say: cash flows, snapshots, reconciliation."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    Alert,
    AlertKind,
    AskSnapshot,
    Command,
    FundingPaid,
    Transferred,
)
from daemon.domain.order import OUTSIDE, Fill
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.foreign import Foreign
from daemon.engine.reconcile import Difference, ReconcilePolicy, adopt, differences, rounding_in
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState
from daemon.engine.strangers import Strangers

MISMATCHES_BEFORE_ACTING: Final = 3
ACCOUNT_ONLY: Final = -1  # cursor of the daily reconciliation: fills came as events already


class Account:
    """Keep book and venue in agreement; a difference that lasts is adopted or stops trading."""

    def __init__(
        self,
        state: EngineState,
        policy: ReconcilePolicy,
        halt: Callable[[int, str], None],
        out: list[Command],
    ) -> None:
        self._state = state
        self._policy = policy
        self._halt = halt
        self._out = out
        flattens = policy is ReconcilePolicy.FLATTEN
        self.strangers = Strangers(state, out, cancels_all=flattens)
        self.foreign = Foreign(state, policy, halt, out)

    def _venues(self) -> list[str]:
        universe = self._state.book.universe
        return list(dict.fromkeys(i.key.venue for i in universe.instruments))

    def ask(self, cursor: int | None = None) -> None:
        """Ask every venue for its account; cursor None asks for what came since the last one."""
        cursors = self._state.cursors
        for venue in self._venues():
            after = cursors.get(venue, 0) if cursor is None else cursor
            self._out.append(AskSnapshot(venue, after))

    def reconcile(self) -> None:
        """Trade no more until every venue's account agrees with ours."""
        self._state.unreconciled = set(self._venues())
        self.ask()

    def cash_flow(self, event: FundingPaid | Transferred) -> None:
        """Book a cash flow, once."""
        if self._state.is_new_cashflow(event.cashflow_id):
            funding = isinstance(event, FundingPaid)
            self._state.book.cash_flow(event.cash_key, event.amount, funding=funding)

    def filled(self, fill: Fill) -> Decimal:
        """Book a fill of no order that is open with us; give what was held before it."""
        book = self._state.book
        was = book.ledger.quantity(fill.key)
        self.strangers.filled(fill)
        if fill.index == OUTSIDE:
            book.fill_outside(fill)
        else:
            book.fill(fill, float(fill.quantity), float(fill.price), reserved=False)
        return was

    def told(self, snapshot: AccountSnapshot) -> bool:
        """Compare; ask again before acting on a difference, then adopt it or halt.

        True when trading begins with this: every venue's account agrees with ours.
        """
        state = self._state
        ledger, venue = state.book.ledger, snapshot.venue
        if snapshot.margin_ratio is not None:
            state.margins[venue] = snapshot.margin_ratio
        self.strangers.told(snapshot)
        self._price_outside(snapshot)
        virgin = not ledger.fills and not any(k.venue == venue for k in ledger.cash)
        found = differences(ledger, snapshot)
        # Only where nothing else differs: else it may be a part of that. Our own cash is the exact
        # one, so it stays as it is.
        if not virgin and rounding_in(found, snapshot, ledger.fills) == found:
            found = ()
        cursor = state.cursors.get(venue, 0)
        if found and not virgin:
            state.mismatches[venue] = state.mismatches.get(venue, 0) + 1
            if state.mismatches[venue] < MISMATCHES_BEFORE_ACTING:
                self._out.append(AskSnapshot(venue, cursor))
                return False
        state.cursors[venue] = max(cursor, snapshot.executions_cursor)
        state.mismatches.pop(venue, None)
        state.orders.forget_trades(snapshot.executions_cursor)
        self._settle(snapshot, found, virgin=virgin)
        self._take_other(snapshot)
        state.unreconciled.discard(venue)
        begins = state.trading is TradingState.RECONCILING and not state.unreconciled
        if begins:
            state.trading = TradingState.TRADING if state.may_open else TradingState.REDUCE_ONLY
        return begins

    def _settle(
        self, snapshot: AccountSnapshot, found: tuple[Difference, ...], *, virgin: bool
    ) -> None:
        """Do with what differs as the policy says; the money that a book begins with is ours."""
        if not found:
            return
        text = "; ".join(str(d) for d in found)
        begins = virgin and not any(isinstance(d.name, InstrumentKey) for d in found)
        if begins or self._policy is not ReconcilePolicy.HALT:
            adopt(self._state.book, found)
            self._out.append(Alert(AlertKind.RECONCILED, snapshot.at_ms, f"adopted {text}"))
            self.foreign.adopted(found)
            return
        self._out.append(Alert(AlertKind.RECONCILED, snapshot.at_ms, text))
        self._halt(
            snapshot.at_ms,
            f"the account differs from the venue: {text}; live.foreign = halt, adopt or flatten "
            "would take it over",
        )

    def _price_outside(self, snapshot: AccountSnapshot) -> None:
        """Value what is held beside the universe at the venue's own prices."""
        book = self._state.book
        marks = {k: m for k, m in snapshot.marks.items() if k not in book.universe.index}
        if marks:
            book.outside.price(marks)
            book.recount_outside()

    def _take_other(self, snapshot: AccountSnapshot) -> None:
        """Take over what the venue says of currencies in which nothing is traded; name changes."""
        book, zero = self._state.book, Decimal(0)
        ours = {k: v for k, v in book.ledger.other.items() if k.venue == snapshot.venue}
        for key in sorted({*ours, *snapshot.other}):
            theirs = snapshot.other.get(key, zero)
            amount = theirs - ours.get(key, zero)
            if amount:
                text = f"adopted {':'.join(key)}: ours {theirs - amount}, venue {theirs}"
                self._out.append(Alert(AlertKind.RECONCILED, snapshot.at_ms, text))
                book.cash_flow(key, amount, funding=False)
