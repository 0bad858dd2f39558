"""Derived bars: the same to the bit for any delivery order, and never from incomplete input."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon import codec
from daemon.domain import bar_builder
from daemon.domain.bar import CrossSection, Flags, Floats, Proof
from daemon.domain.bar_builder import BarBuilder, aggregate, aggregate_all
from daemon.domain.failures import ConfigurationError, InvariantViolated
from daemon.domain.units import DAY_MS, MINUTE_MS, Timeframe

M1, M15, M30 = Timeframe(1), Timeframe(15), Timeframe(30)
H1, M90, H2 = Timeframe(60), Timeframe(90), Timeframe(120)
THREE = (H1, M90, H2)
MIDNIGHT = 19_000 * DAY_MS

Bars = dict[tuple[Timeframe, int, int], bytes]


def panel(rows: int, instruments: int, seed: int, holes: float = 0.0) -> Floats:
    """Draw bars (T, N, 5) whose volumes round differently in every order of summation."""
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0, 0.01, (rows, instruments)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.005, close.shape))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.005, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.005, close.shape)))
    volume = rng.lognormal(3, 4, close.shape)
    bars = np.stack([open_, high, low, close, volume], axis=-1)
    bars[rng.random(close.shape) < holes] = np.nan
    return bars


def present(row: Floats) -> Flags:
    """Tell which instruments of a row have a bar."""
    flags: Flags = np.logical_and.reduce(np.isfinite(row), axis=1)
    return flags


def collect(emitted: list[CrossSection], into: Bars) -> None:
    """Note each emitted bar's bytes; a second emission of one bar fails."""
    for section in emitted:
        for i in np.flatnonzero(section.present):
            name = (section.timeframe, section.close_ms, int(i))
            assert name not in into, f"{name} was emitted twice"
            assert section.proof[i] == Proof.DERIVED
            into[name] = section.values[i].tobytes()
        assert np.isnan(section.values[~section.present]).all()


def in_order(bars: Floats, source: Timeframe, timeframes: tuple[Timeframe, ...]) -> Bars:
    """Feed a panel that starts at midnight, row by row."""
    builder = BarBuilder(source, timeframes, bars.shape[1])
    result: Bars = {}
    for t, row in enumerate(bars):
        close_ms = MIDNIGHT + (t + 1) * source.ms
        collect(builder.add(close_ms, row, present(row)), result)
    return result


def batch(bars: Floats, source: Timeframe, timeframes: tuple[Timeframe, ...]) -> Bars:
    """Build the same by `aggregate_all`, which must agree with `aggregate`."""
    open_ms = MIDNIGHT + np.arange(len(bars), dtype=np.int64) * source.ms
    result: Bars = {}
    built = aggregate_all(open_ms, bars, source, timeframes)
    for timeframe, (closes, values) in zip(timeframes, built, strict=True):
        alone = aggregate(open_ms, bars, source, timeframe)
        assert closes.tolist() == alone[0].tolist()
        assert values.tobytes() == alone[1].tobytes()
        for close_ms, row in zip(closes.tolist(), values, strict=True):
            for i in np.flatnonzero(~np.isnan(row).all(axis=1)):
                result[timeframe, close_ms, int(i)] = row[i].tobytes()
    return result


def by_hand(bars: Floats, source: Timeframe, timeframe: Timeframe) -> Bars:
    """Fold with plain Python floats: the definition."""
    k = timeframe.minutes // source.minutes
    result: Bars = {}
    for bucket in range(len(bars) // k):
        rows = bars[bucket * k : (bucket + 1) * k]
        for i in range(bars.shape[1]):
            mine = rows[:, i].tolist()
            if any(math.isnan(x) for row in mine for x in row):
                continue
            volume = 0.0
            for row in mine:
                volume += row[4]
            high, low = max(row[1] for row in mine), min(row[2] for row in mine)
            bar = np.array([mine[0][0], high, low, mine[-1][3], volume])
            result[timeframe, MIDNIGHT + (bucket + 1) * timeframe.ms, i] = bar.tobytes()
    return result


def test_two_half_hours_become_the_hour_that_was_written_by_hand() -> None:
    builder = BarBuilder(M30, (H1,), 1)
    first = np.array([[10.0, 12.0, 9.0, 11.0, 5.0]])
    second = np.array([[11.0, 15.0, 10.5, 14.0, 7.0]])
    here = np.array([True])

    assert builder.add(MIDNIGHT + 30 * MINUTE_MS, first, here) == []
    (hour,) = builder.add(MIDNIGHT + 60 * MINUTE_MS, second, here)

    assert hour.timeframe == H1
    assert hour.close_ms == MIDNIGHT + 60 * MINUTE_MS
    assert hour.values.tolist() == [[10.0, 15.0, 9.0, 14.0, 12.0]]
    assert hour.proof.tolist() == [Proof.DERIVED]


@pytest.mark.parametrize("source", [M1, Timeframe(5), M15, M30])
def test_a_day_has_24_16_and_12_bars_that_close_on_the_utc_grid(source: Timeframe) -> None:
    emitted = in_order(panel(2 * DAY_MS // source.ms, 2, seed=1), source, THREE)
    for timeframe, a_day in zip(THREE, (24, 16, 12), strict=True):
        closes = [close for (of, close, i) in emitted if of == timeframe and i == 0]
        wanted = [MIDNIGHT + n * timeframe.ms for n in range(1, 2 * a_day + 1)]
        assert closes == wanted


@pytest.mark.parametrize(
    ("late_row", "minutes"),
    [
        (5, [(180, H1), (180, M90), (240, H2)]),
        (2, [(90, M90), (120, H1), (120, H2)]),  # here the longer bar closes first
    ],
)
def test_bars_that_complete_together_come_in_order_of_close_and_timeframe(
    late_row: int, minutes: list[tuple[int, Timeframe]]
) -> None:
    builder = BarBuilder(M30, (H2, H1, M90), 1)
    bars = panel(12, 1, seed=2)
    here = np.array([True])
    for t in range(12):
        if t != late_row:
            builder.add(MIDNIGHT + (t + 1) * M30.ms, bars[t], here)
    late = builder.add(MIDNIGHT + (late_row + 1) * M30.ms, bars[late_row], here)
    at = [((section.close_ms - MIDNIGHT) // MINUTE_MS, section.timeframe) for section in late]
    assert at == minutes


@pytest.mark.parametrize("instruments", [1, 2, 7])
@pytest.mark.parametrize("source", [M1, M15, M30])
def test_builder_and_batch_equal_the_plain_fold_to_the_bit(
    source: Timeframe, instruments: int
) -> None:
    bars = panel(DAY_MS // source.ms, instruments, seed=3, holes=0.002)
    plain: Bars = {}
    for timeframe in THREE:
        plain |= by_hand(bars, source, timeframe)
    assert len(plain) > 40 * instruments
    assert in_order(bars, source, THREE) == plain
    assert batch(bars, source, THREE) == plain


@settings(max_examples=60)
@given(data=st.data())
def test_any_order_subset_and_repetition_gives_the_bars_of_the_batch(data: Any) -> None:
    instruments = data.draw(st.integers(1, 3))
    bars = panel(48, instruments, seed=data.draw(st.integers(0, 99)), holes=0.03)
    cells = [(t, i) for t in range(48) for i in range(instruments)]
    again = data.draw(st.lists(st.sampled_from(cells), max_size=20))
    deliveries = data.draw(st.permutations(cells + again))
    builder = BarBuilder(M30, THREE, instruments)
    result: Bars = {}
    taken: set[tuple[int, int]] = set()
    for t, i in deliveries:
        row = bars[t].copy()
        if (t, i) in taken:
            row[i] += 1.0  # a revised repetition: the bar that was taken stays
        taken.add((t, i))
        here = (np.arange(instruments) == i) & present(bars[t])
        collect(builder.add(MIDNIGHT + (t + 1) * M30.ms, row, here), result)
    assert builder.too_late_n == 0
    assert result == batch(bars, M30, THREE)
    for timeframe in THREE:
        for close_ms in range(MIDNIGHT + timeframe.ms, MIDNIGHT + DAY_MS + 1, timeframe.ms):
            absent = builder.missing(timeframe, close_ms).tolist()
            emitted = [(timeframe, close_ms, i) in result for i in range(instruments)]
            assert absent == [not there for there in emitted]


@settings(max_examples=30)
@given(seed=st.integers(0, 99), cut=st.integers(0, 96), source=st.sampled_from([M15, M30, H1]))
def test_a_builder_restored_from_its_encoded_state_goes_on_as_if_nothing_happened(
    seed: int, cut: int, source: Timeframe
) -> None:
    timeframes = (H1, H2) if source == H1 else THREE
    rng = np.random.default_rng(seed)
    bars = panel(96, 3, seed, holes=0.05)
    order = rng.permutation(192) % 96
    one, other = BarBuilder(source, timeframes, 3), BarBuilder(source, timeframes, 3)
    for n, t in enumerate(order.tolist()):
        if n == cut:
            raw = codec.encode(one.state())
            other.restore(codec.decode(raw, dict[str, Any]))
            assert codec.encode(other.state()) == raw
        here = present(bars[t]) & (rng.random(3) < 0.7)
        emitted = one.add(MIDNIGHT + (t + 1) * source.ms, bars[t], here)
        if n < cut:
            continue
        again = other.add(MIDNIGHT + (t + 1) * source.ms, bars[t], here)
        left: Bars = {}
        right: Bars = {}
        collect(emitted, left)
        collect(again, right)
        assert left == right
        assert [s.close_ms for s in emitted] == [s.close_ms for s in again]
    assert codec.encode(one.state()) == codec.encode(other.state())


def test_state_keeps_only_the_source_bars_that_are_still_needed() -> None:
    builder = BarBuilder(M30, THREE, 2)
    bars = panel(41, 2, seed=5)
    for t in range(41):  # 20:30; the 2h bar needs the row of 20:00 to 20:30, the 90m bar as well
        builder.add(MIDNIGHT + (t + 1) * M30.ms, bars[t], np.array([True, True]))
    values = builder.state()["values"]
    assert isinstance(values, np.ndarray)
    needed = bars[39:41].reshape(-1, 5)  # 19:30 opens the 90m bar that ends at 21:00
    assert sorted(map(tuple, values.tolist())) == sorted(map(tuple, needed.tolist()))


def test_a_state_of_another_universe_is_refused() -> None:
    state = BarBuilder(M30, THREE, 2).state()
    with pytest.raises(InvariantViolated, match="saved bars are of"):
        BarBuilder(M30, THREE, 3).restore(state)


def test_an_incomplete_bar_is_never_emitted_but_reported_missing() -> None:
    builder = BarBuilder(M30, (H1,), 3)
    bars = panel(2, 3, seed=6)
    builder.add(MIDNIGHT + M30.ms, bars[0], np.array([True, False, True]))
    (hour,) = builder.add(MIDNIGHT + H1.ms, bars[1], np.array([True, True, False]))
    assert hour.present.tolist() == [True, False, False]
    assert builder.missing(H1, MIDNIGHT + H1.ms).tolist() == [False, True, True]

    (late,) = builder.add(MIDNIGHT + M30.ms, bars[0], np.array([True, True, True]))
    assert late.close_ms == MIDNIGHT + H1.ms
    assert late.present.tolist() == [False, True, False]
    assert builder.missing(H1, MIDNIGHT + H1.ms).tolist() == [False, False, True]


def test_a_bar_called_present_that_holds_no_number_counts_as_missing() -> None:
    builder = BarBuilder(M30, (H1,), 2)
    bars = panel(2, 2, seed=7)
    bars[0, 0, 0], bars[1, 1, 3] = np.nan, np.inf
    builder.add(MIDNIGHT + M30.ms, bars[0], np.array([True, True]))
    assert builder.add(MIDNIGHT + H1.ms, bars[1], np.array([True, True])) == []
    assert builder.malformed_n == 2
    assert builder.missing(H1, MIDNIGHT + H1.ms).all()
    assert batch(bars, M30, (H1,)) == {}


def test_bars_beyond_the_horizon_are_counted_and_ignored() -> None:
    builder = BarBuilder(M30, THREE, 1)
    bars = panel(2, 1, seed=8)
    here = np.array([True])
    builder.add(MIDNIGHT + 10 * DAY_MS, bars[0], here)
    assert builder.add(MIDNIGHT + 8 * DAY_MS, bars[1], here) == []
    assert builder.too_late_n == 1
    assert builder.missing(H1, MIDNIGHT + 8 * DAY_MS).all()
    # a day back is inside the horizon
    day_back = MIDNIGHT + 9 * DAY_MS
    builder.add(day_back + M30.ms, bars[0], here)
    assert len(builder.add(day_back + H1.ms, bars[1], here)) == 1


def test_after_a_silence_longer_than_the_horizon_nothing_old_leaks_into_new_bars() -> None:
    bars = panel(48, 2, seed=9)
    builder = BarBuilder(M30, THREE, 2)
    here = np.array([True, True])
    emitted: Bars = {}
    for day in (0, 7):
        for t in range(0, 48, 1 + day % 2):  # the second day lacks every other half hour
            close_ms = MIDNIGHT + day * DAY_MS + (t + 1) * M30.ms
            collect(builder.add(close_ms, bars[t], here), emitted)
    assert all(close_ms <= MIDNIGHT + DAY_MS for (_, close_ms, _) in emitted)
    assert builder.missing(H1, MIDNIGHT + 7 * DAY_MS + H1.ms).all()


def test_source_bars_of_the_wanted_length_pass_through_unchanged() -> None:
    builder = BarBuilder(H1, (H1,), 3)
    bars = panel(1, 3, seed=10)[0]
    (whole,) = builder.add(MIDNIGHT + H1.ms, bars, np.array([True, True, True]))
    assert whole.values.tobytes() == bars.tobytes()
    (part,) = builder.add(MIDNIGHT + H2.ms, bars, np.array([True, False, True]))
    assert part.present.tolist() == [True, False, True]
    assert builder.add(MIDNIGHT + H2.ms, bars, np.array([True, False, True])) == []
    assert builder.missing(H1, MIDNIGHT + H2.ms).tolist() == [False, True, False]
    (rest,) = builder.add(MIDNIGHT + H2.ms, bars, np.array([True, True, True]))
    assert rest.present.tolist() == [False, True, False]
    assert rest.values[1].tolist() == bars[1].tolist()


def test_holes_in_a_panel_leave_nan_rows_in_the_batch_and_no_shift() -> None:
    bars = panel(16, 1, seed=11)
    open_ms = MIDNIGHT + np.arange(16, dtype=np.int64) * M30.ms
    keep = np.array([t not in (0, 6, 7, 13) for t in range(16)])
    closes, values = aggregate(open_ms[keep], bars[keep], M30, H1)
    assert ((closes - MIDNIGHT) // H1.ms).tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    whole = [not np.isnan(row).any() for row in values]
    assert whole == [False, True, True, False, True, True, False, True]
    assert values[7].tobytes() == aggregate(open_ms[14:], bars[14:], M30, H1)[1].tobytes()


@pytest.mark.parametrize("rows_in_a_step", [1, 700, 100_000])
def test_the_batch_is_the_same_in_any_step_and_from_any_start(
    rows_in_a_step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = panel(3 * 1440, 2, seed=15, holes=0.0005)
    monkeypatch.setattr(bar_builder, "_CHUNK_ROWS", rows_in_a_step)
    open_ms = MIDNIGHT + np.arange(len(bars), dtype=np.int64) * M1.ms
    plain: Bars = {}
    for timeframe in THREE:
        plain |= by_hand(bars, M1, timeframe)
    for start, hole, end in ((0, 0, 4320), (77, 1111, 4000), (719, 2160, 4311)):
        keep = np.r_[start:hole, hole + 7 : end] if hole else np.r_[start:end]
        known = set(keep.tolist())
        built = aggregate_all(open_ms[keep], bars[keep], M1, THREE)
        for timeframe, (closes, values) in zip(THREE, built, strict=True):
            k = timeframe.minutes
            for close_ms, row in zip(closes.tolist(), values, strict=True):
                last = (close_ms - MIDNIGHT) // M1.ms
                complete = known.issuperset(range(last - k, last))
                for i in range(2):
                    wanted = plain.get((timeframe, close_ms, i)) if complete else None
                    assert (None if np.isnan(row[i]).all() else row[i].tobytes()) == wanted


def test_an_unfinished_last_bucket_is_no_row_of_the_batch() -> None:
    open_ms = MIDNIGHT + np.arange(3, dtype=np.int64) * M30.ms
    closes, values = aggregate(open_ms, panel(3, 2, seed=12), M30, H2)
    assert closes.tolist() == []
    assert values.shape == (0, 2, 5)
    nothing = aggregate(open_ms[:0], np.empty((0, 2, 5)), M30, H2)
    assert nothing[0].tolist() == []
    assert nothing[1].shape == (0, 2, 5)


@pytest.mark.parametrize(
    ("open_minutes", "message"),
    [([0, 30, 30], "ascend"), ([0, 60, 30], "ascend"), ([0, 30, 70], "grid"), ([10, 40], "grid")],
)
def test_a_panel_with_disordered_or_crooked_opens_is_refused(
    open_minutes: list[int], message: str
) -> None:
    open_ms = MIDNIGHT + np.array(open_minutes, dtype=np.int64) * MINUTE_MS
    with pytest.raises(InvariantViolated, match=message):
        aggregate(open_ms, panel(len(open_ms), 1, seed=13), M30, H1)


def test_a_timeframe_that_is_no_multiple_of_the_source_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"90m.*multiple.*1h"):
        BarBuilder(H1, THREE, 1)
    with pytest.raises(ConfigurationError, match="90m"):
        aggregate(np.empty(0, dtype=np.int64), np.empty((0, 1, 5)), H1, M90)


@pytest.mark.parametrize("timeframes", [(), (H1, H1)])
def test_no_timeframe_or_one_named_twice_is_a_configuration_error(
    timeframes: tuple[Timeframe, ...],
) -> None:
    with pytest.raises(ConfigurationError, match="at least one, each once"):
        BarBuilder(M30, timeframes, 1)


def test_an_instant_off_the_grid_or_an_unbuilt_timeframe_is_a_programmers_error() -> None:
    builder = BarBuilder(M30, (H1,), 1)
    bars = panel(1, 1, seed=14)[0]
    with pytest.raises(InvariantViolated, match="no close of a 30m bar"):
        builder.add(MIDNIGHT + MINUTE_MS, bars, np.array([True]))
    with pytest.raises(InvariantViolated, match="no close of a 1h bar"):
        builder.missing(H1, MIDNIGHT + M30.ms)
    with pytest.raises(InvariantViolated, match="only 1h"):
        builder.missing(H2, MIDNIGHT)


def test_an_empty_delivery_emits_nothing() -> None:
    builder = BarBuilder(M30, (H1,), 2)
    nothing = np.full((2, 5), np.nan)
    assert builder.add(MIDNIGHT, nothing, np.array([False, False])) == []
    assert builder.malformed_n == 0
