"""The border to the public half: what is published as floats becomes exact here, and only here."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from adapters.rehearsal.bank.terms import FundingSettlement, PublicPrint, SymbolRules
from adapters.rehearsal.market import LOTS_MAX, MARKET_LOTS_MAX, Coin
from adapters.rehearsal.publication import Publication


def rules_of(coins: Iterable[Coin], *, currency: str = "USDT") -> dict[str, SymbolRules]:
    """Give the rules of coins by symbol; a coin names no least quantity, so it is one step."""
    return {
        coin.symbol: SymbolRules(
            symbol=coin.symbol,
            currency=currency,
            price_step=Decimal(coin.price_step),
            quantity_step=Decimal(coin.quantity_step),
            quantity_min=Decimal(coin.quantity_step),
            notional_min=Decimal(coin.notional_min_usdt),
            listed_ms=coin.listed_ms,
            delisted_ms=coin.delisted_ms,
            price_max=Decimal(coin.price_step) * LOTS_MAX,
            quantity_max=Decimal(coin.quantity_step) * LOTS_MAX,
            market_max=Decimal(coin.quantity_step) * MARKET_LOTS_MAX,
        )
        for coin in coins
    }


def exact(value: float) -> Decimal:
    """Read a float through its shortest decimal form, so that 0.1 means 0.1."""
    return Decimal(repr(float(value)))


class PublishedQuotes:
    """Show a publication to the bank."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication
        self._newest: dict[str, tuple[int, Decimal | None]] = {}  # by symbol: when, last price

    def last_price(self, symbol: str, now_ms: int) -> Decimal | None:
        """Give the last traded price, None before the first."""
        kept = self._newest.get(symbol)
        if kept is not None and kept[0] == now_ms:
            return kept[1]
        price = self._publication.last_price(symbol, now_ms)
        found = None if price is None else exact(price)
        self._newest[symbol] = (now_ms, found)
        return found

    def prints(self, symbol: str, after_ms: int, until_ms: int) -> list[PublicPrint]:
        """List the public trades with after < time <= until, oldest first."""
        return [
            PublicPrint(one.time_ms, exact(one.price), exact(one.quantity))
            for one in self._publication.prints(symbol, after_ms, until_ms)
        ]

    def settlements(self, symbol: str, after_ms: int, until_ms: int) -> list[FundingSettlement]:
        """List the funding settlements with after < time <= until, oldest first."""
        found = self._publication.market.settlements(symbol, after_ms + 1, until_ms + 1)
        return [FundingSettlement(one.time_ms, exact(one.rate)) for one in found]
