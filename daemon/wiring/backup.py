"""Back a book up while the daemon runs, and bring it back: journal, ledger, models, settings.

Left out of an archive: requests of operators (a restored one would be obeyed a second time), the
status server (it holds nothing of its own), recorded bars (files that are replaced whole, for
ordinary tools), the lock, and all secrets (settings name only where they are).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from adapters.backup import Contents, copy_at_one_instant, pack_archive, unpack_archive
from adapters.clocks import TransportClock
from adapters.journal import JournalReader
from adapters.model_store import CHAMPION_FILE, ModelStore
from adapters.paper.sqlite_store import SqliteStore
from adapters.state_lock import LOCK_NAME, StateLock, owner_of
from daemon.domain.decision import Decision
from daemon.domain.failures import AlreadyRunning, ConfigurationError, CorruptFile, DataError
from daemon.domain.units import DAY_MS, iso
from daemon.engine.state import SCHEMA
from daemon.wiring.instruments import JOURNAL_FILE, read_instruments

PAPER_LEDGER: Final = "paper.sqlite"
SETTINGS_FILE: Final = "settings.toml"
STATE, MODELS = "state", "models"
LEFT_OUT: Final = frozenset({"control", "redis", "bars", LOCK_NAME})
NAME: Final = "equipoise-"
ENDING: Final = ".tar"
MARKER: Final = (
    "SELECT (SELECT max(sequence) FROM entries), (SELECT max(sequence) FROM snapshots), "
    "(SELECT max(run) FROM runs)"
)
RECENT_DAYS: Final = 7
ENDED_KEPT: Final = 1  # orders that the check of a ledger reads beside the open ones


@dataclass(frozen=True, slots=True)
class BackedUp:
    """Say what an archive holds. removed: older archives that `keep` took away."""

    path: Path
    contents: Contents
    removed: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Restored:
    """Say what was brought back. aside: where the earlier state folder is now, None if empty."""

    folder: Path
    about: dict[str, Any]
    models: tuple[str, ...]
    aside: Path | None


def back_up(state: Path, models: Path, target: Path, *, keep: int = 0) -> BackedUp:
    """Write an archive of the book in `state` and the models in `models`.

    target: a folder, where the name tells the UTC instant, or a file not there yet. keep: of
    the archives in a target folder only so many newest stay; 0: all. Raises DataError when there is
    no book, and JournalError, BrokenChain, CorruptFile or ModelError when what lies there is not
    whole: nothing is left at the target then.
    """
    if not (state / JOURNAL_FILE).is_file():
        raise DataError(f"{state / JOURNAL_FILE}: there is no journal; --state names another?")
    folder = target if target.is_dir() else target.parent
    if not folder.is_dir():
        raise ConfigurationError(f"{folder}: is no folder; make it first")
    made_ms = TransportClock().wall_ms()
    stamp = iso(made_ms).replace("-", "").replace(":", "")
    path = target / f"{NAME}{stamp}{ENDING}" if target.is_dir() else target
    with tempfile.TemporaryDirectory(prefix=".equipoise-backup-", dir=folder) as scratch:
        staged = Path(scratch)
        _stage_state(state, staged / STATE)
        champion = _stage_models(models, staged / MODELS)
        about = _about(staged / STATE) | {"made_at": iso(made_ms), "champion": champion}
        _stage_settings(staged)
        contents = pack_archive(staged, about, path)
    return BackedUp(path, contents, _thinned(folder, keep) if target.is_dir() and keep else ())


def restore(archive: Path, state: Path, models: Path, *, force: bool = False) -> Restored:
    """Bring the book of an archive back into `state`, and models that are missing into `models`.

    Everything is proven beside its place first: hashes, the journal's chain, the sum of the ledger.
    A folder that holds something is refused without `force`, and with it moved aside, not deleted.
    Raises AlreadyRunning for a folder in use, ConfigurationError for one that is not empty, and as
    `back_up` for an archive that is not whole: nothing has changed then.
    """
    _refuse(state, force=force)
    state.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".equipoise-restore-", dir=state.parent) as scratch:
        staged = Path(scratch)
        contents = unpack_archive(archive, staged)
        about = dict(contents.about)
        _prove(staged / STATE, about)
        ModelStore(staged / MODELS).list()
        with _held(state, force=force):
            added = _bring_models(staged / MODELS, models)
            aside = _swap(staged / STATE, state)
    return Restored(state, about, added, aside)


# ---- writing -------------------------------------------------------------------------------------


def _stage_state(state: Path, goal: Path) -> None:
    goal.mkdir(parents=True)
    ledger = state / PAPER_LEDGER
    others = [ledger] if ledger.exists() else []
    copy_at_one_instant(state / JOURNAL_FILE, MARKER, others, goal)
    for path in sorted(state.iterdir()):
        name = path.name
        unfinished = name.startswith(".") or name.endswith(".new")
        if path.is_file() and ".sqlite" not in name and name not in LEFT_OUT and not unfinished:
            shutil.copyfile(path, goal / name)


def _stage_models(models: Path, goal: Path) -> str | None:
    """Copy every registered model, each proven while it is read; give the champion's id."""
    goal.mkdir()
    store = ModelStore(models)
    for record in store.list():
        shutil.copytree(record.folder, goal / record.model_id)
    if (models / CHAMPION_FILE).is_file():
        shutil.copyfile(models / CHAMPION_FILE, goal / CHAMPION_FILE)
    copied = ModelStore(goal).champion()
    return copied.model_id if copied else None


def _stage_settings(staged: Path) -> None:
    runs = JournalReader(staged / STATE / JOURNAL_FILE).runs()
    if runs:
        (staged / SETTINGS_FILE).write_text(runs[-1][2], encoding="utf-8")


def _about(state: Path) -> dict[str, object]:
    """Prove a copied book and say where it stands."""
    reader = JournalReader(state / JOURNAL_FILE)
    proven = reader.verify()
    _prove_ledger(state)
    last = _last_decision(reader)
    return {
        "code_version": version("equipoise"),
        "snapshot_schema": SCHEMA,
        "entries": proven.entries_n,
        "chain": proven.chain.hex(),
        "market_time": iso(reader.last_event_ms) if reader.last_event_ms else None,
        "last_decision": None
        if last is None
        else {"as_of": iso(last.as_of_ms), "kind": str(last.kind), "orders": len(last.orders)},
    }


def _last_decision(reader: JournalReader) -> Decision | None:
    """Give the newest decision; a book that decided lately is not read as a whole for it."""
    recent_ms = (reader.last_event_ms or 0) - RECENT_DAYS * DAY_MS
    for from_ms in (recent_ms, 0):
        found = deque(reader.decisions(from_ms), maxlen=1)
        if found:
            return found[0]
    return None


def _thinned(folder: Path, keep: int) -> tuple[Path, ...]:
    """Take the oldest archives of ours away; their names sort by time."""
    ours = sorted(folder.glob(f"{NAME}????????T??????.???Z{ENDING}"))
    old = tuple(ours[:-keep])
    for path in old:
        path.unlink()
    return old


# ---- reading -------------------------------------------------------------------------------------


def _prove(state: Path, about: dict[str, Any]) -> None:
    read_instruments(state)
    proven = JournalReader(state / JOURNAL_FILE).verify()
    if (proven.entries_n, proven.chain.hex()) != (about["entries"], about["chain"]):
        raise CorruptFile(f"{JOURNAL_FILE} of the backup does not end where its manifest says")
    _prove_ledger(state)


def _prove_ledger(state: Path) -> None:
    if (state / PAPER_LEDGER).exists():
        store = SqliteStore(state / PAPER_LEDGER)
        try:
            store.load(ENDED_KEPT)
        finally:
            store.close()


def _refuse(state: Path, *, force: bool) -> None:
    """Raise for a folder that must not be replaced."""
    if state.is_symlink() or (state.exists() and not state.is_dir()):
        raise ConfigurationError(f"{state}: is no folder; name one, or what the link leads to")
    if not state.exists():
        return
    held = [p.name for p in state.iterdir() if p.name != LOCK_NAME]
    owner = owner_of(state)
    if owner is not None:
        raise AlreadyRunning(f"state folder {state} is in use by process {owner}: stop it first")
    if held and not force:
        raise ConfigurationError(
            f"{state}: is not empty ({', '.join(sorted(held)[:3])}); name an empty folder, or say "
            "--force, which moves this one aside"
        )


@contextmanager
def _held(state: Path, *, force: bool) -> Iterator[None]:
    """Keep every daemon out of the folder, and look again now that none can begin."""
    with ExitStack() as lock:
        if state.exists():
            lock.enter_context(StateLock(state))
            held = any(p.name != LOCK_NAME for p in state.iterdir())
            if held and not force:
                raise AlreadyRunning(f"{state}: was begun to be used meanwhile; nothing changed")
        yield


def _bring_models(source: Path, models: Path) -> tuple[str, ...]:
    """Add the models that are missing; the champion only where none is in charge."""
    models.mkdir(parents=True, exist_ok=True)
    added = []
    for record in ModelStore(source).list():
        goal = models / record.model_id
        if goal.exists():
            ModelStore(models).show(record.model_id)  # it is proven, and has the same id
            continue
        with tempfile.TemporaryDirectory(prefix=".restore-", dir=models) as scratch:
            shutil.copytree(record.folder, Path(scratch) / "model")
            (Path(scratch) / "model").rename(goal)
        added.append(record.model_id)
    if (source / CHAMPION_FILE).exists() and not (models / CHAMPION_FILE).exists():
        shutil.copyfile(source / CHAMPION_FILE, models / CHAMPION_FILE)
    return tuple(added)


def _swap(staged: Path, state: Path) -> Path | None:
    """Put the proven folder in its place; the earlier one is moved aside and named."""
    aside = None
    if state.exists():
        stamp = TransportClock().wall_ms()
        aside = state.with_name(f"{state.name}.before-restore-{stamp}")
        state.rename(aside)
    try:
        staged.rename(state)
    except OSError:
        if aside is not None:
            aside.rename(state)
        raise
    if aside is not None and all(p.name == LOCK_NAME for p in aside.iterdir()):
        shutil.rmtree(aside)
        return None
    return aside
