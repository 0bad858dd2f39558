"""A spare column of a paper account is taken by a contract listed later, once and for good."""

from __future__ import annotations

from collections.abc import Collection

from adapters.paper.rule import Terms
from daemon.domain.instrument import Instrument, is_spare_symbol
from daemon.domain.units import require


def column_taken(
    columns: tuple[Terms, ...], terms: Terms, instrument: Instrument, currencies: Collection[str]
) -> tuple[Terms, ...]:
    """Give the columns with `terms` in its place; raises InvariantViolated where it may not be.

    currencies: what the account keeps its cash in.
    """
    index, key, before = terms.index, terms.key, columns[terms.index].key
    require(is_spare_symbol(before.symbol), f"column {index} is not {key}")
    require(before.venue == key.venue, f"column {index} is not at {key.venue}")
    require(all(key != one.key for one in columns), f"{key} has a column already")
    require(instrument.settle in currencies, f"{key} settles in {instrument.settle}: none is here")
    return (*columns[:index], terms, *columns[index + 1 :])
