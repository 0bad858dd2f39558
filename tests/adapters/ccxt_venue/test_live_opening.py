"""What is verified before the first order, and what no text may ever hold."""

from __future__ import annotations

import io
import logging
import pickle
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from adapters.ccxt_venue.client import keyed_client
from adapters.ccxt_venue.client_ids import client_id
from adapters.ccxt_venue.desk import fill_of
from adapters.ccxt_venue.names import Names
from adapters.ccxt_venue.opening import Opening, opened
from adapters.ccxt_venue.preparing import Wishes, account_name
from adapters.ccxt_venue.rows import Execution
from adapters.ccxt_venue.venue import CcxtVenue
from adapters.rehearsal.accounts import KeySettings
from adapters.rehearsal.bank.terms import MarginMode, PositionMode
from adapters.rehearsal.binance.payloads import account_alias
from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.faults import Fault
from adapters.rehearsal.settings import PaceKind
from daemon.domain.failures import ConfigurationError, VenueError
from daemon.domain.instrument import Instrument, InstrumentKey, Standing
from daemon.domain.messages import InstrumentChanged, Snapshotted
from daemon.domain.order import OrderId
from daemon.domain.units import MINUTE_MS
from tests.adapters.ccxt_venue.live_rig import (
    RULES,
    VENUE,
    credentials,
    instruments,
    kinds,
    live,
    order,
)
from tests.adapters.rehearsal.binance.binance_rig import KEY, SECRET, Rig, rig

ACCOUNT = account_name(VENUE, account_alias(KEY))
START_MS = 1_704_326_400_000
WISHES = Wishes(ACCOUNT, 7, "cancel_ours", frozenset())


def opening_of(r: Rig, wishes: Wishes = WISHES, secret: str = SECRET) -> Opening:
    return Opening(
        VENUE,
        ccxt_options(r.running.rest_url, r.running.ws_url),
        credentials(secret=secret),
        instruments(),
        wishes,
        RULES,
        r.running.exchange.clock_ms,
        None,
        lambda at_ms: None,
    )


@asynccontextmanager
async def venue_at(r: Rig, wishes: Wishes = WISHES) -> AsyncIterator[CcxtVenue]:
    async with opened(opening_of(r, wishes)) as venue:
        yield venue


def bank_of(r: Rig) -> Any:
    return r.running.exchange.accounts.bank


# ---- modes, rights, account ----------------------------------------------------------------------


async def test_one_way_cross_and_leverage_are_set_and_an_unchanged_account_is_no_error() -> None:
    """Trap 9: to set what is set already raises at the venue."""
    async with rig() as r:
        bank = bank_of(r)
        bank.set_position_mode(KEY, PositionMode.HEDGE)
        bank.set_margin_mode(KEY, "ETHUSDT", MarginMode.ISOLATED)
        for _ in range(2):
            async with venue_at(r) as venue:
                assert venue.account_name == ACCOUNT
            assert bank.position_mode(KEY) is PositionMode.ONE_WAY
            views = [bank.position(KEY, s) for s in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
            assert {v.leverage for v in views} == {7}
            assert {v.margin_mode for v in views} == {MarginMode.CROSS}


async def test_a_mode_that_stays_as_it_was_stops_the_start() -> None:
    async with rig() as r:
        bank_of(r).set_margin_mode(KEY, "BTCUSDT", MarginMode.ISOLATED)
        await r.buy(0.01)  # a position locks the mode
        with pytest.raises(VenueError, match="BTCUSDT shows margin ISOLATED"):
            async with venue_at(r):
                pass


async def test_a_key_that_may_withdraw_is_refused() -> None:
    accounts = (KeySettings(KEY, SECRET, may_withdraw=True),)
    async with rig(accounts=accounts) as r:
        with pytest.raises(ConfigurationError, match="may withdraw"):
            async with venue_at(r):
                pass


async def test_another_account_than_the_one_named_is_refused_and_named() -> None:
    async with rig() as r:
        with pytest.raises(ConfigurationError, match=ACCOUNT):
            async with venue_at(r, replace(WISHES, account="")):
                pass


async def test_a_venue_without_a_dialect_is_refused() -> None:
    async with rig() as r:
        with pytest.raises(ConfigurationError, match="kucoinfutures cannot be traded live"):
            async with opened(replace(opening_of(r), venue="kucoinfutures")):
                pass


# ---- what rests at the start ---------------------------------------------------------------------


async def test_orders_of_ours_that_no_journal_knows_are_cancelled_and_known_ones_stay() -> None:
    async with rig() as r:
        for number in (1, 2):
            name = client_id(VENUE, OrderId(f"eq65bbf840-0-{number}"))
            await r.rest(-0.01 * number, newClientOrderId=name)
        known = frozenset({OrderId("eq65bbf840-0-2")})
        async with venue_at(r, replace(WISHES, known=known)):
            left = bank_of(r).open_orders(KEY)
            assert [o.client_id for o in left] == ["eq65bbf840-0-2"]


@pytest.mark.parametrize("policy", ["cancel_ours", "cancel_all", "refuse"])
async def test_orders_of_others_are_named_and_cancelled_only_if_all_shall_be(policy: str) -> None:
    async with rig() as r:
        await r.rest(-0.01, newClientOrderId="web_by_hand")
        wishes = replace(WISHES, open_orders=policy)
        if policy == "cancel_all":
            async with venue_at(r, wishes):
                assert bank_of(r).open_orders(KEY) == []
            return
        with pytest.raises(ConfigurationError, match="web_by_hand"):
            async with venue_at(r, wishes):
                pass
        assert len(bank_of(r).open_orders(KEY)) == 1


# ---- the clock -----------------------------------------------------------------------------------


async def test_a_wrong_clock_of_ours_is_measured_and_signed_away() -> None:
    """Trap 14: signatures carry local time; ccxt measures the difference once, or never."""
    async with live(pace=PaceKind.FACTOR, factor=1.0) as x:
        api, true_ms = x.api, x.api.milliseconds
        x.venue._clock._error_ms_max = 2_000.0
        api.milliseconds = lambda: true_ms() + 300_000  # ours is now five minutes fast
        assert "clock_skew" in str(await x.venue.submit([order(1, "0.01")]))
        assert x.venue.desk.clock_refused.is_set()
        await x.venue._clock.measure()
        assert kinds(await x.venue.submit([order(2, "0.01")])) == ["OrderAccepted"]
        assert x.held() == Decimal("0.01")


async def test_a_clock_that_cannot_be_read_stops_the_start() -> None:
    async with rig() as r:
        await r.fault(Fault.NOT_JSON_200, count=50)
        with pytest.raises(VenueError, match="server time"):
            async with venue_at(r):
                pass


# ---- nothing asked beside, and no word of the key ------------------------------------------------


async def test_the_client_asks_for_nothing_but_the_futures_list() -> None:
    """Trap 15: with keys ccxt also asks spot endpoints, whose failure would stop futures."""
    async with rig() as r, venue_at(r) as venue:
        api = venue._caller.api
        options = api.options
        assert not options["fetchCurrencies"]
        assert not options["fetchMargins"]
        assert options["fetchMarkets"]["types"] == ["linear"]
        assert options["adjustForTimeDifference"] is False


def test_a_credential_among_the_options_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="apiKey"):
        keyed_client(VENUE, {"apiKey": KEY}, credentials(), receive_window_ms=500)


async def test_no_text_of_a_session_holds_the_key_or_a_signature(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    texts: list[str] = []
    try:
        async with live() as x:
            x.api.timeout = 300
            for fault in (Fault.ORDER_LOST_HANG, Fault.HTTP_503, Fault.CLOCK_SKEW):
                await x.r.fault(fault)
                one = order(len(texts), "0.01")
                texts.append(repr(await x.venue.submit([one])))
                texts.append(repr(await x.venue.cancel(one.order_id, one.key)))
            await x.r.fault(Fault.HTTP_503, count=20)
            try:
                await x.venue.snapshot(1, VENUE)
            except VenueError as e:
                texts.append("".join(traceback.format_exception(e)))
            texts += [repr(x.venue), repr(x.caller), repr(credentials())]
            with pytest.raises(TypeError):
                pickle.dumps(credentials())
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    out = capsys.readouterr()
    logged = said.getvalue()
    assert "Request:" in logged, "ccxt's own DEBUG log was not heard"
    for text in (*texts, logged, out.out, out.err):
        assert KEY not in text
        assert SECRET not in text
        assert "signature=***" in text or "signature=" not in text


async def test_a_wrong_secret_stops_the_start_without_quoting_it() -> None:
    wrong = "a-wrong-secret-of-the-tests"
    async with rig() as r:
        with pytest.raises(VenueError) as failure:
            async with opened(opening_of(r, secret=wrong)):
                pass
        assert "-1022" in str(failure.value)
        shown = "".join(traceback.format_exception(failure.value))
        assert wrong not in shown
        assert KEY not in shown


async def test_a_contract_that_is_listed_later_is_prepared_and_the_gone_one_stays_known() -> None:
    async with rig(listings={"SOLUSDT": START_MS + 10 * MINUTE_MS}) as r:
        spare = replace_key(instruments()[2], "(spare 1)")
        opening = replace(opening_of(r), instruments=(*instruments()[:2], spare))
        async with opened(opening) as venue:
            assert "SOL/USDT:USDT" not in venue._caller.api.markets
            await r.fault(Fault.SYMBOL_DELISTED, symbol="ETHUSDT")
            await r.advance(20)
            changed = InstrumentChanged(0, 2, instruments()[2], Standing.TRADING, "listed")
            await venue.observe(changed)
            assert kinds(await venue.submit([order(1, "3", "SOL")])) == ["OrderAccepted"]
            assert bank_of(r).position(KEY, "SOLUSDT").leverage == WISHES.leverage
            assert "ETH/USDT:USDT" in venue._caller.api.markets


async def test_the_margin_ratio_is_told_with_the_account() -> None:
    async with rig() as r, venue_at(r) as venue:
        await venue.submit([order(1, "1.5")])
        told = (await venue.snapshot(0, VENUE))[-1]
        assert isinstance(told, Snapshotted)
        assert 0.0 < (told.snapshot.margin_ratio or 0.0) < 0.1


def test_a_fee_in_another_currency_is_no_fee_in_ours_and_is_told_beside() -> None:
    names = Names(VENUE, instruments())
    told = Execution(
        "t", "1", None, "BTCUSDT", Decimal(1), Decimal(9), Decimal("0.00012345"), "BNB", 5
    )
    fill = fill_of(told, OrderId("eq1-0-1"), names)
    assert (fill.fee, fill.other_fee, fill.other_currency) == (Decimal(0), told.fee, "BNB")
    fill = fill_of(replace(told, fee_currency="USDT"), OrderId("eq1-0-1"), names)
    assert (fill.fee, fill.other_fee, fill.other_currency) == (told.fee, Decimal(0), "")


def replace_key(instrument: Instrument, symbol: str) -> Instrument:
    return replace(instrument, key=InstrumentKey(VENUE, symbol))


async def test_a_clock_known_too_vaguely_to_bound_a_late_request_stops_the_start() -> None:
    async with rig() as r:
        await r.fault(Fault.SLOW, count=3, seconds=0.6)
        with pytest.raises(VenueError, match="known to"):
            async with venue_at(r):
                pass
