"""Which bars were revised after we had used them: read from a run's journal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapters.journal import JournalReader
from daemon.domain.bar import Proof
from daemon.domain.failures import DataError
from daemon.domain.messages import BarsClosed, DecisionsFlagged, InstrumentChanged, Revised
from daemon.wiring.instruments import read_instruments


@dataclass(frozen=True, slots=True)
class RevisedBar:
    """Hold one revision: values before and after (o, h, l, c, v), and the decisions that used it.

    seen_ms: market time at which the venue showed it, 0 unknown. decisions: their instants in ms.
    """

    symbol: str
    venue: str
    close_ms: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    seen_ms: int
    shown_by: str
    decisions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VenueRevisions:
    """Count what a venue showed and what it changed."""

    venue: str
    bars_n: int
    revised_n: int
    decisions_n: int

    @property
    def rate_per_million(self) -> float:
        """Give revisions per million bars."""
        return 1e6 * self.revised_n / self.bars_n if self.bars_n else 0.0


@dataclass(frozen=True, slots=True)
class Revisions:
    """Hold all revisions of a run in the order in which they were seen, and the rates by venue."""

    revised: tuple[RevisedBar, ...]
    venues: tuple[VenueRevisions, ...]


def read_revisions(folder: Path) -> Revisions:
    """Read the journal of a state folder; raises DataError where there is none."""
    path = folder / "journal.sqlite"
    if not path.exists():
        raise DataError(f"{path}: no journal; name the state folder of a run with --state")
    keys = [i.key for i in read_instruments(folder)]
    bars_n: Counter[str] = Counter()
    decisions: dict[str, set[int]] = {}
    found: list[RevisedBar] = []
    for entry in JournalReader(path).read_from(1):
        if isinstance(entry.event, InstrumentChanged):  # a spare column may have been taken
            keys[entry.event.index] = entry.event.instrument.key
        if isinstance(entry.event, BarsClosed):
            for n in np.flatnonzero(entry.event.proof != Proof.ABSENT).tolist():
                bars_n[keys[n].venue] += 1
        if not isinstance(entry.event, Revised):
            continue
        event, key = entry.event, keys[entry.event.index]
        used = tuple(
            at
            for command in entry.commands
            if isinstance(command, DecisionsFlagged)
            for at in command.instants
        )
        decisions.setdefault(key.venue, set()).update(used)
        found.append(
            RevisedBar(
                key.symbol,
                key.venue,
                event.close_ms,
                tuple(event.before.tolist()),
                tuple(event.after.tolist()),
                event.seen_ms,
                Proof(event.shown_by).name.lower(),
                used,
            )
        )
    revised_n = Counter(one.venue for one in found)
    venues = tuple(
        VenueRevisions(venue, n, revised_n[venue], len(decisions.get(venue, ())))
        for venue, n in sorted(bars_n.items())
    )
    return Revisions(tuple(found), venues)
