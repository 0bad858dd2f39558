"""Run the pages: every block that says so, in order, in an empty folder, as a newcomer would."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, Block, blocks, name_of
from tests.e2e.line import command

PORT_SHOWN = "18080"  # of the exchange on the page; a test takes any free one
SECONDS_MAX = 100
FOR_A_SHELL = frozenset("$`|&;<>*?#")
RUN = [page for page in PAGES if any("run" in b.marks for b in blocks(page) if b.language == "sh")]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give an empty folder whose PATH finds the command of this checkout."""
    yield tmp_path
    shutil.rmtree(tmp_path / "state", ignore_errors=True)


def environment() -> dict[str, str]:
    """Give our environment with the installed command in front and no settings of the machine."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("EQUIPOISE")}
    programs = str(Path(sys.executable).parent)
    return {**kept, "PATH": f"{programs}{os.pathsep}{kept.get('PATH', '')}", "COLUMNS": "100"}


def write(folder: Path, block: Block, port: str = PORT_SHOWN) -> None:
    """Write a block that is a file."""
    if block.file is not None:
        (folder / block.file).write_text(block.text.replace(PORT_SHOWN, port), encoding="utf-8")


def run(folder: Path, block: Block) -> None:
    """Run a block as a shell that stops at the first failure; its exit code must be the stated.

    A plain command is a fork of a process that has imported its parts (`tests.e2e.forking`); a
    block with anything else in it goes to a real shell, which finds the installed program.
    """
    lines = block.text.splitlines()
    plain = all(line.startswith("equipoise ") for line in lines)
    if not plain or FOR_A_SHELL.intersection(block.text):
        run_in_shell(folder, block)
        return
    for number, line in enumerate(lines, 1):
        _, *words = shlex.split(line)
        done = command(*words, cwd=folder, seconds=SECONDS_MAX, extra={"COLUMNS": "100"})
        expected = block.exit_code if number == len(lines) else 0
        assert done.code == expected, f"{line}\n{done.out}\n{done.complaint}"


def run_in_shell(folder: Path, block: Block) -> None:
    """Run a block in bash."""
    done = subprocess.run(
        ["bash", "-e", "-c", block.text],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS_MAX,
    )
    assert done.returncode == block.exit_code, f"{block.text}\n{done.stdout}\n{done.stderr}"


def test_there_are_pages_to_run() -> None:
    assert {"README.md", "docs/guide.md", "docs/rehearsal.md"} <= {name_of(page) for page in RUN}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_what_a_page_says_to_run_runs_and_ends_as_it_says(page: Path, folder: Path) -> None:
    for block in blocks(page):
        write(folder, block)
        if block.language == "sh" and "run" in block.marks:
            run(folder, block)


def test_the_settings_on_the_page_lead_every_command_to_an_exchange_of_its_own(
    folder: Path,
) -> None:
    page = next(page for page in PAGES if page.name == "rehearsal.md")
    written = {block.file: block for block in blocks(page) if block.file}
    (alone,) = [b for b in blocks(page) if b.language == "sh" and "exchange" in b.marks]
    assert PORT_SHOWN in alone.text
    words = [*shlex.split(alone.text.replace(PORT_SHOWN, "0")), "--json"]
    program = [sys.executable, "-m", "daemon", *words[1:]]
    with subprocess.Popen(program, cwd=folder, stdout=subprocess.PIPE, text=True) as exchange:
        try:
            assert exchange.stdout is not None
            port = json.loads(exchange.stdout.readline())["rest_url"].rpartition(":")[2]
            write(folder, written["here.toml"], port)
            served = [b for b in blocks(page) if b.language == "sh" and "served" in b.marks]
            assert served
            for block in served:
                run(folder, block)
        finally:
            exchange.terminate()
    bars = list((folder / "fetched" / "ohlcv" / "binanceusdm").glob("*-30m.parquet"))
    assert len(bars) == 12
