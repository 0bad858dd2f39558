"""All settings with default, unit, bounds and meaning. Nothing here reads a file.

The names of sections and keys are what users write: a change is a breaking change.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from daemon.settings.control import ControlSettings
from daemon.settings.covariance import CovarianceSettings
from daemon.settings.data import DataSettings
from daemon.settings.exchange import ExchangeSettings
from daemon.settings.execution import ExecutionSettings
from daemon.settings.fields import (
    Amount,
    Bars,
    Covariates,
    Instant,
    ModelKind,
    Pace,
    Section,
    StackKinds,
    Symbols,
    setting,
)
from daemon.settings.live import LiveSettings
from daemon.settings.notify import NotifySettings
from daemon.settings.research import ArchitecturesSettings, WalkforwardSettings
from daemon.settings.risk import RiskSettings
from daemon.settings.status import MqttSettings, RedisSettings
from daemon.settings.web import WebSettings

_NAME = r"^[a-z0-9][a-z0-9_-]{0,31}$"


class RunSettings(Section):
    """Say where a run keeps its state and how it logs."""

    state_folder: Path = setting(
        Path("state/paper"), "Folder of journal, ledger, snapshots and status; one daemon each."
    )
    run_name: str = setting(
        "paper", "Name of the run in status keys: small letters, digits, - and _.", pattern=_NAME
    )
    log_level: Literal["debug", "info", "warning", "error"] = setting(
        "warning", "Least important level that is logged; info tells every start and stop too."
    )
    log_json: bool = setting(False, "Log one JSON object a line instead of text for people.")


class UniverseSettings(Section):
    """Say what may be traded."""

    symbols: Symbols = setting(
        "top:12", "Unified (BTC/USDT:USDT) or venue symbols (BTCUSDT), in the order of the book."
    )

    age_days_min: float = setting(
        0.0,
        "A contract listed more recently is not held; 0 asks for no age.",
        unit="days",
        ge=0,
        le=3650,
    )
    day_volume_min: float = setting(
        0.0,
        "Median quote volume a day of the last week below which a contract is not held; what is "
        "held goes out below 70 % of it. 0 asks for none.",
        unit="quote currency",
        ge=0,
    )
    volume_rank_max: int = setting(
        0,
        "At the end of each UTC day only so many contracts, those of the largest median quote "
        "volume a day of the last week, enter what may be held; who is in leaves beyond 1.5 times "
        "the number. 0 asks for none.",
        unit="contracts",
        ge=0,
        le=1000,
    )
    spare: int = setting(
        0,
        "Columns that a new book keeps free for contracts listed later; fixed when it is begun.",
        unit="columns",
        ge=0,
        le=64,
    )
    admit_new: bool = setting(
        True,
        "Contracts that a venue lists after the book was begun take free columns by themselves; "
        "false leaves them to symbols that are added to universe.symbols.",
    )


class MarketSettings(Section):
    """Say which bars are read and when decisions fall."""

    source: Bars = setting("30m", "Length of the bars that are read; all others are built of it.")
    timeframes: tuple[Bars, ...] = setting(
        ("1h", "90m", "2h"), "Bar lengths that forecasts are made at.", min_length=1
    )
    decision: Bars = setting("1h", "Decisions fall on every close of this bar length.")
    window_bars: int = setting(
        200, "Closed bars kept for each timeframe.", unit="bars", ge=2, le=5000
    )
    decision_deadline_s: float = setting(
        20.0,
        "How long after a close, in market time, a decision waits for late bars.",
        unit="seconds",
        gt=0,
        le=600,
    )
    estimate_deadline_s: float = setting(
        20.0,
        "How long a forecast may take, in transport (wall) time.",
        unit="seconds",
        gt=0,
        le=600,
    )
    expected_absent_bars: int = setting(
        4,
        "An instrument without so many source bars in a row is no longer waited for.",
        unit="bars",
        ge=1,
        le=1000,
    )


class PaperSettings(Section):
    """Say what the paper venue charges and how much it fills."""

    cash: Amount = setting(
        Decimal("10000.0"), "Cash of a new paper account.", unit="USDT", gt=Decimal(0)
    )
    fee_bps: float = setting(5.0, "Fee of a fill.", unit="bps of notional", ge=-10, le=100)
    half_spread_bps: float = setting(
        1.0, "Half of the spread, paid on every fill.", unit="bps of price", ge=0, le=100
    )
    impact_bps: float = setting(
        30.0,
        "Impact of taking as much as the whole last bar traded; grows with the square root.",
        unit="bps of price",
        ge=0,
        le=1000,
    )
    latency_bps: float = setting(
        0.5, "Charge for the delay from decision to fill.", unit="bps of price", ge=0, le=100
    )
    participation_share: float = setting(
        0.1,
        "Largest share of the last closed bar's volume that one bar fills; the rest waits. "
        "0 knows no limit: everything fills at once, and impact_bps must be 0.",
        unit="share of volume",
        ge=0,
        le=1,
    )


class StrategySettings(Section):
    """Choose the strategy; it checks its own parameters."""

    name: str = setting("neutral", "Name of an entry point in equipoise.strategies.", min_length=1)
    parameters: dict[str, Any] = setting({}, "Handed to the strategy, which names what is wrong.")


class EstimatorSettings(Section):
    """Choose where forecasts come from."""

    kind: Literal["model", "table", "zero", "last_return", "momentum", "none"] = setting(
        "model", "A trained model, a table of predictions (backtests), a baseline, or no forecasts."
    )
    models_folder: Path = setting(Path("models"), "Folder of the model store.")
    model: str = setting("champion", "Id of a model, or champion.", min_length=1)
    table: str = setting("", "Parquet file of predictions that kind = table replays.")
    combination: Literal["auto", "strength", "mean", "grinold_kahn", "kalman"] = setting(
        "auto",
        "Rule that makes one alpha of the timeframes' forecasts; auto takes what validation chose "
        "for the model.",
    )
    series_folder: str = setting(
        "",
        "Root of the store of series beside the bars, for models with covariates; empty takes that "
        "of the bars.",
    )
    allow_foreign_model: bool = setting(
        False, "Let a model trained on a generated market trade on a real venue."
    )


class TrainingSettings(Section):
    """Choose what is trained, and bound the run."""

    kind: ModelKind = setting(
        "bilstm",
        "A network; a ridge regression: linear, in closed form, trained in seconds; boosted trees "
        "(lightgbm, a package of its own); a forest; or a stack of several kinds.",
    )
    covariates: Covariates = setting(
        (), "What models read beside bars; a model remembers it. Empty is bars alone."
    )
    days: int = setting(120, "History to train on.", unit="days", ge=10, le=5000)
    budget_s: float = setting(
        35.0,
        "Effort for networks in seconds of one thread at nominal speed; buys so many steps.",
        unit="seconds",
        ge=1,
        le=1_000_000,
    )
    seed: int = setting(7, "Seed of Python, NumPy, torch and trees.", ge=0, le=2**31 - 1)
    seeds_n: int = setting(
        2,
        "Networks, forests and so on trained from consecutive seeds and averaged; not for ridge.",
        unit="models",
        ge=1,
        le=20,
    )
    folds_n: int = setting(
        1,
        "Folds that go forward in time; the members of all are averaged. They share training's last"
        " part as tests and, for networks, budget_s. Only train reads it; walk-forwards refit.",
        unit="folds",
        ge=1,
        le=12,
    )
    members: StackKinds = setting(
        ("lightgbm", "forest", "ridge"), "Kinds in a stack; each is fitted four times."
    )
    trees_n: int = setting(300, "Trees of a forest or of lightgbm.", unit="trees", ge=10, le=5000)
    leaf_share: float = setting(
        0.005, "Smallest share of its rows that a leaf of a tree holds.", ge=0.0001, le=0.2
    )
    selection: Literal["none", "correlation", "elimination", "lasso"] = setting(
        "none", "How ridge, lightgbm and forest choose among their columns, anew in every fold."
    )
    components: int = setting(
        0,
        "Principal components that ridge, lightgbm and forest read instead of columns; 0 for none.",
        ge=0,
        le=200,
    )
    hidden_size: int = setting(
        32, "Hidden units of a network, in each direction of a bilstm.", unit="units", ge=4, le=256
    )
    layers_n: int = setting(1, "Layers of a network's encoder.", unit="layers", ge=1, le=4)
    embedding_size: int = setting(
        32, "Width to which the inputs of a bar are projected first.", unit="units", ge=4, le=256
    )
    sequence_bars: int = setting(
        12,
        "Rows that a model reads, each with 131 bars before it; a model remembers it. "
        "market.window_bars must be at least 131 more.",
        unit="bars",
        ge=6,
        le=512,
    )
    cross_asset: bool = setting(
        False, "Let the instruments of an instant see each other inside a network."
    )
    batch_rows: int = setting(
        576,
        "Sequences of a step, cut to whole cross-sections of every timeframe.",
        unit="sequences",
        ge=16,
        le=65_536,
    )
    learning_rate: float = setting(0.003, "Highest learning rate.", ge=1e-6, le=1.0)
    feature_dropout: float = setting(
        0.3, "Share of input features blanked, at every bar of a sequence alike.", ge=0.0, le=0.9
    )
    time_dropout: float = setting(
        0.0, "Share of the encoder's inputs blanked, at every bar alike.", ge=0.0, le=0.9
    )
    weight_drop: float = setting(
        0.0,
        "Share of recurrent weights blanked in a step; 0 for a tcn or transformer.",
        ge=0.0,
        le=0.9,
    )
    zoneout: float = setting(
        0.0,
        "Share of recurrent states that keep their last value, which slows them; 0 for a tcn or "
        "transformer.",
        ge=0.0,
        le=0.9,
    )
    dropout: float = setting(0.3, "Share of what the heads read blanked.", ge=0.0, le=0.9)
    weight_decay: float = setting(0.1, "Pull of all weights towards 0.", ge=0.0, le=10.0)
    weight_averaging: bool = setting(
        False, "Look at the mean of the weights over the last quarter of the steps, and keep that."
    )
    ic_loss: bool = setting(True, "Learn the order within instants, after the likelihood.")
    list_loss: Literal["none", "listmle", "listnet"] = setting(
        "none", "List-wise loss on the highest and lowest fifth, after the likelihood too."
    )
    device: Literal["cpu", "cuda", "auto"] = setting(
        "cpu", "What networks are trained on; auto is a GPU where there is one."
    )
    precision: Literal["fp32", "bf16"] = setting(
        "fp32", "Arithmetic of training; bf16 is faster where the processor knows it, and coarser."
    )


class Irregularity(Section):
    """Script a source bar that is absent or late."""

    kind: Literal["absent", "late"] = setting(..., "absent for ever, or late.")
    symbol: str = setting(..., "Venue symbol.", min_length=1)
    open: Instant = setting(..., "When the bar opens.")
    delay_s: float = setting(
        0.0, "Market time after its close until it is shown; late only.", unit="seconds", ge=0
    )


class LaterListing(Section):
    """Let a coin of the generated market be listed while the book runs."""

    symbol: str = setting(..., "Venue symbol, one of the coins.", min_length=1)
    after_h: float = setting(
        ..., "Market time after the first instant of trading.", unit="hours", gt=0, le=100_000
    )


class RehearsalSettings(Section):
    """Describe the rehearsal exchange: a generated market, or real bars from Parquet."""

    dialect: Literal["binanceusdm", "bybit"] = setting(
        "binanceusdm", "Exchange id whose words the rehearsal speaks; replaces exchange.id."
    )
    seed: int = setting(7, "Seed of the generated market.", ge=0, le=2**32 - 1)
    coins: int = setting(12, "Coins of the generated market.", unit="coins", ge=2, le=200)
    base_minutes: int = setting(
        5, "Step of the generated market; divides the source length.", unit="minutes", ge=1, le=60
    )
    source: Bars = setting("30m", "Bar length whose closes are the instants of lock-step.")
    pace: Pace = setting("lockstep", "What moves market time; a number is times real time.")
    start: Instant = setting(None, "First instant of trading; empty leaves room for training.")
    planted_ic: float = setting(
        0.05,
        "True information coefficient of the planted pattern; 0 is a fair game.",
        unit="correlation",
        ge=0,
        le=0.5,
    )
    pattern: Literal["context", "sequence"] = setting(
        "context",
        "What is planted: hours in the context of their day, or the order of 1h, 90m and 2h moves.",
    )
    data_folder: str = setting("", "Folder of Parquet bars; empty generates the market.")
    until: Instant = setting(None, "End of the market; empty never ends or takes all.")
    irregularities: tuple[Irregularity, ...] = setting((), "Bars that shall be absent or late.")
    listings: tuple[LaterListing, ...] = setting(
        (), "Coins of the generated market that are listed later; see universe.spare."
    )
    port: int = setting(0, "Port on 127.0.0.1; 0 takes any free one.", ge=0, le=65535)
    fault_seed: int = setting(
        0, "Seed of random faults of REST and streams; 0 has none.", ge=0, le=2**32 - 1
    )


class BacktestSettings(Section):
    """Describe what a backtest reads and writes."""

    data_folder: str = setting("data/ohlcv", "Folder of Parquet bars, one folder a venue inside.")
    venue: str = setting("binanceusdm", "Folder of the venue inside data_folder.", min_length=1)
    funding_venue: str = setting("", "Folder of the funding rates; empty takes venue.")
    source: Bars = setting("30m", "Bar length of the files; replaces market.source.")
    since: Instant = setting(None, "First instant; empty takes all.")
    until: Instant = setting(None, "Last instant; empty takes all.")
    symbols: tuple[str, ...] = setting((), "Symbols to read; empty takes universe.symbols.")
    report: str = setting("reports/backtest.html", "Path of the HTML report; empty for none.")
    rules_file: str = setting(
        "config/trading_rules.toml", "Table of price steps, lots and minimum notionals."
    )
    funding_missing: Literal["zero", "error"] = setting(
        "zero", "What a missing funding rate means: none paid (its share is reported), or stop."
    )


class EvaluationSettings(Section):
    """Say where trials are logged and how campaigns run."""

    trials_file: str = setting(
        "state/trials.jsonl",
        "Ledger of every evaluation run; what was tried counts against what was found.",
        min_length=1,
    )
    processes: int = setting(
        0, "Processes of a campaign; 0 takes one a core.", unit="processes", ge=0, le=256
    )
    seed: int = setting(7, "Seed of resampling and of random cuts.", ge=0, le=2**32 - 1)


class Settings(Section):
    """Hold all settings of a process."""

    run: RunSettings = setting(RunSettings(), RunSettings.__doc__ or "")
    universe: UniverseSettings = setting(UniverseSettings(), UniverseSettings.__doc__ or "")
    market: MarketSettings = setting(MarketSettings(), MarketSettings.__doc__ or "")
    exchange: ExchangeSettings = setting(ExchangeSettings(), ExchangeSettings.__doc__ or "")
    paper: PaperSettings = setting(PaperSettings(), PaperSettings.__doc__ or "")
    live: LiveSettings = setting(LiveSettings(), LiveSettings.__doc__ or "")
    strategy: StrategySettings = setting(StrategySettings(), StrategySettings.__doc__ or "")
    estimator: EstimatorSettings = setting(EstimatorSettings(), EstimatorSettings.__doc__ or "")
    covariance: CovarianceSettings = setting(CovarianceSettings(), CovarianceSettings.__doc__ or "")
    training: TrainingSettings = setting(TrainingSettings(), TrainingSettings.__doc__ or "")
    risk: RiskSettings = setting(RiskSettings(), RiskSettings.__doc__ or "")
    execution: ExecutionSettings = setting(ExecutionSettings(), ExecutionSettings.__doc__ or "")
    redis: RedisSettings = setting(RedisSettings(), RedisSettings.__doc__ or "")
    mqtt: MqttSettings = setting(MqttSettings(), MqttSettings.__doc__ or "")
    notify: NotifySettings = setting(NotifySettings(), NotifySettings.__doc__ or "")
    web: WebSettings = setting(WebSettings(), WebSettings.__doc__ or "")
    control: ControlSettings = setting(ControlSettings(), ControlSettings.__doc__ or "")
    rehearsal: RehearsalSettings = setting(RehearsalSettings(), RehearsalSettings.__doc__ or "")
    backtest: BacktestSettings = setting(BacktestSettings(), BacktestSettings.__doc__ or "")
    walkforward: WalkforwardSettings = setting(
        WalkforwardSettings(), WalkforwardSettings.__doc__ or ""
    )
    architectures: ArchitecturesSettings = setting(
        ArchitecturesSettings(), ArchitecturesSettings.__doc__ or ""
    )
    evaluation: EvaluationSettings = setting(EvaluationSettings(), EvaluationSettings.__doc__ or "")
    data: DataSettings = setting(DataSettings(), DataSettings.__doc__ or "")
