"""Labels: the right prices, the right lag, nothing from after the horizon or into the risk."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.bar import Field
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import Timeframe
from strategies.forecast.inputs.labels import label, risk
from tests.strategies.forecast.markets import closes, walk

SOURCE = Timeframe(30)


def test_a_label_is_the_scaled_residual_return_between_two_opens() -> None:
    bars = walk(600, 4)
    found = label(closes(600), bars, source=SOURCE)
    t = 500  # decides at the close of row 500, enters one bar later: open of row 502
    ahead = np.log(bars[t + 14, :, Field.OPEN] / bars[t + 2, :, Field.OPEN])
    beta, sigma = risk(bars, source=SOURCE)
    y = (ahead - beta[t] * ahead.mean()) / (sigma[t] * np.sqrt(12))
    y = np.clip(y, -5, 5)
    np.testing.assert_allclose(found.y[t], y - y.mean())


@pytest.mark.parametrize(("lag_bars", "first"), [(0, 1), (1, 2), (3, 4)])
def test_only_prices_from_entry_to_exit_matter(lag_bars: int, first: int) -> None:
    bars, t = walk(400, 4), 300
    lag_ms = lag_bars * SOURCE.ms
    base = label(closes(400), bars, source=SOURCE, lag_ms=lag_ms).y[t]
    for row, matters in (
        (t + first - 1, False),
        (t + first, True),
        (t + first + 12, True),
        (t + first + 13, False),
    ):
        changed = bars.copy()
        changed[row, 0, Field.OPEN] *= 1.01
        again = label(closes(400), changed, source=SOURCE, lag_ms=lag_ms).y[t]
        assert (not np.array_equal(again, base)) is matters, row


def test_risk_knows_nothing_of_later_bars() -> None:
    bars = walk(400, 4)
    changed = bars.copy()
    changed[301:] *= 1.5
    for before, after in zip(risk(bars, source=SOURCE), risk(changed, source=SOURCE), strict=True):
        np.testing.assert_array_equal(before[:301], after[:301])


def test_risk_finds_beta_drawn_to_one_and_residual_volatility() -> None:
    draw = np.random.default_rng(2)
    market = 0.004 * draw.standard_normal(4000)
    betas = np.array([0.5, 1.0, 1.5])
    own = 0.002 * draw.standard_normal((4000, 3))
    moves = market[:, None] * betas + own
    bars = np.repeat(100 * np.exp(np.cumsum(moves, axis=0))[:, :, None], 5, axis=2)
    beta, sigma = risk(bars, source=SOURCE)
    np.testing.assert_allclose(beta[-1], 0.7 * betas + 0.3, atol=0.05)
    # the market of three holds a third of each coin's own noise, and beta is only partly followed
    np.testing.assert_allclose(sigma[-1], 0.0018, rtol=0.25)


def test_labels_are_centred_bounded_and_of_about_unit_size() -> None:
    found = label(closes(3000), walk(3000, 8), source=SOURCE).y
    known = np.isfinite(found).all(axis=1)
    assert known.sum() > 2800
    np.testing.assert_allclose(found[known].mean(axis=1), 0, atol=1e-12)
    assert 0.8 < found[known].std() < 1.2
    assert np.abs(found[known]).max() <= 10


def test_labels_need_history_future_and_three_instruments() -> None:
    bars = walk(400, 4)
    bars[200, 1:, :] = np.nan  # the entry of row 198 has one price only
    found = label(closes(400), bars, source=SOURCE).y
    assert np.isnan(found[:95]).all()  # two days without a believed volatility
    assert np.isnan(found[198]).all()
    assert np.isnan(found[-13:]).all()
    assert np.isfinite(found[150]).all()


def test_instants_without_a_source_bar_have_no_label() -> None:
    found = label(closes(400), walk(400, 4), source=SOURCE)
    wanted = np.array([found.close_ms[300], found.close_ms[300] + 1, found.close_ms[-1] + 10**9])
    y = found.at(wanted)
    np.testing.assert_array_equal(y[0], found.y[300])
    assert np.isnan(y[1:]).all()


def test_a_lag_off_the_source_grid_is_refused() -> None:
    with pytest.raises(InvariantViolated, match="lag of 1000 ms"):
        label(closes(10), walk(10, 4), source=SOURCE, lag_ms=1000)
