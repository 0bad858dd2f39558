"""Settings of the rehearsal exchange: one frozen value, to and from JSON, every mistake named."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from msgspec import to_builtins

from adapters.rehearsal.accounts import KeySettings, bank_settings_of, keys_of
from adapters.rehearsal.bank.terms import BankSettings
from adapters.rehearsal.fault_plan import PlannedStrike, strike_of
from adapters.rehearsal.planted import PLANTED_IC_MAX, PatternKind
from adapters.rehearsal.planted_sequence import SEQUENCE_IC_MAX
from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, MINUTE_MS, instant_ms

ORIGIN_MS_DEFAULT: Final = 1_704_067_200_000  # 2024-01-01T00:00:00Z


class MarketKind(StrEnum):
    """Name where the market comes from."""

    SEEDED = "seeded"
    PARQUET = "parquet"


class PaceKind(StrEnum):
    """Name what moves the market's time."""

    LOCK_STEP = "lock_step"  # only when every client has said that it is idle
    FACTOR = "factor"  # `factor` times as fast as the wall; 1 is real time


class DialectKind(StrEnum):
    """Name whose words the exchange speaks."""

    BINANCEUSDM = "binanceusdm"
    BYBIT = "bybit"


@dataclass(frozen=True, slots=True)
class AbsentBar:
    """Script a source bar that never exists, neither in the stream nor in the history."""

    symbol: str
    open_ms: int


@dataclass(frozen=True, slots=True)
class LateBar:
    """Script a source bar that nobody sees until `delay_ms` of market time after its close.

    What follows on the same symbol, its running successor above all, is held back as long.
    """

    symbol: str
    open_ms: int
    delay_ms: int


@dataclass(frozen=True, slots=True)
class RehearsalSettings:
    """Describe one rehearsal exchange; instants are milliseconds UTC or ISO 8601 in JSON.

    The market starts at `resume_at_ms` if given, else at `start_ms`, else `history_days` after the
    origin (seeded) or after the first bar (Parquet). `planted_ic` is the true information
    coefficient of the planted pattern: 0 is a fair game, 0.03 typical of a real edge, 0.05 the
    demonstration's default; `pattern` says what is planted. `clients_min` is how many named clients
    a lock-step waits for.
    `weight_limit_minute` 0 counts request weight without refusing any. `faults` strike at their
    instants; with a `fault_seed`, random ones do as well, the same for the same seed. `accounts`
    have the keys that may trade, at the terms of `bank`.
    """

    kind: MarketKind = MarketKind.SEEDED
    seed: int = 7
    coins: int = 12
    symbols: tuple[str, ...] = ()
    step_minutes: int = 5
    planted_ic: float = 0.05
    pattern: PatternKind = PatternKind.CONTEXT
    origin_ms: int = ORIGIN_MS_DEFAULT
    history_days: int = 150
    start_ms: int | None = None
    resume_at_ms: int | None = None
    end_ms: int | None = None
    listings: Mapping[str, int] = dataclasses.field(default_factory=dict)
    delistings: Mapping[str, int] = dataclasses.field(default_factory=dict)
    random_listings: bool = False
    parquet_folder: str = ""
    parquet_timeframe: str = "30m"
    funding_folder: str = ""
    rules_file: str = ""
    source_minutes: int = 30
    pace: PaceKind = PaceKind.LOCK_STEP
    factor: float = 1.0
    port: int = 0
    clients_min: int = 1
    weight_limit_minute: int = 0
    absent_bars: tuple[AbsentBar, ...] = ()
    late_bars: tuple[LateBar, ...] = ()
    fault_seed: int | None = None
    faults: tuple[PlannedStrike, ...] = ()
    dialect: DialectKind = DialectKind.BINANCEUSDM
    accounts: tuple[KeySettings, ...] = ()
    bank: BankSettings = dataclasses.field(default_factory=BankSettings)

    def __post_init__(self) -> None:
        _accept("coins", self.coins, 1 <= self.coins <= 200, "1..200")
        _accept("seed", self.seed, self.seed >= 0, "0 or more")
        _accept("port", self.port, 0 <= self.port <= 65535, "0..65535, 0 for any free one")
        _accept("factor", self.factor, 0 < self.factor <= 1e6, "above 0, up to 1000000")
        _accept("history_days", self.history_days, self.history_days >= 0, "0 or more")
        _accept("clients_min", self.clients_min, self.clients_min >= 1, "1 or more")
        seed = self.fault_seed
        _accept("fault_seed", seed, seed is None or seed >= 0, "0 or more, or none")
        most = SEQUENCE_IC_MAX if self.pattern is PatternKind.SEQUENCE else PLANTED_IC_MAX
        _accept("planted_ic", self.planted_ic, 0 <= self.planted_ic <= most, f"0..{most}")
        _accept("origin_ms", self.origin_ms, self.origin_ms % DAY_MS == 0, "00:00 UTC of a day")
        minutes = self.source_minutes
        fits = minutes > 0 and 1440 % minutes == 0
        _accept("source_minutes", minutes, fits, "a divisor of the day's 1440 minutes")
        if self.kind is MarketKind.SEEDED:
            fits = self.step_minutes > 0 and minutes % self.step_minutes == 0
            _accept("step_minutes", self.step_minutes, fits, f"a divisor of {minutes}")
        opens = [bar.open_ms for bar in self.absent_bars] + [bar.open_ms for bar in self.late_bars]
        for open_ms in opens:
            on_grid = open_ms % self.source_ms == 0
            _accept("open_ms", open_ms, on_grid, f"an opening instant of {minutes}m bars")
        for late in self.late_bars:
            _accept("delay_ms", late.delay_ms, late.delay_ms > 0, "above 0")

    @property
    def source_ms(self) -> int:
        """Give the length of the source interval, whose closes are lock-step's instants."""
        return self.source_minutes * MINUTE_MS

    def to_json(self) -> str:
        """Write the settings as one line of JSON."""
        return json.dumps({**dataclasses.asdict(self), "bank": to_builtins(self.bank)})

    @classmethod
    def from_json(cls, text: str, *, source: str = "settings") -> RehearsalSettings:
        """Read settings; raise ConfigurationError naming key, value and what is accepted."""
        try:
            raw = json.loads(text)
        except json.JSONDecodeError as failure:
            raise ConfigurationError(f"{source}: not JSON: {failure}") from failure
        if not isinstance(raw, dict):
            raise ConfigurationError(f"{source}: a JSON object is needed, not {type(raw).__name__}")
        return cls.from_mapping(raw)

    @classmethod
    def from_mapping(cls, raw: Mapping[str, Any]) -> RehearsalSettings:
        """Read settings from plain values, as JSON or TOML give them."""
        known = {field.name for field in dataclasses.fields(cls)}
        for key in raw:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigurationError(f"{key}: unknown setting{hint}")
        return cls(**{key: _read(key, value) for key, value in raw.items()})


_INSTANTS: Final = {"origin_ms", "start_ms", "resume_at_ms", "end_ms"}
_OPTIONAL: Final = {"start_ms", "resume_at_ms", "end_ms"}
_TEXTS: Final = {"parquet_folder", "parquet_timeframe", "funding_folder", "rules_file"}
_NUMBERS: Final = {"planted_ic", "factor"}
_ENUMS: Final[dict[str, type[StrEnum]]] = {
    "kind": MarketKind,
    "pace": PaceKind,
    "dialect": DialectKind,
    "pattern": PatternKind,
}


def _read(key: str, value: Any) -> Any:
    """Convert one plain value to the setting's type."""
    if key in _INSTANTS:
        return None if value is None and key in _OPTIONAL else _instant(key, value)
    if key in _ENUMS:
        return _choice(key, value, _ENUMS[key])
    if key in {"listings", "delistings"}:
        _accept(key, value, isinstance(value, Mapping), "a table of symbol = instant")
        return {str(symbol): _instant(f"{key}.{symbol}", at) for symbol, at in value.items()}
    if key == "symbols":
        fits = isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)
        _accept(key, value, fits, "a list of symbols")
        return tuple(value)
    if key in {"absent_bars", "late_bars"}:
        return _bars(key, value)
    if key == "faults":
        _accept(key, value, isinstance(value, list | tuple), "a list of tables")
        return tuple(strike_of(item, at=_instant) for item in value)
    if key == "fault_seed" and value is None:
        return None
    if key == "accounts":
        return keys_of(value)
    if key == "bank":
        return bank_settings_of(value)
    if key in _TEXTS:
        _accept(key, value, isinstance(value, str), "a text")
        return value
    if key == "random_listings":
        _accept(key, value, isinstance(value, bool), "true or false")
        return value
    fits = isinstance(value, int | float if key in _NUMBERS else int)
    _accept(key, value, fits and not isinstance(value, bool), "a number")
    return value


def _bars(key: str, value: Any) -> tuple[AbsentBar, ...] | tuple[LateBar, ...]:
    wanted = {"symbol", "open_ms"} | ({"delay_ms"} if key == "late_bars" else set())
    fits = isinstance(value, list | tuple)
    _accept(key, value, fits, f"a list of tables with {', '.join(sorted(wanted))}")
    for item in value:
        fits = isinstance(item, Mapping) and set(item) == wanted
        _accept(key, item, fits, f"tables with {', '.join(sorted(wanted))}")
    if key == "absent_bars":
        return tuple(
            AbsentBar(str(i["symbol"]), _instant(f"{key}.open_ms", i["open_ms"])) for i in value
        )
    return tuple(
        LateBar(
            str(i["symbol"]),
            _instant(f"{key}.open_ms", i["open_ms"]),
            _instant(f"{key}.delay_ms", i["delay_ms"]),
        )
        for i in value
    )


def _instant(key: str, value: Any) -> int:
    """Read milliseconds or an ISO 8601 instant with its offset."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            return instant_ms(moment)
    accepted = "milliseconds since 1970 or an instant such as 2024-06-01T00:00:00Z"
    raise ConfigurationError(f"{key} {value!r}: accepted is {accepted}")


def _choice(key: str, value: Any, kind: type[StrEnum]) -> StrEnum:
    try:
        return kind(value)
    except ValueError:
        accepted = ", ".join(member.value for member in kind)
        raise ConfigurationError(f"{key} {value!r}: accepted is {accepted}") from None


def _accept(key: str, value: Any, fits: bool, accepted: str) -> None:
    if not fits:
        raise ConfigurationError(f"{key} {value!r}: accepted is {accepted}")
