"""What a stored stack says of feature rows: the sum of its members' forecasts, each with its share.

The members are models of other kinds, stored inside the stack as they would be on their own. The
stated noise is that of labels, 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from strategies.forecast.checkpoint import KINDS, RIDGE, STACK, WEIGHTS_FILE, Checkpoint

COEFFICIENTS: Final = "shares"


class Member(Protocol):
    """Forecast in the units of the labels, as `inference.RawModel` does."""

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Map feature rows (L, N, F) to means (1, N) and noise (N,)."""
        ...


def member_name(kind: str, name: str) -> str:
    """Name a member's array as the model of that kind does, with the kind in front."""
    return f"{kind}/{name}" if kind == RIDGE else f"{kind}/0.{name}"


class StackModel:
    """Add up the members of every seed, as trained; see `inference.RawModel`."""

    def __init__(self, checkpoint: Checkpoint, build: Callable[[Checkpoint], Member]) -> None:
        """Build the members with `build`; ModelError for one that is unsound or has no share."""
        manifest = checkpoint.manifest
        shape = (len(manifest.timeframes), len(manifest.stacked))
        self._shares: list[Floats] = []
        self._members: list[list[Member]] = []
        for kind in (one.kind for one in manifest.stacked):
            if kind not in KINDS or kind == STACK:
                raise ModelError(f"model {checkpoint.model_id}: a stack cannot hold a {kind!r}")
        for seed in range(manifest.shape.members):
            found = checkpoint.weights.get(f"{seed}.{COEFFICIENTS}")
            if found is None or found.shape != shape or not (found >= 0).all():
                raise ModelError(
                    f"model {checkpoint.model_id}, {WEIGHTS_FILE}: {seed}.{COEFFICIENTS}: no shares"
                    f" of {shape[0]} timeframes and {shape[1]} members, all finite and not negative"
                )
            self._shares.append(np.asarray(found, dtype=np.float64))
            self._members.append([build(one) for one in _inner(checkpoint, seed)])

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Map feature rows (L, N, F) to the seeds' forecasts (M, N) and unit variances (N,)."""
        means = np.zeros((len(self._members), rows.shape[1]))
        for seed, members in enumerate(self._members):
            for share, one in zip(self._shares[seed][timeframe], members, strict=True):
                means[seed] += share * one.forward(rows, timeframe)[0][0]
        return means, np.ones(rows.shape[1])


def _inner(checkpoint: Checkpoint, seed: int) -> list[Checkpoint]:
    """Give the members of a seed as models of their own."""
    made = []
    for one in checkpoint.manifest.stacked:
        prefix = f"{seed}.{one.kind}/"
        weights = {
            name.removeprefix(prefix): array
            for name, array in checkpoint.weights.items()
            if name.startswith(prefix)
        }
        manifest = replace(checkpoint.manifest, kind=one.kind, shape=one.shape, stacked=())
        made.append(replace(checkpoint, manifest=manifest, weights=weights))
    return made
