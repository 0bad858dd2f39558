"""Operators and the halt latch through the real commands, against a daemon that really trades."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adapters.control import LATCH_NAME
from adapters.journal import JournalReader
from daemon.commands.operating import REFUSED_EXIT, UNANSWERED_EXIT
from daemon.commands.status import NOT_RUNNING_EXIT
from daemon.domain.messages import Operator, OperatorAction, OrderRejected, Submit
from daemon.domain.order import Order
from tests.e2e.books import check_books_agree, copied, read_account
from tests.e2e.line import (
    SMALL,
    Daemon,
    Finished,
    command,
    daemon,
    gone,
    rehearse,
    settings_of,
)

LATER_N = 4  # decisions that are waited for after a wish


async def say(verb: str, state: Path, *words: str) -> Finished:
    """Run an operator's command while the daemon's output is read on."""
    said = [verb, "--state", str(state), "--json", *words]
    return await asyncio.to_thread(command, *said, cwd=state.parent)


async def obeyed(verb: str, state: Path, *words: str) -> dict[str, Any]:
    """Run an operator's command that must be acknowledged; gives the answer."""
    done = await say(verb, state, *words)
    assert done.code == 0, done.complaint + done.out
    answer: dict[str, Any] = done.values["answer"]
    assert answer["obeyed"]
    return answer


async def later(running: Daemon, count: int = LATER_N) -> None:
    await running.decided(running.count["decision"] + count)


def sent_after_each_wish(state: Path) -> Iterator[tuple[OperatorAction | None, list[Order]]]:
    """Give each wish of the journal with the orders submitted until the next one.

    A kill comes twice, as the latch and as a request, and is one wish: its id says so.
    """
    wish, sent, seen = None, list[Order](), set[str]()
    for entry in JournalReader(state / "journal.sqlite").read_from(1):
        if isinstance(entry.event, Operator) and entry.event.request_id not in seen:
            seen.add(entry.event.request_id)
            yield wish, sent
            wish, sent = entry.event.action, []
        sent += [c.approved.order for c in entry.commands if isinstance(c, Submit)]
    yield wish, sent


async def test_each_wish_is_acknowledged_and_does_what_it_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.until(lambda d: bool(d.of("fill")) and d.count["decision"] > 3)
        paused = await obeyed("pause", state)
        assert (paused["trading"], paused["paused"]) == ("trading", True)
        assert paused["positions_n"] > 0
        await later(running)
        assert not (await obeyed("resume", state))["paused"]
        await later(running)
        reducing = await obeyed("reduce-only", state)
        assert (reducing["trading"], reducing["reduce_only"]) == ("reduce_only", True)
        await later(running)
        await obeyed("resume", state)
        await later(running)
        flattening = await obeyed("flatten", state)
        assert flattening["flattening"]
        await later(running)
        asked_again = await obeyed("flatten", state, "--request-id", flattening["request_id"])
        assert asked_again == flattening
        assert (await obeyed("pause", state))["positions_n"] == 0
        assert await running.end(signal.SIGTERM) == 0, running.said
    book = check_books_agree(settings_of(state, *SMALL))
    assert not any(position.quantity for position in book.ledger.positions.values())
    phases = list(sent_after_each_wish(state))
    assert [str(wish) for wish, _ in phases[1:]] == [
        "pause", "resume", "reduce_only", "resume", "flatten", "pause"
    ]  # fmt: skip
    sent = [orders for _, orders in phases]
    assert sent[0], "nothing was traded before"
    assert not sent[1]
    assert any(not order.reduce_only for order in sent[2]), "nothing was traded after the pause"
    assert all(order.reduce_only for order in sent[3])
    assert sent[5]
    assert all(order.reduce_only for order in sent[5])
    assert not sent[6]


async def test_a_pause_and_what_was_asked_while_nothing_ran_outlive_a_restart(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.until(lambda d: bool(d.of("fill")) and d.count["decision"] > 2)
        assert await running.end(signal.SIGTERM) == 0, running.said
    left = await say("pause", state, "--request-id", "left-here")
    assert left.code == NOT_RUNNING_EXIT
    assert left.values["owner"] is None
    for _ in range(2):
        async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
            await running.decided(LATER_N)
            answer = await obeyed("pause", state, "--request-id", "left-here")
            assert answer["paused"]
            assert await running.end(signal.SIGTERM) == 0, running.said
    check_books_agree(settings_of(state, *SMALL))
    (wish, sent) = list(sent_after_each_wish(state))[-1]
    assert wish is OperatorAction.PAUSE
    assert sent == []


async def test_a_killed_book_stays_halted_over_a_restart_and_resumes_in_its_own_folder(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.until(lambda d: bool(d.of("fill")) and d.count["decision"] > 2)
        killed = await obeyed("kill", state, "--reason", "a test")
        assert killed["trading"] == "halted"
        assert killed["halted_why"] == "killed by the operator: a test"
        assert killed["positions_n"] > 0
        await later(running)
        refused = await say("resume", state)
        assert refused.code == REFUSED_EXIT
        assert "--clear-latch" in refused.values["answer"]["why"]
        assert await running.end(signal.SIGTERM) == 0, running.said
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.decided(LATER_N)
        resumed = await say("resume", state, "--clear-latch")
        assert resumed.code == 0, resumed.out
        assert resumed.values["cleared"] == [str(state / LATCH_NAME)]
        await later(running, 2 * LATER_N)
        assert await running.end(signal.SIGTERM) == 0, running.said
    check_books_agree(settings_of(state, *SMALL))
    phases = list(sent_after_each_wish(state))
    assert [str(wish) for wish, _ in phases[1:]] == ["kill", "resume"]
    assert phases[1][1] == []
    assert phases[2][1], "after the resume nothing was traded"


# ---- a daemon that hangs -------------------------------------------------------------------------


async def test_a_frozen_daemon_that_is_killed_sends_nothing_once_it_wakes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.until(lambda d: bool(d.of("fill")) and d.count["decision"] > 2)
        running.process.send_signal(signal.SIGSTOP)
        before = copied(state, tmp_path / "before")
        handed_out = orders_in(before)
        done = await say("kill", state, "--wait", "0.3")
        assert done.code == UNANSWERED_EXIT
        assert done.values["owner"] == running.process.pid
        name = done.values["request_id"]
        (state / "control" / "commands" / f"{name}.json").unlink()  # the latch alone must do
        running.process.send_signal(signal.SIGCONT)
        await running.until(lambda d: any(a["kind"] == "halted" for a in d.of("alert")))
        again = await obeyed("kill", state, "--request-id", name)
        assert again["trading"] == "halted"
        await later(running)
        assert await running.end(signal.SIGTERM) == 0, running.said
    account = read_account(state)
    assert account is not None
    # what was on its way to the venue when the process froze is no order after the latch
    assert account.order_ids <= handed_out
    refused = {
        entry.event.order_id
        for entry in JournalReader(state / "journal.sqlite").read_from(1)
        if isinstance(entry.event, OrderRejected) and entry.event.reason.startswith("not sent: ")
    }
    assert orders_in(state) - handed_out <= refused


def orders_in(state: Path) -> set[str]:
    """Give the ids of all orders that the journal's commands submitted."""
    entries = JournalReader(state / "journal.sqlite").read_from(1)
    return {c.approved.order.order_id for e in entries for c in e.commands if isinstance(c, Submit)}


async def test_a_frozen_daemon_is_ended_by_its_id_and_the_next_start_is_halted(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.until(lambda d: bool(d.of("fill")) and d.count["decision"] > 2)
        family = running.family()
        running.process.send_signal(signal.SIGSTOP)
        done = await say("kill", state, "--force-after", "0.3")
        assert done.code == 0, done.complaint + done.out
        assert done.values["ended_by"] == "SIGKILL"  # a frozen process takes no SIGTERM
        assert await running.process.wait() == -signal.SIGKILL
        await gone(family)
    handed_out = orders_in(state)
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.decided(LATER_N)
        assert (await obeyed("pause", state))["halted_why"] == "killed by the operator"
        assert await running.end(signal.SIGTERM) == 0, running.said
    assert orders_in(state) == handed_out


def test_kill_without_a_daemon_sets_the_latch_and_a_missing_folder_is_named(tmp_path: Path) -> None:
    state = tmp_path / "state"
    missing = command("kill", "--state", state, cwd=tmp_path)
    assert missing.code == 78
    assert f"state folder {state}: there is none" in missing.complaint
    assert not state.exists()
    state.mkdir()
    done = command("kill", "--state", state, "--json", cwd=tmp_path)
    assert done.code == NOT_RUNNING_EXIT
    assert (state / LATCH_NAME).is_file()
    said = command("resume", "--state", state, "--request-id", "../x", cwd=tmp_path)
    assert said.code == 78
    assert "accepted are up to 64 letters" in said.complaint
