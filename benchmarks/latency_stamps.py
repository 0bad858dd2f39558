"""Stamp one decision on its way through a live session: from the last bar's bytes to its orders'.

The parts of the running daemon are wrapped here, on their instances; it knows nothing of it and
pays nothing where nobody measures. All stamps are of one monotonic clock, and each part ends where
the next one begins, so that the parts of a decision add up to the whole. Beside it the CPU time of
the loop's own thread is stamped: what a part costs on any machine, however busy that is.
"""

from __future__ import annotations

import time
from asyncio import selector_events
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, NamedTuple

from adapters.exchange.feed import CcxtFeed
from adapters.exchange.frames import RawBar
from daemon.domain.messages import BarsClosed, Estimate, EstimatesReady, Submit
from daemon.domain.units import Timeframe
from daemon.runtime.live import LiveShell

ORDER_REQUEST: Final = b"POST /fapi/v1/order"
PARTS: Final = (
    "feed",
    "engine at the bars",
    "asking",
    "forecast",
    "decision",
    "risk",
    "journal",
    "handing out",
    "signing",
    "sending",
)
"""In this order; `asking`: what lies between the bars and the question about them."""
MODEL: Final = "forecast"
WRITE: Final = "journal"


class Moment(NamedTuple):
    """Hold one stamp, in seconds: the monotonic clock's, and the loop's own thread's CPU time."""

    wall_s: float
    cpu_s: float


NOTHING: Final = Moment(0.0, 0.0)


def _now() -> Moment:
    return Moment(time.perf_counter(), time.thread_time())


@dataclass(slots=True)
class Decision:
    """Hold the stamps of one decision; what did not happen is None."""

    close_ms: int
    arrived: Moment | None = None
    put: Moment | None = None
    gathered: Moment | None = None
    asked: Moment | None = None
    answered: Moment | None = None
    decided: Moment | None = None
    judged: Moment = NOTHING  # spent by risk within the decision
    durable: Moment | None = None
    submitted: Moment | None = None
    signed: Moment | None = None
    first: Moment | None = None
    last: Moment | None = None
    slice_n: int = 0  # orders of the first slice
    written_n: int = 0  # of them, on the wire
    writing_s: list[float] = field(default_factory=list)  # what each durable write itself took

    @property
    def is_whole(self) -> bool:
        """Tell whether every stamp that a decision with orders needs is there."""
        needed = [*self._ends[:3], *self._ends[5:]]  # some strategies ask for no forecasts
        return None not in needed and self.written_n >= self.slice_n > 0

    @property
    def _ends(self) -> list[Moment | None]:
        before = (self.arrived, self.put, self.gathered, self.asked, self.answered)
        return [*before, self.decided, self.durable, self.submitted, self.signed, self.first]

    def parts_ms(self, *, cpu: bool = False) -> dict[str, float]:
        """Give what each part took, in ms; of the wall they add up to `first - arrived`."""
        place = int(cpu)
        marks: list[float] = []
        for end in self._ends:
            marks.append(marks[-1] if end is None else end[place])
        took = [1e3 * (end - begin) for begin, end in pairwise(marks)]
        judged_ms = 1e3 * self.judged[place]
        took[4:5] = [took[4] - judged_ms, judged_ms]
        return dict(zip(PARTS, took, strict=True))

    @property
    def total_ms(self) -> float:
        """Give the time from the last bar's bytes to the first order's, in ms."""
        return sum(self.parts_ms().values())

    @property
    def last_ms(self) -> float:
        """Give the same to the last order of the first slice."""
        if self.first is None or self.last is None:
            return float("nan")
        return self.total_ms + 1e3 * (self.last.wall_s - self.first.wall_s)

    def ours_ms(self, *, cpu: bool = False) -> float:
        """Give the total without forecast and durable write: what has a bound."""
        not_ours = {MODEL} if cpu else {MODEL, WRITE}  # CPU of the write's part is our encoding
        return sum(ms for name, ms in self.parts_ms(cpu=cpu).items() if name not in not_ours)


class Stamps:
    """Collect the decisions of a running session."""

    def __init__(self, source: Timeframe) -> None:
        self.decisions: list[Decision] = []
        self._source = source
        self._proofs: dict[tuple[int, str, bool], Moment] = {}
        """When the bytes of a bar's last word and of its successor's first were read: a bar is
        final once both are there. By close, contract, and whether it is the bar itself."""
        self._read: deque[Moment] = deque()
        self._frame_at = _now()
        self._put: dict[int, Moment] = {}
        self._open: Decision | None = None
        self._judged = NOTHING

    # ---- the feed ------------------------------------------------------------------------------

    def follow_feed(self, feed: CcxtFeed) -> None:
        """Stamp what arrives on the sockets of a feed that streams."""
        pump = feed._pump
        stream = None if pump is None else pump._stream
        if stream is None:
            raise RuntimeError("the feed does not stream")
        hooks, told = stream._client.hooks, stream._client.hooks.on_bars
        for socket in stream._client.api.clients.values():
            self._stamp_reads(socket)

        def bars(found: list[RawBar]) -> None:
            for bar in found:
                self._proofs.setdefault((bar.open_ms, bar.market_id, False), self._frame_at)
                if bar.closed:
                    place = (bar.open_ms + self._source.ms, bar.market_id, True)
                    self._proofs.setdefault(place, self._frame_at)
            if told is not None:
                told(found)

        hooks.on_arrival, hooks.on_bars = self._taken, bars

    def _taken(self) -> None:
        self._frame_at = self._read.popleft() if self._read else _now()

    def _stamp_reads(self, socket: Any) -> None:
        protocol = socket.connection._conn.protocol
        received = protocol.data_received

        def stamped(data: bytes) -> None:
            at, before = _now(), len(socket.buffer)
            received(data)
            self._read.extend([at] * (len(socket.buffer) - before))

        protocol.data_received = stamped

    def _final_at(self, close_ms: int) -> Moment | None:
        """Give when the last of an instant's bars became final by what was read."""
        found = [at for (of_ms, _, _), at in self._proofs.items() if of_ms == close_ms]
        self._proofs = {key: at for key, at in self._proofs.items() if key[0] > close_ms}
        return max(found, default=None)

    # ---- the session ---------------------------------------------------------------------------

    def follow(self, shell: LiveShell) -> None:
        """Stamp engine, journal, estimator and venue of a session that was assembled."""
        parts, engine = shell._parts, shell.engine
        self._follow_engine(engine)
        enter = shell._enter

        def entered(event: Any) -> None:
            if isinstance(event, BarsClosed):
                self._put[event.close_ms] = _now()
            elif isinstance(event, EstimatesReady) and self._open is not None:
                self._open.answered = _now()
            enter(event)

        shell._enter = entered  # type: ignore[method-assign]
        self._follow_journal(parts.journal)
        if parts.estimator is not None:
            ask = parts.estimator.estimate
            estimator: Any = parts.estimator

            def asked(as_of_ms: int, windows: Any) -> Awaitable[Any]:
                if self._open is not None and not self._open.asked:
                    self._open.asked = _now()
                return ask(as_of_ms, windows)

            estimator.estimate = asked
        self._follow_venue(parts.account)

    def _follow_engine(self, engine: Any) -> None:
        process, judge = engine.process, engine._trader._risk.judge

        def processed(event: Any) -> Any:
            self._judged = NOTHING
            commands = process(event)
            self._processed(event, commands, _now())
            return commands

        def judged(*args: Any) -> Any:
            began = _now()
            verdict = judge(*args)
            ended, before = _now(), self._judged
            self._judged = Moment(
                *(b + e - s for b, e, s in zip(before, ended, began, strict=True))
            )
            return verdict

        engine.process, engine._trader._risk.judge = processed, judged

    def _processed(self, event: Any, commands: Sequence[Any], at: Moment) -> None:
        sends_n = sum(isinstance(c, Submit) for c in commands)
        if isinstance(event, BarsClosed) and (
            sends_n or any(isinstance(c, Estimate) for c in commands)
        ):
            close_ms = event.close_ms
            arrived, put = self._final_at(close_ms), self._put.get(close_ms)
            self._open = Decision(close_ms, arrived, put, gathered=at)
            self._put.clear()
        one = self._open
        if one is not None and sends_n and not one.decided:
            if isinstance(event, BarsClosed | EstimatesReady):
                one.decided, one.judged, one.slice_n = at, self._judged, sends_n
                self.decisions.append(one)
            else:
                self._open = None  # an order of something else

    def _follow_journal(self, journal: Any) -> None:
        append = journal.append

        async def appended(entries: Sequence[Any]) -> int:
            began = _now()
            found: int = await append(entries)
            one, ended = self._open, _now()
            if one is not None and not one.durable:
                one.writing_s.append(ended.wall_s - began.wall_s)
                if one.decided and began >= one.decided:
                    one.durable = ended
            return found

        journal.append = appended

    def _follow_venue(self, venue: Any) -> None:
        submit, api = venue.submit, venue._caller.api
        sign = api.sign

        def submitted(orders: Any) -> Any:
            if self._open is not None and self._open.durable and not self._open.submitted:
                self._open.submitted = _now()
            return submit(orders)

        def signed(path: str, api_name: Any = "public", method: str = "GET", *rest: Any) -> Any:
            found = sign(path, api_name, method, *rest)
            one = self._open
            if one is not None and one.submitted and not one.signed and method == "POST":
                one.signed = _now()
            return found

        venue.submit, api.sign = submitted, signed

    # ---- the wire ------------------------------------------------------------------------------

    @contextmanager
    def on_the_wire(self, noted: Callable[[Moment], None] | None = None) -> Iterator[None]:
        """Stamp each write of an order request to a socket of this process."""
        transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
        write, several = transport.write, transport.writelines
        tell = noted or self._left

        def written(this: Any, data: Any) -> None:
            if bytes(data[: len(ORDER_REQUEST)]) == ORDER_REQUEST:
                tell(_now())
            write(this, data)

        def all_written(this: Any, chunks: Any) -> None:
            chunks = list(chunks)
            if chunks and bytes(chunks[0][: len(ORDER_REQUEST)]) == ORDER_REQUEST:
                tell(_now())
            several(this, chunks)

        transport.write, transport.writelines = written, all_written
        try:
            yield
        finally:
            transport.write, transport.writelines = write, several

    def _left(self, at: Moment) -> None:
        one = self._open
        if one is None or not one.submitted or one.written_n >= one.slice_n:
            return
        one.first = one.first or at
        one.last = at
        one.written_n += 1
