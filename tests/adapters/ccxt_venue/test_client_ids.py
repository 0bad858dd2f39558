"""Client ids: deterministic, one to one, reversible, and blind to other people's ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.ccxt_venue.client_ids import ID_RULES, client_id, order_id_of
from daemon.domain.failures import InvariantViolated
from daemon.domain.order import OrderId

VENUES = tuple(ID_RULES)
STEMS = st.from_regex(r"eq[0-9a-f]{8}(x[0-9]{1,5})?", fullmatch=True)
OUR_IDS = st.builds(
    lambda stem, index, child: OrderId(f"{stem}-{index}-{child}"),
    STEMS,
    st.integers(0, 9_999),
    st.integers(0, 9_999),
)


@pytest.mark.parametrize(
    ("venue", "written"),
    [
        ("binanceusdm", "eq65bbf840-6-1"),
        ("bybit", "eq65bbf840-6-1"),
        ("okx", "eq65bbf840X6X1"),
    ],
)
def test_an_id_is_written_as_the_venue_takes_it(venue: str, written: str) -> None:
    assert client_id(venue, OrderId("eq65bbf840-6-1")) == written
    assert order_id_of(venue, written) == "eq65bbf840-6-1"


@given(st.sampled_from(VENUES), OUR_IDS)
def test_every_id_of_ours_fits_and_comes_back(venue: str, order_id: OrderId) -> None:
    written = client_id(venue, order_id)
    rules = ID_RULES[venue]
    assert len(written) <= rules.length_max
    assert rules.letters.fullmatch(written)
    assert order_id_of(venue, written) == order_id


@given(st.sampled_from(VENUES), OUR_IDS, OUR_IDS)
def test_two_orders_never_share_a_name(venue: str, one: OrderId, other: OrderId) -> None:
    assert (client_id(venue, one) == client_id(venue, other)) == (one == other)


@given(st.sampled_from(VENUES), st.one_of(st.text(max_size=40), STEMS, OUR_IDS))
def test_what_is_recognised_is_exactly_what_is_written(venue: str, text: str) -> None:
    order_id = order_id_of(venue, text)
    if order_id is not None:
        assert client_id(venue, order_id) == text


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    "foreign",
    [
        None,
        17,
        "",
        "web_abcdEFGH1234",
        "android_1x",
        "x-xcKtGhcu0123456789abcdef",
        "autoclose-1700000000000",
        "adl_autoclose",
        "settlement_autoclose-1",
        "6b9ad766b55dBCDE0123456789abcdef",
        "EQ65bbf840-6-1",
        "eq65bbf840-6",
        "eq65bbf840-06-1",
        "eq65bbf840-6-1-2",
        "eq65bbf840-6-1 ",
        "eq65bbf840-6-1\n",
        "eq65bbf840-6-\uff11",
        "aq65bbf840-6-1",
    ],
)
def test_ids_of_others_are_not_ours(venue: str, foreign: object) -> None:
    assert order_id_of(venue, foreign) is None


def test_a_form_that_belongs_to_another_venue_is_not_ours() -> None:
    assert order_id_of("okx", "eq65bbf840-6-1") is None
    assert order_id_of("bybit", "eq65bbf840X6X1") is None


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize(
    "bad",
    [
        "settlement:binanceusdm:BTC/USDT:USDT:1",
        "eq" + "1" * 40 + "-1-1",
        "eqX1-1-1",
        "zz65bbf840-6-1",
    ],
)
def test_an_id_that_cannot_be_written_one_to_one_is_refused(venue: str, bad: str) -> None:
    with pytest.raises(InvariantViolated):
        client_id(venue, OrderId(bad))


def test_another_prefix_tells_two_daemons_on_one_account_apart() -> None:
    theirs = client_id("okx", OrderId("zz65bbf840-6-1"), prefix="zz")
    assert order_id_of("okx", theirs, prefix="zz") == "zz65bbf840-6-1"
    assert order_id_of("okx", theirs) is None


def test_a_venue_without_rules_is_refused() -> None:
    with pytest.raises(InvariantViolated):
        client_id("gate", OrderId("eq65bbf840-6-1"))
