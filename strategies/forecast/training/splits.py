"""Purged walk-forward folds: train, then stop, then test, always in this order of time.

Between two parts lies a gap of at least the label's reach (lag and horizon) plus an embargo, so
that no label of an earlier part is settled inside a later one.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon.domain.units import require


@dataclass(frozen=True, slots=True)
class Span:
    """Hold a half-open stretch of decisions: start <= t < end, in ms."""

    start_ms: int
    end_ms: int

    def __post_init__(self) -> None:
        require(self.start_ms < self.end_ms, f"empty span {self.start_ms}..{self.end_ms}")


@dataclass(frozen=True, slots=True)
class Fold:
    """Hold one fold: fit on train, stop early on stop, report and calibrate on test."""

    train: Span
    stop: Span
    test: Span


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
