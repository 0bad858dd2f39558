"""The synchronous core: `process(event) -> commands`.

It never awaits, logs, reads a clock, touches a file or rolls a die. What happened comes in as an
event, what to do goes out as commands, and their results come back as events. The life of an
instant:

    BarsClosed ─> gathering ─(all bars or deadline)─> estimating ─> clearing ─> orders ─> Decided

Between the instants only fills, answers and operator wishes change anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, assert_never

import numpy as np

from daemon.domain.bar import Field
from daemon.domain.decision import DecisionKind
from daemon.domain.forecast import Estimates
from daemon.domain.instrument import Universe
from daemon.domain.messages import (
    Alert,
    AlertKind,
    BarsClosed,
    Command,
    Estimate,
    EstimatesMissing,
    EstimatesReady,
    Event,
    FeedNotice,
    FundingPaid,
    FundingRates,
    InstrumentChanged,
    Operator,
    OperatorAction,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    OrderUncertain,
    PriceDoubted,
    Rescaled,
    Revised,
    Snapshotted,
    Started,
    Tick,
    Transferred,
)
from daemon.domain.order import SETTLEMENT_PREFIX, DoneReason, Fill, OrderId, Uncertain
from daemon.domain.units import DAY_MS, Timeframe, iso
from daemon.engine.account import ACCOUNT_ONLY, Account
from daemon.engine.columns import change_column
from daemon.engine.costs import Costs
from daemon.engine.deciding import wanted
from daemon.engine.doubts import Doubts
from daemon.engine.holds import Holds
from daemon.engine.losses import Losses
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.rescaling import take_doubt, take_units
from daemon.engine.revisions import Revisions
from daemon.engine.risk import TradingState
from daemon.engine.rules import EngineRules
from daemon.engine.state import EngineState, Phase
from daemon.engine.trader import Trader, flat_target
from daemon.engine.windows import bars_digest
from daemon.ports import Strategy

_CLOSE: Final = int(Field.CLOSE)  # as an index a plain number is much faster
_TRADING: Final = TradingState.TRADING  # looking up a member of an enum is slow


class Engine:
    """Hold all trading state and turn events into commands."""

    def __init__(self, universe: Universe, strategy: Strategy, rules: EngineRules) -> None:
        self.strategy = strategy
        self.rules = rules
        self.state = EngineState.fresh(
            universe,
            rules.cadence,
            rules.bars_n,
            strategy.initial_state(len(universe)),
            rules.ripeness,
        )
        self.state.strategy_name = strategy.name
        self._count_beta()
        self._out: list[Command] = []
        self._costs = Costs(self.state.costs, rules.execution)
        self._trader = self._new_trader()
        self._doubts = Doubts(self.state, rules.uncertain_asks_max, self._out)
        self._revisions = Revisions(self.state, rules.bars_n, self._out)
        self._account = Account(self.state, rules.reconcile, self._halt, self._out)
        stale_max = rules.cadence.stale_decisions_max
        self._holds = Holds(self.state, stale_max, self._out)
        self._losses = Losses(self.state, rules.limits, stale_max)

    def process(self, event: Event) -> tuple[Command, ...]:
        """Take one event, change the state, return the commands it causes."""
        out = self._out
        out.clear()
        if type(event) is OrderFilled:  # most events are: a plain question is faster than a match
            self._filled(event.fill)
        else:
            self._take(event)
        self._trader.advance()
        return tuple(out)

    def restore(self, plain: Mapping[str, object]) -> None:
        """Load a snapshot of the state; the next event continues from there."""
        self.state.restore(plain)
        self._count_beta()
        self._costs = Costs(self.state.costs, self.rules.execution)
        self._trader = self._new_trader()

    def _new_trader(self) -> Trader:
        rules = self.rules
        return Trader(self.state, rules.limits, rules.id_prefix, self._out, rules.execution)

    def _count_beta(self) -> None:
        """Count beta exposure where a limit asks for it, and not otherwise."""
        book = self.state.book
        if self.rules.limits.beta_weight_max is None:
            book.beta = None
        elif book.beta is None:
            book.count_beta()

    def take_over(self, other: Engine) -> None:
        """Go on where an engine with other rules stands, its unfinished decision included."""
        self.restore(other.state.to_plain())
        self._trader.take_over(other._trader)

    @property
    def universe(self) -> Universe:
        """Give the instruments with the trading rules that hold now."""
        return self.state.book.universe

    @property
    def quiescent(self) -> bool:
        """Tell whether no decision is in progress, so that a snapshot holds everything."""
        return self.state.phase is Phase.IDLE and self._trader.idle

    @property
    def wake_ms(self) -> int:
        """Give the market time at which the engine wants a Tick at the latest."""
        state, cadence = self.state, self.rules.cadence
        gathers = state.phase is Phase.GATHERING
        close_ms = state.instant_ms if gathers else cadence.source.next_close(state.instant_ms)
        deadline_ms = close_ms + cadence.deadline_ms
        ask_ms = None if state.trading is TradingState.STARTING else self._doubts.next_ms
        times = (deadline_ms, ask_ms, self._trader.next_ms)
        return min(at_ms for at_ms in times if at_ms is not None)

    def _take(self, event: Event) -> None:
        match event:
            case BarsClosed():
                self._bars_closed(event)
            case OrderFilled(fill=fill):
                self._filled(fill)
            case OrderAccepted(order_id=order_id):
                self._accepted(order_id)
            case EstimatesReady(estimates=estimates):
                self._estimates_ready(estimates)
            case EstimatesMissing(as_of_ms=as_of_ms, why=why):
                self._estimates_missing(as_of_ms, why)
            case Tick(now_ms=now_ms):
                self._tick(now_ms)
            case OrderEnded(order_id=order_id, reason=reason):
                why = DoneReason.EXPIRED if reason == "expired" else DoneReason.CANCELLED
                self._ended(order_id, why)
            case OrderRejected(order_id=order_id):
                self._ended(order_id, DoneReason.REJECTED)
            case OrderAbsent(order_id=order_id):
                self._ended(order_id, DoneReason.ABSENT)
            case OrderUncertain(order_id=order_id):
                self._uncertain(order_id)
            case FundingRates(rates=rates):
                known = ~np.isnan(rates)
                self.state.funding_rates = np.where(known, rates, self.state.funding_rates)
            case FundingPaid():
                self._account.cash_flow(event)
            case Transferred() | Snapshotted():
                self._moved(event)
            case Operator():
                self._operator(event)
            case Revised():
                self._revisions.came(event)
            case FeedNotice():
                self._holds.told(event, self._trader)
            case InstrumentChanged():
                change_column(event, self.state, self._trader, self._out)
            case Rescaled():
                take_units(event, self.state, self._trader, self._out)
            case PriceDoubted():
                take_doubt(event, self.state, self._out)
            case Started(at_ms=at_ms, warming=warming):
                self._started(at_ms, warming=warming)
            case _:
                assert_never(event)

    def _moved(self, event: Transferred | Snapshotted) -> None:
        """Book what is neither gain nor loss: a transfer, or what is adopted from a venue."""
        before, begins = self.state.book.equity, False
        if isinstance(event, Transferred):
            self._account.cash_flow(event)
        else:
            begins = self._account.told(event.snapshot)
            ratio = event.snapshot.margin_ratio
            if ratio is not None:
                self.state.margins[event.snapshot.venue] = ratio
        self._losses.moved(self.state.book.equity - before)
        if begins and self.state.flattening and self.state.book.gross:
            self._flatten(self.state.now_ms)

    # ---- the market ------------------------------------------------------------------------

    def _bars_closed(self, event: BarsClosed) -> None:
        state, close_ms = self.state, event.close_ms
        if close_ms > state.now_ms:
            state.now_ms = close_ms
        if close_ms > state.instant_ms:
            self._begin(close_ms)
        present = state.see(close_ms, event.proof)
        state.book.mark(close_ms, event.values[:, _CLOSE])
        if self._losses.asks and (why := self._losses.judge(close_ms, self._trader, self._out)):
            self._halt(close_ms, why)
        if self.rules.ripeness.asks:
            self._out.extend(state.ripeness.see(close_ms, event.values, present))
        if state.orders.open and state.trading is not TradingState.STARTING:
            self._ask_again()
            self._trader.take_back()
        for bars in state.builder.add(close_ms, event.values, present):
            state.windows[bars.timeframe].take(bars)
        gathering = state.phase is Phase.GATHERING and close_ms == state.instant_ms
        alive_ms = self.rules.cadence.alive_ms
        if gathering and (event.final or not state.awaited(alive_ms).any()):
            self._gathered()

    def _begin(self, close_ms: int) -> None:
        """Start the work on a new instant; whatever the last one left undone is given up."""
        state = self.state
        if state.phase in (Phase.ESTIMATING, Phase.CLEARING):
            what = f"the work on {iso(state.instant_ms)} was still {state.phase}"
            self._out.append(Alert(AlertKind.NO_DECISION, close_ms, what))
            self._trader.close_plan(what)
        elif state.phase is Phase.GATHERING and self.rules.cadence.decides_at(state.instant_ms):
            what = f"bars of {iso(state.instant_ms)} were still gathered when the next ones came"
            self._out.append(Alert(AlertKind.NO_DECISION, close_ms, what))
        state.instant_ms = close_ms
        live = state.trading is not TradingState.STARTING
        state.phase = Phase.GATHERING if live else Phase.IDLE

    def _tick(self, now_ms: int) -> None:
        state, cadence = self.state, self.rules.cadence
        if state.trading is TradingState.STARTING:
            return
        state.now_ms = max(state.now_ms, now_ms)
        # Time alone begins no instant before its deadline: whether a Tick or the bars come first is
        # chance, and must change nothing.
        overdue_ms = cadence.source.last_close(now_ms - cadence.deadline_ms)
        if overdue_ms > state.instant_ms:
            self._begin(overdue_ms)
        if state.phase is Phase.GATHERING and overdue_ms == state.instant_ms:
            self._gathered()
        self._ask_again()

    def _ask_again(self) -> None:
        for order_id, state in self._doubts.due():
            self._unresolved(order_id, state.asked)

    def _gathered(self) -> None:
        """All bars that will come in time are here: ask for forecasts, or decide without."""
        state, cadence, instant = self.state, self.rules.cadence, self.state.instant_ms
        state.phase = Phase.IDLE
        for timeframe in cadence.due(instant):
            store = state.windows[timeframe]
            if store.rows_n:
                store.advance(instant)
        if instant % DAY_MS == 0:
            self._account.ask(cursor=ACCOUNT_ONLY)
        if self.strategy.needs_estimates and self._ask_estimates():
            state.phase = Phase.ESTIMATING
        elif cadence.decides_at(instant):
            self._decide()

    def _ask_estimates(self) -> bool:
        """Ask for every timeframe whose newest bar has no forecast yet; False when none."""
        windows = [
            store.frozen()
            for timeframe, store in self.state.windows.items()
            if store.filled >= self._needed(timeframe) and not self._has_newest_forecast(timeframe)
        ]
        if windows:
            self._out.append(Estimate(self.state.instant_ms, tuple(windows)))
        return bool(windows)

    def _has_newest_forecast(self, timeframe: Timeframe) -> bool:
        newest = self.state.newest.get(timeframe)
        return newest is not None and newest.as_of_ms >= self.state.windows[timeframe].newest_ms

    def _needed(self, timeframe: Timeframe) -> int:
        return self.strategy.windows_needed.get(timeframe, 1)

    def _estimates_ready(self, estimates: Estimates) -> None:
        state = self.state
        if state.phase is not Phase.ESTIMATING or estimates.as_of_ms != state.instant_ms:
            return  # an answer to a question that is no longer open is not used
        for prediction in estimates.predictions:
            state.newest[prediction.timeframe] = prediction
        if estimates.disagreement is not None:
            state.disagreement = estimates.disagreement
        state.gross_multiplier = estimates.gross_multiplier
        if estimates.silent or state.silent:
            self._holds.heard(estimates.as_of_ms, estimates.silent)
        self._estimated()

    def _estimates_missing(self, as_of_ms: int, why: str) -> None:
        state = self.state
        if state.phase is not Phase.ESTIMATING or as_of_ms != state.instant_ms:
            return
        self._out.append(Alert(AlertKind.ESTIMATES_STALE, as_of_ms, why))
        self._estimated()

    def _estimated(self) -> None:
        self.state.phase = Phase.IDLE
        if self.rules.cadence.decides_at(self.state.instant_ms):
            self._decide()

    # ---- the decision ----------------------------------------------------------------------

    def _decide(self) -> None:
        state = self.state
        if state.trading in (TradingState.STARTING, TradingState.RECONCILING):
            text = f"at {iso(state.instant_ms)} trading state is {state.trading}"
            self._out.append(Alert(AlertKind.NO_DECISION, state.instant_ms, text))
            return
        if state.book.equity <= 0 and not state.flattening:
            self._halt(state.instant_ms, f"equity is {state.book.equity:.2f}, nothing is left")
            return
        self._trader.open(bars_digest(state.windows), state.absent(), self._revisions.decided())
        kind, target, note = wanted(self.strategy, self.state, self.rules, self._costs)
        self._trader.want(kind, target, note)
        if target is not None:
            self._clear()

    def _clear(self) -> None:
        """Cancel what the last decision left open; orders wait until the venue has confirmed."""
        state = self.state
        if state.orders.open:
            state.phase = Phase.CLEARING
            self._trader.cancel_all()

    def _flatten(self, at_ms: int) -> None:
        """Go to zero now, and at each decision until it is done or the operator resumes."""
        state = self.state
        state.paused = state.flattening = True
        if state.trading not in (TradingState.TRADING, TradingState.REDUCE_ONLY):
            text = f"not flattened yet: trading state is {state.trading} {state.halted_why}"
            self._out.append(Alert(AlertKind.NO_DECISION, at_ms, text.rstrip()))
            return
        state.phase = Phase.IDLE  # this comes before whatever was being worked on
        self._trader.open(bars_digest(state.windows), (), extra=True)
        target = flat_target(state.instant_ms, len(self.universe))
        self._trader.want(DecisionKind.REDUCED, target, target.note)
        self._clear()

    # ---- orders and cash -------------------------------------------------------------------

    def _filled(self, fill: Fill) -> None:
        orders, book = self.state.orders, self.state.book
        if fill.trade_id in orders.trade_ids:
            return
        record = orders.fill(fill.order_id, fill.trade_id, fill.quantity)
        if record is None:
            # A fill of an order we hold closed is still the venue's truth: it moves the book.
            book.fill(fill, float(fill.quantity), float(fill.price), reserved=False)
            settled = fill.order_id.startswith(SETTLEMENT_PREFIX)
            if fill.order_id not in orders.ended and not settled:
                self._strange(fill, "an order that is not ours")
            return
        quantity = record.size if fill.quantity == record.order.quantity else float(fill.quantity)
        order, shortfall = record.order, book.shortfall
        book.fill(fill, quantity, order.reference_price, reserved=True)
        notional, shortfall = abs(quantity) * order.reference_price, book.shortfall - shortfall
        self._costs.took(order, book.universe, notional, shortfall, float(fill.fee))
        if record.filled != record.order.quantity and record.is_overfilled:
            order_id, size = record.order.order_id, record.order.quantity
            self._halt(fill.at_ms, f"order {order_id} of {size}: venue filled {record.filled}")
        if fill.index != record.order.index:
            self._strange(fill, f"order {fill.order_id}, which is for {record.order.key}")
        if self.state.trading is not _TRADING or self.state.paused:
            self._trader.withdraw(record)

    def _strange(self, fill: Fill, whose: str) -> None:
        """Say that a fill is booked which nothing of ours explains; by policy stop trading."""
        state = self.state
        if state.trading not in (TradingState.TRADING, TradingState.REDUCE_ONLY):
            return  # what happened while we were away is learnt in bulk and compared as a whole
        text = f"fill {fill.trade_id} of {fill.quantity} {fill.key} belongs to {whose}"
        self._out.append(Alert(AlertKind.STRANGE_FILL, fill.at_ms, text))
        if self.rules.reconcile is ReconcilePolicy.HALT:
            self._halt(fill.at_ms, text)

    def _accepted(self, order_id: OrderId) -> None:
        """Note an admission; a lost order that turns up after a halt or a pause is stopped."""
        record = self.state.orders.open.get(order_id)
        if record is None:
            return
        was_lost = isinstance(record.state, Uncertain)
        self.state.orders.accept(order_id)
        if was_lost:
            self._trader.withdraw(record)

    def _ended(self, order_id: OrderId, why: DoneReason) -> None:
        record = self.state.orders.end(order_id, why)
        if record is not None:
            self.state.book.release(record.order.index, record.left)
            self._trader.ended(record, why)

    def _uncertain(self, order_id: OrderId) -> None:
        state = self._doubts.raised(order_id)
        if state is not None:
            self._unresolved(order_id, state.asked)

    def _unresolved(self, order_id: OrderId, asked: int) -> None:
        text = f"order {order_id} could not be resolved after {asked} questions"
        if self.state.trading is not TradingState.HALTED:
            self._halt(self.state.now_ms, text)
        if asked == self.rules.uncertain_asks_max:
            self._out.append(Alert(AlertKind.ORDER_UNRESOLVED, self.state.now_ms, text))

    # ---- start, reconciliation, operator ---------------------------------------------------

    def _started(self, at_ms: int, *, warming: bool) -> None:
        """Take stock before trading: ask about every open order, then for the account."""
        state = self.state
        state.phase = Phase.IDLE
        state.drop_holds()
        self._trader.close_plan("superseded by a restart")
        if warming:
            state.trading = TradingState.STARTING
            return
        state.now_ms = max(state.now_ms, at_ms)
        state.instant_ms = max(state.instant_ms, self.rules.cadence.source.last_close(at_ms))
        state.trading = TradingState.HALTED if state.halted_why else TradingState.RECONCILING
        for order_id in state.orders.open:
            state.orders.doubt(order_id)
        self._doubts.ask_all()
        self._account.reconcile()

    def _halt(self, at_ms: int, why: str) -> None:
        """Stop trading until the operator resumes; what rests at the venue is taken back."""
        if self.state.trading is not TradingState.STARTING:  # then only the start halts
            self.state.trading = TradingState.HALTED
        self.state.halted_why = why
        self._trader.close_plan("halted")
        self._out.append(Alert(AlertKind.HALTED, at_ms, why))
        self._trader.cancel_all()

    def _operator(self, event: Operator) -> None:
        state = self.state
        if not state.is_new_request(event.request_id):
            return
        match event.action:
            case OperatorAction.PAUSE:
                state.paused = True
                self._trader.open_no_more("paused by the operator")
            case OperatorAction.REDUCE_ONLY:
                state.operator_reduce_only = True
                if state.trading is TradingState.TRADING:  # never a way past reconciliation
                    state.trading = TradingState.REDUCE_ONLY
                self._trader.open_no_more("reduce-only by the operator")
            case OperatorAction.RESUME:
                self._resume()
            case OperatorAction.FLATTEN:
                self._flatten(event.at_ms)
            case OperatorAction.KILL:
                self._halt(event.at_ms, event.reason or "killed by the operator")
            case _:
                assert_never(event.action)

    def _resume(self) -> None:
        state = self.state
        state.paused = state.operator_reduce_only = state.flattening = False
        state.stale_decisions = 0
        self._losses.forget()
        if state.trading is TradingState.STARTING:
            state.halted_why = ""  # the start reconciles anyway
        elif state.trading in (TradingState.HALTED, TradingState.REDUCE_ONLY):
            state.halted_why = ""
            state.trading = TradingState.RECONCILING
            self._doubts.ask_all()
            self._account.reconcile()
