"""Show that what the pages tell a newcomer agrees with the tree."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.domain import failures

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    p for p in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")]
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")


def families(base: type[failures.EquipoiseError]) -> Iterator[type[failures.EquipoiseError]]:
    for child in base.__subclasses__():
        yield child
        yield from families(child)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_the_readme_lists_every_exit_code_and_no_other() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", text, flags=re.MULTILINE)}
    used = {family.exit_code for family in families(failures.EquipoiseError)}
    assert listed == {0} | used


def test_make_alone_tells_every_target_in_a_sentence() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    command = ["make", "--no-print-directory", "-C", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    told = dict(re.findall(r"^  make (\S+)\s+(\S.{9,})$", done.stdout, flags=re.MULTILINE))
    assert set(told) == set(phony.group(1).split())


@pytest.mark.parametrize("command", ["make paper", "make test"])
def test_the_two_commands_of_the_readme_are_targets(command: str) -> None:
    assert command in (ROOT / "README.md").read_text(encoding="utf-8")
    done = subprocess.run(
        [*command.split(), "--dry-run", "-C", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr


def test_continuous_integration_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    commands = [
        line
        for line in script.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert commands == ["exec make test"]
