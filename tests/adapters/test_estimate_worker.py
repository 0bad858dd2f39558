"""The worker: late is missing and never used later, death is survived, torch stays outside."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from adapters import estimate_worker
from adapters.estimate_worker import EstimateWorker
from daemon.domain.bar import Window
from daemon.domain.failures import ModelError
from daemon.domain.messages import EstimatesMissing, EstimatesReady
from daemon.domain.units import Timeframe

RIG = "tests.adapters.worker_rig:build"
PATIENT_SECONDS = 40.0


def windows(scale: float = 1.0, N: int = 3, T: int = 4) -> tuple[Window, ...]:
    values = scale * np.arange(1.0, T * N * 5 + 1).reshape(T, N, 5)
    return (Window(Timeframe(60), 3_600_000, values),)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


@pytest.fixture
async def worker(gate: Path) -> AsyncIterator[EstimateWorker]:
    found = EstimateWorker(RIG, {"gate": str(gate)}, deadline_seconds=PATIENT_SECONDS)
    await found.start()
    yield found
    await found.aclose()


@pytest.fixture
def blocking(gate: Path) -> Iterator[EstimateWorker]:
    found = EstimateWorker(RIG, {"gate": str(gate)}, deadline_seconds=PATIENT_SECONDS)
    found.start_sync()
    yield found
    found.close()


def impatient(worker: EstimateWorker, seconds: float = 0.1) -> None:
    worker._deadline_seconds = seconds


def patient(worker: EstimateWorker) -> None:
    worker._deadline_seconds = PATIENT_SECONDS


def why(event: EstimatesReady | EstimatesMissing) -> str:
    assert isinstance(event, EstimatesMissing)
    return event.why


async def test_an_answer_brings_the_predictions_of_its_instant(worker: EstimateWorker) -> None:
    asked = windows()
    found = await worker.estimate(7, asked)
    assert isinstance(found, EstimatesReady)
    assert found.estimates.as_of_ms == 7
    (prediction,) = found.estimates.predictions
    np.testing.assert_array_equal(prediction.mean, asked[0].closes[-1])
    assert worker.model_id == "rig"


async def test_a_large_window_passes_whole(worker: EstimateWorker) -> None:
    asked = windows(N=200, T=200)
    found = await worker.estimate(7, asked)
    assert isinstance(found, EstimatesReady)
    np.testing.assert_array_equal(found.estimates.predictions[0].mean, asked[0].closes[-1])


async def test_a_late_answer_is_missing_and_never_serves_another_instant(
    worker: EstimateWorker, gate: Path
) -> None:
    impatient(worker)
    missing = await worker.estimate(14, windows(2.0))
    assert isinstance(missing, EstimatesMissing)
    assert (missing.as_of_ms, missing.why) == (14, "late: no answer within 0.1 s")
    patient(worker)
    await asyncio.to_thread(gate.write_bytes, b"go on")  # now the late answer is on its way
    found = await worker.estimate(7, windows(3.0))
    assert isinstance(found, EstimatesReady)
    assert found.estimates.as_of_ms == 7
    np.testing.assert_array_equal(found.estimates.predictions[0].mean, windows(3.0)[0].closes[-1])
    assert (worker.late_n, worker.restarts_n) == (1, 0)


async def test_a_child_that_stays_silent_is_replaced(worker: EstimateWorker) -> None:
    impatient(worker)
    before = worker.process_id
    for _ in range(estimate_worker.UNANSWERED_MAX):
        assert "late" in why(await worker.estimate(14, windows()))
    patient(worker)
    assert isinstance(await worker.estimate(7, windows()), EstimatesReady)
    assert worker.process_id != before
    assert not psutil.pid_exists(before or 0)


async def test_death_in_the_middle_is_missing_and_the_next_instant_is_answered(
    worker: EstimateWorker,
) -> None:
    assert "lost" in why(await worker.estimate(13, windows()))
    assert isinstance(await worker.estimate(7, windows()), EstimatesReady)
    assert worker.restarts_n == 1


async def test_death_between_instants_is_missing_and_survived(worker: EstimateWorker) -> None:
    assert worker.process_id is not None
    os.kill(worker.process_id, signal.SIGKILL)
    assert "lost" in why(await worker.estimate(6, windows()))
    assert isinstance(await worker.estimate(7, windows()), EstimatesReady)


async def test_starts_grow_rare_after_repeated_deaths_and_end(
    worker: EstimateWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate_worker, "RESTARTS_MAX", 2)
    # first death: replaced at once; second: one request passes, third: given up
    assert "lost" in why(await worker.estimate(13, windows()))
    assert "lost" in why(await worker.estimate(13, windows()))
    assert "failed 2 times" in why(await worker.estimate(7, windows()))
    assert "lost" in why(await worker.estimate(13, windows()))
    for _ in range(3):
        assert "given up after 3 failures" in why(await worker.estimate(7, windows()))
    assert worker.restarts_n == 2
    assert worker.process_id is None


async def test_a_model_that_cannot_answer_says_why_and_lives_on(worker: EstimateWorker) -> None:
    assert why(await worker.estimate(15, windows())) == "windows of another universe"
    assert "another instant" in why(await worker.estimate(16, windows()))
    assert isinstance(await worker.estimate(7, windows()), EstimatesReady)
    assert worker.restarts_n == 0


def test_without_a_loop_the_answers_are_the_same(blocking: EstimateWorker, gate: Path) -> None:
    found = blocking.estimate_sync(7, windows())
    assert isinstance(found, EstimatesReady)
    np.testing.assert_array_equal(found.estimates.predictions[0].mean, windows()[0].closes[-1])
    assert "lost" in why(blocking.estimate_sync(13, windows()))
    assert isinstance(blocking.estimate_sync(7, windows()), EstimatesReady)
    impatient(blocking)
    assert "late" in why(blocking.estimate_sync(14, windows()))
    patient(blocking)
    gate.write_bytes(b"go on")
    again = blocking.estimate_sync(8, windows())
    assert isinstance(again, EstimatesReady)
    assert again.estimates.as_of_ms == 8


@pytest.mark.parametrize(
    ("build", "config", "says"),
    [
        (RIG, {"refuse": True}, "its hash is not the one in the manifest"),
        (RIG, {"exit": True}, "closed the stream|exit code 4"),
        ("tests.adapters.nowhere:build", {}, "nowhere"),
        ("tests.adapters.worker_rig:forge", {}, "forge"),
        ("no colon", {}, "package.module:function"),
    ],
)
async def test_a_refusal_at_the_start_is_told_in_the_childs_words(
    build: str, config: dict[str, bool], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        await EstimateWorker(build, config, deadline_seconds=1).start()
    with pytest.raises(ModelError, match=says):
        EstimateWorker(build, config, deadline_seconds=1).start_sync()


def test_closing_ends_the_child(blocking: EstimateWorker) -> None:
    process_id = blocking.process_id
    assert process_id is not None
    blocking.close()
    assert not psutil.pid_exists(process_id)


PARENT = """
import os, sys
from adapters.estimate_worker import EstimateWorker
worker = EstimateWorker("strategies.forecast.inference:build", {"kind": "zero"}, deadline_seconds=9)
worker.start_sync()
loaded = [m for m in ("torch", "sklearn", "strategies.forecast.inference") if m in sys.modules]
print(worker.process_id, loaded, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_child_dies_with_its_parent_which_never_loads_torch() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PARENT], capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    process_id, _, loaded = ran.stdout.strip().partition(" ")
    assert loaded == "[]"
    try:
        psutil.Process(int(process_id)).wait(timeout=20)
    except psutil.NoSuchProcess:
        return


async def test_the_worker_inherits_no_key_of_a_venue(
    gate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_OKX_API_KEY", "planted-in-the-environment")
    monkeypatch.setenv("EQUIPOISE_OKX_PASSPHRASE", "planted-in-the-environment")
    found = EstimateWorker(RIG, {"gate": str(gate)}, deadline_seconds=PATIENT_SECONDS)
    await found.start()
    try:
        children = psutil.Process().children()
        told = [value for child in children for value in child.environ().values()]
        assert told
        assert "planted-in-the-environment" not in told
    finally:
        await found.aclose()
