"""Deeds of the venue and of an account's owner that faults call for, in no venue's words.

A deed happens when its fault is switched on, or at the first moment at which there is whom it can
strike: a liquidation waits for a position. Each is counted when it happens. Without a symbol,
positions are struck in every symbol and everything else in the first one that is listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import Final

from adapters.rehearsal.bank.bank import Bank
from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import OrderRequest, Origin
from adapters.rehearsal.faults import Fault, FaultSwitch, Strike
from daemon.domain.order import OrderKind
from daemon.domain.units import quantise

MANUAL_NOTIONALS: Final = 2
"""A trade by hand is worth so many times the least notional."""


class Deeds:
    """Do to the accounts of a bank what the switched on faults call for."""

    def __init__(self, bank: Bank, keys: tuple[str, ...], faults: FaultSwitch) -> None:
        self._bank = bank
        self._keys = keys
        self._faults = faults
        self._by_hand_n = 0
        self._deeds: Mapping[Fault, Callable[[Strike], bool]] = {
            Fault.SYMBOL_HALTED: self._halt,
            Fault.SYMBOL_RESUMED: self._resume,
            Fault.SYMBOL_DELISTED: self._delist,
            Fault.LIQUIDATION: self._liquidate,
            Fault.FORCED_REDUCTION: self._reduce,
            Fault.MANUAL_TRADE: self._trade,
        }

    def do(self) -> int:
        """Do what can be done now, counting each strike that was; give how many were."""
        done = 0
        for strike in self._faults.active:
            deed = self._deeds.get(strike.fault)
            if deed is not None and deed(strike):
                self._faults.take(strike.fault, symbol=strike.symbol)
                done += 1
        return done

    def _halt(self, strike: Strike) -> bool:
        self._bank.halt(self._named(strike))
        return True

    def _resume(self, strike: Strike) -> bool:
        self._bank.resume(self._named(strike))
        return True

    def _delist(self, strike: Strike) -> bool:
        self._bank.delist(self._named(strike))
        return True

    def _liquidate(self, strike: Strike) -> bool:
        held = self._held(strike)
        for key, symbol, _ in held:
            self._bank.liquidate(key, symbol)
        return bool(held)

    def _reduce(self, strike: Strike) -> bool:
        held = self._held(strike)
        for key, symbol, quantity in held:
            step = self._bank.rules[symbol].quantity_step
            half = quantise(abs(quantity) / 2, step, ROUND_CEILING)
            self._bank.reduce_forcibly(key, symbol, half)
        return bool(held)

    def _trade(self, strike: Strike) -> bool:
        symbol = self._named(strike)
        rules, price = self._bank.rules[symbol], self._bank.last_price(symbol)
        if price is None:
            return False
        quantity = quantise(
            MANUAL_NOTIONALS * max(rules.notional_min, rules.quantity_min * price) / price,
            rules.quantity_step,
            ROUND_CEILING,
        )
        placed = [self._by_hand(key, symbol, quantity) for key in self._keys]
        return any(placed)

    def _by_hand(self, key: str, symbol: str, quantity: Decimal) -> bool:
        self._by_hand_n += 1
        request = OrderRequest(
            symbol,
            quantity,
            OrderKind.MARKET,
            client_id=f"web_{self._bank.now_ms}{self._by_hand_n}",
            origin=Origin.OWNER,
        )
        return isinstance(self._bank.place(key, request), BankOrder)

    def _held(self, strike: Strike) -> list[tuple[str, str, Decimal]]:
        """List key, symbol and signed quantity of every position that is struck."""
        return [
            (key, view.symbol, view.position.quantity)
            for key in self._keys
            for view in self._bank.positions(key)
            if strike.symbol in {"", view.symbol}
        ]

    def _named(self, strike: Strike) -> str:
        if strike.symbol:
            return strike.symbol
        listed = (s for s in self._bank.rules if self._bank.symbol_refusal(s) is None)
        return next(listed, next(iter(self._bank.rules)))
