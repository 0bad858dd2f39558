"""Seconds until nothing rests any more: process killed, frozen, cut off or stopped, by venue."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import pytest

from adapters.rehearsal.bybit.private_socket import SILENCE_S_MIN, PrivateSockets
from adapters.rehearsal.server import RunningExchange
from adapters.rehearsal.settings import PaceKind
from tests.e2e.live_rig import KEY, VENUES, bank_of, exchange
from tests.e2e.relay import Relay, relay
from tests.e2e.resting_child import RESTING, live

TIMER_S = {"binanceusdm": 2.0, "bybit": 3.0}  # Bybit takes no shorter one
SILENCE_S = 1.0  # Bybit's patience with a silent socket here, in the place of 30 s
SLACK_S = 1.0  # the exchange looks four times a second, and machines are shared
ORDERS_N = 3
CHILD_S_MAX = 60.0
KILLED, FROZEN, CUT = "kill -9", "SIGSTOP", "network cut"
STOPPED, UNARMED = "clean stop", "kill -9, no timer"
CAUSES = (KILLED, FROZEN, CUT, STOPPED, UNARMED)


@dataclass(frozen=True, slots=True)
class Child:
    """Hold a process with resting orders, and the line to it."""

    process: BaseProcess
    line: Connection[str, str]


@asynccontextmanager
async def child(venue: str, rest_url: str, timer_s: float) -> AsyncIterator[Child]:
    # Forked from a process that has imported everything: ten that import ccxt take half a minute.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.e2e.resting_child", "ccxt.pro"])
    ours, theirs = context.Pipe()
    ws_url = rest_url.replace("http", "ws")
    process = context.Process(target=live, args=(theirs, venue, rest_url, ws_url, timer_s))
    await asyncio.to_thread(process.start)
    theirs.close()
    try:
        assert await asyncio.to_thread(ours.poll, CHILD_S_MAX), "never at rest"
        said = ours.recv()
        assert said == RESTING, said
        yield Child(process, ours)
    finally:
        process.kill()
        await asyncio.to_thread(process.join)
        ours.close()


def resting_n(running: RunningExchange) -> int:
    return len(bank_of(running).open_orders(KEY))


def hurry(running: RunningExchange) -> None:
    """Let Bybit end silent sockets sooner: half a minute is too long for a test."""
    for guest in running.exchange.hub.guests:
        assert isinstance(guest, PrivateSockets)
        guest.hurry = SILENCE_S_MIN / SILENCE_S


def do(what: str, one: Child, line: Relay) -> None:
    assert one.process.pid is not None
    if what == CUT:
        line.cut()
    elif what == STOPPED:
        one.line.send("stop")
    else:
        os.kill(one.process.pid, signal.SIGSTOP if what == FROZEN else signal.SIGKILL)


async def seconds_at(venue: str, what: str, all_rest: asyncio.Barrier) -> float | None:
    """Do it to a process with resting orders; give the seconds until none rests, None for never."""
    timer_s = 0.0 if what == UNARMED else TIMER_S[venue]
    async with (
        exchange(venue, pace=PaceKind.FACTOR, factor=1.0) as running,
        relay(running.rest_url) as (url, line),
    ):
        if venue == "bybit":
            hurry(running)
        async with child(venue, url, timer_s) as one:
            await all_rest.wait()
            await asyncio.sleep(TIMER_S[venue] * 1.5)
            assert resting_n(running) == ORDERS_N, "while we live timers are renewed"
            do(what, one, line)
            begun_s = time.monotonic()
            longest_s = TIMER_S[venue] + SILENCE_S + 2 * SLACK_S
            while time.monotonic() - begun_s < longest_s:
                if not resting_n(running):
                    return time.monotonic() - begun_s
                await asyncio.sleep(0.02)
            assert resting_n(running) == ORDERS_N, "all or none"
            return None


def bounds_s(venue: str, what: str) -> tuple[float, float]:
    """Give the least and the most seconds that a timer leaves something resting."""
    timer_s = TIMER_S[venue]
    if venue == "bybit":  # counts from the end of the socket, which the frozen do not bring about
        silence_s = SILENCE_S if what in {FROZEN, CUT} else 0.0
        return timer_s + silence_s - SLACK_S / 2, timer_s + silence_s + SLACK_S
    return timer_s / 2 - SLACK_S / 2, timer_s + SLACK_S  # renewed when half of it is over


def table(took_s: dict[tuple[str, str], float | None]) -> str:
    lines = [f"{'':<18}" + "".join(f"{venue:>13}" for venue in VENUES)]
    for what in CAUSES:
        cells = (took_s[venue, what] for venue in VENUES)
        words = ("never" if one is None else f"{one:.1f} s" for one in cells)
        lines.append(f"{what:<18}" + "".join(f"{word:>13}" for word in words))
    lines.append(f"{'timer':<18}" + "".join(f"{TIMER_S[venue]:>11.1f} s" for venue in VENUES))
    return "\n  ".join(("seconds until no order rests", *lines))


async def test_nothing_rests_once_the_timer_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    """Killed, frozen, cut off, stopped: the venue ends what rests; without timers nobody does."""
    cases = [(venue, what) for venue in VENUES for what in CAUSES]
    barrier = asyncio.Barrier(len(cases))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(seconds_at(*case, barrier)) for case in cases]
    took_s = {case: task.result() for case, task in zip(cases, tasks, strict=True)}
    with capsys.disabled():
        print("\n\n  " + table(took_s))
    for venue, what in cases:
        seconds = took_s[venue, what]
        if what == UNARMED:
            assert seconds is None, "it is the timer that ends them"
            continue
        least_s, most_s = bounds_s(venue, what)
        assert seconds is not None, (venue, what)
        assert least_s <= seconds <= most_s, (venue, what, seconds)
