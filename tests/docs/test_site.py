"""Show that the site has every page, and that gathering them finds a link that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name_of
from tools.site import gather

CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def test_the_navigation_names_every_page_once_and_nothing_else() -> None:
    named = re.findall(r"^ +- [^:]+: (\S+\.md)$", CONFIG, flags=re.MULTILINE)
    pages = {name_of(p) for p in PAGES if p.parent.name != "decisions"}
    assert len(named) == len(set(named))
    assert set(named) == pages | {"docs/decisions/index.md"}


def test_the_site_asks_nothing_of_other_servers_for_its_looks() -> None:
    assert re.search(r"^  font: false$", CONFIG, flags=re.MULTILINE)
    assert not re.search(r"^(extra_javascript|extra_css|repo_url)", CONFIG, flags=re.MULTILINE)
    assert "analytics" not in CONFIG


def small(root: Path, text: str) -> Path:
    (root / "docs" / "notes").mkdir(parents=True)
    (root / "docs" / "notes" / "one.md").write_text("# The first note\n", encoding="utf-8")
    (root / "LICENSE").write_text("free", encoding="utf-8")
    (root / "README.md").write_text(text, encoding="utf-8")
    return root


def test_pages_keep_their_places_and_bring_what_they_link_to(tmp_path: Path) -> None:
    root = small(
        tmp_path, "[a](LICENSE), [b](docs/notes/), [c](docs/notes/one.md#the-first-note)\n"
    )
    pages = gather(root)
    here = root / ".site-pages"
    assert [p.relative_to(here).as_posix() for p in pages] == ["README.md", "docs/notes/one.md"]
    assert (here / "LICENSE").exists()
    assert "](docs/notes/index.md)" in (here / "README.md").read_text(encoding="utf-8")
    listed = (here / "docs" / "notes" / "index.md").read_text(encoding="utf-8")
    assert "- [The first note](one.md)" in listed


@pytest.mark.parametrize("link", ["absent.md", "../outside.md"])
def test_a_link_that_leads_nowhere_stops_the_site(tmp_path: Path, link: str) -> None:
    with pytest.raises(ValueError, match="leads nowhere"):
        gather(small(tmp_path, f"[a]({link})\n"))
