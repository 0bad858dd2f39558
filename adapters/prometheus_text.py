"""Write the topics that Redis and MQTT get as metrics: Prometheus text, or OpenMetrics when asked.

Pure: values in, bytes out; no server, no clock, no memory. Names follow the field: prefix
`equipoise_`, base units as the last word (`_seconds`, `_bytes`, `_ratio` from 0 to 1), counters end
in `_total` and begin at 0 with the process, which `_created` dates. Amounts are in quote currency.
What is not known is absent, never zero. Labels hold names of venues, timeframes, states and kinds,
which are few, and symbols, of which at most SYMBOLS_MAX are shown.

The whole list is in docs/metrics.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from daemon.status.codec import plain

PREFIX: Final = "equipoise_"
SYMBOLS_MAX: Final = 1000
LABEL_CHARS_MAX: Final = 120
TRADING_STATES: Final = ("starting", "reconciling", "trading", "reduce_only", "halted")

Topics = Mapping[str, Mapping[str, object]]
Values = Mapping[str, Any]
Row = tuple[tuple[str, ...], object]


@dataclass(frozen=True, slots=True)
class _Number:
    """Describe a metric that is one field of a topic; divisor: of the field's unit to the base."""

    name: str
    field: str
    help: str
    unit: str = ""
    divisor: float = 1.0


_STATUS: Final = (
    _Number("equity_quote", "equity", "Equity at marks, in quote currency."),
    _Number("cash_quote", "cash", "Cash of the book, in quote currency."),
    _Number("gross_exposure_ratio", "gross_weight", "Sum of absolute weights.", "ratio"),
    _Number("net_exposure_ratio", "net_weight", "Signed sum of weights.", "ratio"),
    _Number(
        "net_exposure_worst_ratio",
        "net_weight_worst",
        "Net weight furthest from zero that open orders may still bring.",
        "ratio",
    ),
    _Number(
        "beta_exposure_worst_ratio",
        "beta_weight_worst",
        "Weight times beta at its worst case; absent without a bound on it.",
        "ratio",
    ),
    _Number("positions", "positions_n", "Positions that are held."),
    _Number("orders_open", "orders_open_n", "Orders that are open with us."),
    _Number("orders_of_others_open", "orders_of_others_n", "Open orders that are not ours."),
    _Number("fees_quote", "fees", "Fees of the book since it began; rebates are negative."),
    _Number("funding_quote", "funding", "Funding of the book since it began; negative is paid."),
    _Number("band_health", "band_health", "Cost of trades over cost of waiting; 1 is right."),
)
_RUNTIME: Final = (
    _Number("market_time_seconds", "market_time_ms", "The market's time.", "seconds", 1e3),
    _Number("told_time_seconds", "at_ms", "When this was measured.", "seconds", 1e3),
    _Number("process_start_time_seconds", "started_ms", "Start of the process.", "seconds", 1e3),
    _Number("process_uptime_seconds", "uptime_s", "Age of the process.", "seconds"),
    _Number("process_resident_memory_bytes", "rss_bytes", "Memory held.", "bytes"),
    _Number("process_open_fds", "fds_n", "File descriptors in use."),
    _Number("process_max_fds", "fds_max", "File descriptors allowed."),
    _Number("process_threads", "threads_n", "Threads."),
    _Number("journal_size_bytes", "journal_bytes", "Size of the journal.", "bytes"),
    _Number("disk_free_bytes", "disk_free_bytes", "Free space under the state folder.", "bytes"),
    _Number("disk_size_bytes", "disk_total_bytes", "Size of that disk.", "bytes"),
    _Number("event_queue_length", "queue_n", "Events that wait for the engine."),
    _Number(
        "decision_time_seconds", "decision_ms", "Instant of the newest decision.", "seconds", 1e3
    ),
    _Number("decision_age_seconds", "decision_age_s", "Market time since that.", "seconds"),
    _Number("decision_interval_seconds", "decision_every_s", "From one to the next.", "seconds"),
    _Number(
        "next_decision_time_seconds", "next_decision_ms", "When the next is due.", "seconds", 1e3
    ),
    _Number("next_decision_seconds", "next_decision_s", "Market time until then.", "seconds"),
    _Number(
        "bars_age_seconds", "bars_age_s", "Market time since the newest bar closed.", "seconds"
    ),
    _Number("bars_interval_seconds", "bars_every_s", "Length of a source bar.", "seconds"),
    _Number(
        "forecast_stale_decisions", "stale_decisions_n", "Decisions in a row without forecast."
    ),
    _Number("series_silent", "series_silent_n", "Series of the model that bring nothing new."),
    _Number("equity_high_quote", "equity_high", "Equity that drawdown is measured from."),
    _Number("drawdown_ratio", "drawdown", "Loss from the highest equity.", "ratio"),
)
_COVARIANCE: Final = (
    _Number("correlation_predicted", "mean_correlation_said", "Mean correlation predicted."),
    _Number("correlation_realised", "mean_correlation_came", "Mean correlation that came."),
    _Number("covariance_excess_loss", "excess_loss", "Loss above that of the baseline."),
)
_LIMITS: Final = (
    _Number("gross_exposure_limit_ratio", "gross_weight_max", "Bound of gross.", "ratio"),
    _Number("net_exposure_limit_ratio", "net_weight_max", "Bound of net.", "ratio"),
    _Number("beta_exposure_limit_ratio", "beta_weight_max", "Bound of beta.", "ratio"),
    _Number("day_loss_limit_ratio", "day_loss_max", "Bound of the loss of a day.", "ratio"),
    _Number("drawdown_limit_ratio", "drawdown_max", "Drawdown that halts.", "ratio"),
)
_FEED: Final = (
    _Number("clock_offset_seconds", "clock_offset_ms", "Venue time minus ours.", "seconds", 1e3),
    _Number("clock_error_seconds", "clock_error_ms", "Bound of its error.", "seconds", 1e3),
    _Number("stream_share_ratio", "stream_share", "Bars that the stream proved.", "ratio"),
    _Number("request_weight", "weight_1m", "Request weight used in the last minute."),
    _Number("request_weight_limit", "weight_1m_max", "Request weight allowed in a minute."),
)
_FEED_COUNTS: Final = (
    ("bars_absent", "absent_n", "Bars that were due and do not exist."),
    ("bars_revised", "revisions_n", "Bars that the venue changed after they were final."),
    ("bars_removed", "bars_removed_n", "Bars that cleansing took out."),
    ("rest_failures", "rest_failures_n", "REST requests that failed."),
    ("rows_unreadable", "rows_unreadable_n", "Rows of a venue that could not be read."),
    ("requests", "requests_n", "REST requests."),
    ("requests_refused", "requests_refused_n", "REST requests that the venue refused."),
    ("suspensions", "suspended_n", "Times that this machine stood still."),
)
_RECONNECTS: Final = (
    ("replaced", "sockets_replaced_n"),
    ("rotated", "sockets_rotated_n"),
    ("broken", "sockets_broken_n"),
)
_POSITION: Final = (
    _Number("position_weight_ratio", "weight", "Signed weight held.", "ratio"),
    _Number("position_notional_quote", "notional", "Signed value held, in quote currency."),
    _Number("position_gain_quote", "gain", "Gain of what is held, in quote currency."),
)
_TARGET: Final = (
    _Number("target_weight_ratio", "weight", "Signed weight that is wanted.", "ratio"),
    _Number("target_band_ratio", "band", "Distance within which nothing is traded.", "ratio"),
    _Number("signal_alpha", "alpha", "Expected residual return, in volatilities."),
)
_SINK: Final = (("delivered", "delivered_n"), ("dropped", "dropped_n"), ("outages", "outages_n"))
_SINK_HELP: Final = {
    "delivered": "Values that a sink has confirmed.",
    "dropped": "Values given up because a sink was away too long.",
    "outages": "Times that a sink was lost.",
}


def exposition(topics: Topics, accept: str = "") -> tuple[bytes, str]:
    """Write the newest values of each topic as text; give it with its content type.

    topics: by name, as published; domain values and plain JSON are both taken, unknown topics are
    passed over. accept: the scraper's Accept header; OpenMetrics is written only where it asks.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Topics({name: plain(values) for name, values in topics.items()}))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Topics(Collector):
    """Give the metric families of some topics."""

    def __init__(self, topics: Mapping[str, Values]) -> None:
        self._topics = topics

    def describe(self) -> Iterable[Metric]:
        """Say nothing before the values are known."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Give every family that has a value."""
        runtime, status = self._of("runtime"), self._of("status")
        for source, numbers in ((status, _STATUS), (runtime, _RUNTIME)):
            yield from _numbers(source, numbers)
        yield from _build(runtime)
        yield from _trading(status, runtime)
        yield from _numbers(_table(runtime, "limits"), _LIMITS)
        yield from _counts(runtime)
        yield from _lag(runtime)
        yield from _sinks(runtime)
        yield from _forecasts(runtime)
        yield from _covariance(status, runtime)
        yield from _feed(self._of("feed"), _seconds(runtime.get("started_ms")))
        yield from _by_symbol(self._of("positions"), _POSITION)
        yield from _by_symbol(self._of("targets"), _TARGET)
        yield from _margins(status)

    def _of(self, topic: str) -> Values:
        return self._topics.get(topic, {})


# ---- families ----------------------------------------------------------------------------------


def _numbers(values: Values, numbers: Iterable[_Number]) -> Iterator[Metric]:
    for one in numbers:
        yield from _gauge(one, (), [((), values.get(one.field))])


def _build(runtime: Values) -> Iterator[Metric]:
    names = ("version", "run", "strategy", "exchange")
    found = {name: _label(runtime[name]) for name in names if runtime.get(name)}
    if found:
        yield InfoMetricFamily(f"{PREFIX}build", "What runs here.", value=found)


def _trading(status: Values, runtime: Values) -> Iterator[Metric]:
    state = runtime.get("trading_state") or status.get("trading_state")
    if state:
        states = {name: name == state for name in TRADING_STATES}
        yield StateSetMetricFamily(
            f"{PREFIX}trading_state", "What the daemon may do with orders.", value=states
        )
    paused = runtime.get("paused")
    yield from _gauge(_Number("paused", "", "1 while an operator paused it."), (), [((), paused)])
    holds = runtime.get("holds")
    count = len(holds) if isinstance(holds, list) else None
    yield from _gauge(_Number("holds", "", "Reasons not to open risk."), (), [((), count)])
    orders = [((name,), n) for name, n in _table(runtime, "orders").items()]
    number = _Number("orders_by_state", "", "Open orders by what is known of them.")
    yield from _gauge(number, ("state",), orders)


def _counts(runtime: Values) -> Iterator[Metric]:
    counts, since = _table(runtime, "counts"), _seconds(runtime.get("started_ms"))
    alone = (
        ("events", "events", "Events that the engine took."),
        ("fills", "fills", "Fills of our orders."),
        ("forecasts_missing", "estimates_missing", "Forecasts that did not come."),
        ("turnover_quote", "turnover", "Absolute value traded, in quote currency."),
    )
    for name, key, told in alone:
        yield from _counter(name, told, (), [((), counts.get(key))], since)
    missed = [((), runtime.get("decisions_missed_n"))]
    yield from _counter("decisions_missed", "Closes without a decision.", (), missed, since)
    cpu = [((), runtime.get("cpu_s"))]
    yield from _counter("process_cpu_seconds", "Time on a core.", (), cpu, since, "seconds")
    by_label = (
        ("decisions", "kind", "Decisions by kind."),
        ("orders", "outcome", "Orders by what became of them."),
        ("refusals", "reason", "Orders that risk refused, by reason."),
        ("alerts", "kind", "Alerts by kind."),
    )
    for name, label, told in by_label:
        rows = [((key,), n) for key, n in _table(counts, name).items()]
        yield from _counter(name, told, (label,), rows, since)


def _lag(runtime: Values) -> Iterator[Metric]:
    fields = (("0.5", "loop_lag_p50_s"), ("0.99", "loop_lag_p99_s"), ("1", "loop_lag_max_s"))
    rows = [((quantile,), runtime.get(name)) for quantile, name in fields]
    number = _Number("loop_lag_seconds", "", "How late the loop came, last minute.", "seconds")
    yield from _gauge(number, ("quantile",), rows, kind="summary")


def _sinks(runtime: Values) -> Iterator[Metric]:
    sinks = {name: one for name, one in _table(runtime, "sinks").items() if isinstance(one, dict)}
    since = _seconds(runtime.get("started_ms"))
    for name, key, told in (
        ("sink_connected", "connected", "1 while a telemetry sink takes what is told."),
        ("sink_waiting", "waiting_n", "Values that wait for a sink."),
    ):
        rows = [((sink,), one.get(key)) for sink, one in sinks.items()]
        yield from _gauge(_Number(name, key, told), ("sink",), rows)
    for name, key in _SINK:
        rows = [((sink,), one.get(key)) for sink, one in sinks.items()]
        yield from _counter(f"sink_{name}", _SINK_HELP[name], ("sink",), rows, since)


def _forecasts(runtime: Values) -> Iterator[Metric]:
    found = {k: v for k, v in _table(runtime, "forecasts").items() if isinstance(v, dict)}
    for number in (
        _Number("forecast_age_seconds", "age_s", "Market time since a forecast.", "seconds"),
        _Number("forecast_time_seconds", "as_of_ms", "Instant of it.", "seconds", 1e3),
    ):
        rows = [((timeframe,), one.get(number.field)) for timeframe, one in found.items()]
        yield from _gauge(number, ("timeframe",), rows)
    models = [
        ((timeframe, str(one["model"])), 1) for timeframe, one in found.items() if one.get("model")
    ]
    told = _Number("model_info", "", "Model that forecasts a timeframe, always 1.")
    yield from _gauge(told, ("timeframe", "model"), models)


def _covariance(status: Values, runtime: Values) -> Iterator[Metric]:
    yield from _numbers(_table(status, "covariance"), _COVARIANCE)
    number = _Number("covariance_fallback", "", "1 while another estimator speaks instead.")
    yield from _gauge(number, (), [((), runtime.get("covariance_fallback"))])


def _feed(feed: Values, since: float | None) -> Iterator[Metric]:
    venues = {venue: one for venue, one in feed.items() if isinstance(one, dict)}
    for number in _FEED:
        rows = [((venue,), one.get(number.field)) for venue, one in venues.items()]
        yield from _gauge(number, ("venue",), rows)
    quantiles = [
        ((venue, quantile), one.get(key))
        for venue, one in venues.items()
        for quantile, key in (("0.5", "finality_p50_s"), ("0.99", "finality_p99_s"))
    ]
    told = _Number("bar_finality_seconds", "", "From a bar's close to its proof.", "seconds")
    yield from _gauge(told, ("venue", "quantile"), quantiles, kind="summary")
    for name, key, text in _FEED_COUNTS:
        rows = [((venue,), one.get(key)) for venue, one in venues.items()]
        yield from _counter(name, text, ("venue",), rows, since)
    proofs = [
        ((venue, proof), one.get(key))
        for venue, one in venues.items()
        for proof, key in (("stream", "bars_by_stream_n"), ("reread", "bars_by_reread_n"))
    ]
    yield from _counter(
        "bars", "Final bars, by what proved them.", ("venue", "proof"), proofs, since
    )
    sockets = [
        ((venue, why), one.get(key)) for venue, one in venues.items() for why, key in _RECONNECTS
    ]
    text = "Sockets dialled anew, by reason."
    yield from _counter("reconnects", text, ("venue", "reason"), sockets, since)


def _by_symbol(topic: Values, numbers: Iterable[_Number]) -> Iterator[Metric]:
    known = sorted(name for name, one in topic.items() if isinstance(one, dict))[:SYMBOLS_MAX]
    for number in numbers:
        rows = [((name,), topic[name].get(number.field)) for name in known]
        yield from _gauge(number, ("symbol",), rows)


def _margins(status: Values) -> Iterator[Metric]:
    number = _Number("margin_ratio", "", "Maintenance margin over margin balance.", "ratio")
    rows = [((venue,), ratio) for venue, ratio in _table(status, "margin_ratios").items()]
    yield from _gauge(number, ("venue",), rows)


# ---- parts -------------------------------------------------------------------------------------


def _gauge(
    one: _Number, labels: tuple[str, ...], rows: Iterable[Row], kind: str = "gauge"
) -> Iterator[Metric]:
    known = [(names, value / one.divisor) for names, value in _known(rows)]
    if known:
        family = Metric(PREFIX + one.name, one.help, kind, one.unit)
        for names, value in known:
            family.add_sample(family.name, dict(zip(labels, names, strict=True)), value)
        yield family


def _counter(
    name: str,
    text: str,
    labels: tuple[str, ...],
    rows: Iterable[Row],
    since_s: float | None,
    unit: str = "",
) -> Iterator[Metric]:
    known = [(names, value) for names, value in _known(rows) if value >= 0]
    if known:
        family = CounterMetricFamily(PREFIX + name, text, labels=labels, unit=unit)
        for names, value in known:
            family.add_metric(names, value, created=since_s)
        yield family


def _known(rows: Iterable[Row]) -> Iterator[tuple[tuple[str, ...], float]]:
    for names, value in rows:
        number = _number(value)
        if number is not None:
            yield tuple(_label(name) for name in names), number


def _number(value: object) -> float | None:
    """Read a number, also one that is written as text to stay exact; None for what is none."""
    if not isinstance(value, bool | int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _seconds(ms: object) -> float | None:
    number = _number(ms)
    return None if number is None else number / 1000


def _label(text: object) -> str:
    return str(text)[:LABEL_CHARS_MAX]


def _table(values: Values, name: str) -> Values:
    found = values.get(name)
    return found if isinstance(found, dict) else {}
