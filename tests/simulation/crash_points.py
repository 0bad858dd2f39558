"""Where a process can be abandoned: what a kill -9 leaves, seen after every step of every task.

What a crash leaves is what the kernel has of our files, what the venue has, and which requests are
under way. Two awaits between which none of them changes are the same crash. So a camera takes an
image wherever one of them changes, says what was being done there, and looks after each single step
of the event loop whether anything changed that it had not noticed. While a commit is being written
the files are those of before it; a commit is torn at a random byte too.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from msgspec import convert

from adapters.rehearsal.bank.records import BankEvent, BankState, FundingBooked, OrderFilled
from adapters.rehearsal.bybit.door import BybitDoor
from adapters.rehearsal.server import RunningExchange
from daemon.domain.order import Order, OrderId
from daemon.wiring.core import LIVE_FILE
from tests.simulation.jumping_loop import JumpingLoop

WAL: Final = "journal.sqlite-wal"
BESIDE: Final = str(Path(LIVE_FILE).with_suffix(".new"))
FILES: Final = ("journal.sqlite", WAL, LIVE_FILE, BESIDE)
PIECE_BYTES: Final = 4_096
START_UP, TRADING, SHUTDOWN = "start-up", "", "shutdown"
NAMED: Final = re.compile(r'(?:ClientOrderId=|orderLinkId(?:=|": ?"))([A-Za-z0-9-]+)')
T = TypeVar("T")
Pieces = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Hold a request that left us and that the venue has not handled: it may arrive any moment."""

    what: str  # send or cancel
    order: Order


@dataclass(frozen=True, slots=True)
class Image:
    """Hold what a crash leaves. sure: these of what is under way do arrive after the crash."""

    kind: str
    files: dict[str, Pieces]
    bank: dict[str, Any]
    record: dict[str, Any]
    now_ms: int
    under_way: tuple[Request, ...]
    sure: tuple[Request, ...] = ()

    @property
    def has_journal(self) -> bool:
        """Tell whether a book was begun."""
        return FILES[0] in self.files


@dataclass
class Camera:
    """Take an image wherever something changed, and after what is done to the world."""

    running: RunningExchange
    state: Path
    dice: random.Random
    phase: str = START_UP
    images: list[Image] = field(default_factory=list)
    steps_n: int = 0  # of tasks that were looked at
    orders: dict[str, Order] = field(default_factory=dict)
    _under_way: dict[int, Request] = field(default_factory=dict)
    _pieces: dict[bytes, bytes] = field(default_factory=dict)  # each different one once
    _read: tuple[object, dict[str, Pieces]] = ((), {})
    _kept: tuple[object, dict[str, Any], dict[str, Any]] = ((), {}, {})
    _held: dict[str, Pieces] | None = None  # the files of before what is being written
    _seen: set[object] = field(default_factory=set)
    _last: tuple[object, ...] | None = None

    def watch(self, loop: JumpingLoop) -> None:
        """Look after each step of this loop."""
        self.running.exchange.accounts.listen(self.heard)
        loop.looked = self.look

    def leave(self, loop: JumpingLoop) -> None:
        """Look no more."""
        loop.looked = None
        self.running.exchange.accounts._listeners.remove(self.heard)

    # ---- what is seen ----------------------------------------------------------------------------

    def look(self) -> None:
        """Take an image if anything changed since the last one."""
        self.steps_n += 1
        signature = self._signature()
        if signature != self._last:
            is_ours = self._last is None or signature[0] != self._last[0]
            self.shoot("journal: opened or closed" if is_ours else "venue: time moved")

    def heard(self, events: Sequence[BankEvent]) -> None:
        """Say what happened at the venue."""
        if any(isinstance(one, OrderFilled) for one in events):
            self.shoot("venue: filled")
        elif any(isinstance(one, FundingBooked) for one in events):
            self.shoot("venue: settled funding")
        elif events:
            self.shoot("venue: took or ended an order")

    def _signature(self) -> tuple[object, ...]:
        return (
            self._stamps() if self._held is None else self._read[0],
            *self._venue_stamps(),
            tuple(self.under_way),
        )

    def _venue_stamps(self) -> tuple[int, int, int]:
        exchange = self.running.exchange
        bank = exchange.accounts.bank
        return bank._desk.state.last_event, bank.now_ms, exchange.now_ms

    def _stamps(self) -> object:
        found = []
        for name in FILES:
            try:
                told = (self.state / name).stat()
            except FileNotFoundError:
                found.append((0, 0))
            else:
                found.append((told.st_size, told.st_mtime_ns))
        return tuple(found)

    @property
    def under_way(self) -> list[Request]:
        """List what left us and the venue has not handled."""
        bank = self.running.exchange.accounts.bank
        account = next(iter(bank._desk.state.accounts.values()))
        found = []
        for one in self._under_way.values():
            number = account.newest_by_client_id.get(one.order.order_id)
            is_there = number is not None
            if (
                is_there
                if one.what == "send"
                else not (number is not None and account.orders[number].is_open)
            ):
                continue
            found.append(one)
        return found

    def shoot(
        self,
        what: str,
        files: dict[str, Pieces] | None = None,
        sure: tuple[Request, ...] = (),
    ) -> None:
        """Keep an image unless it is like another one of its kind."""
        signature = self._signature()
        if not files:
            self._last = signature
        files = files or self.files()
        kind = what if self.phase == TRADING else f"{self.phase}: {what.partition(':')[0]}"
        key = (kind, signature, *map(id, files.values()), sure)
        if key in self._seen:
            return
        self._seen.add(key)
        stamps = self._venue_stamps()
        if stamps != self._kept[0]:
            bank = self.running.exchange.accounts.bank.snapshot()
            self._kept = stamps, bank, record_of(self.running)
        _, bank, record = self._kept
        waiting, now_ms = tuple(self.under_way), stamps[-1]
        self.images.append(Image(kind, files, bank, record, now_ms, waiting, sure))

    def files(self) -> dict[str, Pieces]:
        """Give the files as a crash would leave them now."""
        if self._held is not None:
            return self._held
        while (stamps := self._stamps()) != self._read[0]:
            found: dict[str, Pieces] = {}
            for name in FILES:
                with suppress(FileNotFoundError):  # there is none, or a thread that closes took it
                    found[name] = self.cut((self.state / name).read_bytes())
            if self._stamps() == stamps:  # else no crash would leave these together
                self._read = stamps, found
        return self._read[1]

    def cut(self, content: bytes) -> Pieces:
        """Cut a file into pieces, of which images share those that are alike."""
        pieces = (content[n : n + PIECE_BYTES] for n in range(0, len(content), PIECE_BYTES))
        return tuple(self._pieces.setdefault(one, one) for one in pieces)

    # ---- what we do ------------------------------------------------------------------------------

    async def writing(self, what: str, call: Awaitable[T]) -> T:
        """Write durably in another thread, and show it before, torn, and done."""
        self.shoot(f"{what}: before a commit")
        before = self._held = self.files()
        try:
            answer = await call
        finally:
            self._held, self._read = None, ((), {})  # the clock of files may be coarser than we are
        after = self.files()
        torn = self._torn(before, after)
        if torn is not None:
            self.shoot(f"{what}: torn commit", {**before, WAL: torn})
        self.shoot(f"{what}: committed")
        return answer

    def _torn(self, before: dict[str, Pieces], after: dict[str, Pieces]) -> Pieces | None:
        """Give the log as a crash within its writing leaves it: new bytes first, old ones after."""
        old, new = before.get(WAL, ()), after.get(WAL, ())
        if before.get(FILES[0]) != after.get(FILES[0]) or old == new:
            return None
        alike = next(
            (n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), len(old)
        )
        whole, rest = b"".join(new), b"".join(old)
        place = self.dice.randint(min(alike * PIECE_BYTES + 1, len(whole)), len(whole) - 1)
        return self.cut(whole[:place] + rest[place:])

    def replaced(self, path: Path, before: bytes, after: bytes) -> None:
        """Show the small file that was put in place of another: half, wholly written, in place."""
        old = {path.name: self.cut(before)} if before else {}
        others = {name: one for name, one in self.files().items() if name != path.name}
        for what, part in (("half written", after[: len(after) // 2]), ("written beside", after)):
            self.shoot(f"book file: {what}", {**others, **old, BESIDE: self.cut(part)})
        self.shoot("book file: in place")

    async def asking(self, method: str, url: str, body: object, call: Awaitable[T]) -> T:
        """Show a request before it leaves, under way, and when its answer is here."""
        what = subject_of(method, url)
        self.shoot(f"{what}: about to leave")
        number, named = len(self._seen), NAMED.search(f"{url} {body}")
        order = None if named is None else self.orders.get(OrderId(named[1]))
        if order is not None and what in {"send", "cancel"}:
            request = self._under_way[number] = Request(what, order)
            if request in self.under_way:
                self.shoot(f"{what}: on the way", sure=(request,))
        try:
            return await call
        finally:
            self._under_way.pop(number, None)
            self.shoot(f"{what}: answered")

    def late(self, request: Request) -> Callable[[], None]:
        """Note that a request of before the start is still under way; call when it has arrived."""
        self._under_way[id(request)] = request

        def arrived() -> None:
            self._under_way.pop(id(request), None)

        return arrived


def subject_of(method: str, url: str) -> str:
    """Name what a request is about."""
    path = url.partition("?")[0]
    if path.endswith(("/fapi/v1/order", "/v5/order/create", "/v5/order/cancel")):
        is_cancel = method == "DELETE" or path.endswith("/cancel")
        return "question" if method == "GET" else "cancel" if is_cancel else "send"
    return "question" if named_order(url) else "reading"


def named_order(url: str) -> bool:
    """Tell whether a request asks about one order of ours."""
    return "/v5/order/" in url and "orderLinkId=" in url


def record_of(running: RunningExchange) -> dict[str, Any]:
    """Give what the door keeps beside the bank; rows never change, so they are shared."""
    if not isinstance(running.private, BybitDoor):
        return {}
    kept = vars(running.private._desk.record)
    return _copied({k: v for k, v in kept.items() if k != "_accounts"})


def _copied(kept: dict[str, Any]) -> dict[str, Any]:
    logs = {
        key: dataclasses.replace(
            log,
            rows=list(log.rows),
            cash=dict(log.cash),
            held=dict(log.held),
            together=list(log.together),
        )
        for key, log in kept["_logs"].items()
    }
    return {
        **{name: value for name, value in kept.items() if not isinstance(value, dict)},
        "_executions": {key: list(rows) for key, rows in kept["_executions"].items()},
        "_fees": dict(kept["_fees"]),
        "_fills": dict(kept["_fills"]),
        "_histories": copy.deepcopy(kept["_histories"]),
        "_logs": logs,
    }


def put_back(image: Image, running: RunningExchange, state: Path) -> None:
    """Make the exchange and a state folder what they were when an image was taken."""
    exchange = running.exchange
    exchange.now_ms = image.now_ms
    bank = exchange.accounts.bank
    bank._desk.state = convert(image.bank, BankState, str_keys=True)
    bank._desk.marks.clear()
    if isinstance(running.private, BybitDoor):
        vars(running.private._desk.record).update(_copied(image.record))
    for name, pieces in image.files.items():
        (state / name).write_bytes(b"".join(pieces))
