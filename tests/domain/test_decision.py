"""The decision's digest: everything that decided is in it, what differs by nature is not."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from daemon.domain.decision import Decision, DecisionKind
from daemon.domain.forecast import Prediction, Signals
from daemon.domain.instrument import InstrumentKey
from daemon.domain.order import Order, OrderId, OrderKind, RefusalReason, Refused
from daemon.domain.portfolio import Solved, TargetPortfolio
from daemon.domain.units import Timeframe

KEY = InstrumentKey("v", "BTC/USDT:USDT")
H1 = Timeframe(60)


def order(quantity: str = "1", name: str = "a") -> Order:
    return Order(OrderId(name), KEY, 0, Decimal(quantity), OrderKind.MARKET, 7, 100.0)


def signals(**changes: Any) -> Signals:
    names = (
        "magnitude",
        "consistency",
        "confidence",
        "alpha",
        "variance",
        "probability",
        "strength",
    )
    arrays = {name: np.array([float(i), np.nan]) for i, name in enumerate(names)}
    return Signals(as_of_ms=7, **(arrays | changes))


def target(**changes: Any) -> TargetPortfolio:
    weights = np.array([0.1, -0.1])
    values: dict[str, Any] = {"weights": weights, "ideal": weights, "band": np.zeros(2)}
    return TargetPortfolio(7, **(values | {"signals": signals()} | changes))


def prediction(**changes: Any) -> Prediction:
    values: dict[str, Any] = {
        "timeframe": H1,
        "as_of_ms": 7,
        "mean": np.array([0.1, np.nan]),
        "variance": np.array([0.2, 0.3]),
        "model_id": "m",
    }
    return Prediction(**(values | changes))


SOLVED = Solved("piqp", "0.6.4", "SOLVED", 11, 1e-8)
DECISION = Decision(
    as_of_ms=7,
    sequence=3,
    kind=DecisionKind.TRADED,
    bars_digest="ab",
    absent=(1,),
    equity=1000.0,
    marks=np.array([100.0, np.nan]),
    weights_before=np.array([0.0, 0.0]),
    predictions=(prediction(),),
    target=target(),
    orders=(order(),),
    refusals=(Refused(order(name="b"), RefusalReason.NET, "so much"),),
    note="words",
)


def test_equal_decisions_have_equal_digests() -> None:
    again = replace(DECISION, marks=DECISION.marks.copy(), predictions=(prediction(),))
    assert again.digest == DECISION.digest
    assert len(DECISION.digest) == 64


@pytest.mark.parametrize(
    "same",
    [{"sequence": 99}, {"note": "other words"}, {"target": target(solved=SOLVED)}],
    ids=lambda c: next(iter(c)),
)
def test_what_differs_by_nature_between_shells_is_left_out(same: dict[str, Any]) -> None:
    assert replace(DECISION, **same).digest == DECISION.digest


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("as_of", {"as_of_ms": 8}),
        ("kind", {"kind": DecisionKind.REDUCED}),
        ("bars", {"bars_digest": "ac"}),
        ("absent", {"absent": (0,)}),
        ("equity", {"equity": np.nextafter(1000.0, 2000.0)}),
        ("marks", {"marks": np.array([100.0, 1.0])}),
        ("weights_before", {"weights_before": np.array([0.0, -0.0])}),
        ("prediction_1h", {"predictions": (prediction(model_id="n"),)}),
        ("prediction_1h", {"predictions": (prediction(as_of_ms=6),)}),
        ("prediction_1h", {"predictions": (prediction(mean=np.zeros(2)),)}),
        ("prediction_1h", {"predictions": (prediction(variance=np.zeros(2)),)}),
        ("target", {"target": target(weights=np.zeros(2))}),
        ("target", {"target": target(ideal=np.zeros(2))}),
        ("band", {"target": target(band=np.ones(2))}),
        ("signals", {"target": target(signals=signals(strength=np.zeros(2)))}),
        ("orders", {"orders": (order("2"),)}),
        ("orders", {"orders": (order(name="c"),)}),
        ("orders", {"orders": ()}),
        ("refusals", {"refusals": ()}),
    ],
)
def test_what_decided_is_in_the_digest_and_a_difference_names_its_part(
    part: str, changed: dict[str, Any]
) -> None:
    other = replace(DECISION, **changed)
    assert other.digest != DECISION.digest
    ours, theirs = dict(DECISION.named_parts()), dict(other.named_parts())
    assert {name for name in ours | theirs if ours.get(name) != theirs.get(name)} == {part}


def test_a_decision_without_target_or_signals_has_a_digest_too() -> None:
    held = replace(DECISION, target=None)
    bare = replace(DECISION, target=target(signals=None))
    assert len({held.digest, bare.digest, DECISION.digest}) == 3
