"""Start, watch, stop and resume a session through the real command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest

from adapters.state_lock import LOCK_NAME
from daemon.cli import TERMINATED_EXIT
from daemon.commands import READER_GONE_EXIT
from daemon.domain.failures import AlreadyRunning
from daemon.wiring.decisions import read_run
from daemon.wiring.rehearsal import last_instant_ms
from tests.e2e.books import check_books_agree
from tests.e2e.line import (
    LOOK_S,
    NEUTRAL,
    SMALL,
    START_S_MAX,
    Daemon,
    command,
    daemon,
    environment,
    gone,
    program,
    rehearse,
    sets,
    settings_of,
)

HEAVY = ("torch", "arch", "statsmodels", "sklearn", "lightgbm", "matplotlib", "pandas")
NOT_RUNNING = 3


async def test_ctrl_c_and_sigterm_stop_in_time_and_the_next_start_resumes_the_same_book(
    tmp_path: Path,
) -> None:
    state, settings = tmp_path / "state", settings_of(tmp_path / "state", *NEUTRAL)
    ends = []
    for number in (signal.SIGINT, signal.SIGTERM):
        reached_ms = last_instant_ms(state)
        async with daemon(*rehearse(state, *NEUTRAL), cwd=tmp_path) as running:
            await running.decided(14)
            family = running.family()
            assert len(family) >= 3, "exchange, status server and worker were expected"
            assert await running.end(number) == 0, running.said
            await gone(family)
            assert "Traceback" not in running.said
        (stopped,) = running.of("stopped")
        ends.append(stopped)
        check_books_agree(settings)
        first = running.of("decision")[0]
        if reached_ms is not None:
            assert 0 <= first["as_of_ms"] - reached_ms <= 3_600_000, "market time did not go on"
            assert first["equity"] == pytest.approx(ends[0]["equity"], rel=0.02)
            assert first["sequence"] > 14
    assert ends[1]["fills"] >= ends[0]["fills"] > 0
    instants = [line.as_of_ms for line in read_run(state)]
    assert instants == sorted(set(instants)), "an instant was decided twice"


async def test_while_it_starts_a_session_stops_as_quickly(tmp_path: Path) -> None:
    async with daemon(*rehearse(tmp_path / "state", *SMALL), cwd=tmp_path) as running:
        await running.beginning(tmp_path / "state" / LOCK_NAME)
        assert await running.end(signal.SIGINT) == 0, running.said


async def test_told_to_end_while_it_trains_its_first_model_it_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    state, models = tmp_path / "state", tmp_path / "models"
    chosen = ["training.days=30", f"estimator.models_folder={models}"]
    async with daemon(*rehearse(state, *chosen), cwd=tmp_path) as running:
        async with asyncio.timeout(START_S_MAX):
            while not any("train" in " ".join(p.cmdline()) for p in running.family()):
                assert not running.ended, running.said
                await asyncio.sleep(LOOK_S)
        family = running.family()
        assert await running.end(signal.SIGTERM) == TERMINATED_EXIT, running.said
        await gone(family)
        assert "Traceback" not in running.said
    assert not list(models.rglob("*.json")), "half a model was left"


async def test_a_second_daemon_on_the_same_folder_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    state = tmp_path / "state"
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.decided(2)
        done = command(*rehearse(state, *SMALL), cwd=tmp_path)
        assert done.code == AlreadyRunning.exit_code
        assert str(state) in done.complaint
        assert str(running.process.pid) in done.complaint
        await running.decided(len(running.of("decision")) + 2)
        assert await running.end(signal.SIGTERM) == 0
    check_books_agree(settings_of(state, *SMALL))


def market_times(watcher: Daemon) -> list[int]:
    return [int(line["status"]["market_time_ms"]) for line in watcher.lines]


async def test_status_shows_a_running_session_and_says_when_there_is_none(tmp_path: Path) -> None:
    state = tmp_path / "state"
    chosen = sets([f"run.state_folder={state}", "run.run_name=rehearsal"])
    async with daemon(*rehearse(state, *SMALL), cwd=tmp_path) as running:
        await running.until(lambda d: bool(d.of("fill")) and len(d.of("decision")) > 3)
        shown = command("status", "--json", *chosen, cwd=tmp_path)
        assert shown.code == 0, shown.complaint
        values = shown.values
        assert values["daemon"] == "running"
        assert values["status"]["trading_state"] == "trading"
        assert float(values["status"]["equity"]) > 0
        assert values["decisions"], "no decision in the stream"
        text = command("status", *chosen, cwd=tmp_path)
        assert text.code == 0
        assert "trading" in text.out
        async with daemon("status", "--watch", *chosen, cwd=tmp_path) as watcher:
            await watcher.until(lambda d: len(set(market_times(d))) >= 3)
            assert market_times(watcher) == sorted(market_times(watcher))
            assert await watcher.end(signal.SIGINT) == 0
        assert await running.end(signal.SIGTERM) == 0
    after = command("status", "--json", *chosen, cwd=tmp_path)
    assert after.code == NOT_RUNNING
    assert str(state) in after.values["why"]
    assert command("status", "--watch", *chosen, cwd=tmp_path).code == NOT_RUNNING


def test_when_the_reader_of_its_output_ends_so_does_the_session_and_the_book_is_whole(
    tmp_path: Path,
) -> None:
    state, log = tmp_path / "state", tmp_path / "log"
    script = f'"$@" 2>{log} | head -n 3; exit "${{PIPESTATUS[0]}}"'
    words = program(*rehearse(state, *SMALL), "--json")
    piped = ["bash", "-c", script, "bash", *words]
    with subprocess.Popen(piped, cwd=tmp_path, env=environment(), start_new_session=True) as shell:
        try:
            assert shell.wait(START_S_MAX) == READER_GONE_EXIT
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert "Traceback" not in log.read_text()
    assert "observer_dropped" not in log.read_text()
    again = command(*rehearse(state, *SMALL), "--json", "--days", "0.1", cwd=tmp_path)
    assert again.code == 0, again.complaint
    check_books_agree(settings_of(state, *SMALL))


PROBE = """
    import json, os, sys
    from daemon import cli
    code = cli.run(sys.argv[1:])
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    print(json.dumps({"type": "modules", "code": code, "loaded": loaded}))
"""


@pytest.mark.parametrize("options", [SMALL, NEUTRAL], ids=["rule", "forecasts"])
def test_the_trading_process_never_loads_what_belongs_to_workers(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    words = [*rehearse(tmp_path / "state", *options), "--json", "--days", "0.3"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROBE), *words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["code"] == 0, done.stderr
    assert '"type": "decision"' in done.stdout
    assert not set(HEAVY) & set(last["loaded"])
