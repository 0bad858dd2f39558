"""Put the chain from bars to fills into words: what decided one order, step by step.

Each step says in plain words what the journal holds, gives the same as values for programs, and
names what is missing, so that `gaps` is empty where the whole chain can be told. Weights are signed
fractions of equity; forecasts are in residual volatilities over six hours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import numpy as np

from daemon.domain.bar import Field, Proof
from daemon.domain.order import OUTSIDE, Fill
from daemon.domain.portfolio import TargetPortfolio
from daemon.domain.units import iso
from daemon.report.figures import amount, counted, percent, price, short_symbol
from daemon.report.story import AnswerKind, OrderLife, SeenBar, Story

BPS: Final = 10_000
_PROOFS: Final = {
    Proof.ABSENT: "absent",
    Proof.SUCCESSOR: "final: the stream showed the next bar",
    Proof.REREAD: "final: read again by REST after its close",
    Proof.HISTORY: "final: read from stored history",
    Proof.DERIVED: "final: built of final source bars",
}


@dataclass(frozen=True, slots=True)
class Step:
    """Hold one step of the chain; gap: what the journal should hold and does not, '' if nothing."""

    name: str
    lines: tuple[str, ...]
    values: Mapping[str, Any]
    gap: str = ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Hold all steps, in the order in which they happened."""

    asked: str
    symbol: str
    as_of_ms: int
    summary: str
    steps: tuple[Step, ...]

    @property
    def gaps(self) -> tuple[str, ...]:
        """Name what is missing, with its step."""
        return tuple(f"{step.name}: {step.gap}" for step in self.steps if step.gap)


def explain(story: Story) -> Explanation:
    """Tell the chain of a story; every number is the journal's, or follows from the ones shown."""
    told: list[Callable[[Story], Step]] = [_bars]
    if _is_chosen(story):
        told += [_features, _model, _predictions, _combination, _strength, _rank, _weights, _band]
    told += [_rounding, _risk, _order, _answers, _fills]
    return Explanation(
        story.asked,
        story.key.symbol,
        story.as_of_ms,
        _summary(story),
        tuple(make(story) for make in told),
    )


def _is_chosen(story: Story) -> bool:
    """Tell whether a strategy's target led here; orders that mend or close have none."""
    return story.index != OUTSIDE and _target(story) is not None


def _target(story: Story) -> TargetPortfolio | None:
    return None if story.decision is None else story.decision.target


def _at(values: object, index: int) -> float | None:
    """Read one instrument's number of an array; None where there is none."""
    if not isinstance(values, np.ndarray):
        return None
    value = float(values[index])
    return value if math.isfinite(value) else None


def _signed(value: float | None, places: int = 4) -> str:
    return "unknown" if value is None else f"{value:+.{places}f}"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:+.3f} %"


def _summary(story: Story) -> str:
    name, at = short_symbol(story.key.symbol), iso(story.as_of_ms)
    if not story.orders:
        return f"{name} at {at}: no order"
    orders = [life.order for life in story.orders]
    total = sum((order.quantity for order in orders), Decimal(0))
    filled = sum((f.fill.quantity for life in story.orders for f in life.fills), Decimal(0))
    verb = "buy" if total > 0 else "sell"
    return (
        f"{name} at {at}: {verb} {abs(total)} in {counted(len(orders), 'order')}, "
        f"{abs(filled)} filled"
    )


# ---- what was known ------------------------------------------------------------------------------


def _bars(story: Story) -> Step:
    if story.index == OUTSIDE:
        return Step("bars", ("beside the universe: no bars are read of it",), {})
    lines, rows = [], []
    for bar in story.bars:
        lines += _bar_lines(bar)
        values = dict(zip([f.name.lower() for f in Field], bar.values.tolist(), strict=True))
        more = {"close": iso(bar.close_ms), "proof": bar.proof.name.lower(), "entry": bar.entry}
        noted = None if bar.proven_ms is None else iso(bar.proven_ms)
        rows.append({"values": values, **more, "proven": noted, "revised": bar.later is not None})
    decision = story.decision
    if decision is not None:
        absent = story.index in decision.absent
        lines += ["it had no bar at this instant: the decision was taken without"] if absent else []
        if story.index in decision.revised:
            lines.append("a bar in its windows was revised after it had been used")
        lines.append(f"sha256 of the newest bars of every timeframe: {decision.bars_digest}")
    is_told = bool(rows) or (decision is not None and story.index in decision.absent)
    digest = None if decision is None else decision.bars_digest
    return Step(
        "bars",
        tuple(lines),
        {"bars": rows, "digest": digest},
        "" if is_told else "no source bar of the instrument before the decision",
    )


def _bar_lines(bar: SeenBar) -> list[str]:
    o, h, low, c, v = bar.values.tolist()
    late = "" if bar.proven_ms is None else f" {(bar.proven_ms - bar.close_ms) / 1000:.1f} s after"
    shown = f"closed {iso(bar.close_ms)}: open {price(o)} high {price(h)} low {price(low)} close "
    lines = [f"{shown}{price(c)} volume {v:,.6g}; {_PROOFS[bar.proof]}{late} (entry {bar.entry:,})"]
    if bar.later is not None:
        lines.append(f"  revised later: the venue then showed close {price(float(bar.later[3]))}")
    return lines


def _features(story: Story) -> Step:
    if not _predictions_of(story):
        return Step("features", ("none: this strategy reads bars, not forecasts",), {})
    lines, rows, missing = [], {}, []
    for prediction in _predictions_of(story):
        label = prediction.timeframe.label
        seen = story.windows.get(prediction.timeframe)
        if seen is None:
            missing.append(label)
            continue
        bars_n, names_n, _ = seen.window.shape
        lines.append(
            f"{label}: computed from {bars_n} bars of {names_n} instruments up to "
            f"{iso(seen.window.newest_ms)}, sha256 {seen.window.digest} (entry {seen.entry:,})"
        )
        rows[label] = {
            "newest": iso(seen.window.newest_ms),
            "shape": list(seen.window.shape),
            "sha256": seen.window.digest,
            "entry": seen.entry,
        }
    gap = f"no window recorded for {', '.join(missing)}" if missing else ""
    return Step("features", tuple(lines), {"windows": rows}, gap)


def _predictions_of(story: Story) -> tuple[Any, ...]:
    return () if story.decision is None else story.decision.predictions


def _model(story: Story) -> Step:
    if not story.models:
        return Step("model", ("none was asked",), {})
    lines = tuple(f"{name}: {words}" for name, words in story.models.items())
    return Step("model", lines, {"models": dict(story.models)})


def _predictions(story: Story) -> Step:
    lines, rows, missing = [], {}, []
    for p in _predictions_of(story):
        label, i = p.timeframe.label, story.index
        mean, variance = _at(p.mean, i), _at(p.variance, i)
        error = None if variance is None else math.sqrt(variance)
        age_h = (story.as_of_ms - p.as_of_ms) / 3_600_000
        entry = story.answered.get(p.timeframe)
        known = "says nothing of it" if mean is None else f"{_signed(mean)} ± {error or 0:.4f}"
        told = "" if entry is None else f", answered at entry {entry:,}"
        lines.append(f"{label}: {known}, made at {iso(p.as_of_ms)}, {age_h:.1f} h old{told}")
        rows[label] = {
            "mean": mean, "standard_error": error, "as_of": iso(p.as_of_ms), "age_hours": age_h,
            "model": p.model_id, "entry": entry,
        }  # fmt: skip
        missing += [label] if entry is None else []
    if not rows:
        return Step("predictions", ("none: this strategy reads no forecasts",), {})
    gap = f"the estimator's answer for {', '.join(missing)} is not there" if missing else ""
    return Step("predictions", tuple(lines), {"predictions": rows}, gap)


# ---- what was made of it -------------------------------------------------------------------------


def _combination(story: Story) -> Step:
    target = _target(story)
    signals = None if target is None else target.signals
    if signals is None:
        return Step("combination", ("nothing to combine: the strategy states no forecast",), {})
    i = story.index
    m, c, k = (_at(x, i) for x in (signals.magnitude, signals.consistency, signals.confidence))
    if m is None:
        line = "no forecast of it: it keeps its weight"
    else:
        line = f"the timeframes together say {_signed(m)} (rule: {story.knobs.rule})"
    agree = f"they agree by {c or 0:.4f} of 1, confidence is {k or 0:.4f} of 1"
    values = {"rule": story.knobs.rule, "magnitude": m, "consistency": c, "confidence": k}
    return Step("combination", (line, agree) if m is not None else (line,), values)


def _strength(story: Story) -> Step:
    target = _target(story)
    signals = None if target is None else target.signals
    if signals is None:
        return Step("strength", ("the strategy states none",), {})
    i = story.index
    alpha, variance = _at(signals.alpha, i), _at(signals.variance, i)
    chance, s = _at(signals.chance, i), _at(signals.strength, i)
    values = {"alpha": alpha, "variance": variance, "strength": s, "sign_probability": chance}
    if alpha is None or variance is None:
        return Step("strength", ("none: no forecast of it",), values)
    lines = [
        (
            f"alpha {_signed(alpha)} with variance {variance:.3e}; the sign is right with "
            f"probability {chance or 0:.3f}"
        ),
        f"strength = |alpha| / sqrt(1 + variance) = {s or 0:.4f}",
    ]
    half = _at(signals.half_width, i)
    if half is not None:
        lines.append(f"the outcome is expected between {alpha - half:+.3f} and {alpha + half:+.3f}")
        values["half_width"] = half
    return Step("strength", tuple(lines), values)


def place_of(target: TargetPortfolio, index: int) -> tuple[int, int] | None:
    """Give the rank by signed alpha, 1 = strongest long, and of how many; None without signal."""
    if target.signals is None or not math.isfinite(target.signals.alpha[index]):
        return None
    alpha = target.signals.alpha
    known = np.flatnonzero(np.isfinite(alpha))
    order = known[np.argsort(-alpha[known], kind="stable")].tolist()
    return 1 + order.index(index), len(order)


def _rank(story: Story) -> Step:
    target = _target(story)
    place = None if target is None else place_of(target, story.index)
    if place is None:
        return Step("rank", ("none: no signal of it",), {"rank": None})
    rank, count = place
    line = f"rank {rank} of {count} by alpha; 1 is the strongest long, {count} the strongest short"
    return Step("rank", (line,), {"rank": rank, "of": count})


def _weights(story: Story) -> Step:
    decision, target = story.decision, _target(story)
    if decision is None or target is None:
        return Step("weights", (), {}, "no decision record")
    ideal, held = _at(target.ideal, story.index), _at(decision.weights_before, story.index)
    lines = [
        (
            f"ideal {_share(ideal)} of equity {amount(decision.equity)} = "
            f"{_money(ideal, decision.equity)}; held {_share(held)} = "
            f"{_money(held, decision.equity)}"
        ),
        (
            f"the ideal book: gross {percent(float(np.abs(target.ideal).sum()))}, "
            f"net {_share(float(target.ideal.sum()))}"
        ),
    ]
    values: dict[str, Any] = {"ideal": ideal, "held": held, "equity": decision.equity}
    if target.solved is not None:
        lines.append(target.solved.words)
        values["solved"] = target.solved.words
    return Step("weights", tuple(lines), values)


def _money(weight: float | None, equity: float) -> str:
    return "unknown" if weight is None else f"{weight * equity:+,.2f}"


def _band(story: Story) -> Step:
    decision, target = story.decision, _target(story)
    if decision is None or target is None:
        return Step("band", (), {}, "no decision record")
    i = story.index
    ideal, band, goal = _at(target.ideal, i), _at(target.band, i), _at(target.weights, i)
    held = _at(decision.weights_before, i)
    values = {"band": band, "target": goal}
    lines = [
        (
            f"no trade while held is within {_share(ideal)} ± {100 * (band or 0.0):.3f} %, moved "
            "for all at once so that the book stays neutral"
        )
    ]
    if goal == held:
        lines.append("held is inside: nothing to trade")
    else:
        lines.append(f"held {_share(held)} is outside: trade to its edge, {_share(goal)}")
    if target.reduce_only is not None and bool(target.reduce_only[i]):
        lines.append("it may only be lessened")
        values["reduce_only"] = True
    if target.note:
        lines.append(f"the strategy notes: {target.note}")
    return Step("band", tuple(lines), values)


# ---- what was done -------------------------------------------------------------------------------


def _children(story: Story) -> list[Any]:
    orders = () if story.decision is None else story.decision.orders
    return [one for one in orders if one.index == story.index and one.key == story.key]


def _rounding(story: Story) -> Step:
    decision, target, rules = story.decision, _target(story), story.rules
    if decision is None:
        order = story.orders[0].order if story.orders else None
        why = "the decision's record is not finished, or the order closes what others hold"
        is_open = order is not None and order.index == OUTSIDE
        return Step("rounding", (why,), {}, "" if is_open else "no decision record")
    if target is None or rules is None or story.index == OUTSIDE:
        note = decision.note or "no strategy asked for it"
        return Step("rounding", (f"not from a target: {note}",), {"note": decision.note})
    i = story.index
    mark = _at(decision.marks, i)
    held, goal = _at(decision.weights_before, i), _at(target.weights, i)
    sent = sum((one.quantity for one in _children(story)), Decimal(0))
    refused = [r for r in decision.refusals if r.order.index == i]
    step = rules.quantity_step
    values: dict[str, Any] = {
        "mark": mark, "quantity_step": step, "sent": sent, "lots": sent / step,
        "children": len(_children(story)), "refused": len(refused),
    }  # fmt: skip
    if mark is None or goal is None or held is None:
        return Step("rounding", ("its price is not known: nothing is sent",), values)
    wanted = (goal - held) * decision.equity / mark
    values["wanted"] = wanted
    lines = [
        (
            f"({_share(goal)} - {_share(held)}) x {amount(decision.equity)} / {price(mark)} = "
            f"{wanted:+,.6g} wanted"
        ),
        (
            f"lots of {step}, rounded for the whole book at once so that it stays neutral: "
            f"{sent:+} sent = {sent / step:+f} lots, in {counted(len(_children(story)), 'order')}"
        ),
    ]
    if decision.note:
        lines.append(f"the decision notes: {decision.note}")
    return Step("rounding", tuple(lines), values)


def _risk(story: Story) -> Step:
    knobs, decision = story.knobs, story.decision
    lines, rows = [], []
    for life in story.orders:
        order = life.order
        value = float(order.quantity) * order.reference_price
        share = None if decision is None or decision.equity <= 0 else value / decision.equity
        lines.append(
            f"{order.order_id}: approved, {_share(share)} of equity (entry {life.entry:,})"
        )
        rows.append({"order_id": order.order_id, "approved": True, "weight": share})
    for refused in () if decision is None else decision.refusals:
        if refused.order.index == story.index and refused.order.key == story.key:
            lines.append(f"{refused.order.order_id}: REFUSED, {refused.reason}: {refused.detail}")
            rows.append(
                {"order_id": refused.order.order_id, "approved": False, "reason": refused.reason,
                 "detail": refused.detail}
            )  # fmt: skip
    lines.append(
        f"limits at that start: net {percent(knobs.net_weight_max)}, gross "
        f"{percent(knobs.gross_weight_max)}, a name {percent(knobs.name_weight_max)}, an order "
        f"{percent(knobs.order_weight_max)} of equity, each at the worst case of what was open"
    )
    return Step("risk", tuple(lines), {"verdicts": rows})


def _order(story: Story) -> Step:
    if not story.orders:
        return Step("order", ("none was sent",), {"orders": []})
    lines, rows = [], []
    for life in story.orders:
        order = life.order
        kind = str(order.kind)
        if order.limit_price is not None:
            kind += f" at {order.limit_price}{' post-only' if order.post_only else ''}"
        only = ", reduces only" if order.reduce_only else ""
        lines.append(
            f"{order.order_id}: {'buy' if order.quantity > 0 else 'sell'} {abs(order.quantity)} "
            f"{kind}{only}, sized at {price(order.reference_price)} (entry {life.entry:,})"
        )
        rows.append(
            {"order_id": order.order_id, "quantity": order.quantity, "kind": order.kind,
             "limit_price": order.limit_price, "reduce_only": order.reduce_only,
             "post_only": order.post_only, "reference_price": order.reference_price,
             "entry": life.entry, "at": iso(life.at_ms)}
        )  # fmt: skip
    others = story.siblings_n - len(story.orders)
    if others > 0:
        lines.append(f"{counted(others, 'further order')} of the same decision in this instrument")
    return Step("order", tuple(lines), {"orders": rows, "siblings": story.siblings_n})


def _answers(story: Story) -> Step:
    lines, rows = [], []
    for life in story.orders:
        for one in life.answers:
            why = f": {one.why}" if one.why else ""
            lines.append(
                f"{life.order.order_id}: {one.kind}{why} at {iso(one.at_ms)} (entry {one.entry:,})"
            )
            rows.append(
                {"order_id": life.order.order_id, "answer": one.kind, "why": one.why,
                 "at": iso(one.at_ms), "entry": one.entry}
            )  # fmt: skip
        if not life.answers:
            lines.append(f"{life.order.order_id}: {_silence(life)}")
    return Step("answers", tuple(lines) or ("there was nothing to answer",), {"answers": rows})


def _silence(life: OrderLife) -> str:
    if life.fills:
        return "the fill was its answer" if life.is_over else "partly filled, and open still"
    return "open: the journal ends before any answer"


def _fills(story: Story) -> Step:
    lines, rows = [], []
    notional = fee = Decimal(0)
    cost = 0.0
    for life in story.orders:
        for one in life.fills:
            fill = one.fill
            worth = abs(fill.quantity * fill.price)
            notional, fee = notional + worth, fee + fill.fee
            slip = slippage_bps(fill, life.order.reference_price)
            cost += slip / BPS * float(worth)
            rate = float(fill.fee / worth) * BPS if worth else 0.0
            lines.append(
                f"{abs(fill.quantity)} at {fill.price} = {worth:,.2f}, fee {fill.fee} = "
                f"{rate:.2f} bps, {slip:+.2f} bps worse than sized, trade {fill.trade_id} "
                f"at {iso(fill.at_ms)} (entry {one.entry:,})"
            )
            rows.append(
                {"trade_id": fill.trade_id, "order_id": fill.order_id, "quantity": fill.quantity,
                 "price": fill.price, "fee": fill.fee, "at": iso(fill.at_ms), "entry": one.entry,
                 "slippage_bps": slip, "notional": worth}
            )  # fmt: skip
    if len(rows) > 1:
        lines.append(f"together {notional:,.2f}, fees {fee}, prices cost {cost:,.4f} besides")
    left = [life for life in story.orders if not life.is_over]
    lines += [f"{life.order.order_id}: not over when the journal ends" for life in left]
    ended = {AnswerKind.REJECTED, AnswerKind.ABSENT, AnswerKind.ENDED}
    none = story.orders and all(
        not life.fills and any(a.kind in ended for a in life.answers) for life in story.orders
    )
    lines += ["none: the venue ended it unfilled"] if none else []
    values = {"fills": rows, "notional": notional, "fees": fee, "open": len(left)}
    return Step("fills", tuple(lines) or ("none",), values)


def slippage_bps(fill: Fill, reference: float) -> float:
    """Give how much worse than the reference a fill was, in basis points; below 0 is better."""
    if not reference > 0:
        return math.nan
    side = 1.0 if fill.quantity > 0 else -1.0
    return side * (float(fill.price) / reference - 1.0) * BPS
