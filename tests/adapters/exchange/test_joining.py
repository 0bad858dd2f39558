"""Contracts listed later take spare columns, through real ccxt: bars, funding, order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.exchange.joining import Beginning, Joining
from adapters.rehearsal.settings import ORIGIN_MS_DEFAULT, RehearsalSettings
from daemon.domain.bar import Proof
from daemon.domain.failures import VenueError
from daemon.domain.instrument import Standing
from daemon.domain.messages import FeedNotice, FeedTrouble, InstrumentChanged
from daemon.domain.units import DAY_MS, HOUR_MS
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, SYMBOLS, Rig, rig, unified

EVERY: dict[str, Any] = {"markets_every_ms": HALF_HOUR_MS}
START_MS = ORIGIN_MS_DEFAULT + 5 * DAY_MS
BNB, XRP = unified("BNBUSDT"), unified("XRPUSDT")


def market(coins: int = 4, **listings: float) -> RehearsalSettings:
    """Describe a market whose coins are listed so many bars after the start."""
    at = {name: START_MS + round(bars * HALF_HOUR_MS) for name, bars in listings.items()}
    return RehearsalSettings(coins=coins, history_days=5, listings=at)


def joined(made: Rig) -> list[tuple[int, int, str]]:
    """Show who took a column as (instants after the start, column, symbol)."""
    count = len(SYMBOLS)
    return [
        ((e.at_ms - made.start_ms) // HALF_HOUR_MS, e.index, e.instrument.key.symbol)
        for e in made.told
        if isinstance(e, InstrumentChanged) and e.index >= count
    ]


def column(made: Rig, index: int) -> dict[int, tuple[float, ...]]:
    """Give the bars told of a column by instants after the start; each may be told once."""
    found: dict[int, tuple[float, ...]] = {}
    for event in made.bars:
        if event.proof[index] != Proof.ABSENT:
            bar = (event.close_ms - made.start_ms) // HALF_HOUR_MS
            assert bar not in found, f"bar {bar} of column {index} was told twice"
            found[bar] = tuple(event.values[index].tolist())
    return found


def truth_of(made: Rig, symbol: str, bar: int) -> tuple[float, ...]:
    made.symbols, kept = (symbol,), made.symbols
    values = made.truth(made.start_ms + bar * HALF_HOUR_MS)[0]
    made.symbols = kept
    return tuple(values.tolist())


async def test_a_listing_takes_the_spare_column_and_its_bars_are_the_exchanges() -> None:
    async with rig(market(BNBUSDT=3), symbols=SYMBOLS, spare=2, **EVERY) as made:
        columns = await made.feed.instruments()
        assert [i.key.symbol for i in columns[3:]] == ["(spare 1)", "(spare 2)"]
        await made.listen()
        await made.advance(20)
        assert joined(made) == [(3, 3, BNB)]
        bars = column(made, 3)
        assert sorted(bars) == list(range(4, 21))
        for bar, values in bars.items():
            assert values == truth_of(made, "BNBUSDT", bar)
        assert column(made, 4) == {}
        finals = {e.close_ms for e in made.bars if e.final}
        wanted = {made.start_ms + bar * HALF_HOUR_MS for bar in range(1, 21)}
        assert finals == wanted, "a free column keeps no instant from being complete"
        paid = [e.settle_ms for e in made.funding if not np.isnan(e.rates[3])]
        assert paid, "its funding is followed"
        assert all(len(e.rates) == 5 for e in made.funding)
        streams = [s.symbol for s in made.exchange.exchange.hub.streams]
        assert sorted(streams) == sorted([*SYMBOLS, "BNBUSDT"]), "it is streamed like the others"


async def test_the_stream_proves_the_bars_of_a_contract_that_joined() -> None:
    async with rig(market(BNBUSDT=2), symbols=SYMBOLS, spare=1, **EVERY) as made:
        await made.listen()
        await made.advance(12)
        proofs = [e.proof[3] for e in made.bars if e.proof[3] != Proof.ABSENT]
        assert proofs[-1] == Proof.SUCCESSOR


async def test_bars_from_before_the_listing_was_found_are_read_and_come_once() -> None:
    seldom: dict[str, Any] = {"markets_every_ms": 10 * HALF_HOUR_MS}
    async with rig(market(BNBUSDT=2), symbols=SYMBOLS, spare=1, **seldom) as made:
        await made.listen()
        await made.advance(20)
        assert joined(made) == [(10, 3, BNB)]
        bars = column(made, 3)
        assert sorted(bars) == list(range(3, 21)), "an audit repeats none"
        assert all(bars[bar] == truth_of(made, "BNBUSDT", bar) for bar in bars)


async def test_a_market_that_waits_for_us_waits_for_the_past_of_a_listing() -> None:
    seldom: dict[str, Any] = {"markets_every_ms": 4 * HALF_HOUR_MS}
    async with rig(market(BNBUSDT=1), symbols=SYMBOLS, spare=1, **seldom) as made:
        await made.listen()
        await made.advance(3)
        made.exchange.exchange.faults.set("slow", 9, symbol="BNBUSDT", seconds=0.4)
        await made.advance(1)
        assert sorted(column(made, 3)) == [2, 3, 4]


async def test_without_streams_a_contract_that_joined_is_asked_for_like_the_others() -> None:
    async with rig(market(BNBUSDT=2), symbols=SYMBOLS, spare=1, stream=False, **EVERY) as made:
        await made.listen()
        await made.advance(6)
        assert sorted(column(made, 3)) == [3, 4, 5, 6]


async def test_columns_go_by_listing_time_and_who_finds_none_is_named_once() -> None:
    listings = {"BNBUSDT": 4.0, "XRPUSDT": 3.5, "DOGEUSDT": 8.0}
    async with rig(market(6, **listings), symbols=SYMBOLS, spare=2, **EVERY) as made:
        await made.listen()
        await made.advance(12)
        assert joined(made) == [(4, 3, XRP), (4, 4, BNB)]
        full = [e for e in made.told if isinstance(e, FeedNotice)]
        assert [e.trouble for e in full] == [FeedTrouble.NO_COLUMN]
        assert unified("DOGEUSDT") in full[0].text


async def test_many_that_find_no_column_are_one_notice_until_they_are_others() -> None:
    names = ("BNBUSDT", "XRPUSDT", "DOGEUSDT", "ADAUSDT", "LINKUSDT", "DOTUSDT")
    listings = dict.fromkeys(names, 1.0) | {"AVAXUSDT": 6.0}
    async with rig(market(10, **listings), symbols=SYMBOLS, spare=1, **EVERY) as made:
        await made.listen()
        await made.advance(12)
        assert len(joined(made)) == 1
        full = [e for e in made.told if isinstance(e, FeedNotice)]
        assert [(e.trouble, e.active) for e in full] == [(FeedTrouble.NO_COLUMN, True)] * 2
        bars = [(e.at_ms - made.start_ms) / HALF_HOUR_MS for e in full]
        assert bars == [1, 6]
        assert [e.text.split(" ", 1)[0] for e in full] == ["5", "6"]
        assert "and 1 more" in full[1].text


async def test_what_was_listed_when_the_book_began_does_not_join() -> None:
    async with rig(market(5), symbols=SYMBOLS, spare=2, **EVERY) as made:
        await made.listen()
        await made.advance(3)
        assert joined(made) == []


async def test_nobody_joins_by_himself_where_settings_forbid_it() -> None:
    wanted = market(BNBUSDT=2)
    async with rig(wanted, symbols=SYMBOLS, spare=1, admit_new=False, **EVERY) as made:
        await made.listen()
        await made.advance(5)
        assert joined(made) == []


async def test_without_spare_columns_a_listing_changes_nothing() -> None:
    async with rig(market(BNBUSDT=2), symbols=SYMBOLS, **EVERY) as made:
        await made.listen()
        await made.advance(5)
        assert joined(made) == []
        assert made.notices == []
        assert {e.values.shape for e in made.bars} == {(3, 5)}


async def test_a_listing_while_nobody_looked_is_found_at_the_next_start() -> None:
    async with rig(market(BNBUSDT=2), symbols=SYMBOLS, spare=1, **EVERY) as made:
        columns = tuple(await made.feed.instruments())
        beginning = made.feed.beginning
    later = RehearsalSettings(
        coins=4,
        history_days=5,
        listings={"BNBUSDT": START_MS + 2 * HALF_HOUR_MS},
        resume_at_ms=START_MS + 10 * HALF_HOUR_MS,
    )
    goes_on: dict[str, Any] = {"known": columns, "beginning": beginning}
    async with rig(later, symbols=SYMBOLS, **goes_on, **EVERY) as made:
        assert tuple(await made.feed.instruments()) == columns
        made.symbols = (*SYMBOLS, "BNBUSDT")
        await made.listen()
        await made.advance(3)
        assert joined(made) == [(0, 3, BNB)]
        assert sorted(column(made, 3)) == list(range(-7, 4)), "its past is read, too"


async def test_a_named_symbol_takes_a_spare_column_of_a_book_that_goes_on() -> None:
    async with rig(market(5), symbols=SYMBOLS, spare=2) as made:
        columns = tuple(await made.feed.instruments())
        beginning = made.feed.beginning
    named = (*SYMBOLS, "XRPUSDT")
    goes_on: dict[str, Any] = {"known": columns, "beginning": beginning, "admit_new": False}
    async with rig(market(5), symbols=named, markets_every_ms=0, **goes_on) as made:
        await made.listen()
        await made.advance(3)
        assert joined(made) == [(0, 3, XRP)]
        assert set(range(1, 4)) <= set(column(made, 3))


async def test_a_contract_that_ends_and_is_listed_again_keeps_its_column() -> None:
    async with rig(market(BNBUSDT=2), symbols=SYMBOLS, spare=2, **EVERY) as made:
        await made.listen()
        await made.advance(5)
        coins: Any = made.exchange.exchange.market.coins
        taken = coins.pop("BNBUSDT")
        await made.advance(3)
        coins["BNBUSDT"] = taken
        await made.advance(3)
        told = [e for e in made.told if isinstance(e, InstrumentChanged) and e.index >= 3]
        assert [e.standing for e in told] == [Standing.TRADING, Standing.GONE, Standing.TRADING]
        assert {(e.index, e.instrument.key.symbol) for e in told} == {(3, BNB)}


async def test_a_feed_that_is_begun_anew_keeps_who_took_a_column() -> None:
    """The first one ends meanwhile: what comes next must not be taken for the first again."""
    wanted = market(5, BNBUSDT=2, XRPUSDT=3)
    quick: dict[str, Any] = {"spare": 3, "stream_patience_s": 0.3}
    async with rig(wanted, symbols=SYMBOLS, **quick, **EVERY) as made:
        await made.listen()
        await made.advance(5)
        assert joined(made) == [(2, 3, BNB), (3, 4, XRP)]
        await made.feed._end_pump()
        made.told.clear()
        coins: Any = made.exchange.exchange.market.coins
        del coins["BNBUSDT"]
        made.symbols = (*SYMBOLS, "XRPUSDT", "BNBUSDT")  # its old subscription stays
        await made.listen(made.clock.now())
        await made.advance(3)
        told = [e for e in made.told if isinstance(e, InstrumentChanged)]
        names = {e.index: e.instrument.key.symbol for e in told}
        assert names[3] == BNB
        assert names[4] == XRP
        assert [e.standing for e in told if e.index == 3] == [Standing.GONE]
        assert 5 not in names
        assert set(column(made, 4)) == {6, 7, 8}


async def test_an_unknown_symbol_is_an_error_that_tells_of_spare_columns() -> None:
    async with rig(market(), symbols=(*SYMBOLS, "NEWUSDT"), spare=1) as made:
        with pytest.raises(VenueError, match=r"NEWUSDT.*spare"):
            await made.feed.instruments()


# ---- who may join --------------------------------------------------------------------------------


def contract(created_ms: int | None = None, **changes: Any) -> Mapping[str, Any]:
    plain = {"swap": True, "linear": True, "settle": "USDT", "active": True, "info": {}}
    return plain | {"created": created_ms} | changes


BEGUN = Beginning(1000 * DAY_MS, frozenset({"OLD/USDT:USDT"}))


@pytest.mark.parametrize(
    ("listed", "joins"),
    [
        (contract(BEGUN.at_ms + HOUR_MS), True),
        (contract(BEGUN.at_ms), True),
        (contract(BEGUN.at_ms - 1), False),
        (contract(None), True),
        (contract(BEGUN.at_ms, settle="USDC"), False),
        (contract(BEGUN.at_ms, linear=False), False),
        (contract(BEGUN.at_ms, swap=False), False),
        (contract(BEGUN.at_ms, active=False), False),
        (contract(BEGUN.at_ms, info={"deliveryDate": "1700000000000"}), False),
    ],
)
def test_who_may_join(listed: Mapping[str, Any], joins: bool) -> None:
    rules = Joining(BEGUN)
    assert bool(rules.wanted({"NEW/USDT:USDT": listed}, set())) is joins
    assert not rules.wanted({"NEW/USDT:USDT": listed}, {"NEW/USDT:USDT"}), "it is here already"
    assert not Joining(BEGUN, admit_new=False).wanted({"NEW/USDT:USDT": listed}, set())
    named = Joining(BEGUN, ("NEW/USDT:USDT",), admit_new=False)
    assert named.wanted({"NEW/USDT:USDT": listed}, set()), "who is named needs no other reason"


def test_a_venue_without_listing_times_is_judged_by_its_list_at_the_beginning() -> None:
    markets = {"OLD/USDT:USDT": contract(None), "NEW/USDT:USDT": contract(None)}
    assert [symbol for symbol, _ in Joining(BEGUN).wanted(markets, set())] == ["NEW/USDT:USDT"]


@given(st.dictionaries(st.text("ABCDEF", min_size=1), st.integers(0, 50), max_size=8))
def test_the_order_is_that_of_listing_and_name_however_the_list_is_written(
    hours: dict[str, int],
) -> None:
    markets = {name: contract(BEGUN.at_ms + at * HOUR_MS) for name, at in hours.items()}
    there = [symbol for symbol, _ in Joining(BEGUN).wanted(markets, set())]
    back = dict(reversed(list(markets.items())))
    assert there == [symbol for symbol, _ in Joining(BEGUN).wanted(back, set())]
    assert there == sorted(hours, key=lambda name: (hours[name], name))
