"""A live journal of several processes, with faults, wishes and halts, replays to the byte."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from adapters.control import Request, Spool
from adapters.journal.entry import GENESIS, decode_body, link, pack, unpack
from adapters.rehearsal.faults import Fault
from daemon import codec
from daemon.domain.bar import Field
from daemon.domain.failures import BrokenChain
from daemon.domain.messages import BarsClosed, Event, Operator, OperatorAction, Recorded, Submit
from daemon.domain.order import Approved
from daemon.wiring.verification import verify_journal
from tests.e2e.line import command
from tests.e2e.live_rig import (
    VENUES,
    Seen,
    abandon_live,
    check_once_each,
    decided_n,
    exchange,
    live_settings,
    run_live,
)

DIVERGED, JOURNAL = 4, 74
Forged = tuple[Event, tuple[Recorded, ...]]


def wish(state: Path, action: OperatorAction, name: str) -> None:
    """Leave a wish as the command line does; what waits is taken at the next start."""
    spool = Spool(state)
    spool.open()
    spool.send(Request(action, name, 2**53))  # an age that no clock calls old


def heard(action: OperatorAction) -> Callable[[Seen], bool]:
    return lambda seen: any(isinstance(e, Operator) and e.action is action for e in seen.events)


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=VENUES)
async def incident(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Path]:
    """Trade through faults in four processes, the first of which is abandoned in the middle."""
    state = tmp_path_factory.mktemp(request.param) / "state"
    async with exchange(request.param) as running:
        faults = running.exchange.faults
        settings = live_settings(running, state)
        faults.set(Fault.ORDER_LOST_RESET.value, 1)
        await abandon_live(settings, lambda s: sum(isinstance(c, Submit) for c in s.commands) > 9)
        wish(state, OperatorAction.REDUCE_ONLY, "one")
        faults.set(Fault.ORDER_LOST_503.value, 2)
        await run_live(settings, lambda s: decided_n(s) >= 2)
        wish(state, OperatorAction.KILL, "two")
        await run_live(settings, lambda s: heard(OperatorAction.KILL)(s) and decided_n(s) >= 1)
        faults.set(Fault.FORCED_REDUCTION.value, 1)
        wider = live_settings(running, state, "risk.net_weight_max=0.08")
        await run_live(wider, lambda s: decided_n(s) >= 2)
        check_once_each(state, running)
    yield state


def copied(state: Path, to: Path) -> Path:
    """Copy what the documents tell to copy."""
    to.mkdir()
    for name in ("journal.sqlite", "journal.sqlite-wal", "instruments.json"):
        if (state / name).exists():
            shutil.copy(state / name, to)
    return to


def forge(state: Path, change: Callable[[Event, tuple[Recorded, ...]], Forged | None]) -> int:
    """Change the first entry that `change` changes and seal the chain anew; give its number."""
    number, chain = 0, GENESIS
    with sqlite3.connect(state / "journal.sqlite") as connection:
        connection.execute("DELETE FROM snapshots")
        rows = connection.execute("SELECT sequence, body FROM entries ORDER BY sequence").fetchall()
        for sequence, stored in rows:
            body = unpack(stored)
            assert body is not None
            found = None if number else change(*decode_body(body))
            if found is not None:
                number = sequence
                event, commands = found
                told = [codec.encode_message(c) for c in commands]
                body = codec.encode((codec.encode_message(event), told))
            chain = link(chain, sequence, body)
            connection.execute(
                "UPDATE entries SET body = ?, chain = ? WHERE sequence = ?",
                (pack(body), chain, sequence),
            )
    connection.close()
    assert number
    return number


def test_a_live_journal_of_several_processes_gives_the_same_commands_to_the_byte(
    incident: Path,
) -> None:
    found = verify_journal(incident)
    assert found.divergence is None
    assert len(found.starts) == 4
    assert found.events["Operator"] >= 2
    assert found.events["OrderUncertain"] >= 1
    assert found.halts >= 1
    assert found.commands["Submit"] > 9
    assert sum(found.events.values()) == found.entries
    assert 0 < found.first_ms < found.last_ms


def test_the_command_says_what_was_replayed_and_ends_with_0(incident: Path, tmp_path: Path) -> None:
    done = command("replay", "--verify", "--state", incident, cwd=tmp_path)
    assert done.code == 0, done.complaint
    assert "every command is the same to the byte" in done.out
    assert "Submit" in done.out
    assert "daemon started at entries 1, " in done.out


def test_one_changed_bar_is_shown_as_the_first_divergence(incident: Path, tmp_path: Path) -> None:
    state = copied(incident, tmp_path / "changed")

    def one_tick(event: Event, commands: tuple[Recorded, ...]) -> Forged | None:
        if not (isinstance(event, BarsClosed) and any(isinstance(c, Submit) for c in commands)):
            return None
        values = np.array(event.values)
        values[0, Field.CLOSE] = np.nextafter(values[0, Field.CLOSE], np.inf)
        fields = (event.proof, event.opens, event.final, event.proven_ms)
        return BarsClosed(event.close_ms, values, *fields), commands

    number = forge(state, one_tick)
    done = command("replay", "--verify", "--state", state, cwd=tmp_path)
    assert done.code == DIVERGED, done.out + done.complaint
    assert f"entry {number} (BarsClosed at " in done.out
    assert "recorded " in done.out
    assert "replayed " in done.out
    assert command("replay", "--state", state, cwd=tmp_path).code == 0, "only --verify fails"


def test_one_changed_command_is_shown_with_both_quantities(incident: Path, tmp_path: Path) -> None:
    state = copied(incident, tmp_path / "changed")

    def doubled(event: Event, commands: tuple[Recorded, ...]) -> Forged | None:
        for place, one in enumerate(commands):
            if isinstance(one, Submit):
                order = one.approved.order
                fields = {name: getattr(order, name) for name in order.__struct_fields__}
                fields["quantity"] = order.quantity * Decimal(2)
                other = Submit(Approved(type(order)(**fields)))
                return event, (*commands[:place], other, *commands[place + 1 :])
        return None

    number = forge(state, doubled)
    done = command("replay", "--verify", "--json", "--state", state, cwd=tmp_path)
    assert done.code == DIVERGED
    told = done.values["divergence_detail"]
    assert told["sequence"] == number
    assert told["place"] == "approved.order.quantity"
    was, now = (Decimal(value.strip("'")) for value in told["values"])
    assert was == 2 * now
    assert "Submit" in told["recorded"]
    assert "Submit" in told["replayed"]
    assert f"entry {number} " in done.values["divergence"]


def test_a_changed_byte_names_its_entry_and_how_far_all_was_the_same(
    incident: Path, tmp_path: Path
) -> None:
    state = copied(incident, tmp_path / "torn")
    with sqlite3.connect(state / "journal.sqlite") as connection:
        query = "SELECT sequence, body FROM entries ORDER BY sequence DESC LIMIT 1 OFFSET 5"
        number, body = connection.execute(query).fetchone()
        torn = body[:-1] + bytes([body[-1] ^ 1])
        connection.execute("UPDATE entries SET body = ? WHERE sequence = ?", (torn, number))
    connection.close()
    with pytest.raises(BrokenChain, match=rf"entry {number} .*entries 1 to {number - 1} lead"):
        verify_journal(state)
    done = command("replay", "--verify", "--state", state, cwd=tmp_path)
    assert done.code == JOURNAL
    assert f"entry {number} " in done.complaint
