"""Cleanse what a run reads: stored panels, training data, and the live feed, by the same rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog

from adapters.history.store import Panel
from daemon.domain.bar import Floats
from daemon.domain.cleanser import Early
from daemon.domain.cleansing import (
    CleansingRule,
    CleansingRules,
    Removal,
    Verdict,
    without,
)
from daemon.domain.instrument import InstrumentKey
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import PriceDoubted, Rescaled
from daemon.domain.units import HOUR_MS, Timeframe, iso
from daemon.domain.units_change import judged_in_units, on_one_scale, strange_opens
from daemon.settings import Settings
from daemon.wiring.rescaled import doubt_events, stated_changes

SHOWN_MAX: Final = 5
NAMELESS: Final = (InstrumentKey("", "a contract"),)
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
        CleansingRule.WICK: data.flag_extremes,
        CleansingRule.CRASH: data.flag_extremes,
    }
    return CleansingRules(
        off=frozenset(rule for rule, is_on in switches.items() if not is_on),
        frozen_share=data.frozen_share,
        frozen_least_n=data.frozen_least_n,
        patience_ms=round(data.rescaled_patience_h * HOUR_MS),
        zero_volume_minutes_max=data.zero_volume_minutes_max,
        wick_range=data.wick_range,
    )


@dataclass(frozen=True, slots=True)
class Cleansed:
    """Hold a panel as a run sees it, what was removed of it, and what a run is told beside it.

    said: changes of units, and prices that were doubted or not any more, in time order.
    """

    panel: Panel
    removed: tuple[Removal, ...]
    said: tuple[Rescaled | PriceDoubted, ...]


def cleansed_values(
    settings: Settings,
    close_ms: Longs,
    values: Floats,
    source: Timeframe,
    keys: Sequence[InstrumentKey] = (),
) -> tuple[Floats, tuple[Removal, ...]]:
    """Give bars (T, N, 5) in the newest units with the bad ones absent, and what was removed.

    keys: whose bars they are, () where no change of units can be stated. Unchanged if clean.
    """
    changes = stated_changes(settings, keys, source, settings.backtest.venue)
    rules, minutes = cleansing_rules(settings), source.minutes
    shown, judged = judged_in_units(close_ms, values, rules, minutes, changes)
    removed = tuple(judged.records(close_ms, flags=False))
    return on_one_scale(close_ms, without(shown, judged.removed), changes), removed


def cleansed(
    settings: Settings,
    panel: Panel,
    source: Timeframe,
    keys: Sequence[InstrumentKey] = (),
    early: Sequence[Early] = (),
) -> Cleansed:
    """Give a panel with the bad bars absent, and nobody trades at the price that follows one.

    The price at which a removed bar opened stays: then nobody knew what it would become; save where
    it lies a round factor from the last close. Each bar is in the units of its time.

    early: instants that a live run judged at their deadline, for the verdicts that it came to.
    """
    changes = stated_changes(settings, keys, source, settings.backtest.venue)
    rules, close_ms = cleansing_rules(settings), panel.close_ms
    shown, judged = judged_in_units(close_ms, panel.values, rules, source.minutes, changes, early)
    events: list[Rescaled | PriceDoubted] = [change.event for change in changes]
    events += doubt_events(judged.turns, keys or NAMELESS * panel.opens.shape[1])
    said = tuple(sorted(events, key=lambda one: one.at_ms))
    removed = tuple(judged.records(close_ms, flags=False))
    opens = panel.opens
    if CleansingRule.RESCALED not in rules.off:
        strange = strange_opens(close_ms, shown, opens, judged.turns)
        opens = np.where(strange, np.nan, opens) if strange.any() else opens
    if shown is panel.values and opens is panel.opens and not removed:
        return Cleansed(panel, (), said)
    values = without(shown, judged.removed)
    opens = np.where(judged.removed, np.nan, opens)
    values.flags.writeable = opens.flags.writeable = False
    return Cleansed(Panel(close_ms, values, opens, panel.empty), removed, said)


def cleansed_panel(
    settings: Settings, panel: Panel, source: Timeframe, keys: Sequence[InstrumentKey] = ()
) -> tuple[Panel, tuple[Removal, ...]]:
    """Give what `cleansed` gives in the newest units, for whoever learns from it."""
    found = cleansed(settings, panel, source, keys)
    changes = stated_changes(settings, keys, source, settings.backtest.venue)
    close_ms, seen = panel.close_ms, found.panel
    values = on_one_scale(close_ms, seen.values, changes)
    if values is seen.values:
        return seen, found.removed
    opens = seen.opens.copy()
    for change in changes:  # the price after the bar that closes at the change is in new units
        event, rows = change.event, close_ms < change.at_ms
        opens[rows, event.index] = opens[rows, event.index] * event.old_n / event.new_n
    values.flags.writeable = opens.flags.writeable = False
    return Panel(close_ms, values, opens, seen.empty), found.removed


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


def log_early(early: Early, symbols: Sequence[str]) -> None:
    """Write to the log that bars were judged at a deadline, and who had not been told by then."""
    log.info(
        LogEvent.INSTANT_JUDGED_EARLY,
        close=iso(early.close_ms),
        untold=[symbols[index] for index in early.untold],
    )
