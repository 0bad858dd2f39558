"""Finality: what proves a bar, and that neither order nor repetition of readings matters."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.domain.bar import Proof
from daemon.domain.failures import InvariantViolated
from daemon.domain.finality import (
    FINAL_BARS_KEPT,
    BarValues,
    Contradiction,
    Correction,
    FinalBar,
    FinalityGate,
    Reading,
    Verdict,
)
from daemon.domain.units import Timeframe

HALF_HOUR = Timeframe(30)
STEP = HALF_HOUR.ms
T0 = 1_704_067_200_000


def at(place: int) -> int:
    """Give the opening instant of the bar at a place after T0."""
    return T0 + place * STEP


def row(
    place: int, close: float, volume: float, *, confirmed: bool = False, told_ms: int = 0
) -> Reading:
    """Write one reading of a bar that opened at 100."""
    values = (100.0, max(100.0, close), min(100.0, close), close, volume)
    return Reading(at(place), values, confirmed, told_ms)


def told(verdicts: Sequence[Verdict]) -> list[tuple[int, float, Proof]]:
    """List place, close price and proof of what became final."""
    return [
        ((v.close_ms - T0) // STEP - 1, v.values[3], v.proof)
        for v in verdicts
        if isinstance(v, FinalBar)
    ]


def primed_gate(*, confirms: bool = False) -> FinalityGate:
    """Make a gate whose stream has shown bar 0 forming."""
    gate = FinalityGate(1, HALF_HOUR, T0, confirms=confirms)
    assert gate.see_stream(0, [row(0, 101, 1)]) == []
    return gate


def test_a_fresh_successor_proves_the_bar_with_its_flagged_reading() -> None:
    gate = primed_gate(confirms=True)
    assert gate.see_stream(0, [row(0, 103, 5, confirmed=True), row(0, 102, 7)]) == []
    assert told(gate.see_stream(0, [row(1, 104, 1)])) == [(0, 103, Proof.SUCCESSOR)]


def test_where_nothing_is_flagged_rest_confirms_what_the_stream_showed() -> None:
    gate = primed_gate()
    gate.see_stream(0, [row(0, 103, 5)])
    assert gate.see_stream(0, [row(1, 104, 1)]) == []
    assert gate.is_suspect(0, at(1))
    answer = [row(0, 103, 5), row(1, 104, 1)]
    assert told(gate.see_reread(0, answer, read_ms=at(1))) == [(0, 103, Proof.SUCCESSOR)]


def test_where_nothing_is_flagged_a_stale_row_never_becomes_final() -> None:
    gate = primed_gate()
    gate.see_stream(0, [row(0, 103, 5)])  # and then the stream says nothing until the next bar
    assert gate.see_stream(0, [row(1, 104, 1), row(2, 104, 1)]) == []
    answer = [row(0, 109, 9), row(1, 104, 1)]
    assert told(gate.see_reread(0, answer, read_ms=at(1))) == [(0, 109, Proof.REREAD)]


@pytest.mark.parametrize("confirms", [True, False])
def test_a_row_from_the_future_is_nobodys_word(confirms: bool) -> None:
    gate = primed_gate(confirms=confirms)
    gate.reach(at(0) + 1)
    assert gate.see_stream(0, [row(48, 104, 1e6, confirmed=True)]) == []
    assert not gate.is_suspect(0, at(1))
    assert gate.see_reread(0, [row(0, 103, 5), row(48, 104, 1)], read_ms=at(0) + 1) == []
    gate.see_stream(0, [row(0, 103, 5, confirmed=True)])
    assert (told(gate.see_stream(0, [row(1, 104, 1)])) != []) == confirms


def test_of_two_flagged_rows_the_one_that_the_venue_told_later_counts_in_any_order() -> None:
    first = row(0, 103, 10, confirmed=True, told_ms=at(1) + 1)
    last = row(0, 102, 9, confirmed=True, told_ms=at(1) + 2)  # a trade was taken back
    for rows in ([first, last], [last, first], [last, first, last]):
        gate = primed_gate(confirms=True)
        for reading in rows:
            gate.see_stream(0, [reading])
        assert told(gate.see_stream(0, [row(1, 104, 1)])) == [(0, 102, Proof.SUCCESSOR)]


def test_two_flagged_rows_that_nothing_orders_are_left_to_rest() -> None:
    one, other = row(0, 103, 10, confirmed=True), row(0, 102, 9, confirmed=True)
    for rows in ([one, other], [other, one]):
        gate = primed_gate(confirms=True)
        gate.see_stream(0, rows)
        assert gate.see_stream(0, [row(1, 104, 1)]) == []
        assert gate.is_suspect(0, at(1))


def test_a_stream_that_contradicts_a_final_bar_is_a_doubt_and_never_a_correction() -> None:
    gate = primed_gate(confirms=True)
    gate.see_stream(0, [row(0, 103, 10, confirmed=True, told_ms=at(1) + 1)])
    gate.see_stream(0, [row(1, 104, 1)])
    other = row(0, 102, 9, confirmed=True, told_ms=at(1) + 2)
    assert gate.see_stream(0, [other]) == [Contradiction(0, at(1), other.values)]
    assert gate.final_values(0, at(1)) == row(0, 103, 10).values
    late = row(0, 101, 8, confirmed=True, told_ms=at(1))
    assert gate.see_stream(0, [late]) == []


def test_a_bar_told_before_the_start_may_be_corrected_too() -> None:
    gate = FinalityGate(1, HALF_HOUR, at(2))
    gate.seed(0, at(1), row(0, 103, 5).values)
    answer = [row(0, 103, 6), row(1, 101, 1), row(2, 101, 1)]
    was, now = row(0, 103, 5).values, row(0, 103, 6).values
    assert gate.see_reread(0, answer, read_ms=at(2)) == [
        Correction(0, at(1), was, now, Proof.REREAD)
    ]


def test_rows_present_at_subscription_prove_nothing() -> None:
    gate = FinalityGate(1, HALF_HOUR, T0, confirms=True)
    first = [row(0, 103, 5, confirmed=True), row(1, 104, 1)]
    assert gate.see_stream(0, first) == []
    assert gate.is_suspect(0, at(1))
    # the next successor proves bar 1, which was seen forming, but never bar 0
    rows = [row(1, 105, 2, confirmed=True), row(2, 105, 1)]
    assert told(gate.see_stream(0, rows)) == [(1, 105, Proof.SUCCESSOR)]
    assert not gate.is_final(0, at(1))


def test_a_bar_seen_before_a_broken_connection_is_not_proven_by_a_successor_after_it() -> None:
    gate = primed_gate(confirms=True)
    gate.see_stream(0, [row(0, 103, 5, confirmed=True)])
    gate.subscribed(0)
    assert gate.see_stream(0, [row(1, 104, 1, confirmed=True)]) == []
    assert gate.see_stream(0, [row(2, 104, 1)]) != []  # bar 1 is proven
    assert not gate.is_final(0, at(1))
    assert gate.is_suspect(0, at(1))


def test_a_bar_that_the_current_connection_never_showed_is_not_proven_by_it() -> None:
    gate = primed_gate(confirms=True)
    gate.see_stream(0, [row(1, 103, 5, confirmed=True)])  # bar 1 forms on the first connection
    gate.subscribed(0)
    gate.see_stream(0, [row(0, 101, 9)])  # the next one begins with an older row
    gate.see_stream(0, [row(2, 104, 1)])  # and goes past bar 1 without showing it
    assert not gate.is_final(0, at(2))


def test_a_running_row_read_by_rest_is_not_proven_by_a_stream_that_never_showed_it() -> None:
    gate = primed_gate()
    gate.see_reread(0, [row(1, 103, 5)], read_ms=at(1) + 1)
    gate.see_stream(0, [row(2, 104, 1)])
    assert not gate.is_final(0, at(2))


def test_a_stalled_forming_bar_is_a_suspect_and_not_final_where_the_venue_flags_closed_rows() -> (
    None
):
    gate = primed_gate(confirms=True)
    gate.see_stream(0, [row(0, 103, 5)])
    assert gate.see_stream(0, [row(1, 104, 1)]) == []
    assert gate.is_suspect(0, at(1))
    final = gate.see_reread(0, [row(0, 109, 9), row(1, 104, 1)], read_ms=at(1))
    assert told(final) == [(0, 109, Proof.REREAD)]


def test_a_flagged_row_is_not_final_before_its_successor() -> None:
    gate = primed_gate(confirms=True)
    assert gate.see_stream(0, [row(0, 103, 5, confirmed=True)]) == []
    assert told(gate.see_stream(0, [row(1, 104, 1)])) == [(0, 103, Proof.SUCCESSOR)]


def test_a_late_row_becomes_final_after_its_successor_was_seen() -> None:
    gate = primed_gate(confirms=True)
    gate.see_stream(0, [row(0, 101, 2, confirmed=True)])
    assert told(gate.see_stream(0, [row(2, 105, 1)])) == [(0, 101, Proof.SUCCESSOR)]
    assert gate.is_suspect(0, at(2))
    late = gate.see_stream(0, [row(1, 102, 7, confirmed=True), row(2, 105, 2)])
    assert told(late) == [(1, 102, Proof.SUCCESSOR)]


def test_a_reread_of_the_running_bar_is_no_proof() -> None:
    gate = FinalityGate(1, HALF_HOUR, T0)
    assert gate.see_reread(0, [row(0, 103, 5)], read_ms=at(1) - 1) == []
    assert gate.see_reread(0, [row(0, 103, 5)], read_ms=at(1), grace_ms=2000) == []
    assert told(gate.see_reread(0, [row(0, 104, 6)], read_ms=at(1))) == [(0, 104, Proof.REREAD)]


@pytest.mark.parametrize("streamed", [True, False])
def test_without_its_successor_a_row_is_believed_after_another_instrument_showed_the_next_bar(
    streamed: bool,
) -> None:
    """Our clock may be wrong by more than any grace, and one answer may be of an old copy."""
    gate = FinalityGate(2, HALF_HOUR, T0)
    assert gate.see_reread(0, [row(0, 103, 5)], read_ms=at(9), grace_ms=2000) == []
    gate.reach(at(9))
    if streamed:
        gate.see_stream(1, [row(1, 100, 1)])
    else:
        gate.see_reread(1, [row(1, 100, 1)], read_ms=at(9), grace_ms=2000)
    assert gate.see_reread(0, [row(0, 103, 5)], read_ms=at(9) + 1999, grace_ms=2000) == []
    late = gate.see_reread(0, [row(0, 104, 6)], read_ms=at(9) + 2000, grace_ms=2000)
    assert told(late) == [(0, 104, Proof.REREAD)]


def test_a_row_that_another_instrument_went_past_is_not_believed_before_our_clock_agrees() -> None:
    gate = FinalityGate(2, HALF_HOUR, T0)
    gate.see_reread(1, [row(1, 100, 1)], read_ms=at(0) + 1, grace_ms=2000)  # it cannot be
    assert gate.see_reread(0, [row(0, 103, 5)], read_ms=at(1) - 1, grace_ms=2000) == []


def test_a_successor_in_the_same_answer_proves_without_grace() -> None:
    gate = FinalityGate(1, HALF_HOUR, T0)
    answer = [row(0, 103, 5), row(1, 103, 1)]
    assert told(gate.see_reread(0, answer, read_ms=at(1), grace_ms=2000)) == [
        (0, 103, Proof.REREAD)
    ]


def test_an_emitted_bar_never_changes_and_a_later_value_is_a_correction() -> None:
    gate = FinalityGate(1, HALF_HOUR, T0)
    gate.see_reread(0, [row(0, 103, 5)], read_ms=at(1))
    again = gate.see_reread(0, [row(0, 103, 5)], read_ms=at(2))
    assert again == []
    revised = gate.see_reread(0, [row(0, 103, 4)], read_ms=at(3))
    was, now = row(0, 103, 5).values, row(0, 103, 4).values
    assert revised == [Correction(0, at(1), was, now, Proof.REREAD)]
    assert gate.see_reread(0, [row(0, 103, 4)], read_ms=at(4)) == []


def test_an_old_duplicate_on_the_stream_is_no_correction() -> None:
    gate = primed_gate()
    gate.see_stream(0, [row(0, 103, 5)])
    gate.see_reread(0, [row(0, 103, 5), row(1, 103, 1)], read_ms=at(1))
    assert gate.see_stream(0, [row(0, 101, 1)]) == []


def test_bars_that_closed_before_the_start_are_never_told() -> None:
    gate = FinalityGate(1, HALF_HOUR, at(2))
    verdicts = gate.see_reread(0, [row(0, 101, 1), row(1, 101, 1), row(2, 101, 1)], read_ms=at(3))
    assert told(verdicts) == [(2, 101, Proof.REREAD)]


def test_opens_are_known_from_the_first_reading_of_the_bar_that_starts() -> None:
    gate = FinalityGate(2, HALF_HOUR, T0)
    gate.see_stream(1, [row(1, 101, 1)])
    opens = gate.opens_at(at(1))
    assert opens[1] == 100.0
    assert opens[0] != opens[0]


def test_a_long_gap_read_at_once_is_told_whole_for_every_instrument() -> None:
    bars = FINAL_BARS_KEPT + 100
    gate = FinalityGate(2, HALF_HOUR, T0)
    answer = [row(place, 101, 1) for place in range(bars)]
    for index in (0, 1):
        assert len(gate.see_reread(index, answer, read_ms=at(bars))) == bars


def test_a_row_off_the_grid_is_a_programmers_error() -> None:
    gate = FinalityGate(1, HALF_HOUR, T0)
    with pytest.raises(InvariantViolated, match="off the grid"):
        gate.see_stream(0, [Reading(T0 + 1, (1.0, 1.0, 1.0, 1.0, 1.0))])


# ---- any order -----------------------------------------------------------------------------------

BARS = 6
INSTRUMENTS = 2


def truth(seed: int) -> list[list[list[BarValues]]]:
    """Make, per instrument and bar, the readings while it forms; the last one is the bar."""
    rng = random.Random(seed)
    instruments = []
    for _ in range(INSTRUMENTS):
        bars = []
        for _ in range(BARS + 1):
            price, volume = 100.0, 0.0
            high = low = opened = price
            readings: list[BarValues] = []
            for _ in range(4):
                price += rng.choice([-1.0, 0.0, 1.0])
                high, low = max(high, price), min(low, price)
                volume += rng.choice([0.0, 1.0, 2.5])
                readings.append((opened, high, low, price, volume + 0.5 * len(readings)))
            bars.append(readings)
        instruments.append(bars)
    return instruments


Delivery = tuple[str, int, int, int]  # source, instrument, place, reading


def deliveries(seed: int, *, flags: bool) -> list[Delivery]:
    """List what the venue says: each reading on the stream (twice) and REST answers after close."""
    told: list[Delivery] = []
    for index in range(INSTRUMENTS):
        for place in range(BARS + 1):
            told += [("stream", index, place, step) for step in range(4)]
            told += [("rest", index, place, step) for step in range(3)]
        told += [("final", index, place, 3) for place in range(BARS) if not flags or place % 2]
    return told + random.Random(seed).choices(told, k=20)


def deliver(
    gate: FinalityGate, bars: list[list[list[BarValues]]], what: Delivery, *, flags: bool
) -> list[Verdict]:
    """Hand one delivery to the gate."""
    source, index, place, step = what
    values = bars[index][place][step]
    match source:
        case "stream":
            confirmed = flags and step == 3 and place < BARS
            return gate.see_stream(index, [Reading(at(place), values, confirmed)])
        case "rest":  # asked while the bar was running
            return gate.see_reread(index, [Reading(at(place), values)], read_ms=at(place) + 1)
        case _:
            return gate.see_reread(index, [Reading(at(place), values)], read_ms=at(place + 1))


def sweep(gate: FinalityGate, bars: list[list[list[BarValues]]]) -> list[Verdict]:
    """Read everything by REST at the end, as the feed does for what is missing."""
    found: list[Verdict] = []
    for index in range(INSTRUMENTS):
        answer = [Reading(at(place), bars[index][place][3]) for place in range(BARS)]
        found += gate.see_reread(index, answer, read_ms=at(BARS))
    return found


def expect_the_truth(verdicts: Sequence[Verdict], bars: list[list[list[BarValues]]]) -> None:
    finals = [v for v in verdicts if isinstance(v, FinalBar) and v.close_ms <= at(BARS)]
    got = {(v.index, (v.close_ms - T0) // STEP - 1): v.values for v in finals}
    assert len(got) == len(finals), "a bar was told twice"
    assert got == {(i, p): bars[i][p][3] for i in range(INSTRUMENTS) for p in range(BARS)}
    assert not [v for v in verdicts if isinstance(v, Correction)]


@settings(max_examples=150)
@given(seed=st.integers(0, 10_000), order_seed=st.integers(0, 10**9))
def test_any_order_with_duplicates_and_late_rows_gives_the_same_bars_where_rows_are_flagged(
    seed: int, order_seed: int
) -> None:
    shuffle = random.Random(order_seed)
    bars = truth(seed)
    gate = FinalityGate(INSTRUMENTS, HALF_HOUR, T0, confirms=True)
    order = deliveries(seed, flags=True)
    shuffle.shuffle(order)
    verdicts = [v for what in order for v in deliver(gate, bars, what, flags=True)]
    expect_the_truth(verdicts + sweep(gate, bars), bars)


@settings(max_examples=150)
@given(seed=st.integers(0, 10_000), order_seed=st.integers(0, 10**9))
def test_any_interleaving_gives_the_same_bars_where_rest_confirms_the_stream(
    seed: int, order_seed: int
) -> None:
    """One socket keeps the order of bars; everything else may be shuffled.

    Readings of one bar in any order, sources and instruments interleaved at will.
    """
    shuffle = random.Random(order_seed)
    bars = truth(seed)
    gate = FinalityGate(INSTRUMENTS, HALF_HOUR, T0)
    order = [what for what in deliveries(seed, flags=False) if what[0] != "stream"]
    shuffle.shuffle(order)
    streams: list[list[Delivery]] = []
    for index in range(INSTRUMENTS):
        stream: list[Delivery] = []
        for place in range(BARS + 1):
            part = [("stream", index, place, step) for step in (0, 1, 2, 3, 1)]
            shuffle.shuffle(part)
            stream += part
        streams.append(stream)
    queues = [*streams, order]
    verdicts: list[Verdict] = []
    while any(queues):
        queue = shuffle.choice([q for q in queues if q])
        verdicts += deliver(gate, bars, queue.pop(0), flags=False)
    expect_the_truth(verdicts + sweep(gate, bars), bars)
