"""A wrong clock and a wrong stream make no bar final: everything told equals the venue's last word.

The market runs at a pace, so that clocks matter. Run where the venue flags closed bars and where
nothing is known of its frames.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pytest
import structlog

from adapters.clocks import VenueClock
from adapters.exchange.feed import CcxtFeed
from adapters.rehearsal.faults import Fault, Strike
from adapters.rehearsal.server import RunningExchange, serve
from adapters.rehearsal.settings import PaceKind, RehearsalSettings
from adapters.rehearsal.universe import NAMES
from daemon.domain.messages import BarsClosed, Revised
from daemon.domain.units import DAY_MS, MINUTE_MS
from tests.simulation import test_data_flow

FACTOR: Final = 100.0  # a bar each 0.6 s
COINS: Final = 3
BARS: Final = 4
AHEAD_S: Final = 300.0
STALE_FROM_MS: Final = 40_000
SILENT: Final = "ETHUSDT"
Spoil = Callable[[dict[str, Any]], dict[str, Any] | None]


class Paced:
    """Follow a feed on a market that runs at a pace; keep what it told."""

    def __init__(self, exchange: RunningExchange, feed: CcxtFeed, clock: VenueClock) -> None:
        self.exchange, self.feed, self.clock = exchange, feed, clock
        self.told: list[tuple[int, int, tuple[float, ...]]] = []
        self.early_n = 0  # told before the market had closed them
        self.revised_n = 0

    async def follow(self) -> None:
        """Take every event."""
        await self.clock.measure()
        async for event in self.feed.events(self.clock.now()):
            self.revised_n += isinstance(event, Revised)
            if isinstance(event, BarsClosed):
                early = event.close_ms > self.exchange.exchange.clock_ms()
                self.early_n += bool(early and event.proof.any())
                self.told += [
                    (event.close_ms, int(i), tuple(event.values[i].tolist()))
                    for i in np.flatnonzero(event.proof)
                ]

    def wrong(self) -> list[tuple[int, int]]:
        """List the bars that are not what the venue says in the end."""
        exchange, found = self.exchange.exchange, []
        for close_ms, index, values in self.told:
            true = exchange.publication.kline(
                NAMES[index], MINUTE_MS, close_ms - MINUTE_MS, exchange.now_ms
            )
            last = true and (true.open, true.high, true.low, true.close, true.volume)
            if close_ms > exchange.now_ms or values != last:
                found.append((close_ms, index))
        return found

    async def bars_of(self, index: int, count: int) -> None:
        """Wait until so many bars of an instrument were told."""
        for _ in range(1500):
            if sum(one == index for _, one, _ in self.told) >= count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"bars of {NAMES[index]} do not come")

    def spoil_frames(self, spoil: Spoil) -> None:
        """Change or drop kline frames before anybody of ours reads them."""
        api = self.feed._opened().api
        dial = api.client

        def dialled(url: str) -> Any:
            client = dial(url)
            if not hasattr(client, "is_spoilt"):
                client.is_spoilt = True
                read = client.on_message_callback
                client.on_message_callback = lambda socket, message: take(read, socket, message)
            return client

        def take(read: Callable[[Any, Any], None], socket: Any, message: Any) -> None:
            if isinstance(message, dict) and message.get("e") == "kline":
                message = spoil(message)
            if message is not None:
                read(socket, message)

        api.client = dialled


async def play(
    monkeypatch: pytest.MonkeyPatch,
    frames: bool,
    act: Callable[[Paced], Any],
    spoil: Spoil | None = None,
) -> Paced:
    """Run a feed under something wrong; every bar told must be true and closed."""
    if not frames:
        no_frames(monkeypatch)
    monkeypatch.setattr(test_data_flow, "COINS", COINS)
    market = RehearsalSettings(
        coins=COINS, history_days=3, step_minutes=1, source_minutes=1,
        pace=PaceKind.FACTOR, factor=FACTOR,
    )  # fmt: skip
    with structlog.testing.capture_logs():
        async with await serve(market) as exchange:
            feed, clock = test_data_flow.paced_feed(exchange, FACTOR, stream_patience_s=0.2)
            paced = Paced(exchange, feed, clock)
            if spoil is not None:
                paced.spoil_frames(spoil)
            following = asyncio.create_task(paced.follow(), name="follow")
            await paced.bars_of(0, 1)
            await act(paced)
            await paced.bars_of(1, BARS)
            await asyncio.sleep(MINUTE_MS / 1000 / FACTOR)  # what is told must have closed
            assert paced.wrong() == []
            assert paced.early_n == 0
            assert paced.revised_n == 0
            await feed.close()
            await asyncio.gather(following, return_exceptions=True)
    return paced


def no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be known of any venue's frames: caches are read."""
    for room in ("client", "stream", "pump"):
        monkeypatch.setattr(f"adapters.exchange.{room}.FRAME_READERS", {})


async def jump(paced: Paced) -> None:
    """Let one measurement of the venue's clock be five minutes ahead."""
    faults = paced.exchange.exchange.faults
    faults.put(Strike(Fault.CLOCK_JUMP, 3, "", AHEAD_S))
    await paced.clock.measure()
    assert faults.struck_n[Fault.CLOCK_JUMP] == 3
    ahead_ms = paced.clock.now() - paced.exchange.exchange.clock_ms()
    assert ahead_ms < AHEAD_S * 1000 / 10
    await paced.clock.measure()


async def run_ahead(paced: Paced) -> None:
    """Let our clock be five minutes ahead for good, as this machine's own may be."""
    now = paced.clock.now
    paced.clock.now = lambda: now() + round(AHEAD_S * 1000)  # type: ignore[method-assign]
    await asyncio.sleep(0.1)


async def nothing(paced: Paced) -> None:
    """Do nothing more than was spoilt already."""


@pytest.mark.parametrize("act", [jump, run_ahead])
@pytest.mark.parametrize("frames", [True, False])
async def test_a_wrong_clock_makes_no_running_bar_final(
    monkeypatch: pytest.MonkeyPatch, frames: bool, act: Callable[[Paced], Any]
) -> None:
    await play(monkeypatch, frames, act)


@pytest.mark.parametrize("frames", [True, False])
async def test_a_stream_that_stalls_within_each_bar_makes_no_stale_row_final(
    monkeypatch: pytest.MonkeyPatch, frames: bool
) -> None:
    def stalled(message: dict[str, Any]) -> dict[str, Any] | None:
        stale = message["s"] == SILENT and message["E"] - message["k"]["t"] > STALE_FROM_MS
        return None if stale else message

    await play(monkeypatch, frames, nothing, stalled)


@pytest.mark.parametrize(("frames", "closed"), [(True, True), (True, False), (False, False)])
async def test_a_frame_from_the_future_ends_no_bar_and_the_stream_goes_on(
    monkeypatch: pytest.MonkeyPatch, frames: bool, closed: bool
) -> None:
    lied: list[int] = []

    def future(message: dict[str, Any]) -> dict[str, Any]:
        if lied or message["s"] != SILENT or message["k"]["x"]:
            return message
        lied.append(message["k"]["t"])
        kline = {**message["k"], "t": message["k"]["t"] + DAY_MS, "x": closed, "v": "99999"}
        return {**message, "k": kline}

    paced = await play(monkeypatch, frames, nothing, future)
    assert lied
    assert len({close_ms for close_ms, index, _ in paced.told if index == 1}) >= BARS
