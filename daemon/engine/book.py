"""The book: exact ledger, its float mirror, marks, and exposure at the worst case of open orders.

Decisions read the float mirror; every amount that is owed lives in the ledger. `check_mirror` holds
the two together at each decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast

import numpy as np

from daemon.domain.bar import Floats
from daemon.domain.instrument import CashKey, InstrumentKey, Universe
from daemon.domain.order import Fill, Order
from daemon.domain.portfolio import Ledger, Position
from daemon.domain.units import require

MIRROR_TOLERANCE: Final = 1e-9  # of gross plus equity


class Book:
    """Hold positions, cash, marks and what open orders may still change.

    quantity, marks, mark_ms: (N,). marks is NaN before the first bar of an instrument. pending_buy
    and pending_sell: (N,) base units that open orders may still trade (both >= 0).
    """

    def __init__(self, universe: Universe) -> None:
        n = len(universe)
        self.universe = universe
        self.ledger = Ledger()
        self.cash = 0.0
        self.quantity = np.zeros(n)
        self.marks = np.full(n, np.nan)
        self.mark_ms = np.zeros(n, dtype=np.int64)
        self.pending_buy = np.zeros(n)
        self.pending_sell = np.zeros(n)
        self._valued = np.zeros(n)  # marks with 0 where unknown
        self.net = 0.0  # quote currency, signed
        self.pending_up = 0.0  # notional that open buys may still add
        self.pending_down = 0.0  # notional that open sells may still take off
        self.worst = np.zeros(n)  # largest |quantity| that open orders could lead to
        self.gross_worst = 0.0  # its value, quote currency
        self.net_weight_worst = 0.0  # largest |net| / equity after any single fill so far
        self.shortfall = (
            0.0  # quote currency lost between the mark an order was sized at and its fill
        )
        self._cash_keys = [i.cash_key for i in universe.instruments]

    def mark(self, close_ms: int, closes: Floats) -> None:
        """Take the closes of the bars that closed at `close_ms`; NaN leaves the old mark."""
        fresh = (closes == closes) & (self.mark_ms <= close_ms)
        if fresh.all():
            self.marks = closes.copy()
            self.mark_ms.fill(close_ms)
        else:
            self.marks[fresh] = closes[fresh]
            self.mark_ms[fresh] = close_ms
        self._valued = np.where(self.marks == self.marks, self.marks, 0.0)
        self._recount()

    def _recount(self) -> None:
        self.net = float(self.quantity @ self._valued)
        self.pending_up = float(self.pending_buy @ self._valued)
        self.pending_down = float(self.pending_sell @ self._valued)
        up, down = self.quantity + self.pending_buy, self.quantity - self.pending_sell
        self.worst = np.maximum(np.maximum(up, -up), np.maximum(down, -down))
        self.gross_worst = float(self.worst @ self._valued)

    def _renew_worst(self, index: int) -> None:
        quantity = float(self.quantity[index])
        up, down = quantity + self.pending_buy[index], quantity - self.pending_sell[index]
        worst = max(abs(up), abs(down))
        self.gross_worst += (worst - float(self.worst[index])) * float(self._valued[index])
        self.worst[index] = worst

    def worst_name_and_gross(self, index: int, quantity: float) -> tuple[float, float]:
        """Give the worst notional of one name and of the book if `quantity` were sent as well."""
        held, mark = float(self.quantity[index]), float(self._valued[index])
        up = held + float(self.pending_buy[index]) + max(quantity, 0.0)
        down = held - float(self.pending_sell[index]) + min(quantity, 0.0)
        worst = max(abs(up), abs(down))
        gross = self.gross_worst + (worst - float(self.worst[index])) * mark
        return worst * mark, gross

    @property
    def equity(self) -> float:
        """Give cash plus positions at their marks, in quote currency."""
        return self.cash + self.net

    @property
    def gross(self) -> float:
        """Give the sum of absolute position values, in quote currency."""
        return float(np.abs(self.quantity) @ self._valued)

    def weights(self) -> Floats:
        """Give signed fractions of equity, (N,); zero equity is refused."""
        equity = self.equity
        require(equity > 0, f"equity {equity:.2f} is not positive: weights are undefined")
        return self.quantity * self._valued / equity

    def worst_net(self) -> tuple[float, float]:
        """Give the highest and lowest net notional that any subset of fills could reach."""
        return self.net + self.pending_up, self.net - self.pending_down

    def reserve(self, order: Order) -> None:
        """Count an order at its worst case from the moment it may reach the venue."""
        self._pend(order.index, order.quantity)

    def release(self, index: int, left: Decimal) -> None:
        """Stop counting what an ended order can no longer trade."""
        self._pend(index, -left, releases=left)

    def _pend(self, index: int, amount: Decimal, *, releases: Decimal | None = None) -> None:
        side = releases if releases is not None else amount
        size = float(abs(amount))
        signed = -size if releases is not None else size
        value = signed * float(self._valued[index])
        if side > 0:
            self.pending_buy[index] = max(0.0, self.pending_buy[index] + signed)
            self.pending_up = max(0.0, self.pending_up + value)
        else:
            self.pending_sell[index] = max(0.0, self.pending_sell[index] + signed)
            self.pending_down = max(0.0, self.pending_down + value)
        self._renew_worst(index)

    def fill(self, fill: Fill, reference_price: float) -> None:
        """Book a fill in the ledger and in the mirror; reference_price is what it was sized at."""
        key = self._cash_keys[fill.index]
        self.ledger.apply_fill(fill, key)
        quantity = float(fill.quantity)
        self.quantity[fill.index] = float(self.ledger.positions[fill.key].quantity)
        self.cash = float(self.ledger.cash[key]) if len(self.ledger.cash) == 1 else self._cash()
        self.net += quantity * float(self._valued[fill.index])
        self._renew_worst(fill.index)
        self.shortfall += quantity * (float(fill.price) - reference_price)
        equity = self.cash + self.net
        if equity > 0 and abs(self.net) > self.net_weight_worst * equity:
            self.net_weight_worst = abs(self.net) / equity

    def cash_flow(self, cash_key: CashKey, amount: Decimal, *, funding: bool) -> None:
        """Book funding (funding=True) or a transfer."""
        if funding:
            self.ledger.apply_funding(cash_key, amount)
        else:
            self.ledger.apply_transfer(cash_key, amount)
        self.cash = self._cash()

    def adjust(self, key: InstrumentKey, quantity: Decimal) -> None:
        """Adopt a position difference to the venue as an explicit adjustment."""
        index = self.universe.index[key]
        self.ledger.apply_adjustment(key, self._cash_keys[index], quantity, Decimal(0))
        self.quantity[index] = float(self.ledger.positions[key].quantity)
        self._recount()

    def _cash(self) -> float:
        return float(sum(self.ledger.cash.values(), Decimal(0)))

    def check_mirror(self) -> None:
        """Hold the float mirror against the ledger; raise InvariantViolated beyond 1e-9."""
        exact = self._cash()
        for i, instrument in enumerate(self.universe.instruments):
            position = self.ledger.positions.get(instrument.key)
            if position is not None and position.quantity:
                exact += float(position.quantity) * float(self._valued[i])
        scale = abs(exact) + self.gross
        gap = abs(exact - self.equity)
        require(gap <= MIRROR_TOLERANCE * max(scale, 1.0), f"float book is {gap} off the ledger")

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        ledger = self.ledger
        return {
            "positions": [[*k, str(p.quantity), str(p.cost)] for k, p in ledger.positions.items()],
            "cash": [[*k, str(v)] for k, v in ledger.cash.items()],
            "totals": {
                name: str(getattr(ledger, name))
                for name in ("fees", "funding", "transfers", "adjustments", "turnover")
            },
            "fills": ledger.fills,
            "net_weight_worst": self.net_weight_worst,
            "shortfall": self.shortfall,
            "marks": self.marks,
            "mark_ms": self.mark_ms,
        }

    def restore(self, plain: Mapping[str, object], pending: list[tuple[int, Decimal]]) -> None:
        """Rebuild the book; `pending` lists (index, left) of the open orders."""
        ledger = Ledger(fills=cast(int, plain["fills"]))
        for venue, symbol, quantity, cost in cast(list[list[str]], plain["positions"]):
            held = Position(Decimal(quantity), Decimal(cost))
            ledger.positions[InstrumentKey(venue, symbol)] = held
        for venue, currency, amount in cast(list[list[str]], plain["cash"]):
            ledger.cash[CashKey(venue, currency)] = Decimal(amount)
        for name, amount in cast(dict[str, str], plain["totals"]).items():
            setattr(ledger, name, Decimal(amount))
        self.ledger = ledger
        self.cash = self._cash()
        self.net_weight_worst = cast(float, plain["net_weight_worst"])
        self.shortfall = cast(float, plain["shortfall"])
        self.marks = np.array(plain["marks"], dtype=np.float64)
        self.mark_ms = np.array(plain["mark_ms"], dtype=np.int64)
        self._valued = np.where(self.marks == self.marks, self.marks, 0.0)
        self.quantity = np.array([float(ledger.quantity(i.key)) for i in self.universe.instruments])
        self.pending_buy[:] = 0.0
        self.pending_sell[:] = 0.0
        self._recount()
        for index, left in pending:
            self._pend(index, left)
