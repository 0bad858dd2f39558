"""The registry: verified models, one pointer, a way back, no made-up markets on real venues."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters import model_store
from adapters.model_store import ModelData, ModelManifest, ModelOrigin, ModelStore
from daemon.domain.failures import ModelError


def put(root: Path, weights: bytes = b"w", kind: str = "exchange", to_ms: int = 10) -> str:
    """Put a model into the registry as training does; give its id."""
    text = json.dumps(
        {
            "kind": "bilstm",
            "origin": {"kind": kind, "name": "somewhere"},
            "data": {"fingerprint": "f", "from_ms": 0, "to_ms": to_ms, "more": 1},
            "symbols": ["BTC"],
            "timeframes_minutes": [60],
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
            "scores": [1, 2],
        }
    ).encode()
    model_id = hashlib.sha256(text).hexdigest()[:16]
    (root / model_id).mkdir(parents=True)
    (root / model_id / model_store.MANIFEST_FILE).write_bytes(text)
    (root / model_id / model_store.WEIGHTS_FILE).write_bytes(weights)
    return model_id


def test_an_empty_registry_has_no_models_and_no_champion(tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    assert store.list() == ()
    assert store.champion() is None


def test_models_are_listed_by_the_end_of_their_data(tmp_path: Path) -> None:
    late, early = put(tmp_path, b"a", to_ms=20), put(tmp_path, b"b", to_ms=10)
    (tmp_path / ".draft-x").mkdir()
    (tmp_path / "notes of mine").mkdir()
    assert [r.model_id for r in ModelStore(tmp_path).list()] == [early, late]
    assert ModelStore(tmp_path).show_fully(late)["scores"] == [1, 2]


def test_promotion_replaces_the_champion_and_rollback_brings_it_back(tmp_path: Path) -> None:
    first, second, third = (put(tmp_path, bytes([i])) for i in range(3))
    store = ModelStore(tmp_path)
    for model_id in (first, second, second, third):
        assert store.promote(model_id).is_champion
    assert [r.is_champion for r in store.list()].count(True) == 1
    assert store.rollback().model_id == second
    again = ModelStore(tmp_path)
    assert again.rollback().model_id == first
    assert again.champion() == again.show(first)
    with pytest.raises(ModelError, match="no earlier champion"):
        again.rollback()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".champion")]


def test_a_failed_replacement_leaves_the_old_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = put(tmp_path, b"a"), put(tmp_path, b"b")
    store = ModelStore(tmp_path)
    store.promote(first)

    def full(_: Path, __: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ModelError, match="No space left"):
        store.promote(second)
    champion = store.champion()
    assert champion is not None
    assert champion.model_id == first


@pytest.mark.parametrize("name", ["", ".", "..", "nothing", "a/b", "../models"])
def test_names_that_are_no_model_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "models"
    put(root)
    with pytest.raises(ModelError, match="no model"):
        ModelStore(root).show(name)


def test_damaged_models_cannot_be_shown_or_promoted(tmp_path: Path) -> None:
    model_id = put(tmp_path)
    store = ModelStore(tmp_path)
    store.promote(model_id)
    (tmp_path / model_id / model_store.WEIGHTS_FILE).write_bytes(b"x")
    for act in (store.champion, store.list, lambda: store.promote(model_id)):
        with pytest.raises(ModelError, match=r"weights\.safetensors: its hash"):
            act()
    (tmp_path / model_id / model_store.MANIFEST_FILE).write_bytes(b"{}")
    with pytest.raises(ModelError, match=r"manifest\.json: its content hash"):
        store.show(model_id)


def test_a_broken_pointer_is_named(tmp_path: Path) -> None:
    (tmp_path / model_store.CHAMPION_FILE).write_bytes(b"{")
    with pytest.raises(ModelError, match=r"champion: .*models promote ID"):
        ModelStore(tmp_path).champion()


def test_naming_a_champion_mends_a_broken_pointer(tmp_path: Path) -> None:
    model_id = put(tmp_path)
    (tmp_path / model_store.CHAMPION_FILE).write_bytes(b"garbage")
    store = ModelStore(tmp_path)
    with pytest.raises(ModelError, match="champion"):
        store.list()
    assert store.promote(model_id).is_champion
    assert [r.model_id for r in store.list()] == [model_id]


@dataclass(frozen=True, slots=True)
class Case:
    kind: str
    venue_is_generated: bool
    allow: bool
    fits: bool


@pytest.mark.parametrize(
    "case",
    [
        Case("generated", venue_is_generated=False, allow=False, fits=False),
        Case("generated", venue_is_generated=False, allow=True, fits=True),
        Case("generated", venue_is_generated=True, allow=False, fits=True),
        Case("exchange", venue_is_generated=False, allow=False, fits=True),
        Case("files", venue_is_generated=False, allow=False, fits=True),
        Case("exchange", venue_is_generated=True, allow=False, fits=True),
        Case("dreamt", venue_is_generated=False, allow=False, fits=False),
    ],
)
def test_a_generated_markets_model_stays_off_real_prices(case: Case) -> None:
    origin = ModelOrigin(case.kind, "seed 7")
    manifest = ModelManifest("bilstm", origin, ModelData("f", 0, 86_400_000), (), (), "")

    def ask() -> None:
        model_store.require_origin_fits(
            manifest, venue_is_generated=case.venue_is_generated, allow=case.allow
        )

    if case.fits:
        ask()
    else:
        with pytest.raises(
            ModelError, match=rf"a {case.kind} market \(seed 7, 1970-01-01"
        ) as refused:
            ask()
        assert "estimator.allow_foreign_model = true" in str(refused.value)
