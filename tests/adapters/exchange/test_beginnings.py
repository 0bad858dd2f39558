"""The last of the contracts that begins its bar is noticed, once, whatever comes in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.exchange.beginnings import Beginnings

N, BARS = 3, 4
rows = st.permutations([(i, b) for i in range(N) for b in range(1, BARS + 1)] * 2)


@given(rows)
def test_of_each_bar_the_last_beginning_is_told_at_most_once(
    shown: list[tuple[int, int]],
) -> None:
    beginnings, newest, told = Beginnings(), dict[int, int](), list[int]()
    for index, bar in shown:
        was = newest.get(index, 0)
        newest[index] = max(was, bar)
        if beginnings.see(index, bar, N):
            told.append(bar)
            assert len(newest) == N
            assert set(newest.values()) == {bar}
    assert told == sorted(set(told))


def test_in_order_every_bar_is_told_by_its_last() -> None:
    beginnings = Beginnings()
    for bar in range(1, BARS):
        assert [beginnings.see(i, bar, N) for i in range(N)] == [False, False, True]
        assert not any(beginnings.see(i, bar, N) for i in range(N)), "shown again"


def test_one_that_is_silent_is_waited_for() -> None:
    beginnings = Beginnings()
    assert not any(beginnings.see(i, bar, N) for bar in range(1, BARS) for i in range(N - 1))
