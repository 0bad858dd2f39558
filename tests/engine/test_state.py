"""A saved state is loaded only where it belongs."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from daemon import codec
from daemon.domain.covariance import Covariance, Factors
from daemon.domain.failures import InvariantViolated
from daemon.domain.forecast import Estimates, Reading
from daemon.domain.messages import EstimatesReady, Operator, OperatorAction
from daemon.engine.engine import Engine
from daemon.engine.state import REMEMBERED_CASHFLOWS, REMEMBERED_REQUESTS
from tests.engine.world import (
    at,
    bars,
    deposit,
    feed,
    forecast,
    make_engine,
    trading_engine,
    universe_of,
)

FACTORS = Factors(0.005 * np.ones((4, 1)), np.full(4, 0.75e-4))
COVARIANCE = Covariance(at(4), "ewma", np.full(4, 0.01), np.eye(4), factors=FACTORS)
READING = Reading("kalman", (0.03,), scale=0.7, edges=(0.0,), up=(0.49, 0.52))


def saved(engine: Engine) -> dict[str, Any]:
    plain: dict[str, Any] = codec.decode(codec.encode(engine.state.to_plain()), dict[str, Any])
    return plain


def busy_engine() -> Engine:
    engine = trading_engine()
    feed(engine, bars(3), bars(4))
    prediction = forecast(4, (0.1, -0.1, 0.0, 0.0)).estimates.predictions
    feed(
        engine,
        EstimatesReady(Estimates(at(4), prediction, np.eye(1), COVARIANCE, 0.75, reading=READING)),
    )
    feed(engine, Operator(OperatorAction.PAUSE, "p", at(4)), deposit(number=5))
    return engine


def test_everything_survives_the_codec() -> None:
    engine = busy_engine()
    again = make_engine()
    again.restore(saved(engine))
    assert codec.encode(again.state.to_plain()) == codec.encode(engine.state.to_plain())
    assert again.state.paused
    assert again.state.gross_multiplier == 0.75
    assert again.state.disagreement is not None
    assert again.state.reading == READING
    assert again.state.covariance is not None
    assert again.state.covariance.problem(4) is None
    assert again.state.covariance.as_of_ms == at(4)
    assert again.state.covariance.factors is not None
    assert again.state.covariance.factors.loadings.tobytes() == FACTORS.loadings.tobytes()
    assert again.state.covariance.factors.specific.tobytes() == FACTORS.specific.tobytes()
    assert again.wake_ms == engine.wake_ms
    restored = next(iter(again.state.newest.values()))
    original = next(iter(engine.state.newest.values()))
    assert restored.as_of_ms == original.as_of_ms
    assert restored.mean.tobytes() == original.mean.tobytes()


def test_a_snapshot_from_before_factors_were_kept_is_read() -> None:
    plain = saved(busy_engine())
    covariance = cast(dict[str, object], plain["covariance"])
    del covariance["factors"]
    again = make_engine()
    again.restore(plain)
    assert again.state.covariance is not None
    assert again.state.covariance.factors is None


def test_restored_arrays_are_our_own_and_may_be_written() -> None:
    again = make_engine()
    again.restore(saved(busy_engine()))
    feed(again, bars(5), bars(6))  # would fail on a read-only view of the snapshot's bytes
    assert again.state.seen.tolist() == [at(6)] * 4


def test_a_snapshot_of_another_universe_or_schema_is_refused_by_name() -> None:
    plain = saved(busy_engine())
    with pytest.raises(InvariantViolated, match="snapshot is of universe"):
        make_engine(universe=universe_of(3)).restore(plain)
    with pytest.raises(InvariantViolated, match="snapshot schema 1, want 10"):
        make_engine().restore(plain | {"schema": 1})


def test_requests_and_cash_flows_are_remembered_within_bounds() -> None:
    state = make_engine().state
    assert all(state.is_new_request(f"{i}") for i in range(REMEMBERED_REQUESTS + 5))
    assert len(state.operator_requests) == REMEMBERED_REQUESTS
    assert not state.is_new_request("7")
    assert all(state.is_new_cashflow(f"{i}") for i in range(REMEMBERED_CASHFLOWS + 5))
    assert len(state.cashflow_ids) == REMEMBERED_CASHFLOWS
    assert not state.is_new_cashflow(f"{REMEMBERED_CASHFLOWS}")
