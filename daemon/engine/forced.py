"""What a venue does to a position by force: booked as the fill that it is, named, and answered.

settlement       a contract ended: it is told with the contract
deleveraging     the venue took a part of a position: told, and what leans is evened out
liquidation      the venue took a position for want of margin: told; nothing is opened until the
                 operator resumes, and what leans is evened out by reducing
"""

from __future__ import annotations

from daemon.domain.messages import Alert, AlertKind, Command
from daemon.domain.order import (
    DELEVERAGING_PREFIX,
    LIQUIDATION_PREFIX,
    OUTSIDE,
    SETTLEMENT_PREFIX,
    Fill,
)
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState
from daemon.engine.trader import Trader


class Forced:
    """Answer fills that the venue itself brought about."""

    def __init__(self, state: EngineState, out: list[Command]) -> None:
        self._state = state
        self._out = out

    def took(self, fill: Fill, trader: Trader) -> bool:
        """Answer a fill, after it was booked; False where it is none of the venue's own."""
        if fill.order_id.startswith(SETTLEMENT_PREFIX):
            return True
        if fill.order_id.startswith(DELEVERAGING_PREFIX):
            self._tell(fill, "reduced by force (auto-deleveraging)", "traded on")
        elif fill.order_id.startswith(LIQUIDATION_PREFIX):
            self._tell(fill, "liquidated", "nothing is opened until a resume")
            self._only_reduce(trader)
        else:
            return False
        if fill.index != OUTSIDE:
            trader.lost(fill.index)
        return True

    def _tell(self, fill: Fill, what: str, then: str) -> None:
        """Tell of what the venue did, also of what it did while we were away."""
        left = self._state.book.ledger.quantity(fill.key)
        text = (
            f"{fill.key} was {what}: {fill.quantity} at {fill.price}, {left} is left; {then} "
            f"(trade {fill.trade_id})"
        )
        self._out.append(Alert(AlertKind.FORCED, fill.at_ms, text))

    def _only_reduce(self, trader: Trader) -> None:
        """Open nothing until the operator resumes."""
        state = self._state
        if state.operator_reduce_only:
            return
        state.operator_reduce_only = True
        if state.trading is TradingState.TRADING:
            state.trading = TradingState.REDUCE_ONLY
        trader.open_no_more("reduce-only after a liquidation")
