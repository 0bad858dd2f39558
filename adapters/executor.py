"""Run the arms of a campaign: here, one after the other, or in processes of their own.

Both implement `daemon.ports.Executor` and give the same results in the same order. A worker is a
fresh interpreter (spawn) with one thread a numerical library, so that an arm computes the same bits
whoever its neighbours are. It inherits no keys of venues. Workers end with their parent, however
that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Generic

from daemon.domain.child_environment import without_keys
from daemon.domain.failures import EquipoiseError, InvariantViolated
from daemon.domain.units import require
from daemon.ports import Arm, Result, Share

STOP_S: Final = 2.0
TOLD_STEP: Final = 0.005  # a worker tells its progress in steps of this share
GONE_EXIT: Final = 70
_THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_CONTEXT: Final = multiprocessing.get_context("spawn")


class WorkerLost(EquipoiseError):
    """Signal that a worker process ended in the middle of an arm; the message names the arm."""

    exit_code = 1


def make_executor(processes: int) -> SequentialExecutor | ProcessExecutor:
    """Give the executor for so many processes; 0 takes one a core that we may use."""
    count = processes or _cores()
    return SequentialExecutor() if count == 1 else ProcessExecutor(count)


def make_workers(processes: int) -> ProcessExecutor:
    """Give worker processes, even a single one; 0 takes one a core that we may use.

    For what must be the same to the bit however many there are: a worker's libraries have one
    thread, and more of them may add in another order.
    """
    return ProcessExecutor(processes or _cores())


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ignore(_: object) -> None:
    """Let a result go unheard."""


class SequentialExecutor:
    """Run arms in this process."""

    def map(
        self,
        run: Callable[[Arm, Share], Result],
        arms: Sequence[tuple[str, Arm]],
        done: Share,
        taken: Callable[[Result], None] = _ignore,
    ) -> list[Result]:
        """Run one arm after the other; stops at the first that fails and names it."""
        results = []
        for at, (name, arm) in enumerate(arms):
            try:
                results.append(run(arm, _part_of(done, at, len(arms))))
            except Exception as e:
                e.add_note(_while_running(name))
                raise
            taken(results[at])
            done((at + 1) / len(arms))
        return results


def _part_of(done: Share, at: int, arms_n: int) -> Share:
    return lambda share: done((at + share) / arms_n)


def _while_running(name: str) -> str:
    return f"while running the arm {name!r}"


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    at: int | None = None  # the arm it runs


@dataclass(slots=True)
class ProcessExecutor:
    """Run arms in `processes` worker processes."""

    processes: int
    _workers: list[_Worker] = field(default_factory=list)

    def __post_init__(self) -> None:
        require(self.processes >= 1, f"{self.processes} processes: at least 1 is needed")

    def map(
        self,
        run: Callable[[Arm, Share], Result],
        arms: Sequence[tuple[str, Arm]],
        done: Share,
        taken: Callable[[Result], None] = _ignore,
    ) -> list[Result]:
        """Run arms as workers get free; at the first failure, and on Ctrl-C, all workers end."""
        if not arms:
            return []
        results: dict[int, Result] = {}
        shares = [0.0] * len(arms)
        waiting, line = iter(range(len(arms))), _Line(taken)
        try:
            self._start(run, min(self.processes, len(arms)))
            for worker in self._workers:
                _hand(worker, arms, waiting)
            while len(results) < len(arms):
                for worker in self._ready():
                    at, share, result = _heard(worker, arms)
                    shares[at] = share
                    done(sum(shares) / len(arms))
                    if share == 1.0:
                        results[at] = result
                        line.add(at, result)
                        _hand(worker, arms, waiting)
        finally:
            self._stop()
            line.end()
        return [results[at] for at in range(len(arms))]

    def _start(self, run: Callable[[Any, Share], Any], count: int) -> None:
        with _environment_of_workers():
            for _ in range(count):
                ours, theirs = _CONTEXT.Pipe()
                # no daemonic process: an arm may have a child of its own, the estimate worker
                process = _CONTEXT.Process(target=_serve, args=(theirs, run), daemon=False)
                process.start()
                theirs.close()
                self._workers.append(_Worker(process, ours))

    def _ready(self) -> list[_Worker]:
        spoke = wait([worker.pipe for worker in self._workers if worker.at is not None])
        return [worker for worker in self._workers if worker.pipe in spoke]

    def _stop(self) -> None:
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.pipe.close()
            if worker.at is not None:
                worker.process.terminate()
        for worker in workers:
            worker.process.join(STOP_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


class _Line(Generic[Result]):
    """Hand results on in the order of the arms, each as soon as all before it are there."""

    def __init__(self, taken: Callable[[Result], None]) -> None:
        self._taken = taken
        self._held: dict[int, Result] = {}
        self._next = 0

    def add(self, at: int, result: Result) -> None:
        self._held[at] = result
        while self._next in self._held:
            self._next += 1
            self._taken(self._held.pop(self._next - 1))

    def end(self) -> None:
        """Hand on what still waits: an arm before it has failed."""
        for at in sorted(self._held):
            self._taken(self._held.pop(at))


def _hand(worker: _Worker, arms: Sequence[tuple[str, Any]], waiting: Iterator[int]) -> None:
    """Give a worker its next arm, if there is one."""
    worker.at = next(waiting, None)
    if worker.at is not None:
        try:
            worker.pipe.send(arms[worker.at][1])
        except BrokenPipeError:
            raise _lost(worker, arms) from None


def _heard(worker: _Worker, arms: Sequence[tuple[str, Any]]) -> tuple[int, float, Any]:
    """Give arm, share done and, at share 1, the result; raises what the arm raised."""
    require(worker.at is not None, "a worker without an arm has spoken")
    at = worker.at or 0
    try:
        share, result, failure = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        raise _lost(worker, arms) from None
    if failure is not None:
        worker.process.join(STOP_S)  # it may be printing where a mistake of ours happened
        failure.add_note(_while_running(arms[at][0]))
        raise failure
    return at, share, result


def _lost(worker: _Worker, arms: Sequence[tuple[str, Any]]) -> WorkerLost:
    name = arms[worker.at or 0][0]
    worker.process.join(STOP_S)
    code = worker.process.exitcode
    return WorkerLost(
        f"the worker process of the arm {name!r} ended with {code} (-9 is often a lack of memory): "
        "run with fewer processes"
    )


@contextmanager
def _environment_of_workers() -> Iterator[None]:
    """Let processes that are started meanwhile inherit no keys, and use one thread a library.

    multiprocessing takes no environment: a child gets ours as it is when it starts.
    """
    before = dict(os.environ)
    theirs = without_keys(before) | dict.fromkeys(_THREADS, "1")
    changed = {name for name in before.keys() | theirs if before.get(name) != theirs.get(name)}
    _take_over(theirs, changed)
    try:
        yield
    finally:
        _take_over(before, changed)


def _take_over(environment: Mapping[str, str], names: Iterable[str]) -> None:
    for name in names:
        if name in environment:
            os.environ[name] = environment[name]
        else:
            os.environ.pop(name, None)


# ---- the worker's side ---------------------------------------------------------------------------


def _serve(pipe: Connection, run: Callable[[Any, Share], Any]) -> None:
    """Run arms until the parent closes the pipe; what an arm raises is sent and ends the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            arm = pipe.recv()
        except EOFError:
            return
        try:
            result = run(arm, _told(pipe))
        except (EquipoiseError, OSError) as e:
            pipe.send((0.0, None, e))
            return
        except BaseException as e:
            # the traceback stays here, on stderr; strange exceptions may not survive the way
            pipe.send((0.0, None, InvariantViolated(f"{type(e).__name__}: {e}")))
            raise
        pipe.send((1.0, result, None))


def _told(pipe: Connection) -> Share:
    told = 0.0

    def tell(share: float) -> None:
        nonlocal told
        if told + TOLD_STEP <= share < 1.0:
            told = share
            pipe.send((share, None, None))

    return tell


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(GONE_EXIT)
