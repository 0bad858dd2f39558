"""Each flaw planted into a data set is found, named, and absent from the clean one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adapters.history.store import load_funding, load_panel
from daemon.domain.bar import Field
from daemon.domain.covariates import Series
from daemon.domain.units import DAY_MS, HOUR_MS, Timeframe
from daemon.research.point_in_time import (
    DataFacts,
    Finding,
    Kind,
    Severity,
    caveats,
    point_in_time,
)
from daemon.research.worlds import Data
from tests.research.planted_market import ENDED, LISTED, ORIGIN_MS, market

ROWS_A_DAY = 48


def clean() -> DataFacts:
    """Give data with a delisted coin, a listed one, all funding, and no holes."""
    data = market()
    values = data.values.copy()
    for n in range(values.shape[1]):
        rows = np.arange(len(values))
        known = np.isfinite(values[:, n, 0])
        first, last = rows[known][0], rows[known][-1]
        for f in range(values.shape[2]):
            inside = slice(first, last + 1)
            values[inside, n, f] = np.interp(rows[inside], rows[known], values[known, n, f])
    facts = DataFacts(replace(data, values=values), venue="binanceusdm", revised_n=0)
    return replace(facts, rules_from_table=False)


def with_values(change: Callable[[np.ndarray], None]) -> DataFacts:
    facts = clean()
    values = facts.data.values.copy()
    change(values)
    return replace(facts, data=replace(facts.data, values=values))


def only(facts: DataFacts, kind: Kind) -> Finding:
    (found,) = [one for one in point_in_time(facts) if one.kind is kind]
    return found


def kinds(facts: DataFacts) -> set[Kind]:
    return {one.kind for one in point_in_time(facts)}


def test_nothing_is_said_of_clean_data_but_who_chose_and_who_ended() -> None:
    assert kinds(clean()) == {Kind.CHOSEN_NAMES, Kind.ENDED}
    assert "DOT" not in only(clean(), Kind.ENDED).text
    assert "ADA/USDT:USDT" in only(clean(), Kind.ENDED).text


def test_data_in_which_nobody_ever_ends_are_suspected_of_survivorship() -> None:
    facts = clean()
    keep = [n for n in range(6) if n != ENDED]
    data = facts.data
    survivors = replace(
        data,
        symbols=tuple(data.symbols[n] for n in keep),
        values=data.values[:, keep],
        opens=data.opens[:, keep],
        rates=data.rates[:, keep],
    )
    found = only(replace(facts, data=survivors), Kind.SURVIVORSHIP)
    assert found.severity is Severity.SERIOUS
    assert "All 5 instruments survive" in found.text
    assert "no bar at all" not in found.text
    silent = survivors.values.copy()
    silent[:, 1] = np.nan
    fewer = replace(survivors, values=silent)
    found = only(replace(facts, data=fewer), Kind.SURVIVORSHIP)
    assert "All 4 instruments survive" in found.text
    assert f"1 more have no bar at all: {survivors.symbols[1]}." in found.text


def test_an_outage_at_the_very_end_is_no_delisting() -> None:
    def outage(values: np.ndarray) -> None:
        values[:, ENDED] = values[:, 0]
        values[-10:, 1] = np.nan

    assert Kind.SURVIVORSHIP in kinds(with_values(outage))


def test_names_that_somebody_chose_are_said_to_be_chosen() -> None:
    found = only(replace(clean(), named=True), Kind.CHOSEN_NAMES)
    assert "settings" in found.text


def test_a_table_of_rules_and_its_default_row_are_noted() -> None:
    facts = replace(clean(), rules_from_table=True, defaulted=("AAAUSDT", "BBBUSDT"))
    assert only(facts, Kind.RULES_OF_TODAY).severity is Severity.NOTE
    assert "AAAUSDT, BBBUSDT" in only(facts, Kind.RULES_DEFAULTED).text


def test_a_hole_in_the_funding_is_measured_and_its_longest_is_named() -> None:
    facts = clean()
    rates = facts.data.rates.copy()
    rates[6:15, 2] = np.nan  # nine settlements: three days
    rates[20, 1] = np.nan
    found = only(replace(facts, data=replace(facts.data, rates=rates)), Kind.FUNDING_MISSING)
    assert found.severity is Severity.WARNING
    assert "3.0 days of SOL/USDT:USDT from 2024-01-03T08:00:00Z" in found.text
    expected = 10 / int(np.isfinite(settlement_bars(facts.data)).sum())
    assert f"{expected:.1%} of the usual settlements" in found.text


def settlement_bars(data: Data) -> np.ndarray:
    due = data.close_ms % (8 * HOUR_MS) == 0
    return np.asarray(data.values[due, :, Field.CLOSE])


def test_funding_that_is_missing_altogether_is_serious() -> None:
    facts = clean()
    N = len(facts.data.symbols)
    bare = replace(facts.data, settle_ms=facts.data.settle_ms[:0], rates=np.empty((0, N)))
    found = only(replace(facts, data=bare), Kind.FUNDING_MISSING)
    assert found.severity is Severity.SERIOUS
    assert "100.0%" in found.text
    assert "6 instruments have none" in found.text


def test_spot_bars_in_the_place_of_perpetuals_are_named() -> None:
    assert Kind.SPOT_FOR_PERPETUAL in kinds(replace(clean(), venue="binance_spot"))


def test_holes_inside_a_life_count_and_the_time_before_a_listing_does_not() -> None:
    def holes(values: np.ndarray) -> None:
        values[100 : 100 + ROWS_A_DAY, 0] = np.nan
        values[300:302, 1] = np.nan

    found = only(with_values(holes), Kind.HOLES)
    assert found.severity is Severity.WARNING
    lives = 4 * 12 * ROWS_A_DAY + 9 * ROWS_A_DAY + 7 * ROWS_A_DAY
    assert f"2 of 6 instruments have holes, {50 / lives:.2%}" in found.text
    assert "BTC/USDT:USDT 1.0 days from 2024-01-03" in found.text
    assert "ETH" not in found.text  # an outage of an hour is counted, not named


def test_many_holes_are_serious() -> None:
    def holes(values: np.ndarray) -> None:
        values[50:400, :3] = np.nan

    assert only(with_values(holes), Kind.HOLES).severity is Severity.SERIOUS


def test_bars_that_somebody_filled_in_are_suspected() -> None:
    def filled(values: np.ndarray) -> None:
        values[200:230, 3, : Field.VOLUME] = values[199, 3, Field.CLOSE]
        values[200:230, 3, Field.VOLUME] = 0.0

    found = only(with_values(filled), Kind.FILLED_IN)
    assert "up to 30 in a row (XRP/USDT:USDT)" in found.text


@pytest.mark.parametrize("times", [1000.0, 10.0, 0.1, 0.01])
def test_a_redenominated_contract_is_serious(times: float) -> None:
    def rescaled(values: np.ndarray) -> None:
        values[300:, 1, : Field.VOLUME] *= times

    found = only(with_values(rescaled), Kind.RESCALED)
    assert found.severity is Severity.SERIOUS
    assert "ETH/USDT:USDT" in found.text
    assert "2024-01-07T06:30:00Z" in found.text


@pytest.mark.parametrize(("range_", "shown"), [(3.35, "235%"), (2.0, "100%")])
def test_a_wild_first_bar_after_a_listing_is_named(range_: float, shown: str) -> None:
    first = 5 * ROWS_A_DAY

    def wild(values: np.ndarray) -> None:
        values[:first, LISTED] = np.nan
        row = int(np.flatnonzero(np.isfinite(values[:, LISTED, 0]))[0])
        values[row + 1, LISTED, Field.HIGH] = range_ * values[row + 1, LISTED, Field.LOW]

    found = only(with_values(wild), Kind.LISTING_EXTREMES)
    assert f"DOT/USDT:USDT {shown}" in found.text


def test_a_wild_bar_long_after_the_listing_is_the_market() -> None:
    def wild(values: np.ndarray) -> None:
        values[-20, LISTED, Field.HIGH] *= 3.0

    assert Kind.LISTING_EXTREMES not in kinds(with_values(wild))


def test_a_file_written_before_its_last_bar_closed_is_serious() -> None:
    facts = clean()
    end_ms = int(facts.data.close_ms[-1])
    early = replace(facts, written_ms={"BTC/USDT:USDT": end_ms - 1, "ETH/USDT:USDT": end_ms})
    found = only(early, Kind.UNCLOSED)
    assert found.severity is Severity.SERIOUS
    assert "BTC/USDT:USDT" in found.text
    assert "ETH" not in found.text


def test_a_newest_bar_with_hardly_any_volume_is_suspected() -> None:
    def begun(values: np.ndarray) -> None:
        values[-1, :, Field.VOLUME] *= 0.001

    found = only(with_values(begun), Kind.UNCLOSED)
    assert found.severity is Severity.WARNING
    assert "5 of 5" in found.text  # the sixth ended before


def test_a_model_that_learnt_from_the_period_is_serious_and_an_older_one_is_not() -> None:
    facts = replace(clean(), trained_until_ms=ORIGIN_MS + 6 * DAY_MS)
    overlapping = replace(facts, used_from_ms=ORIGIN_MS + 5 * DAY_MS)
    assert only(overlapping, Kind.MODEL_OVERLAPS).severity is Severity.SERIOUS
    after = replace(facts, used_from_ms=ORIGIN_MS + 6 * DAY_MS)
    assert Kind.MODEL_OVERLAPS not in kinds(after)


def test_revised_bars_are_counted_where_somebody_watched() -> None:
    assert "17 bars" in only(replace(clean(), revised_n=17), Kind.REVISED).text
    assert Kind.ONE_VERSION in kinds(replace(clean(), revised_n=None))


def test_the_serious_come_first_and_are_marked_among_a_report_s_caveats() -> None:
    facts = replace(clean(), venue="x_spot", trained_until_ms=ORIGIN_MS + 6 * DAY_MS)
    found = point_in_time(facts)
    order = [list(Severity).index(one.severity) for one in found]
    assert order == sorted(order)
    assert caveats(found)[0].startswith("SERIOUS: IN SAMPLE: the model")
    assert not caveats(found)[-1].startswith("SERIOUS")


@pytest.mark.real_data
def test_the_known_flaws_of_the_recorded_spot_bars_are_found(recorded_data: Path) -> None:
    symbols = (
        "BTCUSDT",
        "XRPUSDT",
        "DOGEUSDT",
        "OPUSDT",
        "ADAUSDT",
        "DOTUSDT",
        "BNBUSDT",
        "NOTUSDT",
    )
    source = Timeframe(15)
    panel = load_panel(recorded_data, "binance_spot", symbols, source)
    funding = load_funding(recorded_data, "binance_perp", symbols)
    values, opens = panel.values, panel.opens
    data = Data(symbols, panel.close_ms, values, opens, funding.settle_ms, funding.rates)
    facts = DataFacts(data, "binance_spot")
    holes = only(facts, Kind.HOLES).text
    for name, when in (
        ("ADAUSDT", "2024-04-09"),
        ("DOTUSDT", "2024-04-09"),
        ("XRPUSDT", "2024-09-07"),
        ("DOGEUSDT", "2024-09-07"),
        ("OPUSDT", "2024-09-07"),
        ("BNBUSDT", "2024-04-09"),
    ):
        found = holes[holes.index(name) :].split(",")[0]
        assert when in found or "2024-04-10" in found
    assert "by NOTUSDT " in only(facts, Kind.LISTING_EXTREMES).text
    assert "at 2024-05-16T12:15:00Z" in only(facts, Kind.LISTING_EXTREMES).text
    funding_text = only(facts, Kind.FUNDING_MISSING).text
    assert "days of" in funding_text
    assert Kind.SPOT_FOR_PERPETUAL in kinds(facts)


def test_series_that_are_known_at_once_or_end_before_the_bars_are_named() -> None:
    facts = clean()
    end_ms = int(facts.data.close_ms[-1])
    ts = end_ms - DAY_MS * np.arange(30, 0, -1, dtype=np.int64)
    lagged = Series(ts, ts + DAY_MS, np.ones(30))
    assert kinds(with_series(facts, good=lagged)) == kinds(facts)
    hasty = with_series(facts, good=lagged, hasty=Series(ts, ts, np.ones(30)))
    assert only(hasty, Kind.KNOWN_AT_ONCE).text.startswith("hasty:")
    ended = with_series(facts, good=lagged, gone=lagged.known_at(end_ms - 2 * DAY_MS))
    assert only(ended, Kind.SERIES_ENDED).text.startswith("gone:")
    assert Kind.SERIES_ENDED in kinds(with_series(facts, never=lagged.known_at(0)))


def with_series(facts: DataFacts, **series: Series) -> DataFacts:
    return replace(facts, data=replace(facts.data, series=tuple(series.items())))
