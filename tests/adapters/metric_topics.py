"""Topics in which every field that a metric is made of is known."""

from __future__ import annotations

from typing import Any

from adapters import prometheus_text as text

NUMBERS = {"connected": True, "delivered_n": 3, "dropped_n": 1, "outages_n": 2, "waiting_n": 0}


def fields(numbers: tuple[Any, ...]) -> dict[str, float]:
    return {one.field: 1.5 for one in numbers}


FULL: dict[str, dict[str, Any]] = {
    "status": {
        **fields(text._STATUS),
        "covariance": fields(text._COVARIANCE),
        "margin_ratios": {"binanceusdm": "0.1"},
    },
    "runtime": {
        **fields(text._RUNTIME),
        "version": "1.0",
        "run": "paper",
        "strategy": "neutral",
        "exchange": "binanceusdm",
        "trading_state": "trading",
        "paused": False,
        "holds": ["binanceusdm clock_offset"],
        "orders": {"inflight": 0, "resting": 2, "uncertain": 0},
        "limits": fields(text._LIMITS),
        "cpu_s": 4.2,
        "decisions_missed_n": 0,
        "counts": {
            "events": 9,
            "fills": 2,
            "turnover": "2500.25",
            "estimates_missing": 0,
            "decisions": {"traded": 3},
            "orders": {"submitted": 4},
            "refusals": {"halted": 0},
            "alerts": {"feed": 1},
        },
        "loop_lag_p50_s": 0.001,
        "loop_lag_p99_s": 0.01,
        "loop_lag_max_s": 0.02,
        "sinks": {"redis": NUMBERS},
        "forecasts": {"1h": {"as_of_ms": 1_700_000_000_000, "age_s": 60.0, "model": "m1"}},
        "covariance_fallback": False,
    },
    "feed": {
        "binanceusdm": {
            **fields(text._FEED),
            **{key: 1 for _, key, _ in text._FEED_COUNTS},
            **{key: 1 for _, key in text._RECONNECTS},
            "finality_p50_s": 0.1,
            "finality_p99_s": 0.5,
            "bars_by_stream_n": 8,
            "bars_by_reread_n": 2,
        }
    },
    "positions": {"BTC/USDT:USDT": fields(text._POSITION)},
    "targets": {"BTC/USDT:USDT": fields(text._TARGET)},
}
