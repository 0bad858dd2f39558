"""The contract with readers: every key, field, type and unit, as data.

`docs/redis.md` and `docs/redis.schema.json` are written from here (`python -m daemon.status`), and
tests compare what a real daemon shows with it, so none of the three drifts. A change that could
break a reader raises `codec.SCHEMA_VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from daemon.status.codec import EVENT_TOPICS, STATE_TOPICS

QUOTE: Final = "quote currency"
WEIGHT: Final = "fraction of equity"
BASE: Final = "base units"
MS: Final = "ms since 1970, UTC"


class Kind(StrEnum):
    """Name how a value is written."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"  # shortest text that reads back the same
    EXACT = "exact amount"  # all its digits; a text in JSON too
    INSTANT = "ISO 8601 UTC"
    BOOLEAN = "boolean"


@dataclass(frozen=True, slots=True)
class Listed:
    """Say that a value is a JSON list of one kind of item."""

    item: Shape


@dataclass(frozen=True, slots=True)
class Named:
    """Say that a value is a JSON table by a name that we do not know: symbol, venue, timeframe."""

    value: Shape


@dataclass(frozen=True, slots=True)
class Table:
    """Say that a value is a JSON table of known fields, and of no others."""

    fields: tuple[Field, ...]


Shape = Kind | Listed | Named | Table


@dataclass(frozen=True, slots=True)
class Field:
    """Describe a field. known: never empty. always: never left out."""

    name: str
    shape: Shape
    words: str
    unit: str = ""
    known: bool = True
    always: bool = True


@dataclass(frozen=True, slots=True)
class Key:
    """Describe a Redis key `{namespace}:{run}:{name}`. lifetime, length: in words, "" for none.

    fields: of the hash or entry; `each` instead, where names are symbols or venues.
    """

    name: str
    type: str
    words: str
    fields: tuple[Field, ...] = ()
    each: Shape | None = None
    lifetime: str = ""
    length: str = ""
    writer: str = "daemon"


def _f(name: str, shape: Shape, words: str, unit: str = "") -> Field:
    return Field(name, shape, words, unit)


def _maybe(name: str, shape: Shape, words: str, unit: str = "") -> Field:
    return Field(name, shape, words, unit, known=False)


def _rare(name: str, shape: Shape, words: str, unit: str = "") -> Field:
    """Describe a field that is left out where there is nothing to say."""
    return Field(name, shape, words, unit, known=False, always=False)


T, N, X = Kind.TEXT, Kind.NUMBER, Kind.EXACT
INT, AT, B = Kind.INTEGER, Kind.INSTANT, Kind.BOOLEAN

META: Final = (
    _f("schema_version", INT, "version of this contract"),
    _f("run", T, "name of the run"),
    _f("daemon", T, "`running`, or `stopped` after a clean end"),
    _f("heartbeat_lifetime_ms", INT, "how long the heartbeat lives", "ms"),
    Field("version", INT, "grows with every change", always=False),
    _f("strategy", T, "name of the strategy"),
    _f("exchange", T, "id of the exchange"),
    _rare("market", T, "`rehearsal` on the rehearsal exchange"),
)

COVARIANCE: Final = Table(
    (
        _f("estimator", T, "whose covariance is in use"),
        _f("as_of", AT, "newest bar it saw"),
        _f("note", T, "why it is not the one that was asked for"),
        _rare("mean_correlation_said", N, "predicted of late"),
        _rare("mean_correlation_came", N, "realised of late"),
        _rare("excess_loss", N, "loss above the baseline", "nats a coin and hour"),
        _rare("hours_n", INT, "hours judged"),
    )
)

STATUS: Final = (
    _f("market_time", AT, "market time of this state"),
    _f("market_time_ms", INT, "the same", MS),
    _f("trading_state", T, "`starting`, `reconciling`, `trading`, `reduce_only` or `halted`"),
    _f("equity", N, "cash and positions at their marks", QUOTE),
    _f("cash", X, "cash of all venues", QUOTE),
    _f("gross_weight", N, "sum of absolute weights", WEIGHT),
    _f("net_weight", N, "sum of weights", WEIGHT),
    _f("positions_n", INT, "positions held"),
    _f("orders_open_n", INT, "orders open or uncertain"),
    _f("decisions_n", INT, "decisions since the book was begun"),
    _f("fills_n", INT, "fills since the book was begun"),
    _f("fees", X, "paid since then", QUOTE),
    _f("funding", X, "received since then, negative when paid", QUOTE),
    _f("turnover", X, "traded since then", QUOTE),
    _f("transfers", X, "deposits less withdrawals", QUOTE),
    _maybe("next_decision", AT, "when the next decision is due"),
    _maybe("next_decision_ms", INT, "the same", MS),
    _maybe("band_health", N, "trading cost over cost of waiting, lately; 2 is best"),
    _f("note", T, "why trading is not free, in words"),
    _f("net_weight_worst", N, "largest absolute net after a fill", WEIGHT),
    _rare("beta_weight_worst", N, "largest absolute beta after a fill", WEIGHT),
    _rare("covariance", COVARIANCE, "the estimator in use"),
    _rare("margin_ratios", Named(N), "margin ratio by venue"),
    _rare("orders_of_others_n", INT, "resting orders that are not ours"),
    _rare("costs", T, "measured shortfall and fee by way of execution, in words"),
)

POSITION: Final = Table(
    (
        _f("venue", T, "where it is held"),
        _f("quantity", X, "signed", BASE),
        _maybe("average_price", X, "average entry price", QUOTE),
        _maybe("mark", N, "newest price", QUOTE),
        _maybe("notional", N, "quantity times mark", QUOTE),
        _maybe("weight", N, "signed", WEIGHT),
        _maybe("gain", N, "unrealised, before fees", QUOTE),
    )
)

TARGET: Final = Table(
    (
        _maybe("weight", N, "where to trade to now", WEIGHT),
        _maybe("ideal", N, "target without costs", WEIGHT),
        _maybe("before", N, "held when it was decided", WEIGHT),
        _maybe("band", N, "half-width of the no-trade band", WEIGHT),
        _rare("rank", INT, "1 is the strongest long"),
        _rare("alpha", N, "expected residual return, in residual volatilities"),
        _rare("strength", N, "magnitude times consistency times confidence"),
        _rare("probability", N, "that the sign is right"),
        _rare("consistency", N, "agreement of the timeframes"),
        _rare("confidence", N, "how far the forecasts are trusted"),
        _rare("up", N, "probability that the residual return is above 0"),
        _rare("outcome_low", N, "lower end of the 90 % interval"),
        _rare("outcome_high", N, "upper end of it"),
        _rare("reduce_only", B, "exposure may only shrink"),
    )
)

PREDICTION: Final = Table(
    (
        _maybe("mean", N, "expected residual return", "residual volatilities"),
        _maybe("standard_error", N, "its standard error", "residual volatilities"),
        _f("as_of", AT, "newest bar the model saw"),
        _f("model", T, "id of the model"),
    )
)

FEED: Final = Table(
    (
        _f("bars_by_stream_n", INT, "bars proven by the stream"),
        _f("bars_by_reread_n", INT, "bars proven by REST"),
        _maybe("stream_share", N, "share of the former"),
        _f("absent_n", INT, "bars that never came"),
        _f("revisions_n", INT, "bars the venue changed later"),
        _maybe("revision_rate", N, "revisions per final bar"),
        _maybe("finality_p50_s", N, "median wait for proof", "seconds"),
        _maybe("finality_p99_s", N, "99 % of the waits are shorter", "seconds"),
        _f("sockets_replaced_n", INT, "sockets replaced because silent"),
        _f("sockets_rotated_n", INT, "sockets replaced because old"),
        _f("sockets_broken_n", INT, "sockets that broke"),
        _f("rows_unreadable_n", INT, "rows of the venue nobody could read"),
        _f("rest_failures_n", INT, "requests that failed"),
        _f("suspended_n", INT, "times this machine stood still"),
        _maybe("clock_offset_ms", N, "venue's clock less ours", "ms"),
        _maybe("clock_error_ms", N, "half-width of that measurement", "ms"),
        _f("requests_n", INT, "requests made"),
        _f("requests_refused_n", INT, "requests the venue refused as too many"),
        _maybe("weight_1m", INT, "budget used in the last minute", "request weight"),
        _maybe("weight_1m_max", INT, "most that was used", "request weight"),
        _rare("bars_removed_n", INT, "bars removed by the cleanser"),
        _rare("store_fails", B, "the disk refuses what is recorded"),
        _rare("bars_unstored_n", INT, "bars that wait for the disk"),
        _rare("bars_lost_n", INT, "bars that were not stored"),
        _rare("series_rounds_n", INT, "rounds of asking for series"),
        _rare("series_values_n", INT, "values that came"),
        _rare("series_failures_n", INT, "rounds with a failure"),
    )
)

ORDER: Final = Table(
    (
        _f("order_id", T, "our id"),
        _f("symbol", T, "instrument"),
        _f("quantity", X, "signed", BASE),
    )
)
REFUSAL: Final = Table(
    (
        _f("symbol", T, "instrument"),
        _f("reason", T, "which rule refused"),
        _f("detail", T, "with its numbers"),
    )
)

DECISION: Final = (
    _f("as_of", AT, "instant of the decision"),
    _f("as_of_ms", INT, "the same", MS),
    _f("sequence", INT, "its number"),
    _f("kind", T, "`traded`, `held`, `reduced` or `warming`"),
    _f("equity", N, "equity it saw", QUOTE),
    _f("gross_weight", N, "held before", WEIGHT),
    _f("net_weight", N, "held before", WEIGHT),
    _maybe("target_gross_weight", N, "wanted", WEIGHT),
    _maybe("target_net_weight", N, "wanted", WEIGHT),
    _maybe("band_health", N, "as in `status`"),
    _f("orders", Listed(ORDER), "orders it sent"),
    _f("refusals", Listed(REFUSAL), "orders that risk refused"),
    _f("absent", Listed(T), "symbols without a bar"),
    _f("note", T, "why, in words"),
    _f("solved", T, "how a programme's weights were found"),
    _f("digest", T, "sha256 by which two runs compare it"),
)

FILL: Final = (
    _f("at", AT, "when it was filled"),
    _f("at_ms", INT, "the same", MS),
    _f("trade_id", T, "the venue's id; with `venue` it names the fill once and for all"),
    _f("order_id", T, "our id of the order"),
    _f("venue", T, "where"),
    _f("symbol", T, "instrument"),
    _f("quantity", X, "negative sells", BASE),
    _f("price", X, "price", QUOTE),
    _f("fee", X, "paid, negative when received", QUOTE),
)

ALERT: Final = (
    _f("at", AT, "market time"),
    _f("at_ms", INT, "the same", MS),
    _f("kind", T, "what an operator must hear of"),
    _f("text", T, "in words"),
)

DAILY: Final = (
    _f("day", T, "YYYY-MM-DD, UTC"),
    _f("is_whole", B, "a decision after the day closed it"),
    _f("from", AT, "first decision of the day"),
    _f("until", AT, "first decision after it"),
    _f("equity_first", N, "equity at `from`", QUOTE),
    _f("equity_last", N, "equity at `until`", QUOTE),
    _f("transfers", X, "deposits less withdrawals between", QUOTE),
    _f("pnl", N, "gain without transfers", QUOTE),
    _maybe("return", N, "pnl over equity_first", "fraction"),
    _f("drawdown_worst", N, "deepest fall below a peak of the day", "fraction of the peak"),
    _f("gross_weight_mean", N, "mean over decisions", WEIGHT),
    _f("gross_weight_worst", N, "largest", WEIGHT),
    _f("net_weight_mean", N, "mean over decisions", WEIGHT),
    _maybe("net_weight_worst", N, "furthest from 0, signed", WEIGHT),
    _maybe("beta_weight_mean", N, "to the equal-weight market", WEIGHT),
    _maybe("beta_weight_worst", N, "furthest from 0, signed", WEIGHT),
    _f("fees", X, "paid", QUOTE),
    _f("funding", X, "received, negative when paid", QUOTE),
    _f("turnover", N, "traded", QUOTE),
    _maybe("slippage", N, "lost against reference prices", QUOTE),
    _maybe("slippage_bps", N, "the same", "bps of what was traded"),
    _maybe("slippage_known_share", N, "share of the turnover whose slippage is known", "fraction"),
    _f("decisions_n", INT, "decisions"),
    _f("orders_n", INT, "orders sent"),
    _f("refusals_n", INT, "orders that risk refused"),
    _f("fills_n", INT, "fills"),
)

LOG: Final = (
    _f("at", AT, "wall time"),
    _f("at_ms", INT, "the same", MS),
    _f("level", T, "`info`, `warning`, `error` or `critical`"),
    _f("logger", T, "which part logged"),
    _f("event", T, "what happened"),
    _f("text", T, "its fields as `name=value`, cut at 2,000 characters"),
    _f("passed_over_n", INT, "entries before this one that were too many"),
)

REQUEST: Final = Table(
    (
        _f("action", T, "`pause`, `resume`, `reduce_only`, `flatten`, `kill` or `reload`"),
        _f("run", T, "name of the run that is meant"),
        _f("request_id", T, "the same id is the same request"),
        _f("asked_ms", INT, "when it was signed", MS),
        _f("signature", T, "HMAC-SHA256 in hex, see docs/control.md"),
        Field("reason", T, "in words", always=False),
    )
)
ANSWER: Final = Table(
    (
        _f("request_id", T, "of the request"),
        _f("answer", T, "the answer, as the JSON text that was signed"),
        _f("signature", T, "HMAC-SHA256 in hex"),
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
        (_f("payload", REQUEST, "a signed request"),),
        length="1,000",
        writer="operators",
    ),
    Key(
        "answers",
        "stream",
        "answers to them",
        (_f("payload", ANSWER, "a signed answer"),),
        lifetime="1 h",
        length="200",
    ),
)
CHANNEL: Final = "changes"
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


_STOPPED: Final = (_rare("daemon", T, "`stopped` after a clean end"),)

TOPICS: Final = (
    Topic("status", "the book in numbers", "status", retained=True, extra=_STOPPED),
    Topic("positions", "what is held", "positions", retained=True),
    Topic("targets", "what is wanted", "targets", retained=True),
    Topic("predictions", "forecasts", "predictions", retained=True),
    Topic("feed", "health of the data", "feed", retained=True),
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
