import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.paper import PaperSettings
from adapters.paper.rule import FillRule, Terms
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from tests.contract.paper_world import settings


def make_terms(tick: str = "0.01", lot: str = "0.001") -> Terms:
    rules = TradingRules(Decimal(tick), Decimal(lot), Decimal(0), Decimal(0))
    return Terms.of(0, Instrument(InstrumentKey("v", "A"), "A", "USDT", "USDT", rules))


def costs(impact_bps: float = 0.0, half_spread_bps: float = 0.0, fee_bps: float = 0.0) -> FillRule:
    return FillRule(
        settings(impact_bps=impact_bps, half_spread_bps=half_spread_bps, fee_bps=fee_bps)
    )


@pytest.mark.parametrize(
    ("quantity", "used", "price"),
    [
        ("4", "0", "102.00"),  # root of 4 / 100 = 0.2 of 1,000 bps = 2 %
        ("-4", "0", "98.00"),
        ("100", "0", "110.00"),  # the whole bar: the whole coefficient
        ("21", "4", "105.58"),  # 25 cost 25 x 5 %, the first 4 cost 4 x 2 %: (1.25 - .08) / 21
        ("-21", "4", "94.42"),
    ],
)
def test_impact_follows_the_root_of_the_share_taken(quantity: str, used: str, price: str) -> None:
    rule, terms = costs(impact_bps=1_000.0), make_terms()
    got = rule.price(terms, 100.0, Decimal(quantity), Decimal(used), 100.0)
    assert got == Decimal(price)


@given(
    first=st.integers(1, 10_000_000),
    second=st.integers(1, 10_000_000),
    volume=st.floats(1.0, 1e9),
)
def test_two_slices_pay_the_impact_of_the_whole(first: int, second: int, volume: float) -> None:
    terms = make_terms(tick="1e-12")
    rule = costs(impact_bps=5_000.0)
    a, b = Decimal(first) / 1_000, Decimal(second) / 1_000
    whole = (a + b) * (rule.price(terms, 1.0, a + b, Decimal(0), volume) - 1)
    sliced = a * (rule.price(terms, 1.0, a, Decimal(0), volume) - 1)
    sliced += b * (rule.price(terms, 1.0, b, a, volume) - 1)
    assert math.isclose(whole, sliced, rel_tol=1e-6, abs_tol=float(a + b) * 1e-11)


@given(
    reference=st.floats(1e-4, 1e6),
    lots=st.integers(-10_000, 10_000).filter(bool),
    spread=st.floats(0.0, 50.0),
    impact=st.floats(0.0, 500.0),
)
def test_no_price_is_ever_better_than_the_reference(
    reference: float, lots: int, spread: float, impact: float
) -> None:
    terms = make_terms(tick="0.00001")
    rule = costs(impact_bps=impact, half_spread_bps=spread)
    price = rule.price(terms, reference, Decimal(lots), Decimal(3), 20_000.0)
    exact = Decimal(repr(reference))
    assert price >= exact if lots > 0 else price <= exact
    assert not price % terms.price_step


@pytest.mark.parametrize(
    ("volume", "capacity"),
    [(10.0, "1"), (0.0199, "0.001"), (0.0099, "0"), (0.0, "0"), (-1.0, "0"), (math.nan, "0")],
)
def test_capacity_is_a_share_in_whole_lots(volume: float, capacity: str) -> None:
    assert costs().capacity(make_terms(), volume) == Decimal(capacity)


def test_fees_are_exact_to_eight_decimals() -> None:
    rule = costs(fee_bps=4.5)
    assert rule.fee(Decimal(1_000)) == Decimal("0.45")
    assert rule.fee(Decimal("0.00012345")) == Decimal("0.00000006")


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("fee_bps", -11.0, "from -10 to 1000"),
        ("fee_bps", math.nan, "from -10 to 1000"),
        ("half_spread_bps", -0.1, "from 0 to 1000"),
        ("impact_bps", 1e9, "from 0 to 5000"),
        ("latency_bps", math.inf, "from 0 to 1000"),
        ("participation_share", 0.0, "above 0 and up to 1"),
        ("participation_share", 1.5, "above 0 and up to 1"),
        ("participation_share", math.nan, "above 0 and up to 1"),
        ("starting_cash", {}, "at least one currency"),
        ("starting_cash", {"USDT": Decimal(0)}, "a Decimal above 0"),
        ("starting_cash", {"USDT": Decimal("NaN")}, "a Decimal above 0"),
    ],
)
def test_a_wrong_setting_names_key_value_and_what_is_accepted(
    name: str, value: object, accepted: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^paper\.{name}.*{accepted}"):
        settings(**{name: value})


def test_impact_needs_a_participation_share() -> None:
    with pytest.raises(ConfigurationError, match=r"impact_bps = 5\.0: must be 0 when"):
        PaperSettings(1.0, 1.0, 5.0, 0.0, None, {"USDT": Decimal(1)})
