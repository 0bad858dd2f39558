"""Keep the registry of models: one folder per model, one `champion` pointer.

    <root>/<id>/weights.safetensors   <root>/<id>/manifest.json   <root>/champion

The id is the first 16 hex digits of the manifest's SHA-256 and the manifest carries that of the
weights, so every look at a model proves both files. The pointer is replaced atomically and
remembers whom it replaced. Knows no torch and runs no model.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from daemon.domain.failures import ModelError
from daemon.domain.units import iso

MANIFEST_FILE: Final = "manifest.json"
WEIGHTS_FILE: Final = "weights.safetensors"
CHAMPION_FILE: Final = "champion"
ORIGINS: Final = ("generated", "exchange", "files")
PREVIOUS_MAX: Final = 50
_ID_LENGTH: Final = 16


class ModelOrigin(msgspec.Struct, frozen=True):
    """Hold where a model's data came from; kind is one of ORIGINS."""

    kind: str
    name: str


class ModelData(msgspec.Struct, frozen=True):
    """Hold the fingerprint and range of a model's data."""

    fingerprint: str
    from_ms: int
    to_ms: int


class ModelManifest(msgspec.Struct, frozen=True):
    """Hold what the registry reads of a manifest; its other keys belong to the model's own code."""

    kind: str
    origin: ModelOrigin
    data: ModelData
    symbols: tuple[str, ...]
    timeframes_minutes: tuple[int, ...]
    weights_sha256: str
    covariates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """Hold one registered model, verified when it was read."""

    model_id: str
    folder: Path
    manifest: ModelManifest
    is_champion: bool


class _Pointer(msgspec.Struct, frozen=True):
    model_id: str
    previous: tuple[str, ...] = ()


class ModelStore:
    """Read and promote the models below one folder; training puts them there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self) -> tuple[ModelRecord, ...]:
        """Give all models, oldest data first; raise ModelError for one that is damaged."""
        if not self._root.is_dir():
            return ()
        names = [p.name for p in self._root.iterdir() if p.is_dir() and _is_id(p.name)]
        records = [self.show(name) for name in names]
        return tuple(sorted(records, key=lambda r: (r.manifest.data.to_ms, r.model_id)))

    def show(self, model_id: str) -> ModelRecord:
        """Read and verify one model; raise ModelError naming the file and the reason."""
        folder = self._folder(model_id)
        pointer = self._pointer()
        is_champion = pointer is not None and pointer.model_id == model_id
        return ModelRecord(model_id, folder, _verified(folder), is_champion)

    def show_fully(self, model_id: str) -> dict[str, Any]:
        """Give the whole manifest of a verified model as plain values, for people to read."""
        folder = self.show(model_id).folder
        full: dict[str, Any] = msgspec.json.decode((folder / MANIFEST_FILE).read_bytes())
        return full

    def champion(self) -> ModelRecord | None:
        """Give the model in charge, or None before the first promotion."""
        pointer = self._pointer()
        return None if pointer is None else self.show(pointer.model_id)

    def promote(self, model_id: str) -> ModelRecord:
        """Put a model in charge; the one before stays in the pointer's memory."""
        _verified(self._folder(model_id))
        try:
            pointer = self._pointer()
        except ModelError:  # what is damaged is mended by naming a champion again
            pointer = None
        if pointer is None:
            self._point(_Pointer(model_id))
        elif pointer.model_id != model_id:
            previous = (*pointer.previous, pointer.model_id)[-PREVIOUS_MAX:]
            self._point(_Pointer(model_id, previous))
        return self.show(model_id)

    def earlier(self) -> ModelRecord:
        """Give the model that was in charge before the champion; raise ModelError if none was."""
        return self.show(self._replaced().previous[-1])

    def rollback(self) -> ModelRecord:
        """Put the model before the champion in charge again; raise ModelError if there is none."""
        previous = self._replaced().previous
        self.show(previous[-1])
        self._point(_Pointer(previous[-1], previous[:-1]))
        return self.show(previous[-1])

    def _replaced(self) -> _Pointer:
        """Read a pointer that knows of an earlier champion."""
        pointer = self._pointer()
        if pointer is None or not pointer.previous:
            raise ModelError(f"{self._root / CHAMPION_FILE}: no earlier champion to go back to")
        return pointer

    def _folder(self, model_id: str) -> Path:
        folder = self._root / model_id
        if not folder.is_dir() or folder.parent != self._root or model_id in {"", ".", ".."}:
            raise ModelError(f"no model {model_id!r} in {self._root}")
        return folder

    def _pointer(self) -> _Pointer | None:
        path = self._root / CHAMPION_FILE
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as e:
            raise ModelError(f"{path}: {e.strerror}") from e
        try:
            return msgspec.json.decode(raw, type=_Pointer)
        except msgspec.DecodeError as e:
            raise ModelError(
                f"{path}: {e}; name the champion again: `equipoise models promote ID`, where ID "
                "is the name of a folder beside it"
            ) from e

    def _point(self, pointer: _Pointer) -> None:
        path = self._root / CHAMPION_FILE
        draft = path.with_name(f".{CHAMPION_FILE}.{os.getpid()}")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.encode(pointer))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _sync_folder(self._root)
        except OSError as e:
            raise ModelError(f"{path}: {e.strerror}") from e


def require_origin_fits(
    manifest: ModelManifest, *, venue_is_generated: bool, allow: bool = False
) -> None:
    """Refuse a model of a generated market on real prices; raise ModelError saying what to do.

    venue_is_generated: the prices traded on are generated too. allow: the user said so explicitly.
    A model whose origin is unknown to this version counts as generated.
    """
    real = manifest.origin.kind in ORIGINS and manifest.origin.kind != "generated"
    if real or venue_is_generated or allow:
        return
    span = f"{iso(manifest.data.from_ms)} .. {iso(manifest.data.to_ms)}"
    raise ModelError(
        f"this model learned from a {manifest.origin.kind} market ({manifest.origin.name}, {span})"
        " and would trade on real prices: train one on real bars, or set "
        "estimator.allow_foreign_model = true to let it, for practice only"
    )


def _is_id(name: str) -> bool:
    """Tell whether a folder is named as a model's is: what else lies there is none of ours."""
    return len(name) == _ID_LENGTH and set(name) <= set("0123456789abcdef")


def _verified(folder: Path) -> ModelManifest:
    path = folder / MANIFEST_FILE
    text, weights = _read(path), _read(folder / WEIGHTS_FILE)
    found = hashlib.sha256(text).hexdigest()[:_ID_LENGTH]
    if found != folder.name:
        raise ModelError(f"{path}: its content hash is {found}, not the folder's name")
    try:
        manifest = msgspec.json.decode(text, type=ModelManifest)
    except msgspec.DecodeError as e:
        raise ModelError(f"{path}: {e}") from e
    if hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
        raise ModelError(f"{folder / WEIGHTS_FILE}: its hash is not the one in the manifest")
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise ModelError(f"{path}: {e.strerror}") from e


def _sync_folder(folder: Path) -> None:
    """Make a rename durable: the folder's own entry must reach the disk too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
