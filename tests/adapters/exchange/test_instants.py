"""Instants: what is due, what goes out when, and what turns up late."""

from __future__ import annotations

import numpy as np

from adapters.exchange.instants import Instants
from daemon.domain.bar import Floats, Proof
from daemon.domain.finality import FinalBar
from daemon.domain.messages import BarsClosed
from daemon.domain.units import HOUR_MS, Timeframe

HALF_HOUR = Timeframe(30)
T0 = 1_704_067_200_000
T1, T2, T3 = T0 + HALF_HOUR.ms, T0 + 2 * HALF_HOUR.ms, T0 + 3 * HALF_HOUR.ms


def instants(count: int = 2, listed: tuple[int | None, ...] = ()) -> Instants:
    return Instants(
        HALF_HOUR,
        T0,
        listed or (None,) * count,
        patience_s=3.0,
        late_max_ms=HOUR_MS,
        dormant_after=2,
    )


def bar(index: int, close_ms: int, close: float = 1.0) -> FinalBar:
    return FinalBar(index, close_ms, (1.0, 2.0, 0.5, close, 10.0), Proof.SUCCESSOR)


def sent(board: Instants, *, hold: int = 0, at_s: float = 0.0) -> list[BarsClosed]:
    def opens(at_ms: int) -> Floats:
        return np.array([float(at_ms), *[np.nan] * (len(board._listed_ms) - 1)])

    held, nobody = (lambda close_ms: close_ms == hold), (lambda index: False)
    return list(board.take_sendable(opens, held, nobody, at_s))


def never(index: int, close_ms: int) -> bool:
    return False


def test_an_instant_goes_out_whole_when_every_bar_is_proven() -> None:
    board = instants()
    board.reach(T1, 0.0)
    board.prove(bar(0, T1), 0.0)
    assert sent(board) == []
    board.prove(bar(1, T1), 0.0)
    (message,) = sent(board)
    assert (message.close_ms, message.final, list(message.proof)) == (T1, True, [1, 1])
    assert not board.unsent_until(T1)
    assert not board.waits_at(T1)


def test_the_stream_is_given_its_patience_before_rest_is_asked() -> None:
    board = instants()
    board.reach(T1, 10.0)
    board.prove(bar(1, T1), 10.0)
    assert board.to_ask(12.9, never) == {}
    assert board.to_ask(13.0, never) == {0: [T1]}
    assert board.to_ask(10.0, lambda index, close_ms: True) == {0: [T1]}


def test_a_denied_bar_goes_out_as_absent_and_not_final() -> None:
    board = instants()
    board.reach(T1, 0.0)
    board.prove(bar(0, T1), 0.0)
    board.deny(1, T1)
    (message,) = sent(board)
    assert not message.final
    assert list(message.proof) == [Proof.SUCCESSOR, Proof.ABSENT]
    assert np.isnan(message.values[1]).all()


def test_a_late_bar_goes_out_by_itself_and_completes_its_instant() -> None:
    board = instants()
    board.reach(T1, 0.0)
    board.prove(bar(0, T1), 0.0)
    board.deny(1, T1)
    sent(board)
    assert board.denied(T2) == {1: [T1]}
    board.prove(bar(1, T1), 1.0)
    (late,) = sent(board)
    assert (late.close_ms, late.final) == (T1, True)
    assert np.isnan(late.values[0]).all()
    assert late.values[1, 3] == 1.0
    assert np.isnan(late.opens).all()  # the open was sent with the first message
    assert board.denied(T2) == {}


def test_a_bar_asked_for_in_vain_holds_nothing_back_but_stays_open() -> None:
    board = instants()
    board.reach(T1, 0.0)
    board.prove(bar(0, T1), 0.0)
    board.asked_in_vain(1, T1, retry_s=5.0)
    (message,) = sent(board)
    assert not message.final
    assert board.waits_at(T1)
    assert board.to_ask(4.9, never) == {}
    assert board.to_ask(5.0, never) == {1: [T1]}


def test_instants_go_out_in_time_order() -> None:
    board = instants()
    board.reach(T2, 0.0)
    board.prove(bar(0, T2), 0.0)
    board.prove(bar(1, T2), 0.0)
    assert sent(board) == []
    board.prove(bar(0, T1), 0.0)
    board.prove(bar(1, T1), 0.0)
    assert [message.close_ms for message in sent(board)] == [T1, T2]


def test_an_instant_may_be_held_back_for_its_funding() -> None:
    board = instants()
    board.prove(bar(0, T1), 0.0)
    board.prove(bar(1, T1), 0.0)
    assert sent(board, hold=T1) == []
    assert [message.close_ms for message in sent(board)] == [T1]


def test_a_bar_ahead_of_our_clock_makes_its_instant_due() -> None:
    board = instants()
    board.prove(bar(0, T1), 7.0)
    assert board.waits_at(T1)
    assert board.to_ask(10.0, never) == {1: [T1]}


def test_an_instrument_is_not_expected_before_it_was_listed() -> None:
    board = instants(listed=(None, T1))
    board.reach(T2, 0.0)
    board.prove(bar(0, T1), 0.0)
    board.prove(bar(0, T2), 0.0)
    (first,) = sent(board)
    assert (first.close_ms, first.final) == (T1, True)
    board.prove(bar(1, T2), 0.0)
    assert [message.close_ms for message in sent(board)] == [T2]


def test_a_delisted_instrument_keeps_no_instant_from_being_complete() -> None:
    board = instants()
    for close_ms, final in ((T1, False), (T2, True), (T3, True)):
        board.reach(close_ms, 0.0)
        board.prove(bar(0, close_ms), 0.0)
        asked = board.to_ask(0.0, never)
        assert asked == ({1: [close_ms]} if close_ms == T3 else {})  # no patience for the dormant
        board.deny(1, close_ms)
        (message,) = sent(board)
        assert message.final is final


def test_old_instants_are_forgotten() -> None:
    board = instants()
    for step in range(1, 50):
        close_ms = T0 + step * HALF_HOUR.ms
        board.reach(close_ms, 0.0)
        board.prove(bar(0, close_ms), 0.0)
        board.deny(1, close_ms)
        sent(board)
    assert len(board._instants) <= 4
    board.prove(bar(1, T1), 0.0)  # hours too late: nothing is sent
    assert sent(board) == []


def test_a_proven_bar_of_the_newest_instant_waits_a_second_for_the_others_and_no_longer() -> None:
    board = instants(3)
    board.reach(T1, 10.0)
    board.prove(bar(0, T1), 11.0)
    assert sent(board, at_s=11.9) == []
    (early,) = sent(board, at_s=12.0)
    assert (list(early.proof), early.final) == ([1, 0, 0], False)
    board.prove(bar(1, T1), 12.1)
    assert sent(board, at_s=13.0) == []  # no message for each bar that trickles in
    (more,) = sent(board, at_s=13.1)
    assert (list(more.proof), more.final) == ([0, 1, 0], False)
    board.prove(bar(2, T1), 13.2)
    (rest,) = sent(board, at_s=13.2)
    assert (list(rest.proof), rest.final) == ([0, 0, 1], True)
    assert sent(board, at_s=99.0) == []


def test_an_instant_held_for_its_funding_is_not_split_before_it() -> None:
    board = instants()
    board.reach(T1, 0.0)
    board.prove(bar(0, T1), 0.0)
    assert sent(board, hold=T1, at_s=4.0) == []
    assert [list(message.proof) for message in sent(board, at_s=4.0)] == [[1, 0]]


def test_an_old_instant_is_not_split_and_the_newest_comes_after_it() -> None:
    board = instants()
    board.reach(T2, 0.0)
    for close_ms in (T1, T2):
        board.prove(bar(0, close_ms), 0.0)
    assert sent(board, at_s=5.0) == []
    board.asked_in_vain(1, T1, retry_s=9.0)
    assert [message.close_ms for message in sent(board, at_s=5.0)] == [T1, T2]


def test_the_end_of_an_instant_is_told_although_its_last_bar_never_came() -> None:
    """A dormant instrument, denied once more after the others went out: nothing more can come."""
    board = instants()
    for close_ms in (T1, T2):
        board.reach(close_ms, 0.0)
        board.prove(bar(0, close_ms), 0.0)
        board.deny(1, close_ms)
        sent(board)
    board.reach(T3, 0.0)
    board._denied_in_row[1] = 1
    board.prove(bar(0, T3), 0.0)
    (early,) = sent(board, at_s=1.0)
    assert not early.final
    board.deny(1, T3)
    (end,) = sent(board, at_s=1.0)
    assert (list(end.proof), end.final) == ([0, 0], True)
    assert sent(board, at_s=9.0) == []


def test_owed_bars_of_before_a_start_that_there_are_none_of_make_nobody_dormant() -> None:
    board = instants()
    closes = [T0 - 2 * HALF_HOUR.ms, T0 - HALF_HOUR.ms, T0]
    for close_ms in closes:
        board.owe(1, close_ms, 0.0)
    assert [board.deny(1, close_ms) for close_ms in closes] == [True] * 3
    assert board.denied(T0 + 1) == {1: closes[1:]}, "they are asked for again"
    board.reach(T1, 0.0)
    board.prove(bar(0, T1), 0.0)
    assert sent(board) == [], "it is waited for like the other"
