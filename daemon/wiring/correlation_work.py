"""What a worker does in the race of covariance estimators: an arm walks through a fold.

A finished walk leaves a file of arrays; the name is the digest of all that it hangs on, so that a
run that was killed goes on, and one with other settings begins anew beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from adapters.history.store import unified_symbol
from daemon.domain.bar import Floats
from daemon.domain.failures import ModelError
from daemon.ports import Share
from daemon.research.correlation.arms import Arm
from daemon.research.correlation.market import HORIZONS_H, Fold, Longs, Market, columns_of
from daemon.research.correlation.walking import Walked, walk
from strategies.covariance.interface import CovarianceEstimator
from strategies.covariance.known import make_estimator
from strategies.covariance.recurrent import RecurrentCorrelation, Scaling
from strategies.covariance.recurrent_store import save

if TYPE_CHECKING:
    from strategies.covariance.recurrent_training import Example

VERSION: Final = 1  # of what a walk computes: raise it where the same settings give other figures
FACTS: Final = "facts"
EXAMPLES_SHARE: Final = 0.5  # of the progress of a fold of a learned arm
MODELS_FOLDER: Final = "models"


@dataclass(frozen=True)
class Walk:
    """Hold an arm in a fold: the market's file, the window, and the hour at which fits end last."""

    arm: Arm
    fold: Fold
    market: Path
    data: str
    window_h: int
    last_fit: int
    seed: int
    folder: Path

    @property
    def path(self) -> Path:
        """Name the file that a finished walk leaves."""
        values = [VERSION, self.arm.made, asdict(self.fold), self.data, self.window_h, self.seed]
        text = json.dumps(values, sort_keys=True)
        return self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


def run_walk(task: Walk, told: Share) -> Path:
    """Walk an arm through a fold and write what came of it; give the file."""
    market = read_market(task.market)
    coins = [coin_of(symbol) for symbol in market.symbols]
    facts: dict[str, Any] = {}
    if task.arm.learned:
        started_s = _processor_s()
        examples = _examples(task.market, task.window_h, task.last_fit)
        share = _processor_s() - started_s
        started_s = _processor_s()
        estimator, facts = _learned(task, market, examples)
        facts["fit_s"] = _processor_s() - started_s
        facts["examples_s"] = share
        told(EXAMPLES_SHARE)

    def make(chosen: Longs) -> CovarianceEstimator:
        if task.arm.learned:
            return estimator
        settings = dict(task.arm.plain)
        return make_estimator(task.arm.estimator, settings, [coins[n] for n in chosen])

    begun = EXAMPLES_SHARE if task.arm.learned else 0.0
    walked = walk(
        market,
        task.fold,
        make,
        window_h=task.window_h,
        seed=task.seed,
        beside=len(columns_of(market, task.arm.outside)) if task.arm.learned else 0,
        processor_s=_processor_s,
        told=lambda part: told(begun + (1.0 - begun) * part),
    )
    _write(task.path, walked, facts)
    return task.path


def _learned(
    task: Walk, market: Market, examples: list[Example]
) -> tuple[CovarianceEstimator, dict[str, Any]]:
    """Fit the network of a fold and keep it beside the walks; without enough to learn, the EWMA."""
    from daemon.research.correlation.learning import learn  # loads torch

    outside = task.arm.outside
    names = columns_of(market, outside)
    try:
        manifest, fitted = learn(
            market, task.fold, examples, outside=outside, data=task.data, seed=task.seed
        )
    except ModelError as e:
        return RecurrentCorrelation(covariates=names), {"unfitted": str(e)}
    folder = save(manifest, fitted.weights, task.folder.parent / MODELS_FOLDER)
    scaling = Scaling(np.array(manifest.centre), np.array(manifest.spread))
    facts = {
        "model": folder.name,
        "epochs": fitted.epochs,
        "loss": fitted.loss,
        "ewma_loss": fitted.ewma_loss,
    }
    return RecurrentCorrelation(fitted.weights, scaling, names), facts


@lru_cache(maxsize=1)
def _examples(market: Path, window_h: int, before: int) -> list[Example]:
    """Make what all folds learn from once a process; each takes what was over by its start."""
    from daemon.research.correlation.learning import examples_of  # loads torch

    return examples_of(read_market(market), window_h=window_h, before=before)


def coin_of(symbol: str) -> str:
    """Give the base coin of an instrument, as a taxonomy names it."""
    return unified_symbol(symbol).partition("/")[0]


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# ---- files ---------------------------------------------------------------------------------------


def write_market(market: Market, path: Path) -> str:
    """Write what all walks read, and give the fingerprint of its content."""
    arrays = {
        "hour_ms": market.hour_ms,
        "hourly": market.hourly,
        "fine": market.fine,
        "beside": market.beside,
        "names": np.array([*market.symbols]),
        "columns": np.array([*market.columns]),
    }
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return digest.hexdigest()[:24]


@lru_cache(maxsize=1)
def read_market(path: Path) -> Market:
    """Read what `write_market` wrote."""
    with np.load(path, allow_pickle=False) as found:
        return Market(
            tuple(found["names"].tolist()),
            found["hour_ms"],
            found["hourly"],
            found["fine"],
            found["beside"],
            tuple(found["columns"].tolist()),
        )


def _write(path: Path, walked: Walked, facts: Mapping[str, Any]) -> None:
    """Write a finished walk in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Floats] = {
        f"{hours}/{name}": values
        for hours, found in walked.blocks.items()
        for name, values in found.items()
    }
    more = {"cpu_ms": walked.cpu_ms, "forecasts": walked.forecasts_n, "lifted": walked.lifted_n}
    text = json.dumps({**facts, **more})
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays, **{FACTS: np.array(text)})
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def read_walk(path: Path) -> tuple[dict[int, dict[str, Floats]], dict[str, Any]]:
    """Read a finished walk: blocks by horizon and name, and what is said of them."""
    with np.load(path, allow_pickle=False) as found:
        facts: dict[str, Any] = json.loads(str(found[FACTS]))
        blocks: dict[int, dict[str, Floats]] = {hours: {} for hours in HORIZONS_H}
        for key in found.files:
            hours, slash, name = key.partition("/")
            if slash:
                blocks[int(hours)][name] = found[key]
    return blocks, facts
