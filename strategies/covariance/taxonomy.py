"""Know where a coin belongs, and from which day on that was known.

`taxonomy.toml` beside this file lists sectors, written as paths ("platform.rollup"), and for each
coin the sector with the day from which it counts; a coin that was filed anew has several entries.
Asked for an instant, only days up to it count, so that a backtest sees what could be known then.
"""

from __future__ import annotations

import datetime as dt
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS

PACKAGED: Final = Path(__file__).with_name("taxonomy.toml")
MULTIPLE: Final = re.compile(r"^(?:1000000|10000|1000|1M)(?=[A-Z])")  # of contracts over many coins
_EPOCH: Final = dt.date(1970, 1, 1)

Place = tuple[str, ...]  # names from the root's child down to the sector


@dataclass(frozen=True, slots=True)
class Entry:
    """Say that a coin belongs to a place from an instant on."""

    from_ms: int
    place: Place


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """Hold the entries of each coin, oldest first, and the version of the file."""

    version: int
    entries: Mapping[str, tuple[Entry, ...]]

    def place(self, coin: str, as_of_ms: int) -> Place:
        """Give where a base coin ("BTC", "1000PEPE") belonged, as it was known at an instant.

        One that is not listed, or not yet, is a leaf of its own at the root.
        """
        plain = MULTIPLE.sub("", coin) if coin not in self.entries else coin
        known = [one.place for one in self.entries.get(plain, ()) if one.from_ms <= as_of_ms]
        return known[-1] if known else (f"alone {coin}",)


@lru_cache(maxsize=4)
def read_taxonomy(path: Path = PACKAGED) -> Taxonomy:
    """Read a file of the form of `taxonomy.toml`.

    Raises ConfigurationError for one that cannot be read, with the coin and the key at fault.
    """
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as failure:
        raise ConfigurationError(f"taxonomy {path}: {failure}") from failure
    _require_keys(path, "the file", plain, {"version", "sectors", "coins"})
    version, sectors, coins = plain["version"], plain["sectors"], plain["coins"]
    if type(version) is not int or version < 1:
        raise ConfigurationError(f"taxonomy {path}: version = {version!r}: want a number from 1 on")
    for key, value in (("sectors", sectors), ("coins", coins)):
        if not isinstance(value, dict):
            raise ConfigurationError(f"taxonomy {path}: {key} = {value!r}: want a table")
    return Taxonomy(
        version, {coin: _entries(path, coin, value, sectors) for coin, value in coins.items()}
    )


def _entries(
    path: Path, coin: str, value: object, sectors: Mapping[str, object]
) -> tuple[Entry, ...]:
    rows = value if isinstance(value, list) else [value]
    entries = []
    for row in rows:
        if not isinstance(row, dict):
            raise ConfigurationError(f"taxonomy {path}: {coin} = {row!r}: want from and sector")
        _require_keys(path, coin, row, {"from", "sector"})
        day, sector = row["from"], row["sector"]
        if type(day) is not dt.date:
            raise ConfigurationError(f"taxonomy {path}: {coin}: from = {day!r}: want a day")
        if sector not in sectors:
            raise ConfigurationError(
                f"taxonomy {path}: {coin}: sector = {sector!r} is not listed under [sectors]"
            )
        entries.append(Entry((day - _EPOCH).days * DAY_MS, tuple(str(sector).split("."))))
    days = [one.from_ms for one in entries]
    if not days or days != sorted(set(days)):
        raise ConfigurationError(f"taxonomy {path}: {coin}: want one entry or more, oldest first")
    return tuple(entries)


def _require_keys(path: Path, owner: str, table: Mapping[str, object], wanted: set[str]) -> None:
    if set(table) != wanted:
        raise ConfigurationError(
            f"taxonomy {path}: {owner} has {', '.join(sorted(table)) or 'nothing'};"
            f" want {', '.join(sorted(wanted))}"
        )
