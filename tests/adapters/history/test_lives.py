"""Lives of instruments as events: at their instants, after the bars, and by the past alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.history.instruments_file import DatedRules, Life, Record
from adapters.history.lives import SILENT_MS, changes_of
from adapters.history.replay_feed import ReplayFeed
from adapters.history.store import Funding, Panel
from daemon.codec import encode_message
from daemon.domain.bar import FIELDS, Field, Flags
from daemon.domain.instrument import Instrument, InstrumentKey, Standing, TradingRules
from daemon.domain.messages import BarsClosed, FundingRates, InstrumentChanged
from daemon.domain.units import HOUR_MS, Timeframe

H4 = Timeframe(240)
DAY_N = SILENT_MS // H4.ms  # 6
T0 = 1_700_006_400_000
RULES = TradingRules(Decimal("0.1"), Decimal("0.001"), Decimal("0.001"), Decimal(5))
TRADING, UNRIPE, REDUCE, GONE = (
    Standing.TRADING,
    Standing.UNRIPE,
    Standing.REDUCE_ONLY,
    Standing.GONE,
)


def at(row: int) -> int:
    """Give the close of a row."""
    return T0 + (row + 1) * H4.ms


def instruments(count: int) -> tuple[Instrument, ...]:
    names = ("BTC", "ETH", "ADA", "SOL")[:count]
    keys = [InstrumentKey("somewhere", f"{name}/USDT:USDT") for name in names]
    return tuple(Instrument(k, k.symbol[:3], "USDT", "USDT", RULES) for k in keys)


def panel_of(there: Flags) -> Panel:
    """Give a panel in which (T, N) flags say who has a bar."""
    rows = np.full((len(there) + 1, there.shape[1], FIELDS), np.nan)
    rows[:-1][there] = 100.0
    close_ms = T0 + (np.arange(len(there), dtype=np.int64) + 1) * H4.ms
    return Panel(close_ms, rows[:-1], rows[1:, :, Field.OPEN])


def flags(rows: int, columns: int = 2) -> Flags:
    return np.ones((rows, columns), dtype=np.bool_)


def changes(
    there: Flags, records: Sequence[Record | None] | None = None
) -> list[tuple[int, int, Standing]]:
    count = there.shape[1]
    found = changes_of(panel_of(there), H4, instruments(count), records or [None] * count)
    return [((one.at_ms - T0) // H4.ms - 1, one.index, one.standing) for one in found]


def test_silence_of_a_day_is_an_end_and_a_bar_after_it_a_beginning() -> None:
    there = flags(30)
    there[10:25, 1] = False
    assert changes(there) == [(9 + DAY_N, 1, GONE), (25, 1, TRADING)]
    there[25:, 1] = False
    assert changes(there) == [(9 + DAY_N, 1, GONE)]


def test_a_hole_is_only_a_hole() -> None:
    there = flags(30)
    there[10 : 9 + DAY_N, 1] = False
    assert changes(there) == []
    there[9 + DAY_N, 1] = False
    assert changes(there) == [(9 + DAY_N, 1, GONE), (10 + DAY_N, 1, TRADING)]


def test_hours_in_which_nobody_has_a_bar_are_no_silence() -> None:
    there = flags(30)
    there[10:27] = False
    there[27, 1] = False
    assert changes(there) == []


def test_who_was_never_there_does_not_end() -> None:
    there = flags(30)
    there[:20, 1] = False
    assert changes(there) == []


def test_a_life_that_is_written_down_is_told_at_its_instants() -> None:
    life = Record((Life(at(2), at(10), at(15)), Life(at(20))))
    there = flags(30)
    told = changes(there, [None, life])
    assert told[0][2] is UNRIPE  # from the beginning
    assert told[0][0] < 0
    assert told[1:] == [(2, 1, TRADING), (10, 1, REDUCE), (15, 1, GONE), (20, 1, TRADING)]


def test_rules_hold_from_and_until_their_instants_and_the_usual_ones_between() -> None:
    finer = replace(RULES, price_step=Decimal("0.01"))
    record = Record((), (DatedRules(at(3), at(5), finer), DatedRules(at(8), None, finer)))
    found = changes_of(panel_of(flags(12)), H4, instruments(2), [None, record])
    steps = [(one.at_ms, str(one.instrument.rules.price_step)) for one in found]
    assert steps == [(at(3), "0.01"), (at(5), "0.1"), (at(8), "0.01")]
    assert {one.standing for one in found} == {TRADING}


def test_what_is_said_at_a_close_comes_after_its_bars_and_funding_before() -> None:
    funding = Funding(np.array([at(5)]), np.full((1, 2), 1e-4), ())
    records = [None, Record((Life(None, at(4) + HOUR_MS, at(5)),))]
    feed = ReplayFeed(panel_of(flags(9)), H4, instruments(2), funding, records=records)
    order = [
        (type(event).__name__, event.at_ms if isinstance(event, InstrumentChanged) else 0)
        for event in feed.replay(at(3), at(5))
        if isinstance(event, BarsClosed | FundingRates | InstrumentChanged)
    ]
    assert order == [
        ("BarsClosed", 0),
        ("InstrumentChanged", at(4) + HOUR_MS),
        ("FundingRates", 0),
        ("BarsClosed", 0),
        ("InstrumentChanged", at(5)),
    ]
    whole = [encode_message(event) for event in feed.replay(0, at(8))]
    for cut in (at(4), at(4) + HOUR_MS, at(5), at(5) + 1):
        pieces = [*feed.replay(0, cut), *feed.replay(cut, at(8))]
        assert [encode_message(event) for event in pieces] == whole


def test_whoever_begins_in_the_middle_is_told_how_things_stand() -> None:
    records = [Record((Life(at(6)),)), Record((Life(None, at(3), at(5)),))]
    feed = ReplayFeed(panel_of(flags(9)), H4, instruments(2), records=records)
    stands = {
        row: [(one.index, one.standing) for one in feed.standing(at(row))] for row in (0, 4, 5, 7)
    }
    assert stands == {
        0: [(0, UNRIPE)],
        4: [(0, UNRIPE), (1, REDUCE)],
        5: [(0, UNRIPE), (1, GONE)],
        7: [(1, GONE)],
    }


def test_a_feed_without_records_tells_of_no_life() -> None:
    there = flags(30)
    there[10:, 1] = False
    feed = ReplayFeed(panel_of(there), H4, instruments(2))
    assert {type(event) for event in feed.replay(0, at(99))} == {BarsClosed}
    assert list(feed.standing(at(20))) == []


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 59))
def test_nothing_that_is_told_hangs_on_what_comes_later(seed: int, cut: int) -> None:
    dice = np.random.default_rng(seed)
    starts, ends = dice.integers(0, 40, 4), dice.integers(5, 80, 4)
    rows = np.arange(60)[:, None]
    there = (rows >= starts) & (rows < ends) & (dice.random((60, 4)) < 0.7)
    for _ in range(3):  # holes around the bound
        begin, who = dice.integers(0, 50), dice.integers(0, 4)
        there[begin : begin + dice.integers(3, 12), who] = False
    there[0, 0] = True
    records = [None, Record((Life(at(10), at(30), at(35)),)), None, Record((Life(at(20)),))]
    whole = [one for one in changes(there, records) if one[0] < cut]
    part = [one for one in changes(there[:cut], records) if one[0] < cut]
    assert whole == part
