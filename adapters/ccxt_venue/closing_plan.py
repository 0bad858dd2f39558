"""What is closed next when an account is flattened: equal steps a side, the largest first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal

from daemon.domain.instrument import InstrumentKey
from daemon.domain.units import require


@dataclass(frozen=True, slots=True)
class Open:
    """Hold one position. quantity: signed base units. price: quote, only for sizing.

    step, least, most: what one market order may be, in base units; most: None without a bound.
    """

    key: InstrumentKey
    quantity: Decimal
    price: Decimal
    step: Decimal
    least: Decimal
    most: Decimal | None = None

    def __post_init__(self) -> None:
        require(self.quantity != 0, f"{self.key}: nothing is held")
        require(self.price > 0, f"{self.key}: price {self.price} must be positive")
        require(self.step > 0, f"{self.key}: step {self.step} must be positive")

    @property
    def notional(self) -> Decimal:
        """Give what is held in quote currency, without its sign."""
        return abs(self.quantity) * self.price


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold one order that closes. quantity: signed base units, against what is held."""

    key: InstrumentKey
    quantity: Decimal
    price: Decimal


def gross_of(positions: Iterable[Open]) -> Decimal:
    """Sum up the notionals."""
    return sum((one.notional for one in positions), Decimal(0))


def next_step(positions: Sequence[Open], bound: Decimal) -> tuple[Piece, ...]:
    """Choose what is closed at once: about `bound` of quote currency a side, the largest first.

    A side that is larger by more than the bound goes alone until it is not, so that the net never
    grows past the greater of what it was and the bound, by more than one smallest order.
    """
    require(bound > 0, f"bound {bound} must be positive")
    long = [one for one in positions if one.quantity > 0]
    short = [one for one in positions if one.quantity < 0]
    excess = gross_of(long) - gross_of(short)
    if abs(excess) > bound:
        return tuple(_side(long if excess > 0 else short, bound))
    if not long or not short:
        return tuple(_side(long or short, bound))
    room = min(bound, gross_of(long), gross_of(short))
    ends = room < bound  # the smaller side ends with this step, so the other may as well
    return (*_side(long, bound if ends else room), *_side(short, bound if ends else room))


def _side(positions: Sequence[Open], room: Decimal) -> list[Piece]:
    pieces: list[Piece] = []
    for one in sorted(positions, key=lambda p: (-p.notional, p.key)):
        if pieces and room < one.price * max(one.least, one.step):
            continue
        quantity = _quantity(one, room)
        sign = -1 if one.quantity > 0 else 1
        pieces.append(Piece(one.key, sign * quantity, one.price))
        room -= quantity * one.price
    return pieces


def _quantity(one: Open, room: Decimal) -> Decimal:
    """Give how much of a position goes: whole where less than the least order would be left."""
    held = abs(one.quantity)
    wanted = held if one.most is None else min(held, one.most)
    if one.notional > room or wanted < held:
        wanted = min(wanted, max(room / one.price, one.least))
        wanted = max(one.step, (wanted / one.step).to_integral_value(ROUND_FLOOR) * one.step)
    rest = held - wanted
    fits = one.most is None or held <= one.most
    return held if fits and rest < max(one.least, one.step) else min(wanted, held)


def without(positions: Sequence[Open], pieces: Iterable[Piece]) -> tuple[Open, ...]:
    """Give what is left once the pieces are filled."""
    left = {one.key: one for one in positions}
    for piece in pieces:
        rest = left[piece.key].quantity + piece.quantity
        if rest:
            left[piece.key] = replace(left[piece.key], quantity=rest)
        else:
            del left[piece.key]
    return tuple(left.values())
