"""The registered hypotheses: what a protocol file says, and what a judgement of one is.

A protocol is fixed before the run and known by the sha256 of its bytes. Every reader of a result
can so tell whether thresholds were moved afterwards. Nothing here runs anything.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np

from daemon.domain.failures import ConfigurationError

VERSION: Final = 1


class Verdict(StrEnum):
    """Say how a hypothesis fared; `not shown` is not `refuted`."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    NOT_SHOWN = "not shown"
    NOT_TESTABLE = "not testable on this data"
    PENDING = "pending"


class RunPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Register one ordinary backtest; settings lie on top of those of the protocol."""

    period: str
    strategy: str
    estimator: str
    parameters: dict[str, object] = {}
    settings: tuple[str, ...] = ()


class Hypothesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Register one claim: how it is judged, and from which figure on it counts as what.

    thresholds are what the test named `test` reads; the words beside them are for people and must
    say the same. runs, tuning and candidates name entries of the protocol's runs.
    """

    id: str
    claim: str
    status: Literal["testable", "pending"]
    data: str
    period: str
    arms: str
    metric: str
    inference: str
    support: str
    refutation: str
    comparisons: int
    waits_for: str = ""
    test: str = ""
    family: str = ""
    runs: tuple[str, ...] = ()
    tuning: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    costs_bps: tuple[float, ...] = ()
    thresholds: dict[str, float] = {}

    def threshold(self, name: str) -> float:
        """Give a registered number; raises ConfigurationError where the file lacks it."""
        if name not in self.thresholds:
            raise ConfigurationError(f"hypothesis {self.id}: thresholds lacks {name!r}")
        return self.thresholds[name]


class Protocol(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hold a whole protocol file; periods are first day and first day after, UTC."""

    version: int
    registered: date
    seed: int
    level: float
    repetitions: int
    families: dict[str, tuple[str, ...]]
    settings: tuple[str, ...]
    symbols: tuple[str, ...]
    periods: dict[str, tuple[date, date]]
    runs: dict[str, RunPlan]
    hypothesis: tuple[Hypothesis, ...]

    def chosen(self, only: Sequence[str]) -> tuple[Hypothesis, ...]:
        """Give the hypotheses of these ids in the order of the file, all for none.

        Raises ConfigurationError for an id that is not registered.
        """
        known = [h.id for h in self.hypothesis]
        for name in only:
            if name not in known:
                raise ConfigurationError(
                    f"--only {name!r}: registered are {', '.join(known)}, separated by commas"
                )
        return tuple(h for h in self.hypothesis if not only or h.id in only)

    def family_size(self, hypothesis: Hypothesis) -> int:
        """Give by how many the level of a hypothesis is divided at Holm's strictest step."""
        return len(self.families[hypothesis.family]) if hypothesis.family else 1


@dataclass(frozen=True, slots=True)
class Registered:
    """Hold a protocol with the sha256 (hex) of the file that it came from."""

    protocol: Protocol
    sha256: str


def read_protocol(path: Path) -> Registered:
    """Read and check a protocol; raises ConfigurationError that names file, place and mistake."""
    try:
        content = path.read_bytes()
        raw = tomllib.loads(content.decode("utf-8"))
        protocol = msgspec.convert(raw, Protocol)
    except OSError as e:
        raise ConfigurationError(f"{path}: cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as e:
        raise ConfigurationError(f"{path}: not a protocol of hypotheses: {e}") from e
    problem = _problem(protocol)
    if problem:
        raise ConfigurationError(f"{path}: {problem}")
    return Registered(protocol, hashlib.sha256(content).hexdigest())


def _problem(protocol: Protocol) -> str:
    """Name the first thing that does not fit together, or nothing."""
    if protocol.version != VERSION:
        return f"version = {protocol.version}: {VERSION} is accepted"
    if not 0.0 < protocol.level < 1.0:
        return f"level = {protocol.level}: accepted is a number between 0 and 1"
    ids = [h.id for h in protocol.hypothesis]
    twice = sorted({one for one in ids if ids.count(one) > 1})
    if twice:
        return f"hypothesis {twice[0]} is registered twice"
    for name, run in protocol.runs.items():
        if run.period not in protocol.periods:
            return f"runs.{name}: period {run.period!r} is none of {', '.join(protocol.periods)}"
    for name, members in protocol.families.items():
        strange = [one for one in members if one not in ids]
        if strange:
            return f"families.{name} names {strange[0]}, which is not registered"
    return next((found for h in protocol.hypothesis if (found := _flaw(protocol, h))), "")


def _flaw(protocol: Protocol, h: Hypothesis) -> str:
    if h.status == "pending":
        return "" if h.waits_for else f"hypothesis {h.id} is pending but does not say for what"
    for name in (*h.runs, *h.tuning, *h.candidates):
        if name not in protocol.runs:
            return f"hypothesis {h.id}: run {name!r} is not registered"
    if len(h.tuning) != len(h.candidates):
        return f"hypothesis {h.id}: {len(h.tuning)} tuning and {len(h.candidates)} candidate runs"
    if h.family and h.family not in protocol.families:
        return f"hypothesis {h.id}: family {h.family!r} is not registered"
    return ""


Figures = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Hold a verdict, the sentence that explains it and the figures it rests on, NaN = unknown."""

    verdict: Verdict
    reason: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Card:
    """Hold one hypothesis with its judgement."""

    hypothesis: Hypothesis
    judgement: Judgement


def pending(hypothesis: Hypothesis) -> Judgement:
    """Give the judgement of what cannot be run yet."""
    return Judgement(Verdict.PENDING, f"waits for {hypothesis.waits_for}", {})


def not_testable(reason: str) -> Judgement:
    """Give the judgement of what this data cannot answer, and why."""
    return Judgement(Verdict.NOT_TESTABLE, reason, {})


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjust p-values for their number (Holm 1979); in the order given, each at most 1."""
    order = np.argsort(np.asarray(p_values), kind="stable")
    adjusted, highest = [math.nan] * len(p_values), 0.0
    for rank, at in enumerate(order):
        highest = max(highest, min((len(p_values) - rank) * p_values[at], 1.0))
        adjusted[at] = highest
    return tuple(adjusted)
