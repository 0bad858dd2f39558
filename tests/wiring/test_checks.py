"""What `doctor` finds: every check speaks, none raises, and the least capital is right by hand."""

from __future__ import annotations

import math
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.rehearsal.ccxt_options import ccxt_options
from adapters.rehearsal.server import serve
from adapters.rehearsal.settings import RehearsalSettings
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules
from daemon.settings import ExchangeSettings, Settings, UniverseSettings, load_settings
from daemon.wiring import checks
from daemon.wiring.checks import Finding, Verdict, examine, minimum_capital


def instrument(symbol: str, step: str, quantity_min: str, notional_min: str) -> Instrument:
    rules = TradingRules(
        Decimal("0.1"), Decimal(step), Decimal(quantity_min), Decimal(notional_min)
    )
    return Instrument(InstrumentKey("v", symbol), symbol, "USDT", "USDT", rules)


BTC = instrument("BTC", "0.001", "0.001", "100")
DOGE = instrument("DOGE", "1", "1", "5")
ETH = instrument("ETH", "0.001", "0.010", "20")


def settings_of(folder: Path, *overrides: str) -> Settings:
    base = (f"run.state_folder={folder / 'state'}", f"estimator.models_folder={folder / 'models'}")
    return load_settings(overrides=(*base, *overrides), environment={})


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}


# ---- capital -------------------------------------------------------------------------------------


def test_the_least_capital_is_what_the_tightest_leg_needs() -> None:
    # two legs of half the gross each: BTC needs 100 USDT a leg, ETH 0.010 x 4,000 = 40, DOGE 5
    found = minimum_capital([BTC, DOGE, ETH], [50_000.0, 0.1, 4_000.0], gross_weight=1.0, legs=2)
    assert (found.least, found.tightest) == (200, "BTC")
    # ten lots of 0.001 BTC are 500 USDT a leg
    assert found.comfortable == 1_000


def test_more_gross_needs_less_and_more_legs_need_more() -> None:
    one = minimum_capital([BTC], [50_000.0], gross_weight=1.0, legs=4)
    half = minimum_capital([BTC], [50_000.0], gross_weight=2.0, legs=4)
    assert (one.least, half.least) == (400, 200)


def test_instruments_without_a_price_are_left_out() -> None:
    found = minimum_capital([BTC, DOGE], [math.nan, 0.1], gross_weight=1.0, legs=1)
    assert (found.least, found.tightest) == (5, "DOGE")
    assert minimum_capital([BTC], [math.nan], gross_weight=1.0, legs=0) == checks.Capital(0, 0, "")


# ---- findings ------------------------------------------------------------------------------------


def test_offline_every_check_speaks_and_only_the_exchange_is_not_asked(tmp_path: Path) -> None:
    found = by_name(examine(settings_of(tmp_path), offline=True))
    assert list(found) == [
        "python",
        "settings",
        "secrets",
        "state folder",
        "disk",
        "disk speed",
        "time",
        "strategy",
        "model",
        "journal",
        "redis",
        "page",
        "exchange",
    ]
    for name in ("python", "settings", "secrets", "state folder", "disk", "strategy", "redis"):
        assert found[name].verdict is Verdict.GOOD, found[name]
    assert found["model"].verdict is Verdict.WARNING
    assert "equipoise train" in found["model"].text
    assert found["exchange"].verdict is Verdict.WARNING
    assert "none yet" in found["journal"].text


def test_what_is_wrong_is_a_finding_and_never_an_exception(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "journal.sqlite").write_bytes(b"this is no journal")
    settings = settings_of(
        tmp_path,
        'strategy.parameters={"gross_wait": 1.0}',
        f"redis.binary={tmp_path / 'no-such-server'}",
    )
    found = by_name(examine(settings, offline=True))
    assert {n for n, f in found.items() if f.verdict is Verdict.BAD} == {
        "strategy",
        "journal",
        "redis",
    }
    assert "gross_wait" in found["strategy"].text
    assert "journal.sqlite" in found["journal"].text
    assert "no-such-server" in found["redis"].text


def test_a_redis_that_does_not_answer_is_bad_and_none_is_a_warning(tmp_path: Path) -> None:
    away = settings_of(tmp_path, f"redis.url=unix://{tmp_path}/no.sock")
    assert by_name(examine(away, offline=True))["redis"].verdict is Verdict.BAD
    off = settings_of(tmp_path, "redis.enabled=false")
    assert by_name(examine(off, offline=True))["redis"].verdict is Verdict.WARNING


def test_no_model_is_needed_where_none_is_asked(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "estimator.kind=momentum")
    found = by_name(examine(settings, offline=True))["model"]
    assert (found.verdict, found.text) == (Verdict.GOOD, "none needed (estimator momentum)")


def test_a_state_folder_may_be_any_number_of_folders_away(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "not" / "yet" / "there")
    assert by_name(examine(settings, offline=True))["state folder"].verdict is Verdict.GOOD


# ---- a real exchange over real sockets -----------------------------------------------------------


async def test_an_exchange_that_answers_is_measured_and_the_capital_compared(
    tmp_path: Path,
) -> None:
    plain = settings_of(tmp_path, "paper.cash=5", "estimator.kind=momentum")
    async with await serve(RehearsalSettings(coins=3, history_days=3)) as running:
        exchange = ExchangeSettings(
            options=ccxt_options(running.rest_url, running.ws_url), generated=True
        )
        settings = plain.model_copy(
            update={"exchange": exchange, "universe": UniverseSettings(symbols="top:3")}
        )
        found = by_name(await checks._exchange(settings))
    assert found["exchange"].text == "binanceusdm: 3 instruments"
    assert found["clock"].verdict is Verdict.GOOD
    capital = found["minimum capital"]
    assert capital.verdict is Verdict.BAD  # 5 USDT are too few for anything
    assert "paper.cash is 5" in capital.text


async def test_an_exchange_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "exchange.id=no_such_exchange")
    found = await checks._exchange(settings)
    assert [f.verdict for f in found] == [Verdict.BAD]
    assert "no_such_exchange" in found[0].text


@pytest.mark.parametrize(("offset_ms", "expected"), [(1_000, Verdict.GOOD), (-1_001, Verdict.BAD)])
def test_a_clock_that_is_off_matters_only_where_it_is_used(
    tmp_path: Path, offset_ms: int, expected: Verdict
) -> None:
    system = settings_of(tmp_path, "exchange.market_time=system")
    assert checks._offset(system, offset_ms).verdict is expected
    assert checks._offset(settings_of(tmp_path), offset_ms).verdict is Verdict.GOOD


def test_a_book_whose_parts_are_gone_is_bad_and_the_part_is_named(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    folder = settings.run.state_folder
    folder.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(folder / "journal.sqlite")
    database.close()
    (folder / "journal.sqlite").touch()
    found = by_name(examine(settings, offline=True))["journal"]
    assert found.verdict is Verdict.BAD
    assert "instruments.json" in found.text
