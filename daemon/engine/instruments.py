"""Instruments in snapshots: what a venue said of each, since it may say something else later."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any, Final

from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules, Universe
from daemon.domain.units import require

_RULES: Final = tuple(f.name for f in fields(TradingRules))


def instrument_to_plain(i: Instrument) -> list[Any]:
    """Give a form that the snapshot codec can write."""
    rules = [str(getattr(i.rules, name)) for name in _RULES]
    return [*i.key, i.base, i.quote, i.settle, i.listed_ms, rules]


def instrument_from_plain(row: list[Any]) -> Instrument:
    """Rebuild an instrument from `instrument_to_plain`."""
    venue, symbol, base, quote, settle, listed_ms, rules = row
    held = TradingRules(*map(Decimal, rules))
    return Instrument(InstrumentKey(venue, symbol), base, quote, settle, held, listed_ms)


def as_saved(universe: Universe, rows: list[list[Any]]) -> Universe:
    """Give the universe with what a snapshot says of each instrument.

    Raises InvariantViolated where it is of others, save that contracts may have taken spare
    columns since.
    """
    if rows == [instrument_to_plain(i) for i in universe.instruments]:  # as it mostly is
        return universe
    saved = [instrument_from_plain(row) for row in rows]
    ours = [str(i.key) for i in universe.instruments]
    theirs = [str(i.key) for i in saved]
    wrong = f"snapshot is of universe {theirs}, settings name {ours}"
    require(len(ours) == len(theirs), wrong)
    for place, (mine, its) in enumerate(zip(universe.instruments, saved, strict=True)):
        require(mine.key == its.key or mine.is_spare, wrong)
        universe = universe.with_instrument(place, its)
    return universe
