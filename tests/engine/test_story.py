"""One long day of the engine, told as event, expected commands, next event.

Four coins at 100 USDT, 10,000 USDT of cash, decisions on the hour, forecasts that are
weights. A weight of 0.1 is 1,000 USDT or 10.00 coins. The net bound is 0.25 of equity: 2,500 USDT.
"""

from __future__ import annotations

from decimal import Decimal

from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    EstimatesMissing,
    FundingPaid,
    Operator,
    OperatorAction,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderRejected,
    OrderUncertain,
    Revised,
    Started,
    Tick,
)
from daemon.domain.portfolio import Position
from daemon.engine.risk import TradingState
from daemon.engine.state import Phase
from tests.engine.telling import Story
from tests.engine.world import (
    CASH_KEY,
    MIDNIGHT_MS,
    NAN,
    at,
    bars,
    deposit,
    fill_of,
    forecast,
    key,
    make_engine,
    snapshot,
    trading,
)

LONG_SHORT = (0.2, -0.2, 0.1, -0.1)
SMALLER = (0.1, -0.1, 0.1, -0.1)


def filled(story: Story, name: str, quantity: str | None = None, fee: str = "0") -> list[str]:
    story.trades_n += 1
    order = story.orders[name]
    return story(fill_of(order, f"trade-{story.trades_n}", quantity, fee=fee))


def accepted(story: Story, name: str) -> list[str]:
    return story(OrderAccepted(story.id(name), at(0)))


def wish(action: OperatorAction, request: str) -> Operator:
    return Operator(action, request, at(0))


def history_is_seen_but_not_traded_on(story: Story) -> None:
    # history is seen, never traded on
    assert story(Started(at(0), "first run", warming=True)) == []
    assert story(bars(1), bars(2)) == []
    assert trading(story.engine) is TradingState.STARTING


def the_first_account_found_is_ours(story: Story) -> None:
    # the venue is asked before anything else; the first account found is taken as ours
    state = story.engine.state
    assert story(Started(at(2), "first run")) == ["snapshot after 0"]
    assert trading(story.engine) is TradingState.RECONCILING
    assert story(deposit()) == []
    assert story(snapshot(cursor=1)) == []
    assert trading(story.engine) is TradingState.TRADING
    assert state.book.equity == 10_000.0


def half_past_only_refreshes_forecasts(story: Story) -> None:
    # half past: forecasts are refreshed, nothing is decided
    assert story(bars(3)) == ["estimate 01:30: 1h@01:00"]
    assert story(forecast(3, LONG_SHORT)) == []


def slices_fit_below_the_bound(story: Story) -> None:
    # two o'clock: 20 and 10 coins a side do not fit below 2,500 USDT at once, so some must wait
    state = story.engine.state
    assert story(bars(4)) == ["estimate 02:00: 1h@02:00"]
    assert story(forecast(4, LONG_SHORT)) == [
        "submit 02:00-0-1 20.00",  # high 2,000
        "submit 02:00-1-2 -20.00",  # low -2,000; the 500 left are less than a quarter: no crumbs
    ]
    assert accepted(story, "02:00-0-1") == []
    # bought 20: net 2,000, so there is room for all of the other sale
    assert filled(story, "02:00-0-1") == ["submit 02:00-3-3 -10.00"]
    assert state.book.net == 2_000.0
    # sold 5 of 20: high 1,500; what fits leaves something for the costs of all that is out
    assert filled(story, "02:00-1-2", "-5") == ["submit 02:00-2-4 9.83"]
    # sold the rest: the last child is out and the decision is complete
    assert filled(story, "02:00-1-2", "-15") == [
        "submit 02:00-2-5 0.17",
        "traded 02:00, 5 orders",
    ]
    assert filled(story, "02:00-3-3", fee="0.25") == []
    assert filled(story, "02:00-2-5") == []
    assert filled(story, "02:00-2-4", "2") == []  # 7.83 are still open
    assert state.book.net_weight_worst <= 0.25


def the_same_news_again_changes_nothing(story: Story) -> None:
    # the same news again changes nothing
    state = story.engine.state
    before = state.to_plain()
    again = fill_of(story.orders["02:00-2-4"], f"trade-{story.trades_n}", "2")
    assert story(again) == []
    assert str(state.to_plain()) == str(before)


def funding_moves_cash_once(story: Story) -> None:
    # funding moves cash once per id, and no quantity
    state = story.engine.state
    paid = FundingPaid("f1", key(0), CASH_KEY, at(5), 0.0001, Decimal("-1.50"))
    assert story(paid, paid) == []
    assert state.book.ledger.cash[CASH_KEY] == Decimal(10000) + 783 - Decimal("1.75")
    assert state.book.ledger.funding == Decimal("-1.50")


def orders_wait_for_cancels(story: Story) -> None:
    # three o'clock: what is still open is cancelled, and only then is anything sent
    state = story.engine.state
    assert story(bars(5)) == []  # the forecast of two o'clock is the newest there can be
    assert story(bars(6)) == ["estimate 03:00: 1h@03:00"]
    assert story(forecast(6, SMALLER)) == ["cancel 02:00-2-4"]
    assert state.phase is Phase.CLEARING
    assert filled(story, "02:00-2-4", "5.83") == []  # the race that a cancel can lose in part
    told = story(OrderEnded(story.id("02:00-2-4"), at(6), "cancelled"))
    # held 20, -20, 8, -10; equity 9,998.25 asks for trades of -10.00175, 10.00175, 1.99825 and
    # 0.00175: down to lots the buys miss 0.01 to a net of zero, which the first of them takes
    assert told == [
        "submit 03:00-1-1 10.01 reduce-only",
        "submit 03:00-0-2 -10.00 reduce-only",
        "submit 03:00-2-3 1.99",
        "traded 03:00, 3 orders",
    ]
    for name in ("03:00-1-1", "03:00-0-2", "03:00-2-3"):
        assert filled(story, name) == []


def a_late_estimator_is_bridged(story: Story) -> None:
    # four: the estimator is late; a forecast of one hour ago still serves
    assert story(bars(7)) == []
    assert story(bars(8)) == ["estimate 04:00: 1h@04:00"]
    assert story(EstimatesMissing(at(8), "late by 20 s")) == [
        "alert estimates_stale: late by 20 s",
        "traded 04:00, 0 orders",
    ]


def stale_forecasts_hold_and_then_reduce_only(story: Story) -> None:
    # five, six, seven: too old to act on; hold, hold, then reduce-only
    for count, bar in enumerate((10, 12, 14), start=1):
        assert story(bars(bar - 1))[0].startswith("estimate")  # the question is repeated
        assert story(EstimatesMissing(at(bar - 1), "late"))[0].startswith("alert")
        assert story(bars(bar))[0].startswith("estimate")
        when = f"{bar // 2:02}:00"
        assert story(EstimatesMissing(at(bar), "late")) == [
            "alert estimates_stale: late",
            f"held {when}, 0 orders (no usable forecast ({count} in a row))",
        ]
        expected = TradingState.TRADING if count < 3 else TradingState.REDUCE_ONLY
        assert trading(story.engine) is expected


def forecasts_come_back(story: Story) -> None:
    # eight: forecasts are back, and so is trading
    story(bars(15), EstimatesMissing(at(15), "late"))
    assert story(bars(16)) == ["estimate 08:00: 1h@08:00"]
    assert story(forecast(16, SMALLER)) == ["traded 08:00, 0 orders"]
    assert trading(story.engine) is TradingState.TRADING


def a_late_bar_fills_the_gap_only(story: Story) -> None:
    # nine: ETH is absent; the deadline comes as a Tick, the late bar only fills the gap
    story(bars(17))
    assert story(bars(18, (100.0, NAN, 100.0, 100.0), final=False)) == []
    assert story.engine.wake_ms == at(18) + 20_000
    assert story(Tick(at(18) + 19_999)) == []
    assert story(Tick(at(18) + 20_000)) == ["estimate 09:00: 1h@09:00"]
    assert story(bars(18, (NAN, 100.0, NAN, NAN), final=False)) == []
    assert story(forecast(18, SMALLER)) == ["traded 09:00, 0 orders"]


def a_revision_is_said_aloud(story: Story) -> None:
    # a bar that was used is shown otherwise later: said aloud, nothing is re-decided
    row = bars(18).values[0]
    bar = "paper:BTC/USDT:USDT bar closing 2023-11-15T09:00:00Z"
    used = "by 1 decisions, 2023-11-15T09:00:00Z to 2023-11-15T09:00:00Z"
    assert story(Revised(at(18), 0, row, row + 1.0)) == [
        "flag 0@09:00: 09:00",
        f"alert bar_revised: {bar} was revised after it was used {used}",
    ]


def pause_and_resume(story: Story) -> None:
    # pause: decisions are recorded, nothing is sent; resume asks nothing if nothing was halted
    assert story(wish(OperatorAction.PAUSE, "p1")) == []
    story(bars(19), bars(20))
    assert story(forecast(20, LONG_SHORT)) == ["held 10:00, 0 orders (paused by the operator)"]
    assert story(wish(OperatorAction.RESUME, "r1")) == []


def a_lost_answer_is_asked_about_and_then_halts(story: Story) -> None:
    # an order whose answer was lost: asked about, never sent again, then halted by name
    state = story.engine.state
    story(bars(21), bars(22))
    told = story(forecast(22, (0.2, -0.2, 0.1, -0.1)))
    assert told[:2] == ["submit 11:00-0-1 10.00", "submit 11:00-1-2 -10.00"]
    assert story(OrderRejected(story.id("11:00-1-2"), at(22), "insufficient margin")) == []
    name = story.id("11:00-0-1")
    asked_ms = at(22)
    for pause_ms in (5_000, 10_000, 20_000):
        lost = OrderUncertain(name, asked_ms, "connection reset")
        if pause_ms == 5_000:
            assert story(lost) == ["query 11:00-0-1"]  # at once
        else:  # and then further and further apart
            assert story(lost, Tick(asked_ms + pause_ms // 2 - 1)) == []
            asked_ms += pause_ms // 2
            assert story.engine.wake_ms == asked_ms
            assert story(Tick(asked_ms)) == ["query 11:00-0-1"]
    why = f"order {name} could not be resolved after 3 questions"
    assert story(OrderUncertain(name, asked_ms, "connection reset")) == [
        f"alert halted: {why}",
        f"alert order_unresolved: {why}",
    ]
    assert trading(story.engine) is TradingState.HALTED
    assert state.book.pending_up == 1_000.0  # it still counts at its worst


def halted_sends_nothing(story: Story) -> None:
    # halted: instants pass, nothing is sent, and nobody is asked for ever
    story(bars(23))
    assert story(Tick(at(23) + 20_000)) == []
    story(bars(24))
    why = story.engine.state.halted_why
    assert story(forecast(24, SMALLER)) == [f"held 12:00, 0 orders (halted: {why})"]


def resume_asks_first(story: Story) -> None:
    # the operator resumes: the venue is asked about the order and the account first
    state = story.engine.state
    assert story(wish(OperatorAction.RESUME, "r2")) == ["query 11:00-0-1", "snapshot after 1"]
    assert story(OrderAbsent(story.id("11:00-0-1"), at(24))) == []
    assert state.book.pending_up == 0.0
    held = {0: "10.00", 1: "-9.99", 2: "9.99", 3: "-10.00"}
    cash = str(state.book.ledger.cash[CASH_KEY])
    assert story(snapshot(held, cash, cursor=14)) == []
    assert trading(story.engine) is TradingState.TRADING


def reduce_only_shrinks(story: Story) -> None:
    # reduce-only: positions may shrink, none may grow
    assert story(wish(OperatorAction.REDUCE_ONLY, "o1")) == []
    story(bars(25), bars(26))
    assert story(forecast(26, (0.2, -0.05, 0.05, -0.2))) == [
        "submit 13:00-1-1 4.99 reduce-only",
        "submit 13:00-2-2 -4.99 reduce-only",
        "reduced 13:00, 2 orders (2 leg(s) left as they are: too small or not tradable)",
    ]
    assert filled(story, "13:00-1-1") == []
    assert filled(story, "13:00-2-2") == []


def flatten_in_the_middle_of_an_hour(story: Story) -> None:
    # flatten in the middle of the hour: everything out, in the same balanced slices
    state = story.engine.state
    assert story(wish(OperatorAction.RESUME, "r3")) == ["snapshot after 14"]
    held = {0: "10.00", 1: "-5.00", 2: "5.00", 3: "-10.00"}
    story(snapshot(held, str(state.book.ledger.cash[CASH_KEY]), cursor=16))
    told = story(wish(OperatorAction.FLATTEN, "f1"))
    assert len(told) == 5
    assert sorted(t.split(" ")[2] for t in told[:4]) == ["-10.00", "-5.00", "10.00", "5.00"]
    assert told[4] == "reduced 13:00, 4 orders (flattened by the operator)"
    for name_of_order in list(story.orders)[-4:]:
        assert filled(story, name_of_order) == []
    assert {p.quantity for p in state.book.ledger.positions.values()} == {Decimal(0)}
    assert story(wish(OperatorAction.FLATTEN, "f1")) == []  # the same request once only


def kill(story: Story) -> None:
    # kill: everything is cancelled and nothing goes out any more
    state = story.engine.state
    story(wish(OperatorAction.RESUME, "r4"))
    story(bars(27), bars(28))
    told = story(forecast(28, SMALLER))
    assert [t.split(" ")[0] for t in told] == ["submit"] * 4 + ["traded"]
    told = story(wish(OperatorAction.KILL, "k1"))
    assert told[0] == "alert halted: killed by the operator"
    assert told[1:] == [f"cancel 14:00-{i}" for i in ("0-1", "1-2", "2-3", "3-4")]
    assert trading(story.engine) is TradingState.HALTED
    story(bars(29), bars(30))
    assert story(forecast(30, LONG_SHORT)) == [
        "held 15:00, 0 orders (halted: killed by the operator)"
    ]
    assert state.book.ledger.positions[InstrumentKey("paper", "BTC/USDT:USDT")] == Position()
    assert state.instant_ms == MIDNIGHT_MS + 15 * 3_600_000


def test_a_day_from_warm_up_to_a_kill() -> None:
    story = Story(make_engine(asks_max=3))
    history_is_seen_but_not_traded_on(story)
    the_first_account_found_is_ours(story)
    half_past_only_refreshes_forecasts(story)
    slices_fit_below_the_bound(story)
    the_same_news_again_changes_nothing(story)
    funding_moves_cash_once(story)
    orders_wait_for_cancels(story)
    a_late_estimator_is_bridged(story)
    stale_forecasts_hold_and_then_reduce_only(story)
    forecasts_come_back(story)
    a_late_bar_fills_the_gap_only(story)
    a_revision_is_said_aloud(story)
    pause_and_resume(story)
    a_lost_answer_is_asked_about_and_then_halts(story)
    halted_sends_nothing(story)
    resume_asks_first(story)
    reduce_only_shrinks(story)
    flatten_in_the_middle_of_an_hour(story)
    kill(story)
