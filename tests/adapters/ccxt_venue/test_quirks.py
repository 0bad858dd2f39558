"""The tables of quirks against the real client: what it sends when it is asked this way."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import ccxt.async_support as ccxt
import pytest

from adapters.ccxt_venue.client_ids import ID_RULES, client_id
from adapters.ccxt_venue.codes import CODES
from adapters.ccxt_venue.quirks import QUIRKS, lacking, quirks_of, sizes_for
from adapters.ccxt_venue.rows import one_each
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import InstrumentKey
from daemon.domain.order import Order, OrderKind
from tests.adapters.ccxt_venue.loopback import (
    OURS,
    SYMBOL,
    Script,
    ccxt_of,
    serving,
    shut,
)
from tests.adapters.ccxt_venue.payloads import GOOD, bybit, named, okx

VENUES = tuple(QUIRKS)


def order(kind: OrderKind = OrderKind.LIMIT, *, reduce_only: bool = False) -> Order:
    return Order(
        order_id=OURS,
        key=InstrumentKey("x", SYMBOL),
        index=6,
        quantity=Decimal("0.01"),
        kind=kind,
        as_of_ms=0,
        reference_price=50_000.0,
        limit_price=Decimal(50_000),
        reduce_only=reduce_only,
    )


async def sent_for(venue: str, params: dict[str, object]) -> str:
    name = client_id(venue, OURS)
    async with serving(Script(named(GOOD[venue, "send"], name))) as served:
        exchange = ccxt_of(venue, f"http://127.0.0.1:{served.port}")
        try:
            await exchange.create_order(SYMBOL, "limit", "buy", 0.01, 50_000.0, params)
        finally:
            await shut(exchange)
    (request,) = served.requests
    return request


@pytest.mark.parametrize("venue", VENUES)
async def test_id_post_only_and_reduce_only_reach_the_venue_in_its_own_words(venue: str) -> None:
    name = client_id(venue, OURS)
    params = QUIRKS[venue].create_params(order(reduce_only=True), name, post_only=True)
    request = await sent_for(venue, params)
    wanted = {
        "binanceusdm": (f"newClientOrderId={name}", "timeInForce=GTX", "reduceOnly=true"),
        "bybit": (f'"orderLinkId":"{name}"', '"timeInForce":"PostOnly"', '"reduceOnly":true'),
        "okx": (f'"clOrdId":"{name}"', '"ordType":"post_only"', '"reduceOnly":true'),
    }
    for words in wanted[venue]:
        assert words in request, request


@pytest.mark.parametrize("venue", VENUES)
async def test_a_plain_order_is_neither_post_only_nor_reduce_only(venue: str) -> None:
    request = await sent_for(venue, QUIRKS[venue].create_params(order(), client_id(venue, OURS)))
    for words in ("GTX", "PostOnly", "post_only", "reduceOnly=true", '"reduceOnly":true'):
        assert words not in request


@pytest.mark.parametrize("venue", VENUES)
def test_a_market_order_cannot_be_post_only(venue: str) -> None:
    with pytest.raises(ConfigurationError):
        QUIRKS[venue].create_params(order(OrderKind.MARKET), "x", post_only=True)


ID_WORDS = {
    "binanceusdm": "origClientOrderId={}",
    "bybit": "orderLinkId={}",
    "okx": "clOrdId={}",
}


@pytest.mark.parametrize("venue", VENUES)
async def test_a_cancel_names_our_id_in_the_word_that_the_venue_reads(venue: str) -> None:
    name = client_id(venue, OURS)
    async with serving(Script(named(GOOD[venue, "cancel"], name))) as served:
        exchange = ccxt_of(venue, f"http://127.0.0.1:{served.port}")
        try:
            await exchange.cancel_order(None, SYMBOL, QUIRKS[venue].cancel_params(name))
        finally:
            await shut(exchange)
    (request,) = served.requests
    json_words = ID_WORDS[venue].split("=")[0]
    assert ID_WORDS[venue].format(name) in request or f'"{json_words}":"{name}"' in request


@pytest.mark.parametrize("venue", VENUES)
async def test_every_lookup_asks_by_our_id_and_by_no_other(venue: str) -> None:
    name = client_id(venue, OURS)
    body = named(GOOD[venue, "query"], name)
    paths = []
    for lookup in QUIRKS[venue].lookups:
        async with serving(Script(body)) as served:
            exchange = ccxt_of(venue, f"http://127.0.0.1:{served.port}")
            method = getattr(exchange, lookup.method)
            try:
                if lookup.takes_id:
                    await method(None, SYMBOL, lookup.params(name))
                else:
                    await method(SYMBOL, None, None, lookup.params(name))
            finally:
                await shut(exchange)
        (request,) = served.requests
        line = request.splitlines()[0]
        paths.append(line.split("?")[0])
        assert ID_WORDS[venue].format(name) in line
        assert "None" not in line
        assert "orderId=&" not in line
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize("venue", VENUES)
async def test_the_listings_of_the_table_are_calls_of_the_client(venue: str) -> None:
    quirks = QUIRKS[venue]
    body = {"binanceusdm": "[]", "bybit": named(bybit([]), ""), "okx": named(okx([]), "")}[venue]
    async with serving(Script(body)) as served:
        exchange = ccxt_of(venue, f"http://127.0.0.1:{served.port}")
        try:
            await getattr(exchange, quirks.executions_method)(dict(quirks.executions_fixed))
            await getattr(exchange, quirks.flows_method)({})
            assert quirks.dead_man is not None
            assert callable(getattr(exchange, quirks.dead_man.method))
        finally:
            await shut(exchange)
    executions, flows = (request.splitlines()[0].split()[1] for request in served.requests)
    paths = {
        "binanceusdm": ("/fapi/v1/userTrades", "/fapi/v1/income"),
        "bybit": ("/v5/execution/list", "/v5/account/transaction-log"),
        "okx": ("/api/v5/trade/fills-history", "/api/v5/account/bills"),
    }
    assert (executions.split("?")[0], flows.split("?")[0]) == paths[venue]
    # Forced reductions must be in the listing: no filter for ordinary trades.
    assert "execType" not in executions


@pytest.mark.parametrize("venue", VENUES)
def test_the_tables_know_each_other(venue: str) -> None:
    quirks = QUIRKS[venue]
    assert quirks.venue == venue
    assert venue in ID_RULES
    assert hasattr(ccxt, venue)
    assert venue in CODES
    with pytest.raises(dataclasses.FrozenInstanceError):
        quirks.contracts = True  # type: ignore[misc]


def test_only_a_venue_that_counts_contracts_reads_their_sizes() -> None:
    def sizes(symbol_id: str) -> Decimal:
        return Decimal("0.01")

    assert sizes_for(QUIRKS["okx"], sizes) is sizes
    assert sizes_for(QUIRKS["binanceusdm"], sizes) is one_each


@pytest.mark.parametrize(
    "venue", ["krakenfutures", "hyperliquid", "gate", "bitget", "kucoinfutures", "nowhere"]
)
def test_a_venue_without_a_table_says_what_it_lacks(venue: str) -> None:
    assert lacking(venue)
    with pytest.raises(ConfigurationError, match=r"cannot be traded live: no .*binanceusdm"):
        quirks_of(venue)


@pytest.mark.parametrize("venue", VENUES)
def test_a_venue_with_a_table_lacks_nothing(venue: str) -> None:
    assert lacking(venue) == ""
    assert quirks_of(venue) is QUIRKS[venue]
