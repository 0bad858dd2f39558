"""The operator's side: leave a request for a daemon, wait for its answer, or end its process.

A kill sets the halt latch before anything else, so that it holds whether or not anybody answers.
"""

from __future__ import annotations

import secrets
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from adapters.clocks import TransportClock
from adapters.control import Answer, Halt, Latches, Request, Spool, is_request_id
from adapters.state_lock import end_owner, owner_of
from daemon.domain.failures import ConfigurationError, CorruptFile, JournalError
from daemon.domain.messages import OperatorAction
from daemon.wiring.control import KILLED, latches_at, latches_of

LOOK_S: Final = 0.05
TERM_S: Final = 6.0  # a stop takes 5 s at most; who takes longer hangs
KILL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Wish:
    """Hold what an operator asks for.

    wait_s: how long the answer is waited for. clear_latch: take the latch away first.
    force_after_s: end the process by its id when it has not answered by then; None lets it be.
    """

    action: OperatorAction
    request_id: str = ""
    wait_s: float = 10.0
    reason: str = ""
    clear_latch: bool = False
    force_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Hold how it went.

    owner: the process that holds the folder and has not answered; None where nothing runs.
    ended_by: the signal that ended it.
    """

    request_id: str
    answer: Answer | None
    owner: int | None = None
    cleared: tuple[Path, ...] = ()
    ended_by: str = ""


def running_in(folder: Path) -> bool:
    """Tell whether a daemon holds this state folder."""
    return owner_of(folder) is not None


def ask(folder: Path, wish: Wish) -> Told:
    """Ask the daemon of a state folder for something, and wait for its answer.

    Raises ConfigurationError for a folder or id that cannot be, JournalError or OSError where the
    disk refuses; a kill then says whether its latch is set.
    """
    name = wish.request_id or f"{wish.action}-{secrets.token_hex(6)}"
    if not is_request_id(name):
        raise ConfigurationError(
            f"request id {name!r}: accepted are up to 64 letters, digits, - and _"
        )
    if not folder.is_dir():
        raise ConfigurationError(f"state folder {folder}: there is none; name one with --state")
    clock = TransportClock()
    if wish.action is OperatorAction.KILL:
        return _kill(folder, wish, name, clock)
    cleared = latches_at(folder).clear() if wish.clear_latch else ()
    answer = _asked(folder, wish, name, clock)
    return Told(name, answer, None if answer is not None else owner_of(folder), cleared)


def _kill(folder: Path, wish: Wish, name: str, clock: TransportClock) -> Told:
    """Set the latch before anything else; ask and end whatever the disk says to that."""
    troubles: list[str] = []
    reason = f"{KILLED}: {wish.reason}" if wish.reason else KILLED
    latches = _latches(folder, troubles)
    with suppress(OSError, ConfigurationError):  # setting says what is wrong
        latches.open()
    try:
        latches.set(Halt(reason, name, clock.wall_ms()))
    except OSError as e:
        troubles.append(f"the halt latch could not be set: {e}")
    answer, ended_by = None, ""
    try:
        answer = _asked(folder, wish, name, clock)
    except (OSError, ConfigurationError) as e:
        troubles.append(f"the daemon could not be asked: {e}")
    try:
        if answer is None and wish.force_after_s is not None:
            ended_by = _end(folder, clock)
    except (OSError, ConfigurationError) as e:
        troubles.append(f"the daemon could not be ended: {e}")
    if troubles:
        rest = "it acknowledged" if answer is not None else ended_by or "nothing else was done"
        is_set = latches.found() is not None
        latch = "the halt latch is set" if is_set else "NO HALT LATCH IS SET"
        raise JournalError(f"{'; '.join(troubles)}; {latch}; {rest}")
    return Told(name, answer, None if answer is not None else owner_of(folder), (), ended_by)


def _latches(folder: Path, troubles: list[str]) -> Latches:
    """Give all latches, or that of the folder where its account cannot be told."""
    try:
        return latches_at(folder)
    except CorruptFile as e:
        troubles.append(f"only the latch of the state folder: {e}")
        return latches_of(folder)


def _asked(folder: Path, wish: Wish, name: str, clock: TransportClock) -> Answer | None:
    """Leave the request unless it was answered before, and wait for the answer."""
    spool = Spool(folder)
    spool.open()
    before = spool.answer(name)
    again = before is not None and before.action is wish.action is OperatorAction.KILL
    if again:  # an old answer tells nothing of the daemon as it is now
        spool.forget(name)
    if before is None or again:
        spool.send(Request(wish.action, name, clock.wall_ms()))
        return _answered(folder, spool, wish, name, clock)
    if before.action is not wish.action:
        raise ConfigurationError(
            f"request id {name} stands for {before.action} already; give {wish.action} its own"
        )
    return before


def _answered(
    folder: Path, spool: Spool, wish: Wish, name: str, clock: TransportClock
) -> Answer | None:
    wait_s = wish.wait_s if wish.force_after_s is None else wish.force_after_s
    until_s = clock.monotonic() + wait_s
    while True:
        # In this order: a daemon that ends may have answered before.
        is_late = clock.monotonic() >= until_s or owner_of(folder) is None
        answer = spool.answer(name)
        if answer is not None or is_late:
            return answer
        time.sleep(LOOK_S)


def _end(folder: Path, clock: TransportClock) -> str:
    """End the process that holds the folder; gives the signal it took, "" when there was none."""
    for number, patience_s in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
        if not end_owner(folder, number):
            return ""
        until_s = clock.monotonic() + patience_s
        while clock.monotonic() < until_s:
            if owner_of(folder) is None:
                return number.name
            time.sleep(LOOK_S)
    raise ConfigurationError(
        f"process {owner_of(folder)} does not end: the machine must be seen to"
    )
