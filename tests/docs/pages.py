"""Read the fenced blocks of the pages: commands to run, files to write, what must come of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = tuple(sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")]))
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FILE = re.compile(r"file=(\S+)")
EXIT = re.compile(r"exit=(\d+)")


@dataclass(frozen=True, slots=True)
class Block:
    """Hold one fenced block: its language, the words after it, and its text."""

    language: str
    words: str
    text: str

    @property
    def file(self) -> str | None:
        """Give the name of the file that the block is."""
        found = FILE.search(self.words)
        return found[1] if found else None

    @property
    def marks(self) -> set[str]:
        """Give the plain words: `run`, `served`."""
        return {word for word in self.words.split() if "=" not in word}

    @property
    def exit_code(self) -> int:
        """Give the exit code that its last command must have."""
        found = EXIT.search(self.words)
        return int(found[1]) if found else 0


def name_of(page: Path) -> str:
    """Give the path of a page inside the checkout."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    """Read the fenced blocks of a page in order."""
    return [Block(*found) for found in FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield every command of a page's sh blocks as words, comments and assignments left out."""
    for block in blocks(page):
        if block.language != "sh":
            continue
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                yield words
