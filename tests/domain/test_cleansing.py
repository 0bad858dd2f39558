"""Judging bars: what each rule removes and what it leaves, and that no verdict sees the future."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest

from daemon.domain.bar import Field, Floats
from daemon.domain.cleanser import Cleanser
from daemon.domain.cleansing import (
    REMOVING,
    RULES,
    CleansingRule,
    CleansingRules,
    Judged,
    Memory,
    Verdict,
    judge,
    without,
)
from daemon.domain.scales import Turn
from daemon.domain.units import DAY_MS, MINUTE_MS

MINUTES = 30
STEP = MINUTES * MINUTE_MS
T0 = 19_000 * DAY_MS
ALL = CleansingRules()


def market(rows: int, names: int = 5, seed: int = 0) -> Floats:
    """Draw clean bars (T, N, 5): each opens where the one before closed."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.004, (rows, names)), axis=0))
    open_ = np.concatenate([np.full((1, names), 100.0), close[:-1]])
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.002, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.002, close.shape)))
    return np.stack([open_, high, low, close, rng.lognormal(3, 1, close.shape)], axis=-1)


def closes(rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return T0 + STEP * np.arange(1, rows + 1, dtype=np.int64)


def judged(values: Floats, rules: CleansingRules = ALL) -> Judged:
    return judge(closes(len(values)), values, Memory.empty(values.shape[1]), rules, MINUTES)


def found(values: Floats, rules: CleansingRules = ALL) -> list[tuple[int, int, str]]:
    """List verdicts as (row, instrument, rule)."""
    code = judged(values, rules).rule
    return [(t, n, str(RULES[int(code[t, n]) - 1])) for t, n in np.argwhere(code).tolist()]


def still(values: Floats, t: int, n: int) -> None:
    """Let an instrument stand where it closed, without a trade."""
    values[t, n, : Field.VOLUME] = values[t - 1, n, Field.CLOSE]
    values[t, n, Field.VOLUME] = 0.0


def scaled(values: Floats, first: int, end: int, n: int, factor: float) -> None:
    values[first:end, n, : Field.VOLUME] *= factor
    values[first:end, n, Field.VOLUME] /= factor


# ---- what each rule does -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_clean_market_is_returned_as_it_is(seed: int) -> None:
    values = market(400, seed=seed)
    result = judged(values)
    assert not result.rule.any()
    assert without(values, result.removed) is values


def test_holes_are_no_verdict() -> None:
    values = market(60)
    values[20:40, 2] = np.nan
    values[:10, 3] = np.nan
    assert found(values) == []


@pytest.mark.parametrize("standing", [5, 4, 3])
def test_bars_of_an_outage_are_removed_and_nothing_else(standing: int) -> None:
    values = market(80)
    for t in range(30, 34):
        for n in range(standing):
            still(values, t, n)
    wanted = [(t, n, "frozen_venue") for t in range(30, 34) for n in range(standing)]
    assert found(values) == wanted
    kept = without(values, judged(values).removed)
    assert np.isnan(kept[30:34, :standing]).all()
    assert np.isfinite(values).all(), "raw data stay"


def test_two_of_five_that_stand_still_are_no_outage() -> None:
    values = market(40)
    for n in (0, 1):
        still(values, 30, n)
    assert found(values) == []


def test_the_bars_of_another_venue_do_not_hide_an_outage() -> None:
    values = market(40, names=10)
    for n in range(4):
        still(values, 30, n)
    assert found(values) == []
    venues = np.array([0] * 4 + [1] * 6)
    result = judge(closes(40), values, Memory.empty(10), ALL, MINUTES, venues)
    assert np.argwhere(result.removed).tolist() == [[30, n] for n in range(4)]


def test_one_instrument_may_stand_still_for_two_hours() -> None:
    values = market(60)
    for t in range(20, 30):
        still(values, t, 1)
    values[25, 1] = np.nan  # a hole within does not begin the count anew
    rows = [24, 26, 27, 28, 29]
    assert found(values) == [(t, 1, "zero_volume") for t in rows]
    looser = CleansingRules(zero_volume_minutes_max=600)
    assert found(values, looser) == []


@pytest.mark.parametrize(
    "bar",
    [
        (100, 99, 98, 100, 1),  # high below open
        (100, 101, 100.5, 101, 1),  # low above open
        (100, 101, -1, 100, 1),
        (100, 101, 99, 100, -1),
        (100, np.inf, 99, 100, 1),
        (100, 101, np.nan, 100, 1),
        (100, 1001, 100, 101, 1),  # tenfold and back
        (100, 100, 9.9, 101 - 1, 1),
    ],
)
def test_what_no_market_does_is_removed(bar: tuple[float, ...]) -> None:
    values = market(30)
    values[10, 2] = bar
    assert found(values)[0] == (10, 2, "impossible")
    assert len(found(values)) == 1


def test_the_first_prints_of_a_listing_may_be_anywhere() -> None:
    values = market(30)
    values[:10, 2] = np.nan
    values[10, 2] = (100, 4700, 90, 120, 5)
    assert [one for one in found(values) if one[0] == 10] == [(10, 2, "wick")]


def test_a_crash_and_a_wick_are_named_and_stay() -> None:
    values = market(40, names=2)
    values[10:, 0, :4] *= 0.6
    values[10, 0] = (values[9, 0, 3], values[9, 0, 3], values[10, 0, 3] * 0.99, values[10, 0, 3], 9)
    values[20, 1, Field.LOW] *= 0.7
    assert found(values) == [(10, 0, "crash"), (20, 1, "wick")]
    assert not judged(values).removed.any()


@pytest.mark.parametrize("factor", [10.0, 1000.0, 0.1, 0.001])
def test_bars_at_another_scale_are_removed_until_the_price_is_back(factor: float) -> None:
    values = market(60)
    scaled(values, 20, 35, 1, factor)
    assert found(values) == [(t, 1, "rescaled") for t in range(20, 35)]


def test_after_a_hole_of_more_than_a_week_a_new_price_is_believed() -> None:
    values, week = market(600), 7 * 48
    scaled(values, 400, 600, 1, 10.0)
    values[400 - week + 1 : 400, 1] = np.nan
    values[400:, 1, Field.VOLUME] *= 10.0  # amounts that say no other unit: believed by volume
    assert [t for t, *_ in found(values)] == list(range(400, 407)), "within a week"
    values[400 - week : 400, 1] = np.nan
    assert found(values) == []


def test_a_bar_that_repeats_the_one_before_is_removed() -> None:
    values = market(40)
    values[21, 3] = values[20, 3]
    assert found(values) == [(21, 3, "repeated")]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_that_is_off_does_nothing(rule: CleansingRule) -> None:
    values = faulty(120, seed=3)
    rules = CleansingRules(off=frozenset({rule}))
    assert str(rule) in {name for _, _, name in found(values)}
    assert str(rule) not in {name for _, _, name in found(values, rules)}


def test_records_name_bar_rule_and_verdict() -> None:
    values = market(30)
    values[10, 2, Field.LOW] = -1.0
    values[20, 1, Field.LOW] *= 0.7
    result = judged(values)
    first, second = result.records(closes(30))
    assert (first.close_ms, first.index, first.rule) == (T0 + 11 * STEP, 2, "impossible")
    assert (first.verdict, second.verdict) == (Verdict.REMOVE, Verdict.FLAG)
    assert list(result.records(closes(30), flags=False)) == [first]


# ---- causality -----------------------------------------------------------------------------------


def faulty(rows: int, seed: int, names: int = 6) -> Floats:
    """Draw a market in which everything goes wrong somewhere."""
    rng = np.random.default_rng(seed)
    values = market(rows, names, seed)
    scaled(values, rows // 2, rows // 2 + 9, 0, 100.0)
    scaled(values, rows // 3, rows, 1, 0.5)
    values[rows // 3, 1, Field.VOLUME] = 2 * values[rows // 3 - 1, 1, Field.VOLUME]
    for t in rng.integers(1, rows, 6).tolist():
        for n in range(names - 1):
            still(values, t, n)
    for t in range(rows // 4, rows // 4 + 9):
        still(values, t, 2)
    for rule, t in enumerate(rng.integers(2, rows, 12).tolist()):
        n = int(rng.integers(3, names))
        change: Callable[[Floats], None] = CHANGES[rule % len(CHANGES)]
        change(values[t - 1 : t + 1, n])
    values[rng.random((rows, names)) < 0.05] = np.nan
    return values


def _repeat(pair: Floats) -> None:
    pair[1] = pair[0]


def _broken(pair: Floats) -> None:
    pair[1, Field.HIGH] = pair[1, Field.LOW] / 2


def _wick(pair: Floats) -> None:
    pair[1, Field.LOW] *= 0.6


def _crash(pair: Floats) -> None:
    pair[1, Field.LOW] = pair[1, Field.CLOSE] = pair[1, Field.OPEN] * 0.6


CHANGES: list[Callable[[Floats], None]] = [_repeat, _broken, _wick, _crash]


@pytest.mark.parametrize("seed", range(8))
def test_removing_the_future_changes_no_verdict(seed: int) -> None:
    values = faulty(120, seed)
    whole = judged(values).rule
    for rows in range(1, 121):
        assert (judged(values[:rows]).rule == whole[:rows]).all()


@pytest.mark.parametrize("seed", range(8))
def test_cut_anywhere_the_verdicts_are_the_same(seed: int) -> None:
    values, at = faulty(300, seed), closes(300)
    whole = judged(values)
    rng = np.random.default_rng(seed)
    memory, parts, row, turns = Memory.empty(6), [], 0, list[Turn]()
    while row < 300:
        end = row + int(rng.integers(1, 40))
        part = judge(at[row:end], values[row:end], memory, ALL, MINUTES)
        memory = part.memory
        turns += part.turns
        parts.append(part.rule)
        row = end
    assert (np.concatenate(parts) == whole.rule).all()
    for name in ("last", "last_ms", "still_n", "recent"):
        assert getattr(memory, name).tobytes() == getattr(whole.memory, name).tobytes(), name
    for one in fields(memory.doubts):
        ours, theirs = (getattr(each.doubts, one.name) for each in (memory, whole.memory))
        assert ours.tobytes() == theirs.tobytes(), one.name
    assert tuple(turns) == whole.turns


@pytest.mark.parametrize("seed", range(8))
def test_live_in_pieces_keeps_the_bars_that_the_batch_keeps(seed: int) -> None:
    values, at = faulty(150, seed), closes(150)
    values[~np.isfinite(values).all(axis=2)] = np.nan  # a feed tells whole bars
    wanted = without(values, judged(values).removed)
    rng = np.random.default_rng(seed)
    cleanser = Cleanser(ALL, MINUTES, Memory.empty(6))
    got = np.full_like(values, np.nan)
    for t in range(150):
        pieces = rng.integers(0, 3, 6)
        for piece in range(3):
            part = np.where((pieces == piece)[:, None], values[t], np.nan)
            out, _, _ = cleanser.take(int(at[t]), part, is_final=piece == 2)
            got[t, out] = values[t, out]
    assert got.tobytes() == wanted.tobytes()
    records = judged(values).records(at, flags=False)
    by_rule = [one.rule for one in records]
    assert cleanser.removed_n == {rule: by_rule.count(rule) for rule in set(by_rule)}


def test_who_moved_earlier_in_an_instant_counts_against_an_outage() -> None:
    values = market(2, names=8)
    for n in (5, 6, 7):
        still(values, 1, n)
    moving = np.where((np.arange(8) < 5)[:, None], values[1], np.nan)
    standing = np.where((np.arange(8) >= 5)[:, None], values[1], np.nan)
    at = int(closes(2)[1])
    nothing = np.full_like(moving, np.nan)
    for first, kept in ((moving, True), (nothing, False)):
        cleanser = Cleanser(ALL, MINUTES, Memory.empty(8))
        cleanser.take(at, first, is_final=False)
        out, held, _ = cleanser.take(at, standing, is_final=False)
        assert out.tolist() == [False] * 5 + [kept] * 3, "enough move whatever comes"
        assert held.tolist() == [False] * 5 + [not kept] * 3
        last, held, _ = cleanser.take(at, nothing, is_final=True)
        assert not last.any()
        assert not held.any()


def test_a_restart_knows_the_old_unit_by_the_last_marks() -> None:
    values = market(10)
    scaled(values, 0, 10, 1, 10.0)
    marks = values[0, :, Field.OPEN].copy()
    marks[1] /= 10.0
    memory = Memory.empty(5).primed(marks, T0)
    result = judge(closes(10), values, memory, ALL, MINUTES)
    assert np.argwhere(result.removed).tolist() == [[t, 1] for t in range(10)]


def test_every_rule_is_met_by_the_faulty_markets() -> None:
    met = {name for seed in range(8) for _, _, name in found(faulty(300, seed))}
    assert met == {str(rule) for rule in RULES}
    assert len(REMOVING) == 5


# ---- few instruments, crumbs of volume, and what only evidence can tell --------------------------


@pytest.mark.parametrize(("least", "is_removed"), [(2, True), (3, False), (6, False)])
def test_how_many_must_stand_still_is_a_setting(least: int, is_removed: bool) -> None:
    values = market(40)
    for n in (0, 1):
        still(values, 30, n)
    rules = CleansingRules(frozen_share=0.4, frozen_least_n=least)
    assert bool(judged(values, rules).removed.any()) is is_removed


@pytest.mark.parametrize(("names", "first"), [(2, 9), (1, 19)])
def test_an_outage_of_a_venue_with_one_or_two_instruments_is_seen(names: int, first: int) -> None:
    values = market(80, names=names)
    for t in range(40, 65):
        for n in range(names):
            still(values, t, n)
    result = judge(closes(80), values, Memory.empty(names), ALL, 1)
    rows = range(40 + first, 65)
    assert np.argwhere(result.removed).tolist() == [[t, n] for t in rows for n in range(names)]
    one = market(80, names=2)
    for t in range(40, 65):
        still(one, t, 0)
    assert not judge(closes(80), one, Memory.empty(2), ALL, 1).removed.any(), "the other trades"


def test_still_bars_that_repeat_a_crumb_of_volume_are_no_market() -> None:
    values = market(40)
    for t in range(20, 26):
        still(values, t, 2)
        values[t, 2, Field.VOLUME] = 0.001
    assert found(values) == [(t, 2, "repeated") for t in range(21, 26)]


def test_tenfold_and_back_is_believed_with_volume_or_with_the_others() -> None:
    values = market(40)
    values[:, :, Field.VOLUME] = 20.0
    values[30, 2, Field.LOW] /= 12.0
    assert found(values) == [(30, 2, "impossible")]
    busy = values.copy()
    busy[30, 2, Field.VOLUME] = 100.0
    assert found(busy) == [(30, 2, "wick")]
    together = values.copy()
    together[30, [0, 1, 3], Field.LOW] /= 2.0
    assert (30, 2, "wick") in found(together)
    assert not judged(together).removed.any()


@pytest.mark.parametrize("ratio", [2.0, 3.0, 5.0, 10.0, 15.0, 100.0, 1000.0])
@pytest.mark.parametrize("up", [True, False])
def test_a_jump_by_a_round_factor_that_nobody_shares_is_doubted(ratio: float, up: bool) -> None:
    values = market(300)
    scaled(values, 100, 300, 1, ratio if up else 1 / ratio)
    result = judged(values)
    began, ended = result.turns
    assert np.argwhere(result.removed).tolist() == [[t, 1] for t in range(100, 195)]
    assert began.doubt.since_ms == T0 + 100 * STEP
    assert began.doubt.factor == pytest.approx(1 / ratio if up else ratio)
    assert "so long" in ended.ended
    never = judged(values, CleansingRules(patience_ms=0))
    assert never.removed[100:, 1].all()


def test_what_moves_together_and_what_is_not_round_is_no_other_unit() -> None:
    values = market(60)
    values[30:, :, : Field.VOLUME] /= 2.0
    assert not judged(values).turns
    for ratio in (1.7, 2.3, 3.5, 7.0, 12.5):
        values = market(60)
        values[30:, 1, : Field.VOLUME] /= ratio
        assert not judged(values).turns, ratio


def test_as_much_volume_as_before_says_that_a_price_really_moved() -> None:
    values = market(200)
    values[100:, 1, : Field.VOLUME] /= 10.2
    result = judged(values)
    assert np.argwhere(result.removed).tolist() == [[t, 1] for t in range(100, 107)]
    assert "really moved" in result.turns[1].ended
    values[100:, 1, Field.VOLUME] = 0.0  # without a trade nothing is evidence
    values[100:, 1, : Field.VOLUME] *= np.exp(np.linspace(0, 0.01, 100))[:, None]
    assert judged(values).removed[100:, 1].all()
