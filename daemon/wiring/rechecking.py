"""Compute again, by the very functions of the engine, what a journal recorded of one decision.

The engine is brought to just before the decision: from the newest snapshot before it, else from the
first entry. Then the recorded events are processed once more. What the strategy is shown and
answers, what the planner makes of it and what orders come out is compared with the record; windows
are compared by their hash, forecasts by asking the model again, fills of the paper venue by its
rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np

from adapters.journal import JournalReader
from adapters.paper.rule import FillRule, Terms
from daemon import codec
from daemon.domain.bar import Field, Floats, Window
from daemon.domain.decision import Decision
from daemon.domain.failures import EquipoiseError, JournalError
from daemon.domain.instrument import Instrument
from daemon.domain.messages import BarsClosed, Decided, Estimate, OrderFilled, RecordedEstimate
from daemon.domain.order import OUTSIDE, Fill, OrderKind
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import Timeframe
from daemon.domain.view import View
from daemon.engine.engine import Engine
from daemon.engine.planning import Draft, Planner
from daemon.engine.state import SCHEMA
from daemon.ports import Entry, Strategy
from daemon.report.explanation import place_of
from daemon.report.recheck import FORECAST_TOLERANCE, Check, compared, unknown
from daemon.report.story import Story
from daemon.runtime.recovery import replay_entry
from daemon.settings import Settings
from daemon.wiring.core import combined_timeframes, paper_settings, timeframes_of, universe_of
from daemon.wiring.explaining import reader_of
from daemon.wiring.instruments import read_instruments
from daemon.wiring.recovery import Stretches, recorded_settings

_SIGNALS: Final = ("magnitude", "consistency", "confidence", "alpha", "variance", "strength")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Rechecked:
    """Hold all comparisons, and the newest feature values by timeframe and name."""

    checks: tuple[Check, ...]
    features: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    entries_n: int = 0


class _Witness:
    """Stand in for a strategy, and keep what it was shown, what it said and what was planned."""

    def __init__(self, strategy: Strategy, engine: Engine, as_of_ms: int, index: int) -> None:
        self._strategy, self._engine, self._as_of_ms = strategy, engine, as_of_ms
        self._index = index
        self.target: TargetPortfolio | None = None
        self.weights: Floats | None = None
        self.equity = 0.0
        self.marks: Floats | None = None
        self.planned: Decimal | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)

    def decide(self, state: Any, view: View) -> Any:
        """Let the strategy decide; keep it if it is the decision that is asked about."""
        answer = self._strategy.decide(state, view)
        if view.as_of_ms == self._as_of_ms and self.target is None:
            self.target = answer[1]
            self.weights, self.equity, self.marks = view.weights, view.equity, view.marks
            self.planned = self._plan(answer[1], view)
        return answer

    def _plan(self, target: TargetPortfolio, view: View) -> Decimal:
        """Give what the planner makes of a target for the instrument, in base units."""
        engine = self._engine
        draft = Draft(view.as_of_ms, "", (), view.equity, view.marks, view.weights, ())
        planner = Planner(engine.state, engine.rules.limits, engine.rules.execution)
        legs = planner.plan(draft, target, engine.rules.id_prefix).legs
        return sum((leg.left for leg in legs if leg.index == self._index), Decimal(0))


@dataclass(slots=True)
class _Replayed:
    """Hold what came out of the entries from the first forecast in use to the last fill."""

    witness: _Witness | None = None
    entries_n: int = 0
    differs: str = ""
    decision: Decision | None = None
    asked: list[tuple[RecordedEstimate, tuple[Window, ...]]] = field(default_factory=list)
    bars: dict[int, BarsClosed] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)


def recheck(folder: Path, story: Story, progress: Progress) -> Rechecked:
    """Compare all that can be computed again with the record; progress: entry, and how many.

    Raises JournalError and BrokenChain as the journal does. What cannot be computed, as for want of
    the model, is a check of its own that says why.
    """
    reader = reader_of(folder)
    starts = recorded_settings(reader)
    last = _last_entry(story)
    first = min([seen.entry for seen in story.windows.values()] + [_first_entry(story)])
    replayed = _replay(reader, folder, story, (first, last), progress)
    settings = [s for begun, s in starts if begun <= last][-1]
    instruments = read_instruments(folder)
    checks = [*_whole(story, replayed)]
    features, asked = _model_again(settings, story, replayed)
    checks += [*_windows_again(story, replayed), *asked]
    checks += [*_target_again(story, replayed), *_orders_again(story, replayed)]
    if story.knobs.fee_bps is not None and story.index != OUTSIDE:
        checks += _fills_again(settings, story, replayed, instruments[story.index])
    return Rechecked(tuple(checks), features, replayed.entries_n)


def _first_entry(story: Story) -> int:
    entries = [bar.entry for bar in story.bars] + [life.entry for life in story.orders]
    return min([*entries, story.decided_entry or last_of(entries)])


def last_of(entries: list[int]) -> int:
    """Give the largest, 1 of none."""
    return max(entries, default=1)


def _last_entry(story: Story) -> int:
    fills = [one.entry for life in story.orders for one in life.fills]
    orders = [life.entry for life in story.orders]
    return last_of([*fills, *orders, story.decided_entry or 1])


# ---- the engine again ----------------------------------------------------------------------------


def _replay(
    reader: JournalReader, folder: Path, story: Story, span: tuple[int, int], progress: Progress
) -> _Replayed:
    first, last = span
    snapshot = reader.last_snapshot(before=first)
    if snapshot is not None and snapshot.schema != SCHEMA:
        snapshot = None
    start = 0 if snapshot is None else snapshot.sequence
    starts = recorded_settings(reader)
    before = [s for begun, s in starts if begun <= start]
    stretch = Stretches(universe_of(read_instruments(folder)), [s for s in starts if s[0] > start])
    if before or starts:
        stretch.begin(before[-1] if before else starts[0][1])
    if snapshot is not None:
        stretch.engine.restore(codec.decode(snapshot.state, dict[str, Any]))
    found = _Replayed()
    engine: Engine | None = None
    for entry in reader.read_from(start + 1):
        if entry.sequence > last:
            break
        present = stretch.at(entry)
        if present is not engine and entry.sequence >= first:
            engine = present
            _watch(found, engine, story)
        _step(found, present, entry, first, story)
        if entry.sequence % 256 == 0:
            progress(entry.sequence - start, last - start)
    return found


def _watch(found: _Replayed, engine: Engine, story: Story) -> None:
    """Put a witness in the strategy's place; after a restart in between into the new engine's."""
    if found.witness is not None and found.witness.target is not None:
        return
    found.witness = _Witness(engine.strategy, engine, story.as_of_ms, story.index)
    engine.strategy = found.witness


def _step(found: _Replayed, engine: Engine, entry: Entry, first: int, story: Story) -> None:
    """Process an entry; raises JournalError where it does not come out before the decision."""
    if entry.sequence < first:
        divergence = replay_entry(engine, entry)
        if divergence is not None:
            raise JournalError(f"the journal cannot be reproduced up to the decision: {divergence}")
        return
    commands = engine.process(entry.event)
    found.entries_n += 1
    again = [codec.encode_message(codec.recorded(one)) for one in commands]
    if again != [codec.encode_message(one) for one in entry.commands] and not found.differs:
        found.differs = f"entry {entry.sequence}"
    recorded = [c for c in entry.commands if isinstance(c, RecordedEstimate)]
    asked = [c.windows for c in commands if isinstance(c, Estimate)]
    found.asked += list(zip(recorded, asked, strict=False))
    for command in commands:
        if isinstance(command, Decided) and entry.sequence == story.decided_entry:
            found.decision = command.decision
    if isinstance(entry.event, BarsClosed):
        found.bars[entry.event.close_ms] = entry.event
    elif isinstance(entry.event, OrderFilled):
        found.fills.append(entry.event.fill)


def _whole(story: Story, replayed: _Replayed) -> Iterator[Check]:
    name = f"commands of {replayed.entries_n} entries, byte by byte"
    yield compared("bars", name, "as recorded", replayed.differs or "as recorded")


# ---- windows, features, forecasts ----------------------------------------------------------------


def _windows_again(story: Story, replayed: _Replayed) -> Iterator[Check]:
    made = {}
    for _, windows in replayed.asked:
        digests = codec.recorded(Estimate(0, windows))
        if isinstance(digests, RecordedEstimate):
            made.update({(w.timeframe, w.newest_ms): w.digest for w in digests.windows})
    for timeframe, seen in story.windows.items():
        again = made.get((timeframe, seen.window.newest_ms))
        yield compared("features", f"window {timeframe.label}", seen.window.digest, again)


def _model_again(
    settings: Settings, story: Story, replayed: _Replayed
) -> tuple[dict[str, dict[str, float]], list[Check]]:
    """Ask the model again; gives the newest feature values by timeframe, and the comparisons."""
    decision = story.decision
    if decision is None or not decision.predictions or story.index == OUTSIDE:
        return {}, []
    features: dict[str, dict[str, float]] = {}
    checks: list[Check] = []
    for model_id in dict.fromkeys(p.model_id for p in decision.predictions):
        mine = [p for p in decision.predictions if p.model_id == model_id]
        try:
            made = _estimated(settings, model_id, mine, replayed, story.index)
        except EquipoiseError as e:
            checks += [unknown("predictions", p.timeframe.label, str(e)) for p in mine]
            continue
        features.update(made.features)
        for p in mine:
            label, i = p.timeframe.label, story.index
            if p.timeframe not in made.found:
                why = "its window is not among the entries that were read"
                checks.append(unknown("predictions", label, why))
                continue
            mean, variance = made.found[p.timeframe]
            rows = (
                ("mean", p.mean[i], mean),
                ("standard error", sqrt(p.variance[i]), sqrt(variance)),
            )
            for name, recorded, again in rows:
                checks.append(
                    compared(
                        "predictions",
                        f"{label} {name}",
                        float(recorded),
                        float(again),
                        FORECAST_TOLERANCE,
                    )
                )
    return features, checks


@dataclass(slots=True)
class _Estimated:
    """Hold forecasts of the instrument (mean, variance) by timeframe, and its features."""

    found: dict[Timeframe, tuple[float, float]] = field(default_factory=dict)
    features: dict[str, dict[str, float]] = field(default_factory=dict)


def _estimated(
    settings: Settings, model_id: str, wanted: list[Any], replayed: _Replayed, index: int
) -> _Estimated:
    """Let the model forecast from the windows that the engine asked with, all of a call at once.

    Raises ModelError where it is not in the registry any more, reads more than bars or is damaged.
    """
    from strategies.forecast.inference import (
        build,
    )  # takes SciPy and torch, which few commands need
    from strategies.forecast.inputs.features import FEATURE_NAMES
    from strategies.forecast.inputs.newest import FeatureRows

    config: dict[str, Any] = {"kind": settings.estimator.kind}
    if settings.estimator.kind == "model":
        config = {
            "kind": "network",
            "model": str(Path(settings.estimator.models_folder) / model_id),
            "timeframes_minutes": [t.minutes for t in timeframes_of(settings)],
            "combined_minutes": [t.minutes for t in combined_timeframes(settings)],
        }
    estimator, made = build(config), _Estimated()
    needed = {(p.timeframe, p.as_of_ms) for p in wanted}
    for recorded, windows in replayed.asked:
        if not needed & {(window.timeframe, window.newest_ms) for window in windows}:
            continue
        answer = estimator.estimate(recorded.as_of_ms, windows)
        for p in answer.predictions:
            if (p.timeframe, p.as_of_ms) in needed:
                made.found[p.timeframe] = (float(p.mean[index]), float(p.variance[index]))
        if settings.estimator.kind != "model":
            continue
        bars = getattr(estimator, "sequence_bars", 0)
        for window, rows in zip(windows, FeatureRows(bars).newest(windows), strict=True):
            newest = rows[-1, index].tolist()
            made.features[window.timeframe.label] = dict(zip(FEATURE_NAMES, newest, strict=True))
    return made


# ---- the strategy, the plan, the orders ----------------------------------------------------------


def _target_again(story: Story, replayed: _Replayed) -> Iterator[Check]:
    decision, witness, i = story.decision, replayed.witness, story.index
    if decision is None or decision.target is None or i == OUTSIDE:
        return
    again = None if witness is None else witness.target
    if witness is None or again is None or witness.weights is None or witness.marks is None:
        why = "the strategy was not asked at this instant (an operator or the engine decided)"
        yield unknown("weights", "target", why)
        return
    old = decision.target
    if old.signals is not None and again.signals is not None:
        for name in _SIGNALS:
            recorded, now = (float(getattr(s.signals, name)[i]) for s in (old, again))
            step = "combination" if name in _SIGNALS[:3] else "strength"
            yield compared(step, name, recorded, now)
        place, now_place = place_of(old, i), place_of(again, i)
        rank = None if place is None else place[0]
        yield compared("rank", "rank", rank, None if now_place is None else now_place[0])
    yield compared("weights", "ideal", float(old.ideal[i]), float(again.ideal[i]))
    held = float(decision.weights_before[i])
    yield compared("weights", "held", held, float(witness.weights[i]))
    yield compared("weights", "equity", decision.equity, witness.equity)
    yield compared("band", "half-width", float(old.band[i]), float(again.band[i]))
    yield compared("band", "target", float(old.weights[i]), float(again.weights[i]))
    yield compared("rounding", "mark", float(decision.marks[i]), float(witness.marks[i]))


def _orders_again(story: Story, replayed: _Replayed) -> Iterator[Check]:
    decision, again, i = story.decision, replayed.decision, story.index
    if decision is None:
        return
    if again is None:
        yield unknown("order", "decision", "its record did not come out again")
        return
    yield compared("order", "hash of the whole decision", decision.digest, again.digest)
    sent = sum((o.quantity for o in decision.orders if o.index == i), Decimal(0))
    planned = None if replayed.witness is None else replayed.witness.planned
    left = bool(decision.refusals) or "unsent" in decision.note or "superseded" in decision.note
    if planned is not None and i != OUTSIDE and not left:
        yield compared("rounding", "quantity planned in whole lots", sent, planned)
    made = {o.order_id: o for o in again.orders}
    for life in story.orders:
        order = life.order
        now = made.get(order.order_id)
        yield compared("risk", f"{order.order_id} approved", "yes", "yes" if now else "no")
        quantity = None if now is None else now.quantity
        yield compared("order", f"{order.order_id} quantity", order.quantity, quantity)
    refused = {r.order.order_id: r.reason for r in again.refusals}
    for one in decision.refusals:
        if one.order.index == i:
            name = f"{one.order.order_id} refused"
            yield compared("risk", name, str(one.reason), str(refused.get(one.order.order_id)))


# ---- the paper venue's fills ---------------------------------------------------------------------


def _fills_again(
    settings: Settings, story: Story, replayed: _Replayed, begun: Instrument
) -> Iterator[Check]:
    """Price the fills again by the one fill rule, from the bars that were there."""
    rule = FillRule(paper_settings(settings))
    rules = story.rules or begun.rules
    terms = Terms.of(
        story.index, Instrument(begun.key, begun.base, begun.quote, begun.settle, rules)
    )
    for life in story.orders:
        for seen in life.fills:
            fill, name = seen.fill, f"{seen.fill.trade_id}"
            fee = rule.fee(abs(fill.quantity) * fill.price)
            yield compared("fills", f"{name} fee", fill.fee, fee)
            bars = replayed.bars.get(fill.at_ms)
            if life.order.kind is not OrderKind.MARKET or bars is None:
                why = "a limit order fills at its own price" if bars else "its bar was not read"
                yield unknown("fills", f"{name} price", why)
                continue
            reference = float(bars.opens[story.index])
            volume = float(bars.values[story.index, Field.VOLUME])
            if not np.isfinite(reference) or not np.isfinite(volume):
                yield unknown("fills", f"{name} price", "no bar tells its reference")
                continue
            used = _used(replayed, fill)
            price = rule.price(terms, reference, fill.quantity, used, volume)
            yield compared("fills", f"{name} price", fill.price, price)


def _used(replayed: _Replayed, fill: Fill) -> Decimal:
    """Give what was filled of the instrument at the same instant before this fill."""
    used = Decimal(0)
    for one in replayed.fills:
        if one.trade_id == fill.trade_id:
            break
        if one.key == fill.key and one.at_ms == fill.at_ms:
            used += abs(one.quantity)
    return used
