"""Adversarial schedules: after every single fill net and beta are inside their bounds.

Unknown orders count at their worst case. In a still market the bound itself holds, after every fill
and as of every order that leaves. Where prices, betas, transfers, the owner or a delisting took an
exposure past its bound, as seen at the marks of the last bar, nothing that the engine does takes it
any further. A failing seed is named; `run_of(seed)` repeats the run exactly.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random

import pytest

from daemon.domain.messages import (
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    Started,
)
from daemon.domain.order import Order, OrderId, OrderKind
from daemon.engine.risk import TradingState
from tests.engine.world import CASH, at, key
from tests.simulation.schedule_campaign import (
    BINS_N,
    PROPERTY,
    STRUCK,
    Shares,
    Table,
    campaign,
    check,
    check_reach,
    run_of,
    style_of,
    summary,
)
from tests.simulation.schedule_runs import Schedule
from tests.simulation.schedule_troubles import Troubles, drawn
from tests.simulation.schedules import HISTORY, NET_MAX, Truth, Working, universe, world

CHUNK, CHUNKS = 125, 24  # 3,000 schedules
SOAK_CHUNK, SOAK_CHUNKS = 1_250, 80  # 100,000 schedules
SOAK_FIRST = 1_000_000


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_fill_of_any_schedule_leaves_net_or_beta_past_its_bound(
    chunk: int, record_property: object
) -> None:
    assert callable(record_property)
    table = campaign(range(chunk * CHUNK, (chunk + 1) * CHUNK))
    record_property(PROPERTY, table.to_json())
    check_reach(table)
    print(table.text())


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("chunk", range(SOAK_CHUNKS))
def test_no_fill_of_many_schedules_leaves_net_or_beta_past_its_bound(
    chunk: int, record_property: object
) -> None:
    assert callable(record_property)
    first = SOAK_FIRST + chunk * SOAK_CHUNK
    table = campaign(range(first, first + SOAK_CHUNK))
    record_property(PROPERTY, table.to_json())
    check_reach(table)
    print(table.text())


# ---- the schedules themselves --------------------------------------------------------------------


def test_the_venue_is_as_bad_as_it_should_be() -> None:
    runs = [run_of(seed) for seed in (1, 3, 5, 7)]
    works = [work for run in runs for work in run.venue.orders.values()]
    kinds = {work.order.kind for work in works}
    assert kinds == {OrderKind.MARKET, OrderKind.LIMIT}
    ends = [type(event) for work in works for event in work.story]
    assert {OrderAccepted, OrderEnded, OrderFilled, OrderRejected} == set(ends)
    parts = [sum(isinstance(e, OrderFilled) for e in work.story) for work in works]
    assert sum(n > 1 for n in parts) > 100
    assert sum(not work.arrived for work in works) > 20  # lost on the way


def test_a_seed_repeats_its_run_and_another_is_another_run() -> None:
    first, again, other = run_of(5), run_of(5), run_of(21)
    assert first.truth.seen == again.truth.seen
    assert list(first.venue.orders) == list(again.venue.orders)
    assert style_of(21) == style_of(5)
    assert first.truth.seen != other.truth.seen


def test_every_style_meets_still_and_moving_markets() -> None:
    met = {(style_of(seed), drawn(seed).moves) for seed in range(CHUNK)}
    assert len(met) == 8


def test_what_an_earlier_life_left_is_ours_and_stops_nothing() -> None:
    run = Schedule(0, troubles=Troubles())  # a policy under which any stranger halts
    run.say(Started(at(HISTORY), "run"))
    run.until(at(HISTORY + 1))
    ledger = run.engine.state.book.ledger
    assert [ledger.quantity(one.key) for one in universe().instruments] == run.truth.held
    assert all(run.truth.held)
    assert run.engine.state.trading is TradingState.TRADING


def test_in_an_outage_no_answer_comes_and_orders_fill() -> None:
    seed = next(seed for seed in range(0, 800, 8) if drawn(seed).outages)
    run = run_of(seed)
    since_ms, to_ms = run.troubles.outages[0]
    fills = [e.fill.at_ms for e in run.venue.executions if isinstance(e, OrderFilled)]
    assert sum(since_ms <= at_ms < to_ms for at_ms in fills) > 0
    assert run.troubles.loss(since_ms) == 1.0
    assert run.troubles.loss(to_ms) < 1.0


def test_a_restart_in_the_middle_replays_the_same_commands_and_breaks_no_bound() -> None:
    seed = 2
    for left in (0, 2):
        crash = (at(HISTORY + 2), left)  # the daemon dies in the first decision
        run = run_of(seed, troubles=Troubles(crashes=(crash,)))
        assert run.happened["crashes"] == 1
        assert run.happened["events replayed"] > 0
        assert run.happened["orders open at a restart"] > left
        works = list(run.venue.orders.values())
        assert sum(not work.arrived and not work.story for work in works) > 0  # never left
        check(run, seed)


# ---- what measures -------------------------------------------------------------------------------


def truth_of(*held: str) -> Truth:
    market = world(0)
    rest = ["0"] * (len(market.betas) - len(held))
    return Truth(market, [Decimal(q) for q in (*held, *rest)], CASH)


def working(index: int, quantity: str) -> Working:
    name = OrderId(f"eq-{index}-{quantity}")
    kind, mark = OrderKind.MARKET, float(world(0).marks[index])
    order = Order(name, key(0), index, Decimal(quantity), kind, 0, mark, None, False, False)
    return Working(order, order.quantity)


def test_the_worst_case_of_what_is_open_is_that_of_the_worst_subset() -> None:
    truth, marks = truth_of("1"), world(0).marks
    for index, quantity in ((1, "2"), (2, "-3"), (3, "1.5")):
        truth.opens(working(index, quantity))
    up = marks[0] + 2 * marks[1] + 1.5 * marks[3]
    down = 3 * marks[2] - marks[0]
    assert truth.net.reaches == pytest.approx((up, down))
    assert truth.sent.net[-1] == pytest.approx(max(up, down) / (NET_MAX * truth.equity))


def test_a_fill_leaves_the_side_of_its_order_as_it_was_and_lifts_the_other() -> None:
    truth = truth_of()
    work = working(1, "2")
    truth.opens(work)
    up, down = truth.net.reaches
    truth.fills(work, Decimal(1), Decimal(100), Decimal(0))
    assert truth.net.reaches == pytest.approx((up, down - float(world(0).marks[1])))
    truth.closes(work)
    assert truth.net.reaches == pytest.approx((-(down - up / 2), down - up / 2))


def test_past_the_bound_nothing_may_go_further_than_where_others_put_it() -> None:
    truth, mark = truth_of(), float(world(0).marks[0])
    size = Decimal(repr(1.5 * NET_MAX * float(CASH) / mark)).quantize(Decimal("0.001"))
    truth.trades(0, size, Decimal(repr(mark)), Decimal(0))  # the owner's, past the bound
    truth.others_moved()
    truth.opens(working(1, "-0.1"))
    assert truth.sent.net[-1] == pytest.approx(1.0)
    truth.opens(working(1, "0.1"))
    assert truth.sent.net[-1] > 1.0


def test_where_others_put_it_is_forgotten_once_it_came_back() -> None:
    truth, mark = truth_of(), float(world(0).marks[0])
    size = Decimal(repr(1.5 * NET_MAX * float(CASH) / mark)).quantize(Decimal("0.001"))
    truth.trades(0, size, Decimal(repr(mark)), Decimal(0))
    truth.others_moved()
    back = working(0, str(-size))
    truth.opens(back)
    truth.fills(back, -size, Decimal(repr(mark)), Decimal(0))
    truth.opens(working(1, str(size)))
    assert truth.sent.net[-1] > 1.0


def test_what_nobody_told_yet_is_no_fault_and_counts_once_it_is_told() -> None:
    truth, mark = truth_of(), float(world(0).marks[0])
    size = Decimal(repr(0.5 * NET_MAX * float(CASH) / mark)).quantize(Decimal("0.001"))
    truth.trades(0, size, Decimal(repr(mark)), Decimal(0))
    truth.unheard["x1"] = (0, size, float(size) * truth.marks[0])
    truth.others_moved()
    truth.opens(working(0, str(size)))
    assert truth.sent.net[-1] < 1.0
    truth.unheard.clear()
    truth.others_moved()
    truth.opens(working(0, str(size)))
    assert truth.sent.net[-1] > 1.0


def test_a_fill_past_the_bound_fails_the_campaign_and_names_the_seed() -> None:
    run = run_of(4)
    check(run, 4)
    run.truth.seen.beta.append(1.001)
    with pytest.raises(AssertionError, match="seed 4: after a fill beta"):
        check(run, 4)


def test_a_trouble_that_never_strikes_fails_the_campaign() -> None:
    table = Table()
    still = table.row("cross, still")
    still.net.add([0.95])
    still.beta.add([0.95])
    table.happened.update(dict.fromkeys(STRUCK, 1))
    check_reach(table)
    del table.happened["transfers"]
    with pytest.raises(AssertionError, match="transfers"):
        check_reach(table)


def test_a_campaign_that_stays_away_from_the_bounds_fails() -> None:
    table = Table()
    table.row("cross, still").net.add([0.5])
    with pytest.raises(AssertionError, match="net came only"):
        check_reach(table)


def test_the_parts_of_a_campaign_add_up_to_the_whole() -> None:
    shares = [Random(1).random() for _ in range(5_000)]
    whole, parts = Shares(), [Shares(), Shares()]
    whole.add(shares)
    parts[0].add(shares[:1_000])
    parts[1].add(shares[1_000:])
    parts[0].merge(parts[1])
    assert parts[0] == whole
    exact = sorted(shares)[4_994]  # of 5,000 as many as 5 are larger
    assert exact <= whole.quantile(0.999) <= exact + 1 / BINS_N
    table = campaign(range(4))
    assert Table.from_json(table.to_json()) == table
    text = summary([("other", 1), (PROPERTY, table.to_json()), (PROPERTY, table.to_json())])
    twice = Table.from_json(table.to_json())
    twice.merge(table)
    assert text == twice.text()


def test_when_all_is_told_the_book_is_the_venues_to_the_last_lot() -> None:
    run = Schedule(8).run()
    check(run, 8)
    run.truth.held[3] += Decimal("0.001")
    with pytest.raises(AssertionError, match="the book is not the venue's"):
        check(run, 8)
