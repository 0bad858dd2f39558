"""An archive proves itself: every cut and every flipped bit is refused with the file's name."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from adapters.backup import MANIFEST, pack_archive, read_contents, unpack_archive
from daemon.domain.failures import ConfigurationError, CorruptFile


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "state").mkdir(parents=True)
    (source / "state" / "one").write_bytes(b"first" * 300)
    (source / "two").write_bytes(b"second")
    pack_archive(source, {"entries": 7}, tmp_path / "made.tar")
    return tmp_path / "made.tar"


def unpacked(archive: Path, folder: Path) -> Path:
    folder.mkdir()
    unpack_archive(archive, folder)
    return folder


def made_by_hand(path: Path, name: str, *, format_version: int = 1) -> Path:
    files = {name: (1, hashlib.sha256(b"x").hexdigest())}
    manifest = json.dumps({"format": format_version, "about": {}, "files": files}).encode()
    seal = hashlib.sha256(manifest).hexdigest().encode()
    with tarfile.open(path, "w") as tar:
        for member, content in ((MANIFEST, manifest), ("manifest.sha256", seal), (name, b"x")):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_what_is_packed_comes_out_the_same_and_is_private(archive: Path, tmp_path: Path) -> None:
    out = unpacked(archive, tmp_path / "out")
    assert (out / "state" / "one").read_bytes() == b"first" * 300
    assert (out / "two").read_bytes() == b"second"
    assert archive.stat().st_mode & 0o077 == 0
    assert read_contents(archive).about == {"entries": 7}


def test_an_archive_is_never_written_over(archive: Path, tmp_path: Path) -> None:
    before = archive.read_bytes()
    with pytest.raises(ConfigurationError, match="there already"):
        pack_archive(tmp_path / "source", {}, archive)
    assert archive.read_bytes() == before
    assert not list(tmp_path.glob(".*unfinished"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_an_archive_that_is_cut_short_is_refused(
    archive: Path, tmp_path: Path, share: float
) -> None:
    whole = archive.read_bytes()
    content = len(whole.rstrip(b"\0"))
    archive.write_bytes(whole[: int(content * share)])
    with pytest.raises(CorruptFile, match=r"made\.tar.*damaged or cut short"):
        unpacked(archive, tmp_path / "out")


@pytest.mark.parametrize("text", [b"entries", b"firstfirst", b"second"])
def test_a_changed_byte_is_found(archive: Path, tmp_path: Path, text: bytes) -> None:
    whole = archive.read_bytes()
    archive.write_bytes(whole.replace(text, text.upper(), 1))
    with pytest.raises(CorruptFile, match="damaged"):
        unpacked(archive, tmp_path / "out")


@pytest.mark.parametrize("name", ["../outside", "/outside", "state/../../outside"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    bad = made_by_hand(tmp_path / "bad.tar", name)
    with pytest.raises(CorruptFile, match="outside the folder"):
        unpacked(bad, tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_the_format_of_a_later_version_is_refused_by_its_number(tmp_path: Path) -> None:
    later = made_by_hand(tmp_path / "later.tar", "file", format_version=2)
    with pytest.raises(ConfigurationError, match="format 2, this version reads 1"):
        unpacked(later, tmp_path / "out")
