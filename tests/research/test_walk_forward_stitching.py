"""Stitched forecasts: what a row knows, what it is worth, and how it is scored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pytest

from daemon.domain.bar import Floats
from daemon.domain.predictions import PredictionTable, rows_of
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe, instant_ms
from daemon.research.walk_forward.combinations import score_paths
from daemon.research.walk_forward.scores import COMBINED, Score, score_table
from daemon.research.walk_forward.stitching import RawFold, RawPart, Stitched, stitch
from daemon.statistics.splits import combinatorial_splits
from strategies.forecast.alphas import Combining
from strategies.rules import RULES, Rule

Longs = npt.NDArray[np.int64]
START_MS = 1_704_067_200_000  # 2024-01-01
FRAMES = (Timeframe(60), Timeframe(120))
SYMBOLS = ("CCC", "AAA", "BBB", "DDD", "EEE")
REACH_MS, HORIZON_MS = 7 * HOUR_MS, 6 * HOUR_MS
FOLD_MS, STOP_MS = 40 * DAY_MS, 10 * DAY_MS


def truth_of(instants_ms: Longs) -> Floats:
    """Give what moves the labels at instants (M,), the same whoever asks: (M, 5)."""
    phase = instants_ms[:, None] / HOUR_MS * np.array([0.9, 1.3, 1.7, 2.3, 3.1])
    return np.asarray(np.sin(phase) * np.sqrt(2.0))


def labels(instants_ms: Longs, ic: float = 0.3) -> Floats:
    noise = np.random.default_rng(5).standard_normal((30_000, len(SYMBOLS)))
    return ic * truth_of(instants_ms) + noise[(instants_ms - START_MS) // HOUR_MS]


def part_of(start_ms: int, end_ms: int, timeframe: Timeframe, scale: float) -> RawPart:
    close_ms = np.arange(-(-start_ms // timeframe.ms) * timeframe.ms, end_ms, timeframe.ms)
    draw = np.random.default_rng(timeframe.minutes)
    errors = 0.3 * draw.standard_normal((2, len(close_ms), len(SYMBOLS)))
    members = scale * (truth_of(close_ms) + errors)
    return RawPart(close_ms, members, np.ones(members.shape[1:]))


def folds_of(scales: tuple[float, ...]) -> list[RawFold]:
    """Make folds one after the other, whose fits have these scales."""
    found = []
    for n, scale in enumerate(scales):
        test_ms = START_MS + STOP_MS + n * FOLD_MS

        def both(start_ms: int, end_ms: int, scale: float = scale) -> Mapping[Timeframe, RawPart]:
            return {t: part_of(start_ms, end_ms, t, scale) for t in FRAMES}

        stop = both(test_ms - STOP_MS, test_ms - DAY_MS)
        found.append(RawFold(test_ms, both(test_ms, test_ms + FOLD_MS), stop))
    return found


def stitched(folds: list[RawFold], ic: float = 0.3) -> Stitched:
    return stitch(
        folds,
        SYMBOLS,
        FRAMES,
        lambda at: labels(at, ic),
        reach_ms=REACH_MS,
        horizon_ms=HORIZON_MS,
    )


@pytest.fixture(scope="module")
def whole() -> Stitched:
    return stitched(folds_of((1.0, 50.0, 0.02)))


def test_the_first_fold_has_the_prior_and_later_ones_what_was_learned(whole: Stitched) -> None:
    first, second, third = whole.calibrations
    assert [c.slope for c in first] == pytest.approx([0.022] * 2, abs=0.0005)
    assert all(c.slope > 0.1 for c in second)
    assert all(
        c.slope_sd < b.slope_sd < a.slope_sd for a, b, c in zip(first, second, third, strict=True)
    )


def test_fits_of_any_scale_give_forecasts_of_one_size(whole: Stitched) -> None:
    table = whole.table
    sizes = []
    for n in (1, 2):
        begin = START_MS + STOP_MS + n * FOLD_MS
        rows = (table.as_of_ms >= begin) & (table.as_of_ms < begin + FOLD_MS)
        sizes.append(float(np.nanstd(table.mean[0, rows])))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.25)


def test_rows_are_complete_in_order_and_each_timeframe_speaks_at_its_closes(
    whole: Stitched,
) -> None:
    table = whole.table
    assert table.problem is None
    assert table.symbols == tuple(sorted(SYMBOLS))
    assert len(table) == 3 * 40 * 24 * len(SYMBOLS)
    assert np.isnan(table.mean[1, table.as_of_ms % FRAMES[1].ms != 0]).all()
    assert np.isfinite(table.mean[0]).all()
    one = table.mean[0, table.place == 0]
    raw = folds_of((1.0,))[0].test[FRAMES[0]]
    assert np.corrcoef(one[:960], raw.members.mean(axis=0)[:, 1])[0, 1] > 0.8, "AAA is column 1"
    assert [at for at, _ in table.disagreement] == [
        START_MS + STOP_MS + n * FOLD_MS for n in range(3)
    ]


def test_a_label_that_is_not_known_when_a_fold_begins_changes_nothing_in_it() -> None:
    folds = folds_of((1.0, 1.0))
    cut_ms = folds[1].test_ms

    def of(shift_from_ms: int) -> Stitched:
        def shifted(at: Longs) -> Floats:
            spread = np.array([9.0, -9.0, 3.0, -3.0, 0.0])
            return np.asarray(labels(at) + spread * (at >= shift_from_ms)[:, None])

        return stitch(folds, SYMBOLS, FRAMES, shifted, reach_ms=REACH_MS, horizon_ms=HORIZON_MS)

    plain, later = stitched(folds), of(cut_ms - REACH_MS + HOUR_MS)
    assert later.calibrations == plain.calibrations
    assert np.array_equal(later.table.prediction, plain.table.prediction)
    known = of(cut_ms - REACH_MS)
    assert known.calibrations[1] != plain.calibrations[1], "the last one that was known counts"


def test_a_later_fold_changes_no_row_before_it(whole: Stitched) -> None:
    short = stitched(folds_of((1.0, 50.0)))
    n = len(short.table)
    for name in ("as_of_ms", "place", "prediction", "mean", "variance"):
        ours, theirs = getattr(short.table, name), getattr(whole.table, name)[..., :n]
        assert np.array_equal(ours, theirs, equal_nan=True), name


def test_each_fold_reads_its_forecasts_by_what_the_tests_before_it_taught(whole: Stitched) -> None:
    first, second, third = (one.reading for one in whole.learned)
    assert (first.scale, first.outcome_variance, first.up) == (1.0, 1.0, ())
    # outcomes are 0.3 truth + noise, less their mean over five: variance 1.09 * 4/5, less skill
    assert second.outcome_variance == pytest.approx(0.85, abs=0.1)
    assert third.up[0] < 0.4 < 0.6 < third.up[-1]
    assert [at for at, _ in whole.table.readings] == [at for at, _ in whole.table.disagreement]
    assert [reading for _, reading in whole.table.readings] == [first, second, third]
    slopes = [tuple(c.slope for c in fold) for fold in whole.calibrations]
    assert [one.reading.slopes for one in whole.learned] == slopes


def test_the_rule_is_chosen_by_the_tests_before_and_by_no_other() -> None:
    folds = folds_of((1.0, 1.0))
    found = stitched(folds)
    assert found.learned[0].reading.rule == Rule.STRENGTH
    assert found.learned[0].contenders == (), "before the first test nothing was seen"
    contenders = {one.rule: one for one in found.learned[1].contenders}
    assert list(contenders) == list(RULES)
    assert contenders["strength"].lead == 0.0
    settled = (FOLD_MS - REACH_MS) // HOUR_MS + 1
    assert {one.instants for one in contenders.values()} == {settled}
    cut_ms = folds[1].test_ms
    late = stitch(
        folds,
        SYMBOLS,
        FRAMES,
        lambda at: np.where((at > cut_ms - REACH_MS)[:, None], -9.0 * truth_of(at), labels(at)),
        reach_ms=REACH_MS,
        horizon_ms=HORIZON_MS,
    )
    same = str(late.learned) == str(found.learned)  # as text: an unknown t is no number
    assert same, "labels that were not known choose nothing"


@pytest.mark.parametrize("rule", [Rule.MEAN, Rule.GRINOLD_KAHN, Rule.KALMAN])
def test_under_every_rule_the_future_leaves_the_table_before_as_it_was(rule: Rule) -> None:
    def of(scales: tuple[float, ...]) -> Stitched:
        return stitch(
            folds_of(scales),
            SYMBOLS,
            FRAMES,
            labels,
            reach_ms=REACH_MS,
            horizon_ms=HORIZON_MS,
            how=Combining(rule=rule),
        )

    short, long = of((1.0,)), of((1.0, -3.0))
    n = len(short.table)
    assert {one.reading.rule for one in long.learned} == {str(rule)}
    assert all(one.contenders == () for one in long.learned)
    assert short.table.prediction.tobytes() == long.table.prediction[:n].tobytes()
    assert short.table.readings == long.table.readings[:1]
    assert short.table.readings != long.table.readings


# ---- scores --------------------------------------------------------------------------------------


def at(year: int, month: int, day: int, hour: int = 0) -> int:
    return instant_ms(datetime(year, month, day, hour, tzinfo=UTC))


def scores_of(forecasts: Floats, outcomes: Floats, instants: list[int]) -> dict[str, Score]:
    as_of_ms = np.array(instants, dtype=np.int64)
    unknown = np.full((1, *forecasts.shape), np.nan)
    table = rows_of(("A", "B", "C", "D"), (Timeframe(60),), as_of_ms, forecasts, unknown, unknown)
    found = score_table(table, {HORIZON_MS: outcomes}, as_of_ms, Timeframe(60))
    return {score.period: score for score in found if score.signal == COMBINED}


def test_a_table_has_rows_at_every_decision_where_no_timeframe_closed_too() -> None:
    two_hours = [
        RawFold(f.test_ms, {FRAMES[1]: f.test[FRAMES[1]]}, {FRAMES[1]: f.stop[FRAMES[1]]})
        for f in folds_of((1.0, 1.0))
    ]

    def table_of(decision: Timeframe) -> PredictionTable:
        return stitch(
            two_hours,
            SYMBOLS,
            FRAMES[1:],
            labels,
            reach_ms=REACH_MS,
            horizon_ms=HORIZON_MS,
            how=Combining(decision=decision),
        ).table

    own, hourly = table_of(FRAMES[1]), table_of(Timeframe(60))
    closed = hourly.as_of_ms % FRAMES[1].ms == 0
    assert np.array_equal(hourly.as_of_ms[closed], own.as_of_ms)
    assert np.array_equal(hourly.mean[:, closed], own.mean)
    assert np.isnan(hourly.mean[0, ~closed]).all()
    hours = np.unique(hourly.as_of_ms)
    assert (np.diff(hours) == HOUR_MS).all(), "also where one fit ends and the next begins"
    between, at_close = (hourly.prediction[hourly.as_of_ms == hours[n]] for n in (1, 0))
    assert np.corrcoef(between, at_close)[0, 1] > 0.99, "what was said last, an hour older"
    assert np.abs(between).max() < np.abs(at_close).max()


def test_scores_by_hand() -> None:
    instants = [at(2023, 12, 31, 23), at(2024, 1, 1), at(2024, 3, 31, 23), at(2024, 4, 1)]
    right, wrong = np.array([3.0, 1.0, -1.0, -3.0]), np.array([-3.0, -1.0, 1.0, 3.0])
    forecasts = np.array([right, right, right, wrong])
    outcomes = np.array([right, right, wrong, right])
    found = scores_of(forecasts, outcomes, instants)
    assert list(found) == ["all", "2023", "2024", "2023-Q4", "2024-Q1", "2024-Q2"]
    assert found["all"].rank_ic.mean == pytest.approx(0.0)
    assert found["all"].hit_rate == 0.5
    assert found["2024"].rank_ic.mean == pytest.approx(-1 / 3)
    assert found["2024-Q1"].rank_ic.mean == pytest.approx(0.0)
    assert found["2024-Q1"].pairs == 8
    assert found["2023"].hit_rate == 1.0
    assert np.isnan(found["2023"].rank_ic.mean), "one instant has no mean worth a figure"
    assert found["2023"].rank_ic.instants == 1
    assert {score.horizon_h for score in found.values()} == {6}


def test_a_shift_of_all_forecasts_changes_no_hit_and_zero_is_none() -> None:
    instants = [at(2024, 1, 1, hour) for hour in range(3)]
    y = np.array([[2.0, 0.0, -2.0, 0.0]] * 3)
    f = np.array([[2.0, 1.0, -2.0, -1.0]] * 3)
    plain, shifted = scores_of(f, y, instants)["all"], scores_of(f + 7.0, y, instants)["all"]
    assert plain.pairs == shifted.pairs == 6
    assert plain.hit_rate == shifted.hit_rate == 1.0


def test_rows_between_decisions_and_without_labels_do_not_count() -> None:
    instants = [at(2024, 1, 1, hour) for hour in range(4)]
    y = np.array([[2.0, 1.0, -2.0, -1.0]] * 4)
    as_of_ms = np.array(instants, dtype=np.int64)
    unknown = np.full((1, *y.shape), np.nan)
    table = rows_of(("A", "B", "C", "D"), (Timeframe(120),), as_of_ms, y, unknown, unknown)
    found = score_table(table, {HORIZON_MS: y[:3]}, as_of_ms[:3], Timeframe(120))
    assert next(s for s in found if s.signal == COMBINED).rank_ic.instants == 2
    assert next(s for s in found if s.signal == "2h").pairs == 0
    assert np.isnan(next(s for s in found if s.signal == "2h").hit_rate)


# ---- combinations --------------------------------------------------------------------------------


def test_each_path_is_the_score_of_the_forecasts_that_it_is_made_of() -> None:
    at_ms = np.arange(START_MS, START_MS + 12 * HOUR_MS, HOUR_MS, dtype=np.int64)
    splits = combinatorial_splits(12, groups=4, test_groups=2, horizon=0, embargo=0)
    y = truth_of(at_ms)
    tests = []
    for n, split in enumerate(splits):
        rows = np.concatenate(split.tests)
        sign = 1.0 if n < 3 else -1.0  # all splits that test group 0 are right
        part = RawPart(at_ms[rows], sign * 9.0 * y[None, rows], np.ones((len(rows), 5)))
        even = rows[rows % 2 == 0]
        two = RawPart(at_ms[even], np.full((1, len(even), 5), np.nan), np.ones((len(even), 5)))
        tests.append({FRAMES[0]: part, FRAMES[1]: two})
    paths = score_paths(splits, tests, at_ms, y)
    assert len(paths) == 3
    rights = [
        sum(
            len(rows)
            for n, split in enumerate(splits)
            for path, rows in zip(split.paths, split.tests, strict=True)
            if path == number and n < 3
        )
        for number in range(3)
    ]
    assert [p.rank_ic for p in paths] == pytest.approx([(2 * r - 12) / 12 for r in rights])
    assert all(path.instants == 12 for path in paths)
    assert all(np.sign(path.score_ic) == np.sign(path.rank_ic) for path in paths)


def test_an_old_forecast_is_in_no_path() -> None:
    at_ms = np.arange(START_MS, START_MS + 6 * HOUR_MS, HOUR_MS, dtype=np.int64)
    splits = combinatorial_splits(6, groups=3, test_groups=1, horizon=0, embargo=0)
    y = truth_of(at_ms)
    empty = RawPart(at_ms[:0], np.empty((1, 0, 5)), np.empty((0, 5)))
    early = RawPart(at_ms[:1] - 3 * HOUR_MS, y[None, :1], np.ones((1, 5)))
    tests = [{FRAMES[1]: part} for part in (empty, early, empty)]
    (path,) = score_paths(splits, tests, at_ms, y)
    assert (path.instants, np.isnan(path.rank_ic)) == (0, True)
