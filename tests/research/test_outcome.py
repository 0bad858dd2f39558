"""Two runs up to a cut: what must be the same, and what the price at the cut alone may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from daemon.domain.decision import Decision
from daemon.domain.messages import BarsClosed, FundingPaid, FundingRates, Transferred
from daemon.domain.order import Fill, OrderId
from daemon.domain.units import DAY_MS
from daemon.report.run import Execution
from daemon.research.outcome import Aspect, Change, Difference, Outcome, booked_at, first_difference
from tests.research.planted_market import M30, ORIGIN_MS, Scores, market, momentum, run_engine

FIRST_MS = ORIGIN_MS + 6 * DAY_MS
CUT_MS = FIRST_MS + DAY_MS  # a decision, and a settlement of funding
NAN = float("nan")


@cache
def made() -> Outcome:
    return run_engine(Scores(momentum), market(), FIRST_MS, CUT_MS)


def compare(changed: Outcome, change: Change) -> Difference | None:
    return first_difference(made(), changed, change, CUT_MS)


def of(changed: Outcome, change: Change = Change.REPLACED) -> tuple[Aspect, str]:
    found = compare(changed, change)
    assert found is not None, "nothing was found"
    return found.aspect, found.part


def with_decision(at: int, **parts: object) -> Outcome:
    decisions = list(made().decisions)
    decisions[at] = structs.replace(decisions[at], **parts)
    return replace(made(), decisions=decisions)


def with_executions(bend: Callable[[Execution], Sequence[Execution]]) -> Outcome:
    return replace(made(), executions=[e for one in made().executions for e in bend(one)])


def without_fills_at_the_cut() -> Outcome:
    return with_executions(lambda e: [] if isinstance(e, Fill) and e.at_ms == CUT_MS else [e])


def with_row(at: int, **columns: Any) -> Outcome:
    rows = list(made().rows)
    rows[at] = (rows[at][0], rows[at][1]._replace(**columns))
    return replace(made(), rows=rows)


def test_the_run_of_these_tests_has_orders_fills_and_funding_at_the_cut() -> None:
    assert made().decisions[-1].as_of_ms == CUT_MS
    assert len(made().decisions[-1].orders) > 1
    assert any(isinstance(e, Fill) and e.at_ms == CUT_MS for e in made().executions)
    assert any(isinstance(e, FundingPaid) and e.settle_ms == CUT_MS for e in made().executions)
    assert made().rows[-1][0] == CUT_MS


@pytest.mark.parametrize("change", Change)
def test_equal_runs_have_no_difference(change: Change) -> None:
    assert compare(made(), change) is None
    again = run_engine(Scores(momentum), market(), FIRST_MS, CUT_MS)
    assert compare(again, change) is None


def test_what_came_after_the_cut_is_not_compared() -> None:
    longer = run_engine(Scores(momentum), market(), FIRST_MS, CUT_MS + DAY_MS)
    assert len(longer.decisions) > len(made().decisions)
    assert compare(longer, Change.REPLACED) is None
    assert first_difference(longer, made(), Change.REPLACED, CUT_MS) is None


# ---- instruments ---------------------------------------------------------------------------------


def test_another_choice_of_instruments_is_found_with_their_names() -> None:
    found = compare(replace(made(), instruments=made().instruments[1:]), Change.REMOVED)
    assert found is not None
    assert (found.aspect, found.part) == (Aspect.UNIVERSE, "instruments")
    assert found.whole == "6 with BTC/USDT:USDT"
    turned = replace(made(), instruments=made().instruments[::-1])
    assert of(turned) == (Aspect.UNIVERSE, "instruments")


def test_other_trading_rules_are_found_with_their_instrument() -> None:
    first, *others = made().instruments
    finer = replace(first, rules=replace(first.rules, price_step=Decimal("0.001")))
    found = compare(replace(made(), instruments=(finer, *others)), Change.REPLACED)
    assert found is not None
    assert (found.part, found.symbol) == ("trading rules", "BTC/USDT:USDT")


# ---- what was shown ------------------------------------------------------------------------------


def with_event(at: int, **parts: object) -> Outcome:
    shown = list(made().shown)
    shown[at] = structs.replace(shown[at], **parts)
    return replace(made(), shown=shown)


def place_of(kind: type, number: int) -> int:
    return [at for at, event in enumerate(made().shown) if isinstance(event, kind)][number]


@pytest.mark.parametrize("change", Change)
@pytest.mark.parametrize("number", [0, -1], ids=["warming up", "at the cut"])
def test_a_bar_or_a_rate_that_was_shown_otherwise_is_found(change: Change, number: int) -> None:
    at = place_of(BarsClosed, number)
    values = made().shown[at].values.copy()  # type: ignore[union-attr]
    values[2, 4] = 7.0  # there was a hole, or another volume
    found = compare(with_event(at, values=values), change)
    assert found is not None
    assert (found.aspect, found.part) == (Aspect.SHOWN, "bar")
    assert (found.symbol, found.whole[:7]) == ("SOL/USDT:USDT", "volume ")
    at = place_of(FundingRates, number)
    rates = made().shown[at].rates + 1e-6  # type: ignore[union-attr]
    assert of(with_event(at, rates=rates), change) == (Aspect.SHOWN, "funding rate")
    missing = list(made().shown)
    del missing[at]
    assert of(replace(made(), shown=missing), change)[0] is Aspect.SHOWN


def test_only_the_fill_price_at_a_cut_may_be_unknown_and_only_where_the_rest_was_removed() -> None:
    last, before = place_of(BarsClosed, -1), place_of(BarsClosed, -2)
    opens = made().shown[last].opens  # type: ignore[union-attr]
    unknown, higher = with_event(last, opens=opens * NAN), with_event(last, opens=opens * 1.01)
    assert compare(unknown, Change.REMOVED) is None
    assert of(unknown, Change.REPLACED) == (Aspect.SHOWN, "fill price")
    assert of(higher, Change.REMOVED) == (Aspect.SHOWN, "fill price")
    assert of(higher, Change.REPLACED) == (Aspect.SHOWN, "fill price")
    earlier = with_event(before, opens=opens * NAN)
    assert of(earlier, Change.REMOVED) == (Aspect.SHOWN, "fill price")


# ---- decisions -----------------------------------------------------------------------------------


def other_orders(decision: Decision) -> dict[str, object]:
    first, *others = decision.orders
    return {"orders": (structs.replace(first, quantity=first.quantity * 2), *others)}


@pytest.mark.parametrize("change", Change)
@pytest.mark.parametrize("at", [0, 5, -3])
def test_other_orders_before_the_cut_are_found(change: Change, at: int) -> None:
    """Only the last decision before a cut can have been in progress at it."""
    bent = with_decision(at, **other_orders(made().decisions[at]))
    assert of(bent, change) == (Aspect.DECISION, "orders")


@pytest.mark.parametrize("at", [-1, -2])
def test_with_another_future_the_last_orders_must_be_the_same_as_well(at: int) -> None:
    decision = made().decisions[at]
    bent = with_decision(at, **other_orders(decision))
    assert of(bent, Change.REPLACED) == (Aspect.DECISION, "orders")
    fewer = with_decision(at, orders=decision.orders[:-1])
    assert of(fewer, Change.REPLACED) == (Aspect.DECISION, "orders")
    richer = with_decision(at, equity=decision.equity + 1.0)
    assert of(richer, Change.REPLACED) == (Aspect.DECISION, "equity")


def test_without_a_future_the_last_orders_need_only_begin_alike() -> None:
    last, before = made().decisions[-1], made().decisions[-2]
    assert compare(with_decision(-1, orders=last.orders[:1]), Change.REMOVED) is None
    assert compare(with_decision(-2, orders=before.orders[:1]), Change.REMOVED) is None
    bent = with_decision(-1, **other_orders(last))
    assert of(bent, Change.REMOVED) == (Aspect.DECISION, "orders")
    assert last.target is not None
    moved = structs.replace(last.target, weights=last.target.weights * 2)
    assert of(with_decision(-1, target=moved), Change.REMOVED) == (Aspect.DECISION, "target")
    assert of(with_decision(-2, target=moved), Change.REMOVED) == (Aspect.DECISION, "target")


def test_without_a_future_another_book_excuses_what_follows_from_it_at_the_cut_alone() -> None:
    last = made().decisions[-1]
    assert last.target is not None
    moved = structs.replace(last.target, weights=last.target.weights * 2)
    book = with_decision(-1, equity=last.equity + 1.0, target=moved)
    assert compare(book, Change.REMOVED) is None
    market_too = with_decision(-1, equity=last.equity + 1.0, marks=last.marks * 1.01)
    assert of(market_too, Change.REMOVED) == (Aspect.DECISION, "marks")
    for at in (-2, -3):
        earlier = with_decision(at, equity=last.equity + 1.0)
        assert of(earlier, Change.REMOVED) == (Aspect.DECISION, "equity")


# ---- executions ----------------------------------------------------------------------------------


def bent_fill(execution: Execution, *, at_cut: bool, **parts: object) -> Execution:
    if isinstance(execution, Fill) and (execution.at_ms == CUT_MS) is at_cut:
        return structs.replace(execution, **parts)
    return execution


@pytest.mark.parametrize("change", Change)
@pytest.mark.parametrize("part", [{"price": Decimal(1)}, {"fee": Decimal(0)}], ids=["price", "fee"])
def test_another_price_or_fee_of_a_fill_is_found(change: Change, part: dict[str, object]) -> None:
    bent = with_executions(lambda e: [bent_fill(e, at_cut=False, **part)])
    assert of(bent, change) == (Aspect.EXECUTION, "fill")
    at_cut = with_executions(lambda e: [bent_fill(e, at_cut=True, **part)])
    found = compare(at_cut, change)
    assert found is not None, "a fill at the cut that is there must be the right one"
    assert (found.part, found.as_of_ms) == ("fill", CUT_MS)


def test_fills_at_the_cut_may_be_missing_only_where_the_rest_was_removed() -> None:
    assert compare(without_fills_at_the_cut(), Change.REMOVED) is None
    assert of(without_fills_at_the_cut(), Change.REPLACED) == (Aspect.EXECUTION, "fill")
    renumbered = with_executions(lambda e: [bent_fill(e, at_cut=True, trade_id="other")])
    assert compare(renumbered, Change.REMOVED) is None
    first = min(e.at_ms for e in made().executions if isinstance(e, Fill))
    none = with_executions(lambda e: [] if isinstance(e, Fill) and e.at_ms == first else [e])
    assert of(none, Change.REMOVED) == (Aspect.EXECUTION, "fill")


@pytest.mark.parametrize("change", Change)
def test_funding_up_to_the_cut_must_be_the_same(change: Change) -> None:
    none = with_executions(
        lambda e: [] if isinstance(e, FundingPaid) and e.settle_ms == CUT_MS else [e]
    )
    found = compare(none, change)
    assert found is not None
    assert (found.aspect, found.part) == (Aspect.EXECUTION, "funding")
    assert found.whole.endswith("settled at 2024-01-08T00:00:00Z")
    assert found.symbol.endswith("/USDT:USDT")
    deposit = with_executions(
        lambda e: [structs.replace(e, amount=Decimal(1)) if isinstance(e, Transferred) else e]
    )
    assert of(deposit, change) == (Aspect.EXECUTION, "transfer")


def test_an_order_of_another_name_is_another_fill() -> None:
    other = OrderId("other")
    bent = with_executions(lambda e: [bent_fill(e, at_cut=True, order_id=other)])
    assert of(bent, Change.REMOVED) == (Aspect.EXECUTION, "fill")
    assert {booked_at(e) for e in made().executions} >= {FIRST_MS, CUT_MS}


# ---- the book ------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", Change)
@pytest.mark.parametrize("column", ["equity", "turnover", "fees", "funding", "shortfall", "net"])
def test_another_book_before_the_cut_is_found(change: Change, column: str) -> None:
    at = len(made().rows) // 2
    value = getattr(made().rows[at][1], column)
    found = compare(with_row(at, **{column: value + type(value)(1)}), change)
    assert found is not None
    assert (found.aspect, found.part) == (Aspect.BOOK, f"book {column}")
    assert found.as_of_ms == FIRST_MS + (at + 1) * M30.ms


def test_at_the_cut_the_book_may_lack_the_last_fills_where_the_rest_was_removed() -> None:
    row = made().rows[-1][1]
    unfilled = with_row(-1, equity=row.equity + 1.0, quantity=row.quantity * 0.0)
    assert compare(unfilled, Change.REMOVED) is None
    assert of(unfilled, Change.REPLACED) == (Aspect.BOOK, "book equity")
    assert of(with_row(-1, quantity=row.quantity + 1.0), Change.REPLACED)[1] == "book quantity"
    marked = with_row(-1, marks=row.marks * np.array([1, 1, 1, 1.01, 1, 1]))
    found = compare(marked, Change.REMOVED)
    assert found is not None
    assert (found.part, found.symbol) == ("book marks", "XRP/USDT:USDT")
    paid = with_row(-1, funding=row.funding + 1)
    assert of(paid, Change.REMOVED) == (Aspect.BOOK, "book funding")


def test_a_missing_row_is_found() -> None:
    rows = list(made().rows)
    assert of(replace(made(), rows=rows[:-1]), Change.REMOVED) == (Aspect.BOOK, "book row")
    assert of(replace(made(), rows=rows[:3] + rows[4:])) == (Aspect.BOOK, "book row")


def test_a_difference_says_what_knew_what() -> None:
    found = compare(with_row(3, equity=1.0), Change.REMOVED)
    assert str(found).startswith(
        "the book at 2024-01-07T02:00:00Z knows what came after 2024-01-08T00:00:00Z: book equity"
    )
    assert str(found).endswith(", and 1.0 with the later data removed")
