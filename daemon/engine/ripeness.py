"""Which instruments are old and liquid enough to be held: from bars alone, as a backtest has them.

Age counts from the listing that the venue tells, else from the first bar seen. Liquidity is the
median of quote volume over the newest complete UTC days,

    traded(day) = sum over its bars of close * volume

where the day in which we began to look does not count. An instrument that was liquid stays so down
to `LEAVES` of the bound: one that hovers there does not come and go. The same median ranks the
instruments, the largest first and of equals the first of the book; whoever is among the first R
enters, and leaves beyond `RANK_LEAVES` * R. What is gone has no rank.
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
RANK_LEAVES: Final = 1.5


@dataclass(frozen=True, slots=True)
class RipenessRules:
    """Bound age and liquidity; 0 asks for nothing.

    day_volume_min: quote currency, median of the newest `days_n` complete days. rank_max: how many
    instruments of the largest such medians may enter.
    """

    age_ms_min: int = 0
    day_volume_min: float = 0.0
    days_n: int = 7
    rank_max: int = 0

    def __post_init__(self) -> None:
        require(self.age_ms_min >= 0, f"age_ms_min {self.age_ms_min}: want 0 or more")
        require(self.day_volume_min >= 0, f"day_volume_min {self.day_volume_min}: want 0 or more")
        require(self.days_n >= 1, f"days_n {self.days_n}: want 1 or more")
        require(self.rank_max >= 0, f"rank_max {self.rank_max}: want 0 or more")

    @property
    def asks(self) -> bool:
        """Tell whether anything is asked for."""
        return bool(self.age_ms_min or self.day_volume_min or self.rank_max)


class Ripeness:
    """Follow N instruments; `see` every bar, and what is too young or thin becomes UNRIPE.

    first_ms: (N,) listing or first bar, 0 unknown. traded: (N,) quote volume of the day so far.
    days: (days_n, N) of the newest complete days, NaN where a day has no bar. judged_ms: the end of
    the newest of them. before: liquid and ranked as they were until then.
    """

    def __init__(self, book: Book, rules: RipenessRules) -> None:
        self._book = book
        self._rules = rules
        instruments = book.universe.instruments
        self.first_ms = np.array([i.listed_ms or 0 for i in instruments], dtype=np.int64)
        self.traded = np.full(len(instruments), np.nan)
        self.days = np.full((rules.days_n, len(instruments)), np.nan)
        self.liquid: Flags = np.zeros(len(instruments), dtype=np.bool_)
        self.ranked: Flags = np.zeros(len(instruments), dtype=np.bool_)
        self.before: tuple[Flags, Flags] = (self.liquid.copy(), self.ranked.copy())
        self.days_seen = 0
        self.judged_ms = 0
        self._all_traded = False  # whether all of `traded` are numbers, so that all have a first_ms
        for index in range(len(instruments)):
            book.ripen(index, ripe=not rules.asks)

    def begin(self, index: int) -> None:
        """Look at a column anew: a contract took it, whose age counts from its listing."""
        self.first_ms[index] = self._book.universe.instruments[index].listed_ms or 0
        self.traded[index] = self.days[:, index] = np.nan
        self._all_traded = False
        for flags in (self.liquid, self.ranked, *self.before):
            flags[index] = False
        self._book.ripen(index, ripe=not self._rules.asks)

    def see(self, close_ms: int, values: Floats, present: Flags) -> list[Alert]:
        """Take the bars that closed at an instant, (N, 5), and judge at the end of each day.

        Where an instant comes in pieces, each of them is judged with those before.
        Gives what people are told of those whose standing changed by it.
        """
        notional = values[:, Field.CLOSE] * values[:, Field.VOLUME]
        total = float(notional.sum())  # a number if all bars are there
        if total == total and self._all_traded and close_ms % DAY_MS and close_ms > self.judged_ms:
            self.traded = self.traded + notional  # the usual case, for a tenth of the price
            return []
        fresh = present & (self.first_ms == 0)
        self.first_ms[fresh] = close_ms
        if close_ms <= self.judged_ms:  # late, of another venue, or from before we found it
            self._add_late(close_ms, notional, present)
            return self._judged(close_ms) if close_ms == self.judged_ms else []
        known: npt.NDArray[np.float64] = np.nan_to_num(self.traded)
        self.traded = np.where(present, known + np.nan_to_num(notional), self.traded)
        self._all_traded = not np.isnan(self.traded).any()
        if close_ms % DAY_MS == 0:
            self.judged_ms = close_ms
            self.before = (self.liquid.copy(), self.ranked.copy())
            whole = self.traded if self.days_seen else np.full_like(self.traded, np.nan)
            self.days_seen += 1
            self.days = np.vstack([self.days[1:], whole])
            self.traded = np.full(len(self.traded), np.nan)
            self._all_traded = False
            return self._judged(close_ms)
        return []

    def _add_late(self, close_ms: int, notional: Floats, present: Flags) -> None:
        """Count bars for the complete day that they are of; one we only half saw does not count."""
        back = (self.judged_ms - close_ms) // DAY_MS
        if back < min(len(self.days), self.days_seen - 1):
            row = self.days[-1 - back]
            row[present] = np.nan_to_num(row[present]) + np.nan_to_num(notional[present])

    def _judged(self, now_ms: int) -> list[Alert]:
        rules = self._rules
        volume, (liquid, ranked) = self._median(), self.before
        bound = np.where(liquid, LEAVES * rules.day_volume_min, rules.day_volume_min)
        self.liquid = volume >= bound if rules.day_volume_min else np.ones_like(self.liquid)
        old = (self.first_ms > 0) & (now_ms - self.first_ms >= rules.age_ms_min)
        places = self._places(volume)
        self.ranked = places <= np.where(ranked, RANK_LEAVES, 1.0) * (rules.rank_max or np.inf)
        return [
            self._alert(now_ms, index, volume[index], places[index], old=bool(old[index]))
            for index, ripe in enumerate((self.liquid & self.ranked & old).tolist())
            if self._book.ripen(index, ripe=ripe)
        ]

    def _places(self, volume: Floats) -> Floats:
        """Rank volumes, (N,), the largest is 1; inf for who trades nothing or is gone."""
        out = self._book.stands(Standing.GONE) | (volume <= 0)
        places = np.empty(len(volume))
        order = np.argsort(np.where(out, np.inf, -volume), kind="stable")
        places[order] = np.arange(1.0, len(volume) + 1.0)
        return np.where(out, np.inf, places)

    def _median(self) -> Floats:
        """Give the median over the days that have bars, 0 for instruments without any, (N,)."""
        some = ~np.isnan(self.days).all(axis=0)
        found = np.zeros(self.days.shape[1])
        found[some] = np.nanmedian(self.days[:, some], axis=0)
        return found

    def _alert(self, now_ms: int, index: int, volume: float, place: float, *, old: bool) -> Alert:
        key = self._book.universe.instruments[index].key
        standing = self._book.standing_of_its_own(index)
        why = f"{volume:,.0f} a day is traded" if old else "it is too young"
        if old and self._rules.rank_max:
            why += f", place {place:.0f}" if place < np.inf else ", no place"
        return Alert(AlertKind.INSTRUMENT, now_ms, f"{key} is {standing.words}: {why}")

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {
            "first_ms": self.first_ms,
            "traded": self.traded,
            "days": self.days,
            "liquid": self.liquid,
            "ranked": self.ranked,
            "before": list(self.before),
            "days_seen": self.days_seen,
            "judged_ms": self.judged_ms,
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
        self.ranked = np.array(cast(Flags, plain["ranked"]), dtype=np.bool_)
        before = cast(list[Flags], plain["before"])
        self.before = (np.array(before[0], dtype=np.bool_), np.array(before[1], dtype=np.bool_))
        self.days_seen = cast(int, plain["days_seen"])
        self.judged_ms = cast(int, plain["judged_ms"])
        self._all_traded = not np.isnan(self.traded).any()
        if not self._rules.asks:  # the filter was switched off since
            for index in range(days.shape[1]):
                self._book.ripen(index, ripe=True)
