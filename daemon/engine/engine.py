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

from daemon.domain.bar import Field
from daemon.domain.decision import DecisionKind
from daemon.domain.forecast import Estimates
from daemon.domain.instrument import Universe
from daemon.domain.messages import (
    AccountUnread,
    Alert,
    AlertKind,
    BarsClosed,
    Command,
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
    RuleValue,
    Snapshotted,
    Started,
    Tick,
    Transferred,
)
from daemon.domain.order import OUTSIDE, DoneReason, Fill, OrderId, Uncertain
from daemon.domain.units import DAY_MS, iso
from daemon.engine.account import ACCOUNT_ONLY, Account
from daemon.engine.asking import question
from daemon.engine.columns import change_column
from daemon.engine.costs import Costs
from daemon.engine.deciding import wanted
from daemon.engine.doubts import Doubts
from daemon.engine.forced import Forced
from daemon.engine.foreign import OutsideCloser
from daemon.engine.holds import Holds
from daemon.engine.ledgers import price_of
from daemon.engine.losses import Losses
from daemon.engine.rescaling import take_doubt, take_units
from daemon.engine.revisions import Revisions
from daemon.engine.risk import TradingState
from daemon.engine.rules import EngineRules, changed
from daemon.engine.state import EngineState, Phase
from daemon.engine.trader import Trader, flat_target
from daemon.engine.unread import Unread
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
        self._begun = rules  # before anything was reloaded
        self._out: list[Command] = []
        self._revisions = Revisions(self.state, rules.bars_n, self._out)
        self._follow_rules()

    def process(self, event: Event) -> tuple[Command, ...]:
        """Take one event, change the state, return the commands it causes."""
        out = self._out
        out.clear()
        if type(event) is OrderFilled:  # most events are: a plain question is faster than a match
            self._filled(event.fill)
        else:
            self._take(event)
        self._trader.advance()
        if self._closer is not None:
            self._closer.advance()
        return tuple(out)

    def restore(self, plain: Mapping[str, object]) -> None:
        """Load a snapshot of the state; the next event continues from there."""
        self.state.restore(plain)
        self.rules = changed(self._begun, self.state.changed)
        self._follow_rules()

    def _follow_rules(self) -> None:
        """Make the parts that carry the rules out, anew after the rules changed."""
        state, rules, out = self.state, self.rules, self._out
        if rules.limits.beta_weight_max is None:
            state.book.beta = None
        elif state.book.beta is None:
            state.book.count_beta()
        self._costs = Costs(state.costs, state.leg_costs, rules.execution)
        self._trader = Trader(state, rules.limits, rules.id_prefix, out, rules.execution)
        self._closer = OutsideCloser.of(rules.reconcile, state, rules.limits, rules.id_prefix, out)
        self._doubts = Doubts(state, rules.uncertain_asks_max, out)
        self._account = Account(state, rules.reconcile, self._halt, out)
        stale_max = rules.cadence.stale_decisions_max
        self._holds = Holds(state, stale_max, out)
        self._unread = Unread(state, self._holds, rules.unread_max_ms, self._halt, out)
        self._forced = Forced(state, out)
        self._losses = Losses(state, rules.limits, stale_max)

    def _reload(self, new: Mapping[str, RuleValue]) -> None:
        """Go on by other rules, in the middle of a decision too; what rests past them goes."""
        before = self._trader
        self.rules = changed(self.rules, new)
        self.state.changed.update(new)
        self._follow_rules()
        self._trader.take_over(before)
        if self.state.trading is not TradingState.STARTING:
            self._trader.keep_bound()

    def take_over(self, other: Engine) -> None:
        """Go on where an engine with other rules stands, its unfinished decision included."""
        self.restore({**other.state.to_plain(), "changed": {}})
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
        times = (deadline_ms, ask_ms, self._trader.next_ms, self._unread.next_ms)
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
            case FundingRates():
                self.state.funding.take(event)
            case FundingPaid():
                self._account.cash_flow(event)
            case Transferred() | Snapshotted():
                self._moved(event)
            case AccountUnread():
                self._unread.failed(event, self._trader)
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
            self._unread.read(event.snapshot.venue, event.snapshot.at_ms, self._trader)
            begins = self._account.told(event.snapshot)
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
        state.phase = Phase.IDLE if state.trading is TradingState.STARTING else Phase.GATHERING

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
        if self.state.unread:
            self._unread.look()
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
        wanted = self.rules.cadence.covariance
        if (asked := question(state, self.strategy, covariance=wanted)) is not None:
            self._out.append(asked)
            state.phase = Phase.ESTIMATING
        elif cadence.decides_at(instant):
            self._decide()

    def _estimates_ready(self, estimates: Estimates) -> None:
        state = self.state
        if state.phase is not Phase.ESTIMATING or estimates.as_of_ms != state.instant_ms:
            return  # an answer to a question that is no longer open is not used
        if estimates.covariance is not None:
            self._holds.predicted(estimates.covariance)
        state.take(estimates)
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
            nothing = f"equity is {state.book.equity:.2f}, nothing is left"
            self._halt(state.instant_ms, state.halted_why or nothing)
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
        record = orders.fill(fill.order_id, fill.trade_id, fill.quantity, fill.at_ms)
        if record is None:
            # A fill of an order we hold closed is still the venue's truth: it moves the book.
            was = self._account.filled(fill)
            if not self._forced.took(fill, self._trader) and fill.order_id not in orders.ended:
                self._account.foreign.filled(fill, "an order that is not ours", was)
            return
        if fill.index == OUTSIDE:  # of an order that closes what is beside the universe
            book.fill_outside(fill)
            self.state.outside_tries.pop(fill.key, None)
            return
        quantity = record.size if fill.quantity == record.order.quantity else float(fill.quantity)
        order, shortfall = record.order, book.shortfall
        book.fill(fill, quantity, order.reference_price, reserved=True)
        notional, shortfall = abs(quantity) * order.reference_price, book.shortfall - shortfall
        fee = float(fill.fee)
        if fill.other_currency:
            fee += float(fill.other_fee) * price_of(fill.other_currency, book.universe, book.prices)
        self._costs.took(order, book.universe, notional, shortfall, fee)
        if book.equity > 0:
            self.state.paid[order.index] += (shortfall + fee) / book.equity
        if record.filled != record.order.quantity and record.is_overfilled:
            order_id, size = record.order.order_id, record.order.quantity
            self._halt(fill.at_ms, f"order {order_id} of {size}: venue filled {record.filled}")
        if fill.index != record.order.index:
            whose = f"order {fill.order_id}, which is for {record.order.key}"
            was = book.ledger.quantity(fill.key) - fill.quantity
            self._account.foreign.filled(fill, whose, was)
        if self.state.trading is not _TRADING or self.state.paused:
            self._trader.withdraw(record)

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
        if record is None:
            self._account.strangers.ended(order_id)
        elif record.order.index != OUTSIDE:
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
        state.unread.clear()
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
        """Stop trading until a resume; what rests is taken back, and the first reason stays."""
        if self.state.trading is not TradingState.STARTING:  # then only the start halts
            self.state.trading = TradingState.HALTED
        self.state.halted_why = self.state.halted_why or why
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
                state.halted_why = event.reason or "killed by the operator"  # the last word
                self._halt(event.at_ms, state.halted_why)
            case OperatorAction.RELOAD:
                self._reload(event.rules)
            case _:
                assert_never(event.action)

    def _resume(self) -> None:
        state = self.state
        state.paused = state.operator_reduce_only = state.flattening = False
        state.stale_decisions = 0
        self._losses.forget()
        self._unread.patient_again()
        state.halted_why = ""
        # a start reconciles anyway
        if state.trading in (TradingState.HALTED, TradingState.REDUCE_ONLY):
            state.trading = TradingState.RECONCILING
            self._doubts.ask_all()
            self._account.reconcile()
