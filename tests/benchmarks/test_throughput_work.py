"""The work of `make bench`: its market gives the published figures, our engine the same answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks import market
from benchmarks.rule import BAND_WEIGHT, CASH, FEE_BPS, LEGS_EACH_SIDE, LOOKBACK_BARS
from daemon.domain.units import HOUR_MS, iso
from daemon.settings import load_settings
from daemon.wiring.backtest import run_backtest

ROOT = Path(market.__file__).resolve().parent
BARS = 500


def traded(close: npt.NDArray[np.float64]) -> tuple[float, int]:
    """Trade the rule hour by hour in floats; give end equity and number of orders."""
    held, money, orders, fee = np.zeros(close.shape[1]), CASH, 0, FEE_BPS / 1e4
    for t in range(LOOKBACK_BARS, len(close)):
        price = close[t]
        ranked = np.argsort(price / close[t - LOOKBACK_BARS])
        target = np.zeros(len(price))
        target[ranked[:LEGS_EACH_SIDE]] = -0.5 / LEGS_EACH_SIDE
        target[ranked[-LEGS_EACH_SIDE:]] = 0.5 / LEGS_EACH_SIDE
        equity = money + float(held @ price)
        change = target * equity - held * price
        change[np.abs(change) <= BAND_WEIGHT * equity] = 0.0
        held += change / price
        money -= float(change.sum()) + fee * float(np.abs(change).sum())
        orders += int(np.count_nonzero(change))
    return money + float(held @ close[-1]), orders


def test_the_market_of_20_gives_the_published_orders_and_end_equity() -> None:
    equity, orders = traded(market.make_market(20).close)
    assert orders == 57_886
    assert equity == pytest.approx(48_895.30, abs=0.005)


def test_what_is_decided_at_a_close_fills_at_an_open_of_the_same_price() -> None:
    made = market.make_market(3)
    assert (made.open[1:] == made.close[:-1]).all()
    assert (made.low > 0).all()


def test_our_engine_ends_where_the_plain_loop_ends(tmp_path: Path) -> None:
    market.prepare(tmp_path, 20)
    close = market.make_market(20).close[:BARS]
    settings = load_settings(
        [ROOT / "backtest_20.toml"],
        overrides=[
            f"backtest.data_folder={tmp_path / '20'}",
            f"backtest.until={iso(market.FIRST_OPEN_MS + BARS * HOUR_MS)}",
            f"backtest.rules_file={ROOT / 'trading_rules.toml'}",
        ],
        environment={},
    )
    result = run_backtest(settings)
    equity, orders = traded(close)
    assert result.run.facts.orders == result.run.facts.fills == orders
    assert result.metrics.equity_last == pytest.approx(equity, rel=1e-9)
    assert sum(len(d.orders) for d in result.run.decisions) == orders
