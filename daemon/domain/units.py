"""Units that everyone shares: timeframes, instants, exact rounding, always-on checks.

An instant is an `int` of milliseconds since the Unix epoch in UTC (suffix `_ms`); aware `datetime`
appears only where people or venues are spoken to. The decision record is
`docs/decisions/002-instants-are-integers.md`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import Final

from daemon.domain.failures import ConfigurationError, InvariantViolated

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
DAY_MINUTES: Final = 24 * 60

_LABEL = re.compile(r"^(\d+)([mh])$")


def require(condition: object, message: str) -> None:
    """Raise InvariantViolated with `message` unless `condition` holds; stays on under -O."""
    if not condition:
        raise InvariantViolated(message)


def instant_ms(moment: datetime) -> int:
    """Convert an aware datetime to milliseconds since the epoch; naive ones are refused."""
    require(moment.tzinfo is not None, f"naive datetime {moment!r}; use an aware one")
    return round(moment.timestamp() * 1000)


def utc(at_ms: int) -> datetime:
    """Convert milliseconds since the epoch to an aware UTC datetime."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def iso(at_ms: int) -> str:
    """Write an instant as `2026-01-31T13:30:00Z` (milliseconds only where there are any)."""
    moment = utc(at_ms)
    timespec = "seconds" if at_ms % 1000 == 0 else "milliseconds"
    return moment.isoformat(timespec=timespec).replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, order=True)
class Timeframe:
    """Hold a bar length in minutes; it must divide the UTC day, so midnight anchoring is stable."""

    minutes: int

    def __post_init__(self) -> None:
        if self.minutes <= 0 or DAY_MINUTES % self.minutes:
            raise ConfigurationError(
                f"timeframe of {self.minutes} minutes: a bar length must divide the day (1440)"
            )

    def __hash__(self) -> int:
        return self.minutes

    @classmethod
    def parse(cls, label: str) -> Timeframe:
        """Read `30m`, `90m`, `1h`, `2h`; raise ConfigurationError for anything else."""
        found = _LABEL.match(label)
        if not found:
            raise ConfigurationError(f"timeframe {label!r}: write minutes or hours: 30m, 90m, 2h")
        count = int(found[1])
        return cls(count * (60 if found[2] == "h" else 1))

    @property
    def ms(self) -> int:
        """Give the length in milliseconds."""
        return self.minutes * MINUTE_MS

    @property
    def label(self) -> str:
        """Give the field's usual name: `90m`, `1h`, `2h`."""
        whole_hours = self.minutes % 60 == 0
        return f"{self.minutes // 60}h" if whole_hours else f"{self.minutes}m"

    def closes_at(self, at_ms: int) -> bool:
        """Tell whether a bar of this length closes exactly at `at_ms` (anchored at 00:00 UTC)."""
        return at_ms % (self.minutes * MINUTE_MS) == 0

    def last_close(self, at_ms: int) -> int:
        """Give the newest close at or before `at_ms`."""
        return at_ms - at_ms % self.ms

    def next_close(self, at_ms: int) -> int:
        """Give the first close strictly after `at_ms`."""
        return at_ms - at_ms % self.ms + self.ms


def quantise(value: Decimal | float, step: Decimal, rounding: str = ROUND_DOWN) -> Decimal:
    """Round `value` to a whole multiple of `step`: the one border from float to Decimal.

    A float is read through its shortest decimal form, so 0.1 means 0.1. Raises InvariantViolated
    for a step that is not positive or a value that is not finite.
    """
    # A message is only written where it is needed: this runs for every slice of every leg.
    if not step > 0:
        raise InvariantViolated(f"step {step} must be positive")
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not exact.is_finite():
        raise InvariantViolated(f"value {value} must be finite")
    return (exact / step).to_integral_value(rounding=rounding) * step


MONEY_STEP: Final = Decimal("0.00000001")


def money(value: Decimal) -> Decimal:
    """Round an amount of quote currency to 1e-8, half to even."""
    return value.quantize(MONEY_STEP, rounding=ROUND_HALF_EVEN)
