"""Which instruments are old and liquid enough to be held: from bars alone, as a backtest has them.

Age counts from the listing that the venue tells, else from the first bar seen. Liquidity is the
median of quote volume over the newest complete UTC days,

    traded(day) = sum over its bars of close * volume

where the day in which we began to look does not count. An instrument that was liquid stays so down
to `LEAVES` of the bound: one that hovers there does not come and go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import numpy.typing as npt

from daemon.domain.bar import Field, Flags, Floats
from daemon.domain.instrument import Standing
from daemon.domain.messages import Alert, AlertKind
from daemon.domain.units import DAY_MS, require
from daemon.engine.book import Book

LEAVES: Final = 0.7


@dataclass(frozen=True, slots=True)
class RipenessRules:
    """Bound age and liquidity; 0 asks for nothing.

    day_volume_min: quote currency, median of the newest `days_n` complete days.
    """

    age_ms_min: int = 0
    day_volume_min: float = 0.0
    days_n: int = 7

    def __post_init__(self) -> None:
        require(self.age_ms_min >= 0, f"age_ms_min {self.age_ms_min}: want 0 or more")
        require(self.day_volume_min >= 0, f"day_volume_min {self.day_volume_min}: want 0 or more")
        require(self.days_n >= 1, f"days_n {self.days_n}: want 1 or more")

    @property
    def asks(self) -> bool:
        """Tell whether anything is asked for."""
        return bool(self.age_ms_min or self.day_volume_min)


class Ripeness:
    """Follow N instruments; `see` every bar, and what is too young or thin becomes UNRIPE.

    first_ms: (N,) listing or first bar, 0 unknown. traded: (N,) quote volume of the day so far.
    days: (days_n, N) of the newest complete days, NaN where a day has no bar.
    """

    def __init__(self, book: Book, rules: RipenessRules) -> None:
        self._book = book
        self._rules = rules
        instruments = book.universe.instruments
        self.first_ms = np.array([i.listed_ms or 0 for i in instruments], dtype=np.int64)
        self.traded = np.full(len(instruments), np.nan)
        self.days = np.full((rules.days_n, len(instruments)), np.nan)
        self.liquid: Flags = np.zeros(len(instruments), dtype=np.bool_)
        self.days_seen = 0
        for index in range(len(instruments)):
            book.ripen(index, ripe=not rules.asks)

    def see(self, close_ms: int, values: Floats, present: Flags) -> list[Alert]:
        """Take the bars that closed at an instant, (N, 5), and judge at the end of each day.

        Gives what people are told of those whose standing changed by it.
        """
        fresh = present & (self.first_ms == 0)
        self.first_ms[fresh] = close_ms
        notional = values[:, Field.CLOSE] * values[:, Field.VOLUME]
        known: npt.NDArray[np.float64] = np.nan_to_num(self.traded)
        self.traded = np.where(present, known + np.nan_to_num(notional), self.traded)
        if close_ms % DAY_MS == 0:
            whole = self.traded if self.days_seen else np.full_like(self.traded, np.nan)
            self.days_seen += 1
            self.days = np.vstack([self.days[1:], whole])
            self.traded = np.full(len(self.traded), np.nan)
            return self._judged(close_ms)
        return []

    def _judged(self, now_ms: int) -> list[Alert]:
        rules = self._rules
        volume = self._median()
        bound = np.where(self.liquid, LEAVES * rules.day_volume_min, rules.day_volume_min)
        self.liquid = volume >= bound if rules.day_volume_min else np.ones_like(self.liquid)
        old = (self.first_ms > 0) & (now_ms - self.first_ms >= rules.age_ms_min)
        return [
            self._alert(now_ms, index, volume[index], bool(old[index]))
            for index, ripe in enumerate((self.liquid & old).tolist())
            if self._book.ripen(index, ripe=ripe)
        ]

    def _median(self) -> Floats:
        """Give the median over the days that have bars, 0 for instruments without any, (N,)."""
        some = ~np.isnan(self.days).all(axis=0)
        found = np.zeros(self.days.shape[1])
        found[some] = np.nanmedian(self.days[:, some], axis=0)
        return found

    def _alert(self, now_ms: int, index: int, volume: float, old: bool) -> Alert:
        key = self._book.universe.instruments[index].key
        standing = Standing(self._book.standing[index])
        why = f"{volume:,.0f} a day is traded" if old else "it is too young"
        return Alert(AlertKind.INSTRUMENT, now_ms, f"{key} is {standing.words}: {why}")

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {
            "first_ms": self.first_ms,
            "traded": self.traded,
            "days": self.days,
            "liquid": self.liquid,
            "days_seen": self.days_seen,
        }

    def restore(self, plain: Mapping[str, object]) -> None:
        """Load `to_plain`; days beyond what the rules look at are forgotten."""
        days = np.array(plain["days"], dtype=np.float64)
        kept = days[-self._rules.days_n :]
        missing = np.full((self._rules.days_n - len(kept), days.shape[1]), np.nan)
        self.days = np.vstack([missing, kept])
        self.first_ms = np.array(plain["first_ms"], dtype=np.int64)
        self.traded = np.array(plain["traded"], dtype=np.float64)
        self.liquid = np.array(cast(Flags, plain["liquid"]), dtype=np.bool_)
        self.days_seen = cast(int, plain["days_seen"])
        if not self._rules.asks:  # the filter was switched off since
            for index in range(days.shape[1]):
                self._book.ripen(index, ripe=True)
