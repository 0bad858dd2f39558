"""Read the user's table of trading rules, and make instruments for bars that come from files.

A live venue tells its rules itself; files do not. The table is TOML, see config/trading_rules.toml.
Numbers are read as exact decimals, with or without quotation marks.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from adapters.history.store import disk_symbol, unified_symbol
from daemon.domain.failures import ConfigurationError
from daemon.domain.instrument import Instrument, InstrumentKey, TradingRules

RULE_KEYS: Final = ("price_step", "quantity_step", "quantity_min", "notional_min", "contract_size")
FEE_KEYS: Final = ("taker_bps", "maker_bps")
_POSITIVE: Final = ("price_step", "quantity_step", "contract_size")
_SECTIONS: Final = ("default", "fees", "instruments")


@dataclass(frozen=True, slots=True)
class RulesTable:
    """Hold trading rules by disk symbol, the row for symbols not listed, and default fees."""

    path: Path
    by_symbol: Mapping[str, TradingRules]
    default: TradingRules
    taker_fee_bps: Decimal
    maker_fee_bps: Decimal

    def rules_of(self, symbol: str) -> TradingRules:
        """Give the rules of a symbol in either spelling; the default row where it is not listed."""
        return self.by_symbol.get(disk_symbol(symbol), self.default)


@dataclass(frozen=True, slots=True)
class FileInstruments:
    """Hold instruments in the order asked for, and which of them got the default row."""

    instruments: tuple[Instrument, ...]
    defaulted: tuple[str, ...]


def load_rules(path: Path) -> RulesTable:
    """Read the table; raise ConfigurationError naming file, key, value and what is accepted."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except OSError as e:
        raise ConfigurationError(f"trading rules {path}: cannot be read: {e.strerror}") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigurationError(f"trading rules {path}: is not valid TOML: {e}") from e
    _refuse_unknown(path, "", content, _SECTIONS)
    sections = {name: _section(path, content, name) for name in _SECTIONS}
    default_row = _numbers(path, "default", sections["default"], RULE_KEYS)
    default = _rules(path, "default", default_row, {"contract_size": Decimal(1)})
    fees = _numbers(path, "fees", sections["fees"], FEE_KEYS, may_be_negative=True)
    by_symbol: dict[str, TradingRules] = {}
    for symbol, row in sections["instruments"].items():
        where = f"instruments.{symbol}"
        if not isinstance(row, dict):
            raise ConfigurationError(f"trading rules {path}: {where} = {row!r}: must be a table")
        unified_symbol(symbol)
        numbers = _numbers(path, where, row, RULE_KEYS)
        by_symbol[symbol] = _rules(path, where, numbers, _fallback(default, numbers))
    for key in FEE_KEYS:
        if key not in fees:
            raise ConfigurationError(f"trading rules {path}: fees.{key} is missing")
    return RulesTable(path, by_symbol, default, fees["taker_bps"], fees["maker_bps"])


def instruments_from(table: RulesTable, venue: str, symbols: Sequence[str]) -> FileInstruments:
    """Make linear perpetuals of `venue` for these symbols, in their order, in either spelling."""
    made: list[Instrument] = []
    for symbol in symbols:
        unified = unified_symbol(symbol)
        pair, _, settle = unified.partition(":")
        base, _, quote = pair.partition("/")
        key = InstrumentKey(venue, unified)
        made.append(Instrument(key, base, quote, settle or quote, table.rules_of(symbol)))
    defaulted = tuple(s for s in symbols if disk_symbol(s) not in table.by_symbol)
    return FileInstruments(tuple(made), defaulted)


def _fallback(default: TradingRules, row: Mapping[str, Decimal]) -> dict[str, Decimal]:
    # steps depend on a coin's price and must be stated; the smallest quantity is a step at least
    fallback = {"notional_min": default.notional_min, "contract_size": Decimal(1)}
    if "quantity_step" in row:
        fallback["quantity_min"] = row["quantity_step"]
    return fallback


def _rules(
    path: Path, where: str, row: Mapping[str, Decimal], fallback: Mapping[str, Decimal]
) -> TradingRules:
    full = {**fallback, **row}
    for key in RULE_KEYS:
        if key not in full:
            raise ConfigurationError(f"trading rules {path}: {where}.{key} is missing")
    return TradingRules(**full)


def _numbers(
    path: Path,
    where: str,
    row: Mapping[str, Any],
    keys: Sequence[str],
    *,
    may_be_negative: bool = False,
) -> dict[str, Decimal]:
    _refuse_unknown(path, where, row, keys)
    numbers = {key: _number(path, f"{where}.{key}", value) for key, value in row.items()}
    for key, number in numbers.items():
        accepted = "above 0" if key in _POSITIVE else "0 or more"
        too_small = number <= 0 if key in _POSITIVE else number < 0
        if too_small and not may_be_negative:
            raise ConfigurationError(
                f"trading rules {path}: {where}.{key} = {number}: must be {accepted}"
            )
    return numbers


def _number(path: Path, where: str, value: object) -> Decimal:
    if isinstance(value, str | int | Decimal) and not isinstance(value, bool):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise ConfigurationError(
        f'trading rules {path}: {where} = {value!r}: write a decimal number such as "0.001"'
    )


def _section(path: Path, content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name not in content:
        raise ConfigurationError(f"trading rules {path}: the section [{name}] is missing")
    section = content[name]
    if not isinstance(section, dict):
        raise ConfigurationError(f"trading rules {path}: {name} = {section!r}: must be a section")
    return section


def _refuse_unknown(path: Path, where: str, row: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in row:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            name = f"{where}.{key}" if where else key
            raise ConfigurationError(
                f"trading rules {path}: unknown key {name}; known are {', '.join(keys)}{hint}"
            )
