"""Estimators that misbehave on command; the worker under test hosts them in its child process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daemon.domain.bar import Window
from daemon.domain.failures import InvariantViolated, ModelError
from daemon.domain.forecast import Estimates, Prediction


class Rig:
    """Answer with the window's newest closes; the instant asked for says how to misbehave."""

    def __init__(self, gate: str) -> None:
        self._gate = gate

    @property
    def model_id(self) -> str:
        return "rig"

    def estimate(self, as_of_ms: int, windows: Sequence[Window]) -> Estimates:
        match as_of_ms:
            case 13:
                os._exit(3)
            case 14:
                Path(self._gate).read_bytes()  # blocks until somebody opens the pipe to write
            case 15:
                raise InvariantViolated("windows of another universe")
            case 16:
                as_of_ms = 99
        found = [
            Prediction(w.timeframe, w.newest_ms, w.closes[-1], np.ones(w.values.shape[1]), "rig")
            for w in windows
        ]
        return Estimates(as_of_ms, tuple(found))


def build(config: Mapping[str, Any]) -> Rig:
    """Build a rig, or refuse as a damaged model would."""
    if config.get("refuse"):
        raise ModelError("weights.safetensors: its hash is not the one in the manifest")
    if config.get("exit"):
        sys.exit(4)
    return Rig(str(config.get("gate", "")))
