"""Hold what came of a race, and write it as plain values and as a table of losses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from daemon.report.files import Cell, csv_text, estimate, instant, plain
from daemon.research.architectures.verdicts import Verdict
from daemon.research.correlation.arms import Arm
from daemon.research.correlation.judging import Blocks, Judged
from daemon.research.correlation.walking import AT, COUNT, LOSSES, STEADINESS


@dataclass(frozen=True)
class Cost:
    """Hold what an arm takes on this machine: milliseconds a forecast, seconds of all its fits."""

    forecast_ms: float
    fit_s: float


@dataclass(frozen=True)
class Learned:
    """Hold how a network did on the part that stopped its fit, beside the EWMA there."""

    first_test_ms: int
    model: str
    epochs: int
    loss: float
    ewma_loss: float


@dataclass(frozen=True)
class RaceArm:
    """Hold an arm and what came of it. lifted_n: forecasts that could not be inverted as given."""

    arm: Arm
    trial: str
    blocks: Blocks
    lifted_n: int
    cost: Cost
    learned: tuple[Learned, ...] = ()


@dataclass(frozen=True)
class Race:
    """Hold a whole race. facts: of data and protocol, as plain values."""

    arms: tuple[RaceArm, ...]
    absent: tuple[str, ...]
    judged: tuple[Judged, ...]
    verdicts: tuple[Verdict, ...]
    facts: Mapping[str, Any]
    caveats: tuple[str, ...] = ()


def race_values(race: Race) -> dict[str, Any]:
    """Give everything but the single losses and what hangs on the machine; NaN is None."""
    values = {
        **race.facts,
        "arms": [
            {
                "name": one.arm.name,
                "group": str(one.arm.group),
                **one.arm.made,
                "trial": one.trial,
                "lifted": one.lifted_n,
                "learned": one.learned,
            }
            for one in race.arms
        ],
        "absent": race.absent,
        "horizons": race.judged,
        "verdicts": race.verdicts,
        "caveats": race.caveats,
    }
    found: dict[str, Any] = plain(values)
    return found


def cost_values(arms: Sequence[RaceArm]) -> dict[str, Any]:
    """Give what arms took on this machine, by name."""
    found: dict[str, Any] = plain({one.arm.name: one.cost for one in arms})
    return found


def losses_csv(race: Race) -> str:
    """Give every loss of every block: a row for an arm, a horizon and an instant."""
    names = (*LOSSES, *STEADINESS)
    return csv_text(("arm", "hours", "as_of", "instruments", *names), _rows(race, names))


def _rows(race: Race, names: Sequence[str]) -> Iterator[Sequence[Cell]]:
    for one in race.arms:
        for hours, found in one.blocks.items():
            for at, as_of in enumerate(found[AT].tolist()):
                count = found[COUNT][at]
                counted = 0 if math.isnan(count) else int(count)
                losses = (estimate(found[name][at]) for name in names)
                yield (one.arm.name, hours, instant(int(as_of)), counted, *losses)
