"""Requests of operators and their answers, as files in the state folder.

    control/commands/<request_id>.json   written by a client, taken away once it is answered
    control/answers/<request_id>.json    written by the daemon; the newest are kept
    control/aside/                       what lay among the commands and was none

A request is there whole or not at all, outlives both sides, and has an id by which it counts once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from adapters.control.files import (
    UNFINISHED,
    force_folder,
    private_folder,
    read_private,
    write_new,
    write_whole,
)
from daemon.domain.failures import ConfigurationError, CorruptFile
from daemon.domain.messages import OperatorAction
from daemon.domain.units import require

FOLDER: Final = "control"
SUFFIX: Final = ".json"
ANSWERS_KEPT: Final = 200
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# Of two requests of one millisecond the more careful one comes last, and has the last word.
_CAREFUL: Final = (
    OperatorAction.RELOAD,
    OperatorAction.RESUME,
    OperatorAction.REDUCE_ONLY,
    OperatorAction.PAUSE,
    OperatorAction.FLATTEN,
    OperatorAction.KILL,
)


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold what an operator asked for. asked_ms: UTC of the client's machine."""

    action: OperatorAction
    request_id: str
    asked_ms: int


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold what became of a request, and what the engine stood at then.

    obeyed: the journal holds it; else `why` says why it was refused. at_ms: market time. note: what
    it came to, beside what the engine stands at.
    """

    request_id: str
    action: OperatorAction
    obeyed: bool
    why: str
    at_ms: int
    trading: str
    paused: bool
    flattening: bool
    reduce_only: bool
    halted_why: str
    orders_open_n: int
    positions_n: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Hold the requests that wait, the oldest first, and what was set aside as (name, why)."""

    requests: tuple[Request, ...]
    aside: tuple[tuple[str, str], ...]


def is_request_id(text: str) -> bool:
    """Tell whether a request may be called so: up to 64 letters, digits, - and _."""
    return _REQUEST_ID.fullmatch(text) is not None


class Spool:
    """Carry requests one way and answers the other."""

    def __init__(self, state_folder: Path) -> None:
        self.folder = state_folder / FOLDER
        self._commands = self.folder / "commands"
        self._answers = self.folder / "answers"
        self._aside = self.folder / "aside"
        self._stuck: set[str] = set()  # what could not even be set aside

    def open(self) -> None:
        """Make the folders, for their owner only."""
        for folder in (self.folder, self._commands, self._answers, self._aside):
            private_folder(folder)

    # ---- the client's side -----------------------------------------------------------------

    def send(self, request: Request) -> None:
        """Leave a request; the same one twice is one.

        Raises ConfigurationError when its id stands for another action, OSError where the disk
        refuses.
        """
        require(is_request_id(request.request_id), f"{request.request_id!r} is no request id")
        path = self._commands / f"{request.request_id}{SUFFIX}"
        try:
            write_new(path, msgspec.json.encode(request))
        except FileExistsError:
            before = _action_in(path)
            if before is not None and before is not request.action:
                raise ConfigurationError(
                    f"request id {request.request_id} stands for {before} already; give "
                    f"{request.action} an id of its own"
                ) from None

    def answer(self, request_id: str) -> Answer | None:
        """Give the answer to a request, None as long as there is none that can be read."""
        path = self._answers / f"{request_id}{SUFFIX}"
        try:
            return msgspec.json.decode(read_private(path), type=Answer)
        except (FileNotFoundError, CorruptFile, msgspec.DecodeError):
            return None

    def forget(self, request_id: str) -> None:
        """Take an old answer away, so that the next one is a new one."""
        (self._answers / f"{request_id}{SUFFIX}").unlink(missing_ok=True)

    # ---- the daemon's side -----------------------------------------------------------------

    def waiting(self) -> Waiting:
        """List what waits; what is no request of ours is set aside and named, and stops nothing."""
        requests, aside = [], []
        for path in sorted(self._commands.iterdir()):
            if path.name.startswith(UNFINISHED) or path.name in self._stuck:
                continue
            try:
                requests.append(_request(path))
            except FileNotFoundError:
                continue  # it went while we looked
            except (CorruptFile, OSError, msgspec.DecodeError) as e:
                aside.append((path.name, str(e)))
                self._set_aside(path)
        requests.sort(key=lambda r: (r.asked_ms, _CAREFUL.index(r.action), r.request_id))
        return Waiting(tuple(requests), tuple(aside))

    def settle(self, answer: Answer) -> None:
        """Write the answer, then take the request away: in this order none is lost."""
        name = f"{answer.request_id}{SUFFIX}"
        write_whole(self._answers / name, msgspec.json.encode(answer))
        (self._commands / name).unlink(missing_ok=True)
        force_folder(self._commands)
        self._forget_old()

    def _set_aside(self, path: Path) -> None:
        number = 0
        while (goal := self._aside / f"{path.name}.{number}").exists():
            number += 1
        try:
            path.rename(goal)
        except OSError:
            self._stuck.add(path.name)

    def _forget_old(self) -> None:
        answers = list(self._answers.glob(f"*{SUFFIX}"))
        if len(answers) > ANSWERS_KEPT:
            answers.sort(key=lambda path: path.stat().st_mtime_ns)
            for path in answers[:-ANSWERS_KEPT]:
                path.unlink(missing_ok=True)


def _request(path: Path) -> Request:
    if path.suffix != SUFFIX or not is_request_id(path.stem):
        raise CorruptFile(f"{path} is no request")
    request = msgspec.json.decode(read_private(path), type=Request)
    if request.request_id != path.stem:
        raise CorruptFile(f"{path} calls itself {request.request_id!r}")
    return request


def _action_in(path: Path) -> OperatorAction | None:
    """Give the action of a request that waits; None when it went or cannot be read."""
    try:
        return _request(path).action
    except (CorruptFile, OSError, msgspec.DecodeError):
        return None
