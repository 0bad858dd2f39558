"""Say what is compared: every arm is a set of models whose forecasts of a timeframe are averaged.

Groups: `architectures` holds every kind of model at equal parameters and the plain forecasters;
`timeframes` each timeframe alone, all together, and the control, which is as many models of the
first timeframe that differ in seed and look-back instead of in timeframe; `ladder` the
regularisation with one rung added to none, and with one rung taken from all; `inputs` a network
that reads everything, and one for each block of inputs that does without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from itertools import product
from typing import Final

import numpy as np

from daemon.domain.failures import ConfigurationError
from daemon.domain.units import Timeframe
from strategies.forecast.baselines import Baseline
from strategies.forecast.inputs.blocks import blocks_of

Chosen = Mapping[str, object]  # fields of TrainSettings

BILSTM: Final = "bilstm"
NETWORKS: Final = (BILSTM, "lstm", "gru", "tcn", "transformer")
BASELINES: Final = tuple(one.value for one in Baseline)
COMBINED_NAME: Final = "all timeframes"
MEAN_NAME: Final = "all timeframes, plain mean"
CONTROL_NAME: Final = "control"
ALONE: Final = " alone"  # how the name of a single timeframe ends
NOTHING: Final = "no rung"
EVERYTHING: Final = "all rungs"
ALL_INPUTS: Final = "all inputs"
ENSEMBLE: Final = "ensemble"
RUNGS: Final[Mapping[str, tuple[Chosen, Chosen]]] = {  # switched off, and on
    "feature dropout": ({"feature_dropout": 0.0}, {"feature_dropout": 0.3}),
    "dropout": ({"dropout": 0.0}, {"dropout": 0.3}),
    "time-locked dropout": ({"time_dropout": 0.0}, {"time_dropout": 0.2}),
    "weight drop": ({"weight_drop": 0.0}, {"weight_drop": 0.3}),
    "zoneout": ({"zoneout": 0.0}, {"zoneout": 0.1}),
    "weight decay": ({"weight_decay": 0.0}, {"weight_decay": 0.1}),
    "weight averaging": ({"weight_averaging": False}, {"weight_averaging": True}),
}
SLOW_RUNGS: Final = ("zoneout",)  # walks bar by bar
RECURRENT: Final = (BILSTM, "lstm", "gru")
RECURRENT_RUNGS: Final = ("weight drop", "zoneout")  # act on recurrent states
_RATES: Final = (0.003, 0.001, 0.01, 0.0003, 0.02)
_FEATURE_DROPOUTS: Final = (0.3, 0.1, 0.5, 0.0)
_DECAYS: Final = (0.1, 0.01)


class Group(StrEnum):
    """Name the groups of arms."""

    ARCHITECTURES = "architectures"
    TIMEFRAMES = "timeframes"
    LADDER = "ladder"
    INPUTS = "inputs"


DEFAULT_GROUPS: Final = (Group.ARCHITECTURES, Group.TIMEFRAMES, Group.LADDER)


class Combine(StrEnum):
    """Say how the timeframes of an arm become one forecast."""

    FORMULA = "formula"  # as the strategy does
    MEAN = "mean"  # each at unit size


@dataclass(frozen=True)
class Member:
    """Hold one model of an arm: its kind, timeframes, seed, and what it changes in the settings.

    blanked: blocks of inputs that it does without, see `inputs.blocks`.
    """

    kind: str
    timeframes: tuple[Timeframe, ...]
    seed: int
    chosen: tuple[tuple[str, object], ...] = ()
    blanked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arm:
    """Hold one arm.

    tuned: the settings of each fold come from the grid, by the fold's own stop part.
    """

    name: str
    group: Group
    members: tuple[Member, ...]
    tuned: bool = False
    combine: Combine = Combine.FORMULA

    @property
    def kind(self) -> str:
        """Give the kind of its models."""
        return self.members[0].kind

    @property
    def timeframes(self) -> tuple[Timeframe, ...]:
        """Give the timeframes that it speaks of, the shortest first."""
        return tuple(sorted({t for one in self.members for t in one.timeframes}))

    @property
    def described(self) -> list[dict[str, object]]:
        """Describe its members; who reads everything is described as ever, so is the same trial."""
        found = [asdict(one) for one in self.members]
        return [{k: v for k, v in one.items() if v or k != "blanked"} for one in found]

    @property
    def file_name(self) -> str:
        """Name its table of predictions."""
        plain = self.name.replace("+", "plus").replace("-", "less").replace(",", "")
        return f"{self.group.value}-{'-'.join(plain.split())}.parquet"


@dataclass(frozen=True, slots=True)
class Absent:
    """Name something that was not compared, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Sizes:
    """Say how large a comparison is: models an arm, trials of the grid a network."""

    seeds_n: int
    trials_n: int
    ladder_seeds_n: int
    timeframe_seeds_n: int
    steps_max: int
    slow_rungs: bool
    probes: int = 200  # instants of the training part at which the ladder is asked


DEFAULT: Final = Sizes(2, 3, 2, 1, 4_000, slow_rungs=False)
FULL: Final = Sizes(10, 40, 5, 5, 40_000, slow_rungs=True)
PROTOCOLS: Final[Mapping[str, Sizes]] = {"default": DEFAULT, "full": FULL}


def grid(trials_n: int) -> tuple[Chosen, ...]:
    """Give the first so many settings that each network is tried with, the default one in front.

    5 learning rates x 4 shares of feature dropout x 2 weight decays, 40 in all. Five in a row have
    five learning rates, since kinds differ in these above all; the other order was drawn once.
    """
    accepted = len(_RATES) * len(_FEATURE_DROPOUTS) * len(_DECAYS)
    if not 1 <= trials_n <= accepted:
        raise ConfigurationError(f"{trials_n} trials of tuning: accepted is 1 .. {accepted}")
    others = list(product(_FEATURE_DROPOUTS, _DECAYS))
    draw = np.random.default_rng(2026)
    orders = {rate: draw.permutation(len(others)).tolist() for rate in _RATES}
    usual = orders[_RATES[0]]
    usual.insert(0, usual.pop(usual.index(0)))
    found = [
        {"learning_rate": rate, "feature_dropout": others[at][0], "weight_decay": others[at][1]}
        for turn in range(len(others))
        for rate in _RATES
        for at in [orders[rate][turn]]
    ]
    return tuple(found[:trials_n])


@dataclass(frozen=True)
class Ground:
    """Hold what arms are made of.

    kinds: that can be trained here. hidden: of each network, so that all are of equal size. base:
    the kind that all other groups are made of. lookback: its bars of a sequence. covariates: what
    is read beside the bars.
    """

    kinds: Sequence[str]
    hidden: Mapping[str, int]
    timeframes: tuple[Timeframe, ...]
    seed: int
    base: str = BILSTM
    lookback: int = 12
    seeded: frozenset[str] = field(default_factory=lambda: frozenset(NETWORKS))
    covariates: tuple[str, ...] = ()


def groups_of(text: str) -> tuple[Group, ...]:
    """Read groups such as `timeframes,ladder`; raise ConfigurationError saying what is accepted."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names or len(set(names)) != len(names) or set(names) - set(Group):
        accepted = ", ".join(Group)
        raise ConfigurationError(f"--arms {text!r}: accepted are, each once, {accepted}")
    return tuple(Group(name) for name in names)


def arms_of(groups: Sequence[Group], ground: Ground, sizes: Sizes) -> tuple[Arm, ...]:
    """List the arms of some groups, in the order in which they are shown."""
    made = {
        Group.ARCHITECTURES: _architectures,
        Group.TIMEFRAMES: _timeframes,
        Group.LADDER: _ladder,
        Group.INPUTS: _inputs,
    }
    return tuple(arm for group in groups for arm in made[group](ground, sizes))


def left_out(groups: Sequence[Group], sizes: Sizes, base: str = BILSTM) -> tuple[Absent, ...]:
    """Name the rungs that a protocol has no time for, or that `base` cannot have."""
    if Group.LADDER not in groups:
        return ()
    found = []
    for name in RUNGS:
        if name in RECURRENT_RUNGS and base not in RECURRENT:
            found.append(Absent(f"rung {name}", f"a {base} has no recurrent states"))
        elif name in SLOW_RUNGS and not sizes.slow_rungs:
            why = "in the full protocol only: recurrent networks take five times as long with it"
            found.append(Absent(f"rung {name}", why))
    return tuple(found)


def _seeds(ground: Ground, kind: str, count: int) -> range:
    return range(ground.seed, ground.seed + (count if kind in ground.seeded else 1))


def _size(ground: Ground, kind: str) -> dict[str, object]:
    return {"hidden": ground.hidden[kind]} if kind in ground.hidden else {}


def _member(
    ground: Ground, kind: str, frames: Sequence[Timeframe], seed: int, chosen: Chosen
) -> Member:
    items = {"sequence_bars": ground.lookback, **_size(ground, kind), **chosen}
    return Member(kind, tuple(frames), seed, tuple(sorted(items.items())))


def _architectures(ground: Ground, sizes: Sizes) -> list[Arm]:
    found = []
    for kind in (*ground.kinds, *BASELINES):
        members = tuple(
            _member(ground, kind, ground.timeframes, seed, {})
            for seed in _seeds(ground, kind, sizes.seeds_n)
        )
        found.append(Arm(kind, Group.ARCHITECTURES, members, tuned=kind in NETWORKS))
    return found


def _timeframes(ground: Ground, sizes: Sizes) -> list[Arm]:
    """Make as many models for the control as there are timeframes.

    Its look-backs reach as far as those of the timeframes: 12, 18 and 24 bars of 1 h are what 12
    bars of 1 h, 90 m and 2 h cover.
    """
    first, group = min(ground.timeframes), Group.TIMEFRAMES
    seeds = _seeds(ground, ground.base, sizes.timeframe_seeds_n)

    def models(frame: Timeframe, chosen: Chosen, after: int) -> list[Member]:
        return [_member(ground, ground.base, [frame], s + after, chosen) for s in seeds]

    singles = {t: models(t, {}, 0) for t in ground.timeframes}
    others = []
    for number, frame in enumerate(sorted(ground.timeframes)):
        chosen = {"sequence_bars": lookback_of(ground.lookback, frame, first)}
        others += singles[first] if frame is first else models(first, chosen, 100 * number)
    every = tuple(one for mine in singles.values() for one in mine)
    return [
        *(Arm(f"{t.label}{ALONE}", group, tuple(mine)) for t, mine in singles.items()),
        Arm(COMBINED_NAME, group, every),
        Arm(MEAN_NAME, group, every, combine=Combine.MEAN),
        Arm(f"{CONTROL_NAME}: {len(ground.timeframes)} x {first.label}", group, tuple(others)),
    ]


def lookback_of(bars: int, frame: Timeframe, first: Timeframe) -> int:
    """Give the bars of the first timeframe that reach as far as `bars` of another."""
    return -(-bars * frame.minutes // first.minutes)


def _ladder(ground: Ground, sizes: Sizes) -> list[Arm]:
    absent = {one.name for one in left_out([Group.LADDER], sizes, ground.base)}
    rungs = [name for name in RUNGS if f"rung {name}" not in absent]

    def arm(name: str, on: Sequence[str], seeds_n: int) -> Arm:
        chosen: dict[str, object] = {}
        for rung, (off, set_) in RUNGS.items():
            chosen |= set_ if rung in on else off
        members = tuple(
            _member(ground, ground.base, ground.timeframes, seed, chosen)
            for seed in _seeds(ground, ground.base, seeds_n)
        )
        return Arm(name, Group.LADDER, members)

    many = sizes.ladder_seeds_n
    return [
        arm(NOTHING, [], 1),
        *(arm(f"+ {rung}", [rung], 1) for rung in rungs),
        arm(f"+ {ENSEMBLE}", [], many),
        arm(EVERYTHING, rungs, many),
        *(arm(f"- {rung}", [r for r in rungs if r != rung], many) for rung in rungs),
        arm(f"- {ENSEMBLE}", rungs, 1),
    ]


def _inputs(ground: Ground, sizes: Sizes) -> list[Arm]:
    """Take each block of inputs away from everything; sizes and settings stay the same."""

    def arm(name: str, blanked: tuple[str, ...]) -> Arm:
        members = tuple(
            replace(_member(ground, ground.base, ground.timeframes, seed, {}), blanked=blanked)
            for seed in _seeds(ground, ground.base, sizes.ladder_seeds_n)
        )
        return Arm(name, Group.INPUTS, members)

    blocks = blocks_of(ground.covariates)
    return [arm(ALL_INPUTS, ()), *(arm(f"- {block}", (block,)) for block in blocks)]
