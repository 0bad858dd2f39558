"""`evaluate stress` and `evaluate trials` as a person and a program read them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.cli import run
from tests.wiring.small_market import CHOSEN, ROOT, write_market

STRESS = ("evaluate", "stress", "--processes", "1")
TRIALS = ("evaluate", "trials")
DATA_EXIT = 65


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write a market into an empty working folder; give the options that choose it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    write_market(tmp_path, days=6)
    chosen = [*CHOSEN, f"backtest.data_folder={tmp_path}"]
    return ["-c", str(ROOT / "config" / "backtest.toml")] + [
        word for one in chosen for word in ("--set", one)
    ]


def test_a_campaign_and_the_list_of_what_it_tried(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*TRIALS, *options]) == 0
    assert "nothing was tried yet" in capsys.readouterr().out
    assert run([*STRESS, *options, "--json", "--out", "out"]) == 0
    said = json.loads(capsys.readouterr().out)
    kept = json.loads((tmp_path / "out" / "stress.json").read_text(encoding="utf-8"))
    assert said.pop("files") == ["out/stress.json", "out/stress.csv"]
    assert said == kept
    assert run([*STRESS, *options, "--out", "again"]) == 0
    shown = capsys.readouterr().out
    assert "capacity: cash x 300" in shown
    assert "volatility: middle" in shown
    for name in ("stress.json", "stress.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert run([*TRIALS, *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["trials"]) == 13
    assert (told["entries_n"], told["different_n"]) == (26, 13)
    assert told["first_logged_ms"] == min(trial["logged_ms"] for trial in told["trials"])
    assert {trial["repeats"] for trial in told["trials"]} == {1}
    assert told["trials"][0]["command"] == "evaluate stress, base: as configured"
    assert told["data"][0]["tried_n"] == 1
    assert [trial["is_stress"] for trial in told["trials"]] == [False] + [True] * 12
    assert run([*TRIALS, *options]) == 0
    shown = capsys.readouterr().out
    assert "data 1: 1 tried" in shown
    assert "ledger state/trials.jsonl: 26 entries, 13 different trials, the first of 2" in shown


def test_a_damaged_ledger_is_one_clear_error(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["backtest", *options, "--json"]) == 0
    ledger = tmp_path / "state" / "trials.jsonl"
    raw = ledger.read_bytes()
    ledger.write_bytes(raw.replace(b'"returns":[', b'"returns":[0.5,', 1))
    capsys.readouterr()
    assert run([*TRIALS, *options]) == DATA_EXIT
    assert "state/trials.jsonl, line 1: damaged" in capsys.readouterr().err.replace("\n", "")
    ledger.write_bytes(raw[:-20])
    assert run([*TRIALS, *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["trials"], told["torn_bytes"]) == ([], len(raw) - 20)
