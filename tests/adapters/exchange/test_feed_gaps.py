"""What a feed makes of answers that are partial, contradictory or unreadable, symbol by symbol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import structlog

from adapters.rehearsal.faults import Fault, Strike
from daemon.domain.messages import BarsClosed, FeedNotice, FeedTrouble
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, Rig, rig, until

Change = Callable[[list[Any]], list[Any]]
FOREVER = 1_000_000


def told_n(made: Rig) -> list[int]:
    """Count the bars told of each instrument; each must be true and told once."""
    seen: set[tuple[int, int]] = set()
    for bars in made.bars:
        truth = made.truth(bars.close_ms)
        for index in np.flatnonzero(bars.proof).tolist():
            assert (bars.close_ms, index) not in seen
            seen.add((bars.close_ms, index))
            np.testing.assert_array_equal(bars.values[index], truth[index])
    return [sum(index == i for _, index in seen) for i in range(len(made.symbols))]


def change_klines(made: Rig, change: Change, symbol: str = "") -> list[int]:
    """Change what the venue answers about bars of a symbol; the result counts the answers."""
    api = made.feed._opened().api
    fetch, asked = api.fetch, [0]

    async def changed(url: str, *args: Any, **kwargs: Any) -> Any:
        body = await fetch(url, *args, **kwargs)
        if "klines" in url and symbol in url and isinstance(body, list):
            asked[0] += 1
            return change(body)
        return body

    api.fetch = changed
    return asked


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_gap_longer_than_a_page_is_read_to_its_end(
    stream: bool, newest_first: bool
) -> None:
    """A venue that cuts its answers denies nothing of what it left out."""
    gap, page = 130, 50
    async with rig(stream=stream, stream_patience_s=0.1) as made:
        cut: Change = (lambda rows: rows[-page:]) if newest_first else (lambda rows: rows[:page])
        change_klines(made, cut)
        await made.listen(made.start_ms - gap * HALF_HOUR_MS)
        await made.advance(3)
        assert told_n(made) == [gap + 3] * 3
        assert made.health.absent_n == 0


async def test_a_bar_that_is_missing_at_the_end_of_a_gap_is_denied_and_asked_no_longer() -> None:
    async with rig(stream=False) as made:
        await made.listen()
        await until(lambda: made.feed._pump is not None, "the feed did not begin")
        await made.advance(1)
        missing_ms = made.clock.now()  # the newest bar, for a while
        asked = change_klines(
            made, lambda rows: [row for row in rows if int(row[0]) < missing_ms], "ETHUSDT"
        )
        await made.advance(1)
        assert made.health.absent_n == 1
        assert asked[0] <= 3
        assert told_n(made) == [2, 1, 2]


# ---- one symbol that cannot be read --------------------------------------------------------------


async def test_a_symbol_that_cannot_be_read_keeps_no_other_from_its_audit() -> None:
    with structlog.testing.capture_logs():
        async with rig(audit_every_bars=4, settle_timeout_s=0.3, stream_patience_s=0.05) as made:
            faults = made.exchange.exchange.faults
            await made.listen()
            await made.advance(3)
            faults.put(Strike(Fault.STALL, FOREVER, "ETHUSDT"))
            faults.put(Strike(Fault.NOT_JSON_200, FOREVER, "ETHUSDT"))
            faults.put(Strike(Fault.REVISED_REST, 1, "BTCUSDT"))
            for _ in range(12):
                await made.advance(1)
                if made.revised:
                    break
            assert faults.struck_n[Fault.REVISED_REST] == 1
            (revised,) = made.revised
            assert revised.index == 0


async def test_a_silent_symbol_that_rest_cannot_tell_of_is_found_and_named() -> None:
    """The bars of the others tell that its own should have come."""
    with structlog.testing.capture_logs():
        async with rig(settle_timeout_s=0.3, stream_patience_s=0.05) as made:
            faults = made.exchange.exchange.faults
            await made.listen()
            await made.advance(3)
            faults.put(Strike(Fault.STALL, FOREVER, "ETHUSDT"))
            faults.put(Strike(Fault.NOT_JSON_200, FOREVER, "ETHUSDT"))
            for _ in range(6):
                await made.advance(1)
            assert made.health.replaced_n >= 1
            notices = [e for e in made.told if isinstance(e, FeedNotice)]
            (notice,) = [e for e in notices if e.trouble is FeedTrouble.BARS_MISSING]
            assert notice.active
            assert "ETH/USDT:USDT" in notice.text
            assert "BTC" not in notice.text
            faults.put(Strike(Fault.NONE))
            for _ in range(100):
                await made.advance(1)
                if (FeedTrouble.BARS_MISSING, False) in made.notices:
                    break
            assert (FeedTrouble.BARS_MISSING, False) in made.notices
            await until(lambda: len(set(told_n(made))) == 1, "bars are missing")


async def test_a_bar_of_before_the_start_that_changes_is_a_revision() -> None:
    async with rig(audit_every_bars=4, audit_bars=12) as made:
        since_ms = made.start_ms - 10 * HALF_HOUR_MS
        known = [e async for e in made.feed.history(since_ms, made.start_ms)]
        assert len([e for e in known if isinstance(e, BarsClosed)]) == 10
        await made.listen()
        changed_ms = made.start_ms - 3 * HALF_HOUR_MS

        def corrected(rows: list[Any]) -> list[Any]:
            found = [list(row) for row in rows]
            for row in found:
                if int(row[0]) == changed_ms - HALF_HOUR_MS:
                    row[5] = str(float(row[5]) + 1.0)
            return found

        change_klines(made, corrected, "ETHUSDT")
        await made.advance(6)
        (revised,) = made.revised
        assert (revised.close_ms, revised.index) == (changed_ms, 1)
        np.testing.assert_array_equal(revised.before, made.truth(changed_ms)[1])
        assert told_n(made) == [6] * 3


# ---- doubts --------------------------------------------------------------------------------------


def and_then(lie: Change, later: Change) -> Change:
    """Lie in the first long answer, and do something else in all that follow."""
    lied: list[bool] = []

    def change(rows: list[Any]) -> list[Any]:
        if lied:
            return later(rows)
        if len(rows) > 4:
            lied.append(True)
            return lie(rows)
        return rows

    return change


def with_more_volume(rows: list[Any], by: float = 1.0) -> list[Any]:
    """Change one closed bar."""
    other = list(rows[-3])
    other[5] = str(float(other[5]) + by)
    return [*rows[:-3], other, *rows[-2:]]


@pytest.mark.parametrize("frames", [True, False])
async def test_a_correction_on_the_stream_is_told_when_rest_says_the_same(
    monkeypatch: pytest.MonkeyPatch, frames: bool
) -> None:
    if not frames:
        for room in ("client", "stream", "pump"):
            monkeypatch.setattr(f"adapters.exchange.{room}.FRAME_READERS", {})
    async with rig(audit_every_bars=0, stream_patience_s=0.2) as made:
        await made.listen()
        await made.advance(4)
        made.exchange.exchange.faults.put(Strike(Fault.REVISED_FRAME, 1, "ETHUSDT"))
        await made.advance(3)
        (revised,) = made.revised
        assert revised.index == 1
        exchange = made.exchange.exchange
        open_ms = revised.close_ms - HALF_HOUR_MS
        last = exchange.publication.kline("ETHUSDT", HALF_HOUR_MS, open_ms, exchange.now_ms)
        assert last is not None
        words = [last.open, last.high, last.low, last.close, last.volume]
        np.testing.assert_array_equal(revised.after, words)


async def test_what_the_stream_says_against_rest_is_no_revision() -> None:
    async with rig(audit_every_bars=0) as made:
        await made.listen()
        await made.advance(4)
        assert made.feed._pump is not None
        close_ms = made.bars[1].close_ms
        old = tuple(float(x) for x in made.truth(close_ms)[1] + 1.0)
        made.feed._pump._doubts.contradicted(1, close_ms, (old[0], old[1], old[2], old[3], old[4]))
        asked = change_klines(made, lambda rows: rows, "ETHUSDT")
        await made.advance(1)
        assert asked[0] == 1
        assert made.revised == []


async def test_a_doubt_about_which_answers_fall_silent_is_left_to_the_next_audit() -> None:
    async with rig(audit_every_bars=4, stream_patience_s=0.2, settle_timeout_s=3.0) as made:
        await made.listen()
        await made.advance(6)
        asked = change_klines(made, and_then(with_more_volume, lambda rows: []), "ETHUSDT")
        await made.advance(8)
        assert 2 <= asked[0] <= 10
        assert made.revised == []
        assert made.feed._pump is not None
        assert made.feed._pump._doubts.due() == {}


async def test_answers_that_say_something_else_each_time_are_believed_never_and_asked_rarely() -> (
    None
):
    async with rig(audit_every_bars=4, stream_patience_s=0.2, settle_timeout_s=3.0) as made:
        await made.listen()
        await made.advance(6)
        lies = iter(range(1, 1000))

        def lie(rows: list[Any]) -> list[Any]:
            changed = [list(row) for row in rows]
            for row in changed[:-2]:
                row[5] = str(float(row[5]) + next(lies))
            return changed

        asked = change_klines(made, lie, "ETHUSDT")
        await made.advance(4)
        assert made.revised == []
        assert asked[0] <= 6
