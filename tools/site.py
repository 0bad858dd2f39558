"""Gather the pages of the checkout into one folder, for MkDocs to build the site from.

    python -m tools.site

MkDocs wants all pages below one folder. They keep their places to each other, so links work as
they do in the checkout; files that pages link to come along, and a linked folder becomes a list.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
GATHERED: Final = ".site-pages"
ROOMS: Final = ("*.md", "docs/**/*.md", "deploy/*.md")
_LINK: Final = re.compile(r"\]\((?!https?:|#|mailto:)([^)\s#]+)")
_HEADING: Final = re.compile(r"^# (.+)$", flags=re.MULTILINE)


def gather(root: Path = ROOT) -> list[Path]:
    """Copy every page and what it links to into a fresh `.site-pages`; give the copies of pages.

    Raises ValueError for a link that leads out of the checkout or to nothing.
    """
    goal = root / GATHERED
    shutil.rmtree(goal, ignore_errors=True)
    pages = sorted({page for pattern in ROOMS for page in root.glob(pattern)})
    for page in pages:
        _copied(page, root, goal)
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            if not target.is_relative_to(root) or not target.exists():
                raise ValueError(f"{page.relative_to(root)}: the link {link} leads nowhere")
            if target.is_dir():
                _list(target, goal / target.relative_to(root) / "index.md")
            elif target not in pages:
                _copied(target, root, goal)
    return [goal / page.relative_to(root) for page in pages]


def _copied(path: Path, root: Path, goal: Path) -> None:
    place = goal / path.relative_to(root)
    place.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_bytes()
    if path.suffix == ".md":  # MkDocs links to pages, not to folders
        text = re.sub(rb"\]\(([^)\s:#]+)/\)", rb"](\1/index.md)", text)
    place.write_bytes(text)


def _list(folder: Path, place: Path) -> None:
    """Write a page that lists the pages of a folder by their headings."""
    place.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"# {folder.name.capitalize()}", ""]
    for page in sorted(folder.glob("*.md")):
        heading = _HEADING.search(page.read_text(encoding="utf-8"))
        lines.append(f"- [{heading[1] if heading else page.stem}]({page.name})")
    place.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    gather()
