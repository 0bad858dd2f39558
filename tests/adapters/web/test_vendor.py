"""The page's files of other people are the ones that VENDOR.toml names, each with its licence."""

from __future__ import annotations

import hashlib
import re
import tomllib

import pytest

from adapters.web.app import STATIC

FILES = tomllib.loads((STATIC / "VENDOR.toml").read_text(encoding="utf-8"))["file"]
OURS = {"book", "candles", "charts", "control", "decisions", "dom", "hear", "heat", "lists", "page"}
ADDRESS = re.compile(r"""(?:src|href|url\(|from|import\(|fetch\()\s*=?\s*["'(]?(https?:)?//""")


@pytest.mark.parametrize("one", FILES, ids=lambda one: one["name"])
def test_a_vendored_file_is_unchanged_and_brings_its_licence(one: dict[str, str]) -> None:
    content = (STATIC / one["name"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == one["sha256"]
    licence = (STATIC / one["licence"]).read_text(encoding="utf-8")
    assert "License" in licence
    assert len(licence) > 900
    assert re.fullmatch(r"\d+\.\d+\.\d+", one["version"])


def test_every_file_of_the_page_is_ours_or_named() -> None:
    vendored = {one["name"] for one in FILES} | {one["licence"] for one in FILES}
    ours = {f"{name}.js" for name in (*OURS, "theme", "words")}
    found = {path.name for path in STATIC.iterdir()}
    assert found == vendored | ours | {"index.html", "page.css", "mark.svg", "VENDOR.toml"}


def test_our_files_ask_no_other_address_and_write_no_markup() -> None:
    vendored = {one["name"] for one in FILES}
    for path in STATIC.iterdir():
        if path.name in vendored or path.suffix not in (".js", ".css", ".html"):
            continue
        text = path.read_text(encoding="utf-8")
        links = text.replace(
            'href="https://www.tradingview.com/"', ""
        )  # a credit, followed by hand
        assert ADDRESS.search(links) is None, path.name
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, (path.name, word)


def test_the_page_holds_no_inline_script_or_style() -> None:
    text = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.search(r"<script(?![^>]*\bsrc=)", text) is None
    assert "<style" not in text
    assert re.search(r"\s(style|on\w+)=", text) is None
