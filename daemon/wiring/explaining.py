"""Gather from a journal alone what one order, or one instrument at one decision, came from.

An order's id holds the instant of its decision, so that only the entries about it are read; where
it does not, the whole journal is. Every entry that is read is checked against the hash chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Final

import numpy as np

from adapters.journal import JournalReader
from adapters.model_store import ModelStore
from daemon.domain.bar import Proof
from daemon.domain.decision import Decision
from daemon.domain.failures import ConfigurationError, DataError, EquipoiseError
from daemon.domain.instrument import InstrumentKey, TradingRules
from daemon.domain.messages import (
    BarsClosed,
    Decided,
    EstimatesReady,
    Event,
    InstrumentChanged,
    OrderAbsent,
    OrderAccepted,
    OrderEnded,
    OrderFilled,
    OrderRejected,
    OrderUncertain,
    RecordedEstimate,
    Revised,
    Submit,
    event_ms,
)
from daemon.domain.order import OUTSIDE, Order, OrderId
from daemon.domain.units import HOUR_MS, Timeframe, instant_ms, iso
from daemon.ports import Entry
from daemon.report.story import (
    Answer,
    AnswerKind,
    Knobs,
    OrderLife,
    SeenBar,
    SeenFill,
    SeenWindow,
    Story,
)
from daemon.settings import Settings
from daemon.wiring.core import AUTO, LIVE_FILE, combination_of, strategy_of, timeframes_of
from daemon.wiring.instruments import JOURNAL_FILE, read_instruments
from daemon.wiring.recovery import recorded_settings

# prefix, seconds since the epoch in 8 hex digits, what tells decisions of one instant apart,
# column, number of the child
_ORDER_ID: Final = re.compile(r"([0-9a-f]{8})(?:x\d+|o)?-\d+-\d+$")
DEFAULT_RULE: Final = "strength"  # of `auto` where no model says otherwise
_LATEST: Final = "latest"
_BRIDGED: Final = 3  # bars of a timeframe that its forecast in use may be old, and one to be sure


@dataclass(frozen=True, slots=True)
class _Asked:
    """Hold what is looked for: an order, or an instrument at a decision."""

    text: str
    order_id: OrderId | None
    index: int | None
    as_of_ms: int | None  # of the decision, as far as it is known


@dataclass(slots=True)
class _Gathered:
    """Hold what was seen of the decision while its entries were read."""

    decision: Decision | None = None
    decided_entry: int | None = None
    lives: dict[OrderId, OrderLife] = field(default_factory=dict)
    bars: list[tuple[Entry, BarsClosed]] = field(default_factory=list)
    revised: list[Revised] = field(default_factory=list)
    windows: list[tuple[int, RecordedEstimate]] = field(default_factory=list)
    answered: dict[tuple[Timeframe, int], int] = field(default_factory=dict)  # by newest bar
    rule: str = ""  # of combination that the newest answer's model asks for


def reader_of(folder: Path) -> JournalReader:
    """Open the journal of a state folder; raises DataError where there is none."""
    path = folder / JOURNAL_FILE
    if not path.exists():
        raise DataError(f"{path}: there is no journal; --state names another folder?")
    return JournalReader(path)


def story_of(folder: Path, asked: str) -> Story:
    """Gather the chain of an order id or of SYMBOL@INSTANT (or SYMBOL@latest).

    Raises DataError where the journal knows no such order or decision, ConfigurationError for what
    can be neither, BrokenChain and JournalError as the journal does.
    """
    reader = reader_of(folder)
    wanted = _asked(folder, reader, asked)
    starts = recorded_settings(reader)
    gathered = _gather(reader, wanted, _reach(starts))
    if gathered is None and wanted.order_id is not None:  # its name does not tell its instant
        gathered = _gather(reader, _Asked(asked, wanted.order_id, None, None), _reach(starts))
    if gathered is None:
        raise DataError(
            f"{reader.path}: no order {asked!r}; `equipoise orders` lists them, and "
            "SYMBOL@INSTANT asks for a decision"
        )
    return _story(folder, reader, wanted, gathered, starts)


def order_instant(order_id: str) -> int | None:
    """Read the instant of its decision off an order's id; None where it holds none."""
    found = _ORDER_ID.search(order_id)
    return None if found is None else 1000 * int(found[1], 16)


# ---- what is asked for ---------------------------------------------------------------------------


def _asked(folder: Path, reader: JournalReader, text: str) -> _Asked:
    symbol, at, instant = text.partition("@")
    if not at:
        return _Asked(text, OrderId(text), None, order_instant(text))
    instruments = read_instruments(folder)
    found = [i for i, one in enumerate(instruments) if symbol.upper() in _names(one.key, one.base)]
    if not found:
        known = ", ".join(one.base for one in instruments if not one.is_spare)
        raise DataError(f"{symbol!r}: no instrument of this book, which holds {known}")
    if len(found) > 1:
        named = ", ".join(str(instruments[i].key) for i in found)
        raise ConfigurationError(f"{symbol!r} could be {named}: say which")
    if instant == _LATEST:
        last = reader.last_decided_ms
        if last is None:
            raise DataError(f"{reader.path}: no decision yet")
        return _Asked(text, None, found[0], last)
    return _Asked(text, None, found[0], _instant(instant))


def _names(key: InstrumentKey, base: str) -> set[str]:
    """Give what people call an instrument, in capitals."""
    pair = key.symbol.partition(":")[0]
    names = {base, pair, key.symbol, pair.replace("/", ""), str(key)}
    return {name.upper() for name in names}


def _instant(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as e:
        raise ConfigurationError(
            f"{text!r} is no instant; want one like 2026-01-31T13:00 (UTC), or `{_LATEST}`"
        ) from e
    return instant_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


# ---- reading -------------------------------------------------------------------------------------


def _reach(starts: Sequence[tuple[int, Settings]]) -> int:
    """Give how long before a decision, in ms, something that it still uses may have come."""
    frames = [t for _, settings in starts for t in timeframes_of(settings)]
    return _BRIDGED * max((t.ms for t in frames), default=HOUR_MS)


def _gather(reader: JournalReader, wanted: _Asked, reach_ms: int) -> _Gathered | None:
    """Read from where the decision's first bars came until nothing more can come of its orders."""
    first: int | None = 1
    if wanted.as_of_ms is not None:
        first = reader.first_from(BarsClosed, wanted.as_of_ms - reach_ms)
    if first is None:
        return None
    seen = _Gathered()
    for entry in reader.read_from(first):
        _see(seen, entry, wanted)
        if _is_whole(seen, wanted) or _is_too_late(seen, entry, wanted):
            break
    found = seen.lives if wanted.order_id is not None else seen.decision
    return seen if found else None


def _is_whole(seen: _Gathered, wanted: _Asked) -> bool:
    mine = [life for life in seen.lives.values() if _is_meant(life.order, wanted)]
    found = bool(mine) or wanted.order_id is None
    return seen.decision is not None and found and all(life.is_over for life in mine)


def _is_too_late(seen: _Gathered, entry: Entry, wanted: _Asked) -> bool:
    """Tell whether the entries are past where the order or decision must have begun."""
    at_ms = wanted.as_of_ms
    if at_ms is None or seen.decision is not None or seen.lives:
        return False
    return isinstance(entry.event, BarsClosed) and entry.event.close_ms > at_ms + 2 * HOUR_MS


def _is_meant(order: Order, wanted: _Asked) -> bool:
    if wanted.order_id is not None:
        return order.order_id == wanted.order_id
    return order.index == wanted.index and order.as_of_ms == wanted.as_of_ms


def _see(seen: _Gathered, entry: Entry, wanted: _Asked) -> None:
    match entry.event:
        case BarsClosed():
            seen.bars.append((entry, entry.event))
        case Revised():
            seen.revised.append(entry.event)
        case EstimatesReady(estimates=estimates):
            for p in estimates.predictions:
                seen.answered[p.timeframe, p.as_of_ms] = entry.sequence
            if estimates.reading is not None and seen.decision is None:
                seen.rule = estimates.reading.rule
        case OrderFilled(fill=fill) if fill.order_id in seen.lives:
            seen.lives[fill.order_id].fills.append(SeenFill(fill, entry.sequence))
        case _:
            _hear(seen, entry)
    for command in entry.commands:
        if isinstance(command, RecordedEstimate):
            seen.windows.append((entry.sequence, command))
        elif isinstance(command, Submit) and _is_meant(command.approved.order, wanted):
            order = command.approved.order
            seen.lives[order.order_id] = OrderLife(order, entry.sequence, event_ms(entry.event))
        elif isinstance(command, Decided) and seen.decision is None:
            _decided(seen, entry, command.decision, wanted)


def _decided(seen: _Gathered, entry: Entry, decision: Decision, wanted: _Asked) -> None:
    """Keep the decision if it is the one: that gave the order, or the strategy's at the instant."""
    if wanted.order_id is not None:
        mine = any(order.order_id == wanted.order_id for order in decision.orders)
    else:
        mine = decision.as_of_ms == wanted.as_of_ms
    if mine:
        seen.decision, seen.decided_entry = decision, entry.sequence


def _hear(seen: _Gathered, entry: Entry) -> None:
    said = word(entry.event)
    if said is not None and (life := seen.lives.get(said[0])) is not None:
        life.answers.append(Answer(said[1], entry.sequence, event_ms(entry.event), said[2]))


def word(event: Event) -> tuple[OrderId, AnswerKind, str] | None:
    """Give what an event says of which order besides a fill, and why; None where nothing."""
    match event:
        case OrderAccepted(order_id=name):
            return name, AnswerKind.ACCEPTED, ""
        case OrderRejected(order_id=name, reason=why):
            return name, AnswerKind.REJECTED, why
        case OrderUncertain(order_id=name, reason=why):
            return name, AnswerKind.UNCERTAIN, why
        case OrderAbsent(order_id=name):
            return name, AnswerKind.ABSENT, ""
        case OrderEnded(order_id=name, reason=why):
            return name, AnswerKind.ENDED, why
        case _:
            return None


# ---- putting together ----------------------------------------------------------------------------


def _story(
    folder: Path,
    reader: JournalReader,
    wanted: _Asked,
    seen: _Gathered,
    starts: Sequence[tuple[int, Settings]],
) -> Story:
    lives = tuple(life for life in seen.lives.values() if _is_meant(life.order, wanted))
    order = lives[0].order if lives else None
    index = order.index if order is not None else wanted.index
    as_of_ms = seen.decision.as_of_ms if seen.decision is not None else wanted.as_of_ms
    if index is None or as_of_ms is None:
        as_of_ms, index = (order.as_of_ms, order.index) if order is not None else (0, OUTSIDE)
    instruments = read_instruments(folder)
    key = order.key if order is not None else instruments[index].key
    entry = seen.decided_entry or (lives[0].entry if lives else 1)
    settings = [s for first, s in starts if first <= entry][-1]
    decision = seen.decision
    models = {} if decision is None else _models(settings, decision)
    children = () if decision is None else decision.orders
    return Story(
        asked=wanted.text,
        key=key,
        rules=None if index == OUTSIDE else _rules(reader, instruments[index].rules, index, entry),
        index=index,
        as_of_ms=as_of_ms,
        names_n=sum(1 for one in instruments if not one.is_spare),
        decision=decision,
        decided_entry=seen.decided_entry,
        bars=() if index == OUTSIDE else tuple(_bars(seen, index, as_of_ms, settings)),
        windows={} if decision is None else _windows(seen, decision),
        answered={}
        if decision is None
        else {
            p.timeframe: seen.answered[p.timeframe, p.as_of_ms]
            for p in decision.predictions
            if (p.timeframe, p.as_of_ms) in seen.answered
        },
        models=models,
        orders=lives,
        siblings_n=sum(1 for one in children if one.index == index),
        knobs=_knobs(settings, seen.rule, is_paper=not (folder / LIVE_FILE).exists()),
    )


def _rules(reader: JournalReader, begun: TradingRules, index: int, entry: int) -> TradingRules:
    """Give the trading rules that held at an entry: those of the beginning, or what was heard."""
    told = takewhile(lambda e: e.sequence <= entry, reader.entries_of(InstrumentChanged))
    changes = (e.event for e in told)
    found = [
        c.instrument.rules for c in changes if isinstance(c, InstrumentChanged) and c.index == index
    ]
    return found[-1] if found else begun


def _bars(seen: _Gathered, index: int, as_of_ms: int, settings: Settings) -> Iterator[SeenBar]:
    """Give the source bars of the newest bar of the longest timeframe that ends here."""
    source = Timeframe.parse(settings.market.source)
    closing = [t for t in timeframes_of(settings) if t.closes_at(as_of_ms)]
    since_ms = as_of_ms - max((t.ms for t in closing), default=source.ms)
    later = {r.close_ms: r.after for r in seen.revised if r.index == index}
    for entry, bars in seen.bars:
        row = bars.values[index]
        if not since_ms < bars.close_ms <= as_of_ms or not np.isfinite(row).any():
            continue
        noted = None if bars.proven_ms is None else int(bars.proven_ms[index])
        yield SeenBar(
            bars.close_ms,
            row,
            Proof(int(bars.proof[index])),
            noted or None,
            entry.sequence,
            later.get(bars.close_ms),
        )


def _windows(seen: _Gathered, decision: Decision) -> dict[Timeframe, SeenWindow]:
    """Give the windows that the decision's forecasts were made of."""
    found = {}
    for prediction in decision.predictions:
        for entry, asked in seen.windows:
            for window in asked.windows:
                same = window.newest_ms == prediction.as_of_ms
                if same and window.timeframe == prediction.timeframe:
                    found[prediction.timeframe] = SeenWindow(window, entry)
    return found


def _models(settings: Settings, decision: Decision) -> dict[str, str]:
    """Say of each model what the registry knows; its files are checked against its id there."""
    store = ModelStore(settings.estimator.models_folder)
    return {name: _model(settings, store, name) for name in _ids(decision)}


def _ids(decision: Decision) -> Iterable[str]:
    return dict.fromkeys(p.model_id for p in decision.predictions)


def _model(settings: Settings, store: ModelStore, name: str) -> str:
    if settings.estimator.kind != "model":
        return f"a rule, not learned (estimator.kind = {settings.estimator.kind})"
    try:
        manifest = store.show(name).manifest
    except EquipoiseError as e:
        return f"cannot be looked at now: {e}"
    learned = f"{iso(manifest.data.from_ms)} to {iso(manifest.data.to_ms)}"
    origin = f"{manifest.origin.kind}: {manifest.origin.name}"
    return f"{manifest.kind}, learned from {origin}, {learned}; its files agree with its hash"


def _knobs(settings: Settings, told: str, *, is_paper: bool) -> Knobs:
    risk = settings.risk
    rule = str(combination_of(settings)) if strategy_of(settings).needs_estimates else ""
    if rule == AUTO:
        rule = told or DEFAULT_RULE
    return Knobs(
        strategy=settings.strategy.name,
        rule=rule,
        net_weight_max=risk.net_weight_max,
        gross_weight_max=risk.gross_weight_max,
        name_weight_max=risk.name_weight_max,
        order_weight_max=risk.order_weight_max,
        fee_bps=float(settings.paper.fee_bps) if is_paper else None,
    )
