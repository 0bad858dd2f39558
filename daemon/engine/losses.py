"""Loss limits: a bad day lets the book only reduce, a deep drawdown halts.

Both are judged at the marks of each close. What is deposited, withdrawn or adopted from the venue
moves what they are measured from, so that it is never a loss or a gain:

    day loss = 1 - equity / (equity at the first close of the UTC day + moved since)
    drawdown = 1 - equity / (highest equity + moved since)

A day that lost too much ends with the UTC day, or when the operator resumes; a resume begins both
measures anew at the equity of that moment, because they would stop trading again at once.
"""

from __future__ import annotations

from daemon.domain.messages import Alert, AlertKind, Command
from daemon.domain.units import DAY_MS
from daemon.engine.limits import RiskLimits
from daemon.engine.risk import TradingState
from daemon.engine.state import EngineState
from daemon.engine.trader import Trader


class Losses:
    """Hold the book to its loss limits."""

    def __init__(self, state: EngineState, limits: RiskLimits, stale_max: int) -> None:
        self._state = state
        self._limits = limits
        self._stale_max = stale_max
        self.asks = limits.day_loss_max is not None or limits.drawdown_max is not None

    def moved(self, amount: float) -> None:
        """Move what losses are measured from by a deposit, a withdrawal or an adoption."""
        state = self._state
        if state.day_equity:
            state.day_equity += amount
        if state.high_equity:
            state.high_equity += amount

    def forget(self) -> None:
        """Begin both measures anew at the next close: the operator resumed."""
        self._state.day_equity = self._state.high_equity = 0.0
        self._state.day_lost = False

    def judge(self, close_ms: int, trader: Trader, out: list[Command]) -> str:
        """Look at the equity after a close; give why trading is to halt, '' where it goes on."""
        state, equity = self._state, self._state.book.equity
        if state.trading in (TradingState.STARTING, TradingState.HALTED):
            return ""
        day = close_ms // DAY_MS
        if day != state.loss_day or not state.day_equity:
            state.loss_day, state.day_equity = day, equity
            self._new_day()
        state.high_equity = max(state.high_equity, equity)
        lost = _share(state.day_equity, equity)
        most = self._limits.day_loss_max
        if most is not None and lost > most and not state.day_lost:
            self._stop(close_ms, lost, trader, out)
        fallen = _share(state.high_equity, equity)
        most = self._limits.drawdown_max
        if most is not None and fallen > most:
            return f"drawdown_max: {fallen:.4f} below the highest equity, allowed are {most}"
        return ""

    def _stop(self, close_ms: int, lost: float, trader: Trader, out: list[Command]) -> None:
        state = self._state
        state.day_lost = True
        text = f"day_loss_max: {lost:.4f} of the equity at the start of the UTC day is lost"
        if state.trading is TradingState.TRADING:
            state.trading = TradingState.REDUCE_ONLY
        trader.close_plan(text)
        trader.cancel_all(keep_reducing=True)
        told = f"{text}; nothing is opened until the next day or a resume"
        out.append(Alert(AlertKind.LOSS, close_ms, told))

    def _new_day(self) -> None:
        state = self._state
        if not state.day_lost:
            return
        state.day_lost = False
        fresh = state.stale_decisions <= self._stale_max
        if fresh and state.may_open and state.trading is TradingState.REDUCE_ONLY:
            state.trading = TradingState.TRADING


def _share(base: float, equity: float) -> float:
    """Give the loss as a share of what it is measured from; nothing where that is nothing."""
    return 1.0 - equity / base if base > 0 else 0.0
