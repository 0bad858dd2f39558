"""Contracts listed while a book runs: they take spare columns, warm up, trade, end like others.

Played with the real strategy, engine and paper venue, as the scripts of `test_market_life`, whose
checks at every order hold here as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from daemon import codec
from daemon.domain.failures import InvariantViolated
from daemon.domain.instrument import CashKey, InstrumentKey, Standing
from daemon.domain.messages import AlertKind, InstrumentChanged
from daemon.domain.order import Fill, OrderId
from daemon.engine.engine import Engine
from daemon.runtime.recovery import fingerprint
from tests.simulation.market_life import (
    BARS,
    CHANGE,
    H1,
    NET_MAX,
    WARM,
    N,
    Script,
    Told,
    engine_for,
    play,
    script,
    universe,
)

SEEDS = (3, 4, 5)
WINDOW = 2 * 13  # source bars of the thirteen hours that the strategy compares


def sound(told: Told) -> None:
    """Check what must hold whatever happens."""
    assert told.agree(), "the venue's account and ours differ"
    assert not told.engine.state.halted_why
    assert np.quantile(np.abs(told.net_weight[WARM:]), 0.95) <= 1.2 * NET_MAX, "off balance"


def taken(seed: int, bar: int = CHANGE) -> Script:
    made = script(seed, spare=2)
    made.join(bar, N, "NEW")
    return made


@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_traded_once_its_window_is_full_and_not_before(seed: int) -> None:
    told = play(taken(seed))
    orders = [bar for bar, order in told.orders if order.index == N]
    assert min(orders) >= CHANGE + WINDOW - 2, "it was traded before its window was full"
    assert min(orders) <= CHANGE + 4 * WINDOW
    assert told.held[:, N].any()
    engine = told.engine
    assert engine.state.ripeness.first_ms[N] == engine.universe.instruments[N].listed_ms
    assert all(order.key.symbol == "NEW/USDT:USDT" for _, order in told.orders if order.index == N)
    sound(told)


@pytest.mark.parametrize("seed", SEEDS)
def test_free_columns_change_no_decision(seed: int) -> None:
    plain, spare = play(script(seed)), play(script(seed, spare=2))
    assert plain.orders == spare.orders
    assert (plain.held == spare.held[:, :N]).all()
    assert not spare.held[:, N:].any()
    assert len(plain.decisions) == len(spare.decisions)
    for a, b in zip(plain.decisions, spare.decisions, strict=True):
        assert (a.as_of_ms, a.kind, a.equity, a.absent) == (b.as_of_ms, b.kind, b.equity, b.absent)
        assert (a.weights_before == b.weights_before[:N]).all()
        assert a.target is not None
        assert b.target is not None
        assert (a.target.weights == b.target.weights[:N]).all()
        assert not b.target.weights[N:].any()


@pytest.mark.parametrize("seed", SEEDS)
def test_until_a_listing_the_decisions_are_those_without_it(seed: int) -> None:
    plain, later = play(script(seed)), play(taken(seed))
    before = [order for bar, order in plain.orders if bar < CHANGE + WINDOW - 2]
    assert before == [order for bar, order in later.orders if bar < CHANGE + WINDOW - 2]


@pytest.mark.parametrize("seed", SEEDS)
def test_it_may_end_like_any_other_and_its_column_stays_its_own(seed: int) -> None:
    made = taken(seed, bar=70)
    made.say(200, N, Standing.GONE, "it ended")
    made.silent(N, 200)
    told = play(made)
    assert told.held[:200, N].any()
    assert not told.held[200:, N].any()
    assert told.engine.universe.instruments[N].key.symbol == "NEW/USDT:USDT"
    sound(told)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_second_listing_takes_the_second_column(seed: int) -> None:
    made = taken(seed, bar=70)
    made.join(100, N + 1, "NEWER")
    told = play(made)
    assert told.held[:, N].any()
    assert told.held[:, N + 1].any()
    assert told.engine.universe.symbols[N:] == ("NEW/USDT:USDT", "NEWER/USDT:USDT")
    texts = [alert.text for alert in told.alerts if alert.kind is AlertKind.INSTRUMENT]
    assert texts == [
        "paper:NEW/USDT:USDT takes (spare 1): it was listed",
        "paper:NEWER/USDT:USDT takes (spare 2): it was listed",
    ]
    sound(told)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_halt_and_new_rules_come_to_it_as_to_any_other(seed: int) -> None:
    made = taken(seed, bar=70)
    made.say(150, N, Standing.REDUCE_ONLY, "the venue has halted it")
    made.say(180, N, Standing.TRADING, "lot", quantity_step=Decimal(1), quantity_min=Decimal(1))
    told = play(made)
    assert not told.held[150 + 6 : 180, N].any()
    late = told.sent(N, 181)
    assert all(order.quantity % 1 == 0 for order in late)
    sound(told)


def test_one_that_is_halted_when_it_joins_is_not_opened() -> None:
    made = script(3, spare=1)
    made.join(70, N, "NEW")
    made.say(71, N, Standing.REDUCE_ONLY, "the venue has halted it")
    told = play(made)
    assert not told.sent(N, 0)
    assert not told.held[:, N].any()


def test_bars_from_before_it_was_found_fill_its_window() -> None:
    made = script(3, spare=1)
    made.join(CHANGE, N, "NEW", since=CHANGE - 20)
    known: dict[int, int] = {}

    def look(bar: int, engine: Engine) -> None:
        closes = engine.state.windows[H1].view().values[:, N, 3]
        known[bar] = int(np.isfinite(closes).sum())

    told = play(made, look)
    assert known[CHANGE - 1] == 0
    assert known[CHANGE] == 10, "twenty half hours are ten hours"
    assert known[CHANGE + 20] == 20
    assert min(bar for bar, order in told.orders if order.index == N) < CHANGE + WINDOW
    sound(told)


# ---- a column that is taken ----------------------------------------------------------------------


@pytest.mark.parametrize("who", ["engine", "venue"])
@pytest.mark.parametrize(
    ("name", "index", "why"),
    [
        ("OTHER", N, r"column 12 is"),
        ("C03", N + 1, r"has (a )?column"),
        ("NEW", N + 1, r"has (a )?column"),
        ("OTHER", 2, r"column 2 is"),
    ],
)
def test_a_column_is_taken_once_and_by_a_contract_that_has_none(
    who: str, name: str, index: int, why: str
) -> None:
    told = play(taken(3))
    wrong = script(3, spare=2)
    wrong.join(BARS - 1, max(index, N), name)
    event = wrong.said[BARS - 1][-1]
    assert isinstance(event, InstrumentChanged)
    changed = structs.replace(event, index=index)
    takes: Callable[[Any], object] = told.engine.process
    if who == "venue":
        takes = told.venue.observe
    with pytest.raises(InvariantViolated, match=why):
        takes(changed)


def test_cash_of_a_contract_that_joined_is_in_its_own_currency() -> None:
    book = engine_for(universe(1)).state.book
    found = replace(book.universe.instruments[0], key=InstrumentKey("paper", "NEW"), settle="XYZ")
    book.stand(N, found, Standing.TRADING)
    one = Decimal(1)
    book.fill(
        Fill("t", OrderId("o"), found.key, N, one, Decimal(5), one, 1), 1.0, 5.0, reserved=False
    )
    assert book.ledger.cash == {CashKey("paper", "XYZ"): Decimal(-6)}


# ---- what is written down ------------------------------------------------------------------------


def processed(engine: Engine, told: Told, first: int) -> list[list[bytes]]:
    """Process the entries from a place on; give the commands' bytes by entry."""
    return [[fingerprint(c) for c in engine.process(event)] for event, _ in told.entries[first:]]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_journal_replays_and_a_snapshot_goes_on_to_the_bit(share: float) -> None:
    made = taken(3, bar=70)
    made.join(150, N + 1, "NEWER")
    told = play(made)
    recorded = [[fingerprint(c) for c in commands] for _, commands in told.entries]
    assert processed(engine_for(universe(2)), told, 0) == recorded

    cut = int(share * len(told.entries))
    first = engine_for(universe(2))
    for event, _ in told.entries[:cut]:
        first.process(event)
    while not first.quiescent:
        first.process(told.entries[cut][0])
        cut += 1
    saved = codec.encode(first.state.to_plain())
    second = engine_for(universe(2))
    second.restore(codec.decode(saved, dict[str, Any]))
    assert second.universe == first.universe
    assert codec.encode(second.state.to_plain()) == saved
    assert processed(second, told, cut) == recorded[cut:]


def test_a_snapshot_does_not_fit_a_book_with_other_columns() -> None:
    told = play(taken(3))
    saved = told.engine.state.to_plain()
    with pytest.raises(InvariantViolated, match="snapshot is of universe"):
        engine_for(universe(1)).restore(saved)
    with pytest.raises(InvariantViolated, match="snapshot is of universe"):
        engine_for(told.engine.universe).restore(play(script(3, spare=2)).engine.state.to_plain())
