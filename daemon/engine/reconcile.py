"""The venue's account against ours: every difference is named, none is traded away."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Final

from daemon.domain.instrument import CashKey, InstrumentKey, Universe
from daemon.domain.portfolio import AccountSnapshot, Ledger
from daemon.engine.book import Book

LAST_DIGIT: Final = Decimal("1e-8")  # of a venue's cash


class ReconcilePolicy(StrEnum):
    """Say what happens with what the account holds and we did not bring about, see `foreign`."""

    ADOPT = "adopt"
    FLATTEN = "flatten"
    HALT = "halt"


@dataclass(frozen=True, slots=True)
class Difference:
    """Hold one disagreement: what we think, what the venue says."""

    name: InstrumentKey | CashKey
    ours: Decimal
    theirs: Decimal

    def is_ours(self, universe: Universe) -> bool:
        """Tell whether the book can hold it: cash, or an instrument of the universe."""
        return isinstance(self.name, CashKey) or self.name in universe.index

    def __str__(self) -> str:
        return f"{':'.join(self.name)}: ours {self.ours}, venue {self.theirs}"


def differences(ledger: Ledger, snapshot: AccountSnapshot) -> tuple[Difference, ...]:
    """List every position and balance of the snapshot's venue that differs, in stable order."""
    venue, zero = snapshot.venue, Decimal(0)
    keys = {k for k in ledger.positions if k.venue == venue} | set(snapshot.quantities)
    found = [
        Difference(k, ledger.quantity(k), snapshot.quantities.get(k, zero)) for k in sorted(keys)
    ]
    cash = {k for k in ledger.cash if k.venue == venue} | set(snapshot.cash)
    found += [
        Difference(k, ledger.cash.get(k, zero), snapshot.cash.get(k, zero)) for k in sorted(cash)
    ]
    return tuple(d for d in found if d.ours != d.theirs)


def rounding_in(
    found: tuple[Difference, ...], snapshot: AccountSnapshot, fills_n: int = 0
) -> tuple[Difference, ...]:
    """List the differences of cash that are no more than what the venue's rounding explains.

    fills_n: of the book, each of which the venue may have rounded by a last digit; over months
    that is more than what a snapshot allows for.
    """
    allowed, zero, more = snapshot.cash_rounding, Decimal(0), fills_n * LAST_DIGIT
    return tuple(
        d
        for d in found
        if isinstance(d.name, CashKey)
        and (room := allowed.get(d.name, zero))
        and abs(d.theirs - d.ours) <= room + more
    )


def adopt(book: Book, found: tuple[Difference, ...]) -> None:
    """Take the venue's account as ours: positions as adjustments, cash as a transfer."""
    for difference in found:
        amount = difference.theirs - difference.ours
        if isinstance(difference.name, InstrumentKey):
            book.adjust(difference.name, amount)
        else:
            book.cash_flow(difference.name, amount, funding=False)
