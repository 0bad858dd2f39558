"""What is told at a deadline, after a restart, and by a statement about another jump."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from daemon.domain.bar import Floats, Proof
from daemon.domain.cleansing import CleansingRules
from daemon.domain.messages import BarsClosed, MarketEvent, PriceDoubted, Rescaled
from daemon.domain.scales import Doubt
from daemon.domain.units_change import Change
from daemon.wiring.cleansed_feed import CleansedFeed
from daemon.wiring.rescaled import UnitChanges
from tests.domain.test_cleansing import closes, market
from tests.wiring.test_cleansed_deadline import HALF, Heard, N, piece
from tests.wiring.test_cleansed_feed import instruments, one_bar, replay_of

SILENT = N - 1


def rescaled(known: int, factor: float = 10.0) -> Floats:
    """Let the first instrument alone be counted in other units from a bar on."""
    values = market(known + 4, names=N)
    values[known:, 0, :4] /= factor
    values[known:, 0, 4] *= factor
    return values


def doubted(events: list[MarketEvent]) -> list[tuple[int, int]]:
    return [(e.index, e.traded_n) for e in events if isinstance(e, PriceDoubted) and e.active]


def test_what_is_counted_of_a_doubt_at_a_deadline_is_told() -> None:
    values = rescaled(5)
    heard = Heard(instruments(N), values, 5)
    told = piece(values, 5, range(SILENT))
    assert 0 not in heard.tell(told), "it waits"
    after = list(heard.feed.overdue(told.close_ms))
    assert doubted(after) == [(0, 0), (0, 1)], "begun, and what was counted by then"


def test_nobody_trades_at_a_strange_price_that_comes_out_at_a_deadline() -> None:
    values = market(6, names=N)
    values[5, :, :4] *= 10.0  # the whole market, so that all of it waits and is believed
    heard = Heard(instruments(N), values, 5)
    told = piece(values, 5, range(SILENT))
    opens = 0.7 * told.opens  # no round factor from the price before, nor from the one now
    opens[2] = told.opens[2] / 10.0  # and one of them is where it was
    assert heard.tell(msgspec.structs.replace(told, opens=opens)) == []
    (out,) = [e for e in heard.feed.overdue(told.close_ms) if isinstance(e, BarsClosed)]
    assert list(np.flatnonzero(out.proof != Proof.ABSENT)) == list(range(SILENT))
    assert list(np.flatnonzero(~np.isnan(out.opens))) == [0, 1, *range(3, SILENT)]


async def test_a_late_bar_after_a_restart_is_compared_with_what_the_book_knew() -> None:
    values = market(30)
    feed = CleansedFeed(replay_of(values), CleansingRules(), HALF)
    marks = values[9, :, 3].copy()
    marks[3] = np.nan  # it was never there before
    await feed.prime(marks, int(closes(10)[9]))
    at_ms = closes(30).tolist()
    live = BarsClosed(at_ms[20], values[20], np.full(5, 1, dtype=np.uint8), values[20, :, 3], True)
    assert len(list(feed.cleansed(live))) == 1
    for index, is_kept in ((2, False), (3, True)):
        late = values[15, index] * [10.0, 10.0, 10.0, 10.0, 0.1]
        (event,) = feed.cleansed(one_bar(at_ms[15], index, late))
        assert isinstance(event, BarsClosed)
        assert (event.proof[index] != Proof.ABSENT) == is_kept


async def test_a_statement_about_an_older_jump_ends_no_doubt_about_another() -> None:
    coins, at_ms = instruments(5), closes(30).tolist()
    change = Change(Rescaled(at_ms[2], 1, coins[1].key, 10, 1))
    for since_ms, is_open in ((at_ms[9], True), (at_ms[2], False)):
        values = market(30)
        units = UnitChanges([change])
        feed = CleansedFeed(replay_of(values), CleansingRules(), HALF, units=units)
        doubt = replace(Doubt(), since_ms=since_ms, anchor=100.0, factor=5.0)
        await feed.prime(values[19, :, 3], at_ms[19], {1: doubt})
        told = list(feed.cleansed(one_bar(at_ms[20], 0, values[20, 0])))
        assert any(isinstance(e, Rescaled) for e in told) != is_open, "it answers its own jump"
        assert feed._cleanser is not None
        assert bool(feed._cleanser.memory.doubts.active[1]) == is_open
