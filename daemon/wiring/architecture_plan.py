"""Plan a comparison of architectures: kinds that are here, equal sizes, fits and their cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from daemon.domain.failures import ConfigurationError, ModelError
from daemon.domain.units import DAY_MS, Timeframe
from daemon.research.architectures.arms import (
    BILSTM,
    NETWORKS,
    PROTOCOLS,
    Absent,
    Arm,
    Chosen,
    Ground,
    Group,
    Member,
    Sizes,
    arms_of,
    grid,
    left_out,
    lookback_of,
)
from daemon.research.architectures.budget import (
    EVALUATIONS,
    FORWARD_SHARE,
    Effort,
    FitCost,
    effort_of,
)
from daemon.settings import Settings
from daemon.wiring.core import combined_timeframes
from daemon.wiring.training import SourceBars, refuse_untrainable
from daemon.wiring.walk_forward import Plan, plan_of
from strategies.forecast.checkpoint import FOREST, LIGHTGBM, RIDGE, STACK
from strategies.forecast.inputs.covariates import column_names
from strategies.forecast.inputs.windows import CHANNELS_N
from strategies.forecast.networks.config import NetworkConfig, NetworkKind
from strategies.forecast.training.baseline_training import BASELINES
from strategies.forecast.training.fitting import TRAINERS, kinds_in, settings_for, trainer_of
from strategies.forecast.training.job import TrainSettings
from strategies.forecast.training.splits import Fold
from strategies.forecast.training.stack_training import INNER_FOLDS, inner_folds
from strategies.forecast.training.unit import Unit

# Core seconds for a million rows of features (a bar of a timeframe and an instrument) before the
# test, with the forecasts of the test: measured on 35 spot coins, 15 m bars, three timeframes and
# 300 trees, and rounded upwards.
NOMINAL_S: Final[Mapping[str, float]] = {RIDGE: 3.0, LIGHTGBM: 35.0, FOREST: 100.0}
BASELINE_S: Final = 1.0
FULL_PROTOCOL: Final = "full"
ZONEOUT_TIMES: Final = 5.0  # a walk bar by bar takes so many times as long


@dataclass(frozen=True)
class Campaign:
    """Hold everything that was decided before the first fit.

    effort: steps and refits. grid: settings that each network is tried with in each fold. absent:
    what is not compared, and why. parameters: of the networks that are of equal size.
    """

    plan: Plan
    arms: tuple[Arm, ...]
    absent: tuple[Absent, ...]
    sizes: Sizes
    grid: tuple[Chosen, ...]
    effort: Effort
    parameters: Mapping[str, int]

    def unit(self, member: Member, fold: Fold, chosen: Chosen | None = None) -> Unit:
        """Give the fit of a member on a fold, with other settings if need be."""
        settings = settings_for(member.kind, self.plan.job.settings)
        changes: dict[str, Any] = {**dict(member.chosen), **(chosen or {}), "members": 1}
        if member.kind in NETWORKS:
            changes["steps"] = self.effort.steps
        settings = replace(settings, seed=member.seed, **changes)
        frames = member.timeframes
        return Unit(
            member.kind,
            MODULES[member.kind],
            fold,
            settings,
            self.plan.data,
            () if frames == self.plan.job.timeframes else frames,
            self.sizes.probes,
            member.blanked,
        )


MODULES: Final[dict[str, str]] = {**TRAINERS, **BASELINES}


def campaign_of(
    settings: Settings,
    bars: SourceBars,
    groups: Sequence[Group],
    kinds: Sequence[str] = (),
    sizes: Sizes | None = None,
) -> Campaign:
    """Decide what is compared and how much every arm learns.

    kinds: of the architectures, none: all. sizes: else those of the protocol. Raises
    ConfigurationError for unknown kinds, for a strategy that combines what is not forecast and for
    hours that do not suffice, ModelError for too few bars.
    """
    chosen = settings.architectures
    here, absent = known_kinds(settings, kinds)
    sizes = sizes or PROTOCOLS[chosen.protocol]
    lookback = settings.training.sequence_bars
    frames = [Timeframe.parse(t) for t in settings.market.timeframes]
    longest = lookback_of(lookback, max(frames), min(frames))
    # one kind of instants for all arms: those that the longest look-back allows
    training = settings.training.model_copy(update={"sequence_bars": longest})
    plan = plan_of(settings.model_copy(update={"training": training}), bars)
    _refuse_strange(settings, plan)
    here, short = _long_enough(here, plan)
    hidden, parameters = equal_sizes(plan, lookback)
    seeded = frozenset(k for k in here if trainer_of(MODULES[k]).SEEDED)
    base = settings.training.kind if settings.training.kind in NETWORKS else BILSTM
    ground = Ground(
        here,
        hidden,
        plan.job.timeframes,
        settings.training.seed,
        base,
        lookback,
        seeded,
        plan.job.covariates,
    )
    arms = arms_of(groups, ground, sizes)
    lacking = (*absent, *short) if Group.ARCHITECTURES in groups else ()
    absent = (*lacking, *left_out(groups, sizes, base))
    tried = grid(sizes.trials_n)

    def costs(days: float) -> tuple[int, list[FitCost]]:
        cut = plan.refitted(round(days * DAY_MS))
        return len(cut.folds), _costs(cut, arms, len(tried))

    effort = effort_of(
        costs,
        refit_days=settings.walkforward.refit_days,
        steps_max=sizes.steps_max,
        core_hours=0.0 if chosen.protocol == FULL_PROTOCOL else chosen.core_hours,
    )
    plan = plan.refitted(round(effort.refit_days * DAY_MS))
    return Campaign(plan, arms, absent, sizes, tried, effort, parameters)


def known_kinds(
    settings: Settings, chosen: Sequence[str] = ()
) -> tuple[list[str], tuple[Absent, ...]]:
    """List the kinds that can be fitted here, and name those that cannot or were not wanted.

    Raises ConfigurationError for a chosen one that nobody knows.
    """
    strange = [kind for kind in chosen if kind not in TRAINERS]
    if strange:
        accepted = ", ".join(TRAINERS)
        raise ConfigurationError(f"--kinds {', '.join(strange)}: accepted are {accepted}")
    kinds, absent = [], []
    for kind in TRAINERS:
        why = _missing(settings, kind)
        if chosen and kind not in chosen:
            why = "it was left out by --kinds"
        if why:
            absent.append(Absent(kind, why))
        else:
            kinds.append(kind)
    return kinds, tuple(absent)


def _missing(settings: Settings, kind: str) -> str:
    try:
        refuse_untrainable(settings, kind)
    except ConfigurationError as e:
        return str(e)
    return ""


def _long_enough(kinds: Sequence[str], plan: Plan) -> tuple[list[str], tuple[Absent, ...]]:
    """Leave a stack out, with the reason, where its own folds do not fit into the first one."""
    try:
        if STACK in kinds:
            inner_folds(plan.folds[0])  # none of the later ones is shorter
    except ModelError as e:
        return [kind for kind in kinds if kind != STACK], (Absent(STACK, str(e)),)
    return list(kinds), ()


def _refuse_strange(settings: Settings, plan: Plan) -> None:
    """Refuse before the first fit what no table could be replayed for."""
    known = plan.job.timeframes
    strange = [t.label for t in combined_timeframes(settings) if t not in known]
    if strange:
        raise ConfigurationError(
            f"strategy.parameters: timeframes_minutes names {', '.join(strange)}; market.timeframes"
            f" has {', '.join(t.label for t in known)}"
        )


def equal_sizes(plan: Plan, lookback: int) -> tuple[dict[str, int], dict[str, int]]:
    """Give the hidden units of every network, and its parameters, at the size of the Bi-LSTM."""
    from strategies.forecast.networks.network import parameters_n, with_parameters

    settings = plan.job.settings
    config = NetworkConfig(
        kind=NetworkKind.BILSTM,
        channels=CHANNELS_N + len(column_names(plan.job.covariates)),
        timeframes=len(plan.job.timeframes),
        hidden=settings.hidden,
        embedding=settings.embedding,
        sequence_bars=lookback,
        layers=settings.layers,
        cross_asset=settings.cross_asset,
    )
    wanted = parameters_n(config)
    sized = {kind: with_parameters(replace(config, kind=kind), wanted) for kind in NetworkKind}
    hidden = {kind.value: one.hidden for kind, one in sized.items()}
    return hidden, {kind.value: parameters_n(one) for kind, one in sized.items()}


def _costs(plan: Plan, arms: Sequence[Arm], tries: int) -> list[FitCost]:
    """Give what every different fit costs."""
    times: dict[tuple[Member, bool], int] = {}
    for arm in arms:
        for number, member in enumerate(arm.members):
            again = tries if arm.tuned and number == 0 else 1
            key = (member, arm.tuned)
            times[key] = max(again, times.get(key, 0))
    return [
        _cost(plan, member, fold)
        for fold in plan.folds
        for (member, _), count in times.items()
        for _ in range(count)
    ]


def _cost(plan: Plan, member: Member, fold: Fold) -> FitCost:
    job, names = plan.job, len(plan.job.symbols)
    per_ms = sum(1.0 / t.ms for t in member.timeframes) * names
    learned, stop, test = (
        (span.end_ms - span.start_ms) * per_ms for span in (fold.train, fold.stop, fold.test)
    )
    if member.kind in BASELINES:
        return FitCost(BASELINE_S)
    if member.kind not in NETWORKS:
        return FitCost(_tabular_s(member.kind, (learned + stop) / 1e6, job.settings))
    from strategies.forecast.training.network_training import COST, SPEED

    wanted: dict[str, Any] = {**dict(member.chosen), "members": 1}
    settings: TrainSettings = replace(settings_for(member.kind, job.settings), **wanted)
    width = settings.hidden * settings.layers * COST[settings.network]
    each = settings.sequence_bars * width / SPEED * (ZONEOUT_TIMES if settings.zoneout else 1.0)
    seen = (EVALUATIONS + 1) * stop + test
    return FitCost(FORWARD_SHARE * each * seen, each * settings.batch_rows)


def _tabular_s(kind: str, rows: float, settings: TrainSettings) -> float:
    """Give the seconds for millions of rows; a stack fits each kind on inner folds as well."""
    if kind != STACK:
        return NOMINAL_S[kind] * rows
    inside = kinds_in(kind, settings)[1:]
    networks = sum(one in NETWORKS for one in inside)  # of which each has the whole budget
    own = sum(NOMINAL_S[one] for one in inside if one not in NETWORKS)
    return networks * settings.budget_seconds + (INNER_FOLDS + 1) * own * rows
