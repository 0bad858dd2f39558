"""The market of `market_life`, seen through the cleansing: as it runs live, and from files."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from adapters.history.instruments_file import Record
from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Panel
from adapters.paper import MemoryStore, PaperVenue
from daemon import codec
from daemon.domain.bar import Proof
from daemon.domain.cleanser import Early
from daemon.domain.decision import Decision
from daemon.domain.messages import Alert, BarsClosed, MarketEvent, event_ms
from daemon.domain.units import Timeframe, iso
from daemon.engine.engine import Engine
from daemon.engine.reconcile import differences
from daemon.runtime.replay import ReplayShell
from daemon.settings import Settings, load_settings
from daemon.wiring.cleansed_feed import CleansedFeed
from daemon.wiring.cleansing import cleansed, cleansing_rules
from daemon.wiring.rescaled import UnitChanges, stated_changes
from tests.simulation.market_life import (
    BARS,
    PAPER,
    START_MS,
    WARM,
    Recording,
    Script,
    at,
    engine_for,
    universe,
)

SOURCE = Timeframe(30)


def settings(*overrides: str) -> Settings:
    return load_settings(
        [], overrides=["redis.enabled=false", "web.enabled=false", *overrides], environment={}
    )


def stated(symbol: str, bar: int, factor: str, folder: Path) -> Settings:
    """Read settings from a file that states a change in front of a bar."""
    text = f'[[data.rescaled]]\nsymbol = "{symbol}"\nat = "{iso(at(bar - 1))}"\nfactor = {factor}\n'
    path = folder / "stated.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(
        [path], overrides=["redis.enabled=false", "web.enabled=false"], environment={}
    )


def split(s: Script, i: int, bar: int, factor: float) -> None:
    """Let there be `factor` new units for an old one from the open of a bar on."""
    s.values[bar:, i, :4] /= factor
    s.values[bar:, i, 4] *= factor


def panel_of(s: Script) -> Panel:
    closes = np.array([at(bar) for bar in range(BARS)], dtype=np.int64)
    opens = np.full(s.values.shape[:2], np.nan)
    opens[:-1] = s.values[1:, :, 0]
    return Panel(closes, s.values, opens)


def from_files(
    s: Script,
    chosen: Settings,
    early: Sequence[Early] = (),
    records: Sequence[Record | None] | None = None,
) -> list[MarketEvent]:
    """Give the events of a backtest over the bars.

    early: what a live run noted of instants that it judged at their deadline. records: what is
    written down of each contract's life and rules.
    """
    keys, panel = [i.key for i in universe().instruments], panel_of(s)
    found = cleansed(chosen, panel, SOURCE, keys, early)
    feed = ReplayFeed(
        found.panel,
        SOURCE,
        universe().instruments,
        records=records,
        said=found.said,
        stored=~np.isnan(panel.values[:, :, 0]),
    )
    return list(feed.replay(0, 1 << 60))


class Life:
    """Run a book live over a script, with as many restarts as wanted.

    late: by bar, the columns whose bar of it comes after the deadline.
    """

    def __init__(
        self, s: Script, chosen: Settings, late: Mapping[int, Sequence[int]] | None = None
    ) -> None:
        self.script, self.chosen, self.late = s, chosen, late or {}
        self.early: list[Early] = []
        begun = universe()
        self.venue = PaperVenue(begun, PAPER, MemoryStore(), opened_ms=START_MS)
        self.engine = engine_for(begun)
        self.alerts: list[Alert] = []
        self.decisions: list[Decision] = []
        self.bar = -1
        self.equity = np.full(BARS, np.nan)
        self.held = np.zeros((BARS, len(begun)))
        self.journal = Recording(self.engine)
        self._open()

    def _open(self) -> None:
        """Begin a process: a feed and a shell around the engine."""
        keys = [i.key for i in self.engine.universe.instruments]
        state = self.engine.state
        units = UnitChanges(stated_changes(self.chosen, keys, SOURCE), state.rescaled)
        inner = ReplayFeed(panel_of(self.script), SOURCE, universe().instruments)
        self.feed = CleansedFeed(
            inner, cleansing_rules(self.chosen), SOURCE, units=units, on_early=self.early.append
        )
        asyncio.run(self.feed.prime(state.book.marks, state.instant_ms, state.doubted))
        self.journal.engine = self.engine
        self.shell = ReplayShell(self.engine, self.venue, None, self.journal)

    async def _history(self, since_ms: int, until_ms: int) -> list[MarketEvent]:
        return [one async for one in self.feed.history(since_ms, until_ms)]

    def restart(self, chosen: Settings) -> None:
        """End the process and begin another with other settings, from the snapshot."""
        saved = codec.decode(codec.encode(self.engine.state.to_plain()), dict)
        self.engine, self.chosen = engine_for(universe()), chosen
        self.engine.restore(saved)
        self._keep()
        self._open()
        now_ms, newest = at(self.bar), self.engine.state.instant_ms
        self.shell.warm_up(asyncio.run(self._history(newest - 4 * SOURCE.ms, now_ms)))
        self.shell.start(now_ms, "life")

    def run(self, last: int = BARS) -> Life:
        """Trade on to a bar."""
        for event in self._events(last):
            self.shell.run([event]) if self.bar >= WARM else self.shell.warm_up([event])
            bar = (getattr(event, "close_ms", 0) - START_MS) // SOURCE.ms
            if bar > self.bar:
                self.bar = bar
                self.equity[bar] = self.engine.state.book.equity
                self.held[bar] = self.engine.state.book.held
                if bar == WARM:
                    self.shell.start(at(WARM), "life")
        self._keep()
        return self

    def _events(self, last: int) -> Iterator[MarketEvent]:
        inner = ReplayFeed(panel_of(self.script), SOURCE, universe().instruments)
        first_ms = at(self.bar)
        for event in inner.replay(first_ms, at(last - 1)):
            bar = (event_ms(event) - START_MS) // SOURCE.ms
            for said in self.script.said.get(bar, ()):
                yield from self.feed.cleansed(said)
            late = list(self.late.get(bar, ()))
            if not late or not isinstance(event, BarsClosed):
                yield from self.feed.cleansed(event)
                continue
            yield from self.feed.cleansed(_only(event, late, are_late=False))
            yield from self.feed.overdue(event.close_ms)
            yield from self.feed.cleansed(_only(event, late, are_late=True))

    def _keep(self) -> None:
        self.alerts += self.shell.result.alerts
        self.decisions += self.shell.result.decisions
        self.shell.result.alerts, self.shell.result.decisions = [], []

    def told(self, symbol: str) -> list[str]:
        """List what people heard of an instrument."""
        return [alert.text for alert in self.alerts if symbol in alert.text]

    def agree(self) -> bool:
        """Tell whether the account of the venue and ours are the same."""
        return differences(self.engine.state.book.ledger, self.venue._snapshot("")) == ()

    def orders(self, index: int, first: int, last: int = BARS) -> list[Decimal]:
        """List what was sent on an instrument in [first, last)."""
        sent = self.journal.orders
        return [o.quantity for bar, o in sent if o.index == index and first <= bar < last]


def _only(event: BarsClosed, late: Sequence[int], *, are_late: bool) -> BarsClosed:
    """Give the part of an instant that comes in time, or late."""
    which = np.isin(np.arange(len(event.opens)), late) == are_late
    return BarsClosed(
        event.close_ms,
        np.where(which[:, None], event.values, np.nan),
        np.where(which, event.proof, np.uint8(Proof.ABSENT)).astype(np.uint8),
        np.where(which, event.opens, np.nan),
        final=are_late,
    )


def at_prices(life: Life, prices: Sequence[Decimal]) -> Decimal:
    """Value the book exactly."""
    keys = [i.key for i in universe().instruments]
    return life.engine.state.book.ledger.equity(dict(zip(keys, prices, strict=True)))


def engine_of(life: Life) -> Engine:
    return life.engine
