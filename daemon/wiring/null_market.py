"""The null-market campaign: generated markets, a ridge, the ordinary engine, in processes.

Every seed is an arm of its own: generate the market in memory, train on its first part, store the
model as training does, replay the rest through the ordinary engine, paper venue and estimate
worker, and measure. The strategy's cost gate is open, because a book that rightly refuses to trade
on nothing would leave no return to measure.

With training.covariates the model reads funding of the market and series drawn apart from it (see
`null_series`): what reads more can find more that is not there.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.executor import SequentialExecutor, make_workers
from adapters.history.replay_feed import ReplayFeed
from adapters.history.rules import instruments_from, load_rules
from adapters.history.store import Funding, Panel
from adapters.journal import MemoryJournal
from adapters.paper import MemoryStore, PaperVenue
from adapters.rehearsal.seeded import SeededMarket
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT
from adapters.rehearsal.universe import NAMES, traits_of
from daemon.domain.bar import Field, Floats
from daemon.domain.bar_builder import aggregate_all
from daemon.domain.failures import ConfigurationError
from daemon.domain.messages import FundingRates
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from daemon.ports import Executor, Share
from daemon.report.forecast_skill import (
    COMBINED,
    FORECAST_HORIZON_HOURS,
    RecordedMarket,
    forecast_skill,
    forecasts_of,
)
from daemon.report.metrics import daily
from daemon.report.run import Run, RunFacts, period_text
from daemon.report.run_record import RunRecord
from daemon.research.null_market import NullVerdict, SeedOutcome, judge
from daemon.runtime.replay import ReplayShell
from daemon.settings import Settings
from daemon.statistics.cross_sections import expected_score_ics, ics
from daemon.statistics.sharpe_interval import sharpe_interval
from daemon.statistics.skill import MeanIc, mean_ic
from daemon.wiring.backtest import book_row, open_record
from daemon.wiring.core import (
    engine_of,
    history_ms,
    paper_settings,
    rules_path,
    timeframes_of,
    universe_of,
)
from daemon.wiring.covariates import stored_known, told_funding
from daemon.wiring.estimator import Beside, estimator_in_place, told
from daemon.wiring.null_series import write_null_series
from strategies.forecast.inputs.covariates import FUNDING, needed
from strategies.forecast.training.job import Job, Origin, OriginKind, TrainSettings
from strategies.forecast.training.ridge_training import train_ridge

SOURCE: Final = Timeframe(30)
HOURLY: Final = Timeframe(60)
ORIGIN_MS: Final = ORIGIN_MS_DEFAULT
NULL_COINS: Final = 12
NULL_TRAIN_DAYS: Final = 40
PLANTED_COINS: Final = 40
PLANTED_TRAIN_DAYS: Final = 150
PLANTED_TEST_DAYS: Final = 240  # wide enough for intervals of +- 0.01
PLANTED_SEED_FIRST: Final = 100_001  # apart from the null seeds, however many there are
TEST_DAYS_MIN: Final = 10
_SETTINGS: Final = {
    "market": {"source": SOURCE.label, "timeframes": (HOURLY.label,), "decision": HOURLY.label},
    "backtest": {"source": SOURCE.label},
}


@dataclass(frozen=True, slots=True)
class NullPlan:
    """Hold the size of a campaign: null seeds 1 .. seeds, then planted ones of `planted_ic`."""

    seeds: int = 100
    planted: int = 2
    planted_ic: float = 0.05
    test_days: int = 40
    coins: int = NULL_COINS
    planted_coins: int = PLANTED_COINS
    planted_train_days: int = PLANTED_TRAIN_DAYS
    planted_test_days: int = PLANTED_TEST_DAYS

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seeds", 0, PLANTED_SEED_FIRST - 1),
            ("planted", 0, 1000),
            ("test_days", TEST_DAYS_MIN, 5000),
            ("planted_test_days", TEST_DAYS_MIN, 5000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigurationError(f"{name} = {value}: accepted is {low} .. {high}")
        if not 0.0 < self.planted_ic <= 0.5:
            raise ConfigurationError(f"ic = {self.planted_ic}: accepted is above 0, up to 0.5")
        if self.seeds + self.planted == 0:
            raise ConfigurationError("seeds = 0 and planted = 0: a campaign needs a seed")


@dataclass(frozen=True, slots=True)
class SeedArm:
    """Hold all that one seed's run needs; it travels to a worker process."""

    seed: int
    planted_ic: float
    coins: int
    train_days: int
    test_days: int
    settings: Settings


def run_null_markets(
    settings: Settings,
    plan: NullPlan,
    processes: int,
    progress: Share = lambda share: None,
    *,
    in_place: bool = False,
) -> tuple[list[SeedOutcome], NullVerdict]:
    """Run every seed and judge what came of it; the answer is the same with any `processes`.

    processes: 0 takes one a core. in_place runs them in this process, for small tests.
    """
    arms = [(f"seed {arm.seed}", arm) for arm in arms_of(_fitting(settings), plan)]
    # always in workers, which have one thread a library: more threads may add in another order
    executor: Executor = SequentialExecutor() if in_place else make_workers(processes)
    outcomes = executor.map(run_seed, arms, progress)
    return outcomes, judge(outcomes)


def arms_of(settings: Settings, plan: NullPlan) -> list[SeedArm]:
    """List the arms of a plan, the long ones first so that they do not end last."""
    planted = [
        SeedArm(
            PLANTED_SEED_FIRST + k,
            plan.planted_ic,
            plan.planted_coins,
            plan.planted_train_days,
            plan.planted_test_days,
            settings,
        )
        for k in range(plan.planted)
    ]
    null = [
        SeedArm(1 + k, 0.0, plan.coins, NULL_TRAIN_DAYS, plan.test_days, settings)
        for k in range(plan.seeds)
    ]
    return [*planted, *null]


def _fitting(settings: Settings) -> Settings:
    """Give the user's costs and limits, with the market and the model of this campaign."""
    chosen = {
        section: getattr(settings, section).model_copy(update=update)
        for section, update in _SETTINGS.items()
    }
    strategy = settings.strategy.model_copy(
        update={"name": "neutral", "parameters": {"friction_max": 1e9}}
    )
    return settings.model_copy(update={**chosen, "strategy": strategy})


# ---- one seed ------------------------------------------------------------------------------------


def run_seed(arm: SeedArm, progress: Share) -> SeedOutcome:
    """Generate, train, trade and measure one seed."""
    end_ms = ORIGIN_MS + (arm.train_days + arm.test_days) * DAY_MS
    market = SeededMarket(
        [traits_of(name, ORIGIN_MS, None) for name in NAMES[: arm.coins]],
        seed=arm.seed,
        origin_ms=ORIGIN_MS,
        step_minutes=SOURCE.minutes,
        planted_ic=arm.planted_ic,
    )
    close_ms, values = _bars(market, end_ms)
    with tempfile.TemporaryDirectory(prefix="equipoise-null-") as folder:
        write_null_series(
            arm.settings.training.covariates,
            NAMES[: arm.coins],
            arm.settings.exchange.id,
            seed=arm.seed,
            first_ms=ORIGIN_MS,
            end_ms=end_ms,
            folder=Path(folder),
        )
        settings = _with_model(arm, market, close_ms, values, Path(folder))
        run = _replayed(arm, settings, market, close_ms, values, progress)
    return _measured(arm, market, run)


def _bars(market: SeededMarket, end_ms: int) -> tuple[np.ndarray[Any, np.dtype[np.int64]], Floats]:
    columns = []
    for symbol in market.coins:
        steps = market.steps(symbol, ORIGIN_MS, end_ms)
        fields = (steps.open, steps.high, steps.low, steps.close, steps.volume)
        columns.append(np.stack(fields, axis=1))  # (T, 5)
    values = np.stack(columns, axis=1)  # (T, N, 5)
    return ORIGIN_MS + SOURCE.ms * np.arange(1, len(values) + 1, dtype=np.int64), values


def _with_model(
    arm: SeedArm,
    market: SeededMarket,
    close_ms: np.ndarray[Any, np.dtype[np.int64]],
    values: Floats,
    folder: Path,
) -> Settings:
    """Train on the first part and give settings that name the model."""
    end_ms = ORIGIN_MS + arm.train_days * DAY_MS
    known = close_ms <= end_ms
    bars = (close_ms[known], values[known])
    timeframes = timeframes_of(arm.settings)
    derived = aggregate_all(bars[0] - SOURCE.ms, bars[1], SOURCE, timeframes)
    covariates = arm.settings.training.covariates
    names = NAMES[: arm.coins]
    chosen_store = arm.settings.estimator.model_copy(update={"series_folder": str(folder)})
    reading = arm.settings.model_copy(update={"estimator": chosen_store})
    beside = stored_known(reading, folder, names, arm.settings.exchange.id, end_ms)
    if FUNDING in needed(covariates):
        paid = _funding(market, ORIGIN_MS, end_ms)
        unmarked = np.full(arm.coins, np.nan)
        pairs = zip(paid.settle_ms.tolist(), paid.rates, strict=True)
        told_rates = [FundingRates(at_ms, rates, unmarked) for at_ms, rates in pairs]
        beside[FUNDING] = told_funding(told_rates, arm.coins, end_ms)
    job = Job(
        bars={SOURCE: bars} | dict(zip(timeframes, derived, strict=True)),
        symbols=NAMES[: arm.coins],
        source=SOURCE,
        timeframes=timeframes,
        origin=Origin(OriginKind.GENERATED, f"null market, seed {arm.seed}"),
        out=folder,
        settings=TrainSettings(seed=arm.seed),
        covariates=covariates,
        series=beside,
    )
    chosen = {
        "kind": "model",
        "models_folder": folder,
        "model": train_ridge(job).name,
        "allow_foreign_model": True,  # the prices are generated too
        "series_folder": str(folder),
    }
    estimator = arm.settings.estimator.model_copy(update=chosen)
    return arm.settings.model_copy(update={"estimator": estimator})


def _replayed(
    arm: SeedArm,
    settings: Settings,
    market: SeededMarket,
    close_ms: np.ndarray[Any, np.dtype[np.int64]],
    values: Floats,
    progress: Share,
) -> Run:
    """Replay the second part through engine, paper venue and estimate worker."""
    table = load_rules(rules_path(settings.backtest.rules_file))
    made = instruments_from(table, settings.exchange.id, NAMES[: arm.coins])
    universe = universe_of(list(made.instruments))
    engine = engine_of(settings, universe, SOURCE)
    start_ms = ORIGIN_MS + arm.train_days * DAY_MS
    first = max(0, (start_ms - history_ms(settings, engine) - ORIGIN_MS) // SOURCE.ms)
    opens = np.full(values.shape[:2], np.nan)
    opens[:-1] = values[1:, :, Field.OPEN]
    panel = Panel(close_ms[first:], values[first:], opens[first:])
    funding = _funding(market, int(panel.close_ms[0]), int(panel.close_ms[-1]))
    feed = ReplayFeed(panel, SOURCE, universe.instruments, funding)
    venue = PaperVenue(universe, paper_settings(settings), MemoryStore(), opened_ms=start_ms)
    record, journal = RunRecord(), MemoryJournal()
    total = arm.test_days * DAY_MS // SOURCE.ms

    def on_instant(at_ms: int, engine: Any) -> None:
        record.add(at_ms, book_row(engine))
        progress((len(record) - 1) / total)

    folder = settings.estimator.models_folder
    beside = Beside(universe.instruments, folder, settings.exchange.id)
    with estimator_in_place(settings, beside) as estimator:
        shell = ReplayShell(engine, venue, estimator, journal, on_instant)
        shell.warm_up(told(estimator, feed.replay(feed.first_ms - SOURCE.ms, start_ms)))
        shell.start(start_ms, "null")
        open_record(record, engine, start_ms, SOURCE)
        result = shell.run(told(estimator, feed.replay(start_ms, feed.last_ms)))
    facts = RunFacts(
        title=f"Generated market, seed {arm.seed}",
        strategy=engine.strategy.name,
        period=period_text(record.times_ms),
        symbols=NAMES[: arm.coins],
        fills=engine.state.book.ledger.fills,
        orders=engine.state.orders.submitted_n,
        net_weight_worst=engine.state.book.net_weight_worst,
        run_seconds=0.0,
        memory_mb=0.0,
        fingerprint=f"seed {arm.seed}, planted {arm.planted_ic}",
    )
    return Run(record, result.decisions, journal.executions, facts)


def _funding(market: SeededMarket, first_ms: int, last_ms: int) -> Funding:
    rows: dict[int, Floats] = {}
    for place, symbol in enumerate(market.coins):
        for paid in market.settlements(symbol, first_ms, last_ms + 1):
            row = rows.setdefault(paid.time_ms, np.full(len(market.coins), np.nan))
            row[place] = paid.rate
    times = sorted(rows)
    rates = np.array([rows[at] for at in times]).reshape(len(times), len(market.coins))
    return Funding(np.array(times, dtype=np.int64), rates, ())


# ---- what it showed ------------------------------------------------------------------------------


def _measured(arm: SeedArm, market: SeededMarket, run: Run) -> SeedOutcome:
    skill = forecast_skill(run, (FORECAST_HORIZON_HOURS,))
    hourly = skill.named(HOURLY.label).at(FORECAST_HORIZON_HOURS)
    gross, net = _daily_returns(run.record)
    true_ic, pattern = 0.0, mean_ic(np.zeros(0), horizon_bars=1)
    if arm.planted_ic > 0.0:
        true_ic, pattern = _truth(market, run)
    return SeedOutcome(
        seed=arm.seed,
        planted_ic=arm.planted_ic,
        rank=hourly.rank,
        score=hourly.score,
        combined=skill.named(COMBINED).at(FORECAST_HORIZON_HOURS).rank,
        gross=sharpe_interval(gross),
        net=sharpe_interval(net),
        gross_returns=gross,
        net_returns=net,
        true_ic=true_ic,
        pattern=pattern,
    )


def _daily_returns(record: RunRecord) -> tuple[Floats, Floats]:
    """Give daily returns before and after fees, shortfall and funding, as fractions of equity."""
    equity, fees, shortfall, funding = (
        daily(record.times_ms, record.column(name))
        for name in ("equity", "fees", "shortfall", "funding")
    )
    net = np.diff(equity) / equity[:-1]
    costs = np.diff(fees + shortfall - funding) / equity[:-1]
    return net + costs, net


def _truth(market: SeededMarket, run: Run) -> tuple[float, MeanIc]:
    """Give the IC that the hourly forecast truly has, and what the pattern itself shows.

    What is expected of an outcome is alpha, carried from the deviation that the generator will use
    to the volatility that was known, by which outcomes are scaled.
    """
    forecasts = next(one for one in forecasts_of(run.decisions) if one.name == HOURLY.label)
    recorded = RecordedMarket(np.array(run.record.times_ms, dtype=np.int64), run.record.marks)
    horizon_ms = FORECAST_HORIZON_HOURS * HOUR_MS
    outcomes = recorded.outcomes(forecasts.at_ms, horizon_ms, 0)
    first_ms, last_ms = int(forecasts.at_ms[0]) - HOUR_MS, int(forecasts.at_ms[-1])
    truth = market.planted_truth(first_ms, last_ms)
    rows = np.searchsorted(truth.close_ms, forecasts.at_ms)
    deviation = market.planted_deviation(first_ms, last_ms)[rows]
    scale = recorded.volatility(forecasts.at_ms) * np.sqrt(horizon_ms // recorded.bar_ms)
    expected = truth.alpha[rows] * deviation / scale
    true = expected_score_ics(forecasts.mean, outcomes, expected)
    pattern = mean_ic(ics(truth.alpha, truth.label), horizon_bars=FORECAST_HORIZON_HOURS)
    return float(np.nanmean(true)), pattern
