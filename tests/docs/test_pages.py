"""Show that what the pages tell a newcomer agrees with the tree."""

import importlib
import re
import subprocess
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import click
import pytest
import typer

from adapters.paper.rule import FillRule, Terms
from adapters.paper.settings import PaperSettings
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.server import PortTaken
from daemon.cli import COMMANDS, FAMILIES, INTERRUPTED_EXIT, TERMINATED_EXIT
from daemon.commands import READER_GONE_EXIT
from daemon.commands.doctor import BAD_EXIT
from daemon.commands.operating import NOT_FLAT_EXIT, REFUSED_EXIT, UNANSWERED_EXIT
from daemon.commands.replay import DIVERGED_EXIT
from daemon.commands.status import NOT_RUNNING_EXIT
from daemon.domain import failures
from daemon.domain.instrument import CashKey, InstrumentKey
from tests.docs.pages import PAGES, ROOT, commands, name_of

LINK = re.compile(r"\]\((?!https?:)([^)\s]*)\)")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def families(base: type[failures.EquipoiseError]) -> Iterator[type[failures.EquipoiseError]]:
    for child in base.__subclasses__():
        yield child
        yield from families(child)


def anchors(page: Path) -> set[str]:
    """Give the anchors of a page's headings, as the usual viewers make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_the_pages_are_found() -> None:
    names = {name_of(page) for page in PAGES}
    assert {"README.md", "docs/guide.md", "docs/rehearsal.md", "deploy/README.md"} <= names


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    missing = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        goal = page.parent / name if name else page
        if not goal.exists() or (anchor and anchor not in anchors(goal)):
            missing.append(target)
    assert missing == []


def test_the_index_lists_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {name.partition("#")[0] for name in LINK.findall(index.read_text(encoding="utf-8"))}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= listed


# ---- the README ----------------------------------------------------------------------------------


def test_the_readme_lists_every_command_and_no_other() -> None:
    table = README.partition("| command | does |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `([a-z -]+)` \|", table, flags=re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert set(listed) == set(COMMANDS)


def test_the_readme_lists_every_exit_code_and_no_other() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", README, flags=re.MULTILINE)}
    used = {family.exit_code for family in families(failures.EquipoiseError)}
    ours = {0, BAD_EXIT, NOT_RUNNING_EXIT, DIVERGED_EXIT, READER_GONE_EXIT}
    ours |= {INTERRUPTED_EXIT, TERMINATED_EXIT, UNANSWERED_EXIT, REFUSED_EXIT, NOT_FLAT_EXIT}
    assert PortTaken.exit_code in used
    assert listed == used | ours | {click.UsageError.exit_code}


@pytest.mark.parametrize("command", ["make paper", "make test"])
def test_the_two_commands_of_the_readme_are_targets(command: str) -> None:
    assert command in README
    done = subprocess.run(
        [*command.split(), "--dry-run", "-C", str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr


# ---- what the pages promise ----------------------------------------------------------------------


def test_every_test_that_a_page_names_exists() -> None:
    sources = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"def (test_\w+)\(", sources))
    guarantees = ROOT / "docs" / "guarantees.md"
    for page in PAGES:
        named = set(re.findall(r"`(test_[a-z0-9_]+)`", page.read_text(encoding="utf-8")))
        assert named - existing == set(), name_of(page)
        assert page != guarantees or len(named) > 20


def test_every_accident_and_every_trap_of_the_lessons_page_names_its_tests() -> None:
    """That they exist is checked above, for all pages."""
    text = (ROOT / "docs" / "lessons.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.match(r"\| [A-Z0-9]+\. ", line)]
    without = [row for row in rows if not re.search(r"`test_[a-z0-9_]+`", row.split(" | ")[-1])]
    assert without == []
    names = [row.split(".")[0].strip("| ") for row in rows]
    accidents = [str(number) for number in range(1, 36)]
    traps = [*"ABCDEF", *(str(number) for number in range(1, 22))]
    assert names == [*accidents, *traps]
    assert len(rows) == len(re.findall(r"^\| (?!---|accident|trap)", text, flags=re.MULTILINE))


def test_the_worked_numbers_of_the_paper_page_are_those_of_the_rule() -> None:
    text = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    costs = PaperSettings(5.0, 1.0, 30.0, 0.5, 0.1, {"USDT": Decimal(10000)})
    steps = (Decimal("0.01"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
    terms = Terms(0, InstrumentKey("v", "X/USDT:USDT"), CashKey("v", "USDT"), *steps)
    rule = FillRule(costs)
    first = rule.price(terms, 100.0, Decimal(100), Decimal(0), 10_000.0)
    second = rule.price(terms, 100.0, Decimal(100), Decimal(100), 10_000.0)
    fee = rule.fee(first * 100)
    assert (str(first), str(second), f"{fee.normalize()}") == ("100.05", "100.07", "5.0025")
    for figure in (f"up to {first}", f"of impact: {second}", f"= {fee.normalize()}"):
        assert figure in text
    assert rule.capacity(terms, 10_000.0) == 1_000
    assert "1,000 coins in the example" in text


def test_the_rehearsal_page_lists_every_fault() -> None:
    text = (ROOT / "docs" / "rehearsal.md").read_text(encoding="utf-8")
    table = text.partition("| kind | what happens |")[2].partition("\n\n")[0]
    first_cells = re.findall(r"^\| (`[^|]+`) \|", table, flags=re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    assert named == {fault.value for fault in Fault}


# ---- commands ------------------------------------------------------------------------------------


def options_of(name: str) -> set[str]:
    """Give the options that a command of ours knows."""
    module, _, function = COMMANDS[name].partition(":")
    app = typer.Typer(add_completion=False)
    app.command(name=name)(getattr(importlib.import_module(module), function))
    parameters = typer.main.get_command(app).params
    return {"--help"}.union(*({*one.opts, *one.secondary_opts} for one in parameters))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_that_a_page_shows_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for words in commands(page):
        program, rest = Path(words[0]).name, words[1:]
        if program == "make":
            assert set(rest) <= targets, words
        if program == "equipoise" and rest and not rest[0].startswith("-"):
            name = " ".join(rest[:2]) if rest[0] in FAMILIES else rest[0]
            assert name in COMMANDS, words
            options = {word for word in rest[1:] if word.startswith("-")}
            assert options <= options_of(name), words


def test_make_alone_tells_every_target_in_a_sentence() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    command = ["make", "--no-print-directory", "-C", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    told = dict(re.findall(r"^  make (\S+)\s+(\S.{9,})$", done.stdout, flags=re.MULTILINE))
    assert set(told) == set(phony.group(1).split())


def test_continuous_integration_runs_what_a_person_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    lines = [
        line
        for line in script.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith(("#", "set ", "cd "))
    ]
    assert lines == ["exec make test"]
