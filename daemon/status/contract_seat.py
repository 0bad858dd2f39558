"""The part of the contract that an operator's seat needs beside the book: orders, risk, process."""

from __future__ import annotations

from typing import Final

from daemon.status.shapes import (
    BASE,
    INT,
    MS,
    QUOTE,
    B,
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

S: Final = "seconds"
BYTES: Final = "bytes"
PERCENT: Final = "percent"

OPEN_ORDER: Final = Table(
    (
        f("symbol", T, "instrument"),
        f("venue", T, "where it was sent"),
        f("state", T, "`inflight`, `resting` or `uncertain`"),
        f("kind", T, "`market` or `limit`"),
        f("quantity", X, "signed", BASE),
        f("filled", X, "of it", BASE),
        maybe("limit_price", X, "of a limit order", QUOTE),
        maybe("reference_price", N, "it was sized with", QUOTE),
        f("reduce_only", B, "it may only lessen a position"),
        f("as_of_ms", INT, "instant of its decision", MS),
        f("sent_ms", INT, "market time when it was sent", MS),
    )
)
ORDERS: Final = (
    f("open_n", INT, "orders open or uncertain"),
    f("submitted_n", INT, "sent since the book was begun"),
    f("ended_n", INT, "ended since then"),
    f("open", Named(OPEN_ORDER), "the newest 60 by our id"),
)

LIMIT: Final = Table(
    (
        maybe("limit", N, "the bound; null where it is off"),
        maybe("now", N, "what is measured; null where nothing is"),
    )
)
RISK: Final = (
    f("trading_state", T, "as in `status`"),
    f("paused", B, "no new risk is taken"),
    f("flattening", B, "every position is being closed"),
    f("reduce_only", B, "an operator allows only what lessens positions"),
    f("halted_why", T, "why nothing is sent"),
    f("day_lost", B, "the limit on a day's loss was reached"),
    f("holds", Named(T), "what else holds the book, with its reason"),
    f("reasons", T, "all of that in words"),
    f("unresolved_n", INT, "orders whose fate is unknown"),
    f("limits", Named(LIMIT), "by name of the limit in `[risk]`"),
)

MODEL: Final = Table(
    (
        f("model_id", T, "its hash"),
        f("kind", T, "kind of model"),
        f("champion", B, "it forecasts, or would at the next start"),
        f("data_to_ms", INT, "end of the bars it learned from", MS),
        f("origin", T, "what market they were of"),
        f("symbols_n", INT, "instruments it learned from"),
    )
)
MODELS: Final = (
    f("models", Listed(MODEL), "the newest of the registry"),
    f("note", T, "why it cannot be read"),
)

CORRELATION: Final = (
    f("as_of_ms", INT, "instant of the decision", MS),
    f("symbols", Listed(T), "at most 24, those with the largest targets"),
    maybe("estimator", T, "whose prediction it is"),
    rare(
        "predicted",
        Listed(INT, known=False),
        "lower triangle, row by row; null where unknown",
        PERCENT,
    ),
    rare("realised", Listed(INT, known=False), "the same of the bars before", PERCENT),
    maybe("realised_bars_n", INT, "hourly bars it is of"),
)

SINK: Final = Table(
    (
        f("server", T, "where it is"),
        f("connected", B, "it takes what it is told"),
        f("delivered_n", INT, "values and events delivered"),
        f("dropped_n", INT, "events dropped while it was away"),
        rare("refused_n", INT, "values nobody could write"),
        f("waiting_n", INT, "what waits"),
        f("outages_n", INT, "times it went away"),
        f("away_s", N, "how long it has been away", S),
    )
)
FORECAST: Final = Table(
    (
        f("as_of_ms", INT, "newest bar it saw", MS),
        f("age_s", N, "market time since", S),
        f("model", T, "id of the model"),
    )
)
COUNTS: Final = Table(
    (
        f("decisions", Named(INT), "by kind"),
        f("orders", Named(INT), "by what became of them"),
        f("refusals", Named(INT), "by the rule that refused"),
        f("alerts", Named(INT), "by kind"),
        f("estimates_missing", INT, "decisions whose forecasts came too late"),
        f("events", INT, "events processed"),
        f("fills", INT, "fills"),
        f("turnover", X, "traded", QUOTE),
    )
)
RUNTIME: Final = (
    f("at_ms", INT, "wall time of this look", MS),
    f("started_ms", INT, "wall time of the start", MS),
    f("uptime_s", N, "since then", S),
    f("version", T, "version of the software"),
    f("run", T, "name of the run"),
    f("strategy", T, "name of the strategy"),
    f("exchange", T, "id of the exchange"),
    rare("market", T, "`rehearsal` on the rehearsal exchange"),
    rare("cpu_s", N, "processor time of the process", S),
    rare("rss_bytes", INT, "resident memory", BYTES),
    rare("rss_peak_bytes", INT, "its peak, where only that is known", BYTES),
    rare("fds_n", INT, "open file descriptors"),
    rare("fds_max", INT, "how many it may open"),
    rare("threads_n", INT, "threads"),
    rare("journal_bytes", INT, "size of the journal", BYTES),
    rare("disk_free_bytes", INT, "free on its disk", BYTES),
    rare("disk_total_bytes", INT, "size of that disk", BYTES),
    rare("loop_lag_p50_s", N, "how late the event loop came, last minute, median", S),
    rare("loop_lag_p99_s", N, "the same, one look in a hundred is later", S),
    rare("loop_lag_max_s", N, "the same, worst", S),
    f("queue_n", INT, "events that wait for the engine"),
    f("sinks", Named(SINK), "by name: redis, mqtt, page, webhook .."),
    f("counts", COUNTS, "since the process began"),
    f("decisions_missed_n", INT, "closes without a decision since then"),
    f("market_time_ms", INT, "market time now", MS),
    f("trading_state", T, "as in `status`"),
    f("paused", B, "no new risk is taken"),
    f("holds", Listed(T), "what holds the book"),
    maybe("decision_ms", INT, "newest decision", MS),
    maybe("decision_age_s", N, "market time since", S),
    f("decision_every_s", N, "market time between two", S),
    f("next_decision_ms", INT, "when the next is due", MS),
    f("next_decision_s", N, "market time until then", S),
    maybe("bars_ms", INT, "newest bar of any instrument", MS),
    maybe("bars_age_s", N, "market time since", S),
    f("bars_every_s", N, "length of a source bar", S),
    f("forecasts", Named(FORECAST), "newest by timeframe"),
    f("stale_decisions_n", INT, "decisions in a row with stale forecasts"),
    f("series_silent_n", INT, "series that bring nothing new"),
    maybe("covariance_fallback", B, "the baseline is in use"),
    f("orders", Named(INT), "open ones by state"),
    maybe("equity_high", N, "highest equity that the drawdown counts from", QUOTE),
    maybe("drawdown", N, "below it", "fraction"),
    f("limits", Named(N), "bounds that alarms compare with"),
)
