"""Instruments in snapshots: what a venue said of each, since it may say something else later."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import Any

from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules


def instrument_to_plain(i: Instrument) -> list[Any]:
    """Give a form that the snapshot codec can write."""
    rules = [str(getattr(i.rules, f.name)) for f in fields(i.rules)]
    return [*i.key, i.base, i.quote, i.settle, i.listed_ms, rules]


def instrument_from_plain(row: list[Any]) -> Instrument:
    """Rebuild an instrument from `instrument_to_plain`."""
    venue, symbol, base, quote, settle, listed_ms, rules = row
    held = TradingRules(*map(Decimal, rules))
    return Instrument(InstrumentKey(venue, symbol), base, quote, settle, held, listed_ms)
