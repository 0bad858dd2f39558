"""What goes to the venue at once: never one order twice, never out of its order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import AskSnapshot, Cancel, Command, Query, Submit
from daemon.domain.order import Approved, OrderId
from daemon.runtime.lanes import ASKED_AT_ONCE, alike
from tests.adapters.journal_samples import order

KEY = InstrumentKey("paper", "A/USDT:USDT")
names = st.integers(0, 12).map(lambda n: OrderId(f"o{n}"))
questions = st.one_of(
    names.map(lambda name: Cancel(name, KEY)),
    names.map(lambda name: Query(name, KEY)),
    st.just(AskSnapshot("paper", 0)),
)
sends = st.integers(0, 99).map(lambda n: Submit(Approved(order(n, 0))))


@given(st.lists(st.one_of(questions, sends), max_size=60))
def test_runs_are_the_commands_in_their_order_and_no_order_is_in_one_twice(
    commands: list[Command],
) -> None:
    runs = list(alike(commands))
    assert [command for run in runs for command in run] == commands
    for run in runs:
        about = [one.order_id for one in run if isinstance(one, Cancel | Query)]
        assert len(set(about)) == len(about)
        assert len({type(one) for one in run}) == 1
        assert len(run) <= ASKED_AT_ONCE or not isinstance(run[0], Query)
        assert len(run) == 1 or not any(isinstance(one, AskSnapshot) for one in run)


def test_what_can_go_together_does() -> None:
    asked: list[Command] = [Query(OrderId(f"o{n}"), KEY) for n in range(ASKED_AT_ONCE + 1)]
    assert [len(run) for run in alike(asked)] == [ASKED_AT_ONCE, 1]
    cancels: list[Command] = [Cancel(OrderId(f"o{n}"), KEY) for n in range(40)]
    assert [len(run) for run in alike(cancels)] == [40], "the last leaves as soon as the first"
    orders: list[Command] = [Submit(Approved(order(n, 0))) for n in range(40)]
    assert [len(run) for run in alike(orders)] == [40]
