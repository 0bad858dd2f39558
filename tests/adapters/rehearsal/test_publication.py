"""What the public may see: nothing of the future, and the same story on every channel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from adapters.rehearsal.market import Coin, Settlement, Steps, UnknownSymbol
from adapters.rehearsal.publication import Publication, Withheld
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.units import DAY_MS, MINUTE_MS

ORIGIN_MS = 1_704_067_200_000
STEP_MS = 5 * MINUTE_MS


def market_of(coins: int = 2) -> SeededMarket:
    traits = [traits_of(name, ORIGIN_MS, None) for name in NAMES[:coins]]
    return SeededMarket(traits, seed=5, origin_ms=ORIGIN_MS)


class OtherFuture:
    """Be the same market until `now_ms` and another one after it."""

    def __init__(self, inner: SeededMarket, now_ms: int) -> None:
        self._inner = inner
        self._now_ms = now_ms

    @property
    def coins(self) -> Mapping[str, Coin]:
        return self._inner.coins

    @property
    def step_ms(self) -> int:
        return self._inner.step_ms

    @property
    def span_ms(self) -> tuple[int, int | None]:
        return self._inner.span_ms

    def steps(self, symbol: str, start_ms: int, end_ms: int) -> Steps:
        found = self._inner.steps(symbol, start_ms, end_ms)
        opens_ms = start_ms + STEP_MS * np.arange(len(found))
        factor = np.where(opens_ms > self._now_ms, 3.0, 1.0)
        return Steps(
            start_ms,
            STEP_MS,
            *(c * factor for c in (found.open, found.high, found.low, found.close, found.volume)),
        )

    def settlements(self, symbol: str, start_ms: int, end_ms: int) -> tuple[Settlement, ...]:
        return self._inner.settlements(symbol, start_ms, end_ms)

    def funding_estimate(self, symbol: str, at_ms: int) -> float:
        return self._inner.funding_estimate(symbol, at_ms)


def test_another_future_changes_nothing_that_is_seen_now() -> None:
    market = market_of()
    for offset_ms in range(0, 2 * DAY_MS, 101 * MINUTE_MS):
        now_ms = ORIGIN_MS + DAY_MS + offset_ms
        one, other = Publication(market), Publication(OtherFuture(market, now_ms))
        for minutes in (5, 30, 60, 240, 1440):
            seen, altered = (
                p.klines("ETHUSDT", minutes * MINUTE_MS, now_ms, limit=5) for p in (one, other)
            )
            for column in ("open_ms", "open", "high", "low", "close", "volume"):
                assert np.array_equal(getattr(seen, column), getattr(altered, column))
        after_ms = now_ms - 30 * MINUTE_MS
        assert one.prints("ETHUSDT", after_ms, now_ms) == other.prints("ETHUSDT", after_ms, now_ms)
        assert one.last_price("ETHUSDT", now_ms) == other.last_price("ETHUSDT", now_ms)


def test_a_running_step_shows_only_its_prints_so_far() -> None:
    market = market_of()
    publication = Publication(market)
    opened_ms = ORIGIN_MS + DAY_MS
    step = market.steps("BTCUSDT", opened_ms, opened_ms + STEP_MS)
    prints = publication.prints("BTCUSDT", opened_ms - 1, opened_ms + STEP_MS - 1)
    assert len(prints) == 4
    assert [p.time_ms - opened_ms for p in prints] == [0, 100_000, 200_000, 299_999]
    assert [prints[0].price, prints[-1].price] == [step.open[0], step.close[0]]
    assert {max(p.price for p in prints), min(p.price for p in prints)} == {
        step.high[0],
        step.low[0],
    }
    for seen, now_ms in enumerate([p.time_ms for p in prints], 1):
        running = publication.kline("BTCUSDT", STEP_MS, opened_ms, now_ms)
        assert running is not None
        shown = [p.price for p in prints[:seen]]
        assert (running.open, running.close) == (shown[0], shown[-1])
        assert (running.high, running.low) == (max(shown), min(shown))
        assert running.volume == pytest.approx(sum(p.quantity for p in prints[:seen]))


def test_withheld_steps_leave_every_interval_until_they_are_released() -> None:
    market = market_of()
    opened_ms = ORIGIN_MS + DAY_MS
    close_ms = opened_ms + 30 * MINUTE_MS
    release_ms = close_ms + 7 * MINUTE_MS
    late = Withheld("BTCUSDT", opened_ms, close_ms, release_ms)
    publication, open_book = Publication(market, [late]), Publication(market)
    before, after = release_ms - 1, release_ms
    for minutes, hidden in ((5, 6), (15, 2), (30, 1)):
        rows = [
            len(publication.klines("BTCUSDT", minutes * MINUTE_MS, now, start_ms=opened_ms))
            for now in (before, after)
        ]
        assert rows[1] - rows[0] == hidden
    assert publication.prints("BTCUSDT", opened_ms - 1, close_ms - 1) == []
    hour = publication.kline("BTCUSDT", 60 * MINUTE_MS, opened_ms, before)
    assert hour is not None
    assert hour.open == market.steps("BTCUSDT", close_ms, close_ms + STEP_MS).open[0]
    whole = publication.kline("BTCUSDT", 60 * MINUTE_MS, opened_ms, after)
    assert whole == open_book.kline("BTCUSDT", 60 * MINUTE_MS, opened_ms, after)
    assert publication.next_release_after(before) == release_ms
    assert publication.releases_between(before, after) == [late]
    assert publication.next_release_after(after) is None


def test_an_unknown_symbol_in_a_script_is_named() -> None:
    with pytest.raises(UnknownSymbol, match="'NOPEUSDT' is not one of BTCUSDT, ETHUSDT"):
        Publication(market_of(), [Withheld("NOPEUSDT", 0, 1, None)])
