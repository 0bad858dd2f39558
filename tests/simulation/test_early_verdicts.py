"""A live run that judged at its deadline, and the backtest that its record lets agree with it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import cache

import numpy as np

from adapters.history.instruments_file import DatedRules, Record
from adapters.history.instruments_file import Life as Lifetime
from daemon.domain.bar import Floats, Proof
from daemon.domain.instrument import Standing
from daemon.domain.messages import BarsClosed, InstrumentChanged, MarketEvent
from tests.simulation.market_life import BARS, RULES, START_MS, Script, at, script
from tests.simulation.units_life import SOURCE, Life, from_files, settings

STILL = {n: (70 + 11 * n) for n in range(12)}  # where the first of five coins stand still
LATE = (7, 8, 9, 10, 11)


def quiet_market() -> tuple[Script, dict[int, tuple[int, ...]]]:
    """Let five of twelve coins stand still now and then, and the bars of five others be late."""
    made, late = script(5), dict[int, tuple[int, ...]]()
    for k, bar in STILL.items():
        for n in range(5):
            made.values[bar, n, :4] = made.values[bar - 1, n, 3]
            made.values[bar, n, 4] = 0.0
            after = made.values[bar + 1, n]
            after[0] = made.values[bar, n, 3]
            after[1], after[2] = max(after[0], after[1]), min(after[0], after[2])
        if k % 3:
            late[bar] = LATE
    made.values[150, :, :4] *= 10.0  # all of the market, and two of it late
    late[150] = (10, 11)
    return made, late


def seen(events: list[MarketEvent]) -> Floats:
    found = np.full((BARS, 12, 5), np.nan)
    for event in events:
        if isinstance(event, BarsClosed):
            row, there = (event.close_ms - START_MS) // SOURCE.ms, event.proof != Proof.ABSENT
            assert np.isnan(found[row, there]).all(), "a bar was told twice"
            found[row, there] = event.values[there]
    return found


@cache
def lived() -> tuple[Life, Script]:
    made, late = quiet_market()
    return Life(made, settings(), late).run(), made


def told(life: Life) -> list[MarketEvent]:
    return [e for e, _ in life.journal.entries if isinstance(e, BarsClosed)]


def test_where_all_came_in_time_the_files_alone_come_to_the_same() -> None:
    made, _ = quiet_market()
    life = Life(made, settings()).run()
    assert life.early == []
    assert seen(told(life)).tobytes() == seen(from_files(made, settings())).tobytes()


def test_with_its_record_a_backtest_sees_what_the_live_run_saw() -> None:
    life, made = lived()
    assert [(one.close_ms - START_MS) // SOURCE.ms for one in life.early] == sorted(
        [bar for k, bar in STILL.items() if k % 3] + [150]
    )
    ours = seen(told(life))
    assert seen(from_files(made, settings(), life.early)).tobytes() == ours.tobytes()
    assert seen(from_files(made, settings())).tobytes() != ours.tobytes(), "it made no difference"


def test_a_journal_of_it_holds_no_bar_twice_and_the_account_agrees() -> None:
    life, _ = lived()
    bars = seen(told(life))
    assert life.agree()
    gone = {(bar, n) for k, bar in STILL.items() if k % 3 for n in range(5)}
    assert {(int(t), int(n)) for t, n in np.argwhere(np.isnan(bars[:, :, 3]))} == gone


def test_records_of_lives_and_rules_tell_a_file_run_what_the_venue_told_the_live_one() -> None:
    made, late = quiet_market()
    now = replace(RULES, quantity_step=Decimal("0.5"), quantity_min=Decimal("0.5"))
    made.say(100, 2, Standing.TRADING, "new rules", quantity_step=now.quantity_step)
    said = made.said[100][0]
    assert isinstance(said, InstrumentChanged)
    made.said[100][0] = InstrumentChanged(
        at(100), 2, replace(said.instrument, rules=now), Standing.TRADING, "new rules"
    )
    life = Life(made, settings(), late).run()
    records: list[Record | None] = [None] * 12
    records[2] = Record((Lifetime(),), (DatedRules(at(100), None, now),))
    found = from_files(made, settings(), life.early, records)
    changes = [e for e in found if isinstance(e, InstrumentChanged)]
    heard = [e for e, _ in life.journal.entries if isinstance(e, InstrumentChanged)]
    assert [(e.at_ms, e.index, e.instrument, e.standing) for e in changes] == [
        (e.at_ms, e.index, e.instrument, e.standing) for e in heard
    ]
    assert len(changes) == 1
    assert seen(found).tobytes() == seen(told(life)).tobytes()
