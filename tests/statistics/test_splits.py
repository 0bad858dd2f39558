"""Hold purged combinations to rows written out by hand, to skfolio, and to the no-overlap rule."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skfolio.model_selection import CombinatorialPurgedCV

from daemon.domain.failures import InvariantViolated
from daemon.statistics.splits import assemble_paths, combinatorial_splits, path_count


@pytest.mark.parametrize(
    ("groups", "test_groups", "splits", "paths"), [(6, 2, 15, 5), (10, 2, 45, 9), (8, 4, 70, 35)]
)
def test_splits_and_paths_are_as_many_as_the_worked_figures(
    groups: int, test_groups: int, splits: int, paths: int
) -> None:
    seen = combinatorial_splits(120, groups=groups, test_groups=test_groups, horizon=0, embargo=0)
    assert (len(seen), path_count(groups, test_groups)) == (splits, paths)
    assert {path for split in seen for path in split.paths} == set(range(paths))


def test_the_rows_of_the_docstring_are_left_out() -> None:
    second = combinatorial_splits(12, groups=4, test_groups=1, horizon=1, embargo=2)[1]
    assert second.tests[0].tolist() == [3, 4, 5]
    assert second.train.tolist() == [0, 1, 8, 9, 10, 11]


def test_two_test_groups_and_their_paths_are_as_written_by_hand() -> None:
    # pairs in order: 01, 02, 12
    seen = combinatorial_splits(6, groups=3, test_groups=2, horizon=0, embargo=0)
    assert [split.groups for split in seen] == [(0, 1), (0, 2), (1, 2)]
    assert [split.train.tolist() for split in seen] == [[4, 5], [2, 3], [0, 1]]
    assert [split.paths for split in seen] == [(0, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize(("groups", "test_groups"), [(6, 2), (8, 4), (5, 3)])
@pytest.mark.parametrize(("horizon", "embargo"), [(0, 0), (1, 1), (2, 5)])
def test_splits_equal_those_of_skfolio(
    groups: int, test_groups: int, horizon: int, embargo: int
) -> None:
    T = groups * 12
    theirs = CombinatorialPurgedCV(
        n_folds=groups,
        n_test_folds=test_groups,
        purged_size=horizon,
        embargo_size=embargo - horizon,
    )
    ours = combinatorial_splits(
        T, groups=groups, test_groups=test_groups, horizon=horizon, embargo=embargo
    )
    for mine, (train, tests) in zip(ours, theirs.split(np.zeros((T, 1))), strict=True):
        assert mine.train.tolist() == train.tolist()
        assert [rows.tolist() for rows in mine.tests] == [rows.tolist() for rows in tests]
    assert [list(split.paths) for split in ours] == theirs.get_path_ids().tolist()


@settings(max_examples=60)
@given(data=st.data())
def test_no_training_label_meets_a_test_label(data: st.DataObject) -> None:
    groups = data.draw(st.integers(2, 6))
    test_groups = data.draw(st.integers(1, groups - 1))
    horizon = data.draw(st.integers(0, 3))
    embargo = horizon + data.draw(st.integers(0, 2))
    T = data.draw(st.integers(groups * 12, 90))
    seen = combinatorial_splits(
        T, groups=groups, test_groups=test_groups, horizon=horizon, embargo=embargo
    )
    for split in seen:
        under_test = np.concatenate(split.tests)
        gaps = np.abs(split.train[:, None] - under_test)  # intervals [t, t + H] meet within H
        assert gaps.min() > horizon
        for rows in split.tests:
            embargoed = np.arange(rows[-1] + 1, min(rows[-1] + 1 + embargo, T))
            assert not np.isin(split.train, embargoed).any()


def test_paths_hold_each_row_once_with_the_result_of_the_split_that_tested_it() -> None:
    splits = combinatorial_splits(13, groups=4, test_groups=2, horizon=1, embargo=1)
    results = [
        [1_000.0 * number + rows.astype(np.float64) for rows in split.tests]
        for number, split in enumerate(splits)
    ]
    paths = assemble_paths(splits, results, 13)
    assert paths.shape == (3, 13)
    assert (paths % 1_000 == np.arange(13)).all()
    # group 0 (rows 0 to 3) is tested in splits 0, 1, 2; group 3 in splits 2, 4, 5
    assert (paths[:, 0] // 1_000).tolist() == [0.0, 1.0, 2.0]
    assert (paths[:, 12] // 1_000).tolist() == [2.0, 4.0, 5.0]


def test_missing_or_misshapen_results_are_refused() -> None:
    splits = combinatorial_splits(12, groups=3, test_groups=1, horizon=0, embargo=0)
    results = [[rows.astype(np.float64) for rows in split.tests] for split in splits]
    with pytest.raises(InvariantViolated, match="2 results for 3 splits"):
        assemble_paths(splits, results[:2], 12)
    with pytest.raises(InvariantViolated, match="do not fill each row"):
        assemble_paths(splits[:2], results[:2], 12)
    with pytest.raises(InvariantViolated, match=r"shape \(3,\): \(4,\)"):
        assemble_paths(splits, [[np.ones(3)], *results[1:]], 12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embargo": 1}, "embargo 1: at least the horizon 2"),
        ({"test_groups": 4}, "test_groups 4: at most 3 of 4 groups"),
        ({"test_groups": 0}, "test_groups 0: at least 1"),
        ({"horizon": -1}, "horizon -1: at least 0"),
        ({"T": 3}, "T 3: at least 4"),
        ({"embargo": 40}, "leaves nothing to train on"),
    ],
)
def test_bad_input_is_refused_by_name(changed: dict[str, int], message: str) -> None:
    arguments = {"T": 40, "groups": 4, "test_groups": 1, "horizon": 2, "embargo": 2} | changed
    T = arguments.pop("T")
    with pytest.raises(InvariantViolated, match=message):
        combinatorial_splits(T, **arguments)
