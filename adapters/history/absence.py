"""Remember which bars a venue was asked for and does not have, so as not to ask for ever.

`.NAME.absent` beside a file of bars is one JSON object with spans [first, end) of opens: `found`,
found empty by one download, with the market time of it, and `settled`, found empty again by one
that came `APART_MS` later or more. What is asked twice in a row is answered twice by the same copy
that lags, and is no second witness. It is a help, not a condition: one that cannot be believed is
as if it were not there, and all is asked for again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from adapters.history.locks import only_writer, part_of
from daemon.domain.failures import DataError
from daemon.domain.units import HOUR_MS, Timeframe

Span = tuple[int, int]
Found = tuple[int, int, int]

APART_MS: Final = 6 * HOUR_MS  # between two answers that count as two


@dataclass(frozen=True, slots=True)
class Absence:
    """Hold spans of opens without a bar: found empty once, and when; and twice, `APART_MS` apart.

    found: (first, end, market time in ms), disjoint, ascending. settled: ascending.
    """

    found: tuple[Found, ...] = ()
    settled: tuple[Span, ...] = ()

    @property
    def once(self) -> tuple[Span, ...]:
        """Give the spans that were found empty and are not settled."""
        return together((first, end) for first, end, _ in self.found)

    def found_empty(self, spans: Sequence[Span], at_ms: int) -> Absence:
        """Give what is known after a download found these spans empty at `at_ms`.

        The first time stays with a span that is found empty again too soon.
        """
        before = [(a, b) for a, b, then_ms in self.found if at_ms - then_ms >= APART_MS]
        settled = together([*self.settled, *common(before, spans)])
        fresh = without(spans, [*settled, *self.once])
        found = [(a, b, at_ms) for a, b in fresh]
        for first, end, then_ms in self.found:
            found += [(a, b, then_ms) for a, b in without([(first, end)], settled)]
        return Absence(tuple(sorted(found)), settled)


def absence_path(path: Path) -> Path:
    """Name where the absent bars of a file are remembered."""
    return path.with_name(f".{path.name}.absent")


def read_absence(path: Path) -> Absence:
    """Read what is remembered of a file of bars; nothing where that cannot be believed."""
    try:
        found = json.loads(absence_path(path).read_text(encoding="utf-8"))
        once = sorted((int(a), int(b), int(then_ms)) for a, b, then_ms in found["found"])
        settled = [(int(a), int(b)) for a, b in found["settled"]]
    except (OSError, ValueError, KeyError, TypeError):
        return Absence()
    overlap = any(one[1] > other[0] for one, other in pairwise(once))
    if overlap or any(a >= b for a, b, *_ in (*once, *settled)):
        return Absence()
    return Absence(tuple(once), together(settled))


def note_empty(path: Path, spans: Sequence[Span], at_ms: int) -> None:
    """Remember that a download found these spans empty at `at_ms`, by the venue's time.

    Raises DataError when the disk refuses.
    """
    with only_writer(path):
        before = read_absence(path)
        after = before.found_empty(together(spans), at_ms)
        if after == before:
            return
        target = absence_path(path)
        temporary = part_of(path)
        try:
            text = json.dumps({"found": after.found, "settled": after.settled})
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(target)
        except OSError as e:
            temporary.unlink(missing_ok=True)
            raise DataError(f"{target}: cannot be written: {e}") from e


def absent_spans(
    read: Sequence[Span], open_ms: npt.NDArray[np.int64], timeframe: Timeframe
) -> list[Span]:
    """Give the parts of spans that were read which hold none of the bars `open_ms` (T,)."""
    found: list[Span] = []
    for start_ms, end_ms in together(read):
        inside = open_ms[(open_ms >= start_ms) & (open_ms < end_ms)]
        edges = [start_ms - timeframe.ms, *inside.tolist(), end_ms]
        steps = np.diff(np.array(edges, dtype=np.int64))
        for at in np.flatnonzero(steps > timeframe.ms).tolist():
            found.append((edges[at] + timeframe.ms, edges[at + 1]))
    return found


# ---- spans ---------------------------------------------------------------------------------------


def together(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Unite spans, ascending, those that touch as one."""
    united: list[Span] = []
    for first, end in sorted(span for span in spans if span[0] < span[1]):
        if united and first <= united[-1][1]:
            united[-1] = (united[-1][0], max(united[-1][1], end))
        else:
            united.append((first, end))
    return tuple(united)


def without(spans: Iterable[Span], taken: Iterable[Span]) -> tuple[Span, ...]:
    """Give what is left of spans when others are taken out."""
    all_of, out = together(spans), together(taken)
    if not all_of or not out:
        return all_of
    ends = [all_of[0][0], *(edge for span in out for edge in span), all_of[-1][1]]
    return common(all_of, zip(ends[::2], ends[1::2], strict=True))


def common(one: Iterable[Span], other: Iterable[Span]) -> tuple[Span, ...]:
    """Give what two sets of spans share."""
    left, right = together(one), together(other)
    shared: list[Span] = []
    i = j = 0
    while i < len(left) and j < len(right):
        shared.append((max(left[i][0], right[j][0]), min(left[i][1], right[j][1])))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return together(shared)
