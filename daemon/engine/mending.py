"""A leg that is refused for good: its partners shrink, and what they cannot give back is hedged.

The rule, which adds orders at most `mends_max` times a decision:

1. What the decision would end in is summed up: the book, its open orders as if they filled, and
   what is still to be sent. It may differ from the net that the decision set out for by a tenth of
   the bound on net.
2. Beyond that, what is still to be sent is cut on the leaning side, opening legs first.
3. What is left of the difference is hedged in the first liquid name of `hedges` that trades and
   lost no leg itself; with betas, in the one of them that brings beta back most.
4. Where none may be used, the largest positions on the leaning side are reduced.

A name that lost a leg is not used for that, so that no reject is answered by the same order again.
"""

from __future__ import annotations

from typing import Final

from daemon.domain.instrument import Standing
from daemon.domain.order import OUTSIDE, DoneReason
from daemon.domain.units import quantise
from daemon.engine.balance import planned, shrink_net
from daemon.engine.execution import Leg, Plan
from daemon.engine.orders import OrderRecord
from daemon.engine.risk import RiskLimits, TradingState
from daemon.engine.state import EngineState
from daemon.engine.styles import ExecutionRules

TOLERANCE_SHARE: Final = 0.1  # of the bound on net
LOST: Final = frozenset({DoneReason.REJECTED, DoneReason.ABSENT, DoneReason.EXPIRED})


class Mender:
    """Keep what a decision set out for, and bring the book back to it when legs are lost."""

    def __init__(self, state: EngineState, limits: RiskLimits, rules: ExecutionRules) -> None:
        self._state = state
        self._limits = limits
        self._rules = rules

    def begins(self, plan: Plan) -> None:
        """Note what net a new decision sets out for."""
        state = self._state
        state.mend_as_of_ms = plan.as_of_ms
        state.net_goal = plan.net_goal
        state.mends_n = 0
        state.leg_lost = False
        state.lost_columns = []

    def ended(self, record: OrderRecord, why: DoneReason) -> None:
        """Note an order that ended; one that was refused for good is a lost leg."""
        if why in LOST and record.order.as_of_ms == self._state.mend_as_of_ms and record.left:
            self.lost(record.order.index)

    def lost(self, index: int) -> None:
        """Note that an instrument lost a leg."""
        self._state.leg_lost = True
        if index not in self._state.lost_columns:
            self._state.lost_columns.append(index)

    @property
    def may_begin(self) -> bool:
        """Tell whether a leg was lost, and all that was sent has been answered."""
        state = self._state
        if not state.leg_lost:
            return False
        trades = state.trading in (TradingState.TRADING, TradingState.REDUCE_ONLY)
        if state.flattening or state.paused or not trades:
            state.leg_lost = False
            return False
        return state.orders.all_answered

    def mend(self, plan: Plan) -> str:
        """Change the plan so that the book ends where the decision set out for; say how."""
        state, book = self._state, self._state.book
        state.leg_lost = False
        if state.flattening or not book.equity > 0:
            return ""  # everything goes anyway
        excess = self._excess(plan)
        tolerance = TOLERANCE_SHARE * self._limits.net_weight_max * book.equity
        if abs(excess) <= tolerance:
            return ""
        left = shrink_net(plan.legs, excess)
        plan.prune()
        text = f"mended {(excess - left) / book.equity:+.4f} of equity by smaller legs"
        if abs(left) <= tolerance:
            return text
        if state.mends_n >= self._rules.mends_max:
            return f"{text}; {left / book.equity:+.4f} of equity off neutral: mends_max reached"
        state.mends_n += 1
        hedges = self._hedges(left) or self._partners(left)
        plan.add(hedges)
        keys = [i.key.symbol for i in book.universe.instruments]
        names = ", ".join(keys[leg.index] for leg in hedges) or "nothing"
        return f"{text}, {left / book.equity:+.4f} against {names}"

    def _excess(self, plan: Plan) -> float:
        """Give how far from its goal the decision would end, quote currency, signed."""
        state, prices = self._state, self._state.book.prices
        ours = [r for r in state.orders.open.values() if r.order.index != OUTSIDE]
        waiting = sum(float(r.left) * prices[r.order.index] for r in ours)
        return state.book.net + waiting + planned(plan.legs) - state.net_goal

    def _hedges(self, excess: float) -> list[Leg]:
        """Offer the whole excess to one liquid name; with betas to the one that mends most."""
        if self._state.trading is not TradingState.TRADING:
            return []  # a hedge opens
        book = self._state.book
        bases = [i.base for i in book.universe.instruments]
        found = [bases.index(base) for base in self._rules.hedges if base in bases]
        usable = [index for index in found if self._trades(index)]
        if book.beta is not None:
            betas, net = book.beta.betas, book.beta.net
            usable.sort(key=lambda index: abs(net - excess * betas[index]))
        legs = (self._leg(index, -excess) for index in usable)
        return [leg for leg in legs if leg is not None][:1]

    def _partners(self, excess: float) -> list[Leg]:
        """Reduce the largest positions on the leaning side until the excess is gone."""
        book, legs = self._state.book, list[Leg]()
        side = 1.0 if excess > 0 else -1.0
        values = [side * held * price for held, price in zip(book.held, book.prices, strict=True)]
        for index in sorted(range(len(values)), key=lambda n: -values[n] if values[n] > 0 else 0):
            if not values[index] > 0 or side * excess <= 0:
                break
            give = min(values[index], side * excess)
            leg = self._leg(index, -side * give) if self._trades(index) else None
            if leg is not None and book.reduces(index, leg.size):
                legs.append(leg)
                excess -= side * leg.value
        return legs

    def _trades(self, index: int) -> bool:
        book, oldest_ms = self._state.book, self._state.instant_ms - self._limits.mark_age_ms_max
        standing = book.standing[index] == int(Standing.TRADING)
        fresh = book.prices[index] > 0 and book.mark_ms[index] >= oldest_ms
        return standing and bool(fresh) and index not in self._state.lost_columns

    def _leg(self, index: int, notional: float) -> Leg | None:
        """Make a leg of a signed notional in whole lots, None where a venue would not take it."""
        book = self._state.book
        rules, mark = book.universe.instruments[index].rules, book.prices[index]
        size = quantise(abs(notional) / mark, rules.quantity_step)
        quantity = size if notional > 0 else -size
        number = float(quantity)
        reduces = book.held[index] * number < 0
        leg = Leg(index, quantity, number, mark, rules, reduces, abs(number) * mark)
        return leg if size >= leg.smallest else None
