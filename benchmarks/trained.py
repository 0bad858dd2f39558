"""Time stored models on one thread: 200 names and each timeframe, and networks in bf16 beside fp32.

    equipoise train --on rehearsal                          (a Bi-LSTM; models-rehearsal/ID)
    equipoise train --on rehearsal --kind lightgbm
    python -m benchmarks.trained models-rehearsal/ID ... [--runs 8]

A network is held against itself with weights and inputs rounded to bf16: time, rank agreement of
the forecasts of an instant (Spearman over the names, the least and the middle of all instants), and
how many of the ten strongest and ten weakest stay who they are.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # before the imports

import numpy as np
import torch

from benchmarks.forecast import INSTRUMENTS_N, bars, say, timed
from daemon.domain.bar import Floats
from daemon.domain.units import DAY_MS
from strategies.forecast.checkpoint import Checkpoint, load
from strategies.forecast.inference import Ensemble, raw_model
from strategies.forecast.inputs.features import FEATURE_MEMORY_BARS, features
from strategies.forecast.inputs.windows import channels

INSTANTS_N: Final = 40
STRONGEST_N: Final = 10  # names a side of a book


class Rounded(Ensemble):
    """Run the networks of a model with weights and inputs in bf16."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        for member in self._members:
            member.to(torch.bfloat16)

    def forward(self, rows: Floats, timeframe: int) -> tuple[Floats, Floats]:
        """Do as `Ensemble.forward` does, all names in one call and none padded."""
        x = torch.from_numpy(channels(rows).transpose(1, 0, 2)[None].copy())  # (1, N, L, C)
        with torch.inference_mode():
            place = torch.tensor([timeframe])
            answers = [member(x.to(torch.bfloat16), place) for member in self._members]
        means = np.array([a.mean[0, :, 0].float().numpy() for a in answers], dtype=np.float64)
        logs = np.array([a.log_variance[0, :, 0].float().numpy() for a in answers])
        return means, np.exp(logs.astype(np.float64)).mean(axis=0)


def rows_of_instants(checkpoint: Checkpoint) -> list[list[Floats]]:
    """Give for some instants the feature rows (L, N, F) of each timeframe of the model."""
    manifest = checkpoint.manifest
    bars_n = manifest.shape.sequence_bars
    values = bars(FEATURE_MEMORY_BARS + len(manifest.timeframes) * (INSTANTS_N + bars_n))
    found: list[list[Floats]] = [[] for _ in range(INSTANTS_N)]
    for place, timeframe in enumerate(manifest.timeframes):
        own = values[: len(values) - place * (INSTANTS_N + bars_n)]
        rows = features(
            own,
            newest_close_ms=19_700 * DAY_MS,
            timeframe=timeframe,
            newest=INSTANTS_N + bars_n,
        )
        for at in range(INSTANTS_N):
            found[at].append(rows[at : at + bars_n])
    return found


def spearman(x: Floats, y: Floats) -> float:
    """Correlate the ranks of two forecasts (N,) without ties."""
    first, second = (np.argsort(np.argsort(values)) for values in (x, y))
    return float(np.corrcoef(first, second)[0, 1])


def agreement(plain: list[Floats], rounded: list[Floats]) -> str:
    """Say how the ranks of forecasts (N,) agree."""
    all_ = sorted(map(spearman, plain, rounded))
    kept = [
        len({*a.argsort()[ends]} & {*b.argsort()[ends]})
        for a, b in zip(plain, rounded, strict=True)
        for ends in (slice(STRONGEST_N), slice(-STRONGEST_N, None))
    ]
    return (
        f"rank agreement: least {all_[0]:.5f}, middle {all_[len(all_) // 2]:.5f} of {len(all_)};"
        f" of {STRONGEST_N} at an end {np.mean(kept):.2f} stay, at worst {min(kept)}"
    )


def time_model(folder: Path, runs: int) -> None:
    """Time a model, and its bf16 form where it is a network."""
    checkpoint = load(folder)
    manifest = checkpoint.manifest
    if manifest.covariates:
        raise SystemExit(
            f"{folder} reads {', '.join(manifest.covariates)}: bars alone are drawn here"
        )
    contenders = {"as stored": raw_model(checkpoint)}
    if isinstance(contenders["as stored"], Ensemble):
        contenders["bf16"] = Rounded(checkpoint)
    instants = rows_of_instants(checkpoint)
    forecasts: dict[str, list[Floats]] = {}
    works: dict[str, Callable[[], object]] = {}
    for name, model in contenders.items():
        forecasts[name] = [
            model.forward(rows, place)[0].mean(axis=0)
            for instant in instants
            for place, rows in enumerate(instant)
        ]
        works[name] = lambda m=model: [m.forward(r, place) for place, r in enumerate(instants[-1])]
    shape = manifest.shape
    title = f"{manifest.kind}, {INSTRUMENTS_N} names x {len(manifest.timeframes)} timeframes"
    note = f", {shape.members} members, {shape.sequence_bars} bars"
    say(title, timed(works, runs), "as stored", note)
    if "bf16" in forecasts:
        print(f"  {agreement(forecasts['as stored'], forecasts['bf16'])}")


def main() -> int:
    """Time the models that are named; give the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.trained")
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--runs", type=int, default=8)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for folder in asked.models:
        time_model(folder, asked.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
