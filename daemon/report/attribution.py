"""Where the profit of a run came from, in parts that sum exactly.

The account is taken at the closes of a run, t_0 .. t_T, with marks M_k and quantities Q_k. Gain is
equity at t_T less equity at t_0 less transfers in between; what was booked by t_0 is in the first
equity already. Between two closes, for each instrument and each fill of quantity q (signed) at
price p:

    m    the mark at the close that the fill happened at or after; r  the mark its order was sized
         at (`Order.reference_price`), m where no decision tells of the order
    H_k  quantity held over the interval that ends at t_k: what was held before it, and the fills of
         it that happened before t_k
    W_k  quantity wanted over it: target.weights * decision.equity / decision.marks of the newest
         decision as of t_(k-1) or before; H_k where that decision had no target, the target is
         NaN, or there was no decision yet

    equity_k - equity_(k-1) - transfers = sum H (M_k - M_(k-1)) + sum q (m - p) + funding - fees

and the parts are

    beta_leak          sum W M_(k-1) * beta * r_m: what the wanted book earned by leaning on the
                       equal-weight market, with betas of the 30 days before (daemon.report.betas)
    alpha              sum W (M_k - M_(k-1)) - beta_leak: the rest of what the wanted book earned
    rounding           sum (H - W) (M_k - M_(k-1)) + sum q (m - r): lots, orders refused or open
    delay              sum q (r - m) - charge: the market moved between sizing and fill, and what
                       the paper rule takes for latency, |q| m latency_bps
    spread_and_impact  sum q (m - p) + charge: price against the mark; with bars, also the gap
                       between a close and the next open
    funding, fees      as booked

The wanted book is held from its decision on, so that a late fill misses q (m - r) there: that gain
is given back under `rounding` and taken off under `delay`. Obligations (funding, fees, prices of
fills) are exact; the estimates (beta_leak, rounding) are floats, rounded to 1e-8 of the quote
currency; alpha is the exact remainder and held against its own float sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.decision import Decision
from daemon.domain.failures import InvariantViolated
from daemon.domain.units import DAY_MS, money, require
from daemon.report.betas import days_closed, trailing_betas
from daemon.report.bookings import EXACT, ZERO, Bookings, bookings
from daemon.report.flows import Flows
from daemon.report.run import Run
from daemon.report.run_record import RunRecord

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

PARTS: Final = (
    "alpha",
    "beta_leak",
    "funding",
    "fees",
    "spread_and_impact",
    "rounding",
    "delay",
)
_COLUMNS: Final = (
    "alpha",
    "beta_leak",
    "rounding",
    "funding",
    "fees",
    "spread_and_impact",
    "delay",
)
FLOAT_TOLERANCE: Final = 1e-9  # of all that was held and traded, between exact and float alpha


@dataclass(frozen=True, slots=True)
class NameAttribution:
    """Hold what one instrument brought, quote currency; the four parts sum exactly to `total`."""

    symbol: str
    holding: Decimal
    funding: Decimal
    fees: Decimal
    trading: Decimal  # price of its fills against the marks of their own instants
    total: Decimal


@dataclass(frozen=True, slots=True)
class Attribution:
    """Hold the parts of a run's gain, quote currency to 1e-8; costs are negative.

    days_ms: (D,) beginnings of the UTC days; daily: (D, 7) parts in the order of `PARTS` as floats.
    by_name: in universe order; their totals sum exactly to `total` too.
    """

    alpha: Decimal
    beta_leak: Decimal
    funding: Decimal
    fees: Decimal
    spread_and_impact: Decimal
    rounding: Decimal
    delay: Decimal
    total: Decimal
    by_name: tuple[NameAttribution, ...]
    days_ms: Ints
    daily: Floats

    @property
    def parts(self) -> Mapping[str, Decimal]:
        """Give the parts by name; they sum exactly to `total`."""
        return {name: getattr(self, name) for name in PARTS}


def attribute(run: Run, *, latency_bps: float = 0.0) -> Attribution:
    """Split the gain of a run into its parts.

    latency_bps: what the paper rule charges every fill for latency, moved from spread and impact to
    delay. Raises InvariantViolated where executions and rows of the run do not tell the same story,
    or something was traded that never had a mark.
    """
    require(0 <= latency_bps < 1e4, f"latency_bps {latency_bps}: from 0 to below 10000 is accepted")
    booked = bookings(run)
    with localcontext(EXACT):
        flows = Flows(run, booked, Decimal(repr(float(latency_bps))) / 10_000)
        names = run.facts.symbols
        return _attributed(run.record, booked, flows, _Estimates(run, flows), names)


class _Estimates:
    """Compute what is not owed to anybody, row by row: (T,) floats, 0 in the first row.

    scale: the largest value of what was held, which the rounding of floats grows with.
    """

    def __init__(self, run: Run, flows: Flows) -> None:
        record = run.record
        marks, held = record.marks, record.quantities
        valued = np.where(marks == marks, marks, 0.0)
        moves = np.where(marks[:-1] == marks[:-1], valued[1:] - valued[:-1], 0.0)  # (T-1, N)
        over = held[:-1] + flows.early[1:]
        wanted = _wanted(run.decisions, record)[:-1]
        wanted = np.where(wanted == wanted, wanted, over)
        market = record.column("market")
        leaned = (wanted * valued[:-1] * trailing_betas(record)[:-1]).sum(axis=1)
        gained = (wanted * moves).sum(axis=1)
        self.beta_leak = np.append(0.0, leaned * (market[1:] / market[:-1] - 1.0))
        self.alpha = np.append(0.0, gained) - self.beta_leak
        self.rounding = np.append(0.0, ((over - wanted) * moves).sum(axis=1)) + flows.missed
        self.columns = np.column_stack((self.alpha, self.beta_leak, self.rounding))
        self.scale = float(np.abs(over * valued[:-1]).sum(axis=1).max(initial=0.0))


def _wanted(decisions: Sequence[Decision], record: RunRecord) -> Floats:
    """Give the quantities wanted from each row on, (T, N); NaN where nothing else than held."""
    times = np.asarray(record.times_ms, dtype=np.int64)
    wanted = np.full(record.marks.shape, np.nan)
    as_of = np.array([d.as_of_ms for d in decisions], dtype=np.int64)
    begins = np.searchsorted(times, as_of, side="left")
    spans = pairwise([*begins.tolist(), len(times)])
    for decision, (begin, end) in zip(decisions, spans, strict=True):
        target = decision.target
        if target is None:
            wanted[begin:end] = np.nan
            continue
        has_mark = decision.marks > 0.0
        marks = np.where(has_mark, decision.marks, 1.0)
        wanted[begin:end] = np.where(has_mark, target.weights * decision.equity / marks, np.nan)
    return wanted


def _attributed(
    record: RunRecord, booked: Bookings, flows: Flows, estimates: _Estimates, names: Sequence[str]
) -> Attribution:
    first, last = booked.first, booked.last
    total = money(last.equity - first.equity - (last.transfers - first.transfers))
    known = {
        "beta_leak": _money(estimates.beta_leak),
        "funding": money(sum(flows.funding, ZERO)),
        "fees": money(sum(flows.fees, ZERO)),
        "spread_and_impact": money(sum(flows.trading, ZERO) + flows.charge),
        "rounding": _money(estimates.rounding),
        "delay": money(flows.delay - flows.charge),
    }
    alpha = total - sum(known.values(), ZERO)
    estimated = float(estimates.alpha.sum())
    slack = FLOAT_TOLERANCE * (float(abs(last.equity)) + estimates.scale + float(last.turnover))
    if abs(float(alpha) - estimated) > slack + 1e-7:
        raise InvariantViolated(f"alpha is {alpha} as the rest, {estimated!r} by its own sum")
    days_ms, daily = _by_day(record.times_ms, np.column_stack((estimates.columns, flows.rows)))
    by_name = _by_name(names, booked, flows, total, known["funding"], known["fees"])
    return Attribution(
        alpha=alpha, **known, total=total, by_name=by_name, days_ms=days_ms, daily=daily
    )


def _money(values: Floats) -> Decimal:
    return money(Decimal(repr(float(values.sum()))))


def _by_day(times_ms: list[int], columns: Floats) -> tuple[Ints, Floats]:
    """Sum (T, 7) columns over the days that their intervals close in; give them as `PARTS` are."""
    order = [_COLUMNS.index(name) for name in PARTS]
    day = days_closed(times_ms)[1:]  # the first row ends no interval
    if not len(day):
        return day, np.zeros((0, len(PARTS)))
    begins = np.flatnonzero(np.append(True, day[1:] != day[:-1]))
    return day[begins] * DAY_MS, np.add.reduceat(columns[1:, order], begins, axis=0)


def _by_name(
    names: Sequence[str],
    booked: Bookings,
    flows: Flows,
    total: Decimal,
    funding: Decimal,
    fees: Decimal,
) -> tuple[NameAttribution, ...]:
    trading = money(sum(flows.trading, ZERO))
    holding = [
        after - before - bought
        for before, after, bought in zip(
            booked.first.values, booked.last.values, flows.bought, strict=True
        )
    ]
    columns = zip(
        names,
        _shared(holding, total - funding - fees - trading),
        _shared(flows.funding, funding),
        _shared(flows.fees, fees),
        _shared(flows.trading, trading),
        strict=True,
    )
    return tuple(NameAttribution(n, h, f, c, t, h + f + c + t) for n, h, f, c, t in columns)


def _shared(exact: Sequence[Decimal], total: Decimal) -> list[Decimal]:
    """Round amounts to 1e-8 so that they sum to `total`, itself their rounded sum.

    What is rounded are the sums so far, so that no amount moves by more than 1e-8; what rounding of
    the other parts left in `total` goes to the last amount that is not zero.
    """
    shares, so_far, before = list[Decimal](), ZERO, ZERO
    for amount in exact:
        so_far += amount
        rounded = money(so_far)
        shares.append(rounded - before)
        before = rounded
    taker = max((i for i, amount in enumerate(exact) if amount), default=len(exact) - 1)
    shares[taker] += total - before
    return shares
