"""Pieces of an instant: what waits, until when, and what becomes of it at a deadline."""

import numpy as np
import pytest

from daemon.domain.bar import Field, Flags, Floats
from daemon.domain.cleanser import ALIVE_MS, Cleanser, Early, judge_again
from daemon.domain.cleansing import CleansingRule, CleansingRules, Memory, judge, without
from tests.domain.test_cleansing import (
    ALL,
    MINUTES,
    STEP,
    T0,
    closes,
    faulty,
    judged,
    market,
    scaled,
    still,
)

N = 10


def one_by_one(
    cleanser: Cleanser, at_ms: int, bars: Floats, order: list[int]
) -> list[tuple[list[int], list[int]]]:
    """Tell one bar after another; give after each who came out, and who waits."""
    told = []
    for n in order:
        piece = np.full_like(bars, np.nan)
        piece[n] = bars[n]
        out, held, _ = cleanser.take(at_ms, piece, is_final=False)
        told.append((np.flatnonzero(out).tolist(), np.flatnonzero(held).tolist()))
    return told


def begun(rows: int, values: Floats, venues: list[int] | None = None) -> Cleanser:
    """Give a cleanser that has seen some whole instants."""
    numbers = None if venues is None else np.array(venues, dtype=np.int64)
    cleanser = Cleanser(ALL, MINUTES, Memory.empty(values.shape[1]), numbers)
    for t in range(rows):
        cleanser.take(int(closes(rows)[t]), values[t], is_final=True)
    return cleanser


def test_a_still_bar_comes_out_when_no_other_bar_can_make_it_an_outage() -> None:
    values = market(6, names=N)
    still(values, 5, 0)
    still(values, 5, 1)
    told = one_by_one(begun(5, values), int(closes(6)[5]), values[5], [0, 1, 2, 3, 4, 5])
    # 0.6 of ten are six: with five that move it can be no outage any more
    assert told == [([], [0]), ([], [0, 1]), ([2], [0, 1]), ([3], [0, 1]), ([4], [0, 1]), *told[5:]]
    assert told[5] == ([5], [0, 1])
    told = one_by_one(begun(5, values), int(closes(6)[5]), values[5], [0, 2, 3, 4, 5, 6, 1])
    assert told[5] == ([0, 6], [])
    assert told[6] == ([1], [])


def test_an_outage_that_is_certain_goes_at_once_and_so_does_what_comes_later() -> None:
    values = market(6, names=N)
    for n in range(8):
        still(values, 5, n)
    cleanser = begun(5, values)
    one_by_one(cleanser, int(closes(6)[5]), values[5], [0, 1, 2, 3, 4])
    assert cleanser.removed_n == {}
    one_by_one(cleanser, int(closes(6)[5]), values[5], [5])
    assert cleanser.removed_n == {CleansingRule.FROZEN_VENUE: 6}, "six of ten stand still"
    assert one_by_one(cleanser, int(closes(6)[5]), values[5], [6, 9]) == [([], []), ([9], [])]
    assert cleanser.removed_n == {CleansingRule.FROZEN_VENUE: 7}


def test_a_venue_that_is_down_holds_back_nothing_of_another() -> None:
    values = market(6, names=N)
    still(values, 5, 0)
    cleanser = begun(5, values, venues=[0] * 5 + [1] * 5)
    told = one_by_one(cleanser, int(closes(6)[5]), values[5], [0, 1, 2, 3, 4])
    assert [out for out, _ in told] == [[], [1], [2], [0, 3], [4]]


def test_a_column_that_nobody_took_is_not_waited_for() -> None:
    values = market(6, names=N)
    values[:, 6:] = np.nan
    for n in (0, 1):
        still(values, 5, n)
    cleanser = begun(5, values)
    at_ms = int(closes(6)[5])
    assert one_by_one(cleanser, at_ms, values[5], [0, 1, 2, 3, 4, 5])[-1] == ([5], [0, 1])
    cleanser = begun(5, values)
    cleanser.expected = np.arange(N) < 6
    assert one_by_one(cleanser, at_ms, values[5], [0, 1, 2, 3, 4, 5])[-1] == ([5], [])


def test_with_the_rule_off_no_still_bar_waits() -> None:
    values = market(2, names=3)
    still(values, 1, 0)
    rules = CleansingRules(off=frozenset({CleansingRule.FROZEN_VENUE}))
    cleanser = Cleanser(rules, MINUTES, Memory.empty(3))
    assert one_by_one(cleanser, T0, values[1], [0]) == [([0], [])]


# ---- the deadline --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stand_n", "silent_n", "is_kept"),
    [(3, 4, False), (2, 3, True), (2, 4, False), (6, 1, False), (5, 1, False), (4, 1, True)],
)
def test_at_the_deadline_a_still_bar_goes_while_its_venue_may_stand_still(
    stand_n: int, silent_n: int, is_kept: bool
) -> None:
    values = market(6, names=N)
    for n in range(stand_n):
        still(values, 5, n)
    cleanser, at_ms = begun(5, values), int(closes(6)[5])
    told = list(range(N - silent_n))
    came = {n for out, _ in one_by_one(cleanser, at_ms, values[5], told) for n in out}
    out, records, early = cleanser.decide()
    came |= set(np.flatnonzero(out).tolist())
    assert (came >= set(range(stand_n))) is is_kept
    assert came >= set(range(stand_n, N - silent_n)), "what moves never waits"
    if not is_kept:
        assert {one.rule for one in records} <= {CleansingRule.FROZEN_VENUE}
        assert cleanser.removed_n == {CleansingRule.FROZEN_VENUE: stand_n}
    if early is not None:
        assert early == Early(at_ms, tuple(range(N - silent_n, N)))
    rest = np.where((np.arange(N) < N - silent_n)[:, None], np.nan, values[5])
    out, held, _ = cleanser.take(at_ms, rest, is_final=True)
    assert np.flatnonzero(out).tolist() == list(range(N - silent_n, N)), "nothing is told twice"
    assert not held.any()


@pytest.mark.parametrize(("silent_ms", "is_kept"), [(ALIVE_MS, False), (ALIVE_MS + STEP, True)])
def test_who_was_silent_for_a_day_is_not_thought_of_at_the_deadline(
    silent_ms: int, is_kept: bool
) -> None:
    rows = silent_ms // STEP + 1
    values = market(rows, names=5)
    values[1:, 4] = np.nan
    for n in (0, 1):  # two of five and a third that is silent: it may be an outage
        still(values, rows - 1, n)
    cleanser = begun(rows - 1, values)
    at_ms = int(closes(rows)[-1])
    assert one_by_one(cleanser, at_ms, values[-1], [0, 1, 2, 3])[-1] == ([3], [0, 1])
    out, _, early = cleanser.decide()
    assert out.tolist() == [is_kept, is_kept, False, False, False]
    assert early == Early(at_ms, (4,))


def test_a_jump_is_judged_at_the_deadline_beside_those_that_came() -> None:
    values = market(6, names=N)
    for n in range(4):
        scaled(values, 5, 6, n, 10.0)
    at_ms = int(closes(6)[5])
    for order, kept in (([0, 1, 2, 3], True), ([0, 5, 6, 7], False)):
        cleanser = begun(5, values)
        told = one_by_one(cleanser, at_ms, values[5], order)
        assert 0 in told[-1][1]
        out, _, _ = cleanser.decide()
        assert bool(out[0]) is kept


def test_nothing_waits_at_a_deadline_when_all_was_told() -> None:
    values = market(2, names=4)
    cleanser = begun(2, values)
    out, records, early = cleanser.decide()
    assert not out.any()
    assert not records
    assert early is None


# ---- the record of it ----------------------------------------------------------------------------


def lived(values: Floats, late: Flags) -> tuple[Floats, list[Early], Memory]:
    """Judge live, some bars (T, N) after the deadline; give what was let through."""
    cleanser = Cleanser(ALL, MINUTES, Memory.empty(values.shape[1]))
    got, records = np.full_like(values, np.nan), list[Early]()
    for t, at_ms in enumerate(closes(len(values)).tolist()):
        rng = np.random.default_rng(t)
        when = np.where(late[t], 2, rng.integers(0, 2, values.shape[1]))
        for piece in range(3):
            if piece == 2 and late[t].any():
                out, _, early = cleanser.decide()
                got[t, out] = values[t, out]
                records += [early] if early else []
            part = np.where((when == piece)[:, None], values[t], np.nan)
            out, _, _ = cleanser.take(at_ms, part, is_final=piece == 2)
            assert np.isnan(got[t, out]).all(), "told twice"
            got[t, out] = values[t, out]
    return got, records, cleanser.memory


@pytest.mark.parametrize("seed", range(12))
def test_with_its_records_a_batch_comes_to_the_verdicts_of_the_live_run(seed: int) -> None:
    values = faulty(250, seed)
    values[~np.isfinite(values).all(axis=2)] = np.nan
    for t in range(5, 250, 5):  # a few stand still, so that verdicts hang on those that are late
        for n in range(t % 4):
            if np.isfinite(values[t - 1, n, Field.CLOSE]):
                still(values, t, n)
    late = np.random.default_rng(seed).random(values.shape[:2]) < 0.3
    got, records, memory = lived(values, late)
    row, state, parts = 0, Memory.empty(values.shape[1]), []
    at = closes(len(values))
    for early in records:
        t = int(np.searchsorted(at, early.close_ms))
        before = judge(at[row:t], values[row:t], state, ALL, MINUTES)
        again = judge_again(early, values[t], before.memory, ALL, MINUTES)
        parts += [before.removed, again.removed]
        row, state = t + 1, again.memory
    rest = judge(at[row:], values[row:], state, ALL, MINUTES)
    removed = np.concatenate([*parts, rest.removed])
    assert got.tobytes() == without(values, removed).tobytes()
    assert memory.still_n.tobytes() == rest.memory.still_n.tobytes()
    assert memory.last.tobytes() == rest.memory.last.tobytes()
    plain = judged(values).removed
    assert (plain != removed).any(), "the deadline made no difference: the test shows nothing"


@pytest.mark.parametrize("seed", range(4))
def test_where_all_came_in_time_nothing_is_judged_early(seed: int) -> None:
    values = faulty(150, seed)
    values[~np.isfinite(values).all(axis=2)] = np.nan
    got, records, _ = lived(values, np.zeros(values.shape[:2], dtype=np.bool_))
    assert records == []
    assert got.tobytes() == without(values, judged(values).removed).tobytes()
