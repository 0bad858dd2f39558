"""What waits to be judged and what a decision sees of it, when a symbol or a venue is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Panel
from daemon.domain.bar import Floats, Proof
from daemon.domain.cleanser import Early
from daemon.domain.cleansing import CleansingRule, CleansingRules, Removal
from daemon.domain.instrument import (
    Instrument,
    InstrumentKey,
    Standing,
    TradingRules,
    spare_columns,
)
from daemon.domain.messages import BarsClosed, InstrumentChanged, MarketEvent, Revised
from daemon.domain.units import Timeframe
from daemon.runtime.live import LiveShell
from daemon.wiring.cleansed_feed import CleansedFeed
from daemon.wiring.rehearsal import rehearsal_exchange
from daemon.wiring.session import SessionHooks, paper_session
from tests.domain.test_cleansing import closes, market, still
from tests.e2e.line import SMALL, settings_of
from tests.engine.world import M30
from tests.engine.world import at as bar_at
from tests.runtime.rig import Line, line_of, panel_of
from tests.wiring.test_cleansed_feed import instruments as of_one_venue

HALF = Timeframe(30)
N = 12


def piece(values: Floats, t: int, columns: Sequence[int], *, final: bool = False) -> BarsClosed:
    """Tell some bars of an instant; each is followed by a price."""
    n = values.shape[1]
    which = np.isin(np.arange(n), columns) & np.isfinite(values[t, :, 3])
    bars = np.where(which[:, None], values[t], np.nan)
    proof = np.where(which, Proof.SUCCESSOR, Proof.ABSENT).astype(np.uint8)
    opens = np.where(which, values[t, :, 3], np.nan)
    return BarsClosed(int(closes(t + 1)[t]), bars, proof, opens, final)


class Heard:
    """Hold a feed over instruments, what it told of removals, and what it noted."""

    def __init__(self, instruments: Sequence[Instrument], values: Floats, known: int) -> None:
        self.removed: list[Removal] = []
        self.early: list[Early] = []
        panel = Panel(closes(len(values)), values, np.full(values.shape[:2], np.nan))
        self.feed = CleansedFeed(
            ReplayFeed(panel, HALF, instruments),
            CleansingRules(),
            HALF,
            on_judged=self.removed.extend,
            on_early=self.early.append,
        )
        asyncio.run(self._begin())
        for t in range(known):
            self.tell(piece(values, t, range(values.shape[1]), final=True))

    async def _begin(self) -> None:
        await self.feed.instruments()

    def tell(self, event: MarketEvent) -> list[int]:
        return columns_of(list(self.feed.cleansed(event)))

    def overdue(self, close_ms: int) -> list[int]:
        return columns_of(self.feed.overdue(close_ms))


def columns_of(events: Sequence[MarketEvent]) -> list[int]:
    bars = [one for one in events if isinstance(one, BarsClosed)]
    for one in bars:
        assert (np.isnan(one.values[:, 3]) == (one.proof == Proof.ABSENT)).all()
    return sorted(n for one in bars for n in np.flatnonzero(one.proof).tolist())


def test_a_silent_symbol_withholds_no_bar_that_it_cannot_change() -> None:
    values = market(6, names=N)
    for n in (3, 4, 5, 6):
        still(values, 5, n)
    heard = Heard(of_one_venue(N), values, 5)
    assert heard.tell(piece(values, 5, range(N - 1))) == list(range(N - 1))
    assert heard.early == []


def test_a_venue_that_is_down_withholds_nothing_of_another() -> None:
    rules = of_one_venue(1)[0].rules
    both = [_coin(venue, k, rules) for venue in ("a", "b") for k in range(4)]
    values = market(6, names=8)
    values[3:, 4:] = np.nan
    still(values, 5, 1)
    heard = Heard(both, values, 5)
    assert heard.tell(piece(values, 5, range(8))) == [0, 1, 2, 3]


def test_free_columns_are_not_waited_for_until_a_contract_takes_one() -> None:
    coins = of_one_venue(6)
    values = market(7, names=N)
    values[:, 6:] = np.nan
    for n in (0, 1, 2):
        still(values, 5, n)
        still(values, 6, n)
    heard = Heard([*coins, *spare_columns("v", "USDT", 6)], values, 5)
    assert heard.tell(piece(values, 5, range(6))) == [0, 1, 2, 3, 4, 5]
    for index in (6, 7):  # with them it could be five of eight
        coin = _coin("v", index, coins[0].rules)
        changed = InstrumentChanged(int(closes(6)[5]), index, coin, Standing.TRADING, "listed")
        assert heard.tell(changed) == []
    assert heard.tell(piece(values, 6, range(6))) == [3, 4, 5]


def test_what_waits_at_the_deadline_is_judged_then_and_never_contradicted() -> None:
    values = market(6, names=N)
    for n in range(5):
        still(values, 5, n)
    heard, at_ms = Heard(of_one_venue(N), values, 5), int(closes(6)[5])
    assert heard.tell(piece(values, 5, range(7))) == [5, 6]
    assert heard.overdue(at_ms - 1) == []
    assert heard.removed == [], "not its deadline yet"
    assert heard.overdue(at_ms) == []
    assert heard.early == [Early(at_ms, (7, 8, 9, 10, 11))]
    assert [(one.index, one.rule) for one in heard.removed] == [
        (n, CleansingRule.FROZEN_VENUE) for n in range(5)
    ]
    assert heard.overdue(at_ms) == []
    assert heard.tell(piece(values, 5, range(7, N), final=True)) == [7, 8, 9, 10, 11]
    assert heard.feed.removed_n == {CleansingRule.FROZEN_VENUE: 5}
    assert list(heard.feed.cleansed(Revised(at_ms, 1, values[5, 1], values[5, 6]))) == []


def test_a_market_wide_jump_comes_out_at_the_deadline_with_the_prices_after_it() -> None:
    values = market(6, names=N)
    values[5, :, :4] *= 10.0
    heard, at_ms = Heard(of_one_venue(N), values, 5), int(closes(6)[5])
    assert heard.tell(piece(values, 5, range(N - 1))) == []
    assert heard.overdue(at_ms) == list(range(N - 1))
    assert heard.tell(piece(values, 5, [N - 1], final=True)) == [N - 1]
    assert heard.removed == []


def _coin(venue: str, k: int, rules: TradingRules) -> Instrument:
    return Instrument(InstrumentKey(venue, f"C{k}/USDT:USDT"), f"C{k}", "USDT", "USDT", rules)


# ---- the running shell ---------------------------------------------------------------------------


class OneSilent(ReplayFeed):
    """Tell instants without their last column, and never that they are whole, from a bar on."""

    silent_from_ms = 0

    async def events(self, after_ms: int) -> AsyncIterator[MarketEvent]:
        async for event in super().events(after_ms):
            if isinstance(event, BarsClosed) and event.close_ms >= self.silent_from_ms:
                values, proof = event.values.copy(), event.proof.copy()
                values[-1], proof[-1] = np.nan, Proof.ABSENT
                event = msgspec.structs.replace(event, values=values, proof=proof, final=False)
            yield event


def cleansed_line(panel: Panel, silent_from: int, *, has_deadline: bool) -> Line:
    """Put the cleansing between the feed and the shell of a rig."""
    line = line_of(panel)
    inner = OneSilent(panel, M30, line.engine.universe.instruments, None, line.feed._clock)
    inner.silent_from_ms = bar_at(silent_from)
    feed = CleansedFeed(inner, CleansingRules(), M30)
    parts = replace(line.shell._parts, feed=feed)
    if has_deadline:
        parts = replace(parts, overdue=feed.overdue)
    line.shell = LiveShell(parts)
    line.clock.quiet = line.shell.quiet
    return line


async def test_a_decision_sees_what_was_known_at_its_deadline() -> None:
    panel = panel_of(24)
    values, opens = panel.values.copy(), panel.opens.copy()
    values[15:, :, :4] *= 10.0  # the whole market, as far as anybody knows in time
    opens[14:] *= 10.0
    jumped = Panel(panel.close_ms, values, opens)
    for has_deadline, missing in ((True, (3,)), (False, (0, 1, 2, 3))):
        line = cleansed_line(jumped, 16, has_deadline=has_deadline)
        await line.run()
        (decision,) = [d for d in line.decisions if d.as_of_ms == bar_at(16)]
        assert decision.absent == missing


async def test_a_session_hands_its_feed_to_the_shell_that_keeps_the_deadline(
    tmp_path: Path,
) -> None:
    wanted = settings_of(tmp_path, *SMALL, "redis.enabled=false")
    with rehearsal_exchange(wanted) as rehearsal:
        async with paper_session(rehearsal.settings, SessionHooks()) as shell:
            asked = getattr(shell._parts.overdue, "__self__", None)
            assert isinstance(asked, CleansedFeed)
            assert asked._cleanser is not None
