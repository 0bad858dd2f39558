"""Each fault of the private half once, through the unmodified ccxt client, and counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import ccxt
import pytest

from adapters.rehearsal.fault_plan import PlannedStrike
from adapters.rehearsal.faults import PRIVATE_FAULTS, Fault
from daemon.domain.units import MINUTE_MS
from tests.adapters.rehearsal.binance.binance_rig import (
    BTC,
    ETH,
    code_of,
    executions,
    heard,
    listening,
    rig,
)

START_MS = 1_704_326_400_000


# ---- orders and their answers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "raised"),
    [
        (Fault.ORDER_LOST_RESET, ccxt.ExchangeNotAvailable),
        (Fault.ORDER_LOST_HANG, ccxt.RequestTimeout),
        (Fault.ORDER_LOST_503, ccxt.OperationFailed),
        (Fault.ORDER_LOST_CUT, ccxt.ExchangeError),  # not even a network error, for ccxt
        (Fault.ORDER_LOST_NOT_JSON, None),
    ],
)
async def test_an_order_whose_answer_is_lost_exists(
    kind: Fault, raised: type[Exception] | None
) -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(kind)
        r.client.timeout = 300
        if raised is None:
            answer = await r.buy(clientOrderId="lost")
            assert answer["id"] is None, "a page is read as an order without a number"
        else:
            with pytest.raises(raised):
                await r.buy(clientOrderId="lost")
        assert executions(await heard(ears, 3)) == ["NEW", "TRADE", "ACCOUNT_UPDATE"]
        r.client.timeout = 10_000
        found = await r.client.fetch_order(None, BTC, {"clientOrderId": "lost"})
        assert found["status"] == "closed"
        assert len(await r.client.fetch_orders(BTC)) == 1, "once"
        assert await r.struck(kind) == 1
        assert (await r.buy(clientOrderId="next"))["status"] == "closed", "struck once only"


@pytest.mark.parametrize(
    ("kind", "status", "raised"),
    [
        (Fault.ORDER_REFUSED_503, -1008, ccxt.ExchangeError),
        (Fault.ORDER_REFUSED_429, 429, ccxt.DDoSProtection),
        (Fault.ORDER_REFUSED_418, 418, ccxt.DDoSProtection),
    ],
)
async def test_an_order_that_was_turned_away_does_not_exist(
    kind: Fault, status: int, raised: type[Exception]
) -> None:
    async with rig() as r:
        await r.fault(kind, seconds=7, symbol="BTCUSDT")
        assert (await r.buy(0.1, ETH))["status"] == "closed", "another symbol is not struck"
        with pytest.raises(raised, match=str(status)):
            await r.buy()
        if status > 0:
            assert r.client.last_response_headers["Retry-After"] == "7"
        assert await r.client.fetch_orders(BTC) == []
        assert await r.struck(kind) == 1


async def test_margin_is_said_to_be_short_once() -> None:
    async with rig() as r:
        await r.fault(Fault.INSUFFICIENT_MARGIN)
        with pytest.raises(ccxt.ExchangeError) as failure:
            await r.buy()
        assert code_of(failure.value) == -2019
        assert await r.client.fetch_orders(BTC) == []
        await r.fault(Fault.INSUFFICIENT_MARGIN)
        item = {"symbol": BTC, "type": "market", "side": "buy", "amount": 0.01}
        answers = await r.client.create_orders([item, item])
        assert [one["status"] for one in answers] == ["rejected", "rejected"]
        assert (await r.buy())["status"] == "closed"


async def test_the_clock_is_said_to_be_off() -> None:
    async with rig() as r:
        await r.fault(Fault.CLOCK_SKEW, count=2)
        for call in (r.client.fetch_balance, r.buy):
            with pytest.raises(ccxt.InvalidNonce) as failure:
                await call()
            assert code_of(failure.value) == -1021
        assert await r.client.fetch_orders(BTC) == []
        assert await r.struck(Fault.CLOCK_SKEW) == 2


async def test_a_broken_answer_reads_as_no_positions_at_all() -> None:
    async with rig() as r:
        await r.buy()
        await r.fault(Fault.POSITIONS_BROKEN)
        assert await r.client.fetch_positions() == [], "this is what a daemon must not believe"
        assert len(await r.client.fetch_positions()) == 1


async def test_who_asks_too_early_hears_of_no_order_and_no_fill() -> None:
    async with rig() as r:
        order = await r.buy()
        await r.fault(Fault.ORDER_UNLISTED)
        with pytest.raises(ccxt.OrderNotFound) as failure:
            await r.client.fetch_order(order["id"], BTC)
        assert code_of(failure.value) == -2013
        assert (await r.client.fetch_order(order["id"], BTC))["status"] == "closed"
        await r.fault(Fault.FILLS_UNLISTED)
        assert await r.client.fetch_my_trades(BTC) == []
        assert len(await r.client.fetch_my_trades(BTC)) == 1
        assert await r.struck(Fault.FILLS_UNLISTED) == 1


async def test_maintenance_strikes_signed_requests_too() -> None:
    async with rig() as r:
        await r.fault(Fault.MAINTENANCE)
        with pytest.raises(ccxt.BadRequest, match="-1016"):  # so ccxt reads it, status 503 or not
            await r.buy()
        assert await r.client.fetch_orders(BTC) == []


async def test_a_cancel_whose_answer_breaks_off_was_done_and_is_said() -> None:
    async with rig() as r:
        order, ears = await r.rest(), await listening(r)
        await r.fault(Fault.RESET_BODY)
        with pytest.raises(ccxt.ExchangeError) as failure:  # as if it were refused, but it is not
            await r.client.cancel_order(order["id"], BTC)
        assert '"code"' not in str(failure.value), "no word of the venue's"
        assert executions(await heard(ears, 1)) == ["CANCELED"]
        assert (await r.client.fetch_order(order["id"], BTC))["status"] == "canceled"


async def test_a_page_instead_of_the_balance_reads_as_no_money() -> None:
    async with rig() as r:
        await r.fault(Fault.NOT_JSON_200)
        assert "USDT" not in await r.client.fetch_balance()
        assert (await r.client.fetch_balance())["USDT"]["total"] == 100_000


# ---- the user stream -----------------------------------------------------------------------------


async def test_an_answer_does_not_wait_for_the_stream() -> None:
    async with rig() as r:
        ears = await listening(r)
        async with r.half.streams.silence():
            assert (await asyncio.wait_for(r.buy(), 3))["status"] == "closed"
            assert ears.frames == []
        assert executions(await heard(ears, 3)) == ["NEW", "TRADE", "ACCOUNT_UPDATE"]


async def test_a_fault_lets_the_stream_speak_before_the_answer() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(Fault.FILL_BEFORE_ACK, seconds=0.3)
        placing = asyncio.create_task(r.buy())
        assert executions(await heard(ears, 3)) == ["NEW", "TRADE", "ACCOUNT_UPDATE"]
        assert not placing.done()
        assert (await placing)["status"] == "closed"
        assert await r.struck(Fault.FILL_BEFORE_ACK) == 1


async def test_a_fill_may_be_told_twice_with_one_number() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(Fault.FILL_DUPLICATED)
        await r.buy()
        told = await heard(ears, 4)
        assert executions(told) == ["NEW", "TRADE", "TRADE", "ACCOUNT_UPDATE"]
        assert told[1] == told[2]
        assert len(await r.client.fetch_my_trades(BTC)) == 1


async def test_fills_may_come_newest_first() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(Fault.FILLS_SHUFFLED)
        await r.buy(1.0)
        trades = await r.client.fetch_my_trades(BTC)
        assert len(trades) > 1, "an order of this size takes several levels"
        told = await heard(ears, 1 + 2 * len(trades))
        assert executions(told)[-1] == "NEW"
        numbers = [f["o"]["t"] for f in told if "o" in f and f["o"]["x"] == "TRADE"]
        assert numbers == sorted(numbers, reverse=True)
        assert numbers == [int(t["id"]) for t in reversed(trades)]


async def test_a_stalled_stream_swallows_and_a_garbage_frame_is_cut() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(Fault.USER_STREAM_STALLED, count=3)
        await r.buy()
        await r.fault(Fault.USER_FRAME_GARBAGE)
        await r.buy()
        assert executions(await heard(ears, 3)) == ["garbage", "TRADE", "ACCOUNT_UPDATE"]
        assert (await r.state())["user_frames"]["swallowed"] == 3


async def test_a_dropped_stream_is_dialled_again_and_the_gap_is_lost() -> None:
    async with rig() as r:
        watching = asyncio.create_task(r.client.watch_my_trades())
        await asyncio.sleep(0.3)
        await r.fault(Fault.USER_STREAM_DROPPED)
        with pytest.raises(ccxt.NetworkError):
            await asyncio.wait_for(watching, 3)
        missed = await r.buy()
        again = asyncio.create_task(r.client.watch_my_trades())
        await asyncio.sleep(0.5)
        second = await r.buy()
        told = await asyncio.wait_for(again, 3)
        assert [t["order"] for t in told] == [second["id"]]
        assert missed["id"] in [t["order"] for t in await r.client.fetch_my_trades(BTC)]


async def test_a_listen_key_expires_and_its_socket_goes_deaf() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(Fault.LISTEN_KEY_EXPIRED)
        assert executions(await heard(ears, 1)) == ["listenKeyExpired"]
        await r.buy()
        await asyncio.sleep(0.1)
        assert len(ears.frames) == 1
        with pytest.raises(ccxt.ExchangeError, match="-1125"):
            await r.client.fapiPrivatePutListenKey()
        assert await r.struck(Fault.LISTEN_KEY_EXPIRED) == 1


# ---- deeds of the venue and the owner ------------------------------------------------------------


async def test_a_halt_and_its_end_are_counted() -> None:
    async with rig() as r:
        resting = await r.rest(away=-0.0005)
        await r.fault(Fault.SYMBOL_HALTED, symbol="BTCUSDT")
        await r.advance(120)
        assert (await r.client.fetch_order(resting["id"], BTC))["status"] == "open"
        await r.fault(Fault.SYMBOL_RESUMED, symbol="BTCUSDT")
        assert await r.struck(Fault.SYMBOL_HALTED) == await r.struck(Fault.SYMBOL_RESUMED) == 1


async def test_a_contract_may_end_before_its_time() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.buy()
        await r.rest()
        await r.fault(Fault.SYMBOL_DELISTED, symbol="BTCUSDT")
        told = await heard(ears, 8)
        last = [f["o"] for f in told if "o" in f][-1]
        assert last["c"].startswith("settlement_autoclose-")
        assert (last["x"], last["n"]) == ("TRADE", "0.00000000"), "a settlement is free"
        assert await r.client.fetch_positions() == []
        assert await r.client.fetch_open_orders() == []
        with pytest.raises(ccxt.ExchangeError, match="-4141"):
            await r.buy()


async def test_a_liquidation_waits_for_a_position_and_takes_it() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(Fault.LIQUIDATION, symbol="BTCUSDT")
        assert await r.struck(Fault.LIQUIDATION) == 0
        await r.buy(0.1, ETH)
        await r.buy()
        assert {p["symbol"] for p in await r.client.fetch_positions()} == {ETH}
        taken = next(
            f["o"] for f in await heard(ears, 9) if f.get("o", {}).get("x") == "CALCULATED"
        )
        assert (taken["o"], taken["S"]) == ("LIQUIDATION", "SELL")
        assert taken["c"].startswith("autoclose-")
        rows = await r.client.fapiPrivateGetIncome({"incomeType": "INSURANCE_CLEAR"})
        assert float(rows[0]["income"]) < 0
        assert await r.struck(Fault.LIQUIDATION) == 1


async def test_what_the_venue_closed_is_listed_for_itself() -> None:
    async with rig() as r:
        await r.buy(0.04)
        await r.fault(Fault.FORCED_REDUCTION)
        await r.fault(Fault.LIQUIDATION)
        rows = await r.client.fapiPrivateGetForceOrders({"symbol": "BTCUSDT"})
        assert [row["executedQty"] for row in rows] == ["0.02", "0.02"]
        (taken,) = await r.client.fapiPrivateGetForceOrders({"autoCloseType": "LIQUIDATION"})
        assert (taken["type"], taken["side"]) == ("LIQUIDATION", "SELL")


async def test_a_position_may_be_reduced_by_force() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.buy(0.05)
        await r.fault(Fault.FORCED_REDUCTION)
        (position,) = await r.client.fetch_positions()
        assert position["contracts"] == 0.025
        orders = [f["o"] for f in await heard(ears, 6) if "o" in f]
        assert orders[-1]["c"].startswith("adl_autoclose")
        assert orders[-1]["x"] == "CALCULATED"


async def test_the_owner_may_trade_by_hand() -> None:
    async with rig() as r:
        ears = await listening(r)
        await r.fault(Fault.MANUAL_TRADE, symbol="ETHUSDT")
        told = await heard(ears, 3)
        assert told[0]["o"]["c"].startswith("web_")
        (position,) = await r.client.fetch_positions()
        assert position["symbol"] == ETH
        (trade,) = await r.client.fetch_my_trades(ETH)
        assert trade["amount"] == position["contracts"]


async def test_planned_faults_strike_accounts_at_their_instant() -> None:
    planned = PlannedStrike(START_MS + 30 * MINUTE_MS, "liquidation", symbol="BTCUSDT")
    async with rig(faults=(planned,)) as r:
        ears = await listening(r)
        await r.buy()
        await r.advance(15)
        assert len(await r.client.fetch_positions()) == 1
        await r.advance(15)
        assert any(f.get("o", {}).get("x") == "CALCULATED" for f in ears.frames), (
            "told before moving on"
        )
        assert await r.client.fetch_positions() == []


def test_every_private_fault_is_struck_by_a_test_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert {f for f in PRIVATE_FAULTS if f"Fault.{f.name}" not in text} == set()
