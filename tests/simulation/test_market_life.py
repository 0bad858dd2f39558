"""Twenty things that venues do to contracts: each is survived, and the rest of the book trades on.

Every script is played with the real strategy, engine and paper venue. Checked at every order: none
opens what may only be reduced, none is sent for what is gone, lots are those of the present rules.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest

from daemon.domain.instrument import Standing
from daemon.domain.messages import AlertKind
from tests.simulation.market_life import (
    BARS,
    CHANGE,
    NET_MAX,
    WARM,
    N,
    Script,
    Told,
    play,
    script,
)

GONE, REDUCE, TRADING, UNRIPE = (
    Standing.GONE,
    Standing.REDUCE_ONLY,
    Standing.TRADING,
    Standing.UNRIPE,
)
OUT = 6  # bars after which what may only be reduced must be out: three decisions
Check = Callable[[Told, int], None]


def holder(seed: int, bar: int = CHANGE) -> int:
    """Find an instrument that is held at a bar when nothing happens."""
    told = play(script(seed))
    return int(np.flatnonzero(told.held[bar - 1])[seed % 3])


def out_by(bar: int) -> Check:
    def check(told: Told, index: int) -> None:
        assert told.held[bar - OUT - 1, index] != 0, "what is not held shows nothing"
        assert (told.held[bar:, index] == 0).all()

    return check


def back_after(bar: int) -> Check:
    def check(told: Told, index: int) -> None:
        assert told.held[bar:, index].any(), "it trades again and was never traded"

    return check


def nothing_lost(told: Told, index: int) -> None:
    del index
    assert told.settlements == 0


def settled_by(bar: int) -> Check:
    def check(told: Told, index: int) -> None:
        assert told.settlements == 1
        assert (told.held[bar:, index] == 0).all()

    return check


def stuck(told: Told, index: int) -> None:
    """Expect a position that no whole lot can change to stay; the rest is balanced around it."""
    assert len(np.unique(told.held[CHANGE:, index])) == 1


def never_held(told: Told, index: int) -> None:
    assert not told.held[:, index].any()


def traded_throughout(told: Told, index: int) -> None:
    assert told.sent(index, CHANGE), "it was not traded any more"


def announced_end(s: Script, i: int) -> None:
    s.say(CHANGE, i, REDUCE, "it ends in three days")
    s.say(CHANGE + 80, i, GONE, "it ended")
    s.silent(i, CHANGE + 80)


def sudden_end(s: Script, i: int) -> None:
    s.say(CHANGE, i, GONE, "it ended")
    s.silent(i, CHANGE)


def silent_end(s: Script, i: int) -> None:
    s.silent(i, CHANGE)  # bars stop, the list of markets says so two hours later
    s.say(CHANGE + 4, i, GONE, "the venue no longer lists it")


def halt_and_back(s: Script, i: int) -> None:
    s.say(CHANGE, i, REDUCE, "the venue has halted it")
    s.say(CHANGE + 40, i, TRADING, "it trades")


def halt_without_bars(s: Script, i: int) -> None:
    s.silent(i, CHANGE, CHANGE + 20)
    s.say(CHANGE, i, REDUCE, "the venue has halted it")
    s.say(CHANGE + 20, i, TRADING, "it trades")


def halt_flapping(s: Script, i: int) -> None:
    for step in range(10):
        s.say(CHANGE + step, i, (REDUCE, TRADING)[step % 2], "on and off")


def whole_venue_halts(s: Script, i: int) -> None:
    del i
    for index in range(N):
        s.say(CHANGE, index, REDUCE, "maintenance")
        s.silent(index, CHANGE, CHANGE + 8)
        s.say(CHANGE + 8, index, TRADING, "it trades")


def half_the_venue_ends(s: Script, i: int) -> None:
    for index in sorted({i, *range(0, N, 2)}):
        s.say(CHANGE, index, REDUCE, "it ends tomorrow")
        s.say(CHANGE + 48, index, GONE, "it ended")
        s.silent(index, CHANGE + 48)


def ends_and_returns(s: Script, i: int) -> None:
    sudden_end(s, i)
    s.values[CHANGE + 40 :, i] = script(5).values[CHANGE + 40 :, i]
    s.say(CHANGE + 40, i, TRADING, "listed again")


def listed_late(s: Script, i: int) -> None:
    s.silent(i, 0, CHANGE)
    s.say(0, i, UNRIPE, "not listed yet")
    s.say(CHANGE + 40, i, TRADING, "old enough")


def unripe_for_ever(s: Script, i: int) -> None:
    s.say(0, i, UNRIPE, "too little traded")


def dries_up(s: Script, i: int) -> None:
    s.values[CHANGE:, i, 4] = 400.0
    s.say(CHANGE, i, UNRIPE, "too little traded")


def finer_tick(s: Script, i: int) -> None:
    s.say(CHANGE, i, TRADING, "price step", price_step=Decimal("0.0001"))


def coarser_tick(s: Script, i: int) -> None:
    s.say(CHANGE, i, TRADING, "price step", price_step=Decimal("0.5"))


def coarser_lot(s: Script, i: int) -> None:
    s.say(CHANGE, i, TRADING, "lot", quantity_step=Decimal(1), quantity_min=Decimal(1))


def finer_lot(s: Script, i: int) -> None:
    s.say(CHANGE, i, TRADING, "lot", quantity_step=Decimal("0.00001"))


def lot_larger_than_the_position(s: Script, i: int) -> None:
    s.say(CHANGE, i, TRADING, "lot", quantity_step=Decimal(100_000), quantity_min=Decimal(100_000))


def higher_minimum(s: Script, i: int) -> None:
    s.say(CHANGE, i, TRADING, "minimum", notional_min=Decimal(2_000))


def rules_change_while_it_leaves(s: Script, i: int) -> None:
    s.say(CHANGE, i, REDUCE, "it ends tomorrow", quantity_step=Decimal("0.01"))
    s.say(CHANGE + 1, i, REDUCE, "it ends tomorrow", quantity_step=Decimal("0.0001"))
    s.say(CHANGE + 48, i, GONE, "it ended")


def said_again_and_again(s: Script, i: int) -> None:
    for bar in range(CHANGE, BARS):
        s.say(bar, i, TRADING, "it trades")


def renamed(s: Script, i: int) -> None:
    """Let a contract end while another column, silent so far, is listed in its place."""
    other = (i + 1) % N
    s.silent(other, 0, CHANGE)
    s.say(0, other, UNRIPE, "not listed yet")
    announced_end(s, i)
    s.say(CHANGE + 40, other, TRADING, "the new name is old enough")


LIFE: dict[str, tuple[Callable[[Script, int], None], tuple[Check, ...]]] = {
    "announced end": (announced_end, (out_by(CHANGE + OUT), nothing_lost)),
    "sudden end": (sudden_end, (settled_by(CHANGE),)),
    "silent end": (silent_end, (settled_by(CHANGE + 4),)),
    "halt and back": (halt_and_back, (back_after(CHANGE + 40), nothing_lost)),
    "halt without bars": (halt_without_bars, (back_after(CHANGE + 20), nothing_lost)),
    "halt flapping": (halt_flapping, (nothing_lost, traded_throughout)),
    "whole venue halts": (whole_venue_halts, (back_after(CHANGE + 8), nothing_lost)),
    "half the venue ends": (half_the_venue_ends, (out_by(CHANGE + OUT), nothing_lost)),
    "ends and returns": (ends_and_returns, (back_after(CHANGE + 40),)),
    "listed late": (listed_late, (back_after(CHANGE + 40),)),
    "unripe for ever": (unripe_for_ever, (never_held,)),
    "dries up": (dries_up, (out_by(CHANGE + OUT),)),
    "finer tick": (finer_tick, (traded_throughout,)),
    "coarser tick": (coarser_tick, (traded_throughout,)),
    "coarser lot": (coarser_lot, (traded_throughout,)),
    "finer lot": (finer_lot, (traded_throughout,)),
    "lot larger than the position": (lot_larger_than_the_position, (nothing_lost, stuck)),
    "higher minimum": (higher_minimum, (nothing_lost,)),
    "rules change while it leaves": (
        rules_change_while_it_leaves,
        (out_by(CHANGE + OUT), nothing_lost),
    ),
    "said again and again": (said_again_and_again, (traded_throughout, nothing_lost)),
    "renamed": (renamed, (out_by(CHANGE + OUT), nothing_lost)),
}


def test_there_are_twenty_of_them() -> None:
    assert len(LIFE) >= 20


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("name", LIFE)
def test_the_book_survives_it_and_the_rest_trades_on(name: str, seed: int) -> None:
    happens, checks = LIFE[name]
    index = holder(seed)
    made = script(seed)
    happens(made, index)
    told = play(made)
    for check in checks:
        check(told, index)
    assert told.agree(), "the venue's account and ours differ"
    others = [o for bar, o in told.orders if bar >= CHANGE + 10 and o.index != index]
    assert others, "the rest of the book was not traded any more"
    # orders keep to the bound; between two decisions prices may carry the book past it
    assert np.quantile(np.abs(told.net_weight[WARM:]), 0.95) <= 1.2 * NET_MAX, "off balance"
    assert not told.engine.state.halted_why


def test_each_change_is_told_once_to_people() -> None:
    made = script(3)
    halt_and_back(made, 2)
    for bar in range(CHANGE + 41, BARS):
        made.say(bar, 2, TRADING, "it trades")
    told = [a.text for a in play(made).alerts if a.kind is AlertKind.INSTRUMENT]
    assert told == [
        "paper:C02/USDT:USDT is reduce only: the venue has halted it",
        "paper:C02/USDT:USDT is trading: it trades",
    ]


def test_a_script_in_which_nothing_happens_is_the_reference() -> None:
    told = play(script(3))
    assert told.settlements == 0
    assert told.agree()
    assert np.count_nonzero(told.held[CHANGE]) == 6
