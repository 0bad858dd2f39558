"""The ledger as a snapshot keeps it, and what its other currencies are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final, cast

from daemon.domain.instrument import CashKey, InstrumentKey, Universe
from daemon.domain.portfolio import Ledger, Position

_TOTALS: Final = ("fees", "funding", "transfers", "adjustments", "turnover")
_CASH: Final = ("cash", "other", "other_fees")


def ledger_to_plain(ledger: Ledger) -> dict[str, object]:
    """Give a form that the snapshot codec can write."""
    return {
        "positions": [[*k, str(p.quantity), str(p.cost)] for k, p in ledger.positions.items()],
        **{name: [[*k, str(v)] for k, v in getattr(ledger, name).items()] for name in _CASH},
        "totals": {name: str(getattr(ledger, name)) for name in _TOTALS},
        "fills": ledger.fills,
    }


def ledger_from_plain(plain: Mapping[str, object]) -> Ledger:
    """Read what `ledger_to_plain` gave; older snapshots know of no other currencies."""
    ledger = Ledger(fills=cast(int, plain["fills"]))
    for venue, symbol, quantity, cost in cast(list[list[str]], plain["positions"]):
        held = Position(Decimal(quantity), Decimal(cost))
        ledger.positions[InstrumentKey(venue, symbol)] = held
    for name in _CASH:
        rows = cast(list[list[str]], plain["cash"] if name == "cash" else plain.get(name, []))
        amounts: dict[CashKey, Decimal] = getattr(ledger, name)
        amounts.update({CashKey(v, currency): Decimal(amount) for v, currency, amount in rows})
    for name, amount in cast(dict[str, str], plain["totals"]).items():
        setattr(ledger, name, Decimal(amount))
    return ledger


def price_of(currency: str, universe: Universe, prices: Sequence[float]) -> float:
    """Give the price of a currency by a contract of it in quote currency, 0 where none tells."""
    columns = enumerate(universe.instruments)
    found = [prices[n] for n, instrument in columns if instrument.base == currency]
    return next((price for price in found if price > 0), 0.0)


def value_of(
    amounts: Mapping[CashKey, Decimal], universe: Universe, prices: Sequence[float]
) -> float:
    """Value amounts of other currencies; what has no price is worth nothing to us."""
    worth = (float(v) * price_of(k.currency, universe, prices) for k, v in amounts.items())
    return sum(worth, 0.0)
