"""What people see in the terminal: complete, honest about gaps, never wider than 100 columns."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from rich.console import Console, RenderableType

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.forecast import Prediction, Signals
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import Alert, AlertKind
from daemon.domain.order import Fill, Order, OrderId, OrderKind, RefusalReason, Refused
from daemon.domain.portfolio import Solved, TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.report import figures
from daemon.report.terminal import (
    alert_line,
    by_rank,
    decision_line,
    decision_view,
    equity_line,
    fill_line,
)
from daemon.report.terminal_status import status_view

AT_MS = 1_717_246_800_000  # 2024-06-01T13:00:00Z
NAN = float("nan")


def shown(renderable: RenderableType, width: int = 100) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None).print(renderable)
    return stream.getvalue()


def symbols(n: int) -> list[str]:
    return [f"C{i}/USDT:USDT" for i in range(n)]


def order(index: int, quantity: str) -> Order:
    key = InstrumentKey("v", symbols(index + 1)[index])
    kind = OrderKind.MARKET
    return Order(OrderId(f"o{index}"), key, index, Decimal(quantity), kind, AT_MS, 100.0)


def decision(alpha: list[float], orders: tuple[Order, ...] = (), **changes: Any) -> Decision:
    values, n = np.array(alpha), len(alpha)
    even = np.full(n, 0.6)
    signals = Signals(AT_MS, values, even, even, values, even, even, np.abs(values))
    weights = np.nan_to_num(values)
    target = TargetPortfolio(AT_MS, weights, weights, np.full(n, 0.01), signals)
    frames = tuple(
        Prediction(Timeframe(m), AT_MS, values, np.full(n, 0.01), "m") for m in (60, 90, 120)
    )
    made = Decision(
        as_of_ms=AT_MS,
        sequence=7,
        kind=DecisionKind.TRADED,
        bars_digest="",
        absent=(),
        equity=10_012.34,
        marks=np.full(n, 100.0),
        weights_before=weights * 0.5,
        predictions=frames,
        target=target,
        orders=orders,
        refusals=(),
    )
    return replace(made, **changes)


def test_a_decision_lists_instruments_by_rank_with_their_orders() -> None:
    made = decision([-0.2, NAN, 0.3], (order(2, "1.5"), order(0, "-2"), order(0, "-1")))
    text = shown(decision_view(made, symbols(3), start_equity=10_000.0))
    rows = [
        line.split() for line in text.splitlines() if line.split()[1:2] in (["C0"], ["C1"], ["C2"])
    ]
    assert [(row[0], row[1]) for row in rows] == [("1", "C2"), ("2", "C0"), ("·", "C1")]
    assert "BUY 1.5" in text
    assert "SELL 3 in 2" in text
    assert "2024-06-01 13:00 UTC   decision 7   traded" in text
    assert "equity 10,012.34 +0.12 %" in text
    assert "gross 25 % → 50 %" in text
    assert "net +5.00 % → +10.00 %" in text
    assert "3 orders" in text


def test_a_missing_forecast_is_a_gap_and_never_a_zero() -> None:
    text = shown(decision_view(decision([0.1, NAN]), symbols(2)))
    (row,) = [line for line in text.splitlines() if " C1 " in line]
    assert row.split().count("·") >= 4  # rank and three timeframes


def test_absentees_refusals_and_notes_are_told_in_words() -> None:
    refused = (Refused(order(0, "-3"), RefusalReason.NOTIONAL_MIN, "3.1 below 5"),)
    made = decision([0.1, -0.1], absent=(1,), refusals=refused, note="a word")
    text = shown(decision_view(made, symbols(2)))
    assert "no bar in time: C1/USDT" in text
    assert "refused C0/USDT -3: notional_min (3.1 below 5)" in text
    assert "a word" in text


def test_a_decision_says_how_its_weights_were_solved_and_what_took_over() -> None:
    made = decision([0.1, -0.1])
    assert made.target is not None
    solved = Solved("piqp", "0.6.4", "SOLVED", 11, 1e-8)
    failed = replace(solved, status="MAX_ITER_REACHED", fallback="piqp said MAX_ITER_REACHED")
    told = [
        shown(decision_view(replace(made, target=replace(made.target, solved=one)), symbols(2)))
        for one in (solved, failed)
    ]
    assert "piqp 0.6.4: solved, 11 iterations" in told[0]
    assert "closed form in the place of piqp 0.6.4: piqp said MAX_ITER_REACHED" in told[1]


def test_of_a_large_universe_the_ends_and_the_traded_are_shown() -> None:
    alpha = [(100 - i) / 1000 for i in range(200)]
    text = shown(decision_view(decision(alpha, (order(100, "1"),)), symbols(200)))
    for index in (0, 11, 100, 188, 199):
        assert f" C{index} " in text
    for index in (12, 99, 187):
        assert f" C{index} " not in text
    assert "and 175 more between them" in text


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("n", [1, 2, 12, 24, 60])
def test_nothing_is_wider_than_the_terminal_and_the_table_is_not_cut(n: int, width: int) -> None:
    orders = tuple(order(i, "-12.345") for i in range(min(n, 5)))
    made = decision([(-1) ** i * 0.123456 / n * (1 + i / n) for i in range(n)], orders)
    text = shown(decision_view(made, symbols(n), start_equity=9_000.0), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    (heading,) = [line for line in text.splitlines() if "instrument" in line]
    assert heading.split() == [
        *("#", "instrument", "1h", "90m", "2h", "strength", "sure", "now", "%", "target", "%"),
        "order",
    ]
    rows = [line for line in text.splitlines() if line.split()[1:2] and " C" in line[:6]]
    assert len(rows) >= min(n, 24)


def test_a_large_decision_and_its_fill_take_one_line_of_80_columns_each() -> None:
    made = decision([0.5, -0.5], tuple(order(0, "1") for _ in range(99)), equity=99_999.99)
    assert len(shown(decision_line(made, start_equity=120_000.0), 80).splitlines()) == 1
    numbers = (Decimal("-123.4567"), Decimal("64250.10"), Decimal("3.9661"))
    fill = Fill("t", OrderId("o"), InstrumentKey("v", "DOGE/USDT:USDT"), 0, *numbers, AT_MS)
    wide = replace(fill, quantity=Decimal("-0.1234567"))
    assert len(shown(fill_line(wide), 80).splitlines()) == 1


def test_a_decision_without_target_or_forecasts_still_says_where_we_are() -> None:
    made = decision(
        [0.0], target=None, predictions=(), kind=DecisionKind.WARMING, note="112 of 200 bars"
    )
    text = shown(decision_view(made, symbols(1)))
    assert "warming" in text
    assert "112 of 200 bars" in text
    assert "instrument" not in text


def test_instruments_without_alpha_come_last() -> None:
    assert by_rank(decision([NAN, -0.5, 0.5, NAN])) == [2, 1, 0, 3]


def test_a_fill_says_side_size_price_notional_and_fee_in_one_line() -> None:
    numbers = (Decimal("-1.25"), Decimal("141.23"), Decimal("0.0883"))
    made = Fill("t", OrderId("o"), InstrumentKey("v", "SOL/USDT:USDT"), 0, *numbers, AT_MS)
    text = shown(fill_line(made)).strip()
    assert text.split() == [
        *("13:00:00", "filled", "SELL", "1.25", "SOL/USDT", "at", "141.23", "=", "176.54"),
        *("fee", "0.0883"),
    ]


def test_alerts_and_equity_take_one_line_each() -> None:
    alert = shown(alert_line(Alert(AlertKind.HALTED, AT_MS, "order x unresolved")))
    assert alert.strip() == "2024-06-01 13:00 UTC  ! halted  order x unresolved"
    assert "10,012.10  +0.121 %  net -0.3 %" in shown(equity_line(AT_MS, 10_012.1, 1e4, -0.003))


# ---- status --------------------------------------------------------------------------------------


def full_status() -> dict[str, Any]:
    return {
        "daemon": "running",
        "run": "paper",
        "meta": {"strategy": "neutral", "exchange": "binanceusdm"},
        "status": {
            "market_time": "2024-06-01T13:00:00Z",
            "trading_state": "reduce_only",
            "equity": "10012.34",
            "cash": "9400.87",
            "gross_weight": "0.912",
            "net_weight": "-0.0406",
            "fees": "0.56",
            "funding": "-1.25",
            "turnover": "950",
            "fills_n": "3",
            "positions_n": "1",
            "orders_open_n": "0",
            "decisions_n": "412",
            "next_decision": "2024-06-01T14:00:00Z",
            "note": "a word",
        },
        "positions": {
            "SOL/USDT:USDT": {
                "quantity": "-1.25",
                "average_price": "141.23",
                "mark": 140.1,
                "weight": -0.0175,
                "gain": 1.41,
            }
        },
        "targets": {
            "SOL/USDT:USDT": {"rank": 2, "weight": -0.02},
            "BTC/USDT:USDT": {"rank": 1, "weight": 0.02},
        },
        "decisions": [{"as_of": "2024-06-01T13:00:00Z", "sequence": "412", "kind": "traded"}],
        "fills": [
            {
                "at": "2024-06-01T13:00:00Z",
                "symbol": "SOL/USDT:USDT",
                "quantity": "-1.25",
                "price": "141.23",
                "fee": "0.0883",
            }
        ],
        "alerts": [{"at": "2024-06-01T13:00:00Z", "kind": "bar_revised", "text": "BTC"}],
    }


def test_the_status_shows_health_figures_book_and_what_came_last() -> None:
    text = shown(status_view(full_status()))
    for part in (
        *("● paper running", "reduce only", "neutral · binanceusdm", "2024-06-01 13:00 UTC"),
        *("equity 10,012.34", "gross 91.2 %", "net -4.06 %", "funding -1.25", "next 14:00 UTC"),
        *("a word", "#412 traded", "SELL", "! bar revised", "open orders 0"),
    ):
        assert part in text
    rows = [line.split() for line in text.splitlines() if line.split()[1:2] in (["BTC"], ["SOL"])]
    assert [row[1] for row in rows] == ["BTC", "SOL"]
    assert "+1.41" in rows[1]
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text


def test_the_health_of_the_bands_is_shown_once_it_is_known() -> None:
    status = full_status()
    assert "band health" not in shown(status_view(status))
    status["status"]["band_health"] = "1.384"
    assert "band health 1.38" in shown(status_view(status))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_a_full_book_is_shown_at_every_width_without_losing_a_digit(width: int) -> None:
    status = full_status()
    bases = ["BTC", "NEAR", "DOGE", "AVAX", "LINK", "SOL", "DOT", "XRP", "LTC", "ADA", "BNB", "UNI"]
    held: dict[str, object] = {
        "quantity": "-12345.67",
        "average_price": "64250.10",
        "mark": 64321.5,
        "weight": -0.1675,
        "gain": -1234.56,
    }
    named = [f"{base}/USDT:USDT" for base in bases]
    status["positions"] = dict.fromkeys(named, held)
    status["targets"] = {s: {"rank": i + 1, "weight": 0.1} for i, s in enumerate(named)}
    status["status"] = {**status["status"], "fills_n": "12345"}
    fill = {**status["fills"][0], "quantity": "-12345.678", "price": "64250.1", "fee": "12.0883"}
    status["fills"] = [fill]
    decided = {"equity": "10012.34", "gross_weight": "0.88", "net_weight": "-0.0026"}
    status["decisions"] = [{**status["decisions"][0], **decided, "orders": [1] * 12}]
    text = shown(status_view(status), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for part in ("-12345.67", "64,250.10", "64,321.50", "-16.8", "-1,234.56", "12  UNI"):
        assert part in text
    assert "fills 12,345" in text
    assert "SELL   12345.678 SOL/USDT    at  64,250.10  fee 12.0883" in text
    assert "#412 traded  10,012.34  gross 88 %  net -0.26 %  12 orders" in text
    assert ("█" in text) == (width >= 98)  # weight bars only where there is room


@pytest.mark.parametrize("health", ["stopped", "lost"])
def test_a_daemon_that_is_gone_is_told_above_what_it_showed_last(health: str) -> None:
    text = shown(status_view({**full_status(), "daemon": health}))
    assert f"paper {health}" in text
    assert "showed last" in text
    assert "equity 10,012.34" in text


@pytest.mark.parametrize("health", ["absent", "unreachable"])
def test_where_nothing_is_shown_the_reason_and_a_hint_are(health: str) -> None:
    status = {"daemon": health, "run": "paper", "why": "because of it", "runs": ["other"]}
    text = shown(status_view(status))
    assert f"paper: {health}" in text
    assert "because of it" in text
    assert "known runs: other" in text
    assert "redis.url" in text


def test_a_status_without_most_of_its_fields_is_still_shown() -> None:
    text = shown(status_view({"daemon": "running", "run": "paper", "status": {}, "meta": {}}))
    assert "● paper running" in text
    assert "equity ·" in text


# ---- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((64250.1, "64,250.10"), (141.23, "141.23"), (1.2, "1.2000"), (0.0000231, "0.00002310")),
        *((0.0, "·"), (NAN, "·"), (None, "·"), (-1.0, "·")),
    ],
)
def test_prices_show_five_digits(value: float | None, text: str) -> None:
    assert figures.price(value) == text


def test_signs_have_colours_and_zero_has_none() -> None:
    assert [str(figures.signed(x).style) for x in (1.0, -1.0, 0.0, NAN)] == [
        *("green", "red", "dim", "dim")
    ]
    assert figures.signed(-0.0001, ".2f").plain == "0.00"


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "    "), (1.0, "████"), (0.5, "██  "), (2.0, "████"), (0.03, "▏   "), (NAN, "    ")],
)
def test_bars_grow_in_eighths(share: float, text: str) -> None:
    assert figures.bar(share, 4).plain == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "   │   "), (1.0, "   │███"), (-1.0, "███│   "), (0.01, "   │█  "), (NAN, "   │   ")],
)
def test_balance_bars_grow_to_their_side(share: float, text: str) -> None:
    assert figures.balance_bar(share, 3).plain == text


def test_names_are_as_short_as_they_stay_distinct() -> None:
    assert figures.names_of(["BTC/USDT:USDT", "ETH/USDT:USDT"]) == ["BTC", "ETH"]
    assert figures.names_of(["BTC/USDT:USDT", "BTC/USDC:USDC"]) == ["BTC/USDT", "BTC/USDC"]
    assert figures.short_symbol("BTC/USD:BTC") == "BTC/USD:BTC"


@pytest.mark.parametrize(
    ("value", "number"),
    [("1.5", 1.5), (2, 2.0), ("", None), (None, None), ("nan", None), (True, None), ("x", None)],
)
def test_fields_are_numbers_or_gaps(value: object, number: float | None) -> None:
    assert figures.number_of(value) == number
