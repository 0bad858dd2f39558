"""Post-only orders on paper: they never take, and they wait until the market went past them."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from adapters.paper import PaperVenue
from daemon.domain.messages import OrderAccepted, OrderEnded, OrderRejected
from daemon.domain.order import Order
from tests.contract.paper_world import MakeVenue, bars, fills_of, order


def post_only(name: str, quantity: str, limit: str) -> Order:
    return msgspec.structs.replace(order(name, quantity, limit=limit), post_only=True)


def venue_at(make: MakeVenue, price: float, **costs: float) -> PaperVenue:
    venue = make(**costs)
    venue.observe(bars(1, (price, 1_000.0, price)))
    return venue


def see(venue: PaperVenue, number: int, price: float) -> list[Decimal]:
    return [f.price for f in fills_of(venue.observe(bars(number, (price, 1_000.0, price))))]


@pytest.mark.parametrize(
    ("quantity", "limit", "rests"),
    [
        ("0.5", "99.9", True),
        ("0.5", "100.0", False),
        ("0.5", "100.1", False),
        ("-0.5", "100.1", True),
        ("-0.5", "100.0", False),
    ],
)
def test_what_would_take_is_refused_and_the_rest_rests(
    make: MakeVenue, quantity: str, limit: str, rests: bool
) -> None:
    venue = venue_at(make, 100.0)
    (said,) = venue.submit([post_only("a", quantity, limit)])
    assert isinstance(said, OrderAccepted if rests else OrderRejected)


def test_it_fills_at_its_limit_once_the_market_went_past_and_not_when_it_only_touches(
    make: MakeVenue,
) -> None:
    venue = venue_at(make, 100.0, half_spread_bps=2.0, latency_bps=1.0)
    venue.submit([post_only("buy", "0.5", "99.5"), post_only("sell", "-0.5", "101.0")])
    assert see(venue, 2, 99.5) == []
    assert see(venue, 3, 99.0) == [Decimal("99.5")]  # neither better nor with a spread
    assert see(venue, 4, 101.0) == []
    assert see(venue, 5, 102.0) == [Decimal("101.0")]


def test_a_cancel_ends_it_and_the_same_order_sent_again_is_answered_alike(make: MakeVenue) -> None:
    venue = venue_at(make, 100.0)
    wanted = post_only("a", "0.5", "99.5")
    venue.submit([wanted])
    ended = venue.cancel(wanted.order_id, wanted.key)
    assert isinstance(ended[-1], OrderEnded)
    assert venue.submit([wanted]) == ended
    (other,) = venue.submit([msgspec.structs.replace(wanted, post_only=False)])
    assert isinstance(other, OrderRejected)


def test_without_a_limit_there_is_no_post_only_order(make: MakeVenue) -> None:
    venue = venue_at(make, 100.0)
    (said,) = venue.submit([msgspec.structs.replace(order("a", "0.5"), post_only=True)])
    assert isinstance(said, OrderRejected)
    assert "limit" in said.reason
