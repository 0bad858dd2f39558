"""A universe as it was known then: ends, listings, rules and rank in a backtest over files."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.history.instruments_file import (
    DatedRules,
    InstrumentsFile,
    Life,
    Record,
    instruments_path,
    write_instruments_file,
)
from adapters.history.lives import SILENT_MS
from adapters.history.parquet_file import (
    Bars,
    Rates,
    read_bars,
    read_rates,
    write_bars,
    write_rates,
)
from adapters.history.store import bars_path, funding_path
from daemon.codec import encode_message
from daemon.commands.data import list_data
from daemon.domain.failures import DataError
from daemon.domain.instrument import Standing, TradingRules
from daemon.domain.order import SETTLEMENT_PREFIX, Fill
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from daemon.settings import Settings
from daemon.wiring.backtest import BacktestResult, instruments_of, run_backtest
from tests.wiring.small_market import FIRST_MS, SYMBOLS, VENUE, small_settings, write_market

H1 = Timeframe(60)
END_DAY, DAYS = 25, 33
END_MS = FIRST_MS + END_DAY * DAY_MS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write six coins; ADA ends with day 25, when it is held."""
    made = write_market(tmp_path_factory.mktemp("lives"), days=DAYS)
    write_market(made, days=END_DAY, symbols=("ADAUSDT",))
    return made


def copied(folder: Path, target: Path, until_ms: int | None = None) -> Path:
    """Copy bars and rates, those alone that closed or settled by an instant."""
    for symbol in SYMBOLS:
        bars = read_bars(bars_path(folder, VENUE, symbol, H1), H1)
        kept = slice(None) if until_ms is None else bars.open_ms + H1.ms <= until_ms
        path = bars_path(target, VENUE, symbol, H1)
        path.parent.mkdir(parents=True, exist_ok=True)
        cut = Bars(bars.open_ms[kept], bars.values[kept])
        write_bars(path, cut, H1, {"venue": VENUE, "symbol": symbol})
        rates = read_rates(funding_path(folder, VENUE, symbol))
        kept = slice(None) if until_ms is None else rates.settle_ms <= until_ms
        path = funding_path(target, VENUE, symbol)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_rates(path, Rates(rates.settle_ms[kept], rates.rates[kept]), {"venue": VENUE})
    return target


def note(folder: Path, **records: Record) -> None:
    write_instruments_file(instruments_path(folder, VENUE), InstrumentsFile(VENUE, records))


def held(result: BacktestResult, index: int) -> dict[int, float]:
    """Give the quantity of an instrument by close."""
    record = result.run.record
    return dict(zip(record.times_ms, (row[index] for row in record.quantities), strict=True))


def refusing(result: BacktestResult) -> int:
    """Count the decisions of which an order was refused."""
    return sum(bool(one.refusals) for one in result.run.decisions)


def settled(result: BacktestResult) -> list[Fill]:
    fills = [one for one in result.run.executions if isinstance(one, Fill)]
    return [one for one in fills if one.order_id.startswith(SETTLEMENT_PREFIX)]


def column(settings: Settings, symbol: str) -> int:
    names = [i.key.symbol for i in instruments_of(settings).instruments]
    return names.index(f"{symbol.removesuffix('USDT')}/USDT:USDT")


def test_a_coin_whose_bars_end_leaves_the_book_at_its_last_price(folder: Path) -> None:
    settings = small_settings(folder)
    result = run_backtest(settings)
    ada = column(settings, "ADAUSDT")
    quantities = held(result, ada)
    assert quantities[END_MS] != 0.0  # else nothing is shown
    assert quantities[END_MS + SILENT_MS] == quantities[END_MS]  # said after the bars of then
    assert {q for t, q in quantities.items() if t > END_MS + SILENT_MS} == {0.0}
    (fill,) = settled(result)
    last = read_bars(bars_path(folder, VENUE, "ADAUSDT", H1), H1).values[-1, 3]
    assert float(fill.price) == last
    assert fill.fee == 0
    assert refusing(result) <= 1  # the one that was being carried out when the mark grew too old
    assert result.engine.state.book.standing[ada] == Standing.GONE
    said = " ".join(result.run.facts.caveats)
    assert "A day without a bar in which others had some was taken for an end" in said


def test_an_announced_end_is_left_before_it_comes(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    announced_ms = END_MS - DAY_MS
    note(tmp_path, ADAUSDT=Record((Life(None, announced_ms, END_MS),)))
    settings = small_settings(tmp_path)
    result = run_backtest(settings)
    quantities = held(result, column(settings, "ADAUSDT"))
    assert quantities[announced_ms] != 0.0
    assert {q for t, q in quantities.items() if t > announced_ms + 5 * HOUR_MS} == {0.0}
    assert settled(result) == []
    said = " ".join(result.run.facts.caveats)
    assert "The end of 1 of them is written down." in said
    assert "taken for an end" not in said
    bare = run_backtest(small_settings(folder))
    assert result.run.facts.fingerprint != bare.run.facts.fingerprint


def test_an_end_that_nobody_announced_is_settled_at_its_instant(
    folder: Path, tmp_path: Path
) -> None:
    copied(folder, tmp_path)
    note(tmp_path, ADAUSDT=Record((Life(None, None, END_MS),)))
    result = run_backtest(small_settings(tmp_path))
    (fill,) = settled(result)
    assert fill.at_ms == END_MS
    assert refusing(result) == 0


def test_nothing_is_held_before_it_is_listed(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    listed_ms = FIRST_MS + 12 * DAY_MS
    note(tmp_path, ADAUSDT=Record((Life(listed_ms),)))
    settings = small_settings(tmp_path)
    quantities = held(run_backtest(settings), column(settings, "ADAUSDT"))
    assert {q for t, q in quantities.items() if t <= listed_ms} == {0.0}
    assert quantities[END_MS] != 0.0
    made = instruments_of(settings).instruments[column(settings, "ADAUSDT")]
    assert made.listed_ms == listed_ms


def test_orders_are_of_the_rules_of_their_day(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    coarse = TradingRules(Decimal("0.01"), Decimal(5), Decimal(5), Decimal(5))
    since_ms = FIRST_MS + 10 * DAY_MS
    note(tmp_path, ETHUSDT=Record((), (DatedRules(since_ms, None, coarse),)))
    result = run_backtest(small_settings(tmp_path))
    sizes = [
        (order.as_of_ms, order.quantity)
        for one in result.run.decisions
        for order in one.orders
        if order.key.symbol == "ETH/USDT:USDT"
    ]
    assert any(quantity % 5 for at_ms, quantity in sizes if at_ms <= since_ms)
    late = [quantity for at_ms, quantity in sizes if at_ms > since_ms]
    assert late
    assert not any(quantity % 5 for quantity in late)


def decisions(result: BacktestResult, before_ms: int) -> list[bytes]:
    return [encode_message(one) for one in result.run.decisions if one.as_of_ms < before_ms]


@pytest.mark.parametrize("chosen", [(), ("universe.volume_rank_max=3",)])
def test_decisions_do_not_change_when_what_came_later_is_taken_away(
    folder: Path, tmp_path: Path, chosen: tuple[str, ...]
) -> None:
    """Cut all files around the last bar of ADA; what a decision did is known at the bar after."""
    whole = run_backtest(small_settings(folder, *chosen))
    for hours in (-24, 1, 5, 21, 25, 29, 101):
        until_ms = END_MS + hours * HOUR_MS
        cut = copied(folder, tmp_path / str(hours), until_ms)
        part = run_backtest(small_settings(cut, *chosen))
        found = decisions(part, until_ms)  # one that still waits for fills is not there yet
        assert found == decisions(whole, until_ms)[: len(found)]
        assert part.run.decisions[-1].as_of_ms >= until_ms - 9 * HOUR_MS


def with_volumes(folder: Path, volume_of: Callable[[str, int], float]) -> None:
    """Give each coin another volume by symbol and day."""
    for symbol in SYMBOLS:
        path = bars_path(folder, VENUE, symbol, H1)
        bars = read_bars(path, H1)
        values = bars.values.copy()
        days = (bars.open_ms - FIRST_MS) // DAY_MS
        values[:, 4] = [volume_of(symbol, day) for day in days.tolist()] / values[:, 3]
        write_bars(path, Bars(bars.open_ms, values), H1, {"venue": VENUE, "symbol": symbol})


def test_only_what_was_most_traded_by_then_is_held(folder: Path, tmp_path: Path) -> None:
    copied(folder, tmp_path)
    first = {"BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT"}

    def volume(symbol: str, day: int) -> float:
        is_first = symbol in first if day < 15 else symbol not in {"ETHUSDT", "SOLUSDT"}
        return (5e6 if is_first else 1e6) + SYMBOLS.index(symbol)

    with_volumes(tmp_path, volume)
    settings = small_settings(tmp_path, "universe.volume_rank_max=4")
    result = run_backtest(settings)
    eth, ltc = (held(result, column(settings, s)) for s in ("ETHUSDT", "LTCUSDT"))
    turn_ms = FIRST_MS + 15 * DAY_MS
    assert any(q for t, q in eth.items() if t < turn_ms)
    assert not any(q for t, q in ltc.items() if t < turn_ms)
    assert any(q for t, q in ltc.items() if t > turn_ms + 5 * DAY_MS)
    said = " ".join(result.run.facts.caveats)
    assert "the 4 of 6 instruments with the largest median volume of the last seven days" in said
    assert "A choice made at each instant by volume known then would hold others" not in said


def test_list_data_shows_the_file_and_refuses_a_bad_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied(folder, tmp_path)
    note(tmp_path, ADAUSDT=Record((Life(FIRST_MS, END_MS - DAY_MS, END_MS),)))
    assert list_data(tmp_path, "", deep=False) == 0
    shown = capsys.readouterr().out
    assert "small: 1 instruments with 1 listings, 1 ends announced" in shown
    assert "1 ends: ADAUSDT 2024-01-26T00:00:00Z" in shown
    path = instruments_path(tmp_path, VENUE)
    path.write_text(json.dumps({"instruments": {"ADAUSDT": {"lives": [{"end": "x"}]}}}))
    assert list_data(tmp_path, "", deep=False, as_json=True) == DataError.exit_code
    (found,) = json.loads(capsys.readouterr().out)["instruments"]
    assert "lives[0].end = 'x'; accepted: listed, announced, ended" in found["problem"]
    settings = small_settings(tmp_path)
    with pytest.raises(DataError, match=r"instruments\.json"):
        run_backtest(settings)
