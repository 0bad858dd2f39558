"""Host the estimator in a process of its own: the trading process never loads torch.

Parent and child speak over a socket pair: a length (4 bytes, big-endian), then one `daemon.codec`
value. The child builds its estimator from an import string such as
`strategies.forecast.inference:build` and a configuration, says that it is ready or why it refuses,
and then answers one request after the other. Requests are numbered: an answer that comes after its
deadline is thrown away and never serves another instant. When the parent ends, the child reads the
end of the stream and ends too.

    python -m adapters.estimate_worker DESCRIPTOR      (started by EstimateWorker only)
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, cast

import msgspec

from daemon import codec
from daemon.domain.bar import Window
from daemon.domain.child_environment import without_keys
from daemon.domain.failures import BadPayload, ConfigurationError, EquipoiseError, ModelError
from daemon.domain.forecast import Estimates
from daemon.domain.messages import EstimatesMissing, EstimatesReady, FundingRates
from daemon.domain.units import require

FRAME_BYTES_MAX: Final = 256 * 2**20
_CHUNK_BYTES: Final = 1 << 20
_HEAD_BYTES: Final = 4
STOP_SECONDS: Final = 2.0
START_SECONDS: Final = 60.0
FUNDING_KEPT_MAX: Final = 4096  # settlements told again to a child that was started anew
RESTARTS_MAX: Final = 6  # failures in a row before the worker is given up
UNANSWERED_MAX: Final = 3  # late answers in a row before the child is taken for stuck
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class HostedEstimator(Protocol):
    """What the function behind the import string must build."""

    @property
    def model_id(self) -> str:
        """Give the model's id."""
        ...

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        """Give one prediction per window."""
        ...


class NotingEstimator(HostedEstimator, Protocol):
    """What it must build where funding rates are noted."""

    def note(self, rates: FundingRates) -> None:
        """Take settled rates; they count from their settlement on."""
        ...


@dataclass(frozen=True, slots=True)
class _Hello:
    build: str
    config: str  # JSON


@dataclass(frozen=True, slots=True)
class _Ready:
    model_id: str
    refused: str = ""


@dataclass(frozen=True, slots=True)
class _Ask:
    number: int
    as_of_ms: int
    windows: tuple[Window, ...]
    funding: tuple[FundingRates, ...] = ()  # what the child has not been told yet


@dataclass(frozen=True, slots=True)
class _Answer:
    number: int
    estimates: Estimates | None
    why: str = ""


def _frame(value: object) -> bytes:
    raw = codec.encode(value)
    return len(raw).to_bytes(_HEAD_BYTES, "big") + raw


class _Frames:
    """Cut a byte stream into frames; what was read of an unfinished frame is kept."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes) -> None:
        self._buffer += chunk

    def take(self) -> bytes | None:
        """Give the next whole frame, or None; raise BadPayload for an absurd length."""
        if len(self._buffer) < _HEAD_BYTES:
            return None
        size = int.from_bytes(self._buffer[:_HEAD_BYTES], "big")
        if size > FRAME_BYTES_MAX:
            raise BadPayload(f"a frame of {size} bytes, at most {FRAME_BYTES_MAX}")
        if len(self._buffer) < _HEAD_BYTES + size:
            return None
        frame = bytes(self._buffer[_HEAD_BYTES : _HEAD_BYTES + size])
        del self._buffer[: _HEAD_BYTES + size]
        return frame


# ---- the parent's side ---------------------------------------------------------------------------


class _Child:
    """Hold one running child: its process, our end of the pair, what was read so far."""

    def __init__(self, hello: bytes) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "adapters.estimate_worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=_environment(),
            )
        self.socket = ours
        self.frames = _Frames()
        self.is_ready = False
        self.unanswered = 0
        self.told_n = 0  # how many of the funding rates noted it has been told
        self.socket.settimeout(STOP_SECONDS)
        self.socket.sendall(hello)  # small enough for the socket's buffer

    def stop(self) -> None:
        """Close the stream, wait a moment, then kill; the process is reaped in any case."""
        self.socket.close()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once and reap it."""
        self.socket.close()
        self.process.kill()
        self.process.wait()


def _environment() -> dict[str, str]:
    """Give ours without keys, one thread per library, and the place of these packages."""
    here = os.fspath(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(p for p in (here, os.environ.get("PYTHONPATH", "")) if p)
    ours = without_keys(os.environ)
    return {**ours, **dict.fromkeys(_THREADS, "1"), "PYTHONPATH": path}


class _Died(Exception):
    """Say that the child is gone or no longer understood; never leaves this module."""


class EstimateWorker:
    """Answer Estimate commands through a child process; implements `daemon.ports.Estimator`.

    `estimate` keeps a deadline of transport time: EstimatesMissing when it passes, when the child
    died or the model could not answer. A dead child is started again at once, after repeated
    failures only at every second, fourth, .. request, and given up after RESTARTS_MAX in a row.
    `estimate_sync` takes the same way through the same process, for shells without a loop. Do not
    use both at the same time.
    """

    def __init__(
        self, build: str, config: Mapping[str, Any], *, deadline_seconds: float, notes: bool = False
    ) -> None:
        self.notes = notes
        """Whether the child builds a NotingEstimator, which wants to know funding rates."""
        self._hello = _frame(_Hello(build, msgspec.json.encode(config).decode()))
        self._deadline_seconds = deadline_seconds
        self._child: _Child | None = None
        self._number = 0
        self._failures = 0
        self._pause = 0  # requests to let pass before the next start
        self._model_id = ""
        self._funding: deque[FundingRates] = deque(maxlen=FUNDING_KEPT_MAX)
        self._funding_n = 0
        self.restarts_n = 0
        self.late_n = 0

    @property
    def model_id(self) -> str:
        """Give the id of the model that the child said it holds; empty before the start."""
        return self._model_id

    def note(self, rates: FundingRates) -> None:
        """Let the child know of settled rates, with the next request; for models that read them."""
        require(self.notes, "funding rates for an estimator that does not note them")
        self._funding.append(rates)
        self._funding_n += 1

    @property
    def process_id(self) -> int | None:
        """Give the child's process id, for supervision."""
        return None if self._child is None else self._child.process.pid

    async def start(self) -> None:
        """Start the child and wait until it is ready; raise ModelError with its words if not."""
        self._child = _Child(self._hello)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._greeted(self._child)
        except (TimeoutError, _Died, ModelError, OSError, BadPayload) as e:
            raise self._refusal(e) from e

    def start_sync(self) -> None:
        """Do what `start` does, without a loop."""
        self._child = _Child(self._hello)
        try:
            self._greeted_sync(self._child, START_SECONDS)
        except (TimeoutError, _Died, ModelError, OSError, BadPayload) as e:
            raise self._refusal(e) from e

    async def estimate(
        self, as_of_ms: int, windows: Sequence[Window]
    ) -> EstimatesReady | EstimatesMissing:
        """Ask the child; EstimatesMissing says why there is no answer."""
        child = self._awake()
        if child is None:
            return EstimatesMissing(as_of_ms, self._absence())
        ask, noted_n = self._ask(child, as_of_ms, windows), self._funding_n
        sent = False
        try:
            async with asyncio.timeout(self._deadline_seconds):
                child.socket.setblocking(False)
                await self._greeted(child)
                await asyncio.get_running_loop().sock_sendall(child.socket, _frame(ask))
                sent = True
                child.told_n = noted_n
                return self._taken(child, ask, await self._answer(child, ask.number))
        except TimeoutError:
            return self._late(child, ask, sent=sent)
        except (_Died, ModelError, OSError, BadPayload) as e:
            return self._lost(child, ask, e)

    def estimate_sync(
        self, as_of_ms: int, windows: Sequence[Window]
    ) -> EstimatesReady | EstimatesMissing:
        """Do what `estimate` does, without a loop.

        The deadline is one of silence here; give replays a generous one, because a result must not
        depend on how busy the machine was.
        """
        child = self._awake()
        if child is None:
            return EstimatesMissing(as_of_ms, self._absence())
        ask, noted_n = self._ask(child, as_of_ms, windows), self._funding_n
        sent = False
        try:
            self._greeted_sync(child, self._deadline_seconds)
            child.socket.sendall(_frame(ask))
            sent = True
            child.told_n = noted_n
            while True:
                answer = codec.decode(_frame_sync(child), _Answer)
                if answer.number == ask.number:
                    return self._taken(child, ask, answer)
        except TimeoutError:
            return self._late(child, ask, sent=sent)
        except (_Died, ModelError, OSError, BadPayload) as e:
            return self._lost(child, ask, e)

    def close(self) -> None:
        """End the child and reap it; waits at most a few seconds."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    async def aclose(self) -> None:
        """Do what `close` does without blocking the loop."""
        await asyncio.to_thread(self.close)

    # -- one request

    def _ask(self, child: _Child, as_of_ms: int, windows: Sequence[Window]) -> _Ask:
        self._number += 1
        untold_n = min(self._funding_n - child.told_n, len(self._funding))
        untold = list(self._funding)[len(self._funding) - untold_n :]
        return _Ask(self._number, as_of_ms, tuple(windows), tuple(untold))

    async def _answer(self, child: _Child, number: int) -> _Answer:
        while True:
            try:
                answer: _Answer = codec.decode(await _frame_async(child), _Answer)
            except BadPayload as e:
                raise _Died(f"the worker answered garbage: {e}") from e
            if answer.number == number:  # any other is late and serves nobody
                return answer

    def _taken(
        self, child: _Child, ask: _Ask, answer: _Answer
    ) -> EstimatesReady | EstimatesMissing:
        child.unanswered = 0
        self._failures = 0
        estimates = answer.estimates
        if estimates is None:
            return EstimatesMissing(ask.as_of_ms, answer.why)
        if estimates.as_of_ms != ask.as_of_ms:
            return EstimatesMissing(ask.as_of_ms, "the worker answered for another instant")
        return EstimatesReady(estimates)

    def _late(self, child: _Child, ask: _Ask, *, sent: bool) -> EstimatesMissing:
        self.late_n += 1
        child.unanswered += 1
        # A request that went out half leaves a stream that nobody can read on.
        torn = child.is_ready and not sent
        if torn or child.unanswered >= UNANSWERED_MAX:
            self._bury(child)
        return EstimatesMissing(ask.as_of_ms, f"late: no answer within {self._deadline_seconds} s")

    def _lost(self, child: _Child, ask: _Ask, reason: Exception) -> EstimatesMissing:
        self._bury(child)
        return EstimatesMissing(ask.as_of_ms, f"estimate worker lost: {reason}")

    # -- life and death

    async def _greeted(self, child: _Child) -> None:
        child.socket.setblocking(False)
        if not child.is_ready:
            self._admit(child, codec.decode(await _frame_async(child), _Ready))

    def _greeted_sync(self, child: _Child, seconds: float) -> None:
        child.socket.settimeout(seconds)
        if not child.is_ready:
            self._admit(child, codec.decode(_frame_sync(child), _Ready))

    def _admit(self, child: _Child, ready: _Ready) -> None:
        if ready.refused:
            raise ModelError(ready.refused)
        self._model_id = ready.model_id
        child.is_ready = True

    def _refusal(self, reason: Exception) -> ModelError:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
        late = f"the estimate worker was not ready within {START_SECONDS} s"
        return ModelError(late if isinstance(reason, TimeoutError) else str(reason))

    def _bury(self, child: _Child) -> None:
        """Kill a child and start its successor, which gets ready while nobody waits."""
        child.kill()
        self._child = None
        self._failures += 1
        self._pause = 2 ** (self._failures - 1) - 1
        if self._pause == 0:
            self._spawn()

    def _awake(self) -> _Child | None:
        """Give the child to ask; after repeated failures a start is due only now and then."""
        if self._child is None and self._failures <= RESTARTS_MAX:
            if self._pause > 0:
                self._pause -= 1
            else:
                self._spawn()
        return self._child

    def _spawn(self) -> None:
        self.restarts_n += 1
        self._child = _Child(self._hello)

    def _absence(self) -> str:
        if self._failures > RESTARTS_MAX:
            return f"estimate worker given up after {self._failures} failures in a row"
        return f"estimate worker failed {self._failures} times: waits {self._pause + 1} requests"


async def _frame_async(child: _Child) -> bytes:
    loop = asyncio.get_running_loop()
    while (frame := child.frames.take()) is None:
        chunk = await loop.sock_recv(child.socket, _CHUNK_BYTES)
        if not chunk:
            raise _Died(_epitaph(child))
        child.frames.feed(chunk)
    return frame


def _frame_sync(child: _Child) -> bytes:
    while (frame := child.frames.take()) is None:
        chunk = child.socket.recv(_CHUNK_BYTES)
        if not chunk:
            raise _Died(_epitaph(child))
        child.frames.feed(chunk)
    return frame


def _epitaph(child: _Child) -> str:
    """Say how the child ended, as far as it is known already."""
    code = child.process.poll()
    return "it closed the stream" if code is None else f"it ended with exit code {code}"


# ---- the child's side ----------------------------------------------------------------------------


def serve(stream: socket.socket) -> int:
    """Build the estimator that the parent names and answer until the stream ends; exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    frames = _Frames()
    first = _next_frame(stream, frames)
    if first is None:
        return 0
    try:
        hello = codec.decode(first, _Hello)
        estimator = _built(hello.build, msgspec.json.decode(hello.config))
    except EquipoiseError as e:
        stream.sendall(_frame(_Ready("", refused=str(e))))
        return e.exit_code
    stream.sendall(_frame(_Ready(estimator.model_id)))
    while (raw := _next_frame(stream, frames)) is not None:
        stream.sendall(_frame(_answered(estimator, codec.decode(raw, _Ask))))
    return 0


def _built(build: str, config: Mapping[str, Any]) -> HostedEstimator:
    module_name, _, name = build.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as e:
        raise ConfigurationError(f"estimator {build!r}: {e}; write package.module:function") from e
    built: HostedEstimator = function(config)
    return built


def _answered(estimator: HostedEstimator, ask: _Ask) -> _Answer:
    try:
        for rates in ask.funding:
            cast(NotingEstimator, estimator).note(rates)
        return _Answer(ask.number, estimator.estimate(ask.as_of_ms, ask.windows))
    except EquipoiseError as e:
        return _Answer(ask.number, None, str(e))


def _next_frame(stream: socket.socket, frames: _Frames) -> bytes | None:
    """Give the next frame, or None when the parent has closed the stream."""
    while (frame := frames.take()) is None:
        chunk = stream.recv(_CHUNK_BYTES)
        if not chunk:
            return None
        frames.feed(chunk)
    return frame


def main() -> int:
    """Serve on the inherited descriptor; what nobody foresaw is printed and ends the process."""
    with socket.socket(fileno=int(sys.argv[1])) as stream:
        try:
            return serve(stream)
        except ConnectionError:
            return 0  # the parent is gone, and with it the reason to live


if __name__ == "__main__":
    sys.exit(main())
