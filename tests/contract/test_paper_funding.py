"""Funding is booked once, at its settlement, on what was held then."""

from decimal import Decimal

from adapters.paper import PaperVenue
from daemon.domain.messages import FundingPaid, OrderFilled
from tests.contract.paper_world import NAN, PRICES, MakeVenue, at, bars, cash, key, order, rates


def test_longs_pay_a_positive_rate_on_what_was_held_before_trading(venue: PaperVenue) -> None:
    venue.submit([order("a", "2"), order("b", "-10", index=1)])
    before = cash(venue)
    venue.observe(rates(2, (0.001, 0.002, 0.5)))
    events = venue.observe(bars(2, (110.0, 11.0, 1.0)))
    paid = [e for e in events if isinstance(e, FundingPaid)]
    # 2 x 110 x 0.001 = 0.22 paid, 10 x 11 x 0.002 = 0.22 received
    assert [(p.key, p.amount, p.rate) for p in paid] == [
        (key(0), Decimal("-0.22"), 0.001),
        (key(1), Decimal("0.22"), 0.002),
    ]
    assert {p.settle_ms for p in paid} == {at(2)}
    assert cash(venue) == before


def test_funding_comes_before_the_fills_of_its_instant(make: MakeVenue) -> None:
    venue = make()
    venue.observe(bars(1, PRICES, volumes=10.0))
    venue.submit([order("a", "3")])
    venue.observe(rates(2, (0.01, NAN, NAN)))
    events = venue.observe(bars(2, PRICES, volumes=1_000.0))
    assert [type(e) for e in events] == [FundingPaid, OrderFilled]
    assert isinstance(events[0], FundingPaid)
    assert events[0].amount == Decimal(-1)  # 1 of 3 was held: 1 x 100 x 0.01


def test_a_late_rate_is_booked_with_what_was_held_then(venue: PaperVenue) -> None:
    venue.submit([order("a", "1")])
    venue.observe(bars(2, (110.0, 10.0, 1.0)))
    venue.submit([order("b", "5", number=2)])
    venue.observe(bars(3, (120.0, 10.0, 1.0)))
    (event,) = venue.observe(rates(2, (0.001, NAN, NAN)))
    assert isinstance(event, FundingPaid)
    assert (event.amount, event.settle_ms) == (Decimal("-0.11"), at(2))  # 1 x 110 x 0.001


def test_a_settlement_counts_once_however_often_its_rate_comes(venue: PaperVenue) -> None:
    venue.submit([order("a", "1")])
    venue.observe(rates(2, (0.001, NAN, NAN)))
    assert len(venue.observe(bars(2, PRICES))) == 1
    assert venue.observe(rates(2, (0.001, NAN, NAN))) == []
    assert venue.observe(rates(2, (0.009, NAN, NAN))) == []
    assert venue.observe(bars(3, PRICES)) == []
    assert venue.observe(rates(2, (0.001, NAN, NAN))) == []


def test_rates_of_one_settlement_may_come_in_parts(venue: PaperVenue) -> None:
    venue.submit([order("a", "1"), order("b", "10", index=1)])
    venue.observe(rates(2, (0.001, NAN, NAN)))
    assert len(venue.observe(bars(2, PRICES))) == 1
    (event,) = venue.observe(rates(2, (0.001, 0.001, NAN)))
    assert isinstance(event, FundingPaid)
    assert event.key == key(1)


def test_a_settlement_between_two_bars_uses_the_last_close_before_it(venue: PaperVenue) -> None:
    venue.submit([order("a", "1")])
    early = rates(1, (0.001, NAN, NAN))
    venue.observe(type(early)(at(1) + 5, early.rates, early.marks))
    venue.submit([order("b", "1")])
    (event,) = venue.observe(bars(2, (200.0, 10.0, 1.0)))
    assert isinstance(event, FundingPaid)
    assert event.amount == Decimal("-0.2")  # 2 held after the trades at bar 1, its close was 100


def test_funding_waits_for_the_mark_of_a_late_bar(venue: PaperVenue) -> None:
    venue.submit([order("a", "1"), order("b", "10", index=1)])
    venue.observe(rates(2, (0.001, 0.001, NAN)))
    events = venue.observe(bars(2, (NAN, 20.0, 1.0), opens=(NAN, 20.0, 1.0), final=False))
    assert [e.key for e in events if isinstance(e, FundingPaid)] == [key(1)]
    (event,) = venue.observe(bars(2, (150.0, NAN, NAN), opens=(NAN,) * 3, final=False))
    assert isinstance(event, FundingPaid)
    assert event.amount == Decimal("-0.15")


def test_funding_of_an_absent_bar_uses_the_last_close_when_the_instant_is_over(
    venue: PaperVenue,
) -> None:
    venue.submit([order("a", "1")])
    venue.observe(rates(2, (0.001, NAN, NAN)))
    assert venue.observe(bars(2, (NAN, 10.0, 1.0), opens=(NAN,) * 3, final=False)) == []
    (event,) = venue.observe(bars(3, (300.0, 10.0, 1.0)))
    assert isinstance(event, FundingPaid)
    assert (event.amount, event.settle_ms) == (Decimal("-0.1"), at(2))


def test_a_rate_more_than_a_day_late_is_counted_as_missed(venue: PaperVenue) -> None:
    venue.submit([order("a", "1")])
    for number in range(2, 60):
        venue.observe(bars(number, PRICES))
    assert venue.observe(rates(5, (0.001, NAN, NAN))) == []
    assert venue.funding_too_late_n == 1
    assert venue.observe(rates(-500, (0.001, NAN, NAN))) == []  # before anything could be held
    assert venue.funding_too_late_n == 1
    assert len(venue.observe(rates(12, (0.001, NAN, NAN)))) == 1  # 23.5 hours late


def test_nothing_held_pays_nothing(venue: PaperVenue) -> None:
    venue.observe(rates(2, (0.001, 0.001, 0.001)))
    assert venue.observe(bars(2, PRICES)) == []
