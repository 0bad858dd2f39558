"""`equipoise exchange`: a process of its own, asked by the unmodified ccxt client."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import ccxt
import pytest

from daemon.domain.units import DAY_MS, MINUTE_MS

SMALL = ("rehearsal.coins=3", "training.days=10", "market.window_bars=20")
TAKEN_EXIT = 71


def words(*chosen: str) -> list[str]:
    sets = [word for one in (*SMALL, *chosen) for word in ("--set", one)]
    return [sys.executable, "-m", "daemon", "exchange", "--json", *sets]


@contextmanager
def serving(folder: Path, *chosen: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Start the command and read the line by which it says that it serves."""
    with subprocess.Popen(
        words(*chosen), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr is not None else ""
            yield process, json.loads(line)
        finally:
            process.kill()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_exchange_runs_alone_and_answers_ccxt_until_it_is_told_to_stop(
    tmp_path: Path, stop: signal.Signals
) -> None:
    with serving(tmp_path, "rehearsal.pace=600") as (process, served):
        assert served["pid"] == process.pid
        assert len(served["symbols"]) == 3
        with closing(ccxt.binanceusdm(served["ccxt_options"])) as client:
            symbols = list(client.load_markets())
            assert [client.market(s)["id"] for s in symbols] == served["symbols"]
            rows = client.fetch_ohlcv(symbols[0], "30m", limit=48)
            assert rows[-1][0] - rows[0][0] == DAY_MS - 30 * MINUTE_MS
            first_ms = client.fetch_time()
            assert client.fetch_time() > first_ms  # nobody moves it, and it runs
        process.send_signal(stop)
        assert process.wait(timeout=10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert list(tmp_path.iterdir()) == []  # it keeps no state


def test_a_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            words(f"rehearsal.port={port}"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == TAKEN_EXIT
    assert str(port) in done.stderr
    assert "Traceback" not in done.stderr
