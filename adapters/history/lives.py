"""Turn what is known of instruments over time into what a replay tells of them, instant by instant.

The live counterpart asks the venue; a replay has a file of lives and rules, and the bars. A
contract is *unripe* before its listing, *reduce only* from the announcement of its end, *gone* from
its end, and trades otherwise. Where no end was written down in time, silence stands for the venue's
word: a contract without a bar for a day in which others had some is gone, and trades again when it
has one. That uses the past alone: whether a hole will end, or a file does, is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from adapters.history.instruments_file import Life, Record
from adapters.history.store import Panel
from daemon.domain.bar import Field, Flags
from daemon.domain.instrument import Instrument, Standing, TradingRules
from daemon.domain.messages import InstrumentChanged
from daemon.domain.units import DAY_MS, Timeframe, iso

SILENT_MS: Final = DAY_MS
ORIGIN_MS: Final = 0  # before every market
Instants = npt.NDArray[np.int64]
Silences = Sequence[tuple[int, int | None, int]]  # gone, back again or None, last bar; all in ms
_NOTHING: Final = Record()


def changes_of(
    panel: Panel,
    source: Timeframe,
    instruments: Sequence[Instrument],
    records: Sequence[Record | None],
    stored: Flags | None = None,
) -> tuple[InstrumentChanged, ...]:
    """Give all changes of rules and standing of N instruments, in the order of time and column.

    What held before the first of them is said at ORIGIN_MS. records: (N,), None where none is kept.
    stored: (T, N), which bars the files have; None for those of the panel. A bar that was removed
    as bad is a bar all the same: its contract did not end.
    """
    there: Flags = np.asarray(~np.isnan(panel.values[:, :, Field.CLOSE]))
    silences = silences_of(panel.close_ms, there if stored is None else stored, source)
    found = [
        change
        for index, (instrument, record) in enumerate(zip(instruments, records, strict=True))
        for change in _of_column(index, instrument, record or _NOTHING, silences[index])
    ]
    return tuple(sorted(found, key=lambda one: (one.at_ms, one.index)))


def silences_of(close_ms: Instants, there: Flags, source: Timeframe) -> list[Silences]:
    """Give each column's silences: when it counts as gone, and when it shows a bar again.

    close_ms: (T,). there: (T, N), who has a bar. Instants without a bar of anybody do not count,
    for then the venue or the record stood still.
    """
    anybody = np.flatnonzero(there.any(axis=1))
    bars_n = max(SILENT_MS // source.ms, 1)
    times = close_ms[anybody]
    found: list[Silences] = []
    for column in there[anybody].T:
        rows = np.flatnonzero(column).tolist()
        spans: list[tuple[int, int | None, int]] = [
            (int(times[a + bars_n]), int(times[b]), int(times[a]))
            for a, b in pairwise(rows)
            if b - a > bars_n
        ]
        if rows and len(times) - 1 - rows[-1] >= bars_n:
            spans.append((int(times[rows[-1] + bars_n]), None, int(times[rows[-1]])))
        found.append(spans)
    return found


def _of_column(
    index: int, instrument: Instrument, record: Record, silences: Silences
) -> Iterator[InstrumentChanged]:
    instants = {ORIGIN_MS}
    for life in record.lives:
        instants |= {at for at in (life.listed_ms, life.announced_ms, life.ended_ms) if at}
    for dated in record.rules:
        instants |= {at for at in (dated.from_ms, dated.until_ms) if at}
    for gone_ms, back_ms, _ in silences:
        instants |= {at for at in (gone_ms, back_ms) if at}
    before = instrument, Standing.TRADING
    for at_ms in sorted(instants):
        now = replace(instrument, rules=_rules_at(instrument.rules, record, at_ms))
        standing, why = _standing_at(record, silences, at_ms)
        if (now, standing) != before:
            same = standing is before[1]
            yield InstrumentChanged(at_ms, index, now, standing, "new rules" if same else why)
        before = now, standing


def _rules_at(usual: TradingRules, record: Record, at_ms: int) -> TradingRules:
    return next((one.rules for one in record.rules if one.covers(at_ms)), usual)


def _standing_at(record: Record, silences: Silences, at_ms: int) -> tuple[Standing, str]:
    life = Life()
    if record.lives:
        begun = [one for one in record.lives if (one.listed_ms or 0) <= at_ms]
        if not begun:
            return Standing.UNRIPE, "it is not listed yet"
        life = begun[-1]
    if life.ended_ms is not None and at_ms >= life.ended_ms:
        return Standing.GONE, f"it ended at {iso(life.ended_ms)}"
    if life.announced_ms is not None and life.ended_ms is not None and at_ms >= life.announced_ms:
        return Standing.REDUCE_ONLY, f"it ends at {iso(life.ended_ms)}"
    for gone_ms, back_ms, last_ms in silences:
        if gone_ms <= at_ms and (back_ms is None or at_ms < back_ms):
            return Standing.GONE, f"it has no bar since {iso(last_ms)}"
    return Standing.TRADING, "it trades"
