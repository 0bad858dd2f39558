"""The names of a venue's contracts: its symbol id, our key, the column, the contract's size.

Read once and kept: a contract that is delisted and falls out of the venue's list keeps its name
here, because a position may just have been settled out of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from daemon.domain.failures import BadPayload
from daemon.domain.instrument import CashKey, Instrument, InstrumentKey
from daemon.domain.order import OUTSIDE
from daemon.domain.units import require


class Names:
    """Translate between a venue's symbol ids and the universe; other contracts keep their names."""

    def __init__(self, venue: str, instruments: Sequence[Instrument]) -> None:
        self.venue = venue
        self._instruments: dict[InstrumentKey, tuple[int, Instrument]] = {}
        self._keys: dict[str, InstrumentKey] = {}
        self._ids: dict[InstrumentKey, str] = {}
        self._sizes: dict[str, Decimal] = {}
        self._settles: dict[InstrumentKey, str] = {}
        for index, one in enumerate(instruments):
            self.take(index, one)

    def take(self, index: int, instrument: Instrument) -> None:
        """Note an instrument of ours; one of another venue or a free column is passed over."""
        key = instrument.key
        if key.venue != self.venue or instrument.is_spare:
            return
        self._instruments[key] = (index, instrument)
        self._settles[key] = instrument.settle
        if key not in self._ids:
            self._name(key, _guessed_id(self.venue, instrument), instrument.rules.contract_size)

    def learn(self, markets: Mapping[str, Mapping[str, Any]]) -> None:
        """Note every linear contract that the client lists, by its unified symbol.

        Those that expire too: the owner may hold one, and an account must be readable then.
        """
        for symbol, market in markets.items():
            if not (market.get("contract") and market.get("linear")):
                continue
            key = InstrumentKey(self.venue, symbol)
            self._settles.setdefault(key, str(market["settle"]))
            self._name(key, str(market["id"]), Decimal(str(market.get("contractSize") or 1)))

    def _name(self, key: InstrumentKey, symbol_id: str, size: Decimal) -> None:
        self._ids[key], self._keys[symbol_id] = symbol_id, key
        self._sizes[symbol_id] = size

    @property
    def ours(self) -> tuple[InstrumentKey, ...]:
        """List the contracts of the universe at this venue, in its order."""
        return tuple(self._instruments)

    @property
    def currencies(self) -> frozenset[str]:
        """Name the currencies in which the universe settles here."""
        return frozenset(one.settle for _, one in self._instruments.values())

    def symbol_id(self, key: InstrumentKey) -> str:
        """Give the venue's id of a contract; one that nobody ever named has no other name."""
        return self._ids.get(key, key.symbol)

    def key(self, symbol_id: str) -> InstrumentKey:
        """Give the key of a venue's id; raises BadPayload for one that nobody ever named."""
        if symbol_id not in self._keys:
            raise BadPayload(f"{self.venue} names a contract that it does not list: {symbol_id!r}")
        return self._keys[symbol_id]

    def any_key(self, symbol_id: str) -> InstrumentKey:
        """Give the key of a venue's id; one that nobody ever named is named after itself.

        So the owner's trades in what the venue has taken off its list leave the account readable.
        """
        return self._keys.get(symbol_id) or InstrumentKey(self.venue, symbol_id)

    def currency(self, key: InstrumentKey) -> str | None:
        """Name the cash that a contract moves; None for a contract that nobody ever named."""
        return self._settles.get(key)

    def index(self, key: InstrumentKey) -> int:
        """Give the column of a contract, OUTSIDE where it has none."""
        found = self._instruments.get(key)
        return OUTSIDE if found is None else found[0]

    def cash_key(self, key: InstrumentKey) -> CashKey:
        """Give the cash that a contract's gains and fees move."""
        require(key in self._settles, f"{key}: its currency was never named")
        return CashKey(self.venue, self._settles[key])

    def size(self, symbol_id: str) -> Decimal:
        """Give the size of one contract in base units; raises BadPayload for a strange one."""
        self.key(symbol_id)
        return self._sizes[symbol_id]


def _guessed_id(venue: str, instrument: Instrument) -> str:
    """Say how the venue names a contract that it may have taken off its list already."""
    base, quote = instrument.base, instrument.quote
    return f"{base}-{quote}-SWAP" if venue == "okx" else f"{base}{quote}"
