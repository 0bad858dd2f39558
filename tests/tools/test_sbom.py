"""The bill of materials holds every pin, and nothing that changes by itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tools.get_torch import VERSION
from tools.sbom import LOCK, PROJECT, ROOT, listing, pins

TEXT = LOCK.read_text(encoding="utf-8")


def test_the_listing_holds_every_pin() -> None:
    made = [
        subprocess.run(
            [sys.executable, "-m", "tools.sbom"], cwd=ROOT, capture_output=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert made[0] == made[1]
    found = json.loads(made[0])
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(
        r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", found["serialNumber"]
    )
    lines = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
    listed = {(c["name"], c["version"]) for c in found["components"]}
    for line in lines:
        name, _, version = line.partition(" ")[0].partition("==")
        assert (re.sub(r"[-_.]+", "-", name).lower(), version) in listed
    assert ("torch", VERSION) in listed
    references = [c["bom-ref"] for c in found["components"]]
    assert len(references) == len(set(references)) == len(lines) + 1
    assert set(found["dependencies"][0]["dependsOn"]) <= set(references)


def test_what_the_project_asks_for_itself_is_marked() -> None:
    found = listing("aiohttp==1.0\nattrs==2.0\n", PROJECT.read_text(encoding="utf-8"))
    direct = {c["name"]: c["properties"][0]["value"] for c in found["components"]}
    assert (direct["aiohttp"], direct["attrs"]) == ("true", "false")


def test_a_line_that_is_no_pin_is_refused() -> None:
    with pytest.raises(ValueError, match="no pin"):
        pins("aiohttp>=3\n")
