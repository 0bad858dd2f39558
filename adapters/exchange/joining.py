"""Which contracts take the spare columns of a book: named ones first, then what was listed since.

A contract is new when the venue's own listing time is not before the book's beginning; where the
venue tells none, when it was not in the list of markets at the beginning. It must be a linear
perpetual in the currency of the book, trade at present, and have no announced end.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.exchange.mapping import end_ms_of, is_halted, is_linear_perpetual
from daemon.domain.units import iso


@dataclass(frozen=True, slots=True)
class Beginning:
    """Hold when a book was begun, and which perpetuals its venue listed then (unified symbols)."""

    at_ms: int
    listed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Joining:
    """Say who may take a spare column.

    named: unified symbols that settings name and the book does not have, in their order. admit_new:
    whether contracts listed since the beginning do so by themselves. settle: their currency.
    """

    beginning: Beginning
    named: tuple[str, ...] = ()
    admit_new: bool = True
    settle: str = "USDT"

    def wanted(
        self, markets: Mapping[str, Mapping[str, Any]], known: Collection[str]
    ) -> list[tuple[str, str]]:
        """Give (symbol, why) of each contract that should join and is not known, in order.

        markets: unified markets by symbol. Named ones come first, new ones by (listing, symbol).
        """
        named = [s for s in self.named if s in markets and s not in known]
        told = [(symbol, "universe.symbols names it") for symbol in named]
        if not self.admit_new:
            return told
        taken = {*known, *named}
        new = sorted(
            (_created_ms(market) or self.beginning.at_ms, symbol)
            for symbol, market in markets.items()
            if symbol not in taken and self._is_new(symbol, market)
        )
        return told + [(symbol, _why(_created_ms(markets[symbol]))) for _, symbol in new]

    def _is_new(self, symbol: str, market: Mapping[str, Any]) -> bool:
        if not is_linear_perpetual(market) or market.get("settle") != self.settle:
            return False
        if is_halted(market) or end_ms_of(market) is not None:
            return False
        created_ms = _created_ms(market)
        if created_ms is None:
            return symbol not in self.beginning.listed
        return created_ms >= self.beginning.at_ms


def perpetuals_of(markets: Mapping[str, Mapping[str, Any]]) -> frozenset[str]:
    """Give the symbols of the linear perpetuals in a list of markets."""
    return frozenset(symbol for symbol, market in markets.items() if is_linear_perpetual(market))


def _created_ms(market: Mapping[str, Any]) -> int | None:
    created = market.get("created")
    return created if isinstance(created, int) and not isinstance(created, bool) else None


def _why(created_ms: int | None) -> str:
    return "it was listed" if created_ms is None else f"it was listed at {iso(created_ms)}"
