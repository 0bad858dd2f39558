"""Private streams as hints: what they lose, repeat or garble, REST finds; deafness is noticed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest

from adapters.ccxt_venue.news import News, NewsRules
from adapters.ccxt_venue.streams import Hint, hint_in
from adapters.rehearsal.faults import Fault
from daemon.domain.instrument import InstrumentKey
from daemon.domain.messages import (
    OrderEnded,
    OrderFilled,
    OrderUncertain,
    Transferred,
    VenueEvent,
)
from daemon.domain.order import OrderId
from tests.adapters.ccxt_venue.both_rig import until
from tests.adapters.ccxt_venue.live_rig import VENUE, LiveRig, filled, kinds, live, order
from tests.adapters.rehearsal.binance.binance_rig import KEY

SLOW = NewsRules(follow_up_s=60, reconcile_s=600, stream_silence_s=60, listen_key_s=600)
WAIT_S, LOOK_S = 6.0, 0.02


@dataclass
class Heard:
    """Collect what the news bring."""

    x: LiveRig
    events: list[VenueEvent] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(self, event: VenueEvent) -> None:
        self.events.append(event)
        self.more.set()

    async def until(self, seen: Callable[[list[VenueEvent]], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not seen(self.events):
                self.more.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):  # sockets open without an event of ours
                        await self.more.wait()

    async def settled(self) -> None:
        """Wait until the stream is open and the account was read after that."""
        await self.until(lambda _: news_of(self.x).stream.opened_n)
        await self.until(snapshots)


def news_of(x: LiveRig) -> News:
    assert x.venue.brought is not None
    return x.venue.brought


def snapshots(events: list[VenueEvent]) -> int:
    return kinds(events).count("Snapshotted")


@asynccontextmanager
async def hearing(rules: NewsRules = SLOW) -> AsyncIterator[tuple[LiveRig, Heard]]:
    """Begin a book and bring its news."""
    async with live() as x:
        await x.venue.snapshot(0, VENUE)
        await x.r.advance(1)
        heard = Heard(x)
        bringing = asyncio.create_task(x.venue.news(heard.put, rules))
        await asyncio.sleep(0)
        try:
            await heard.settled()
            yield x, heard
        finally:
            assert not bringing.done() or bringing.exception() is None, bringing.exception()
            bringing.cancel()
            await asyncio.gather(bringing, return_exceptions=True)


def ended(events: list[VenueEvent]) -> bool:
    return any(isinstance(e, OrderEnded) for e in events)


async def test_a_fill_is_told_as_soon_as_the_stream_names_its_order() -> None:
    async with hearing() as (x, heard):
        await x.venue.submit([order(1, "0.01")])
        await heard.until(ended)
        assert filled(heard.events) == Decimal("0.01") == x.held()
        assert news_of(x).followed_n == 0


@pytest.mark.parametrize("fault", [Fault.FILL_DUPLICATED, Fault.FILLS_SHUFFLED])
async def test_frames_twice_or_out_of_order_bring_each_fill_with_one_number(fault: Fault) -> None:
    async with hearing() as (x, heard):
        await x.r.fault(fault)
        await x.venue.submit([order(1, "0.01")])
        await heard.until(ended)
        await asyncio.sleep(0.2)
        numbers = {e.fill.trade_id for e in heard.events if isinstance(e, OrderFilled)}
        assert len(numbers) == 1


async def test_a_fill_before_the_answer_leaves_no_order_behind() -> None:
    async with hearing() as (x, heard):
        await x.r.fault(Fault.FILL_BEFORE_ACK, seconds=0.5)
        assert kinds(await x.venue.submit([order(1, "0.01")])) == ["OrderAccepted"]
        await heard.until(ended)
        assert x.venue.desk.open == {}, "it would be followed up for ever"


async def test_a_stream_that_stalls_is_found_out_by_rest_and_dialled_anew() -> None:
    """Trap D for private sockets: open, pongs answered, no data."""
    rules = replace(SLOW, follow_up_s=0.3)
    async with hearing(rules) as (x, heard):
        await x.r.fault(Fault.USER_STREAM_STALLED, count=3)
        await x.venue.submit([order(1, "0.01")])
        await heard.until(ended)
        assert filled(heard.events) == Decimal("0.01")
        await heard.until(lambda found: news_of(x).stream.opened_n >= 2)
        await heard.until(lambda found: snapshots(found) >= 2)
        await x.venue.submit([order(2, "0.02")])
        await heard.until(lambda found: filled(found) >= Decimal("0.03"))


async def test_a_garbage_frame_ends_its_socket_instead_of_making_it_deaf() -> None:
    """Trap C: one frame that cannot be read ends ccxt's receive loop in silence."""
    async with hearing() as (x, heard):
        await x.r.fault(Fault.USER_FRAME_GARBAGE)
        await x.venue.submit([order(1, "0.01")])
        await heard.until(lambda found: news_of(x).stream.opened_n >= 2)
        await heard.until(lambda found: filled(found) >= Decimal("0.01"))
        await heard.until(lambda found: snapshots(found) >= 2)
        await x.venue.submit([order(2, "0.02")])
        await heard.until(lambda found: filled(found) >= Decimal("0.03"))


async def test_the_listen_key_is_renewed_again_and_again() -> None:
    """Trap B: ccxt renews it once, and a quiet book goes deaf an hour later."""
    async with hearing(replace(SLOW, listen_key_s=0.2)) as (x, heard):
        streams = x.r.half.streams
        streams.life_s = 0.6
        news_of(x).stream.drop("the next key lives so long only")
        await heard.until(lambda found: news_of(x).stream.opened_n == 2)
        await asyncio.sleep(2.0)
        assert streams.keys == 1, "it was let die"
        assert len(news_of(x).stream.dropped) == 1
        await x.venue.submit([order(1, "0.01")])
        await heard.until(ended)
        assert news_of(x).stream.opened_n == 2


async def test_an_expired_listen_key_is_noticed_and_the_account_read() -> None:
    async with hearing() as (x, heard):
        await x.r.fault(Fault.LISTEN_KEY_EXPIRED)
        await x.r.advance(1)
        await heard.until(lambda found: news_of(x).stream.opened_n >= 2)
        await heard.until(lambda found: snapshots(found) >= 2)
        await x.venue.submit([order(1, "0.01")])
        await heard.until(ended)


async def test_a_refused_renewal_lets_the_dead_key_go() -> None:
    async with hearing(replace(SLOW, listen_key_s=0.3)) as (x, heard):
        x.r.half.streams.close(KEY)  # dead, and nobody says so
        await heard.until(lambda found: news_of(x).stream.opened_n >= 2)
        await x.venue.submit([order(1, "0.01")])
        await heard.until(ended)


async def test_what_happens_between_two_sockets_is_read_when_the_next_opens() -> None:
    """Pitfall 4: after a reconnect ccxt's own caches know nothing of the gap."""
    async with hearing() as (x, heard):
        before = snapshots(heard.events)
        await x.r.fault(Fault.USER_STREAM_DROPPED)
        await x.r.fault(Fault.MANUAL_TRADE, symbol="ETHUSDT")
        await x.r.advance(1)
        await heard.until(lambda found: filled(found) == x.held("ETH") != 0)
        await heard.until(lambda found: snapshots(found) > before)


async def test_the_owners_own_trade_and_transfer_are_read_at_once() -> None:
    async with hearing() as (x, heard):
        await x.r.fault(Fault.MANUAL_TRADE, symbol="ETHUSDT")
        await x.r.advance(1)
        await heard.until(lambda found: filled(found) == x.held("ETH") != 0)
        await x.r.post("account", key=KEY, deposit="55.5")
        await heard.until(lambda found: any(isinstance(e, Transferred) for e in found))


async def test_a_silent_stream_is_dialled_anew() -> None:
    async with hearing(replace(SLOW, stream_silence_s=0.5)) as (x, heard):
        await heard.until(lambda found: news_of(x).stream.opened_n >= 3)
        await x.venue.submit([order(1, "0.01")])
        await heard.until(ended)


async def test_without_any_stream_orders_are_followed_up_and_the_account_compared() -> None:
    rules = replace(SLOW, follow_up_s=0.2, reconcile_s=0.5)
    async with hearing(rules) as (x, heard):
        await x.r.fault(Fault.DIAL_REFUSED, count=50)
        await x.r.fault(Fault.USER_STREAM_DROPPED)
        await x.r.advance(1)
        before = snapshots(heard.events)
        await x.venue.submit([order(1, "0.01")])
        await heard.until(lambda found: filled(found) == x.held() != 0)
        await heard.until(lambda found: snapshots(found) >= before + 2)


async def test_a_venue_that_is_away_for_a_while_is_asked_again() -> None:
    async with hearing(replace(SLOW, reconcile_s=0.3)) as (x, heard):
        await x.r.fault(Fault.HTTP_503, count=6)
        before = snapshots(heard.events)
        await heard.until(lambda found: snapshots(found) > before + 1)


def test_frames_of_every_dialect_are_read_for_what_they_are_about() -> None:
    assert hint_in("binanceusdm", {"e": "listenKeyExpired"}) == Hint(ended=True)
    funding = {"e": "ACCOUNT_UPDATE", "a": {"m": "FUNDING_FEE"}}
    assert hint_in("binanceusdm", funding) == Hint(account=True)
    assert hint_in("binanceusdm", {"e": "ACCOUNT_UPDATE", "a": {"m": "ORDER"}}) == Hint()
    bybit = {"topic": "execution", "data": [{"orderLinkId": "eq1-0-1", "symbol": "BTCUSDT"}]}
    assert hint_in("bybit", bybit) == Hint(orders=(("eq1-0-1", "BTCUSDT"),))
    assert hint_in("bybit", {"topic": "wallet", "data": []}) == Hint(account=True)
    okx = {"arg": {"channel": "orders"}, "data": [{"clOrdId": "a", "instId": "BTC-USDT-SWAP"}]}
    assert hint_in("okx", okx) == Hint(orders=(("a", "BTC-USDT-SWAP"),))
    assert hint_in("okx", ["nonsense"]) == hint_in("bybit", {"data": 3}) == Hint()


async def test_an_order_about_which_nobody_answered_is_asked_about_soon_again() -> None:
    """Pauses that grow through an outage would leave its fills unknown for minutes after it."""
    async with hearing(replace(SLOW, follow_up_s=0.2)) as (x, heard):
        await x.venue.submit([order(1, "0.01", price=str(round(await x.r.price() * 0.97, 1)))])
        news, asked = news_of(x), list[float]()

        async def unanswered(order_id: OrderId, key: InstrumentKey) -> list[VenueEvent]:
            asked.append(asyncio.get_running_loop().time())
            return [OrderUncertain(order_id, 0, "nobody answered")]

        news._questions = replace(news._questions, order=unanswered)
        async with asyncio.timeout(WAIT_S):
            while len(asked) < 8:  # noqa: ASYNC110 - the news ask by themselves
                await asyncio.sleep(LOOK_S)
        assert asked[-1] - asked[0] < 4.0, "doubled, these pauses would take 25 s"
        assert not [e for e in heard.events if isinstance(e, OrderUncertain)]


async def test_orders_that_frames_name_together_are_asked_about_together() -> None:
    """One after another, the fills of twenty orders would be known only after four seconds."""
    async with hearing() as (x, heard):
        desk, inside, most = x.venue.desk, 0, 0
        asked = desk._asked

        async def slowly(*about: object) -> object:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.2)
            inside -= 1
            return await asked(*about)  # type: ignore[arg-type]

        desk._asked = slowly  # type: ignore[method-assign,assignment]
        await x.venue.submit([order(n, "0.01") for n in range(6)])
        await heard.until(
            lambda events: len({e.order_id for e in events if isinstance(e, OrderEnded)}) == 6
        )
        assert most >= 4
        fills = {
            e.fill.trade_id: e.fill.quantity for e in heard.events if isinstance(e, OrderFilled)
        }
        assert sum(fills.values()) == Decimal("0.06") == x.held()


async def test_a_cancel_leaves_although_the_engines_own_reading_of_the_account_is_slow() -> None:
    async with hearing() as (x, _):
        resting = order(1, "0.01", price=str(round(await x.r.price() * 0.97, 1)))
        await x.venue.submit([resting])
        listings, told, begun = x.venue.account._listings, asyncio.Event(), asyncio.Event()
        holdings = listings.holdings

        async def slowly() -> object:
            begun.set()
            await told.wait()
            return await holdings()

        listings.holdings = slowly  # type: ignore[method-assign,assignment]
        reading = asyncio.create_task(x.venue.snapshot(1, VENUE))
        await begun.wait()
        cancelling = asyncio.create_task(x.venue.cancel(resting.order_id, resting.key))
        await until(lambda: not x.bank.open_orders(KEY))
        assert not cancelling.done(), "what became of it is told after the account"
        told.set()
        await reading
        assert "OrderEnded" in kinds(await cancelling)
