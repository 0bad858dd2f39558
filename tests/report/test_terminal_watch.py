"""The live view at fixed widths and heights, healthy, stale and cut off."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from daemon.report.terminal_watch import NOTHING_YET, Watched, watch_line, watch_view

NOW_MS = 1_717_246_800_000  # 2024-06-01 13:00 UTC
BASES = ("BTC", "ETH", "SOL", "DOGE", "XRP", "BNB", "ADA", "LINK", "LTC", "NEAR", "AVAX", "DOT")


def shown(seen: Watched, width: int, height: int = 50, now_ms: int = NOW_MS) -> str:
    console = Console(width=width, file=io.StringIO(), record=True, color_system=None)
    console.print(watch_view(seen, now_ms, width, height))
    return console.export_text()


def limit(now: float | None, bound: float | None) -> dict[str, Any]:
    return {"now": now, "limit": bound}


def book() -> dict[str, Any]:
    positions = {
        f"{base}/USDT:USDT": {
            "quantity": "1.25", "mark": "141.23", "weight": str(0.2 - 0.03 * i), "gain": "-12.5"
        }
        for i, base in enumerate(BASES)
    }  # fmt: skip
    targets = {
        f"{base}/USDT:USDT": {
            "rank": i + 1, "weight": 0.2 - 0.03 * i, "band": 0.015, "alpha": 0.05 - 0.01 * i
        }
        for i, base in enumerate(BASES)
    }  # fmt: skip
    return {"positions": positions, "targets": targets}


def values(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "daemon": "running",
        "run": "paper",
        "meta": {"strategy": "neutral", "exchange": "binanceusdm"},
        "status": {
            "market_time": "2024-06-01T13:00:00Z",
            "trading_state": "trading",
            "equity": "10012.34",
            "gross_weight": "0.912",
            "net_weight": "-0.0406",
            "fees": "12.5",
            "funding": "-1.25",
            "positions_n": "12",
            "orders_open_n": "1",
            "fills_n": "412",
            "next_decision": "2024-06-01T14:00:00Z",
            "next_decision_ms": str(NOW_MS + 3_600_000),
        },
        **book(),
        "predictions": {
            f"{base}/USDT:USDT": {
                "1h": {"mean": 0.01},
                "90m": {"mean": -0.02},
                "2h": {"mean": 0.03},
            }
            for base in BASES
        },
        "risk": {
            "limits": {
                "gross_weight_max": limit(0.912, 2.0),
                "net_weight_max": limit(-0.0406, 0.05),
                "drawdown_max": limit(0.031, 0.15),
                "day_loss_max": limit(0.012, None),
            },
            "unresolved_n": "0",
        },
        "orders": {
            "open": {"eq1": {"symbol": "SOL/USDT:USDT", "quantity": "-2", "state": "resting"}}
        },
        "feed": {"binanceusdm": {"stream_share": "1.0", "finality_p99_s": "1.25", "absent_n": "0"}},
        "decisions": [
            {"as_of": "2024-06-01T13:00:00Z", "sequence": "412", "kind": "traded", "orders": [1, 2]}
        ],
        "fills": [
            {
                "at": "2024-06-01T13:00:00Z",
                "symbol": "SOL/USDT:USDT",
                "quantity": "-1.25",
                "price": "141.23",
                "fee": "0.0883",
            }
        ]
        * 8,
        "alerts": [
            {"at": "2024-06-01T12:00:00Z", "kind": "no_decision", "text": "3 bars absent: BTC"}
        ],
    }
    return {**found, **changes}


HEALTHY = NOTHING_YET.with_look(values(), NOW_MS)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("height", [30, 40, 60])
def test_the_view_fits_the_terminal(width: int, height: int) -> None:
    for seen in (HEALTHY, HEALTHY.with_look({"daemon": "lost"}, NOW_MS + 1)):
        lines = shown(seen, width, height).splitlines()
        assert max(map(len, lines)) <= width
        assert len(lines) <= height, "\n".join(lines)


def test_a_low_terminal_of_80_columns_shows_the_top_and_the_largest_positions() -> None:
    lines = shown(HEALTHY, 80, 24).splitlines()
    assert len(lines) <= 24
    text = "\n".join(lines)
    assert "equity 10,012.34" in text
    assert "BTC" in text
    assert "and " in text
    assert " smaller" in text


def test_everything_that_matters_is_there_on_a_laptop() -> None:
    text = shown(HEALTHY, 120)
    for part in (
        *("● paper running", "trading", "neutral · binanceusdm", "2024-06-01 13:00 UTC"),
        *("equity 10,012.34", "drawdown 3.10 %", "today -1.20 %", "open orders 1", "fills 412"),
        *("91.2 %", "of 200 %", "-4.06 %", "of ±5 %", "of 15 %"),
        *("next decision 2024-06-01 14:00 UTC in 1 h 00 m", "held %", "target %", "band ±%"),
        *("! no decision 3 bars absent: BTC", "#412 traded, 2 orders", "open  SELL 2 SOL/USDT"),
        *("SELL 1.25 SOL/USDT at 141.23  fee 0.0883", "stream 100 %", "final in 1.2 s", "ok"),
        *("+5.0 of  +1.0  -2.0  +3.0", "+20.00"),
    ):
        assert part in text, part
    for base in BASES:
        assert f"\n{base} " in text


def test_a_phone_sees_the_same_without_what_there_is_no_room_for() -> None:
    text = shown(HEALTHY, 40, 60)
    for part in (
        *("● paper running", "13:00", "equity 10,012.34", "drawdown 3.10 %", "of ±5 %"),
        *("next decision 14:00 UTC in 1 h 00 m", "3 bars absent: BTC", "SELL 1.25 SOL at 141.23"),
    ):
        assert part in text, part
    assert "band ±%" not in text


def test_what_holds_the_book_back_is_said_and_so_are_orders_without_an_answer() -> None:
    risk = {**values()["risk"], "paused": True, "reasons": "by hand", "unresolved_n": 2}
    text = shown(NOTHING_YET.with_look(values(risk=risk), NOW_MS), 100)
    assert "! paused: by hand" in text
    assert "! 2 orders without an answer" in text


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ("lost", "NO HEARTBEAT since 13:00:00 UTC (1 m 05 s)"),
        ("unreachable", "SERVER UNREACHABLE since 13:00:00 UTC (1 m 05 s)"),
        ("stopped", "the daemon stopped at 13:00:00 UTC or before"),
        ("absent", "no daemon runs, seen since 13:00:00 UTC (1 m 05 s)"),
    ],
)
def test_what_is_old_says_since_when_and_keeps_what_it_showed(health: str, words: str) -> None:
    before = NOTHING_YET.with_look(values(), NOW_MS - 60_000)
    gone = before.with_look({"daemon": health, "why": "ConnectionError"}, NOW_MS)
    still = gone.with_look({"daemon": health}, NOW_MS + 30_000)
    text = shown(still, 100, now_ms=NOW_MS + 65_000)
    assert words in text
    assert "equity 10,012.34" in text
    back = still.with_look(values(), NOW_MS + 70_000)
    assert words not in shown(back, 100, now_ms=NOW_MS + 70_000)


def test_a_server_that_says_nothing_new_is_told() -> None:
    text = shown(HEALTHY, 100, now_ms=NOW_MS + 30_000)
    assert "nothing new from the server for 30 s" in text
    assert "nothing new" not in shown(HEALTHY, 100, now_ms=NOW_MS + 5_000)


def test_before_anything_is_known_it_waits() -> None:
    assert "waiting" in shown(NOTHING_YET, 80)


@pytest.mark.parametrize(
    ("left_ms", "words"),
    [(65_000, "in 1 m 05 s"), (5_000, "in 5 s"), (-12_000, "due for 12 s")],
)
def test_the_countdown_runs_and_says_when_a_decision_is_late(left_ms: int, words: str) -> None:
    status = {**values()["status"], "next_decision_ms": str(NOW_MS + left_ms)}
    assert words in shown(NOTHING_YET.with_look(values(status=status), NOW_MS), 80)


def test_a_market_of_another_day_has_no_countdown() -> None:
    status = {**values()["status"], "next_decision_ms": str(NOW_MS - 9 * 86_400_000)}
    text = shown(NOTHING_YET.with_look(values(status=status), NOW_MS), 80)
    assert "next decision 2024-06-01 14:00 UTC" in text
    assert "due for" not in text


def test_a_pipe_gets_one_plain_line() -> None:
    assert watch_line(HEALTHY) == (
        "2024-06-01T13:00:00Z paper running trading equity 10,012.34 drawdown 3.10 % gross 91.2 % "
        "net -4.06 % positions 12 open 1 fills 412 next 2024-06-01 14:00 UTC"
    )
    away = NOTHING_YET.with_look({"daemon": "absent", "why": "no daemon runs"}, NOW_MS)
    assert watch_line(away) == "-  absent no daemon runs"
