"""Steps that flatten: both sides together, the largest first, and the net never runs away."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.ccxt_venue.closing_plan import Open, gross_of, next_step, without
from daemon.domain.instrument import InstrumentKey

STEP = Decimal("0.01")
STEPS_MAX = 4_000  # 600,000 by steps of just under 300


def position(name: str, quantity: str, price: str = "1", most: str | None = None) -> Open:
    bound = None if most is None else Decimal(most)
    key = InstrumentKey("binanceusdm", name)
    return Open(key, Decimal(quantity), Decimal(price), STEP, STEP, bound)


def net_of(positions: tuple[Open, ...]) -> Decimal:
    return sum((one.quantity * one.price for one in positions), Decimal(0))


cents = st.integers(-100_000, 100_000).filter(bool).map(lambda n: n * STEP)
prices = st.integers(1, 500).map(Decimal)
books = st.lists(st.tuples(cents, prices, st.sampled_from([None, "7.5", "500"])), max_size=8)


@settings(deadline=None)
@given(books, st.integers(300, 50_000).map(Decimal))
def test_every_book_ends_flat_in_bounded_steps_with_a_bounded_net(
    book: list[tuple[Decimal, Decimal, str | None]], bound: Decimal
) -> None:
    left = tuple(
        position(f"C{n}", str(quantity), str(price), most)
        for n, (quantity, price, most) in enumerate(book)
    )
    slack = sum((one.price * STEP for one in left), Decimal(0))
    net_max = max(abs(net_of(left)), bound) + bound + slack
    for _ in range(STEPS_MAX):
        if not left:
            break
        pieces = next_step(left, bound)
        assert pieces
        held = {one.key: one for one in left}
        for piece in pieces:
            one = held[piece.key]
            assert piece.quantity * one.quantity < 0, "it closes"
            assert abs(piece.quantity) <= abs(one.quantity), "and never opens the other side"
            assert one.most is None or abs(piece.quantity) <= one.most
        for sign in (1, -1):
            side = [p for p in pieces if p.quantity * sign > 0]
            assert sum((abs(p.quantity) * p.price for p in side), Decimal(0)) <= bound + slack
        left = without(left, pieces)
        assert abs(net_of(left)) <= net_max
    assert gross_of(left) == 0


def test_the_largest_of_each_side_goes_first() -> None:
    book = (position("A", "10"), position("B", "30"), position("C", "-25"), position("D", "-15"))
    pieces = next_step(book, Decimal(20))
    assert [(p.key.symbol, p.quantity) for p in pieces] == [
        ("B", Decimal(-20)),
        ("C", Decimal(20)),
    ]


def test_a_side_in_excess_goes_alone_until_it_is_not() -> None:
    book = (position("A", "100"), position("C", "-25"))
    assert [p.key.symbol for p in next_step(book, Decimal(20))] == ["A"]
    book = (position("A", "40"), position("C", "-25"))
    assert [p.key.symbol for p in next_step(book, Decimal(20))] == ["A", "C"]
