"""The watch over a covariance in use lets go of one that lost the market, and takes it back."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.bar import Floats
from daemon.domain.covariance import Covariance
from strategies.covariance.monitor import Bounds, Monitor

N = 12


def _market(correlation: float) -> Floats:
    return np.full((N, N), correlation) + (1.0 - correlation) * np.eye(N)


def _said(correlation: float, volatility: float = 0.01) -> Covariance:
    return Covariance(0, "test", np.full(N, volatility), _market(correlation))


def _rows(correlation: float, hours: int, seed: int = 1) -> Floats:
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(np.zeros(N), 1e-4 * _market(correlation), hours)


def _judged(monitor: Monitor, asked: Covariance, baseline: Covariance, rows: Floats) -> list[bool]:
    fallen = []
    for row in rows:
        monitor.judge(asked, baseline, row)
        fallen.append(monitor.is_fallen)
    return fallen


def test_a_prediction_that_holds_is_never_let_go() -> None:
    for seed in range(20):
        monitor = Monitor()
        assert not any(_judged(monitor, _said(0.5), _said(0.4), _rows(0.5, 400, seed)))
        assert abs(monitor.gap) < 0.2
        assert monitor.why() == ""


@pytest.mark.parametrize(
    "wrong",
    [_said(0.0), _said(0.5, 0.02), _said(0.5, 0.005)],
    ids=["no correlation", "too wild", "too calm"],
)
def test_one_that_does_not_hold_is_let_go_and_named(wrong: Covariance) -> None:
    monitor = Monitor()
    fallen = _judged(monitor, wrong, _said(0.5), _rows(0.5, 300))
    assert not any(fallen[: monitor.bounds.seen_min - 1])
    assert fallen[-1]
    assert "nats" in monitor.why()
    assert f"{monitor.excess:+.3f}" in monitor.why()


def test_it_speaks_again_once_it_is_well_inside_its_bounds() -> None:
    monitor = Monitor(Bounds(half_life_bars=24.0))
    assert _judged(monitor, _said(0.0), _said(0.6), _rows(0.6, 200))[-1]
    fallen = _judged(monitor, _said(0.6), _said(0.6), _rows(0.6, 400, seed=2))
    assert fallen[0]
    assert not fallen[-1]


def test_the_averages_are_those_of_the_formulas() -> None:
    monitor = Monitor(Bounds(half_life_bars=1e6))
    rows = _rows(0.3, 4)
    _judged(monitor, _said(0.3), _said(0.1), rows)
    z = rows / 0.01
    came = ((z.sum(axis=1) ** 2 - (z**2).sum(axis=1)) / (N * (N - 1))).mean()
    losses = []
    for correlation in (0.3, 0.1):
        S = 1e-4 * _market(correlation)
        logs = np.linalg.slogdet(S)[1]
        losses.append(np.mean([(logs + r @ np.linalg.solve(S, r)) / N for r in rows]))
    assert monitor.gap == pytest.approx(0.3 - came, rel=1e-4)
    assert monitor.excess == pytest.approx(losses[0] - losses[1], rel=1e-4)
    assert monitor.watch().hours_n == 4


def test_coins_without_a_bar_or_a_prediction_do_not_count_and_too_few_are_not_judged() -> None:
    volatility = np.full(N, 0.01)
    volatility[:5] = np.nan
    correlation = _market(0.5)
    correlation[:5, :] = correlation[:, :5] = 0.0
    correlation[range(5), range(5)] = 1.0
    part = Covariance(0, "part", volatility, correlation)
    row = _rows(0.5, 1)[0]
    row[5] = np.nan
    monitor, whole = Monitor(), Monitor()
    monitor.judge(part, _said(0.5), row)
    among = Covariance(0, "among", np.full(6, 0.01), _market(0.5)[:6, :6])
    whole.judge(among, among, row[6:])
    assert monitor.gap == pytest.approx(whole.gap)
    row[6:11] = np.nan
    monitor.judge(part, _said(0.5), row)
    assert monitor.seen_n == 1
