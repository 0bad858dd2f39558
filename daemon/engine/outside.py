"""What an account has in contracts that are not of the universe: counted in exposure, not traded.

Nobody sends their bars, so that each is valued at the price that the venue last told with the
account, or at its own last fill, and has a beta of one. The ledger keeps their quantities and cash
exactly, as it does for all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import cast

from daemon.domain.instrument import CashKey, InstrumentKey
from daemon.domain.order import OrderId
from daemon.domain.portfolio import Ledger, OpenOrder


def settled_in(key: InstrumentKey) -> CashKey:
    """Give the cash that a contract's gains move, as its symbol says.

    `PEPE/USDT:USDT`, `BTC/USDT:USDT-261225`: the cash is USDT in both.
    """
    return CashKey(key.venue, key.symbol.rpartition(":")[2].partition("-")[0])


class Outside:
    """Sum up positions and resting orders beside the universe, all in quote currency.

    net is signed; gross, up, down and worst are not. up, down: what the orders may still add or
    take off; worst: the largest gross that they could lead to.
    """

    def __init__(self) -> None:
        self.marks: dict[InstrumentKey, float] = {}
        self.orders: dict[OrderId, OpenOrder] = {}
        self.held: dict[InstrumentKey, float] = {}  # signed base units, none that are zero
        self.net = self.gross = self.up = self.down = self.worst = 0.0
        self._by_venue: dict[str, float] = {}

    def price(self, marks: Mapping[InstrumentKey, float]) -> None:
        """Take newer prices; `recount` makes them count."""
        self.marks.update(marks)

    def worst_at(self, venue: str) -> float:
        """Give the largest gross at one venue that the orders could lead to."""
        return self._by_venue.get(venue, 0.0)

    def recount(self, ledger: Ledger, ours: Mapping[InstrumentKey, int]) -> None:
        """Sum everything anew. ours: the universe's columns, which are counted elsewhere."""
        held = {k: float(p.quantity) for k, p in ledger.positions.items() if k not in ours}
        self.held = {key: held[key] for key in sorted(held) if held[key]}
        self.net = self.gross = self.up = self.down = self.worst = 0.0
        self._by_venue = {}
        for key in sorted({*self.held, *(one.key for one in self.orders.values())}):
            self._add(key, [one for one in self.orders.values() if one.key == key])

    def _add(self, key: InstrumentKey, orders: Iterable[OpenOrder]) -> None:
        held = self.held.get(key, 0.0)
        value = held * self.marks.get(key, 0.0)
        up = down = 0.0
        for one in orders:
            worth = float(one.left) * (self.marks.get(key, 0.0) or one.price)
            up, down = up + max(worth, 0.0), down + max(-worth, 0.0)
        worst = max(abs(value + up), abs(value - down))
        self.net += value
        self.gross += abs(value)
        self.up += up
        self.down += down
        self.worst += worst
        self._by_venue[key.venue] = self._by_venue.get(key.venue, 0.0) + worst

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {
            "marks": [[*key, mark] for key, mark in self.marks.items()],
            "orders": [
                [order_id, *one.key, str(one.left), one.price]
                for order_id, one in self.orders.items()
            ],
        }

    def restore(self, plain: Mapping[str, object]) -> None:
        """Load `to_plain`; `recount` follows."""
        marks = cast(list[tuple[str, str, float]], plain["marks"])
        self.marks = {InstrumentKey(venue, symbol): mark for venue, symbol, mark in marks}
        orders = cast(list[list[object]], plain["orders"])
        self.orders = dict(order_from_plain(row) for row in orders)


def order_from_plain(row: list[object]) -> tuple[OrderId, OpenOrder]:
    """Read an order and its name back."""
    order_id, venue, symbol, left, price = cast(tuple[str, str, str, str, float], row)
    return OrderId(order_id), OpenOrder(InstrumentKey(venue, symbol), Decimal(left), price)
