"""The contract with readers: every key, field, type and unit, as data.

`docs/redis.md` and `docs/redis.schema.json` are written from here (`python -m daemon.status`), and
tests compare what a real daemon shows with it, so none of the three drifts. A change that could
break a reader raises `codec.SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from daemon.status.codec import EVENT_TOPICS, STATE_TOPICS
from daemon.status.contract_seat import CORRELATION, MODELS, ORDERS, RISK, RUNTIME
from daemon.status.shapes import (
    AT,
    BASE,
    INT,
    MS,
    QUOTE,
    WEIGHT,
    B,
    Field,
    Key,
    Listed,
    N,
    Named,
    T,
    Table,
    X,
    f,
    maybe,
    rare,
)

META: Final = (
    f("schema_version", INT, "version of this contract"),
    f("run", T, "name of the run"),
    f("daemon", T, "`running`, or `stopped` after a clean end"),
    f("heartbeat_lifetime_ms", INT, "how long the heartbeat lives", "ms"),
    Field("version", INT, "grows with every change", always=False),
    f("strategy", T, "name of the strategy"),
    f("exchange", T, "id of the exchange"),
    rare("market", T, "`rehearsal` on the rehearsal exchange"),
)

COVARIANCE: Final = Table(
    (
        f("estimator", T, "whose covariance is in use"),
        f("as_of", AT, "newest bar it saw"),
        f("note", T, "why it is not the one that was asked for"),
        rare("mean_correlation_said", N, "predicted of late"),
        rare("mean_correlation_came", N, "realised of late"),
        rare("excess_loss", N, "loss above the baseline", "nats a coin and hour"),
        rare("hours_n", INT, "hours judged"),
    )
)

STATUS: Final = (
    f("market_time", AT, "market time of this state"),
    f("market_time_ms", INT, "the same", MS),
    f("trading_state", T, "`starting`, `reconciling`, `trading`, `reduce_only` or `halted`"),
    f("equity", N, "cash and positions at their marks", QUOTE),
    f("cash", X, "cash of all venues", QUOTE),
    f("gross_weight", N, "sum of absolute weights", WEIGHT),
    f("net_weight", N, "sum of weights", WEIGHT),
    f("positions_n", INT, "positions held"),
    f("orders_open_n", INT, "orders open or uncertain"),
    f("decisions_n", INT, "decisions since the book was begun"),
    f("fills_n", INT, "fills since the book was begun"),
    f("fees", X, "paid since then", QUOTE),
    f("funding", X, "received since then, negative when paid", QUOTE),
    f("turnover", X, "traded since then", QUOTE),
    f("transfers", X, "deposits less withdrawals", QUOTE),
    maybe("next_decision", AT, "when the next decision is due"),
    maybe("next_decision_ms", INT, "the same", MS),
    maybe("band_health", N, "trading cost over cost of waiting, lately; 2 is best"),
    f("note", T, "why trading is not free, in words"),
    f("net_weight_worst", N, "largest absolute net after a fill", WEIGHT),
    rare("beta_weight_worst", N, "largest absolute beta after a fill", WEIGHT),
    rare("covariance", COVARIANCE, "the estimator in use"),
    rare("margin_ratios", Named(N), "margin ratio by venue"),
    rare("orders_of_others_n", INT, "resting orders that are not ours"),
    rare("costs", T, "measured shortfall and fee by way of execution, in words"),
)

POSITION: Final = Table(
    (
        f("venue", T, "where it is held"),
        f("quantity", X, "signed", BASE),
        maybe("average_price", X, "average entry price", QUOTE),
        maybe("mark", N, "newest price", QUOTE),
        maybe("notional", N, "quantity times mark", QUOTE),
        maybe("weight", N, "signed", WEIGHT),
        maybe("gain", N, "unrealised, before fees", QUOTE),
    )
)

TARGET: Final = Table(
    (
        maybe("weight", N, "where to trade to now", WEIGHT),
        maybe("ideal", N, "target without costs", WEIGHT),
        maybe("before", N, "held when it was decided", WEIGHT),
        maybe("band", N, "half-width of the no-trade band", WEIGHT),
        rare("rank", INT, "1 is the strongest long"),
        rare("alpha", N, "expected residual return, in residual volatilities"),
        rare("strength", N, "magnitude times consistency times confidence"),
        rare("probability", N, "that the sign is right"),
        rare("consistency", N, "agreement of the timeframes"),
        rare("confidence", N, "how far the forecasts are trusted"),
        rare("up", N, "probability that the residual return is above 0"),
        rare("outcome_low", N, "lower end of the 90 % interval"),
        rare("outcome_high", N, "upper end of it"),
        rare("reduce_only", B, "exposure may only shrink"),
    )
)

PREDICTION: Final = Table(
    (
        maybe("mean", N, "expected residual return", "residual volatilities"),
        maybe("standard_error", N, "its standard error", "residual volatilities"),
        f("as_of", AT, "newest bar the model saw"),
        f("model", T, "id of the model"),
    )
)

FEED: Final = Table(
    (
        f("bars_by_stream_n", INT, "bars proven by the stream"),
        f("bars_by_reread_n", INT, "bars proven by REST"),
        maybe("stream_share", N, "share of the former"),
        f("absent_n", INT, "bars that never came"),
        f("revisions_n", INT, "bars the venue changed later"),
        maybe("revision_rate", N, "revisions per final bar"),
        maybe("finality_p50_s", N, "median wait for proof", "seconds"),
        maybe("finality_p99_s", N, "99 % of the waits are shorter", "seconds"),
        f("sockets_replaced_n", INT, "sockets replaced because silent"),
        f("sockets_rotated_n", INT, "sockets replaced because old"),
        f("sockets_broken_n", INT, "sockets that broke"),
        f("rows_unreadable_n", INT, "rows of the venue nobody could read"),
        f("rest_failures_n", INT, "requests that failed"),
        f("suspended_n", INT, "times this machine stood still"),
        maybe("clock_offset_ms", N, "venue's clock less ours", "ms"),
        maybe("clock_error_ms", N, "half-width of that measurement", "ms"),
        f("requests_n", INT, "requests made"),
        f("requests_refused_n", INT, "requests the venue refused as too many"),
        maybe("weight_1m", INT, "budget used in the last minute", "request weight"),
        maybe("weight_1m_max", INT, "most that was used", "request weight"),
        rare("bars_removed_n", INT, "bars removed by the cleanser"),
        rare("store_fails", B, "the disk refuses what is recorded"),
        rare("bars_unstored_n", INT, "bars that wait for the disk"),
        rare("bars_lost_n", INT, "bars that were not stored"),
        rare("series_rounds_n", INT, "rounds of asking for series"),
        rare("series_values_n", INT, "values that came"),
        rare("series_failures_n", INT, "rounds with a failure"),
    )
)

ORDER: Final = Table(
    (
        f("order_id", T, "our id"),
        f("symbol", T, "instrument"),
        f("quantity", X, "signed", BASE),
    )
)
REFUSAL: Final = Table(
    (
        f("symbol", T, "instrument"),
        f("reason", T, "which rule refused"),
        f("detail", T, "with its numbers"),
    )
)

DECISION: Final = (
    f("as_of", AT, "instant of the decision"),
    f("as_of_ms", INT, "the same", MS),
    f("sequence", INT, "its number"),
    f("kind", T, "`traded`, `held`, `reduced` or `warming`"),
    f("equity", N, "equity it saw", QUOTE),
    f("gross_weight", N, "held before", WEIGHT),
    f("net_weight", N, "held before", WEIGHT),
    maybe("target_gross_weight", N, "wanted", WEIGHT),
    maybe("target_net_weight", N, "wanted", WEIGHT),
    maybe("band_health", N, "as in `status`"),
    f("orders", Listed(ORDER), "orders it sent"),
    f("refusals", Listed(REFUSAL), "orders that risk refused"),
    f("absent", Listed(T), "symbols without a bar"),
    f("note", T, "why, in words"),
    f("solved", T, "how a programme's weights were found"),
    f("digest", T, "sha256 by which two runs compare it"),
)

FILL: Final = (
    f("at", AT, "when it was filled"),
    f("at_ms", INT, "the same", MS),
    f("trade_id", T, "the venue's id; with `venue` it names the fill once and for all"),
    f("order_id", T, "our id of the order"),
    f("venue", T, "where"),
    f("symbol", T, "instrument"),
    f("quantity", X, "negative sells", BASE),
    f("price", X, "price", QUOTE),
    f("fee", X, "paid, negative when received", QUOTE),
)

ALERT: Final = (
    f("at", AT, "market time"),
    f("at_ms", INT, "the same", MS),
    f("kind", T, "what an operator must hear of"),
    f("text", T, "in words"),
)

DAILY: Final = (
    f("day", T, "YYYY-MM-DD, UTC"),
    f("is_whole", B, "a decision after the day closed it"),
    f("from", AT, "first decision of the day"),
    f("until", AT, "first decision after it"),
    f("equity_first", N, "equity at `from`", QUOTE),
    f("equity_last", N, "equity at `until`", QUOTE),
    f("transfers", X, "deposits less withdrawals between", QUOTE),
    f("pnl", N, "gain without transfers", QUOTE),
    maybe("return", N, "pnl over equity_first", "fraction"),
    f("drawdown_worst", N, "deepest fall below a peak of the day", "fraction of the peak"),
    f("gross_weight_mean", N, "mean over decisions", WEIGHT),
    f("gross_weight_worst", N, "largest", WEIGHT),
    f("net_weight_mean", N, "mean over decisions", WEIGHT),
    maybe("net_weight_worst", N, "furthest from 0, signed", WEIGHT),
    maybe("beta_weight_mean", N, "to the equal-weight market", WEIGHT),
    maybe("beta_weight_worst", N, "furthest from 0, signed", WEIGHT),
    f("fees", X, "paid", QUOTE),
    f("funding", X, "received, negative when paid", QUOTE),
    f("turnover", N, "traded", QUOTE),
    maybe("slippage", N, "lost against reference prices", QUOTE),
    maybe("slippage_bps", N, "the same", "bps of what was traded"),
    maybe("slippage_known_share", N, "share of the turnover whose slippage is known", "fraction"),
    f("decisions_n", INT, "decisions"),
    f("orders_n", INT, "orders sent"),
    f("refusals_n", INT, "orders that risk refused"),
    f("fills_n", INT, "fills"),
)

LOG: Final = (
    f("at", AT, "wall time"),
    f("at_ms", INT, "the same", MS),
    f("level", T, "`info`, `warning`, `error` or `critical`"),
    f("logger", T, "which part logged"),
    f("event", T, "what happened"),
    f("text", T, "its fields as `name=value`, cut at 2,000 characters"),
    f("passed_over_n", INT, "entries before this one that were too many"),
)

REQUEST: Final = Table(
    (
        f("action", T, "`pause`, `resume`, `reduce_only`, `flatten`, `kill` or `reload`"),
        f("run", T, "name of the run that is meant"),
        f("request_id", T, "the same id is the same request"),
        f("asked_ms", INT, "when it was signed", MS),
        f("signature", T, "HMAC-SHA256 in hex, see docs/control.md"),
        Field("reason", T, "in words", always=False),
    )
)
ANSWER: Final = Table(
    (
        f("request_id", T, "of the request"),
        f("answer", T, "the answer, as the JSON text that was signed"),
        f("signature", T, "HMAC-SHA256 in hex"),
    )
)
BOUNDED: Final = "about `redis.stream_length_max`"

KEYS: Final = (
    Key("meta", "hash", "which daemon, which contract", META),
    Key("status", "hash", "the book in numbers", STATUS),
    Key("positions", "hash", "what is held, by symbol", each=POSITION),
    Key("targets", "hash", "what is wanted and why, by symbol", each=TARGET),
    Key("predictions", "hash", "forecasts by symbol and timeframe", each=Named(PREDICTION)),
    Key("feed", "hash", "health of the data, by venue", each=FEED),
    Key("orders", "hash", "orders that are open", ORDERS),
    Key("risk", "hash", "limits, what is measured against them, and what holds the book", RISK),
    Key("models", "hash", "models of the registry, where one forecasts", MODELS),
    Key("correlation", "hash", "correlations, predicted and realised", CORRELATION),
    Key("runtime", "hash", "how the process itself does, every 2 s", RUNTIME),
    Key("decisions", "stream", "one entry a decision", DECISION, length=BOUNDED),
    Key("fills", "stream", "one entry a fill", FILL, length=BOUNDED),
    Key("alerts", "stream", "one entry an alert", ALERT, length=BOUNDED),
    Key("days", "stream", "one entry a day", DAILY, length=BOUNDED),
    Key("logs", "stream", "one entry a line of the log", LOG, length=BOUNDED),
    Key("heartbeat", "string", "a counter, renewed every 2 s", lifetime="10 s"),
    Key(
        "commands",
        "stream",
        "requests of operators; the daemon takes each away",
        (f("payload", REQUEST, "a signed request"),),
        length="1,000",
        writer="operators",
    ),
    Key(
        "answers",
        "stream",
        "answers to them",
        (f("payload", ANSWER, "a signed answer"),),
        lifetime="1 h",
        length="200",
    ),
)
STREAM_OF: Final[Mapping[str, str]] = {
    "decision": "decisions",
    "fill": "fills",
    "alert": "alerts",
    "daily": "days",
    "log": "logs",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """Describe an MQTT topic `{namespace}/{run}/{name}`; key: whose fields its JSON has."""

    name: str
    words: str
    key: str = ""
    retained: bool = False
    extra: tuple[Field, ...] = field(default=())


_STOPPED: Final = (rare("daemon", T, "`stopped` after a clean end"),)

TOPICS: Final = (
    Topic("status", "the book in numbers", "status", retained=True, extra=_STOPPED),
    Topic("positions", "what is held", "positions", retained=True),
    Topic("targets", "what is wanted", "targets", retained=True),
    Topic("predictions", "forecasts", "predictions", retained=True),
    Topic("feed", "health of the data", "feed", retained=True),
    Topic("orders", "orders that are open", "orders", retained=True),
    Topic("risk", "limits and their use", "risk", retained=True),
    Topic("models", "models of the registry", "models", retained=True),
    Topic("correlation", "correlations", "correlation", retained=True),
    Topic("runtime", "how the process does", "runtime", retained=True),
    Topic("events", "decisions, fills and days; `topic` says which"),
    Topic("notify", "alerts", "alerts"),
    Topic("log", "the log, a few lines a second at most", "logs"),
    Topic("hb", 'a counter every 10 s: `{"beat": 7, "schema_version": 1}`'),
    Topic("availability", "`online` or `offline`; `offline` is also the last will", retained=True),
    Topic("cmd", "requests of operators, never retained"),
    Topic("cmd/answer", "answers to them, and below it"),
)


def key_of(topic: str) -> Key:
    """Give the key that shows a topic of the outbox."""
    name = STREAM_OF.get(topic, topic)
    return next(key for key in KEYS if key.name == name)


def undescribed() -> set[str]:
    """Name the topics of the outbox that no key describes: must be empty."""
    names = {key.name for key in KEYS}
    return {t for t in (*STATE_TOPICS, *EVENT_TOPICS) if STREAM_OF.get(t, t) not in names}
