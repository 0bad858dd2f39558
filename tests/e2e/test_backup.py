"""Take a backup of a daemon while it trades, bring it back elsewhere, and go on from it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from adapters.journal import JournalReader
from adapters.journal.database import FORMAT_VERSION
from adapters.journal.entry import pack
from adapters.journal.reader import snapshot_checksum
from adapters.state_lock import LOCK_NAME
from daemon import codec
from daemon.domain.failures import (
    AlreadyRunning,
    ConfigurationError,
    CorruptFile,
    DataError,
    JournalError,
)
from daemon.engine.state import SCHEMA
from daemon.wiring.core import universe_of
from daemon.wiring.decisions import read_run
from daemon.wiring.instruments import read_instruments
from daemon.wiring.recovery import recovered_engine
from tests.adapters.test_model_store import put
from tests.e2e.books import check_books_agree
from tests.e2e.line import SMALL, command, daemon, rehearse, settings_of

FIRST: Final = 4
LATER: Final = 3
KEPT: Final = 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backup")


@pytest.fixture(scope="module")
def archive(place: Path) -> Path:
    """Run a daemon, take backups in the middle, let it trade on, and end it."""
    return asyncio.run(backed_up(place))


async def backed_up(place: Path) -> Path:
    state, kept = place / "state", place / "kept"
    kept.mkdir()
    put(place / "models")
    (place / "models" / "notes.txt").write_text("of mine")
    async with daemon(*rehearse(state, *SMALL), cwd=place) as running:
        await running.decided(FIRST)
        for _ in range(KEPT + 1):
            words = ("--state", state, "--models-folder", place / "models", "--keep", str(KEPT))
            done = command("backup", kept, *words, "--json", cwd=place)
            assert done.code == 0, done.complaint
        taken = done.values
        await running.decided(len(running.of("decision")) + LATER)
        refused = command("restore", taken["path"], "--state-folder", state, cwd=place)
        forced = command("restore", taken["path"], "--state-folder", state, "--force", cwd=place)
        assert (refused.code, forced.code) == (AlreadyRunning.exit_code,) * 2
        assert str(running.process.pid) in refused.complaint
        assert await running.end(signal.SIGTERM) == 0, running.said
    check_books_agree(settings_of(state, *SMALL))
    assert len(list(kept.iterdir())) == KEPT, "--keep"
    return Path(taken["path"])


def restored(archive: Path, place: Path, name: str, *words: str) -> Path:
    state, models = place / name, place / f"{name}-models"
    done = command(
        "restore", archive, "--state-folder", state, "--models-folder", models, *words, cwd=place
    )
    assert done.code == 0, done.complaint
    assert "last decision at" in done.out
    assert [p.name for p in models.glob("*/weights.safetensors")]
    return state


def test_a_restored_book_replays_the_same_and_a_daemon_goes_on_from_it(
    archive: Path, place: Path
) -> None:
    state = restored(archive, place, "elsewhere")
    replayed = command("replay", "--state", state, "--verify", "--json", cwd=place)
    assert replayed.code == 0, replayed.out + replayed.complaint
    whole, early = read_run(place / "state"), read_run(state)
    assert FIRST <= len(early) < len(whole)
    assert early == whole[: len(early)]
    asyncio.run(goes_on(state, place))
    check_books_agree(settings_of(state, *SMALL))
    after = read_run(state)
    assert after[: len(early)] == early
    assert len(after) >= len(early) + 4


async def goes_on(state: Path, place: Path) -> None:
    async with daemon(*rehearse(state, *SMALL), cwd=place) as running:
        await running.decided(4)
        assert await running.end(signal.SIGTERM) == 0, running.said


def test_an_archive_holds_no_commands_and_no_secrets(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = {Path(name).parts[:2] for name in tar.getnames()}
    assert ("state", "journal.sqlite") in names
    assert ("state", "paper.sqlite") in names
    assert ("state", "instruments.json") in names
    assert ("settings.toml",) in names
    left_out = {("state", name) for name in ("control", "redis", "bars", "daemon.lock")}
    assert not names & left_out


def test_a_folder_that_holds_something_is_refused_and_with_force_moved_aside(
    archive: Path, place: Path
) -> None:
    state = place / "occupied"
    state.mkdir()
    (state / "mine").write_text("kept")
    done = command("restore", archive, "--state-folder", state, cwd=place)
    assert done.code == ConfigurationError.exit_code
    assert "is not empty (mine)" in done.complaint
    assert [p.name for p in state.iterdir()] == ["mine"]
    assert (restored(archive, place, "occupied", "--force") / "journal.sqlite").exists()
    (aside,) = place.glob("occupied.before-restore-*")
    assert (aside / "mine").read_text() == "kept"


@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_archive_changes_nothing(archive: Path, place: Path, harm: str) -> None:
    whole = archive.read_bytes()
    bad = place / f"{harm}.tar"
    middle = len(whole) // 2
    flipped = bytes([whole[middle] ^ 1])
    bad.write_bytes(whole[:middle] + (flipped + whole[middle + 1 :] if harm == "flipped" else b""))
    before = sorted(p.name for p in place.iterdir())
    done = command("restore", bad, "--state-folder", place / "never", cwd=place)
    assert done.code == CorruptFile.exit_code
    assert f"{harm}.tar: the backup is damaged or cut short" in done.complaint
    assert sorted(p.name for p in place.iterdir()) == before


def test_a_folder_without_a_book_cannot_be_backed_up(place: Path) -> None:
    done = command("backup", place, "--state", place / "kept", cwd=place)
    assert done.code == DataError.exit_code
    assert "there is no journal" in done.complaint


def test_a_backup_that_finds_the_disk_full_leaves_nothing(archive: Path, place: Path) -> None:
    """A limit on the size of a file is a full disk that a test can have."""
    goal = place / "small"
    goal.mkdir()
    done = subprocess.run(
        ["bash", "-c", 'ulimit -f 64; trap "" XFSZ; exec "$@"', "bash", *words(place, goal)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "error:" in done.stderr
    assert list(goal.iterdir()) == []


# ---- another version of the software -------------------------------------------------------------


def written_by_another(place: Path, name: str, schema: int, version: str) -> Path:
    """Copy the book that was ended in order, its snapshots as another version writes them."""
    state = place / name
    state.mkdir()
    for file in (place / "state").iterdir():
        if file.is_file() and file.name != LOCK_NAME:
            shutil.copy(file, state)
    reader = JournalReader(state / "journal.sqlite")
    snapshot = reader.last_snapshot()
    assert snapshot is not None
    other = replace(snapshot, schema=schema, code_version=version, state=b"of another form")
    values = (schema, version, snapshot_checksum(other), pack(other.state), other.sequence)
    with closing(sqlite3.connect(reader.path, isolation_level=None)) as journal:
        journal.execute("DELETE FROM snapshots WHERE sequence <> ?", (other.sequence,))
        journal.execute(
            "UPDATE snapshots SET schema = ?, code_version = ?, checksum = ?, state = ? "
            "WHERE sequence = ?",
            values,
        )
    assert reader.last_snapshot() == other
    return state


def test_a_daemon_goes_on_from_a_book_whose_snapshots_are_of_an_earlier_version(
    archive: Path, place: Path
) -> None:
    state = written_by_another(place, "earlier", SCHEMA - 1, "0.0.1")
    before = read_run(state)
    asyncio.run(goes_on(state, place))
    check_books_agree(settings_of(state, *SMALL))
    after = read_run(state)
    assert after[: len(before)] == before
    assert len(after) >= len(before) + 4


def test_after_a_rollback_snapshots_of_the_later_version_are_passed_over(
    archive: Path, place: Path
) -> None:
    state = written_by_another(place, "later", SCHEMA + 1, "99.0.0")
    settings = settings_of(state, *SMALL)
    universe = universe_of(read_instruments(state))
    engine, recovered = recovered_engine(settings, universe, state / "journal.sqlite")
    own, _ = recovered_engine(settings, universe, place / "state" / "journal.sqlite")
    assert recovered.snapshot_sequence == 0
    assert codec.encode(engine.state.to_plain()) == codec.encode(own.state.to_plain())


def refused_start(state: Path, place: Path) -> str:
    before = (state / "journal.sqlite").read_bytes()
    done = command(*rehearse(state, *SMALL), cwd=place)
    assert done.code == JournalError.exit_code
    assert (state / "journal.sqlite").read_bytes() == before
    return done.complaint


def test_a_journal_of_a_later_format_is_refused_and_left_as_it_is(
    archive: Path, place: Path
) -> None:
    state = written_by_another(place, "format", SCHEMA, "99.0.0")
    with closing(sqlite3.connect(state / "journal.sqlite")) as journal:
        journal.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    assert "use the build that wrote it" in refused_start(state, place)


def test_settings_that_this_version_does_not_have_are_refused_by_their_name(
    archive: Path, place: Path
) -> None:
    state = written_by_another(place, "settings", SCHEMA, "99.0.0")
    with closing(sqlite3.connect(state / "journal.sqlite")) as journal:
        journal.execute("UPDATE runs SET settings = settings || '\n[later]\nkey = 1\n'")
        journal.commit()
        journal.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    said = refused_start(state, place)
    assert "recorded by another version" in said
    assert "later" in said


def words(place: Path, goal: Path) -> list[str]:
    state, models = str(place / "state"), str(place / "models")
    return [
        *(sys.executable, "-m", "daemon", "backup", str(goal)),
        *("--state", state, "--models-folder", models),
    ]
