"""Read and write what is known of a venue's instruments over time, beside its bars.

`<root>/ohlcv/<venue>/instruments.json` names by symbol the lives of a contract (listed, end
announced, ended) and its trading rules, each with the instants from and until which they held:

    {"venue": "binanceusdm", "instruments": {"BTCUSDT": {
      "lives": [{"listed": "2019-09-08T17:00:00Z", "announced": "2024-05-01T06:00:00Z",
                 "ended": "2024-05-14T09:00:00Z"}],
      "rules": [{"from": "2024-01-01T00:00:00Z", "until": "2024-03-01T00:00:00Z",
                 "price_step": "0.1", "quantity_step": "0.001", "quantity_min": "0.001",
                 "notional_min": "5"}]}}}

Every key of a life may be left out: unknown when listed, not announced, no end known. `until` left
out means that the rules still held when somebody last looked. The order of lives and of rules is
that of time, and none overlaps the next. `noted` adds what a venue tells and never takes away what
is over.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from adapters.history.store import BARS_FOLDER, disk_symbol
from daemon.domain.failures import DataError, InvariantViolated
from daemon.domain.instrument import TradingRules
from daemon.domain.units import instant_ms, iso

FILE: Final = "instruments.json"
_LIFE_KEYS: Final = ("listed", "announced", "ended")
_RULE_KEYS: Final = tuple(one.name for one in fields(TradingRules))
_NEEDED: Final = _RULE_KEYS[:-1]  # a contract of one base unit is what is meant without a size


@dataclass(frozen=True, slots=True)
class Life:
    """Hold one listing of a contract in ms of UTC; None where nobody knows, or there is none."""

    listed_ms: int | None = None
    announced_ms: int | None = None
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DatedRules:
    """Hold trading rules that held with from_ms <= t < until_ms; None: still when last seen."""

    from_ms: int
    until_ms: int | None
    rules: TradingRules

    def covers(self, at_ms: int) -> bool:
        """Tell whether they hold at an instant."""
        return self.from_ms <= at_ms and (self.until_ms is None or at_ms < self.until_ms)


@dataclass(frozen=True, slots=True)
class Record:
    """Hold what is known of one contract: its lives and its rules, each in the order of time."""

    lives: tuple[Life, ...] = ()
    rules: tuple[DatedRules, ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold what a venue told of a contract at one instant; ends_ms: its end, past or announced."""

    listed_ms: int | None
    ends_ms: int | None
    rules: TradingRules


@dataclass(frozen=True, slots=True)
class InstrumentsFile:
    """Hold the records of a venue by disk symbol (BTCUSDT)."""

    venue: str
    records: Mapping[str, Record] = field(default_factory=dict)

    def record_of(self, symbol: str) -> Record | None:
        """Give the record of a symbol in either spelling, None where the file has none."""
        return self.records.get(disk_symbol(symbol))


def instruments_path(root: Path, venue: str) -> Path:
    """Name the file of a venue."""
    return root / BARS_FOLDER / venue / FILE


# ---- what a venue tells --------------------------------------------------------------------------


def noted(file: InstrumentsFile, seen: Mapping[str, Seen], now_ms: int) -> InstrumentsFile:
    """Add what a venue tells at `now_ms` of symbols in either spelling; nothing past is changed."""
    records = dict(file.records)
    for symbol, told in seen.items():
        before = records.get(disk_symbol(symbol), Record())
        lives, rules = _lives(before.lives, told, now_ms), _rules(before.rules, told.rules, now_ms)
        records[disk_symbol(symbol)] = Record(lives, rules)
    return replace(file, records=records)


def _lives(lives: tuple[Life, ...], told: Seen, now_ms: int) -> tuple[Life, ...]:
    last = lives[-1] if lives else Life()
    over = last.ended_ms is not None and last.ended_ms <= now_ms
    if over:  # the same symbol may be listed again
        again = told.listed_ms is not None and told.listed_ms >= (last.ended_ms or 0)
        return (*lives, _life(Life(), told, now_ms)) if again else lives
    return (*lives[:-1], _life(last, told, now_ms))


def _life(last: Life, told: Seen, now_ms: int) -> Life:
    listed_ms = told.listed_ms if last.listed_ms is None else last.listed_ms
    if told.ends_ms is None or (listed_ms is not None and told.ends_ms <= listed_ms):
        return replace(last, listed_ms=listed_ms)
    announced_ms = last.announced_ms
    if announced_ms is None and told.ends_ms > now_ms:
        announced_ms = now_ms  # known since then at the latest
    if announced_ms is not None and announced_ms > told.ends_ms:
        announced_ms = None
    return Life(listed_ms, announced_ms, told.ends_ms)


def _rules(rules: tuple[DatedRules, ...], now: TradingRules, now_ms: int) -> tuple[DatedRules, ...]:
    last = rules[-1] if rules else None
    if last is None or (last.until_ms is not None and last.until_ms <= now_ms):
        return (*rules, DatedRules(now_ms, None, now))
    if last.rules == now or last.until_ms is not None or last.from_ms >= now_ms:
        return rules  # an end in the future, or a beginning, is somebody's own entry
    return (*rules[:-1], replace(last, until_ms=now_ms), DatedRules(now_ms, None, now))


# ---- the file ------------------------------------------------------------------------------------


def write_instruments_file(path: Path, file: InstrumentsFile) -> None:
    """Replace the file in one step, the same content as the same bytes; raises OSError."""
    rows = {symbol: _record_row(record) for symbol, record in sorted(file.records.items())}
    text = json.dumps({"venue": file.venue, "instruments": rows}, indent=1) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read_instruments_file(path: Path, venue: str) -> InstrumentsFile:
    """Read the file, an empty one where there is none.

    Raises DataError naming file, key, value and what is accepted.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return InstrumentsFile(venue)
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: cannot be read: {e}") from e
    try:
        whole = json.loads(text)
    except ValueError as e:
        raise DataError(f"{path}: is not JSON: {e}") from e
    try:
        whole = _table(whole, "", ("venue", "instruments"))
        if whole.get("venue", venue) != venue:
            raise _Unfit("venue", whole["venue"], f"{venue!r}, as its folder is called")
        rows = _table(whole.get("instruments", {}), "instruments", None)
        records = {_name(symbol): _record(row, symbol) for symbol, row in rows.items()}
    except _Unfit as e:
        raise DataError(f"{path}: {e}") from None
    return InstrumentsFile(venue, records)


class _Unfit(Exception):
    def __init__(self, where: str, value: object, accepted: str) -> None:
        super().__init__(f"{where or 'the whole'} = {value!r}; accepted: {accepted}")


def _name(symbol: str) -> str:
    if not symbol or symbol != disk_symbol(symbol):
        raise _Unfit("instruments", symbol, "names as of the files of bars, such as BTCUSDT")
    return symbol


def _record(row: object, symbol: str) -> Record:
    where = f"instruments.{symbol}"
    table = _table(row, where, ("lives", "rules"))
    lives = tuple(
        _life_of(one, f"{where}.lives[{n}]")
        for n, one in enumerate(_list(table.get("lives", []), f"{where}.lives"))
    )
    rules = tuple(
        _rules_of(one, f"{where}.rules[{n}]")
        for n, one in enumerate(_list(table.get("rules", []), f"{where}.rules"))
    )
    _in_order([(one.listed_ms, one.ended_ms) for one in lives], f"{where}.lives")
    _in_order([(one.from_ms, one.until_ms) for one in rules], f"{where}.rules")
    return Record(lives, rules)


def _life_of(row: object, where: str) -> Life:
    table = _table(row, where, _LIFE_KEYS)
    listed_ms, announced_ms, ended_ms = (
        _instant(table[key], f"{where}.{key}") if key in table else None for key in _LIFE_KEYS
    )
    if ended_ms is not None and listed_ms is not None and ended_ms <= listed_ms:
        raise _Unfit(f"{where}.ended", table["ended"], f"an instant after {iso(listed_ms)}, listed")
    if announced_ms is not None and (ended_ms is None or announced_ms > ended_ms):
        end = "an end beside it" if ended_ms is None else f"an instant up to {iso(ended_ms)}, ended"
        raise _Unfit(f"{where}.announced", table["announced"], end)
    return Life(listed_ms, announced_ms, ended_ms)


def _rules_of(row: object, where: str) -> DatedRules:
    table = _table(row, where, ("from", "until", *_RULE_KEYS))
    for key in ("from", *_NEEDED):
        if key not in table:
            raise _Unfit(f"{where}.{key}", None, "it must be given")
    numbers = {k: _number(table[k], f"{where}.{k}") for k in _RULE_KEYS if k in table}
    try:
        rules = TradingRules(**numbers)
    except InvariantViolated as e:
        raise _Unfit(where, dict(table), str(e)) from None
    until_ms = _instant(table["until"], f"{where}.until") if "until" in table else None
    return DatedRules(_instant(table["from"], f"{where}.from"), until_ms, rules)


def _in_order(spans: Sequence[tuple[int | None, int | None]], where: str) -> None:
    for n, (begin_ms, end_ms) in enumerate(spans):
        if begin_ms is not None and end_ms is not None and end_ms <= begin_ms:
            raise _Unfit(f"{where}[{n}]", iso(end_ms), f"an end after {iso(begin_ms)}")
        if n + 1 < len(spans):
            next_ms = spans[n + 1][0]
            if end_ms is None or next_ms is None or next_ms < end_ms:
                shown = "unknown" if next_ms is None else iso(next_ms)
                end = "an end of the one before" if end_ms is None else f"{iso(end_ms)} or later"
                raise _Unfit(f"{where}[{n + 1}]", f"begins {shown}", end)


def _table(value: object, where: str, keys: Sequence[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Unfit(where, value, "an object in braces")
    for key in value:
        if keys is not None and key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise _Unfit(f"{where}.{key}".lstrip("."), value[key], f"{', '.join(keys)}{hint}")
    return value


def _list(value: object, where: str) -> list[object]:
    if not isinstance(value, list):
        raise _Unfit(where, value, "a list in brackets")
    return value


def _instant(value: object, where: str) -> int:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return instant_ms(moment)
    raise _Unfit(where, value, "an instant with its offset, such as 2024-05-14T09:00:00Z")


def _number(value: object, where: str) -> Decimal:
    if isinstance(value, str):
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise _Unfit(where, value, 'a decimal number in quotation marks, such as "0.001"')


def _record_row(record: Record) -> dict[str, object]:
    lives = [
        {
            key: iso(at_ms)
            for key, at_ms in zip(
                _LIFE_KEYS, (one.listed_ms, one.announced_ms, one.ended_ms), strict=True
            )
            if at_ms is not None
        }
        for one in record.lives
    ]
    return {"lives": lives, "rules": [_rules_row(one) for one in record.rules]}


def _rules_row(one: DatedRules) -> dict[str, str]:
    until = {} if one.until_ms is None else {"until": iso(one.until_ms)}
    numbers = {key: str(getattr(one.rules, key)) for key in _RULE_KEYS}
    return {"from": iso(one.from_ms), **until, **numbers}
