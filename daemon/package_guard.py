"""Refuse to start where another distribution has taken one of our import names.

`daemon`, `strategies` and `adapters` are ordinary words, and public packages with two of these
names exist. If one of them lies in the same environment, an import may silently bring its code
instead of ours, or two distributions may have written into one folder. Both are found here, before
anything else of ours runs. This module must know nothing but the exception tree.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path

from daemon.domain.failures import ConfigurationError

DISTRIBUTION = "equipoise"
OWN_PACKAGES = ("daemon", "strategies", "adapters")
REMEDY = "give Equipoise an environment of its own (`make setup` creates one)"


def check_package_names() -> None:
    """Raise ConfigurationError when one of our import names belongs to someone else here.

    Called first thing by the command line and by the tests. Reads the lists of installed files of
    all distributions, which takes some tens of milliseconds.
    """
    home = Path(__file__).resolve().parent.parent
    refuse_foreign_owners(owners_of(OWN_PACKAGES, metadata.distributions()))
    refuse_misplaced({name: folder_of(name, sys.path) for name in OWN_PACKAGES}, home)


def refuse_foreign_owners(owners: Mapping[str, set[str]]) -> None:
    """Raise when a distribution other than ours owns one of the names.

    `owners` maps an import name to the names of the distributions that installed files under it.
    """
    for package, distributions in owners.items():
        foreign = sorted(distributions - {DISTRIBUTION})
        if foreign:
            raise ConfigurationError(
                f"package name {package!r} is owned by {', '.join(foreign)} in this environment; "
                f"only {DISTRIBUTION} may own it: remove the other one or {REMEDY}"
            )


def refuse_misplaced(folders: Mapping[str, Path | None], home: Path) -> None:
    """Raise when one of the packages would not be imported from the folder `home`."""
    for package, folder in folders.items():
        expected = home / package
        if folder != expected:
            found = "nowhere" if folder is None else f"at {folder}"
            raise ConfigurationError(
                f"package {package!r} was expected at {expected} but is found {found}: "
                f"start from the folder of the checkout, or {REMEDY}"
            )


def owners_of(
    packages: Iterable[str], distributions: Iterable[metadata.Distribution]
) -> dict[str, set[str]]:
    """Map each package to the distributions that installed a file below it."""
    owners: dict[str, set[str]] = {package: set() for package in packages}
    for distribution in distributions:
        # the raw text is searched, not parsed: some distributions list tens of thousands of files
        record = distribution.read_text("RECORD") or ""
        top_level = (distribution.read_text("top_level.txt") or "").split()
        for package in owners:
            listed = record.startswith(f"{package}/") or f"\n{package}/" in record
            if listed or package in top_level:  # only then, because names are slow to read
                name = str(distribution.metadata["Name"])
                owners[package].add(name.lower().replace("_", "-"))
    return owners


def folder_of(package: str, path: list[str]) -> Path | None:
    """Find the folder that an import of `package` takes; None when there is none.

    A package that is loaded already answers for itself, because that is the code that runs.
    """
    loaded = sys.modules.get(package)
    spec = getattr(loaded, "__spec__", None) or PathFinder.find_spec(package, path)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).resolve().parent
