"""Operators beside a session in memory: requests, answers, and the latch, with a real shell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters.clocks import TransportClock
from adapters.control import Answer, Halt, Latches, Request, Spool, account_latch
from adapters.control.spool import Waiting
from adapters.journal import MemoryJournal
from daemon.domain.messages import Command, Event, Operator, OperatorAction, Started
from daemon.engine.risk import TradingState
from daemon.runtime.live import LiveShell
from daemon.wiring import control
from daemon.wiring.control import STALE_S, OperatorControl, latches_of, shared_latches
from tests.runtime.rig import Line, line_of, panel_of

PAUSE, RESUME, FLATTEN = OperatorAction.PAUSE, OperatorAction.RESUME, OperatorAction.FLATTEN
REDUCE, KILL = OperatorAction.REDUCE_ONLY, OperatorAction.KILL
NOW_MS = 1_800_000_000_000
STALE_MS = round(STALE_S * 1000)
PANEL = panel_of(20)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "POLL_S", 0.005)


class StillClock(TransportClock):
    """Let the machine's time stand still."""

    def wall_ms(self) -> int:
        return NOW_MS


class HeldJournal(MemoryJournal):
    """Write nothing while it is held."""

    def __init__(self) -> None:
        super().__init__(keep_entries=True)
        self.free = asyncio.Event()
        self.free.set()

    async def append(self, entries: Sequence[tuple[Event, Sequence[Command]]]) -> int:
        await self.free.wait()
        return await super().append(entries)


@dataclass
class Desk:
    """Hold a session with its operator's side."""

    line: Line
    spool: Spool
    latches: Latches
    journal: HeldJournal
    stop: asyncio.Event
    running: asyncio.Task[None]

    def ask(self, action: OperatorAction, name: str, asked_ms: int = NOW_MS) -> None:
        self.spool.send(Request(action, name, asked_ms))

    async def answered(self, name: str) -> Answer:
        async with asyncio.timeout(10):
            while True:
                answer = self.spool.answer(name)
                if answer is not None:
                    return answer
                assert not self.running.done()
                await asyncio.sleep(0.002)

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not wanted():
                assert not self.running.done()
                await asyncio.sleep(0.002)

    @property
    def wishes(self) -> list[Operator]:
        return [e.event for e in self.journal.read_from(1) if isinstance(e.event, Operator)]


@asynccontextmanager
async def desk(
    folder: Path, *, begins: Callable[[Desk], None] = lambda made: None
) -> AsyncIterator[Desk]:
    """Run a session over a small market, which then stands still, until the block ends."""
    journal = HeldJournal()
    line = line_of(PANEL, journal=journal)
    latches = latches_of(folder, account_latch(folder / "shared", "paper", "mine"))
    side = OperatorControl(folder, latches, line.clock, StillClock())
    side.open()
    parts = replace(
        line.shell._parts,
        orders=side.guarded(line.venue),
        observers=(side.observe, *line.shell._parts.observers),
        openings=(side.begin,),
        sources={"operator": side.listen},
    )
    shell = LiveShell(parts)
    line.shell = shell
    line.clock.quiet = shell.quiet
    stop = asyncio.Event()
    made = Desk(line, Spool(folder), latches, journal, stop, asyncio.create_task(asyncio.sleep(0)))
    begins(made)
    made.running = asyncio.create_task(shell.run(stop))
    try:
        yield made
    finally:
        journal.free.set()
        stop.set()
        await made.running


async def traded(made: Desk) -> None:
    """Wait until the small market is over."""
    async with asyncio.timeout(20):
        await made.line.clock.ended.wait()


async def test_a_request_is_answered_with_what_the_engine_stands_at(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        held_n = sum(1 for q in made.line.engine.state.book.held if q)
        made.ask(PAUSE, "p")
        answer = await made.answered("p")
        assert answer.obeyed
        assert (answer.trading, answer.paused, answer.halted_why) == ("trading", True, "")
        assert answer.positions_n == held_n > 0
        assert answer.at_ms == made.line.clock.now()
        await made.until(lambda: made.spool.waiting().requests == ())
        assert made.wishes == [Operator(PAUSE, "p", made.line.clock.now())]


async def test_no_answer_comes_before_the_journal_holds_the_wish(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        made.journal.free.clear()
        made.ask(PAUSE, "p")
        await made.until(lambda: made.line.engine.state.paused)
        await asyncio.sleep(0.05)
        assert made.spool.answer("p") is None
        assert made.wishes == []
        made.journal.free.set()
        assert (await made.answered("p")).paused


async def test_a_request_left_while_nothing_ran_is_obeyed_before_anything_is_traded(
    tmp_path: Path,
) -> None:
    def before(made: Desk) -> None:
        made.ask(PAUSE, "old", NOW_MS - 100 * STALE_MS)

    async with desk(tmp_path, begins=before) as made:
        assert (await made.answered("old")).paused
        await traded(made)
        events = [entry.event for entry in made.journal.read_from(1)]
        assert isinstance(events[0], Started)
        assert made.line.venue.sent == []


@pytest.mark.parametrize("action", [RESUME, FLATTEN])
@pytest.mark.parametrize("off_ms", [-STALE_MS - 1, STALE_MS + 1])
async def test_an_old_resume_or_flatten_surprises_nobody(
    tmp_path: Path, action: OperatorAction, off_ms: int
) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        made.ask(PAUSE, "p")
        await made.answered("p")
        made.ask(action, "old", NOW_MS + off_ms)
        answer = await made.answered("old")
        assert not answer.obeyed
        assert "which is over 120 s: ask again" in answer.why
        assert answer.paused
        assert not answer.flattening
        assert [w.request_id for w in made.wishes] == ["p"]
        made.ask(action, "fresh", NOW_MS - STALE_MS)
        assert (await made.answered("fresh")).obeyed


@pytest.mark.parametrize("action", [PAUSE, REDUCE, KILL])
async def test_what_only_forbids_is_obeyed_however_old(
    tmp_path: Path, action: OperatorAction
) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        made.ask(action, "old", NOW_MS - 1_000 * STALE_MS)
        assert (await made.answered("old")).obeyed


async def test_the_same_request_again_is_done_once_and_answered_again(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        made.ask(RESUME, "r")
        await made.answered("r")
        made.ask(PAUSE, "p")
        await made.answered("p")
        (made.spool.folder / "answers" / "r.json").unlink()
        made.ask(RESUME, "r", NOW_MS - 9 * STALE_MS)  # as after a crash between journal and answer
        answer = await made.answered("r")
        assert answer.obeyed, "it is old by now, but it was done in time"
        assert answer.paused, "a resume that was obeyed counted again"


async def test_a_disk_that_takes_no_answer_makes_no_wish_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = Spool.settle, 0

    def settle(self: Spool, answer: Answer) -> None:
        nonlocal refused
        refused += 1
        if refused <= 5:
            raise OSError(28, "No space left on device")
        real(self, answer)

    monkeypatch.setattr(Spool, "settle", settle)
    async with desk(tmp_path) as made:
        await traded(made)
        made.ask(PAUSE, "p")
        assert (await made.answered("p")).obeyed
        assert len(made.wishes) == 1
        made.ask(RESUME, "r")
        assert not (await made.answered("r")).paused


async def test_what_is_no_request_stops_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        (made.spool.folder / "commands" / "torn.json").write_bytes(b'{"act')
        made.ask(PAUSE, "p")
        assert (await made.answered("p")).obeyed


# ---- the latch -----------------------------------------------------------------------------------

HALT = Halt("killed by the operator: a test", "k", NOW_MS)


@pytest.mark.parametrize("number", [0, 1])
async def test_a_latch_halts_with_its_reason_and_only_a_resume_after_clearing_ends_it(
    tmp_path: Path, number: int
) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        state = made.line.engine.state
        Latches([made.latches.files[number]]).set(HALT)
        await made.until(lambda: state.trading is TradingState.HALTED)
        assert state.halted_why == HALT.reason
        made.ask(RESUME, "early")
        answer = await made.answered("early")
        assert not answer.obeyed
        assert "the halt latch is set" in answer.why
        made.ask(FLATTEN, "f")
        assert "resume first, then flatten" in (await made.answered("f")).why
        assert made.latches.clear() == (made.latches.files[number],)
        await asyncio.sleep(0.05)
        assert state.trading is TradingState.HALTED, "a file that goes is no resume"
        made.ask(RESUME, "r")
        assert (await made.answered("r")).obeyed
        await made.until(lambda: state.trading is TradingState.TRADING)
        made.latches.set(HALT)  # the same once more
        await made.until(lambda: state.trading is TradingState.HALTED)


async def test_a_kill_that_comes_with_its_latch_is_one_wish_with_the_reason(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as made:
        await traded(made)
        made.latches.set(HALT)
        made.ask(KILL, "k")
        assert (await made.answered("k")).halted_why == HALT.reason
        assert {w.request_id for w in made.wishes} == {"k"}


async def test_a_kill_by_an_id_that_was_resumed_since_halts_before_it_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Spool.waiting

    def waiting(self: Spool) -> Waiting:
        found = real(self)
        if [r.asked_ms for r in found.requests] == [NOW_MS + 1]:
            made.latches.set(HALT)  # it came after the look at the latch
        return found

    monkeypatch.setattr(Spool, "waiting", waiting)
    async with desk(tmp_path) as made:
        await traded(made)
        made.ask(KILL, "k")
        assert (await made.answered("k")).halted_why == "killed by the operator"
        made.ask(RESUME, "r")
        await made.answered("r")
        made.spool.forget("k")
        made.ask(KILL, "k", NOW_MS + 1)
        assert (await made.answered("k")).halted_why == HALT.reason


@pytest.mark.parametrize("content", [b"", b"torn"])
async def test_with_a_latch_at_the_start_it_begins_halted_and_nothing_is_ever_sent(
    tmp_path: Path, content: bytes
) -> None:
    def before(made: Desk) -> None:
        made.latches.files[1].write_bytes(content)

    async with desk(tmp_path, begins=before) as made:
        await traded(made)
        assert made.line.engine.state.trading is TradingState.HALTED
        assert not any(d.orders for d in made.line.decisions)
        assert "cannot be read, which counts as set" in made.line.engine.state.halted_why
        assert made.line.venue.sent == []


async def test_a_latch_alone_keeps_orders_back_though_nobody_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(self: OperatorControl, shell: LiveShell) -> None:
        pass

    monkeypatch.setattr(OperatorControl, "_look", deaf)
    async with desk(tmp_path, begins=lambda made: made.latches.set(HALT)) as made:
        await traded(made)
        assert made.line.engine.state.trading is TradingState.TRADING
        assert any(d.orders for d in made.line.decisions)
        assert made.line.venue.sent == []


def test_the_shared_folder_follows_the_users_state_folder(tmp_path: Path) -> None:
    named = shared_latches({"XDG_STATE_HOME": str(tmp_path)})
    assert named == tmp_path / "equipoise" / "latches"
    assert shared_latches({}) == Path.home() / ".local" / "state" / "equipoise" / "latches"
    assert len(latches_of(tmp_path).files) == 1
