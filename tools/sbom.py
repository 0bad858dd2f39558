"""Write the software bill of materials: every pin of the lock, as CycloneDX 1.6 in JSON.

    python -m tools.sbom > sbom.json

The lock is for all systems and all extras, so a pin may be absent from one installation; its marker
says where it is needed and is kept as a property. torch is pinned in tools/get_torch.py, since its
index depends on the machine. There is no time and no random number in it: the same lock gives
the same bytes.
Format: https://cyclonedx.org/docs/1.6/json/; package URLs: https://github.com/package-url/purl-spec
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import Any, Final

from tools.get_torch import VERSION as TORCH_VERSION

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements" / "constraints.txt"
PROJECT: Final = ROOT / "pyproject.toml"
_PIN: Final = re.compile(r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;\s*(.+))?")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def pins(text: str) -> list[tuple[str, str, str]]:
    """Read name, version and marker of every line of a lock; raises ValueError for another line."""
    found = []
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _PIN.fullmatch(line)
        if match is None:
            raise ValueError(f"{line!r} is no pin")
        found.append((_normal(match[1]), match[2], match[3] or ""))
    return found


def listing(lock: str, project: str) -> dict[str, Any]:
    """Make the document of a lock and of the project file beside it."""
    about = tomllib.loads(project)["project"]
    direct = _direct(about)
    pinned = sorted([*pins(lock), ("torch", TORCH_VERSION, "")])
    components = [_component(*pin, direct=pin[0] in direct) for pin in pinned]
    serial = uuid.uuid5(uuid.NAMESPACE_URL, hashlib.sha256((lock + project).encode()).hexdigest())
    own = f"pkg:pypi/{about['name']}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": own, "name": about["name"]}},
        "components": components,
        "dependencies": [
            {
                "ref": own,
                "dependsOn": sorted(
                    c["bom-ref"] for c in components if _normal(c["name"]) in direct
                ),
            }
        ],
    }


def _direct(about: dict[str, Any]) -> set[str]:
    """Give the names that the project itself asks for, extras included."""
    wanted = [*about["dependencies"]]
    for extra in about.get("optional-dependencies", {}).values():
        wanted += extra
    return {_normal(match[0]) for line in wanted if (match := _NAME.match(line))}


def _component(name: str, version: str, marker: str, *, direct: bool) -> dict[str, Any]:
    properties = [{"name": "equipoise:direct", "value": str(direct).lower()}]
    if marker:
        properties.append({"name": "equipoise:marker", "value": marker})
    address = f"pkg:pypi/{name}@{version}"
    reference = (
        f"{address}#{hashlib.sha256(marker.encode()).hexdigest()[:8]}" if marker else address
    )
    return {
        "type": "library",
        "bom-ref": reference,
        "name": name,
        "version": version,
        "purl": address,
        "properties": properties,
    }


def _normal(name: str) -> str:
    """Write a name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Write the listing of this checkout to stdout."""
    found = listing(LOCK.read_text(encoding="utf-8"), PROJECT.read_text(encoding="utf-8"))
    json.dump(found, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
