"""A strategy that answers with nonsense loses the decision, never the book."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from daemon.domain.decision import DecisionKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from daemon.engine.contract import fault
from tests.engine.world import (
    FixedWeights,
    at,
    bars,
    decided,
    feed,
    fill_of,
    submitted,
    trading_engine,
)

N = 4


def target(**changes: Any) -> TargetPortfolio:
    plain: dict[str, Any] = {"weights": np.zeros(N), "ideal": np.zeros(N), "band": np.zeros(N)}
    return TargetPortfolio(as_of_ms=1, **(plain | changes))


GOOD: dict[str, Any] = {"memory": np.array([np.nan])}
FAULTS: tuple[tuple[object, str], ...] = (
    (target(), "decide gave of type TargetPortfolio"),
    ((GOOD, None), "decide gave of type NoneType as target"),
    ((GOOD, TargetPortfolio(2, np.zeros(N), np.zeros(N), np.zeros(N))), "the target is of 2"),
    ((GOOD, target(weights=np.zeros(3))), r"weights has the shape \(3,\); want \(4,\)"),
    ((GOOD, target(weights=[0.0] * N)), "weights is of type list; want an array of float64"),
    ((GOOD, target(weights=np.array([0, np.nan, 0, 0]))), "weights is not finite at 1 of 4"),
    ((GOOD, target(ideal=np.array([np.inf, -np.inf, 0, 0]))), "ideal is not finite at 2 of 4"),
    ((GOOD, target(ideal=np.zeros(N, dtype=np.float32))), "ideal is an array of float32"),
    ((GOOD, target(band=np.full((N, 1), 0.1))), r"band has the shape \(4, 1\)"),
    ((GOOD, target(band=np.full(N, -0.1))), "band has a negative number"),
    ((GOOD, target(reduce_only=np.zeros(N))), "reduce_only is an array of float64"),
    ((GOOD, target(reduce_only=np.zeros(2, dtype=bool))), r"reduce_only has the shape \(2,\)"),
    ((None, target()), "the state is of type NoneType"),
    (({"memory": 1.0}, target()), "the state's memory is of type float"),
)


@pytest.mark.parametrize(("answer", "words"), FAULTS, ids=[f[1][:30] for f in FAULTS])
def test_every_fault_is_said_in_words(answer: object, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(fault(answer, 1, N))


def test_a_proper_answer_has_no_fault() -> None:
    assert fault((GOOD, target()), 1, N) == ""
    assert fault(({}, target(reduce_only=np.ones(N, dtype=bool))), 1, N) == ""


@dataclass(frozen=True)
class Mistaken:
    """Want a book at first, then answer with what `wrong` makes of it."""

    wrong: Callable[[TargetPortfolio], Any]
    windows_needed: Mapping[Timeframe, int] = field(default_factory=dict)
    needs_estimates: bool = False
    name: str = "mistaken"

    def initial_state(self, instruments_n: int) -> Mapping[str, Any]:
        return {"decisions": np.zeros(1)}

    def decide(self, state: Mapping[str, Any], view: View) -> Any:
        wanted = np.array([0.2, -0.2, 0.0, 0.0])
        good = TargetPortfolio(view.as_of_ms, wanted, wanted, np.zeros(N))
        if view.as_of_ms <= at(4):
            return {"decisions": state["decisions"] + 1.0}, good
        return self.wrong(good)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda t: ({}, target()), "refused: strategy mistaken: the target is of 1"),
        (lambda t: None, "refused: strategy mistaken: decide gave of type NoneType"),
        (
            lambda t: ({}, TargetPortfolio(t.as_of_ms, t.weights * np.nan, t.ideal, t.band)),
            "refused: strategy mistaken: weights is not finite at 4 of 4",
        ),
    ],
)
def test_the_engine_refuses_the_decision_keeps_the_book_and_names_the_strategy(
    wrong: Callable[[TargetPortfolio], Any], words: str
) -> None:
    engine = trading_engine(Mistaken(wrong))  # type: ignore[arg-type]
    orders = submitted(feed(engine, bars(3), bars(4)))
    assert len(orders) == 2
    feed(engine, *(fill_of(o, f"f{o.order_id}") for o in orders))
    held = engine.state.book.quantity.copy()
    before = {name: array.copy() for name, array in engine.state.strategy.items()}
    told = feed(engine, bars(5), bars(6))
    (decision,) = decided(told)
    assert decision.kind is DecisionKind.HELD
    assert decision.note.startswith(words)
    assert decision.target is None
    assert not submitted(told)
    assert held.any()
    assert (engine.state.book.quantity == held).all()
    assert engine.state.strategy.keys() == before.keys()
    assert all((engine.state.strategy[k] == v).all() for k, v in before.items())


def test_a_strategy_that_keeps_the_contract_is_not_refused() -> None:
    engine = trading_engine(FixedWeights(lambda _: [0.2, -0.2, 0.0, 0.0]))
    told = feed(engine, bars(3), bars(4))
    assert all("refused" not in d.note for d in decided(told))
    assert len(submitted(told)) == 2
