"""What holds for every command: JSON for programs, and settings that `init` leaves as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from daemon.cli import COMMANDS, app, run
from daemon.commands.options import read_settings, state_folder
from daemon.settings import Settings
from daemon.wiring.decisions import write_decisions
from tests.wiring.test_decisions import decisions

DIVERGED = 4
# commands without --json, with the reason
WITHOUT_JSON: tuple[str, ...] = ("control sign",)  # it prints one JSON object whoever asks
BASES = ("paper", "rehearsal", "backtest")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def in_force(base: str) -> Settings:
    return read_settings(None, None, base=f"{base}.toml")


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - set(WITHOUT_JSON)))
def test_every_command_prints_for_programs_when_asked(name: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    found = group.get_command(typer.Context(group), name)
    assert found is not None
    assert "--json" in [option for parameter in found.params for option in parameter.opts]


@pytest.mark.parametrize("base", BASES)
def test_after_init_the_settings_in_force_are_what_they_were(
    base: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = in_force(base)
    assert run(["config", "--base", base, "--json"]) == 0
    shown = capsys.readouterr().out
    assert run(["init"]) == 0
    assert in_force(base) == before
    capsys.readouterr()
    assert run(["config", "--base", base, "--json"]) == 0
    assert capsys.readouterr().out == shown


def test_init_says_as_json_what_it_wrote(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "new", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(told) == ["schema", "settings"]
    assert all((folder / path).is_file() for path in told.values())


@pytest.mark.parametrize("has_own_file", [False, True])
@pytest.mark.parametrize(
    ("made", "with_own_file", "without"),
    [
        ((), "paper", "paper"),
        (("rehearsal",), "rehearsal", "rehearsal"),
        (("paper",), "paper", "paper"),
        (("paper", "rehearsal"), "paper", "rehearsal"),
    ],
)
def test_a_reading_command_means_the_run_that_was_made_here(
    made: tuple[str, ...], with_own_file: str, without: str, *, has_own_file: bool
) -> None:
    if has_own_file:
        assert run(["init"]) == 0
    folders = {base: in_force(base).run.state_folder for base in ("paper", "rehearsal")}
    assert len(set(folders.values())) == 2
    for base in made:
        folders[base].mkdir(parents=True)
    expected = with_own_file if has_own_file else without
    assert state_folder(None, None, None) == folders[expected]


def test_compare_tells_what_it_did_not_compare_and_minds_it_on_demand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_decisions(Path("short.jsonl"), decisions(3))
    write_decisions(Path("long.jsonl"), decisions(7))
    words = ["compare", "short.jsonl", "long.jsonl"]
    assert run(words) == 0
    assert "outside the common span: left 0, right 4 decisions, not compared" in (
        capsys.readouterr().out
    )
    assert run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["outside_left"], told["outside_right"]) == (True, 0, 4)
    assert run([*words, "--whole"]) == DIVERGED
    assert "right 4 decisions, which is a difference" in capsys.readouterr().out
    assert run([*words, "--whole", "--json"]) == DIVERGED
    assert json.loads(capsys.readouterr().out)["same"] is False
    assert run(["compare", "long.jsonl", "long.jsonl", "--whole"]) == 0
    assert "outside" not in capsys.readouterr().out
