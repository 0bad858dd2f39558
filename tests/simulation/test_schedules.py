"""Adversarial schedules: after every single fill net and beta are inside their bounds.

Unknown orders count at their worst case. A failing seed is named; `Schedule(seed).run()` repeats
the run exactly.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daemon import codec
from daemon.domain.order import OrderKind
from daemon.engine.styles import ExecutionRules, Style
from daemon.runtime.recovery import fingerprint, save_bytes
from tests.engine.chaos import exact_equal
from tests.simulation.schedules import Exposures, N, Schedule, shown

ROUNDING = 1e-9
HOURS = 4
ORDERS_MIN = 100
PASSIVE = ExecutionRules(style=Style.PASSIVE, passive_ms=60_000, passive_offset_bps=2.0)
STYLES = {
    "cross": ExecutionRules(),
    "passive": PASSIVE,
    "spread": ExecutionRules(twap_window_ms=900_000, twap_slices_n=5),
    "passive and spread": replace(PASSIVE, twap_window_ms=900_000, twap_slices_n=5),
}


def run_of(seed: int, style: str) -> Schedule:
    """Run one schedule; it raises where an order is sent twice or the engine's books break."""
    rules = STYLES[style]
    return Schedule(seed, rules_of=lambda r: replace(r, execution=rules)).run(HOURS)


def campaign(seeds: range, style: str) -> Exposures:
    """Run all seeds; fail at the first run with a fill that could lead past a bound."""
    seen, orders_n, full_n = Exposures(), 0, 0
    for seed in seeds:
        run = run_of(seed, style)
        assert max(run.seen.net) <= 1 + ROUNDING, f"seed {seed}: net {max(run.seen.net)}"
        assert max(run.seen.beta) <= 1 + ROUNDING, f"seed {seed}: beta {max(run.seen.beta)}"
        seen.net += run.seen.net
        seen.beta += run.seen.beta
        orders_n += len(run.orders)
        full_n += len(run.orders) > ORDERS_MIN
    assert full_n > 0.9 * len(seeds), f"only {full_n} runs of more than {ORDERS_MIN} orders"
    assert max(seen.net) > 0.9, "the bound on net was never approached"
    assert max(seen.beta) > 0.9, "the bound on beta was never approached"
    print(
        f"{style}: {len(seeds)} runs of {N} instruments, {orders_n} orders, {len(seen.net)} fills"
    )
    print(f"  {shown('net', seen.net)}; {shown('beta', seen.beta)}")
    return seen


@pytest.mark.parametrize("style", list(STYLES))
def test_no_fill_of_any_schedule_leaves_net_or_beta_past_its_bound(style: str) -> None:
    campaign(range(60 if style == "cross" else 25), style)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("style", list(STYLES))
def test_no_fill_of_many_schedules_leaves_net_or_beta_past_its_bound(style: str) -> None:
    campaign(range(1_000, 2_500), style)


def test_the_venue_is_as_bad_as_it_should_be() -> None:
    runs = [run_of(seed, "passive") for seed in range(4)]
    works = [work for run in runs for work in run.orders.values()]
    ends = [type(event).__name__ for work in works for event in work.story]
    assert sum(not work.arrived for work in works) > 20  # lost on the way
    assert ends.count("OrderRejected") > 20
    assert ends.count("OrderEnded") > 20
    parts = [sum(type(e).__name__ == "OrderFilled" for e in work.story) for work in works]
    assert sum(n > 1 for n in parts) > 100
    raced = [w for w in works if [type(e).__name__ for e in w.story][-2:] == RACE]
    assert len(raced) > 20
    kinds = {work.order.kind for work in works}
    assert kinds == {OrderKind.MARKET, OrderKind.LIMIT}


RACE = ["OrderFilled", "OrderEnded"]  # filled in part, and cancelled before the rest


def test_when_all_is_told_the_book_is_the_venues() -> None:
    for seed in range(4):
        run = run_of(seed, "passive")
        told = [event for work in run.orders.values() for event in work.story]
        run.say_all(told)
        held = [
            run.engine.state.book.ledger.quantity(i.key) for i in run.engine.universe.instruments
        ]
        assert held == run.held


@pytest.mark.parametrize("style", list(STYLES))
def test_a_replay_and_a_restart_from_a_snapshot_give_the_same_commands(style: str) -> None:
    run = run_of(3, style)
    again, snapshots = run.fresh(), list[tuple[int, bytes]]()
    for at_n, (event, commands) in enumerate(zip(run.events, run.commands, strict=True), start=1):
        assert list(map(fingerprint, again.process(event))) == list(map(fingerprint, commands))
        if again.quiescent and again.state.orders.submitted_n and at_n % 3 == 0:
            snapshots.append((at_n, save_bytes(again)))
    assert len(snapshots) > 3
    for at_n, raw in snapshots[:: len(snapshots) // 3]:
        later = run.fresh()
        later.restore(codec.decode(raw, dict[str, Any]))
        told = [later.process(event) for event in run.events[at_n:]]
        wanted = run.commands[at_n:]
        assert [list(map(fingerprint, c)) for c in told] == [
            list(map(fingerprint, c)) for c in wanted
        ]
        assert exact_equal(later.state.to_plain(), again.state.to_plain())
