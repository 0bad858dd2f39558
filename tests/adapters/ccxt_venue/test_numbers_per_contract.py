"""A venue that counts within each contract: one number means an order in each of them."""

from __future__ import annotations

from decimal import Decimal

from adapters.ccxt_venue.modes_binance import BinanceModes
from adapters.rehearsal.bank.records import BankOrder
from adapters.rehearsal.bank.terms import OrderRequest, Origin
from adapters.rehearsal.binance.payloads import counted, shown
from daemon.domain.messages import OrderFilled
from daemon.domain.order import FOREIGN_PREFIX, OrderKind
from tests.adapters.ccxt_venue.live_rig import VENUE, LiveRig, key_of, live, order
from tests.adapters.ccxt_venue.test_live_account import begin, of, snapshot_in
from tests.adapters.rehearsal.binance.binance_rig import KEY

BTC, ETH = "BTCUSDT", "ETHUSDT"


def by_hand(x: LiveRig, symbol: str, quantity: str, price: Decimal | None = None) -> BankOrder:
    """Let the owner place an order."""
    kind = OrderKind.MARKET if price is None else OrderKind.LIMIT
    wanted = OrderRequest(symbol, Decimal(quantity), kind, price, origin=Origin.OWNER)
    placed = x.bank.place(KEY, wanted)
    assert isinstance(placed, BankOrder)
    return placed


def far_below(x: LiveRig, symbol: str) -> Decimal:
    """Give a price at which a bid rests."""
    last: Decimal = x.bank.last_price(symbol)
    return (last * Decimal("0.97")).quantize(x.bank.rules[symbol].price_step)


def count_up_to(x: LiveRig, number: int) -> None:
    """Let orders come and go until the next one has a number of the bank's."""
    while True:
        gone = by_hand(x, BTC, "0.01", far_below(x, BTC))
        x.bank.cancel(KEY, BTC, order_id=gone.order_id)
        if gone.order_id == number - 1:
            return
        assert gone.order_id < number


async def test_the_owners_fill_under_the_number_of_our_order_elsewhere_is_not_ours() -> None:
    async with live() as x:
        cursor = await begin(x)
        await x.r.advance(1)
        ours = order(1, "0.02")
        await x.venue.submit([ours])
        number = shown(BTC, x.bank.orders(KEY)[-1].order_id)
        count_up_to(x, counted(ETH, number))
        theirs = by_hand(x, ETH, "0.3")
        assert shown(ETH, theirs.order_id) == number
        fills = of(await x.venue.snapshot(cursor, VENUE), OrderFilled)
        names = {one.fill.key: one.fill.order_id for one in fills}
        assert names[key_of("BTC")] == ours.order_id
        assert names[key_of("ETH")].startswith(FOREIGN_PREFIX)


async def test_two_orders_of_the_owner_under_one_number_both_count_and_end_apart() -> None:
    async with live() as x:
        await begin(x)
        one = by_hand(x, BTC, "0.01", far_below(x, BTC))
        count_up_to(x, counted(ETH, shown(BTC, one.order_id)))
        two = by_hand(x, ETH, "0.3", far_below(x, ETH))
        told = snapshot_in(await x.venue.snapshot(0, VENUE)).open_orders
        assert {o.key for o in told.values()} == {key_of("BTC"), key_of("ETH")}
        (name,) = [name for name, o in told.items() if o.key == key_of("ETH")]
        x.venue.cancel_foreign = BinanceModes(x.caller).cancel_foreign
        await x.venue.cancel(name, key_of("ETH"))
        assert [o.order_id for o in x.bank.open_orders(KEY)] == [one.order_id]
        assert not x.bank.query(KEY, ETH, order_id=two.order_id).is_open
