"""Settings name every mistake; a child process serves, stops and dies with its parent."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from adapters.rehearsal.build import build_market, start_of
from adapters.rehearsal.launch import RehearsalFailed, launch
from adapters.rehearsal.server import PortTaken, serve
from adapters.rehearsal.settings import (
    ORIGIN_MS_DEFAULT,
    AbsentBar,
    LateBar,
    MarketKind,
    PaceKind,
    RehearsalSettings,
)
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS

ROOT = Path(__file__).resolve().parents[3]
SMALL = RehearsalSettings(coins=2, history_days=1)


def test_settings_survive_json() -> None:
    settings = RehearsalSettings(
        pace=PaceKind.FACTOR,
        factor=60.0,
        symbols=("ETHUSDT", "BTCUSDT"),
        listings={"ETHUSDT": ORIGIN_MS_DEFAULT + DAY_MS},
        absent_bars=(AbsentBar("BTCUSDT", ORIGIN_MS_DEFAULT),),
        late_bars=(LateBar("BTCUSDT", ORIGIN_MS_DEFAULT, 1000),),
    )
    assert RehearsalSettings.from_json(settings.to_json()) == settings


def test_instants_may_be_written_as_people_do() -> None:
    settings = RehearsalSettings.from_mapping({"start_ms": "2024-06-01T00:00:00Z"})
    assert settings.start_ms == 1_717_200_000_000


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({"sede": 1}, "sede: unknown setting; did you mean 'seed'"),
        ({"seed": "x"}, "seed 'x': accepted is a number"),
        ({"seed": -1}, "seed -1: accepted is 0 or more"),
        ({"coins": 201}, r"coins 201: accepted is 1\.\.200"),
        ({"coins": True}, "coins True"),
        ({"kind": "dreamt"}, "kind 'dreamt': accepted is seeded, parquet"),
        ({"pace": "fast"}, "pace 'fast': accepted is lock_step, factor"),
        ({"factor": 0}, "factor 0: accepted is above 0"),
        ({"planted_ic": 0.9}, r"planted_ic 0\.9: accepted is 0\.\.0\.5"),
        ({"source_minutes": 7}, "source_minutes 7: accepted is a divisor"),
        ({"step_minutes": 20}, "step_minutes 20: accepted is a divisor of 30"),
        ({"start_ms": "2024-06-01T00:00:00"}, "start_ms '2024-06-01T00:00:00': accepted is"),
        ({"origin_ms": 5}, "origin_ms 5: accepted is 00:00 UTC"),
        ({"symbols": "BTCUSDT"}, "symbols 'BTCUSDT': accepted is a list"),
        ({"absent_bars": [{"symbol": "BTCUSDT"}]}, "absent_bars"),
        ({"late_bars": [{"symbol": "A", "open_ms": 1, "delay_ms": 1}]}, "open_ms 1: accepted"),
    ],
)
def test_a_wrong_setting_is_named_with_value_and_range(raw: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        RehearsalSettings.from_mapping(raw)


def test_settings_that_are_not_json_name_their_source() -> None:
    with pytest.raises(ConfigurationError, match=r"here\.json: not JSON"):
        RehearsalSettings.from_json("{", source="here.json")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"symbols": ("NOPEUSDT",)}, "symbol 'NOPEUSDT': the generated market has BTCUSDT"),
        ({"listings": {"NOPEUSDT": 0}}, r"listings\.NOPEUSDT: not one of"),
        ({"delistings": {"BTCUSDT": 0}}, r"delistings\.BTCUSDT 0: accepted is after"),
        ({"kind": MarketKind.PARQUET}, "parquet_folder ''"),
        ({"start_ms": 0}, "start 1970-01-01T00:00:00Z: accepted is 2024-01-01"),
        (
            {"history_days": 2, "end_ms": ORIGIN_MS_DEFAULT + DAY_MS},
            r"rehearsal\.until = 2024-01-02T00:00:00Z: accepted is after 2024-01-03T00:00:00Z",
        ),
        (
            {"history_days": 2, "end_ms": ORIGIN_MS_DEFAULT + 2 * DAY_MS},
            "accepted is after 2024-01-03T00:00:00Z",
        ),
    ],
)
def test_settings_that_do_not_fit_together_are_named(
    changes: dict[str, Any], complaint: str
) -> None:
    settings = RehearsalSettings(**changes)
    with pytest.raises(ConfigurationError, match=complaint):
        start_of(build_market(settings), settings)


def test_a_book_that_has_reached_the_end_may_open_the_market_there() -> None:
    end_ms = ORIGIN_MS_DEFAULT + 3 * DAY_MS
    settings = RehearsalSettings(history_days=2, end_ms=end_ms, resume_at_ms=end_ms)
    assert start_of(build_market(settings), settings) == end_ms


def test_random_listings_leave_the_first_twelve_alone() -> None:
    market = build_market(RehearsalSettings(coins=60, random_listings=True))
    coins = list(market.coins.values())
    assert {coin.listed_ms for coin in coins[:12]} == {ORIGIN_MS_DEFAULT}
    assert len({coin.listed_ms for coin in coins[12:]}) > 10
    ended = [coin for coin in coins if coin.delisted_ms is not None]
    assert 0 < len(ended) < 30
    assert all(coin.delisted_ms > coin.listed_ms for coin in ended if coin.delisted_ms)


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as reply:
        return json.load(reply)


def test_a_rehearsal_inherits_no_key_of_a_venue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_BINANCEUSDM_API_KEY", "planted-in-the-environment")
    monkeypatch.setenv("EQUIPOISE_ELSE", "stays")
    with launch(SMALL) as child:
        told = psutil.Process(child.pid).environ()
    assert "planted-in-the-environment" not in told.values()
    assert told["EQUIPOISE_ELSE"] == "stays"


def test_a_child_serves_and_stops() -> None:
    with launch(SMALL) as child:
        state = ask(f"{child.rest_url}/rehearsal/state")
        assert state["now_ms"] == ORIGIN_MS_DEFAULT + DAY_MS
        assert state["seed"] == 7
        assert state["pace"] == "lock_step"
        assert psutil.pid_exists(child.pid)
    assert not psutil.pid_exists(child.pid)
    assert child.stop() == 0
    assert not child.running


def test_a_child_started_by_a_thread_outlives_the_thread() -> None:
    children = []
    worker = threading.Thread(target=lambda: children.append(launch(SMALL)))
    worker.start()
    worker.join()
    with children[0] as child:
        assert ask(f"{child.rest_url}/fapi/v1/ping") == {}


_PARENT = """
import sys, time
from adapters.rehearsal.launch import launch
from adapters.rehearsal.settings import RehearsalSettings
child = launch(RehearsalSettings(coins=2, history_days=1))
sys.stdout.write(f"{child.pid}\\n"); sys.stdout.flush()
sys.stdin.read()
"""


def test_a_child_dies_with_a_killed_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    child.wait(timeout=5)
    assert not child.is_running()


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RehearsalFailed, match=f"port {port} on 127.0.0.1") as failure:
            launch(RehearsalSettings(coins=2, history_days=1, port=port))
    assert failure.value.exit_code == PortTaken.exit_code


async def test_a_taken_port_inside_a_loop_too() -> None:
    async with await serve(SMALL) as running:
        with pytest.raises(PortTaken, match=f"port {running.port}"):
            await serve(RehearsalSettings(coins=2, history_days=1, port=running.port))


def run(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "adapters.rehearsal", *arguments],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )


def test_the_program_refuses_bad_settings_with_an_exit_code(tmp_path: Path) -> None:
    done = run("--settings-json", "-", text='{"sede": 1}\n')
    assert done.returncode == ConfigurationError.exit_code
    assert done.stderr.strip() == "rehearsal: sede: unknown setting; did you mean 'seed'?"
    missing = tmp_path / "none.json"
    done = run("--settings-json", str(missing))
    assert done.returncode == ConfigurationError.exit_code
    assert str(missing) in done.stderr


def test_the_end_of_stdin_ends_the_program() -> None:
    done = run("--settings-json", "-", text='{"coins": 2, "history_days": 1}\n')
    assert done.returncode == 0
    assert set(json.loads(done.stdout)) == {"port", "pid"}
