"""What the status page asks of the past: the journal, read-only, and the spool for commands.

Everything here may take its time: the page calls it in a thread of its own process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from adapters.journal import JournalReader
from adapters.web.app import Wanted
from adapters.web.trail import Point
from daemon.domain.decision import Decision
from daemon.domain.instrument import Universe
from daemon.domain.order import Fill
from daemon.domain.units import DAY_MS
from daemon.status.codec import plain
from daemon.status.values import (
    decision_topics,
    decision_values,
    fill_values,
    predictions_values,
    targets_values,
)
from daemon.wiring.core import universe_of
from daemon.wiring.instruments import read_instruments
from daemon.wiring.operating import Wish, ask

DAYS_BACK: Final = 30
DECISIONS_KEPT: Final = 200
FILLS_KEPT: Final = 200
CANDLES_DAYS: Final = 10
JOURNAL: Final = "journal.sqlite"
ANSWER_S_MAX: Final = 10.0


@dataclass(frozen=True, slots=True)
class Before:
    """Hold what happened before the page began: the trail, decisions and fills as they are told.

    states: what the newest decision wanted and why, as topics.
    """

    points: tuple[Point, ...]
    decisions: tuple[dict[str, Any], ...]
    fills: tuple[dict[str, Any], ...]
    states: dict[str, dict[str, Any]]


class Past:
    """Answer for one state folder; all raise EquipoiseError where it cannot be read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journal = JournalReader(folder / JOURNAL)

    def before(self) -> Before:
        """Read the last DAYS_BACK days of market time."""
        newest_ms = self._journal.last_event_ms or 0
        from_ms, universe = newest_ms - DAYS_BACK * DAY_MS, self._universe
        points: list[Point] = []
        decisions: list[dict[str, Any]] = []
        newest: Decision | None = None
        for newest in self._journal.decisions(from_ms):
            told = decision_values(newest, universe.symbols)
            points.append(
                (told["as_of_ms"], told["equity"], told["gross_weight"], told["net_weight"], None)
            )
            decisions = [*decisions[-DECISIONS_KEPT + 1 :], told]
        fills = [fill_values(fill) for fill in self._journal.fills(from_ms)][-FILLS_KEPT:]
        wanted = {} if newest is None else dict(decision_topics(universe, newest))
        wanted.pop("decision", None)
        past = tuple(map(plain, decisions)), tuple(map(plain, fills))
        return Before(tuple(points), *past, plain(wanted))

    def decision(self, at_ms: int) -> dict[str, Any] | None:
        """Give everything that led from bars to fills at one instant; None without a decision."""
        found = list(self._journal.decisions(at_ms, at_ms + 1))
        if not found:
            return None
        decision, universe = found[-1], self._universe
        ours = {order.order_id for order in decision.orders}
        # what a decision ordered fills before the next one, and at the latest within a day
        fills = [f for f in self._journal.fills(at_ms, at_ms + DAY_MS) if f.order_id in ours]
        return _told(decision, universe, fills, self._bars(at_ms))

    def _bars(self, at_ms: int) -> dict[int, list[Any]]:
        """Give the source bars that closed at an instant by column, in the order of `Field`."""
        rows: dict[int, list[Any]] = {}
        for bars in self._journal.bars(at_ms, at_ms + 1):
            for index in np.flatnonzero(bars.proof).tolist():
                rows[index] = plain(bars.values[index])
        return rows

    def candles(self, symbol: str) -> dict[str, Any]:
        """Give the source bars of the last CANDLES_DAYS days, and the fills among them."""
        columns = {name: index for index, name in self._universe.taken()}
        index = columns.get(symbol)
        if index is None:
            return {"symbol": symbol, "bars": [], "fills": []}
        from_ms = (self._journal.last_event_ms or 0) - CANDLES_DAYS * DAY_MS
        rows: dict[int, list[Any]] = {}
        for bars in self._journal.bars(from_ms):
            if bars.proof[index]:
                rows[bars.close_ms] = [bars.close_ms, *bars.values[index].tolist()]
        fills = [fill_values(f) for f in self._journal.fills(from_ms) if f.index == index]
        return {
            "symbol": symbol,
            "bars": plain([rows[ms] for ms in sorted(rows)]),
            "fills": plain(fills),
        }

    def command(self, wanted: Wanted) -> dict[str, Any]:
        """Leave a request for the daemon and wait for its answer."""
        wish = Wish(
            wanted.action,
            wanted.request_id,
            ANSWER_S_MAX,
            reason="on the status page",
            clear_latch=wanted.clear_latch,
        )
        told = ask(self._folder, wish)
        answer = None if told.answer is None else msgspec.to_builtins(told.answer)
        return {"request_id": told.request_id, "answer": answer, "cleared": len(told.cleared)}

    @property
    def _universe(self) -> Universe:
        return universe_of(read_instruments(self._folder))


def _told(
    decision: Decision, universe: Universe, fills: list[Fill], bars: Mapping[int, list[Any]]
) -> dict[str, Any]:
    targets = targets_values(universe, decision)
    predictions = predictions_values(universe, decision)
    ordered = {order.index: order for order in decision.orders}
    refused = {refusal.order.index: refusal for refusal in decision.refusals}
    rows = []
    for index, symbol in universe.taken():
        mark = float(decision.marks[index])
        row = {
            "symbol": symbol,
            "bar": bars.get(index),
            "mark": mark,
            "predictions": predictions.get(symbol, {}),
            "before": float(decision.weights_before[index]),
            **targets.get(symbol, {}),
            **_rounding(decision, index, mark),
        }
        if index in ordered:
            order = ordered[index]
            row |= {"order_id": order.order_id, "quantity": order.quantity, "kind": order.kind}
            row["order_weight"] = float(order.quantity) * mark / decision.equity
        if index in refused:
            row |= {"refused": refused[index].reason, "refused_why": refused[index].detail}
        mine = [fill for fill in fills if fill.index == index]
        row["fills"] = [fill_values(fill) for fill in mine]
        rows.append(row)
    told: dict[str, Any] = plain({**decision_values(decision, universe.symbols), "rows": rows})
    told["bars_digest"] = decision.bars_digest
    return told


def _rounding(decision: Decision, index: int, mark: float) -> dict[str, Any]:
    """Give the trade that the target asks for, before lots: weight and signed base units."""
    target = decision.target
    if target is None:
        return {}
    weight = float(target.weights[index] - decision.weights_before[index])
    return {"trade_weight": weight, "wanted": weight * decision.equity / mark if mark > 0 else None}
