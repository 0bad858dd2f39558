"""What of the settings may change while a book is open, and the one way in which it does.

Every setting is of one of these kinds:

    reload    at any time by `equipoise reload` or SIGHUP, without a restart: what bounds orders and
              how they meet the market. It is an event of the journal, so a replay takes it at the
              same place, and it lasts until the next start, which goes by what its files say then.
    restart   at any start.
    accept    at a start with an open book only with `--accept KEY`: what the book is held for.
    fixed     never while there is a book: see `recovery` and `session`, which name the key.

A daemon that is asked to reload and finds anything but `reload` changed takes nothing and names it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from adapters.journal import JournalReader
from daemon.domain.failures import ConfigurationError
from daemon.domain.log_events import LogEvent
from daemon.domain.messages import RuleValue
from daemon.domain.units import Timeframe
from daemon.engine.engine import Engine
from daemon.engine.rules import changes
from daemon.settings import Settings, effective
from daemon.wiring.core import engine_rules
from daemon.wiring.recovery import recorded_settings

EVERYTHING: Final = "all"

log = structlog.get_logger()


class Kind(StrEnum):
    """Say when a setting may change."""

    RELOAD = "reload"
    RESTART = "restart"
    ACCEPT = "accept"
    FIXED = "fixed"


_SECTIONS: Final = {
    "risk": Kind.RELOAD,
    "execution": Kind.RELOAD,
    "strategy": Kind.ACCEPT,
}
_KEYS: Final = {
    "live.foreign": Kind.RELOAD,
    "live.leverage": Kind.ACCEPT,
    "estimator.kind": Kind.ACCEPT,
    "live.account": Kind.FIXED,
    "exchange.id": Kind.FIXED,
    "market.source": Kind.FIXED,
    "market.timeframes": Kind.FIXED,
    "market.decision": Kind.ACCEPT,
    "market.window_bars": Kind.ACCEPT,
}


def kind_of(key: str) -> Kind:
    """Say when the setting `section.key` may change."""
    return _KEYS.get(key) or _SECTIONS.get(key.partition(".")[0], Kind.RESTART)


def differing(before: Settings, after: Settings) -> dict[str, str]:
    """Give the settings that differ, by key, in words; logins inside addresses are masked."""
    old, new = effective(before), effective(after)
    return {
        f"{section}.{key}": f"{old[section][key]!r} -> {value!r}"
        for section, table in new.items()
        for key, value in table.items()
        if getattr(getattr(before, section), key) != getattr(getattr(after, section), key)
    }


class Reloading:
    """Read the settings of a running daemon again."""

    def __init__(self, present: Settings, read: Callable[[], Settings]) -> None:
        self._present = present
        self._read = read

    def __call__(self, engine: Engine) -> tuple[Mapping[str, RuleValue], str]:
        """Give the engine's rules that change, and words for people.

        Raises ConfigurationError for settings that are wrong, or differ where a running daemon
        cannot follow; nothing is changed then.
        """
        wanted = self._read()
        found = differing(self._present, wanted)
        refused = [f"{key} ({kind_of(key)})" for key in found if kind_of(key) is not Kind.RELOAD]
        if refused:
            raise ConfigurationError(
                f"nothing was reloaded: {', '.join(refused)} cannot change while the daemon runs; "
                "put it back, or restart"
            )
        source = Timeframe.parse(wanted.market.source)
        rules = engine_rules(wanted, engine.strategy, len(engine.universe), source)
        new = changes(engine.rules, rules)
        old = changes(rules, engine.rules)
        told = "; ".join(f"{name} {old[name]!r} -> {new[name]!r}" for name in new)
        return new, told or "nothing differs from what is in force"


def refuse_unaccepted(
    settings: Settings, journal: Path, engine: Engine, accepted: Collection[str]
) -> None:
    """Compare a start's settings with those of the start before, where the book is open.

    Raises ConfigurationError that names what must be accepted; tells the log what changes.
    """
    if not journal.exists():
        return
    starts = recorded_settings(JournalReader(journal))
    if not starts:
        return
    found = differing(starts[-1][1], settings)
    if not found:
        return
    is_open = any(engine.state.book.held) or bool(engine.state.orders.open)
    wanting = [key for key in found if kind_of(key) is Kind.ACCEPT and key not in accepted]
    if is_open and wanting and EVERYTHING not in accepted:
        told = "; ".join(f"{key} {found[key]}" for key in wanting)
        flags = " ".join(f"--accept {key}" for key in wanting)
        raise ConfigurationError(
            f"the book is open and was begun otherwise: {told}; start with {flags}, or put it back"
        )
    log.info(LogEvent.SETTINGS_CHANGED, changes=found, book_is_open=is_open)
