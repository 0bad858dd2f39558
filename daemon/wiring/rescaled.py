"""What settings say of splits and redenominations, and what people hear where they say nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
from msgspec.structs import replace

from adapters.history.store import disk_symbol
from daemon.domain.bar import Proof
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import BarsClosed, MarketEvent, PriceDoubted, Rescaled, Revised
from daemon.domain.scales import Doubt, Doubts, Turn
from daemon.domain.units import Timeframe, instant_ms, iso
from daemon.domain.units_change import Change
from daemon.settings import Settings


def stated_changes(
    settings: Settings, keys: Sequence[InstrumentKey], source: Timeframe, folder: str = ""
) -> tuple[Change, ...]:
    """Give the changes of units that settings state for these columns, in time order.

    folder: the name under which the bar store keeps the venue, if it is another one. Raises
    ConfigurationError where two statements contradict each other.
    """
    found: dict[tuple[int, int], Change] = {}
    for one in settings.data.rescaled:
        at_ms, (new_n, old_n) = instant_ms(one.at), one.ratio
        first_ms = -(-at_ms // source.ms) * source.ms
        for index, key in enumerate(keys):
            is_here = one.venue in ("", key.venue, folder or key.venue)
            if not is_here or disk_symbol(key.symbol) != disk_symbol(one.symbol):
                continue
            change = Change(Rescaled(first_ms, index, key, new_n, old_n), at_ms != first_ms)
            if found.setdefault((index, first_ms), change) != change:
                raise ConfigurationError(
                    f"data.rescaled: two entries for {one.symbol} at {iso(at_ms)}; keep one"
                )
    return tuple(found[name] for name in sorted(found, key=lambda name: (name[1], name[0])))


def stated_for(
    settings: Settings, venue: str, symbols: Sequence[str], source: Timeframe
) -> tuple[Change, ...]:
    """Give the changes that settings state for stored symbols of a venue."""
    return stated_changes(settings, [InstrumentKey(venue, one) for one in symbols], source)


class UnitChanges:
    """Hold the changes of units of a running book: those that it was told of, and the others."""

    def __init__(
        self, changes: Iterable[Change] = (), told: Collection[tuple[int, int]] = ()
    ) -> None:
        """Begin where a book stands; told: (column, instant) of what it has taken already."""
        self._waiting: deque[Change] = deque()
        self._told: list[Change] = []
        for change in changes:
            is_told = (change.event.index, change.at_ms) in told
            (self._told if is_told else self._waiting).append(change)

    def untold(self, by_ms: int) -> tuple[Change, ...]:
        """List what begins by `by_ms` and was not told yet."""
        return tuple(change for change in self._waiting if change.at_ms <= by_ms)

    def due(self, at_ms: int) -> Iterator[Change]:
        """Take what begins by `at_ms`, each once."""
        while self._waiting and self._waiting[0].at_ms <= at_ms:
            change = self._waiting.popleft()
            self._told.append(change)
            yield change

    def shown(self, event: MarketEvent) -> MarketEvent:
        """Give bars of before a change that was told in new units."""
        if not self._told or not isinstance(event, BarsClosed | Revised):
            return event
        for change in self._told:
            if event.close_ms > change.at_ms:
                continue
            index, is_cut = change.event.index, change.is_cut and event.close_ms == change.at_ms
            if isinstance(event, BarsClosed):
                event = _bars_shown(event, change, is_cut=is_cut)
            elif event.index == index:
                before, after = change.shown(event.before), change.shown(event.after)
                event = replace(event, before=before, after=after)
        return event


def _bars_shown(event: BarsClosed, change: Change, *, is_cut: bool) -> BarsClosed:
    index = change.event.index
    values, opens, proof = event.values.copy(), event.opens, event.proof
    values[index] = np.nan if is_cut else change.shown(values[index])
    if is_cut:
        proof = proof.copy()
        proof[index] = Proof.ABSENT
    if event.close_ms < change.at_ms:  # the first price after the change is a new one already
        opens = opens.copy()
        opens[index] = opens[index] * change.event.old_n / change.event.new_n
    return replace(event, values=values, opens=opens, proof=proof)


def doubt_event(turn: Turn, key: InstrumentKey) -> PriceDoubted:
    """Tell that a price began or ceased to be doubted, and how a person decides it."""
    since_ms, factor = turn.doubt.since_ms, turn.doubt.factor
    if turn.ended:
        text = f"{key}: trades again, {turn.ended} (it was doubted from {iso(since_ms)} on)"
    else:
        text = (
            f"{key}: since {iso(since_ms)} its price stands as after {ratio_text(factor)} new "
            "units for an old one, and no other moved with it; it stands still, valued at its last "
            f"price. If that is what happened, write\n{lines(key, since_ms, ratio_text(factor))}\n"
            "and start again; if the price has really moved, the same with factor = 1"
        )
    return _doubted(turn.at_ms, turn.index, turn.doubt, text, active=not turn.ended)


def _doubted(at_ms: int, index: int, doubt: Doubt, text: str, *, active: bool) -> PriceDoubted:
    return PriceDoubted(
        at_ms,
        index,
        doubt.since_ms,
        doubt.factor,
        active,
        text,
        doubt.anchor,
        doubt.usual,
        doubt.traded_n,
        doubt.logs,
    )


def counted_events(at_ms: int, before: Doubts, after: Doubts) -> tuple[PriceDoubted, ...]:
    """Tell what an instant added to doubts that last: an engine keeps it over restarts."""
    if not after.active.any():
        return ()
    is_new = (after.since_ms != before.since_ms) & (after.traded_n > 0)
    changed = is_new | (after.traded_n != before.traded_n)
    more = np.flatnonzero(after.active & changed).tolist()
    return tuple(_doubted(at_ms, n, after.of(n), "", active=True) for n in more)


def doubt_events(turns: Iterable[Turn], keys: Sequence[InstrumentKey]) -> tuple[PriceDoubted, ...]:
    """Tell of all turns of a panel."""
    return tuple(doubt_event(turn, keys[turn.index]) for turn in turns)


def said_text(event: Rescaled | PriceDoubted) -> str:
    """Say for a report what a run was told."""
    if isinstance(event, PriceDoubted):
        return event.text
    since = iso(event.at_ms)
    if event.new_n == event.old_n:
        return f"{event.key}: its price from {since} on is believed, as the settings say"
    return (
        f"{event.key}: {event.new_n} new units for {event.old_n} from {since} on; this report "
        "shows what was before in new units"
    )


def ratio_text(factor: float) -> str:
    """Write a guessed factor as settings take it: `10`, or `"1/10"`."""
    return str(round(factor)) if factor >= 1 else f'"1/{round(1 / factor)}"'


def lines(key: InstrumentKey, at_ms: int, factor: str) -> str:
    """Write the lines that state a change of units."""
    return (
        f'[[data.rescaled]]\nvenue = "{key.venue}"\nsymbol = "{key.symbol}"\n'
        f'at = "{iso(at_ms)}"\nfactor = {factor}'
    )
