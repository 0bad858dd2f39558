"""The user's table of trading rules: exact numbers, a stated default, clear refusals."""

from decimal import Decimal
from pathlib import Path

import pytest

from adapters.history.rules import instruments_from, load_rules
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import InstrumentKey

DEFAULT = """
[default]
price_step = "0.0001"
quantity_step = 1
quantity_min = "1"
notional_min = "5"
[fees]
taker_bps = 5
maker_bps = -0.5
[instruments]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_read_exactly_and_gaps_are_filled_from_the_default(tmp_path: Path) -> None:
    row = 'BTCUSDT = { price_step = 0.1, quantity_step = "0.001", notional_min = 100 }\n'
    more = 'XRPUSDT = { price_step = "0.0001", quantity_step = "0.1", quantity_min = 2 }\n'
    table = load_rules(write(tmp_path, DEFAULT + row + more))
    btc = table.rules_of("BTC/USDT:USDT")
    assert btc == table.rules_of("BTCUSDT")
    assert (btc.price_step, btc.quantity_step) == (Decimal("0.1"), Decimal("0.001"))
    assert (btc.quantity_min, btc.notional_min) == (Decimal("0.001"), Decimal(100))
    assert btc.contract_size == 1
    assert table.rules_of("XRPUSDT").quantity_min == 2
    assert table.rules_of("XRPUSDT").notional_min == 5
    assert (table.taker_fee_bps, table.maker_fee_bps) == (Decimal(5), Decimal("-0.5"))


def test_instruments_keep_the_order_and_name_those_with_default_rules(tmp_path: Path) -> None:
    row = 'BTCUSDT = { price_step = "0.1", quantity_step = "0.001" }\n'
    table = load_rules(write(tmp_path, DEFAULT + row))
    made = instruments_from(table, "binance_spot", ["NEWUSDT", "BTC/USDT:USDT", "OLD/USDC:USDC"])
    new, btc, old = made.instruments
    assert made.defaulted == ("NEWUSDT", "OLD/USDC:USDC")
    assert new.key == InstrumentKey("binance_spot", "NEW/USDT:USDT")
    assert (btc.base, btc.quote, btc.settle) == ("BTC", "USDT", "USDT")
    assert old.settle == "USDC"
    assert new.rules == table.default
    assert btc.rules.price_step == Decimal("0.1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[default\n", "is not valid TOML"),
        (DEFAULT.replace("[fees]", "[fee]"), r"unknown key fee; .*did you mean fees\?"),
        (DEFAULT.replace("[instruments]", ""), r"the section \[instruments\] is missing"),
        (DEFAULT.replace('price_step = "0.0001"', ""), r"default\.price_step is missing"),
        (DEFAULT.replace("maker_bps = -0.5", ""), r"fees\.maker_bps is missing"),
        (
            DEFAULT + 'BTCUSDT = { price_stp = "0.1" }',
            r"unknown key instruments\.BTCUSDT\.price_stp; .*did you mean price_step\?",
        ),
        (
            DEFAULT + 'BTCUSDT = { price_step = "0", quantity_step = "1" }',
            r"instruments\.BTCUSDT\.price_step = 0: must be above 0",
        ),
        (
            DEFAULT + 'BTCUSDT = { price_step = "1", quantity_step = "1", notional_min = -5 }',
            r"instruments\.BTCUSDT\.notional_min = -5: must be 0 or more",
        ),
        (
            DEFAULT + 'BTCUSDT = { price_step = "a tenth", quantity_step = "1" }',
            r"instruments\.BTCUSDT\.price_step = 'a tenth': write a decimal number",
        ),
        (
            DEFAULT + 'BTCUSDT = { price_step = "inf", quantity_step = "1" }',
            r"instruments\.BTCUSDT\.price_step = 'inf': write a decimal number",
        ),
        (
            DEFAULT + "BTCUSDT = { price_step = true, quantity_step = 1 }",
            r"instruments\.BTCUSDT\.price_step = True: write a decimal number",
        ),
        (
            DEFAULT + 'BTCUSDT = { price_step = "1" }',
            r"instruments\.BTCUSDT\.quantity_step is missing",
        ),
        (DEFAULT + "BTCUSDT = 3", r"instruments\.BTCUSDT = 3: must be a table"),
        (DEFAULT + 'BTCEUR = { price_step = "1" }', "symbol 'BTCEUR': must end in one of"),
        ("default = 3\n" + DEFAULT.replace("[default]", "[fees2]"), "unknown key fees2"),
        (
            "default = 3\n[fees]\ntaker_bps = 1\nmaker_bps = 1\n[instruments]",
            "default = 3: must be a section",
        ),
    ],
)
def test_a_wrong_table_is_refused_naming_file_key_and_what_is_accepted(
    tmp_path: Path, text: str, message: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_rules(path)
    if "must end in" not in message:
        assert str(path) in str(caught.value)


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"rules\.toml: cannot be read: No such file"):
        load_rules(tmp_path / "rules.toml")
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not valid TOML"):
        load_rules(path)


def test_the_committed_table_covers_the_usual_coins_with_tradable_lots(
    repository_root: Path,
) -> None:
    table = load_rules(repository_root / "config" / "trading_rules.toml")
    assert len(table.by_symbol) >= 40
    assert {"BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT"} <= set(table.by_symbol)
    assert list(table.by_symbol) == sorted(table.by_symbol)
    assert table.rules_of("BTCUSDT").notional_min == 100
    assert 0 < table.maker_fee_bps < table.taker_fee_bps < 20
    for symbol, rules in table.by_symbol.items():
        assert rules.quantity_min >= rules.quantity_step, symbol
        assert rules.notional_min >= 5, symbol
