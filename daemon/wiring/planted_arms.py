"""Keep the arms of a planted campaign that were finished, so that a killed one goes on.

An arm's file is named by the arm and by the hash of all that determines it: plan, settings of the
training, seeds, the program's own text. What does not fit is not read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from daemon.domain.failures import CorruptFile, DataError
from daemon.research.planted_market import Arm, ArmOutcome


class _Kept(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    ics: list[float | None]
    share: float | None
    shares: dict[str, float | None]


class FinishedArms:
    """Read and write the finished arms of one campaign below a folder."""

    def __init__(self, folder: Path, determined_by: Mapping[str, object]) -> None:
        text = json.dumps(determined_by, sort_keys=True, default=str)
        self._folder = folder
        self._key = hashlib.sha256(text.encode()).hexdigest()[:16]

    def found(self, arm: Arm) -> ArmOutcome | None:
        """Give an arm that was finished, else None; raise CorruptFile for a file of no arm."""
        path = self._path(arm)
        if not path.exists():
            return None
        try:
            kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError) as e:
            raise CorruptFile(f"{path}: no arm of ours: {e}; remove it and run again") from e
        ics = np.array([_number(one) for one in kept.ics], dtype=np.float64)
        shares = {name: _number(share) for name, share in kept.shares.items()}
        return ArmOutcome(arm, kept.model, ics, _number(kept.share), shares)

    def keep(self, one: ArmOutcome) -> None:
        """Write a finished arm, whole or not at all; raise DataError where that fails."""
        shares = {name: _defined(share) for name, share in one.shares.items()}
        kept = _Kept(
            one.model, [_defined(x) for x in one.ics.tolist()], _defined(one.share), shares
        )
        path = self._path(one.arm)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(msgspec.json.encode(kept))
            draft.replace(path)
        except OSError as e:
            raise DataError(f"{path}: cannot be written: {e.strerror}") from e

    def _path(self, arm: Arm) -> Path:
        return self._folder / f"{arm.value.replace(' ', '-')}-{self._key}.json"


def _defined(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
