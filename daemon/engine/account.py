"""What the venue says we hold, beside what we say: cash flows, snapshots, reconciliation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from daemon.domain.messages import (
    Alert,
    AlertKind,
    AskSnapshot,
    Cancel,
    Command,
    FundingPaid,
    Transferred,
)
from daemon.domain.portfolio import AccountSnapshot
from daemon.engine.reconcile import ReconcilePolicy, adopt, differences, rounding_in
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState

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

    def told(self, snapshot: AccountSnapshot) -> bool:
        """Compare; ask again before acting on a difference, then adopt it or halt.

        True when trading begins with this: every venue's account agrees with ours.
        """
        state = self._state
        ledger, venue = state.book.ledger, snapshot.venue
        virgin = not ledger.fills and not any(k.venue == venue for k in ledger.cash)
        found = differences(ledger, snapshot)
        # Only where nothing else differs: else it may be a part of that. Our own cash is the exact
        # one, so it stays as it is.
        if not virgin and rounding_in(found, snapshot) == found:
            found = ()
        cursor = state.cursors.get(venue, 0)
        if found and not virgin:
            state.mismatches[venue] = state.mismatches.get(venue, 0) + 1
            if state.mismatches[venue] < MISMATCHES_BEFORE_ACTING:
                self._out.append(AskSnapshot(venue, cursor))
                return False
        state.cursors[venue] = max(cursor, snapshot.executions_cursor)
        state.mismatches.pop(venue, None)
        state.orders.forget_trades()
        adopts = virgin or self._policy is ReconcilePolicy.ADOPT
        text = "; ".join(str(d) for d in found)
        if found and adopts and all(d.is_ours(state.book.universe) for d in found):
            adopt(state.book, found)
            self._out.append(Alert(AlertKind.RECONCILED, snapshot.at_ms, f"adopted {text}"))
        elif found:
            self._out.append(Alert(AlertKind.RECONCILED, snapshot.at_ms, text))
            self._halt(snapshot.at_ms, f"the account differs from the venue: {text}")
        self._name_strangers(snapshot)
        state.unreconciled.discard(venue)
        begins = state.trading is TradingState.RECONCILING and not state.unreconciled
        if begins:
            state.trading = TradingState.TRADING if state.may_open else TradingState.REDUCE_ONLY
        return begins

    def _name_strangers(self, snapshot: AccountSnapshot) -> None:
        """Name what rests at the venue and is not open with us; stop what we thought had ended."""
        orders = self._state.orders
        strange = {o: key for o, key in snapshot.open_orders.items() if o not in orders.open}
        if strange:
            named = "; ".join(f"{order_id} ({key})" for order_id, key in strange.items())
            text = f"rests at {snapshot.venue} and is not open with us: {named}"
            self._out.append(Alert(AlertKind.RECONCILED, snapshot.at_ms, text))
        for order_id, key in strange.items():
            if order_id in orders.ended:
                self._out.append(Cancel(order_id, key))
