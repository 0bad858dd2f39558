"""Split time into purged combinations of train and test (combinatorial purged cross-validation).

The T rows are cut into N groups of nearly equal length; each choice of k of them is a test set and
the rest trains: C(N, k) splits. Each group is tested in C(N-1, k-1) = k C(N, k) / N of them, which
makes as many paths through all of time (Lopez de Prado 2018, chapter 12).

A label at row t is known at t + H. Training rows whose interval [t, t + H] meets that of a test row
are purged, and so are e >= H rows after each test run (the embargo counts from its end, the purged
ones included). T=12, N=4, k=1, H=1, e=2, test group 2 (rows 3 to 5):

    row    0 1 2 3 4 5 6 7 8 9 10 11
           t t - T T T - - t t  t  t      t train, T test, - left out

These splits train on the future of some tests: good for distributions, never for headline profit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from daemon.domain.units import require
from daemon.statistics.checks import Floats, count

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Split:
    """Hold the rows of one combination; `paths` says to which path each test group belongs."""

    train: Ints
    groups: tuple[int, ...]  # the k groups under test, rising
    tests: tuple[Ints, ...]  # the rows of each of them
    paths: tuple[int, ...]  # the path that each of them is a part of


def combinatorial_splits(
    T: int, *, groups: int, test_groups: int, horizon: int, embargo: int
) -> tuple[Split, ...]:
    """Give all C(groups, test_groups) splits of T rows, in lexical order of their test groups.

    horizon: H rows that a label reaches ahead (0: known at once); embargo: e >= H rows left out
    after each test run. Raises where a split would have no training row left.
    """
    count(test_groups, "test_groups")
    most = f"{groups - 1} of {groups} groups"
    require(test_groups < groups, f"test_groups {test_groups}: at most {most} is accepted")
    count(T, "T", at_least=groups)
    count(horizon, "horizon", at_least=0)
    require(embargo >= horizon, f"embargo {embargo}: at least the horizon {horizon} is accepted")
    parts = np.array_split(np.arange(T), groups)
    tested = [0] * groups  # how often each group was tested so far, which is its next path
    splits = []
    for choice in combinations(range(groups), test_groups):
        train = _train_rows(T, [parts[g] for g in choice], horizon, embargo)
        require(
            len(train) > 0, f"testing groups {choice} leaves nothing to train on: lower embargo"
        )
        paths = tuple(tested[g] for g in choice)
        for g in choice:
            tested[g] += 1
        splits.append(Split(train, choice, tuple(parts[g] for g in choice), paths))
    return tuple(splits)


def path_count(groups: int, test_groups: int) -> int:
    """Give the number of paths, C(groups - 1, test_groups - 1)."""
    count(test_groups, "test_groups")
    require(test_groups < groups, f"test_groups {test_groups}: below groups {groups} is accepted")
    return math.comb(groups - 1, test_groups - 1)


def assemble_paths(splits: Sequence[Split], results: Sequence[Sequence[Floats]], T: int) -> Floats:
    """Put the out-of-sample results of all splits together as (paths, T).

    results: for each split, for each of its test groups, one number a row (a return, a forecast).
    Every row of every path is filled exactly once, or this raises; NaN results stay NaN.
    """
    require(len(splits) > 0, "splits is empty: all splits are needed")
    counts = f"{len(results)} results for {len(splits)} splits: equal counts are accepted"
    require(len(results) == len(splits), counts)
    width = 1 + max(path for split in splits for path in split.paths)
    paths, filled = np.full((width, T), np.nan), np.zeros((width, T), dtype=np.int64)
    for split, parts in zip(splits, results, strict=True):
        require(len(parts) == len(split.tests), f"groups {split.groups} need a result each")
        for path, rows, part in zip(split.paths, split.tests, parts, strict=True):
            fits = np.shape(part) == rows.shape
            require(fits, f"a result has shape {np.shape(part)}: {rows.shape} is accepted")
            paths[path, rows] = part
            filled[path, rows] += 1
    require(bool((filled == 1).all()), "the splits do not fill each row of each path exactly once")
    return paths


def _train_rows(T: int, tests: Sequence[Ints], horizon: int, embargo: int) -> Ints:
    kept = np.ones(T, dtype=np.bool_)
    for rows in tests:
        first, after = int(rows[0]), int(rows[-1]) + 1
        kept[max(first - horizon, 0) : after + embargo] = False
    return np.flatnonzero(kept)
