"""What an account may hold besides ours: it is named and summed up, and never unreadable."""

from __future__ import annotations

from contextlib import nullcontext
from decimal import Decimal
from typing import Any

import pytest

from adapters.ccxt_venue.listings import Told
from adapters.ccxt_venue.news import News, NewsRules, Questions
from adapters.ccxt_venue.rows import CashFlow, CashKind, Execution, Holding, exact
from adapters.ccxt_venue.rows_bybit import execution
from adapters.ccxt_venue.streams import Hint
from adapters.ccxt_venue.together import Company
from daemon.domain.failures import BadPayload
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import FundingPaid, OrderFilled, OrderRejected, VenueEvent
from daemon.domain.order import FOREIGN_PREFIX, OUTSIDE, Order, OrderId, OrderKind
from tests.adapters.ccxt_venue.live_rig import USDT, VENUE, LiveRig, key_of, live
from tests.adapters.ccxt_venue.test_live_account import begin, of, snapshot_in

FUTURE, FUTURE_KEY = "BTCUSDT_261225", InstrumentKey(VENUE, "BTC/USDT:USDT-261225")
OTHER, OTHER_KEY = "BTCUSDC", InstrumentKey(VENUE, "BTC/USDC:USDC")


def market(symbol_id: str, settle: str, **kind: bool) -> dict[str, Any]:
    return {"id": symbol_id, "settle": settle, "linear": True, "contract": True, **kind}


def held_also(x: LiveRig, *more: Holding) -> None:
    """Let the account hold more than the rehearsal knows of."""
    x.venue._names.learn(
        {
            FUTURE_KEY.symbol: market(FUTURE, "USDT", swap=False, future=True),
            OTHER_KEY.symbol: market(OTHER, "USDC", swap=True, future=False),
        }
    )
    listings = x.venue.account._listings
    holdings = listings.holdings

    async def with_more() -> tuple[Holding, ...]:
        return (*await holdings(), *more)

    async def told(since_ms: int, until_ms: int, symbol_ids: tuple[str, ...]) -> list[Told]:
        number = Decimal(1)
        return [
            Execution("1", "2", "web_1", FUTURE, number, number, number, "USDT", since_ms),
            CashFlow("3", CashKind.FUNDING, "USDC", number, OTHER, since_ms, "FUNDING_FEE"),
        ]

    listings.holdings = with_more  # type: ignore[method-assign]
    listings.told = told  # type: ignore[method-assign]


async def test_a_contract_that_expires_is_named_and_moves_the_cash_it_cost() -> None:
    async with live() as x:
        cursor = await begin(x)
        held_also(x, Holding(FUTURE, Decimal("0.5"), Decimal(40_000), one_way=True))
        told = await x.venue.snapshot(cursor, VENUE)
        (event,) = of(told, OrderFilled)
        assert event.fill.index == OUTSIDE, "a fill outside the universe is no column's"
        snapshot = snapshot_in(told)
        assert snapshot.quantities == {FUTURE_KEY: Decimal("0.5")}
        assert snapshot.cash[USDT] == x.cash() - 20_000


async def test_a_contract_in_a_foreign_currency_is_named_and_leaves_our_cash_alone() -> None:
    async with live() as x:
        cursor = await begin(x)
        held_also(x, Holding(OTHER, Decimal(-1), Decimal(40_000), one_way=True))
        snapshot = snapshot_in(await x.venue.snapshot(cursor, VENUE))
        assert snapshot.quantities == {OTHER_KEY: Decimal(-1)}
        assert snapshot.cash == {USDT: x.cash()}


async def test_two_rows_of_one_contract_are_summed_up() -> None:
    """OKX lists what is held with cross and with isolated margin apart."""
    async with live() as x:
        cursor = await begin(x)
        price = Decimal(40_000)
        held_also(
            x,
            Holding("BTCUSDT", Decimal("0.5"), price, one_way=True),
            Holding("BTCUSDT", Decimal("-0.2"), price, one_way=True),
            Holding("ETHUSDT", Decimal(1), price, one_way=True),
            Holding("ETHUSDT", Decimal(-1), price, one_way=True),
        )
        snapshot = snapshot_in(await x.venue.snapshot(cursor, VENUE))
        assert snapshot.quantities == {key_of("BTC"): Decimal("0.3")}
        assert snapshot.cash[USDT] == x.cash() - 12_000


async def test_a_contract_that_the_venue_lists_no_more_leaves_the_account_readable() -> None:
    """Traded by hand and delisted since: without it nothing could ever start again."""
    async with live() as x:
        cursor = await begin(x)
        listings, number = x.venue.account._listings, Decimal(1)
        holdings = listings.holdings

        async def with_more() -> tuple[Holding, ...]:
            return (*await holdings(), Holding("GONEUSDT", number, number, one_way=True))

        async def told(since_ms: int, until_ms: int, symbol_ids: tuple[str, ...]) -> list[Told]:
            return [
                Execution("1", "2", "web_1", "GONEUSDT", number, number, number, "USDT", since_ms),
                CashFlow("3", CashKind.FUNDING, "USDT", number, "GONEUSDT", since_ms, "FUNDING"),
            ]

        listings.holdings = with_more  # type: ignore[method-assign]
        listings.told = told  # type: ignore[method-assign]
        events = await x.venue.snapshot(cursor, VENUE)
        gone = InstrumentKey(VENUE, "GONEUSDT")
        assert snapshot_in(events).quantities == {gone: number}
        assert [one.key for one in of(events, FundingPaid)] == [gone], "our cash moved all the same"
        assert not of(events, OrderFilled)


async def test_closing_and_cancelling_in_a_contract_that_nobody_named_end_no_run() -> None:
    """Where the policy is to flatten, both are tried, and would be at each further start."""
    async with live() as x:
        gone, asked = InstrumentKey(VENUE, "GONEUSDT"), list[tuple[str, str]]()

        async def noting(symbol_id: str, order_id: str) -> None:
            asked.append((symbol_id, order_id))

        x.venue.cancel_foreign = noting
        name, market_order = OrderId("eq65bbf840o-1-1"), OrderKind.MARKET
        closing = Order(name, gone, OUTSIDE, Decimal(-1), market_order, 0, 1.0, reduce_only=True)
        (told,) = await x.venue.submit([closing])
        assert isinstance(told, OrderRejected)
        assert told.reason.startswith("not sent")
        await x.venue.cancel(OrderId(f"{FOREIGN_PREFIX}GONEUSDT:77"), gone)
        assert asked == [("GONEUSDT", "77")]


async def test_an_order_in_a_contract_without_a_column_is_not_ours_whatever_its_name() -> None:
    """Its fill would be booked in the last column: in Python, -1 is one."""

    async def nothing(*asked: object) -> list[VenueEvent]:
        return []

    async with live() as x:
        questions = Questions(nothing, nothing, dict, lambda: 0, lambda order_id: nullcontext())
        news = News(x.caller, x.venue._names, questions, Company(), NewsRules())
        due_s = news._account_due_s
        news._heard(Hint(orders=(("eq65bbf840-0-1", "DOGEUSDT"),)))
        assert news._named == {}
        assert news._account_due_s < due_s, "what it did to the account is read"
        news._heard(Hint(orders=(("eq65bbf840-0-1", "BTCUSDT"),)))
        assert list(news._named.values()) == [key_of("BTC")]


@pytest.mark.parametrize("symbol", ["BTCUSDT-26DEC25", "BTC-26DEC25", "BTCPERP", "BTCUSDT"])
def test_a_fill_at_bybit_that_does_not_name_its_currency_is_read(symbol: str) -> None:
    row = {
        "execType": "Trade",
        "symbol": symbol,
        "side": "Buy",
        "execId": "1",
        "orderId": "2",
        "orderLinkId": "",
        "execQty": "1",
        "execPrice": "2",
        "execFee": "0.1",
        "feeCurrency": "",
        "execTime": "1700000000000",
    }
    found = execution(row)
    assert isinstance(found, Execution)
    assert found.fee_currency == ("USDT" if "USDT" in symbol else "USDC")


@pytest.mark.parametrize("text", ["1e300", "-1e18", "1e-300", "9" * 40, "1e99999"])
def test_a_number_that_no_account_can_hold_is_no_number(text: str) -> None:
    """Dividing it by a step, or rounding it to eight digits, would end the run."""
    with pytest.raises(BadPayload):
        exact({"qty": text}, "qty")


@pytest.mark.parametrize("text", ["0", "0.00000000", "-0.00000001", "123456789012.12345678"])
def test_numbers_of_accounts_are_read_as_they_are(text: str) -> None:
    assert str(exact({"qty": text}, "qty")) == str(Decimal(text))
