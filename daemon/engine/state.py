"""Everything the engine remembers, in one place, and how it is saved and restored."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
from msgspec import Struct, convert

from daemon.domain.bar import Flags, Floats
from daemon.domain.bar_builder import BarBuilder
from daemon.domain.covariance import Covariance, Factors, Watch
from daemon.domain.forecast import Estimates, Prediction, Reading
from daemon.domain.instrument import InstrumentKey, Standing, Universe
from daemon.domain.messages import RuleValue
from daemon.domain.order import OrderId
from daemon.domain.portfolio import OpenOrder
from daemon.domain.scales import Doubt
from daemon.domain.units import Timeframe, require
from daemon.engine.book import Book
from daemon.engine.cadence import CadenceRules
from daemon.engine.orders import OrderTable
from daemon.engine.ripeness import Ripeness, RipenessRules
from daemon.engine.risk import TradingState
from daemon.engine.settled import Settled
from daemon.engine.windows import WindowStore

SCHEMA: Final = 10
REMEMBERED_REQUESTS: Final = 1024
REMEMBERED_CASHFLOWS: Final = 4_096


class Stranger(Struct):
    """Hold an order that is not ours as it counts in column `index`, OUTSIDE beside the universe.

    cancel_ms: market time before which it is not cancelled again. cancels_n: so often it was.
    """

    index: int
    order: OpenOrder
    cancel_ms: int = 0
    cancels_n: int = 0

    def to_plain(self) -> list[object]:
        """Give a form that the snapshot codec can write."""
        one = self.order
        row = (*one.key, str(one.left), one.price)
        return [self.index, *row, self.cancel_ms, self.cancels_n]


class Phase(StrEnum):
    """Say how far the work on the present instant has come."""

    IDLE = "idle"
    GATHERING = "gathering"  # bars of this instant are still expected
    ESTIMATING = "estimating"  # the estimator has been asked
    CLEARING = "clearing"  # open orders of the last decision are being cancelled


@dataclass
class EngineState:
    """Hold the engine's memory. Arrays are (N,) in universe order.

    strategy: the strategy's own versioned arrays. newest: last forecast per timeframe. cursors:
    each venue's execution count at its last snapshot. unreconciled: venues whose account was not
    compared since the start. now_ms: the newest market time that a bar or Tick
    told. operator_requests: ids already obeyed. holds: why no risk may be opened at present, by
    venue and trouble, which counts from `bind_holds` on. decided: instants of the newest decisions.
    revised: (index, close_ms) of bars that were revised while a window holds them. silent: what the
    last estimates said of series.
    """

    book: Book
    orders: OrderTable
    builder: BarBuilder
    windows: dict[Timeframe, WindowStore]
    ripeness: Ripeness
    strategy: Mapping[str, Floats]
    strategy_name: str = ""
    trading: TradingState = TradingState.STARTING
    halted_why: str = ""
    phase: Phase = Phase.IDLE
    instant_ms: int = 0
    now_ms: int = 0
    sequence: int = 0
    stale_decisions: int = 0
    paused: bool = False
    flattening: bool = False
    operator_reduce_only: bool = False
    cursors: dict[str, int] = field(default_factory=dict)
    mismatches: dict[str, int] = field(default_factory=dict)
    unread: dict[str, list[int]] = field(default_factory=dict)  # see `unread`
    unreconciled: set[str] = field(default_factory=set)
    newest: dict[Timeframe, Prediction] = field(default_factory=dict)
    disagreement: Floats | None = None
    reading: Reading | None = None
    covariance: Covariance | None = None  # the newest; how old it is says its as_of_ms
    gross_multiplier: float | None = None
    seen: Floats = field(default_factory=lambda: np.zeros(0))  # close_ms of the newest source bar
    seen_all_ms: int = 0  # the newest instant of which every bar was seen
    everyone: Flags = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    funding: Settled = field(default_factory=lambda: Settled.none(0))
    operator_requests: OrderedDict[str, None] = field(default_factory=OrderedDict)
    cashflow_ids: OrderedDict[str, None] = field(default_factory=OrderedDict)
    holds: dict[str, str] = field(default_factory=dict)
    decided: list[int] = field(default_factory=list)
    revised: list[tuple[int, int]] = field(default_factory=list)
    silent: dict[str, str] = field(default_factory=dict)
    doubted: dict[int, Doubt] = field(default_factory=dict)
    rescaled: list[tuple[int, int]] = field(default_factory=list)  # (index, at_ms), as they came
    # of the newest decision with a plan, see `mending`
    mend_as_of_ms: int = 0
    net_goal: float = 0.0  # quote currency
    mends_n: int = 0
    leg_lost: bool = False
    # see `losses`; 0 before the first close
    loss_day: int = 0
    day_equity: float = 0.0
    high_equity: float = 0.0
    day_lost: bool = False
    lost_columns: list[int] = field(default_factory=list)
    costs: dict[str, list[float]] = field(default_factory=dict)  # see `costs`
    leg_costs: dict[str, list[float]] = field(default_factory=dict)
    paid: Floats = field(default_factory=lambda: np.zeros(0))  # see `View`
    margins: dict[str, float] = field(default_factory=dict)  # newest margin ratio by venue
    sent_ms: list[int] = field(default_factory=list)  # orders of the last minute, where limited
    # see `strangers` and `foreign`
    strangers: dict[OrderId, Stranger] = field(default_factory=dict)
    closing: dict[int, Decimal] = field(default_factory=dict)  # by column, signed base units
    outside_tries: dict[InstrumentKey, int] = field(default_factory=dict)
    outside_n: int = 0
    # rules that were changed since the daemon began with its settings, see `rules`
    changed: dict[str, RuleValue] = field(default_factory=dict)

    @classmethod
    def fresh(
        cls,
        universe: Universe,
        rules: CadenceRules,
        bars_n: Mapping[Timeframe, int],
        strategy: Mapping[str, Floats],
        ripeness: RipenessRules,
    ) -> EngineState:
        """Give the state of a daemon that has seen nothing."""
        n, book = len(universe), Book(universe)
        return cls(
            book=book,
            ripeness=Ripeness(book, ripeness),
            orders=OrderTable(),
            builder=BarBuilder(rules.source, rules.timeframes, n),
            windows={t: WindowStore(t, n, bars_n[t]) for t in rules.timeframes},
            strategy=strategy,
            seen=np.zeros(n),
            funding=Settled.none(n),
            paid=np.zeros(n),
            everyone=np.ones(n, dtype=np.bool_),
        )

    def see(self, close_ms: int, proof: npt.NDArray[np.uint8]) -> Flags:
        """Note whose source bars came; give who has one, (N,), not to be written to."""
        all_there = proof.tobytes().find(0) < 0  # all proofs but ABSENT are above 0
        present = self.everyone if all_there else proof.astype(np.bool_)
        if all_there and close_ms == self.instant_ms:
            self.seen.fill(close_ms)
            self.seen_all_ms = close_ms
        else:
            np.maximum(self.seen, close_ms, out=self.seen, where=present)
        return present

    def awaited(self, alive_ms: int) -> Flags:
        """Tell which living instruments have not shown their bar of this instant, (N,)."""
        alive = self.seen >= self.instant_ms - alive_ms
        if not self.book.all_trade:
            alive &= ~self.book.stands(Standing.GONE)
            alive &= ~self.book.stands(Standing.DOUBTED)
        return alive & (self.seen < self.instant_ms)

    def absent(self) -> tuple[int, ...]:
        """List who has not shown the bar of this instant; a free column shows none."""
        if self.seen_all_ms == self.instant_ms:
            return ()
        instruments = self.book.universe.instruments
        found: list[int] = (self.seen < self.instant_ms).nonzero()[0].tolist()
        return tuple([index for index in found if not instruments[index].is_spare])

    @property
    def may_open(self) -> bool:
        """Tell whether nothing forbids to open risk everywhere: operator, feed, a day's loss."""
        return not self.operator_reduce_only and not self.holds_all and not self.day_lost

    @property
    def held_venues(self) -> frozenset[str]:
        """Name the venues that are held."""
        return frozenset([name.rpartition(" ")[0] for name in self.holds])

    @property
    def holds_all(self) -> bool:
        """Tell whether the whole book is held: each of its venues, or one that it has not."""
        if not self.holds:
            return False
        held, ours = self.held_venues, {i.key.venue for i in self.book.universe.instruments}
        return not held < ours

    @property
    def holds_text(self) -> str:
        """Say for people where nothing may be opened, and why; '' where nothing is held."""
        if not self.holds:
            return ""
        said, place = ("nothing is opened:", "") if self.holds_all else ("nothing is opened", "at ")
        where = [f"{place}{name.rpartition(' ')[0]}: {why}" for name, why in self.holds.items()]
        return f"{said} {'; '.join(where)}"

    @property
    def reasons_text(self) -> str:
        """Say for people all that keeps it from opening, or from trading; empty for nothing."""
        reasons = [
            (self.halted_why, bool(self.halted_why)),
            ("flattened by the operator", self.flattening),
            ("paused by the operator", self.paused and not self.flattening),
            ("reduce-only by the operator", self.operator_reduce_only),
            ("day_loss_max: nothing is opened until the next UTC day or a resume", self.day_lost),
            (f"no usable forecast ({self.stale_decisions} in a row)", self.stale_decisions > 0),
            (self.holds_text, bool(self.holds)),
        ]
        return "; ".join(text for text, holds in reasons if holds)

    def bind_holds(self) -> frozenset[int]:
        """Let the columns of held venues only reduce; give those that did not before.

        Where the whole book is held its trading state says so, and the columns stand as they did.
        """
        held = frozenset[str]() if self.holds_all else self.held_venues
        columns = enumerate(self.book.universe.instruments)
        return self.book.hold_back(frozenset([n for n, i in columns if i.key.venue in held]))

    def drop_holds(self) -> None:
        """Forget every hold: the feed that begins now looks for itself."""
        self.holds.clear()
        self.bind_holds()

    def is_new_request(self, request_id: str) -> bool:
        """Note an operator's wish; False when it was obeyed already."""
        return remember(request_id, self.operator_requests, REMEMBERED_REQUESTS)

    def is_new_cashflow(self, cashflow_id: str) -> bool:
        """Note a cash flow; False when it was booked already."""
        return remember(cashflow_id, self.cashflow_ids, REMEMBERED_CASHFLOWS)

    def take(self, estimates: Estimates) -> None:
        """Remember what the estimator said; a timeframe that is not in it keeps what it said."""
        for prediction in estimates.predictions:
            self.newest[prediction.timeframe] = prediction
        if estimates.disagreement is not None:
            self.disagreement = estimates.disagreement
        self.reading = estimates.reading
        if estimates.covariance is not None:
            self.covariance = estimates.covariance
        self.gross_multiplier = estimates.gross_multiplier

    def to_plain(self) -> dict[str, object]:
        """Give a form that the snapshot codec can write."""
        return {
            "schema": SCHEMA,
            "book": self.book.to_plain(),
            "orders": self.orders.to_plain(),
            "builder": self.builder.state(),
            "windows": {t.label: w.to_plain() for t, w in self.windows.items()},
            "strategy": dict(self.strategy),
            "strategy_name": self.strategy_name,
            "scalars": {name: getattr(self, name) for name in _SCALARS},
            "trading": str(self.trading),
            "phase": str(self.phase),
            "newest": {t.label: _prediction_to_plain(p) for t, p in self.newest.items()},
            "disagreement": self.disagreement,
            "reading": self.reading,
            "covariance": self.covariance,
            "seen": self.seen,
            "funding_rates": self.funding.to_plain(),
            "operator_requests": list(self.operator_requests),
            "cashflow_ids": list(self.cashflow_ids),
            "cursors": self.cursors,
            "mismatches": self.mismatches,
            "unread": self.unread,
            "unreconciled": sorted(self.unreconciled),
            "ripeness": self.ripeness.to_plain(),
            "holds": self.holds,
            "silent": self.silent,
            "decided": self.decided,
            "revised": self.revised,
            "doubted": [[index, *doubt.to_plain()] for index, doubt in self.doubted.items()],
            "rescaled": self.rescaled,
            "lost_columns": self.lost_columns,
            "sent_ms": self.sent_ms,
            "margins": self.margins,
            "costs": self.costs,
            "leg_costs": self.leg_costs,
            "paid": self.paid,
            "strangers": {order_id: one.to_plain() for order_id, one in self.strangers.items()},
            "changed": self.changed,
            "closing": [[index, str(wanted)] for index, wanted in self.closing.items()],
            "outside_tries": [[*key, tries_n] for key, tries_n in self.outside_tries.items()],
        }

    def restore(self, plain: Mapping[str, object]) -> None:
        """Load `to_plain` into a fresh state of the same universe and timeframes."""
        require(plain["schema"] == SCHEMA, f"snapshot schema {plain['schema']}, want {SCHEMA}")
        self.orders = OrderTable.from_plain(cast(dict[str, object], plain["orders"]))
        self.book.restore(cast(dict[str, object], plain["book"]))
        self.builder.restore(cast(dict[str, object], plain["builder"]))
        for label, rows in cast(dict[str, dict[str, object]], plain["windows"]).items():
            self.windows[Timeframe.parse(label)].restore(rows)
        if plain["strategy_name"] == self.strategy_name:  # another strategy starts afresh
            saved = cast(dict[str, Floats], plain["strategy"])
            self.strategy = {k: np.array(v) for k, v in saved.items()}
        for name, value in cast(dict[str, object], plain["scalars"]).items():
            setattr(self, name, value)
        self.trading = TradingState(cast(str, plain["trading"]))
        self.phase = Phase(cast(str, plain["phase"]))
        newest = cast(dict[str, dict[str, object]], plain["newest"])
        self.newest = {Timeframe.parse(k): _prediction_from_plain(v) for k, v in newest.items()}
        disagreement = plain["disagreement"]
        self.disagreement = None if disagreement is None else np.array(disagreement)
        self.reading = convert(plain["reading"], Reading | None)
        self.covariance = _covariance_from_plain(plain["covariance"])
        self.seen, self.seen_all_ms = np.array(plain["seen"], dtype=np.float64), 0
        self.funding = Settled.from_plain(plain["funding_rates"])
        self.operator_requests = OrderedDict.fromkeys(cast(list[str], plain["operator_requests"]))
        self.cashflow_ids = OrderedDict.fromkeys(cast(list[str], plain["cashflow_ids"]))
        self.cursors = dict(cast(dict[str, int], plain["cursors"]))
        self.mismatches = dict(cast(dict[str, int], plain["mismatches"]))
        unread = cast(dict[str, list[int]], plain.get("unread", {}))  # not in older snapshots
        self.unread = {venue: list(entry) for venue, entry in unread.items()}
        self.unreconciled = set(cast(list[str], plain["unreconciled"]))
        self.ripeness.restore(cast(dict[str, object], plain["ripeness"]))
        self.holds = dict(cast(dict[str, str], plain["holds"]))
        self.silent = dict(cast(dict[str, str], plain["silent"]))
        self.decided = list(cast(list[int], plain["decided"]))
        doubted = cast(list[tuple[int, *tuple[float, ...]]], plain["doubted"])
        self.doubted = {index: Doubt.from_plain(known) for index, *known in doubted}
        for index in self.doubted:
            self.book.doubt(index, doubted=True)
        rescaled = cast(list[tuple[int, int]], plain["rescaled"])
        self.rescaled = [(index, at_ms) for index, at_ms in rescaled]
        self.lost_columns = list(cast(list[int], plain["lost_columns"]))
        self.sent_ms = list(cast(list[int], plain["sent_ms"]))
        costs = cast(dict[str, list[float]], plain["costs"])
        self.costs = {name: list(sums) for name, sums in costs.items()}
        legs = cast(dict[str, list[float]], plain.get("leg_costs", {}))  # not in older snapshots
        self.leg_costs = {name: list(sums) for name, sums in legs.items()}
        self.paid = np.array(plain.get("paid", self.paid))  # not in older snapshots
        self.margins = dict(cast(dict[str, float], plain["margins"]))
        revised = cast(list[tuple[int, int]], plain["revised"])
        self.revised = [(index, close_ms) for index, close_ms in revised]
        strangers = cast(dict[str, list[Any]], plain["strangers"])
        self.strangers = {OrderId(o): _stranger(row) for o, row in strangers.items()}
        self.changed = dict(cast(dict[str, RuleValue], plain["changed"]))
        closing = cast(list[tuple[int, str]], plain["closing"])
        self.closing = {index: Decimal(wanted) for index, wanted in closing}
        tries = cast(list[tuple[str, str, int]], plain["outside_tries"])
        self.outside_tries = {InstrumentKey(venue, symbol): n for venue, symbol, n in tries}
        self.bind_holds()


def remember(name: str, seen: OrderedDict[str, None], kept: int) -> bool:
    """Note a name in a bounded memory; False when it is there already."""
    if name in seen:
        return False
    seen[name] = None
    if len(seen) > kept:
        seen.popitem(last=False)
    return True


_SCALARS: Final = (
    "halted_why",
    "instant_ms",
    "now_ms",
    "sequence",
    "stale_decisions",
    "paused",
    "flattening",
    "operator_reduce_only",
    "gross_multiplier",
    "mend_as_of_ms",
    "net_goal",
    "mends_n",
    "leg_lost",
    "loss_day",
    "day_equity",
    "high_equity",
    "day_lost",
    "outside_n",
)


def _stranger(row: list[Any]) -> Stranger:
    index, venue, symbol, left, price, cancel_ms, cancels_n = row
    order = OpenOrder(InstrumentKey(venue, symbol), Decimal(left), price)
    return Stranger(index, order, cancel_ms, cancels_n)


def _covariance_from_plain(plain: object) -> Covariance | None:
    if plain is None:
        return None
    parts = cast(dict[str, Any], plain)
    arrays = {name: np.array(parts[name]) for name in ("volatility", "correlation")}
    factors = parts.get("factors")  # not in older snapshots
    made = factors and Factors(np.array(factors["loadings"]), np.array(factors["specific"]))
    watch = convert(parts["watch"], Watch | None)
    return Covariance(**{**parts, **arrays, "watch": watch, "factors": made})


def _prediction_to_plain(p: Prediction) -> dict[str, object]:
    return {
        "minutes": p.timeframe.minutes,
        "as_of_ms": p.as_of_ms,
        "mean": p.mean,
        "variance": p.variance,
        "model_id": p.model_id,
    }


def _prediction_from_plain(plain: Mapping[str, object]) -> Prediction:
    return Prediction(
        timeframe=Timeframe(cast(int, plain["minutes"])),
        as_of_ms=cast(int, plain["as_of_ms"]),
        mean=np.array(plain["mean"]),
        variance=np.array(plain["variance"]),
        model_id=cast(str, plain["model_id"]),
    )
