"""The peer: nautilus_trader doing the same work on the same bars, in an environment of its own.

Run by that environment's Python, `PYTHON benchmarks/nautilus_peer.py ARRAYS BARS`; prints one JSON
object. It imports nothing of ours but the rule's numbers. A strategy subscribes to the hourly bars
of every instrument, decides when the last of an hour has come and sends market orders; these fill
at that bar's close, which is the next bar's open. Logging and the final analysis are off; its risk
engine stays on, as ours does. It keeps its own float books beside the platform's portfolio, which
is the cheaper way for it.
"""

from __future__ import annotations

import json
import sys
import time
from decimal import Decimal

import nautilus_trader
import numpy as np
import pandas as pd
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.data import Bar, BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.events import OrderFilled
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler
from nautilus_trader.trading.strategy import Strategy
from rule import BAND_WEIGHT, CASH, FEE_BPS, LEGS_EACH_SIDE, LOOKBACK_BARS

VENUE = Venue("BENCH")
COLUMNS = ("open", "high", "low", "close", "volume")


class RankAndHold(Strategy):
    """Long the strongest, short the weakest, trade what left the band."""

    def __init__(self, instruments: list[CryptoPerpetual], bar_types: list[BarType]) -> None:
        super().__init__(StrategyConfig())
        N = len(instruments)
        self.instruments = instruments
        self.bar_types = bar_types
        self.column = {bar_type: i for i, bar_type in enumerate(bar_types)}
        self.of_instrument = {instrument.id: i for i, instrument in enumerate(instruments)}
        self.ring = np.full((LOOKBACK_BARS + 1, N), np.nan)
        self.row = 0
        self.arrived = 0
        self.hours = 0
        self.held = np.zeros(N)
        self.money = CASH
        self.orders = 0

    def on_start(self) -> None:
        """Ask for all bars."""
        for bar_type in self.bar_types:
            self.subscribe_bars(bar_type)

    def on_bar(self, bar: Bar) -> None:
        """Gather an hour; its last bar decides."""
        self.ring[self.row, self.column[bar.bar_type]] = bar.close.as_double()
        self.arrived += 1
        if self.arrived < len(self.bar_types):
            return
        self.arrived = 0
        self.hours += 1
        oldest = (self.row + 1) % len(self.ring)
        if self.hours > LOOKBACK_BARS:
            self.decide(self.ring[self.row], self.ring[oldest])
        self.row = oldest

    def decide(self, price: np.ndarray, before: np.ndarray) -> None:
        """Send a market order for every instrument that is further off than the band."""
        ranked = np.argsort(price / before, kind="stable")
        target = np.zeros(len(price))
        leg = 0.5 / LEGS_EACH_SIDE
        target[ranked[:LEGS_EACH_SIDE]] = -leg
        target[ranked[-LEGS_EACH_SIDE:]] = leg
        value = self.held * price
        equity = self.money + float(value.sum())
        change = target * equity - value
        for i in np.flatnonzero(np.abs(change) > BAND_WEIGHT * equity).tolist():
            instrument = self.instruments[i]
            side = OrderSide.BUY if change[i] > 0 else OrderSide.SELL
            quantity = instrument.make_qty(abs(change[i]) / price[i])
            self.orders += 1
            self.submit_order(self.order_factory.market(instrument.id, side, quantity))

    def on_order_filled(self, event: OrderFilled) -> None:
        """Book a fill."""
        size = event.last_qty.as_double()
        signed = size if event.order_side == OrderSide.BUY else -size
        self.held[self.of_instrument[event.instrument_id]] += signed
        self.money -= signed * event.last_px.as_double() + event.commission.as_double()


def perpetual(i: int) -> CryptoPerpetual:
    """Give an instrument with the finest lots and the fee of the work."""
    symbol, fee = Symbol(f"S{i:03d}USDT"), Decimal(str(FEE_BPS)) / 10_000
    price_step, lot = Price.from_str("0.000001"), Quantity.from_str("0.000001")
    return CryptoPerpetual(
        instrument_id=InstrumentId(symbol, VENUE),
        raw_symbol=symbol,
        base_currency=BTC,
        quote_currency=USDT,
        settlement_currency=USDT,
        is_inverse=False,
        price_precision=6,
        size_precision=6,
        price_increment=price_step,
        size_increment=lot,
        ts_event=0,
        ts_init=0,
        margin_init=Decimal("0.01"),
        margin_maint=Decimal("0.005"),
        maker_fee=fee,
        taker_fee=fee,
    )


def load(engine: BacktestEngine, arrays: str, bars_n: int) -> RankAndHold:
    """Give the engine its instruments, bars and strategy."""
    wide = np.load(arrays)
    columns = {name: wide[name][:bars_n] for name in COLUMNS}
    # open_ms is a bar's open; the peer stamps bars with their close
    closes = pd.to_datetime(wide["open_ms"][:bars_n] + 3_600_000, unit="ms", utc=True)
    instruments, bar_types, bars = [], [], []
    for i in range(columns["close"].shape[1]):
        instrument = perpetual(i)
        engine.add_instrument(instrument)
        bar_type = BarType.from_str(f"{instrument.id}-1-HOUR-LAST-EXTERNAL")
        frame = pd.DataFrame({name: columns[name][:, i] for name in COLUMNS}, index=closes)
        bars += BarDataWrangler(bar_type, instrument).process(frame)
        instruments.append(instrument)
        bar_types.append(bar_type)
    bars.sort(key=lambda bar: bar.ts_init)  # stable: within an hour in the order of instruments
    engine.add_data(bars, sort=False)
    strategy = RankAndHold(instruments, bar_types)
    engine.add_strategy(strategy)
    return strategy


def main() -> None:
    """Load, run, report; `seconds` is the run alone."""
    start = time.perf_counter()
    engine = BacktestEngine(
        BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False)
    )
    engine.add_venue(
        VENUE,
        OmsType.NETTING,
        AccountType.MARGIN,
        [Money(CASH, USDT)],
        base_currency=USDT,
        default_leverage=Decimal(20),
    )
    strategy = load(engine, sys.argv[1], int(sys.argv[2]))
    loaded, cpu = time.perf_counter(), time.process_time()
    engine.run()
    seconds, cpu_seconds = time.perf_counter() - loaded, time.process_time() - cpu
    balance = engine.cache.account_for_venue(VENUE).balance_total(USDT).as_double()
    open_gain = sum(m.as_double() for m in engine.portfolio.unrealized_pnls(VENUE).values())
    found = {
        "equity": balance + open_gain,
        "orders": strategy.orders,
        "closed_orders": sum(order.is_closed for order in engine.cache.orders()),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "load_seconds": loaded - start,
        "version": nautilus_trader.__version__,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
