"""Cleanse what a run reads: stored panels, training data, and the live feed, by the same rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
import structlog

from adapters.history.store import Panel
from daemon.domain.bar import Field, Floats
from daemon.domain.cleansing import (
    CleansingRule,
    CleansingRules,
    Memory,
    Removal,
    Verdict,
    judge,
    without,
)
from daemon.domain.log_events import LogEvent
from daemon.domain.units import Timeframe, iso
from daemon.settings import Settings

SHOWN_MAX: Final = 5
Longs = np.ndarray[tuple[int], np.dtype[np.int64]]

log = structlog.get_logger()


def cleansing_rules(settings: Settings) -> CleansingRules:
    """Translate settings."""
    data = settings.data
    switches = {
        CleansingRule.IMPOSSIBLE: data.remove_impossible,
        CleansingRule.FROZEN_VENUE: data.remove_frozen_venue,
        CleansingRule.ZERO_VOLUME: data.remove_zero_volume,
        CleansingRule.RESCALED: data.remove_rescaled,
        CleansingRule.REPEATED: data.remove_repeated,
        CleansingRule.SPLIT: data.flag_extremes,
        CleansingRule.WICK: data.flag_extremes,
        CleansingRule.CRASH: data.flag_extremes,
    }
    return CleansingRules(
        off=frozenset(rule for rule, is_on in switches.items() if not is_on),
        frozen_share=data.frozen_share,
        zero_volume_minutes_max=data.zero_volume_minutes_max,
        wick_range=data.wick_range,
    )


def cleansed_values(
    settings: Settings, close_ms: Longs, values: Floats, source: Timeframe
) -> tuple[Floats, tuple[Removal, ...]]:
    """Give bars (T, N, 5) with the bad ones absent, and what was removed; unchanged if clean."""
    memory = Memory.empty(values.shape[1])
    judged = judge(close_ms, values, memory, cleansing_rules(settings), source.minutes)
    removed = tuple(judged.records(close_ms, flags=False))
    return without(values, judged.removed), removed


def cleansed_panel(
    settings: Settings, panel: Panel, source: Timeframe
) -> tuple[Panel, tuple[Removal, ...]]:
    """Give a panel with the bad bars absent, and nobody trades at the price that follows one.

    The price at which a removed bar opened stays: then nobody knew what it would become.
    """
    values, removed = cleansed_values(settings, panel.close_ms, panel.values, source)
    if not removed:
        return panel, ()
    gone = np.isnan(values[:, :, Field.CLOSE]) & ~np.isnan(panel.values[:, :, Field.CLOSE])
    opens = np.where(gone, np.nan, panel.opens)
    values.flags.writeable = opens.flags.writeable = False
    return Panel(panel.close_ms, values, opens, panel.empty), removed


def removals_text(removed: Sequence[Removal], symbols: Sequence[str]) -> str:
    """Say in a sentence or two how many bars were removed, by which rule, and the first ones."""
    counts = Counter(one.rule for one in removed)
    by_rule = ", ".join(f"{n} {rule}" for rule, n in counts.items())
    shown = ", ".join(
        f"{symbols[one.index]} {iso(one.close_ms)} ({one.rule})" for one in removed[:SHOWN_MAX]
    )
    more = f" and {len(removed) - SHOWN_MAX} more" if len(removed) > SHOWN_MAX else ""
    return (
        f"{len(removed)} bars were removed by the cleansing rules ({by_rule}) and count as absent; "
        f"by close: {shown}{more}. `equipoise check-data` lists all; the files keep them."
    )


def log_removed(removed: Sequence[Removal], symbols: Sequence[str]) -> None:
    """Tell in one warning what was removed of stored bars, and each bar to who logs more."""
    if removed:
        log.warning(LogEvent.BARS_REMOVED, text=removals_text(removed, symbols))
        log_judged(removed, symbols, is_told=True)


def log_judged(
    records: Sequence[Removal], symbols: Sequence[str], *, is_told: bool = False
) -> None:
    """Write each removal, and each flag, to the log; a removal warns unless it was told before."""
    for one in records:
        removed = one.verdict is Verdict.REMOVE
        tell = log.warning if removed and not is_told else log.info
        tell(
            LogEvent.BAR_REMOVED if removed else LogEvent.BAR_FLAGGED,
            symbol=symbols[one.index],
            close=iso(one.close_ms),
            rule=str(one.rule),
        )
