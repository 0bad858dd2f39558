"""From settings to the parts that every run shares: universe, strategy, engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from adapters.paper import PaperSettings
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Instrument, Universe
from daemon.domain.units import DAY_MS, Timeframe
from daemon.engine.cadence import CadenceRules
from daemon.engine.engine import Engine
from daemon.engine.reconcile import ReconcilePolicy
from daemon.engine.ripeness import RipenessRules
from daemon.engine.risk import RiskLimits
from daemon.engine.rules import EngineRules
from daemon.engine.styles import ExecutionRules, Style
from daemon.ports import Strategy
from daemon.settings import Settings
from daemon.wiring.packaged import packaged_file
from strategies.factors import BITCOIN, Factor
from strategies.registry import make_strategy

TYPICAL_FILL_SHARE: Final = 0.05  # of a bar's participation budget, for the cost a band expects
NEUTRAL: Final = "neutral"  # the default strategy
THRESHOLD: Final = "threshold"
AUTO: Final = "auto"  # the rule that a model names, and the default
COMBINING: Final = (NEUTRAL, THRESHOLD)  # those that combine the timeframes' forecasts
LIVE_FILE: Final = "live-account.json"  # which real account a book is of
REHEARSAL_FILE: Final = "rehearsal-market.json"  # which market a rehearsal's book was begun with


def timeframes_of(settings: Settings) -> tuple[Timeframe, ...]:
    """Give the configured forecast timeframes in order."""
    return tuple(Timeframe.parse(t) for t in settings.market.timeframes)


def combined_timeframes(settings: Settings) -> tuple[Timeframe, ...]:
    """Give the timeframes that the strategy combines, in its order; they may be fewer."""
    minutes = settings.strategy.parameters.get("timeframes_minutes")
    chosen = minutes if isinstance(minutes, list | tuple) else ()
    return tuple(Timeframe(int(m)) for m in chosen) or timeframes_of(settings)


def combination_of(settings: Settings) -> object:
    """Name the rule that a strategy which combines forecasts asks for; it checks the name itself.

    Raises ConfigurationError where [estimator] and the strategy's own parameters name two.
    """
    asked, own = settings.estimator.combination, settings.strategy.parameters.get("combination")
    if own is not None and asked not in (AUTO, own):
        raise ConfigurationError(
            f"estimator.combination = {asked!r} and strategy.parameters has combination = {own!r}:"
            " name one rule, best in [estimator]"
        )
    return asked if own is None else own


def strategy_of(settings: Settings) -> Strategy:
    """Build the chosen strategy; its own parameters are checked by itself."""
    parameters: dict[str, object] = dict(settings.strategy.parameters)
    if settings.strategy.name in COMBINING:
        minutes = [t.minutes for t in timeframes_of(settings)]
        parameters.setdefault("timeframes_minutes", minutes)
        parameters["combination"] = combination_of(settings)
    strategy: Strategy = make_strategy(settings.strategy.name, parameters)
    known = set(timeframes_of(settings))
    strange = [t.label for t in strategy.windows_needed if t not in known]
    if strange:
        raise ConfigurationError(
            f"market.timeframes = {list(settings.market.timeframes)}: strategy "
            f"{strategy.name} also needs {', '.join(strange)}"
        )
    if strategy.needs_estimates and settings.estimator.kind == "none":
        raise ConfigurationError(
            f"estimator.kind = 'none': strategy {strategy.name} needs forecasts; accepted: model, "
            "table, zero, last_return, momentum"
        )
    if uses_covariance(strategy) and not asks_covariance(settings):
        raise ConfigurationError(
            "covariance.estimator = 'none': weights = 'mean_variance' of strategy "
            f"{strategy.name} need a predicted covariance; for example ewma"
        )
    return strategy


def uses_covariance(strategy: Strategy) -> bool:
    """Tell whether a strategy's weights are made by a predicted covariance."""
    knobs = getattr(strategy, "settings", None)
    return getattr(knobs, "weights", None) == "mean_variance"


def asks_covariance(settings: Settings) -> bool:
    """Tell whether a covariance is predicted beside the forecasts."""
    return settings.covariance.estimator != "none"


def asks_worker(settings: Settings, strategy: Strategy) -> bool:
    """Tell whether a run asks the process of estimates for anything."""
    return strategy.needs_estimates or asks_covariance(settings)


def cost_of(settings: Settings, instruments_n: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Give the one-way cost that bands expect, as a fraction of notional, (N,)."""
    paper = settings.paper
    impact = paper.impact_bps * TYPICAL_FILL_SHARE
    bps = paper.fee_bps + paper.half_spread_bps + paper.latency_bps + impact
    return np.full(instruments_n, bps / 1e4)


def bars_kept(settings: Settings, needed: Mapping[Timeframe, int]) -> dict[Timeframe, int]:
    """Give the rows each window keeps: what settings say, and never less than what is needed."""
    least = settings.market.window_bars
    return {t: max(least, needed.get(t, 0)) for t in timeframes_of(settings)}


def paper_settings(settings: Settings) -> PaperSettings:
    """Translate settings for the paper venue; backtest and paper use the same ones."""
    paper = settings.paper
    return PaperSettings(
        fee_bps=paper.fee_bps,
        half_spread_bps=paper.half_spread_bps,
        impact_bps=paper.impact_bps,
        latency_bps=paper.latency_bps,
        participation_share=paper.participation_share or None,  # 0: no limit
        starting_cash={"USDT": paper.cash},
    )


def engine_of(settings: Settings, universe: Universe, source: Timeframe) -> Engine:
    """Build the engine of a run.

    Raises ConfigurationError as `strategy_of`, and where the strategy is to be neutral to what the
    universe lacks.
    """
    strategy = strategy_of(settings)
    _check_exposures(strategy, universe)
    return Engine(universe, strategy, engine_rules(settings, strategy, len(universe), source))


def _check_exposures(strategy: Strategy, universe: Universe) -> None:
    named = tuple(getattr(getattr(strategy, "settings", None), "neutral_to", ()))
    if Factor.BITCOIN not in named or any(i.base == BITCOIN for i in universe.instruments):
        return
    others = ", ".join(name for name in Factor if name is not Factor.BITCOIN)
    raise ConfigurationError(
        f"strategy.parameters.neutral_to = {[str(name) for name in named]}: {str(Factor.BITCOIN)!r}"
        f" needs {BITCOIN} in universe.symbols; accepted without it: {others}"
    )


def engine_rules(
    settings: Settings, strategy: Strategy, instruments_n: int, source: Timeframe
) -> EngineRules:
    """Translate settings for the engine."""
    market, risk = settings.market, settings.risk
    cadence = CadenceRules(
        source=source,
        timeframes=timeframes_of(settings),
        decision=Timeframe.parse(market.decision),
        deadline_ms=round(market.decision_deadline_s * 1000),
        alive_ms=market.expected_absent_bars * source.ms,
        stale_decisions_max=risk.stale_decisions_max,
        covariance=asks_covariance(settings),
    )
    limits = RiskLimits(
        gross_weight_max=risk.gross_weight_max,
        net_weight_max=risk.net_weight_max,
        name_weight_max=risk.name_weight_max,
        order_weight_max=risk.order_weight_max,
        orders_open_max=risk.orders_open_max,
        mark_age_ms_max=risk.mark_age_bars_max * source.ms,
        # 0 stands for none in settings
        beta_weight_max=risk.beta_weight_max or None,
        venue_weight_max=risk.venue_weight_max or None,
        collar_bps=risk.collar_bps or None,
        orders_minute_max=risk.orders_minute_max or None,
        day_loss_max=risk.day_loss_max or None,
        drawdown_max=risk.drawdown_max or None,
        margin_ratio_max=risk.margin_ratio_max or None,
    )
    return EngineRules(
        cadence=cadence,
        limits=limits,
        cost=cost_of(settings, instruments_n),
        ripeness=RipenessRules(
            age_ms_min=round(settings.universe.age_days_min * DAY_MS),
            day_volume_min=settings.universe.day_volume_min,
            rank_max=settings.universe.volume_rank_max,
        ),
        bars_n=bars_kept(settings, strategy.windows_needed),
        uncertain_asks_max=risk.uncertain_queries_max,
        reconcile=ReconcilePolicy(settings.live.foreign),
        unread_max_ms=round(settings.live.unread_max_s * 1000),
        execution=execution_rules(settings),
    )


def execution_rules(settings: Settings) -> ExecutionRules:
    """Translate settings of execution for the engine."""
    execution = settings.execution
    return ExecutionRules(
        style=Style(execution.style),
        passive_ms=round(execution.passive_s * 1000),
        passive_offset_bps=execution.passive_offset_bps,
        twap_window_ms=round(execution.twap_window_s * 1000),
        twap_slices_n=execution.twap_slices_n,
        hedges=execution.hedge_symbols,
        mends_max=execution.mends_max,
        cost_feedback=execution.cost_feedback,
    )


def history_ms(settings: Settings, engine: Engine) -> int:
    """Give how much history fills every window and every day that is ranked, plus one for holes."""
    longest = max(t.ms * n for t, n in engine.rules.bars_n.items())
    ripeness = engine.rules.ripeness
    if ripeness.rank_max:  # the days it looks at, and one that only began in what was read
        longest = max(longest, (ripeness.days_n + 1) * DAY_MS)
    return longest + 24 * 3_600_000


def universe_of(instruments: list[Instrument]) -> Universe:
    """Order instruments into a universe; an empty one is a configuration error."""
    if not instruments:
        raise ConfigurationError("universe.symbols: no instrument is left to trade")
    return Universe(tuple(instruments))


def made_folder(folder: Path) -> Path:
    """Make a state folder unless it is there; raises ConfigurationError when that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise ConfigurationError(
            f"run.state_folder = {str(folder)!r}: cannot be made: {e.strerror}; accepted: a folder "
            "that this user may write"
        ) from e
    return folder


def rules_path(name: str) -> Path:
    """Find the table of trading rules: where the name says, else beside the program."""
    path = Path(name)
    if path.is_absolute() or path.exists():
        return path
    try:
        return packaged_file(name)
    except ConfigurationError:
        raise ConfigurationError(
            f"backtest.rules_file = {name!r}: there is no such file, neither in {Path.cwd()} nor "
            "with the program; leave the key out for the table that comes along"
        ) from None
