"""The planted campaign: forecasters trained on a generated market that hides a sequence.

Two markets of one seed share every shock: one with the sequence of `planted_sequence`, one without
any. Their first part is for training, as any user trains: in a child process, logged as a trial.
Their second part is decided on every six hours, at the instants at which bars of all three lengths
close (00, 06, 12 and 18 UTC, a phase chosen here and never searched), with the labels of the
generator: six hours from half an hour after the decision, no two of which overlap.

A forecast is the mean over timeframes of the model's raw forecasts, each in units of its size in
its own test part: no slope is asked, so that a model without skill is scored as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.rehearsal.planted import PatternKind, PlantedTruth
from adapters.rehearsal.planted_sequence import CYCLE_SLOTS, SEQUENCE_IC_MAX, SLOT_MS
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from adapters.rehearsal.universe import NAMES, CoinTraits, decimals_of, traits_of
from daemon.domain.bar import Floats
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, Timeframe
from daemon.ports import Share
from daemon.research.planted_market import Arm, ArmOutcome, PlantedVerdict, judge, outcome_of
from daemon.settings import Settings
from daemon.wiring.planted_arms import FinishedArms
from daemon.wiring.training import (
    Longs,
    SourceBars,
    Trained,
    TrainingProgress,
    log_figures,
    train,
)
from strategies.forecast.baselines import Baseline, raw_forecast
from strategies.forecast.calibration import centred
from strategies.forecast.checkpoint import load
from strategies.forecast.inference import raw_model
from strategies.forecast.inputs.features import features
from strategies.forecast.inputs.windows import (
    SEQUENCE_BARS_MAX,
    channels,
    forecastable,
    window_bars,
)
from strategies.forecast.training.fitting import TRAINERS
from strategies.forecast.training.job import Origin, OriginKind
from strategies.forecast.training.unit import ROOMS, code_hash

SOURCE: Final = Timeframe(30)
TIMEFRAMES: Final = (Timeframe(60), Timeframe(90), Timeframe(120))
CYCLE_MS: Final = CYCLE_SLOTS * SLOT_MS
GAP_DAYS: Final = 1  # between the last bar of the training and the first decision
WARM_DAYS: Final = -(-window_bars(SEQUENCE_BARS_MAX) * TIMEFRAMES[-1].ms // DAY_MS)
OWN_VOLATILITY_HOUR: Final = 0.006
PRICE_START: Final = 10_000.0
PRICE_STEP: Final = "0.000001"
MARKET_SEED: Final = 300_001
TRAIN_SEED: Final = 7
ARMS: Final = "arms"
MODELS: Final = "models"
RIVALS: Final = (Arm.RIDGE, Arm.MOMENTUM, Arm.SHUFFLED, Arm.FAIR)

# All outcomes but three thousandths are noise, yet there is no lack of history here: what keeps a
# network from learning too much keeps it from learning at all. A step sees many cross-sections and
# the encoder is small, so that little of what is learned is noise.
KNOBS: Final[Mapping[str, Any]] = {
    "hidden": 8,
    "embedding": 8,
    "sequence_bars": 6,
    "batch_rows": 8640,
    "learning_rate": 0.01,
    "weight_decay": 0.01,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "stop_share": 0.06,
    "test_share": 0.06,
}


@dataclass(frozen=True, slots=True)
class PlantedPlan:
    """Hold the size of a campaign; budget_s: effort of each network, as `training.budget_s`."""

    planted_ic: float = 0.03
    coins: int = 20
    train_days: int = 2500
    decisions: int = 2200
    kind: str = "bilstm"
    budget_s: float = 17.0  # about one pass over those days
    rivals: tuple[Arm, ...] = RIVALS

    def __post_init__(self) -> None:
        for name, low, high in (
            ("coins", 5, len(NAMES)),
            ("train_days", 30, 20_000),
            ("decisions", 20, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(f"{name} = {value}: accepted is {low} .. {high}")
        if not 0.0 < self.planted_ic <= SEQUENCE_IC_MAX:
            raise ConfigurationError(
                f"ic = {self.planted_ic}: accepted is above 0, up to {SEQUENCE_IC_MAX}"
            )
        if self.kind not in TRAINERS or self.kind == Arm.RIDGE:
            accepted = ", ".join(kind for kind in TRAINERS if kind != Arm.RIDGE)
            raise ConfigurationError(f"kind = {self.kind!r}: accepted is {accepted}")

    @property
    def names(self) -> tuple[str, ...]:
        """Give the coins of the market."""
        return NAMES[: self.coins]


def run_planted_market(
    settings: Settings,
    plan: PlantedPlan,
    progress: Share = lambda share: None,
    *,
    folder: Path | None = None,
) -> tuple[list[ArmOutcome], PlantedVerdict]:
    """Train and score every arm, one after the other, and judge what came of it.

    folder: where arms that are finished, and the state of the training at work, lie; the same
    campaign with the same folder goes on from there. Raises ConfigurationError for a ledger of
    trials that cannot be written, ModelError for a history too short to train on.
    """
    outcomes = list[ArmOutcome]()
    arms = (Arm.NETWORK, *plan.rivals)
    stages: dict[float, Stage] = {}
    with tempfile.TemporaryDirectory(prefix="equipoise-planted-") as passing:
        place = Path(passing) if folder is None else folder
        fitting = _fitting(settings, plan, place / MODELS)
        finished = FinishedArms(place / ARMS, _determined_by(fitting, plan))
        for number, arm in enumerate(arms):

            def told(share: float, *, number: int = number) -> None:
                progress((number + share) / len(arms))

            outcome = finished.found(arm)
            if outcome is None:
                planted_ic = 0.0 if arm is Arm.FAIR else plan.planted_ic
                if planted_ic not in stages:
                    stages = {planted_ic: stage_of(plan, planted_ic)}  # one of them at a time
                outcome = _run_arm(fitting, plan, stages[planted_ic], arm, told)
                finished.keep(outcome)
            outcomes.append(outcome)
            told(1.0)
    return outcomes, judge(outcomes, plan.planted_ic)


def _determined_by(fitting: Settings, plan: PlantedPlan) -> dict[str, object]:
    return {
        "plan": {name: value for name, value in asdict(plan).items() if name != "rivals"},
        "chosen": dict(KNOBS),
        "training": fitting.training.model_dump(mode="json"),
        "seeds": (MARKET_SEED, TRAIN_SEED),
        "code": code_hash((*ROOMS, "adapters/rehearsal", "daemon/wiring", "daemon/research")),
    }


def _fitting(settings: Settings, plan: PlantedPlan, folder: Path) -> Settings:
    """Give the user's ledger, with the market and the model of this campaign."""
    labels = tuple(t.label for t in TIMEFRAMES)
    changes: Mapping[str, Mapping[str, object]] = {
        "market": {"source": SOURCE.label, "timeframes": labels, "decision": labels[0]},
        "backtest": {"source": SOURCE.label},
        "estimator": {"models_folder": folder},
        "training": {
            "kind": plan.kind,
            "budget_s": plan.budget_s,
            "seed": TRAIN_SEED,
            "seeds_n": 1,
            "covariates": (),
        },
    }
    chosen = {
        section: getattr(settings, section).model_copy(update=update)
        for section, update in changes.items()
    }
    return settings.model_copy(update=chosen)


def _run_arm(
    settings: Settings, plan: PlantedPlan, stage: Stage, arm: Arm, told: Callable[[float], None]
) -> ArmOutcome:
    if arm is Arm.MOMENTUM:
        momentum = {
            timeframe.label: raw_forecast(Baseline.MOMENTUM, decided.rows[decided.newest])
            for timeframe, decided in stage.decided.items()
        }
        found = outcome_of(arm, arm.value, momentum, stage.truth.label, stage.truth.alpha)
        figures = {"share": found.share, "rank_ic": None, "ic": found.mean}
        log_figures(settings, stage.training, arm.value, arm.value, [figures])
        return found
    kind = arm.value if arm is Arm.RIDGE else plan.kind
    training = settings.training.model_copy(update={"kind": kind})
    chosen: dict[str, Any] = dict(KNOBS) | {"shuffled": arm is Arm.SHUFFLED}

    def heard(step: TrainingProgress) -> None:
        told(0.9 * step.done_steps / step.total_steps)

    trained = train(
        settings.model_copy(update={"training": training}), stage.training, heard, chosen=chosen
    )
    return outcome_of(
        arm, trained.kind, _forecasts(trained, stage), stage.truth.label, stage.truth.alpha
    )


def _forecasts(trained: Trained, stage: Stage) -> dict[str, Floats]:
    """Forecast every decision, (M, N) a timeframe, in units of the model's own test part."""
    checkpoint = load(trained.path, timeframes=TIMEFRAMES)
    model, bars = raw_model(checkpoint), checkpoint.manifest.shape.sequence_bars
    found = {}
    for place, (timeframe, decided) in enumerate(stage.decided.items()):
        out = np.empty((len(decided.newest), decided.rows.shape[1]))
        for row, newest in enumerate(decided.newest.tolist()):
            window = decided.rows[newest + 1 - bars : newest + 1]  # (L, N, F)
            raw = model.forward(window, place)[0].mean(axis=0)  # (members, N) -> (N,)
            out[row] = np.where(forecastable(channels(window)), raw, np.nan)
        found[timeframe.label] = centred(out) * checkpoint.manifest.calibration[place].scale
    return found


@dataclass(frozen=True, slots=True)
class Decided:
    """Hold one timeframe's feature rows (T, N, F) and the newest row (M,) of each decision."""

    rows: Floats
    newest: Longs


@dataclass(frozen=True, slots=True)
class Stage:
    """Hold one market: bars to train on, features of the decisions, and the truth of each."""

    training: SourceBars
    decided: Mapping[Timeframe, Decided]
    truth: PlantedTruth


def market_of(plan: PlantedPlan, planted_ic: float) -> SeededMarket:
    """Give the campaign's market with a sequence of that IC; its shocks are always the same.

    Its coins are alike: what beta and volatility hide of a coin's own moves is not on trial here.
    Their prices have fine steps, since a price without a drift may lose all but a thousandth of
    itself in ten years, and moves of less than a step are seen by nobody.
    """
    return SeededMarket(
        [_alike(traits_of(name, ORIGIN_MS_DEFAULT, None)) for name in plan.names],
        seed=MARKET_SEED,
        origin_ms=ORIGIN_MS_DEFAULT,
        step_minutes=SOURCE.minutes,
        planted_ic=planted_ic,
        pattern=PatternKind.SEQUENCE,
    )


def _alike(coin: CoinTraits) -> CoinTraits:
    steps = replace(coin.coin, price_step=PRICE_STEP, price_decimals=decimals_of(PRICE_STEP))
    return replace(
        coin,
        coin=steps,
        price_start_usdt=PRICE_START,
        beta=1.0,
        volatility_hour=OWN_VOLATILITY_HOUR,
    )


def stage_of(plan: PlantedPlan, planted_ic: float) -> Stage:
    """Generate a market and what a campaign needs of it."""
    market = market_of(plan, planted_ic)
    trained_ms = ORIGIN_MS_DEFAULT + plan.train_days * DAY_MS
    first_ms = trained_ms + GAP_DAYS * DAY_MS
    last_ms = first_ms + plan.decisions * CYCLE_MS
    truth = market.planted_truth(first_ms, last_ms, every_ms=CYCLE_MS)
    origin = Origin(OriginKind.GENERATED, f"planted {planted_ic:g}, seed {MARKET_SEED}")
    close_ms, values = _bars(market, ORIGIN_MS_DEFAULT, trained_ms)
    before_ms = max(ORIGIN_MS_DEFAULT, first_ms - WARM_DAYS * DAY_MS)
    return Stage(
        SourceBars(plan.names, SOURCE, close_ms, values, origin),
        _decided(*_bars(market, before_ms, last_ms), truth),
        truth,
    )


def _bars(market: SeededMarket, start_ms: int, end_ms: int) -> tuple[Longs, Floats]:
    """Give the source bars of a stretch: closes (T,) and values (T, N, 5)."""
    columns = []
    for symbol in market.coins:
        steps = market.steps(symbol, start_ms, end_ms)
        fields = (steps.open, steps.high, steps.low, steps.close, steps.volume)
        columns.append(np.stack(fields, axis=1))  # (T, 5)
    values = np.stack(columns, axis=1)  # (T, N, 5)
    return start_ms + SOURCE.ms * np.arange(1, len(values) + 1, dtype=np.int64), values


def _decided(close_ms: Longs, values: Floats, truth: PlantedTruth) -> dict[Timeframe, Decided]:
    """Compute what models read at each decision, by timeframe."""
    derived = aggregate_all(close_ms - SOURCE.ms, values, SOURCE, TIMEFRAMES)
    found = {}
    for timeframe, (closes, bars) in zip(TIMEFRAMES, derived, strict=True):
        rows = features(bars, newest_close_ms=int(closes[-1]), timeframe=timeframe)
        found[timeframe] = Decided(rows, np.searchsorted(closes, truth.close_ms))
    return found
