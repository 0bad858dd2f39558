"""`flatten --independent` beside a daemon that hangs: flat, nothing doubled, and it stays flat."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.ccxt_venue.closing import FLAT_PREFIX
from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.faults import Fault
from daemon.commands.operating import NOT_FLAT_EXIT, REFUSED_EXIT
from daemon.settings import effective_toml
from daemon.wiring.control import live_latches
from daemon.wiring.flattening import HALTED_WHY
from tests.e2e.line import Finished, command, daemon
from tests.e2e.live_rig import (
    ACCOUNTS,
    KEY,
    SECRET,
    VENUES,
    bank_of,
    environment_at,
    exchange,
    live_settings,
)

MORE = 6
CASES = (
    ("binanceusdm", Fault.NONE),
    ("binanceusdm", Fault.ORDER_LOST_503),
    ("binanceusdm", Fault.ORDER_REFUSED_503),
    ("binanceusdm", Fault.POSITIONS_BROKEN),
    ("bybit", Fault.NONE),
    ("bybit", Fault.ORDER_LOST_RESET),
    ("bybit", Fault.POSITIONS_BROKEN),
)


async def flatten(path: Path, state: Path, *more: str) -> Finished:
    chosen: tuple[str | Path, ...] = ("flatten", "--independent", "--config", path, "--json", *more)
    around = environment_at(state)
    return await asyncio.to_thread(command, *chosen, cwd=path.parent, extra=around)


def held(bank: Bank) -> dict[str, Decimal]:
    views = bank.positions(KEY)
    return {v.symbol: v.position.quantity for v in views if v.position.quantity}


def closed(bank: Bank) -> dict[str, Decimal]:
    """Sum up the fills of the flattening's own orders, signed."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    mine = [o for o in bank.orders(KEY) if o.client_id.startswith(FLAT_PREFIX)]
    assert len({o.client_id for o in mine}) == len(mine), "a name was used twice"
    assert all(o.reduce_only for o in mine)
    for one in mine:
        sums[one.symbol] += one.filled
    return dict(sums)


@pytest.mark.parametrize(("venue", "fault"), CASES)
async def test_a_frozen_daemons_account_is_flat_and_stays_so_when_it_wakes(
    tmp_path: Path, venue: str, fault: Fault
) -> None:
    state, path = tmp_path / "state", tmp_path / "live.toml"
    async with exchange(venue) as running:
        path.write_text(effective_toml(live_settings(running, state)))
        chosen = ("trade", "--live", "--config", path)
        async with daemon(*chosen, cwd=tmp_path, extra=environment_at(state)) as process:
            await process.decided(4)
            os.kill(process.process.pid, signal.SIGSTOP)
            bank = bank_of(running)
            before, daemons = held(bank), len(bank.orders(KEY))
            assert len(before) > 1
            if fault is not Fault.NONE:
                running.exchange.faults.set(fault.value, 2)
            done = await flatten(path, state, "--yes")
            assert done.code == 0, done.out + done.complaint
            assert done.values["flat"] is True
            if fault is not Fault.NONE:
                assert running.exchange.faults.struck_n[fault] >= 1
            assert held(bank) == {}
            assert closed(bank) == {name: -quantity for name, quantity in before.items()}
            for file in live_latches(state, ACCOUNTS[venue], environment_at(state)).files:
                assert HALTED_WHY in file.read_text(), file
            flats = len(bank.orders(KEY)) - daemons
            os.kill(process.process.pid, signal.SIGCONT)
            await process.decided(process.count["decision"] + MORE)
            assert len(bank.orders(KEY)) == daemons + flats, "a woken daemon sent an order"
            assert held(bank) == {}
            assert SECRET not in done.out + done.complaint


async def test_without_a_yes_nothing_is_latched_or_sent(tmp_path: Path) -> None:
    state, path = tmp_path / "state", tmp_path / "live.toml"
    async with exchange() as running:
        path.write_text(effective_toml(live_settings(running, state)))
        done = await flatten(path, state)
        assert done.code == REFUSED_EXIT
        assert not state.exists()
        assert not (tmp_path / "xdg").exists()


@pytest.mark.parametrize("venue", VENUES)
async def test_it_says_what_is_left_when_time_is_up(tmp_path: Path, venue: str) -> None:
    state, path = tmp_path / "state", tmp_path / "live.toml"
    async with exchange(venue) as running:
        path.write_text(effective_toml(live_settings(running, state)))
        running.exchange.faults.set(Fault.POSITIONS_BROKEN.value, 1_000)
        done = await flatten(path, state, "--yes", "--within", "1")
        assert done.code == NOT_FLAT_EXIT, done.complaint
        assert json.loads(done.out)["left"] is None
        assert json.loads(done.out)["troubles"]
        assert list((tmp_path / "xdg").rglob("*.latch"))
