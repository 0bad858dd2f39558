"""`evaluate stress` and `evaluate trials` as a person and a program read them."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from daemon.cli import run
from daemon.commands.evaluate.stress import HEADINGS, fitting_tables
from tests.wiring.small_market import CHOSEN, ROOT, write_market

STRESS = ("evaluate", "stress", "--processes", "1")
TRIALS = ("evaluate", "trials")
DATA_EXIT = 65
SETTING_EXIT = 78


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


@pytest.mark.parametrize("width", [80, 60, 200])
def test_no_figure_and_no_heading_is_cut_on_a_narrow_screen(width: int) -> None:
    headings = ("part of the base run", "days", *HEADINGS)
    sharpe = "-12.34 (-10.1 to +12.3)"
    figures = ("1,234", "-100.0%", sharpe, "-12.3%", "12,345", "10.1", "23%", "1.99", "-0.12")
    rows = [("participation: share halved", *figures), ("year: 2024", *figures)]
    tables = fitting_tables(headings, rows, width)
    assert (len(tables) == 1) is (width == 200)
    shown = Console(width=width, file=StringIO(), record=True)
    for table in tables:
        shown.print(table)
    text = shown.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "\u2026" not in text
    words = {word for heading in headings for word in heading.split()}
    for word in (*words, *figures, "participation: share halved", "year: 2024"):
        assert word in text, word
    assert text.count(sharpe) == 2


def test_a_piped_campaign_cuts_nothing(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run([*STRESS, *options]) == 0
    shown = capsys.readouterr().out
    assert "\u2026" not in shown
    for word in ("return", "Sharpe (95 %)", "drawdown", "turnover/y", "gross", "corr"):
        assert shown.count(word) >= 2, word


def test_a_backtest_takes_decisions_that_fit_its_own_bars(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # market.source, which backtest.source replaces, is too long for them
    assert run(["backtest", *options, "--set", "market.source=8h", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    assert run(["backtest", *options, "--set", "market.decision=30m"]) == SETTING_EXIT
    assert "30m is not a multiple of backtest.source 1h" in capsys.readouterr().err


def test_a_look_ahead_test_names_who_had_no_bar(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_market(tmp_path, days=1, symbols=("LTCUSDT",))  # ends before anything is loaded
    chosen = [*options, "--set", "backtest.since=2024-01-05", "--cuts", "1", "--days", "1"]
    assert run(["evaluate", "lookahead", *chosen]) == 0
    shown = capsys.readouterr().out
    assert "6 instruments (1 without a bar: LTCUSDT)" in shown
    assert "All 5 instruments survive" in shown
    assert "1 more have no bar at all: LTC" in shown


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
