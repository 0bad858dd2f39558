"""The other side of the book: levels around the last price, and what a taker gets from them.

Level k of the asks lies (half_spread + k x level) bps above the mark, rounded up to the price step;
the bids mirror it, rounded down. Its quantity is depth_notional / price times a factor between one
half and one and a half that is a hash of (seed, symbol, side, instant, k): no state, no order of
asking. What was taken at an instant is gone until the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from hashlib import blake2b

from adapters.rehearsal.bank.desk import Desk
from adapters.rehearsal.bank.records import Taken
from adapters.rehearsal.bank.terms import BPS, ZERO, SymbolRules
from daemon.domain.units import quantise


@dataclass(frozen=True, slots=True)
class Slice:
    """Hold what a taker gets at one level: an unsigned quantity at a price."""

    price: Decimal
    quantity: Decimal


def level_price(
    desk: Desk, rules: SymbolRules, mark: Decimal, *, buys: bool, level: int
) -> Decimal:
    """Give the price that a taker pays (buys) or gets (sells) on a level, at least one step."""
    settings = desk.settings
    away = mark * (settings.half_spread_bps + level * settings.level_bps) / BPS
    if buys:
        return quantise(mark + away, rules.price_step, ROUND_CEILING)
    return max(rules.price_step, quantise(mark - away, rules.price_step, ROUND_FLOOR))


def best_price(desk: Desk, symbol: str, mark: Decimal, *, buys: bool) -> Decimal:
    """Give the best quote on the side that a taker meets."""
    return level_price(desk, desk.rules[symbol], mark, buys=buys, level=0)


def would_take(desk: Desk, symbol: str, mark: Decimal, quantity: Decimal, price: Decimal) -> bool:
    """Tell whether a limit order of signed `quantity` at `price` meets the other side at once."""
    best = best_price(desk, symbol, mark, buys=quantity > 0)
    return price >= best if quantity > 0 else price <= best


def offered(
    desk: Desk, symbol: str, mark: Decimal, quantity: Decimal, limit: Decimal | None
) -> list[Slice]:
    """List what a taker of signed `quantity` gets now, best price first, never beyond `limit`.

    The sum is at most |quantity|; it is less where the limit or the last level comes first.
    """
    buys, left = quantity > 0, abs(quantity)
    found: list[Slice] = []
    for price, there in _levels_left(desk, symbol, mark, buys=buys):
        if limit is not None and (price > limit if buys else price < limit):
            break
        got = min(left, there)
        if got > 0:
            found.append(Slice(price, got))
            left -= got
        if left <= 0:
            break
    return found


def take(desk: Desk, symbol: str, quantity: Decimal) -> None:
    """Remember that signed `quantity` was taken now."""
    place = _side(symbol, buys=quantity > 0)
    before = _taken(desk, place)
    desk.state.taken[place] = Taken(desk.now_ms, before + abs(quantity))


def _levels_left(
    desk: Desk, symbol: str, mark: Decimal, *, buys: bool
) -> Iterator[tuple[Decimal, Decimal]]:
    """Yield price and quantity of each level, less what was taken at this instant."""
    rules = desk.rules[symbol]
    gone = _taken(desk, _side(symbol, buys=buys))
    for level in range(desk.settings.levels_n):
        price = level_price(desk, rules, mark, buys=buys, level=level)
        share = _share(desk, symbol, buys=buys, level=level)
        whole = quantise(desk.settings.depth_notional * share / price, rules.quantity_step)
        there = max(rules.quantity_step, whole)
        used = min(gone, there)
        gone -= used
        yield price, there - used


def _side(symbol: str, *, buys: bool) -> str:
    return f"{'asks' if buys else 'bids'}:{symbol}"


def _taken(desk: Desk, place: str) -> Decimal:
    before = desk.state.taken.get(place)
    return before.quantity if before is not None and before.at_ms == desk.now_ms else ZERO


def _share(desk: Desk, symbol: str, *, buys: bool, level: int) -> Decimal:
    """Draw a factor in [0.5, 1.5) with three decimals."""
    text = f"{desk.settings.seed}|{symbol}|{buys}|{desk.now_ms}|{level}"
    drawn = int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") % 1000
    return Decimal(500 + drawn) / 1000
