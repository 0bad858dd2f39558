"""A small world for the paper venue's tests: three instruments, bars and orders by hand."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import numpy as np

from adapters.paper import MemoryStore, PaperSettings, PaperVenue
from adapters.paper.state import LedgerStore
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.messages import BarsClosed, FundingRates, OrderFilled, Snapshotted, VenueEvent
from daemon.domain.order import Fill, Order, OrderId, OrderKind
from daemon.domain.portfolio import AccountSnapshot
from daemon.domain.units import MINUTE_MS

MakeVenue = Callable[..., PaperVenue]
PRICES = (100.0, 10.0, 1.0)
BAR_MS = 30 * MINUTE_MS
START_MS = 1_700_006_400_000
SYMBOLS = ("BTC/USDT:USDT", "ETH/USDT:USDT", "DOGE/USDT:USDT")
NAN = float("nan")
CASH_KEY = CashKey("paper", "USDT")
FREE = PaperSettings(
    fee_bps=0.0,
    half_spread_bps=0.0,
    impact_bps=0.0,
    latency_bps=0.0,
    participation_share=0.1,
    starting_cash={"USDT": Decimal(10000)},
)


def key(index: int) -> InstrumentKey:
    return InstrumentKey("paper", SYMBOLS[index])


def make_universe(symbols: Sequence[str] = SYMBOLS, settle: str = "USDT") -> Universe:
    rules = TradingRules(
        price_step=Decimal("0.1"),
        quantity_step=Decimal("0.001"),
        quantity_min=Decimal("0.002"),
        notional_min=Decimal(5),
    )
    return Universe(
        tuple(
            Instrument(InstrumentKey("paper", s), s.split("/")[0], "USDT", settle, rules)
            for s in symbols
        )
    )


def at(number: int) -> int:
    """Give the close of source bar `number` of the test, in ms."""
    return START_MS + number * BAR_MS


def bars(
    number: int,
    closes: Sequence[float],
    *,
    opens: Sequence[float] | None = None,
    volumes: Sequence[float] | float = 1_000.0,
    final: bool = True,
) -> BarsClosed:
    """Close bar `number`; the next bars open at the closes unless told otherwise."""
    close = np.array(closes)
    volume = np.where(np.isnan(close), NAN, volumes)
    values = np.column_stack([close, close, close, close, volume])
    proof = (~np.isnan(close)).astype(np.uint8)
    return BarsClosed(
        at(number), values, proof, np.array(closes if opens is None else opens), final
    )


def rates(number: int, values: Sequence[float]) -> FundingRates:
    return FundingRates(at(number), np.array(values), np.full(len(values), NAN))


def order(
    order_id: str,
    quantity: str,
    *,
    index: int = 0,
    number: int = 1,
    limit: str | None = None,
    reduce_only: bool = False,
) -> Order:
    return Order(
        order_id=OrderId(order_id),
        key=key(index),
        index=index,
        quantity=Decimal(quantity),
        kind=OrderKind.MARKET if limit is None else OrderKind.LIMIT,
        as_of_ms=at(number),
        reference_price=100.0,
        limit_price=None if limit is None else Decimal(limit),
        reduce_only=reduce_only,
    )


def make_venue(store: LedgerStore | None = None, **changes: object) -> PaperVenue:
    return PaperVenue(
        make_universe(), settings(**changes), store or MemoryStore(), opened_ms=START_MS
    )


def settings(**changes: object) -> PaperSettings:
    values: dict[str, object] = {name: getattr(FREE, name) for name in FREE.__slots__}
    return PaperSettings(**(values | changes))  # type: ignore[arg-type]


def fills_of(events: Sequence[VenueEvent]) -> list[Fill]:
    return [event.fill for event in events if isinstance(event, OrderFilled)]


def quantities(events: Sequence[VenueEvent]) -> list[tuple[str, str, str]]:
    """Show fills as (order id, quantity, price)."""
    return [(f.order_id, str(f.quantity), str(f.price)) for f in fills_of(events)]


def account_of(venue: PaperVenue) -> AccountSnapshot:
    last = venue.snapshot(venue.executions_cursor)[-1]
    assert isinstance(last, Snapshotted)
    return last.snapshot


def held(venue: PaperVenue) -> Mapping[str, str]:
    return {k.symbol[:3]: str(q) for k, q in account_of(venue).quantities.items()}


def cash(venue: PaperVenue) -> Decimal:
    return account_of(venue).cash[CASH_KEY]
