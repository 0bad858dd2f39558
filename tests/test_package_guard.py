"""Show that a foreign package with one of our names is found before it does harm."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from daemon.domain.failures import ConfigurationError
from daemon.package_guard import (
    OWN_PACKAGES,
    check_package_names,
    folder_of,
    owners_of,
    refuse_foreign_owners,
    refuse_misplaced,
)

ROOT = Path(__file__).resolve().parent.parent


def install(into: Path, name: str, package: str, *, record: bool = True) -> None:
    """Lay down what an installer leaves: a package folder and the distribution's own records."""
    folder = into / package
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    info = into / f"{name.replace('-', '_')}-3.1.dist-info"
    info.mkdir()
    header = f"Metadata-Version: 2.1\nName: {name}\nVersion: 3.1\n"
    (info / "METADATA").write_text(header, encoding="utf-8")
    if record:
        (info / "RECORD").write_text(f"{package}/__init__.py,,\n", encoding="utf-8")
    else:
        (info / "top_level.txt").write_text(f"{package}\n", encoding="utf-8")


@pytest.mark.parametrize("record", [True, False], ids=["by its record", "by its top level"])
def test_a_foreign_owner_of_our_name_is_found(tmp_path: Path, *, record: bool) -> None:
    install(tmp_path, "Python_Daemon", "daemon", record=record)
    owners = owners_of(OWN_PACKAGES, metadata.distributions(path=[str(tmp_path)]))
    assert owners == {"daemon": {"python-daemon"}, "strategies": set(), "adapters": set()}
    with pytest.raises(ConfigurationError, match=r"'daemon' is owned by python-daemon"):
        refuse_foreign_owners(owners)


def test_a_name_that_only_begins_like_ours_is_no_owner(tmp_path: Path) -> None:
    install(tmp_path, "daemonize", "daemonize")
    owners = owners_of(OWN_PACKAGES, metadata.distributions(path=[str(tmp_path)]))
    assert owners["daemon"] == set()


def test_our_own_distribution_may_own_the_names(tmp_path: Path) -> None:
    install(tmp_path, "equipoise", "daemon")
    refuse_foreign_owners(owners_of(OWN_PACKAGES, metadata.distributions(path=[str(tmp_path)])))


def test_a_package_found_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    folders = {"daemon": ROOT / "daemon", "adapters": tmp_path / "adapters"}
    with pytest.raises(ConfigurationError, match=r"package 'adapters' was expected at"):
        refuse_misplaced(folders, ROOT)


def test_a_package_found_nowhere_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="found nowhere"):
        refuse_misplaced({"strategies": None}, ROOT)


def test_a_folder_without_init_is_no_package_of_ours(tmp_path: Path) -> None:
    (tmp_path / "equipoise_absent").mkdir()
    assert folder_of("equipoise_absent", [str(tmp_path)]) is None


def test_this_environment_passes() -> None:
    check_package_names()


def test_a_process_started_beside_a_foreign_package_stops_with_one_clear_error(
    tmp_path: Path,
) -> None:
    install(tmp_path, "some-adapters", "adapters")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.path.insert(1, sys.argv[2])\n"
        "from daemon.package_guard import check_package_names\ncheck_package_names()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment
    )
    assert done.returncode != 0
    assert "package name 'adapters' is owned by some-adapters" in done.stderr
