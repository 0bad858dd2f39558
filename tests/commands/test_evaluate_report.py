"""`evaluate report` as people and programs get it: the same bytes, however its arms were run."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from adapters.trial_ledger import TrialLedger
from daemon.cli import run
from daemon.wiring import judging
from daemon.wiring.trials import different_trials
from daemon.wiring.tried_beside import Beside, read_beside
from tests.wiring.small_market import CHOSEN, ROOT, write_market

DAYS = 16  # enough for the statistics to say something
MARKET = tuple(one for one in CHOSEN if not one.startswith("strategy."))
RULE = tuple(one for one in CHOSEN if one.startswith("strategy."))
OTHER = 'strategy.parameters={"lookback_bars": 12, "legs_each_side": 1}'
NEUTRAL = ("estimator.kind=momentum", 'strategy.parameters={"friction_max": 1e9}')
ARMS = {
    "forecasts": ";".join(NEUTRAL),
    "shorter": ";".join((*RULE, "backtest.until=2024-01-14")),  # ends before the first
}
FILES_N = 1 + 9 * len(ARMS)

Files = dict[str, bytes]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_market(tmp_path_factory.mktemp("market"), days=DAYS)


def words_of(market: Path, ledger: Path, out: Path, *more: str) -> list[str]:
    chosen = [*MARKET, *more, f"backtest.data_folder={market}", f"evaluation.trials_file={ledger}"]
    settings = [word for one in chosen for word in ("--set", one)]
    config = ["-c", str(ROOT / "config" / "backtest.toml")]
    return ["evaluate", "report", *config, *settings, "--out", str(out)]


def files_of(folder: Path) -> Files:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def report(
    market: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, int, Path], Files]:
    """Run the command over both arms in an interpreter of its own, and read what it wrote."""

    def write(processes: int, hash_seed: int, ledger: Path) -> Files:
        out = tmp_path_factory.mktemp("out") / "report"
        arms = [word for name, own in ARMS.items() for word in ("--arm", f"{name}:{own}")]
        given = [*words_of(market, ledger, out), *arms, "--processes", str(processes), "--json"]
        subprocess.run(
            [sys.executable, "-m", "daemon.cli", *given],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return files_of(out)

    return write


@pytest.mark.timeout(600)
def test_a_repeat_is_the_same_to_the_byte_with_one_and_two_processes_and_is_no_new_trial(
    report: Callable[[int, int, Path], Files], tmp_path: Path
) -> None:
    ledger = tmp_path / "trials.jsonl"
    first = report(1, 1, ledger)
    assert len(first) == FILES_N
    for name, written in first.items():
        assert str(tmp_path.parent).encode() not in written, f"{name} names a folder"
    assert report(2, 2, ledger) == first  # what it repeats is logged already
    logged = TrialLedger(ledger).read().trials
    assert [trial.id for trial in logged] == 2 * [trial.id for trial in logged[: len(ARMS)]]
    tried = different_trials(logged)
    assert [each.repeats for each in tried] == [1] * len(ARMS)
    statistics = json.loads(first["shorter/run.json"])["statistics"]
    assert statistics["trials_n"] == len(ARMS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note for which data the ledger is read."""
    found: list[str] = []

    def noted(path: Path, data_fingerprint: str) -> Beside | None:
        found.append(data_fingerprint)
        return read_beside(path, data_fingerprint)

    monkeypatch.setattr(judging, "read_beside", noted)
    return found


def test_something_else_that_was_tried_is_counted_in_the_next_report(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    given = words_of(market, tmp_path / "t.jsonl", tmp_path / "out", *RULE)
    assert run([*given, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert len(asked) == 1, "one ledger, one data set: read once"
    assert set(alone["runs"]) == {"run"}
    assert {Path(path).name for path in alone["files"]} == {
        path.name for path in (tmp_path / "out").rglob("*.*")
    }
    assert run([*given, "--set", OTHER]) == 0
    shown = capsys.readouterr().out
    statistics = json.loads((tmp_path / "out" / "run" / "run.json").read_text())["statistics"]
    assert statistics["trials_n"] == 2
    assert "peak memory" in shown, "what it took is for the terminal"
    assert not [name for name, text in files_of(tmp_path / "out").items() if b"peak memory" in text]


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ("a", "accepted: NAME:section.key=value"),
        ("../a:risk.gross_weight_max=1", "becomes a folder"),
        ("a:risk.gross=1", "gross"),
    ],
)
def test_an_arm_with_a_mistake_is_one_clear_error(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arm: str, says: str
) -> None:
    assert run([*words_of(market, tmp_path / "t.jsonl", tmp_path), "--arm", arm]) == 78
    assert says in capsys.readouterr().err
    assert not (tmp_path / "t.jsonl").exists()


def test_two_arms_of_one_name_are_refused(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twins = ["--arm", "a:paper.fee_bps=1", "--arm", "a:paper.fee_bps=2"]
    assert run([*words_of(market, tmp_path / "t.jsonl", tmp_path), *twins]) == 78
    assert "given twice" in capsys.readouterr().err


def test_information_ratios_are_against_the_arm_that_was_asked_for(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = words_of(market, tmp_path / "t.jsonl", tmp_path / "out", *RULE)
    arms = ["--arm", "plain:", "--arm", f"other:{OTHER}", "--processes", "1"]
    assert run([*given, *arms, "--benchmark", "arm:plain", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["runs"]
    assert found["plain"]["information_ratio"] is None
    assert found["other"]["benchmark"] == "plain"
    returns = {
        name: np.array([float(row["return"]) for row in days_of(tmp_path / "out" / name)])
        for name in ("plain", "other")
    }
    more = returns["other"] - returns["plain"]
    expected = more.mean() / more.std(ddof=1) * 365**0.5
    assert found["other"]["information_ratio"] == pytest.approx(expected)


def days_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "daily.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))[1:]


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ("DOGE", "accepted: market, BTC, ETH, arm:run"),
        ("arm:other", "accepted: market, BTC, ETH, arm:run"),
        ("ETH", "run trades BTCUSDT, ADAUSDT only"),
    ],
)
def test_a_benchmark_that_is_none_is_refused_before_anything_runs(
    market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], chosen: str, says: str
) -> None:
    ledger = tmp_path / "t.jsonl"
    few = 'backtest.symbols=["BTCUSDT", "ADAUSDT"]'
    given = words_of(market, ledger, tmp_path / "out", *RULE, few)
    assert run([*given, "--benchmark", chosen]) == 78
    assert says in " ".join(capsys.readouterr().err.split())
    assert not ledger.exists()
