"""Purged walk-forward folds: train, then stop, then test, always in this order of time.

Between two parts lies a gap of at least the label's reach (lag and horizon) plus an embargo, so
that no label of an earlier part is settled inside a later one. `combinatorial` folds train on both
sides of their tests: good for distributions, never for a headline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from daemon.domain.failures import ModelError
from daemon.domain.units import DAY_MS, require
from daemon.statistics.splits import Split, combinatorial_splits

Longs = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Span:
    """Hold a half-open stretch of decisions: start <= t < end, in ms."""

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        require(self.start_ms < self.end_ms, f"empty span {self.start_ms}..{self.end_ms}")

    def holds(self, at_ms: Longs) -> Flags:
        """Tell which of the instants (T,) lie in it."""
        return (at_ms >= self.start_ms) & (at_ms < self.end_ms)


@dataclass(frozen=True, slots=True)
class Spans:
    """Hold several stretches in the order of time, as one part of a fold."""

    parts: tuple[Span, ...]

    def __post_init__(self) -> None:
        require(len(self.parts) > 0, "a part of a fold needs at least one span")
        for one, next_ in zip(self.parts, self.parts[1:], strict=False):
            require(one.end_ms <= next_.start_ms, f"spans out of order at {next_.start_ms}")

    @property
    def start_ms(self) -> int:
        """Give the first instant."""
        return self.parts[0].start_ms

    @property
    def end_ms(self) -> int:
        """Give the end of the last stretch."""
        return self.parts[-1].end_ms

    def holds(self, at_ms: Longs) -> Flags:
        """Tell which of the instants (T,) lie in any of them."""
        return np.asarray(np.any([part.holds(at_ms) for part in self.parts], axis=0))


@dataclass(frozen=True, slots=True)
class Fold:
    """Hold one fold: fit on train, stop early on stop, report and calibrate on test."""

    train: Span | Spans
    stop: Span
    test: Span | Spans

    @property
    def learned(self) -> Span | Spans:
        """Give what a model without early stopping may learn from: both parts before the test."""
        if isinstance(self.train, Span):
            return Span(self.train.start_ms, self.stop.end_ms)
        return Spans(tuple(sorted((*self.train.parts, self.stop), key=lambda one: one.start_ms)))


def walk_forward(
    start_ms: int,
    end_ms: int,
    *,
    folds: int,
    gap_ms: int,
    stop_share: float = 0.15,
    test_share: float = 0.20,
) -> tuple[Fold, ...]:
    """Cut [start, end) into expanding folds whose tests follow each other without overlap.

    Shares are of the whole stretch and belong to all folds' tests together and to one stop part.
    Example: 0..1000, folds=2, gap=10, shares .1 and .2 give
      train 0..690, stop 700..790, test  800..900
      train 0..790, stop 800..890, test  900..1000
    (gaps are taken from the end of the earlier part). Raises InvariantViolated when a part would
    be empty.
    """
    require(folds >= 1, f"folds {folds}: at least 1")
    require(0 < stop_share + test_share < 1, "stop_share + test_share must lie between 0 and 1")
    length = end_ms - start_ms
    test_ms = int(length * test_share) // folds
    stop_ms = int(length * stop_share)
    cut = []
    for k in range(folds):
        test_start = end_ms - (folds - k) * test_ms
        stop_start = test_start - stop_ms
        cut.append(
            Fold(
                Span(start_ms, stop_start - gap_ms),
                Span(stop_start, test_start - gap_ms),
                Span(test_start, test_start + test_ms),
            )
        )
    return tuple(cut)


@dataclass(frozen=True, slots=True)
class Refits:
    """Say when models are fitted again over a stretch, and on what; all in ms.

    first_test_ms: the first instant that is forecast. every_ms: how long a fit forecasts.
    train_ms: length of the window that is learned from, None for all that came before. stop_ms:
    length of the part for early stopping. reach_ms: from a decision to where its label is known
    (lag plus horizon); embargo_ms: what is left out beyond that between two parts.
    """

    first_test_ms: int
    every_ms: int
    train_ms: int | None
    stop_ms: int
    reach_ms: int
    embargo_ms: int

    def __post_init__(self) -> None:
        require(self.every_ms > 0, f"refit every {self.every_ms} ms: must be above 0")
        require(self.stop_ms > 0, f"a stop part of {self.stop_ms} ms: must be above 0")
        require(self.reach_ms >= 0, f"a reach of {self.reach_ms} ms: must not be below 0")
        require(self.embargo_ms >= 0, f"an embargo of {self.embargo_ms} ms: must not be below 0")
        if self.train_ms is not None:
            require(self.train_ms > 0, f"a training window of {self.train_ms} ms: must be above 0")

    @property
    def gap_ms(self) -> int:
        """Give what lies between two parts: no label before it is settled after it."""
        return self.reach_ms + self.embargo_ms

    @property
    def before_ms(self) -> int:
        """Give what must lie before the first test at least, without a training window."""
        return self.stop_ms + 2 * self.gap_ms


def refit_folds(start_ms: int, end_ms: int, refits: Refits) -> tuple[Fold, ...]:
    """Cut [start, end) into one fold a refit; the tests cover [first test, end) without a hole.

    Example: 0..1000, first test 600, every 250, train 300, stop 90, reach 6, embargo 4 give
      train 190..490, stop 500..590, test 600..850
      train 440..740, stop 750..840, test 850..1000
    (10 lie between two parts). A training window begins no earlier than `start`; a rest shorter
    than half of `every_ms` is forecast by the fit before it. Raises InvariantViolated when a part
    would be empty.
    """
    require(
        start_ms + refits.before_ms < refits.first_test_ms < end_ms,
        f"a first test at {refits.first_test_ms}: it must lie after"
        f" {start_ms + refits.before_ms} and before {end_ms}",
    )
    tested = list(range(refits.first_test_ms, end_ms, refits.every_ms))
    if len(tested) > 1 and 2 * (end_ms - tested[-1]) < refits.every_ms:
        tested.pop()
    cut = []
    for test_ms, test_end in zip(tested, [*tested[1:], end_ms], strict=True):
        stop_end = test_ms - refits.gap_ms
        stop = Span(stop_end - refits.stop_ms, stop_end)
        train_end = stop.start_ms - refits.gap_ms
        begin = start_ms if refits.train_ms is None else max(start_ms, train_end - refits.train_ms)
        cut.append(Fold(Span(begin, train_end), stop, Span(test_ms, test_end)))
    return tuple(cut)


@dataclass(frozen=True, slots=True)
class Combination:
    """Hold one combinatorial fold and the split that it is of; tests are in the split's order."""

    fold: Fold
    split: Split


def combinatorial(
    at_ms: Longs, *, groups: int, test_groups: int, reach_ms: int, embargo_ms: int, stop_ms: int
) -> tuple[Combination, ...]:
    """Cut decisions `at_ms` (T,) on an even grid into all choices of test groups; see `Split`.

    Each fold's stop part is the end of its longest unbroken training stretch, with the gap before
    it. Training on the future of a test is what these folds do: they show how much a figure
    scatters, and are no record that anybody could have had. Raises ModelError where no stretch is
    long enough for that.
    """
    step = int(at_ms[1] - at_ms[0])
    require(bool((np.diff(at_ms) == step).all()), "the decisions do not lie on an even grid")
    reach, embargo = -(-reach_ms // step), -(-(reach_ms + embargo_ms) // step)
    splits = combinatorial_splits(
        len(at_ms), groups=groups, test_groups=test_groups, horizon=reach, embargo=embargo
    )
    found = []
    for split in splits:
        runs = np.split(split.train, np.flatnonzero(np.diff(split.train) > 1) + 1)
        pieces = [Span(int(at_ms[run[0]]), int(at_ms[run[-1]]) + step) for run in runs]
        longest = max(pieces, key=lambda one: one.end_ms - one.start_ms)
        length_ms, taken_ms = longest.end_ms - longest.start_ms, stop_ms + reach_ms + embargo_ms
        if length_ms <= taken_ms:
            raise ModelError(
                f"{groups} groups, {test_groups} tested: the longest stretch to learn from has"
                f" {length_ms / DAY_MS:.1f} days, of which walkforward.stop_days with the gap"
                f" before it takes {taken_ms / DAY_MS:.1f}: fewer groups, shorter parts or more"
                " bars give room"
            )
        stop = Span(longest.end_ms - stop_ms, longest.end_ms)
        cut = Span(longest.start_ms, stop.start_ms - reach_ms - embargo_ms)
        train = Spans(tuple(cut if one is longest else one for one in pieces))
        tests = [Span(int(at_ms[rows[0]]), int(at_ms[rows[-1]]) + step) for rows in split.tests]
        found.append(Combination(Fold(train, stop, Spans(tuple(tests))), split))
    return tuple(found)
