"""The scripts that shells load for completion, and that shells accept them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.line import command


@pytest.mark.parametrize(
    ("shell", "mark"),
    [("bash", "complete -o default -F"), ("zsh", "#compdef equipoise"), ("fish", "complete ")],
)
def test_a_script_is_made_for_each_shell(shell: str, mark: str, tmp_path: Path) -> None:
    done = command(cwd=tmp_path, extra={"_EQUIPOISE_COMPLETE": f"source_{shell}"})
    assert done.code == 0, done.complaint
    assert mark in done.out
    program = shutil.which(shell)
    if program is not None:  # the shell itself reads it, where it is installed
        script = tmp_path / "completion"
        script.write_text(done.out, encoding="utf-8")
        read = subprocess.run(
            [program, "-n", str(script)], capture_output=True, text=True, check=False, timeout=20
        )
        assert read.returncode == 0, read.stderr


def test_commands_and_their_choices_are_offered(tmp_path: Path) -> None:
    def offered(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return command(
            cwd=tmp_path, extra={"_EQUIPOISE_COMPLETE": "complete_bash", **words}
        ).out.split()

    assert offered("equipoise po") == ["positions"]
    assert offered("equipoise evaluate l") == ["lookahead"]
    assert offered("equipoise logs --level w") == ["warning"]
