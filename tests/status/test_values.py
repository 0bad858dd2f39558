"""Domain values become topics: what is known is shown, what is not is left out, never zero."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.forecast import Prediction, Signals
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.order import Fill, Order, OrderId, OrderKind, RefusalReason, Refused
from daemon.domain.portfolio import Ledger, Solved, TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.status.codec import plain
from daemon.status.values import (
    decision_topics,
    decision_values,
    fill_values,
    positions_values,
    ranks,
    status_values,
    targets_values,
)

AT_MS = 1_704_070_800_000  # 2024-01-01T01:00:00Z
CASH = CashKey("v", "USDT")
RULES = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
SYMBOLS = ("A/USDT:USDT", "B/USDT:USDT", "C/USDT:USDT")
UNIVERSE = Universe(
    tuple(Instrument(InstrumentKey("v", s), s[0], "USDT", "USDT", RULES) for s in SYMBOLS)
)


def fill(index: int, quantity: str, price: str) -> Fill:
    key = InstrumentKey("v", SYMBOLS[index])
    numbers = (Decimal(quantity), Decimal(price), Decimal("0.5"))
    return Fill(f"t{index}", OrderId("o1"), key, index, *numbers, AT_MS)


def ledger() -> Ledger:
    book = Ledger()
    book.apply_transfer(CASH, Decimal(1000))
    book.apply_fill(fill(0, "2", "100"), CASH)
    book.apply_fill(fill(1, "-1", "150"), CASH)
    return book


def decision(alpha: list[float]) -> Decision:
    values = np.array(alpha)
    signals = Signals(AT_MS, values, values, values, values, values, values, values)
    weights = np.array([0.2, -0.2, 0.0])
    target = TargetPortfolio(AT_MS, weights, weights, np.full(3, 0.01), signals)
    order = Order(
        OrderId("o1"), UNIVERSE.instruments[0].key, 0, Decimal("0.5"), OrderKind.MARKET, AT_MS, 1.0
    )
    prediction = Prediction(
        Timeframe(90), AT_MS, np.array([0.1, np.nan, 0.0]), np.array([0.04, np.nan, 0.01]), "m1"
    )
    refused = Refused(order, RefusalReason.GROSS, "2.1 above 2.0")
    return Decision(
        as_of_ms=AT_MS,
        sequence=7,
        kind=DecisionKind.TRADED,
        bars_digest="",
        absent=(2,),
        equity=1000.0,
        marks=np.array([100.0, 150.0, 10.0]),
        weights_before=np.array([0.19, -0.16, 0.0]),
        predictions=(prediction,),
        target=target,
        orders=(order,),
        refusals=(refused,),
    )


def test_a_decision_tells_how_its_weights_were_solved_if_they_were() -> None:
    made = decision([-0.5, 0.1, 0.3])
    assert made.target is not None
    assert decision_values(made, SYMBOLS)["solved"] == ""
    target = replace(made.target, solved=Solved("piqp", "0.6.4", "SOLVED", 11, 1e-8))
    shown = decision_values(replace(made, target=target), SYMBOLS)
    assert shown["solved"] == "piqp 0.6.4: solved, 11 iterations"


def test_the_status_sums_up_the_book() -> None:
    values = status_values(
        now_ms=AT_MS,
        trading_state="trading",
        equity=999.0,
        weights=np.array([0.2, -0.15, np.nan]),
        ledger=ledger(),
        next_decision_ms=None,
        decisions_n=7,
        orders_open_n=0,
    )
    assert values["market_time"] == "2024-01-01T01:00:00Z"
    assert values["cash"] == Decimal("949.0")  # 1000 - 200 + 150 - 2 fees of 0.5
    assert (values["positions_n"], values["fills_n"], values["fees"]) == (2, 2, Decimal("1.0"))
    assert values["gross_weight"] == pytest.approx(0.35)
    assert values["net_weight"] == pytest.approx(0.05)
    assert values["next_decision"] is None
    assert values["band_health"] is None


def test_positions_show_gain_and_weight_and_an_unknown_mark_as_unknown() -> None:
    book = ledger()
    book.apply_fill(fill(2, "1", "10"), CASH)
    book.apply_fill(fill(2, "-1", "11"), CASH)  # flat again: not shown
    shown = positions_values(UNIVERSE, book, np.array([110.0, np.nan, 10.0]), 1000.0)
    assert set(shown) == {SYMBOLS[0], SYMBOLS[1]}
    first, second = shown[SYMBOLS[0]], plain(shown[SYMBOLS[1]])
    assert (first["quantity"], first["average_price"]) == (Decimal(2), Decimal(100))
    assert (first["notional"], first["weight"], first["gain"]) == (220.0, 0.22, 20.0)
    assert (second["mark"], second["weight"], second["gain"]) == (None, None, None)


def test_what_a_model_states_of_the_outcome_is_shown_where_it_states_any() -> None:
    plain_one = decision([-0.5, 0.1, 0.3])
    assert "up" not in targets_values(UNIVERSE, plain_one)[SYMBOLS[0]]
    target = plain_one.target
    assert target is not None
    assert target.signals is not None
    signals = replace(
        target.signals, up=np.array([0.48, 0.5, 0.53]), half_width=np.array([1.5, 1.5, np.nan])
    )
    shown = targets_values(UNIVERSE, replace(plain_one, target=replace(target, signals=signals)))
    first, third = shown[SYMBOLS[0]], plain(shown[SYMBOLS[2]])
    assert (first["up"], first["outcome_low"], first["outcome_high"]) == (0.48, -2.0, 1.0)
    assert (third["up"], third["outcome_low"]) == (0.53, None)
    assert signals.chance.tolist() == pytest.approx([0.52, 0.5, 0.53])


def test_ranks_follow_signed_alpha_and_leave_out_who_has_none() -> None:
    placed = ranks(decision([-0.5, np.nan, 0.3]))
    assert placed is not None
    np.testing.assert_array_equal(placed, [2.0, np.nan, 1.0])


def test_a_decision_changes_three_topics() -> None:
    made = decision([0.3, -0.2, np.nan])
    topics = plain(decision_topics(UNIVERSE, made))
    assert set(topics) == {"predictions", "targets", "decision"}
    assert topics["predictions"][SYMBOLS[0]]["90m"]["standard_error"] == pytest.approx(0.2)
    assert topics["predictions"][SYMBOLS[1]]["90m"]["mean"] is None
    assert topics["predictions"][SYMBOLS[2]]["90m"]["mean"] == 0.0
    assert (topics["targets"][SYMBOLS[0]]["rank"], topics["targets"][SYMBOLS[2]]["rank"]) == (
        1,
        None,
    )
    entry = topics["decision"]
    assert entry["digest"] == made.digest
    assert entry["absent"] == [SYMBOLS[2]]
    assert entry["orders"] == [{"order_id": "o1", "symbol": SYMBOLS[0], "quantity": "0.5"}]
    assert entry["refusals"][0]["reason"] == "gross_weight_max"
    assert entry["target_gross_weight"] == pytest.approx(0.4)
    assert entry["net_weight"] == pytest.approx(0.03)
    assert entry["band_health"] is None


def test_the_health_of_the_bands_is_told_where_it_is_known() -> None:
    made = decision([0.3, -0.2, 0.1])
    assert made.target is not None
    known = replace(made, target=replace(made.target, health=1.25))
    assert decision_topics(UNIVERSE, known)["decision"]["band_health"] == 1.25
    without = replace(made, target=None)
    assert decision_topics(UNIVERSE, without)["decision"]["band_health"] is None


def test_a_fill_keeps_its_exact_amounts() -> None:
    values = plain(fill_values(fill(1, "-1.50", "150.10")))
    assert (values["quantity"], values["price"], values["fee"]) == ("-1.50", "150.10", "0.5")
    assert (values["at"], values["symbol"]) == ("2024-01-01T01:00:00Z", SYMBOLS[1])
