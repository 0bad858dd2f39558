"""What the list of markets says, through real ccxt: rules, halts, ends, contracts gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from adapters.exchange.mapping import end_ms_of, is_halted
from adapters.rehearsal.market import Coin
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.instrument import Standing
from daemon.domain.messages import InstrumentChanged
from tests.adapters.exchange.feed_rig import HALF_HOUR_MS, SYMBOLS, Rig, rig

EVERY: dict[str, Any] = {"markets_every_ms": HALF_HOUR_MS}


def told(made: Rig) -> list[tuple[int, int, Standing]]:
    """Show the changes as (instants after the start, column, standing)."""
    return [
        ((e.at_ms - made.start_ms) // HALF_HOUR_MS, e.index, e.standing)
        for e in made.told
        if isinstance(e, InstrumentChanged)
    ]


def change(made: Rig, symbol: str, how: Callable[[Coin], Coin]) -> None:
    """Let the exchange say something else of a coin from now on."""
    coins: Any = made.exchange.exchange.market.coins
    coins[symbol] = how(coins[symbol])


FIRST = [(0, index, Standing.TRADING) for index in range(3)]


async def test_each_instrument_is_told_once_and_then_only_what_changes() -> None:
    async with rig(**EVERY) as made:
        await made.listen()
        await made.advance(6)
        assert told(made) == FIRST


async def test_new_trading_rules_are_told_exactly() -> None:
    async with rig(**EVERY) as made:
        await made.listen()
        await made.advance(2)
        change(made, "ETHUSDT", lambda coin: replace(coin, quantity_step="0.01", price_step="0.1"))
        await made.advance(3)
        new = [e for e in made.told if isinstance(e, InstrumentChanged)][3:]
        assert [(e.index, e.standing) for e in new] == [(1, Standing.TRADING)]
        rules = new[0].instrument.rules
        assert (rules.price_step, rules.quantity_step) == (Decimal("0.1"), Decimal("0.01"))
        assert new[0].why == (
            "price step 0.01 to 0.1, quantity step 0.001 to 0.01, quantity min 0.001 to 0.01"
        )


async def test_an_announced_end_is_told_ahead_and_again_when_it_has_come() -> None:
    async with rig(stream_patience_s=0.3, **EVERY) as made:
        await made.listen()
        await made.advance(2)
        end_ms = made.start_ms + 5 * HALF_HOUR_MS
        change(made, "SOLUSDT", lambda coin: replace(coin, delisted_ms=end_ms))
        await made.advance(7)
        assert told(made)[3:] == [(3, 2, Standing.REDUCE_ONLY), (5, 2, Standing.GONE)]
        last = [b for b in made.bars if b.close_ms == made.start_ms + 9 * HALF_HOUR_MS]
        assert list(np.sum([b.proof > 0 for b in last], axis=0)) == [1, 1, 0], "others go on"


async def test_a_contract_that_left_the_list_is_gone_after_a_second_look() -> None:
    async with rig(stream_patience_s=0.3, **EVERY) as made:
        await made.listen()
        await made.advance(2)
        coins: Any = made.exchange.exchange.market.coins
        taken = coins.pop("SOLUSDT")
        await made.advance(3)
        assert told(made)[3:] == [(4, 2, Standing.GONE)]
        for close in (3, 4, 5):
            at_ms = made.start_ms + close * HALF_HOUR_MS
            seen = [b for b in made.bars if b.close_ms == at_ms]
            assert list(np.sum([b.proof > 0 for b in seen], axis=0))[:2] == [1, 1]
        coins["SOLUSDT"] = taken
        await made.advance(2)
        assert told(made)[4:] == [(6, 2, Standing.TRADING)], "it is listed again"


async def test_a_list_without_half_of_ours_says_nothing() -> None:
    async with rig(stream_patience_s=0.3, **EVERY) as made:
        await made.listen()
        await made.advance(2)
        coins: Any = made.exchange.exchange.market.coins
        taken = {name: coins.pop(name) for name in ("SOLUSDT", "ETHUSDT")}
        await made.advance(3)
        assert told(made) == FIRST
        coins.update(taken)
        await made.advance(1)
        assert told(made) == FIRST


async def test_a_book_whose_contract_is_gone_is_opened_all_the_same() -> None:
    async with rig(RehearsalSettings(coins=3, history_days=5)) as made:
        before = tuple(await made.feed.instruments())
    async with rig(
        RehearsalSettings(coins=2, history_days=5),
        symbols=SYMBOLS[:2],
        known=before,
        stream_patience_s=0.3,
        **EVERY,
    ) as made:
        made.feed._settings = replace(
            made.feed._settings, symbols=tuple(i.key.symbol for i in before)
        )
        assert tuple(await made.feed.instruments()) == before
        await made.listen()
        await made.advance(2)
        assert told(made) == [*FIRST[:2], (0, 2, Standing.GONE)]
        assert [b.proof.shape for b in made.bars] == [(3,), (3,)]


@pytest.mark.parametrize(
    ("info", "end"),
    [
        ({"deliveryDate": "4133404800000", "status": "TRADING"}, None),
        ({"deliveryDate": 1_700_000_000_000}, 1_700_000_000_000),
        ({"deliveryTime": "0", "status": "Trading"}, None),
        ({"deliveryTime": "1700000000000"}, 1_700_000_000_000),
        ({"status": "SETTLING"}, 0),
        ({"state": "live"}, None),
        ("no mapping", None),
    ],
)
def test_ends_are_read_in_the_words_of_each_venue(info: object, end: int | None) -> None:
    assert end_ms_of({"info": info}) == end


def test_halted_is_what_the_venue_calls_inactive_and_unknown_is_not() -> None:
    assert is_halted({"active": False})
    assert not is_halted({"active": None})
    assert not is_halted({})
