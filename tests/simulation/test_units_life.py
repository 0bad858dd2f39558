"""Splits, redenominations and crashes: stated before, stated after, or stated by nobody."""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from adapters.paper import MemoryStore, PaperVenue
from daemon import codec
from daemon.domain.instrument import Standing
from daemon.domain.messages import AlertKind, OrderFilled, PriceDoubted, Rescaled
from daemon.runtime.replay import ReplayShell
from tests.simulation.market_life import (
    BARS,
    CHANGE,
    PAPER,
    START_MS,
    WARM,
    Recording,
    Script,
    at,
    engine_for,
    script,
    universe,
)
from tests.simulation.units_life import Life, from_files, settings, split, stated

FACTORS = {"2": 2.0, "10": 10.0, '"1/10"': 0.1, '"1/15"': 1 / 15, "1000": 1000.0}

PAIRS = [("2", 1), ("2", -1), ("10", 1), ('"1/10"', -1), ('"1/15"', 1), ("1000", -1)]


@cache
def plain_life(seed: int) -> Life:
    """Run the market in which nothing happens."""
    return Life(script(seed), settings()).run()


def side(seed: int, sign: int) -> int:
    """Find an instrument that is held long (1) or short (-1) when nothing happens."""
    life = plain_life(seed)
    return int(np.flatnonzero(np.sign(life.held[CHANGE - 1]) == sign)[0])


def name(index: int) -> str:
    return f"C{index:02d}/USDT:USDT"


@pytest.mark.parametrize(("factor", "sign"), PAIRS)
def test_stated_beforehand_nobody_gains_and_everything_goes_on(
    factor: str, sign: int, tmp_path: Path
) -> None:
    index, times = side(3, sign), FACTORS[factor]
    plain = plain_life(3)
    made = script(3)
    split(made, index, CHANGE, times)
    life = Life(made, stated(name(index), CHANGE, factor, tmp_path)).run()
    assert life.agree()
    assert [a for a in life.alerts if a.kind is not AlertKind.INSTRUMENT] == [
        a for a in plain.alerts if a.kind is not AlertKind.INSTRUMENT
    ]
    (told,) = life.told(name(index))
    assert "new units for" in told
    assert life.equity[CHANGE - 2] == plain.equity[CHANGE - 2]
    # the very instant of the change, and the whole run but for lots and a price step that stayed
    assert abs(life.equity[CHANGE - 1] / plain.equity[CHANGE - 1] - 1) < 1e-6
    assert np.abs(life.equity[WARM + 1 :] / plain.equity[WARM + 1 :] - 1).max() < 1e-2
    assert life.orders(index, CHANGE), "it was not traded any more"


@pytest.mark.parametrize("factor", ["2", "10", '"1/10"'])
def test_the_change_itself_moves_no_digit(factor: str, tmp_path: Path) -> None:
    index, times = side(3, -1), FACTORS[factor]
    made = script(3)
    split(made, index, CHANGE, times)
    life = Life(made, stated(name(index), CHANGE, factor, tmp_path)).run(CHANGE - 1)
    book, key = life.engine.state.book, universe().instruments[index].key
    held, cash, equity = book.ledger.quantity(key), dict(book.ledger.cash), book.equity
    marks = {
        i.key: Decimal(repr(m)) for i, m in zip(universe().instruments, book.prices, strict=True)
    }
    exact = book.ledger.equity(marks)
    new_n, old_n = (1, 10) if "/" in factor else (int(factor), 1)
    event = Rescaled(at(CHANGE - 1), index, key, new_n, old_n)
    for one in (*life.venue.observe(event), event, event):
        life.engine.process(one)
    assert book.ledger.quantity(key) * old_n == held * new_n
    assert dict(book.ledger.cash) == cash
    marks[key] = marks[key] * old_n / new_n
    assert book.ledger.equity(marks) == exact
    assert abs(book.equity - equity) <= 1e-10
    assert life.agree()


@pytest.mark.parametrize(("factor", "sign"), PAIRS)
def test_stated_by_nobody_it_stands_still_with_one_alert_and_the_rest_goes_on(
    factor: str, sign: int
) -> None:
    index = side(3, sign)
    made = script(3)
    split(made, index, CHANGE, FACTORS[factor])
    life = Life(made, settings("data.rescaled_patience_h=0")).run()
    held = life.held[CHANGE - 1, index]
    assert held
    assert (life.held[CHANGE:, index] == held).all()
    assert life.orders(index, CHANGE) == []
    assert life.engine.state.book.standing[index] == Standing.DOUBTED
    (told,) = life.told(name(index))
    for line in ("[[data.rescaled]]", f'symbol = "{name(index)}"', f"factor = {factor}"):
        assert line in told
    others = [o for bar, o in life.journal.orders if bar > CHANGE + 4 and o.index != index]
    assert len(others) > 20, "the rest was not traded any more"
    moves = np.abs(np.diff(life.equity[WARM + 2 :]) / life.equity[WARM + 2 : -1])
    assert moves.max() < 0.02, "a phantom gain"
    assert life.agree()


@pytest.mark.parametrize(("factor", "sign"), PAIRS)
def test_stated_afterwards_the_next_start_clears_it(factor: str, sign: int, tmp_path: Path) -> None:
    index = side(3, sign)
    made = script(3)
    split(made, index, CHANGE, FACTORS[factor])
    before = plain_life(3)
    life = Life(made, settings()).run(CHANGE + 20)
    life.restart(life.chosen)  # a start that states nothing changes nothing
    assert len(life.told(name(index))) == 1
    assert life.engine.state.book.standing[index] == Standing.DOUBTED
    life.restart(stated(name(index), CHANGE, factor, tmp_path))
    assert life.engine.state.book.standing[index] == Standing.TRADING
    mark = life.engine.state.book.prices[index]
    assert mark == made.values[CHANGE + 19, index, 3]
    window = life.engine.state.windows[next(iter(life.engine.state.windows))].view().values
    closes = window[:, index, 3]
    assert np.abs(np.diff(np.log(closes[np.isfinite(closes)]))).max() < 0.1, "two scales"
    assert np.isfinite(closes).all(), "what was kept back was not read again"
    life.run()
    life.restart(life.chosen)  # and once more: it was taken
    assert life.agree()
    assert len(life.told(name(index))) == 2
    assert life.orders(index, CHANGE + 20)
    assert abs(life.equity[-1] / before.equity[-1] - 1) < 0.05


@pytest.mark.parametrize("bar", [CHANGE, CHANGE - 40])
def test_a_statement_about_the_past_moves_no_position(bar: int, tmp_path: Path) -> None:
    life = Life(script(3), settings()).run(CHANGE + 20)
    index = int(np.argmax(np.abs(life.engine.state.book.held)))
    held, equity = life.engine.state.book.held[index], life.engine.state.book.equity
    assert held
    life.restart(stated(name(index), bar, "10", tmp_path))
    assert life.engine.state.book.held[index] == held
    assert life.engine.state.book.equity == equity
    assert life.agree()
    life.run()
    assert life.agree()


def test_a_doubt_is_not_answered_by_a_statement_about_another_instant(tmp_path: Path) -> None:
    index = side(3, 1)
    made = script(3)
    split(made, index, CHANGE, 2.0)
    life = Life(made, settings()).run(CHANGE + 20)
    held = life.engine.state.book.held[index]
    life.restart(stated(name(index), CHANGE - 40, "2", tmp_path))
    assert life.engine.state.book.standing[index] == Standing.DOUBTED
    assert life.engine.state.book.held[index] == held
    assert life.agree()


def test_a_file_run_tells_the_engine_what_a_live_run_tells_it(tmp_path: Path) -> None:
    made = script(4)
    split(made, side(4, 1), CHANGE, 10.0)
    split(made, side(4, -1), CHANGE + 30, 3.0)
    chosen = stated(name(side(4, 1)), CHANGE, "10", tmp_path)
    life = Life(made, chosen).run()
    engine = engine_for(universe())
    venue = PaperVenue(universe(), PAPER, MemoryStore(), opened_ms=START_MS)
    shell = ReplayShell(engine, venue, None, Recording(engine))
    events = from_files(made, chosen)
    assert [type(e) for e in events if isinstance(e, Rescaled | PriceDoubted)] == [
        Rescaled,
        PriceDoubted,
        PriceDoubted,
    ]
    shell.warm_up([e for e in events if _when(e) <= at(WARM)])
    shell.start(at(WARM), "life")
    shell.run([e for e in events if _when(e) > at(WARM)])
    assert [d.digest for d in shell.result.decisions] == [d.digest for d in life.decisions]


def _when(event: object) -> int:
    return int(getattr(event, "close_ms", getattr(event, "at_ms", 0)))


def crash(s: Script, i: int) -> None:
    """Let one coin lose 60 % within a bar, and stay there."""
    s.values[CHANGE:, i, :4] *= 0.4
    s.values[CHANGE, i, :2] = s.values[CHANGE - 1, i, 3]
    s.values[CHANGE, i, 4] *= 20.0


def crash_over_a_halt(s: Script, i: int) -> None:
    """Let one coin reopen at a tenth after two hours without bars, as much traded as before."""
    s.values[CHANGE : CHANGE + 4, i] = np.nan
    s.values[CHANGE + 4 :, i, :4] /= 10.2


def test_a_real_crash_is_believed_at_once() -> None:
    index = side(3, 1)
    made = script(3)
    crash(made, index)
    life = Life(made, settings()).run(CHANGE + 3)
    assert life.engine.state.book.prices[index] == made.values[CHANGE + 2, index, 3]
    assert life.told(name(index)) == []
    assert life.equity[CHANGE] < life.equity[CHANGE - 1] * 0.95, "a real loss"


def test_a_crash_over_a_halt_is_doubted_and_believed_on_evidence() -> None:
    index = side(3, 1)
    made = script(3)
    crash_over_a_halt(made, index)
    life = Life(made, settings()).run()
    doubted, believed = life.told(name(index))
    assert "stands still" in doubted
    assert "really moved" in believed
    assert life.engine.state.book.standing[index] == Standing.TRADING
    assert life.engine.state.book.prices[index] == made.values[-1, index, 3]
    bars = [e for e, _ in life.journal.entries if isinstance(e, PriceDoubted) and e.text]
    assert bars[1].at_ms - bars[0].at_ms == 7 * 30 * 60_000, "eight traded bars"
    assert life.agree()


RESTARTS = [(40, 80), (7,), tuple(range(10, 90, 10))]


@pytest.mark.parametrize("after", RESTARTS, ids=lambda bars: f"{len(bars)} restarts")
def test_restarts_do_not_make_the_evidence_begin_anew(after: tuple[int, ...]) -> None:
    index = side(3, 1)
    by_patience, by_volume = script(3), script(3)
    split(by_patience, index, CHANGE, 2.0)
    crash_over_a_halt(by_volume, index)
    for made, why in ((by_patience, "for so long"), (by_volume, "really moved")):
        whole = Life(made, settings()).run()
        life = Life(made, settings())
        for bars in after:
            life.run(CHANGE + bars)
            life.restart(life.chosen)
        life.run()
        ends = [_doubt_ends(one) for one in (whole, life)]
        assert ends[0] == ends[1]
        assert why in ends[0][0][1]


def test_a_snapshot_of_before_the_counts_were_kept_is_read() -> None:
    index = side(3, 1)
    made = script(3)
    split(made, index, CHANGE, 2.0)
    life = Life(made, settings()).run(CHANGE + 5)
    plain = codec.decode(codec.encode(life.engine.state.to_plain()), dict)
    plain["doubted"] = [one[:3] for one in plain["doubted"]]
    engine = engine_for(universe())
    engine.restore(plain)
    doubt, before = engine.state.doubted[index], life.engine.state.doubted[index]
    assert (doubt.since_ms, doubt.factor) == (before.since_ms, before.factor)
    assert (before.traded_n, doubt.traded_n) == (5, 0)


def _doubt_ends(life: Life) -> list[tuple[int, str]]:
    """Say when and why prices ceased to be doubted."""
    told = [e for e, _ in life.journal.entries if isinstance(e, PriceDoubted)]
    return [(e.at_ms, e.text) for e in told if not e.active]


def test_a_person_may_say_at_once_that_it_is_real(tmp_path: Path) -> None:
    index = side(3, 1)
    made = script(3)
    made.values[CHANGE:, index, :4] /= 2.0
    made.values[CHANGE:, index, 4] *= 2.0
    life = Life(made, settings()).run(CHANGE + 6)
    assert life.engine.state.book.standing[index] == Standing.DOUBTED
    life.restart(stated(name(index), CHANGE, "1", tmp_path))
    assert life.engine.state.book.standing[index] == Standing.TRADING
    assert life.engine.state.book.prices[index] == made.values[CHANGE + 5, index, 3]
    assert life.run(BARS).agree()


def test_everything_together_is_no_split() -> None:
    made = script(3)
    made.values[CHANGE:, :, :4] /= 2.0
    life = Life(made, settings()).run(CHANGE + 3)
    assert not life.engine.state.doubted


def test_a_start_that_states_nothing_forgets_no_doubt_however_far_the_price_went() -> None:
    index = side(3, 1)
    made = script(3)
    split(made, index, CHANGE, 2.0)
    made.values[CHANGE:, index, :4] *= np.exp(np.linspace(0.0, 0.8, BARS - CHANGE))[:, None]
    life = Life(made, settings("data.rescaled_patience_h=0")).run(CHANGE + 40)
    held = life.held[CHANGE + 39, index]
    for bar in (CHANGE + 60, CHANGE + 80):
        life.restart(life.chosen)
        life.run(bar)
    assert (life.held[CHANGE:bar, index] == held).all()
    assert life.engine.state.book.prices[index] == made.values[CHANGE - 1, index, 3]
    assert life.engine.state.book.standing[index] == Standing.DOUBTED
    assert len(life.told(name(index))) == 1


def test_nobody_trades_at_the_first_price_of_another_unit() -> None:
    """Let orders be sent at the very close after which the unit is another."""
    made = script(3)
    sent = plain_life(3).journal.orders
    bar, index = next((bar, order.index) for bar, order in sent if bar >= CHANGE)
    split(made, index, bar + 1, 10.0)
    life = Life(made, settings("data.rescaled_patience_h=0")).run()
    assert life.orders(index, bar, bar + 1), "nothing was sent"
    fills = [e.fill for e, _ in life.journal.entries if isinstance(e, OrderFilled)]
    assert all(fill.price > 50 for fill in fills if fill.index == index)
    assert life.agree()
