"""Orders, limits, models and correlations as topics: what is unknown is None, never zero."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from daemon.domain.instrument import InstrumentKey
from daemon.domain.order import Order, OrderId, OrderKind, Uncertain
from daemon.status.book_topics import (
    NAMES_MAX,
    correlation_values,
    models_values,
    order_values,
    risk_values,
)
from daemon.status.codec import plain
from tests.engine.world import universe_of

HOURS = 60


def closes(n: int, seed: int = 1) -> Floats:
    steps = np.random.default_rng(seed).normal(0.0, 0.01, (HOURS, n))
    found: Floats = np.exp(np.cumsum(steps + steps[:, :1], axis=0))
    return found


def covariance(n: int) -> Covariance:
    correlation = np.full((n, n), 0.25)
    np.fill_diagonal(correlation, 1.0)
    volatility = np.full(n, 0.01)
    volatility[1] = np.nan
    return Covariance(0, "ewma", volatility, correlation)


def test_correlations_are_lower_triangles_in_percent_of_the_largest_weights() -> None:
    universe, prices = universe_of(4), closes(4)
    weights = np.array([0.1, -0.4, 0.0, 0.2])
    shown = correlation_values(universe, 7, weights, covariance(4), prices)
    assert shown["symbols"] == list(universe.symbols)
    assert shown["predicted"] == [None, 25, None, 25, None, 25]  # of the second nothing is known
    expected = np.corrcoef(np.diff(np.log(prices), axis=0).T)
    wanted = [round(100 * expected[i, j]) for i in range(4) for j in range(i)]
    assert shown["realised"] == wanted
    assert shown["realised_bars_n"] == HOURS - 1
    assert plain(shown) == shown


def test_correlations_that_nobody_knows_are_none() -> None:
    universe, weights = universe_of(2), np.array([np.nan, 0.1])
    shown = correlation_values(universe, 7, weights, None, None)
    assert not {"predicted", "realised"} & shown.keys()
    assert shown["realised_bars_n"] is None
    short = closes(2)[:20]
    assert correlation_values(universe, 7, weights, None, short).get("realised") is None
    still = closes(2)
    still[:, 1] = 5.0  # a price that does not move correlates with nothing
    assert correlation_values(universe, 7, weights, None, still)["realised"] == [None]
    holed = closes(2)
    holed[:50, 0] = np.nan
    assert correlation_values(universe, 7, weights, None, holed).get("realised") is None
    assert NAMES_MAX < 30


def test_an_order_shows_its_state_by_name() -> None:
    key = InstrumentKey("paper", "BTC/USDT:USDT")
    order = Order(OrderId("a"), key, 0, Decimal("-0.5"), OrderKind.MARKET, 5, 100.0)
    shown = plain(order_values(order, Uncertain(), Decimal("0.1"), 6))
    assert (shown["state"], shown["quantity"], shown["filled"]) == ("uncertain", "-0.5", "0.1")
    assert (shown["kind"], shown["limit_price"], shown["sent_ms"]) == ("market", None, 6)


@pytest.mark.parametrize(
    ("limit", "now", "is_there"), [(1.0, None, True), (None, 0.5, True), (None, None, False)]
)
def test_a_limit_is_shown_when_it_is_set_or_measured(
    limit: float | None, now: float | None, is_there: bool
) -> None:
    shown = risk_values(limits={"x_max": limit}, measured={"x_max": now}, flags={"paused": True})
    assert ("x_max" in shown["limits"]) is is_there
    assert shown["paused"] is True


def test_a_registry_that_cannot_be_read_says_so() -> None:
    assert models_values([], "it is damaged") == {"models": [], "note": "it is damaged"}
