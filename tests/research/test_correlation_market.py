"""Bars cut into hours, blocks and folds: who takes part, and what may be known."""

from __future__ import annotations

import numpy as np
import pytest

from daemon.domain.failures import ModelError
from daemon.domain.units import DAY_MS, HOUR_MS
from daemon.research.correlation.market import (
    begins,
    columns_of,
    folds_of,
    market_of,
    rows_within,
)
from strategies.covariance.columns import BTC_VOLATILITY
from tests.research.correlation_market import BAR_MS, START_MS, equal, walked_market

STILL = np.zeros(24 * 30, dtype=np.int64)


def test_hours_are_sums_of_their_bars_and_an_outcome_follows_the_forecast() -> None:
    market = walked_market([equal(0.5, 5)], STILL, seed=1)
    assert market.hour_ms[0] == START_MS + HOUR_MS
    assert market.hourly == pytest.approx(market.fine.sum(axis=1))
    chosen = np.array([0, 3])
    block = market.outcome(10, 6, chosen)
    assert block.shape == (24, 2)
    assert block == pytest.approx(market.fine[11:17].reshape(24, -1)[:, chosen])


def test_whoever_lacks_bars_in_the_window_takes_no_part_until_the_window_is_full() -> None:
    market = walked_market([equal(0.5, 5)], STILL, seed=1)
    market.hourly[:300, 2] = np.nan
    assert market.taking_part(400, 240).tolist() == [0, 1, 3, 4]
    assert market.taking_part(600, 240).tolist() == [0, 1, 2, 3, 4]
    market.hourly[600, 4] = np.nan  # the newest is missing
    assert market.taking_part(600, 240).tolist() == [0, 1, 2, 3]
    assert market.taking_part(601, 240).tolist() == [0, 1, 2, 3, 4]


def test_what_comes_after_an_hour_has_no_say_in_who_takes_part_or_what_is_known() -> None:
    market = walked_market([equal(0.5, 5)], STILL, seed=1)
    before = market.taking_part(400, 240).tolist(), market.beside[:401].copy()
    market.hourly[401:] = np.nan
    assert market.taking_part(400, 240).tolist() == before[0]
    changed = walked_market([equal(0.5, 5)], STILL, seed=1)
    closes = np.exp(np.vstack([np.zeros((1, 5)), np.cumsum(changed.fine.reshape(-1, 5), axis=0)]))
    closes[401 * 4 + 1 :] *= 1.5
    close_ms = START_MS + BAR_MS * np.arange(len(closes), dtype=np.int64)
    again = market_of(changed.symbols, close_ms, closes, BAR_MS)
    assert again.beside[:401] == pytest.approx(before[1], nan_ok=True)


def test_the_volatility_of_btc_is_known_for_every_hour_after_a_day() -> None:
    names = ("ETHUSDT", "BTCUSDT", "XRPUSDT", "LTCUSDT")
    market = walked_market([equal(0.5, 4)], STILL, seed=1, symbols=names)
    assert market.columns == (BTC_VOLATILITY,) == columns_of(market, outside=False)
    day = market.hourly[100 - 23 : 101, 1]
    assert market.beside[100, 0] == pytest.approx(0.5 * np.log((day**2).sum() / 24))
    assert np.isnan(market.beside[:11]).all(), "half a day must be known"
    assert np.isfinite(market.beside[11:]).all()


def test_folds_begin_at_a_midnight_and_leave_no_hour_out_and_none_twice() -> None:
    market = walked_market([equal(0.5, 4)], STILL, seed=1)
    folds = folds_of(market, window_h=240, first_ms=START_MS + 12 * DAY_MS, every_ms=5 * DAY_MS)
    assert market.hour_ms[folds[0].start] == START_MS + 12 * DAY_MS
    assert [f.end for f in folds[:-1]] == [f.start for f in folds[1:]]
    assert folds[-1].end == len(market.hour_ms) - 24  # a block of a day still fits behind
    rows = np.concatenate([rows_within(market, fold) for fold in folds])
    assert np.diff(market.hour_ms[rows]).tolist() == [6 * HOUR_MS] * (len(rows) - 1)
    assert [begins(int(at), 24) for at in market.hour_ms[rows[:5]]] == [
        True,
        False,
        False,
        False,
        True,
    ]


def test_too_few_bars_and_a_first_test_outside_of_them_are_refused() -> None:
    market = walked_market([equal(0.5, 4)], STILL, seed=1)
    with pytest.raises(ModelError, match="need more, or a shorter"):
        folds_of(market, window_h=24 * 30, first_ms=None, every_ms=DAY_MS)
    with pytest.raises(ModelError, match=r"walkforward\.first_test"):
        folds_of(market, window_h=240, first_ms=START_MS, every_ms=DAY_MS)
    with pytest.raises(ModelError, match="accepted are those that divide 1 h"):
        market_of(("A",), market.hour_ms, np.ones((len(market.hour_ms), 1)), 2 * HOUR_MS)
    found = folds_of(market, window_h=240, first_ms=None, every_ms=DAY_MS)
    assert found[0].start > 240
