"""Stress a backtest: the same run at other costs and sizes, and itself in parts.

Arms change the paper account only, and the strategy knows what they cost (its bands widen). Slices
cut the base run afterwards. All figures come from UTC days, a year has 365 of them:

    return       product of (1 + r) - 1                  r: equity at the day's end / before - 1
    sharpe       mean / sd x sqrt(365), with the interval of statistics.sharpe_interval from 20 days
                 on; the days of a regime lie apart, and count as if they followed each other
    drawdown     deepest fall of the compounded days below their best so far, within the part
    turnover     sum of traded notional / equity before the day, x 365 / days, of which the first
                 and the last count as far as the run goes
    cost         fees, spread, impact and latency charge, per traded notional; its share is that of
                 the profit before it (not defined where there was none)

Regimes sort days by the market of the same day: its volatility is the root of the summed squares of
its bar returns, its dispersion the deviation of the instruments' daily returns; terciles are of all
days of the run. Known only afterwards, they describe and cannot be traded.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.failures import ConfigurationError
from daemon.domain.units import DAY_MS, iso, require
from daemon.report.capacity import UNMEASURED, Capacity
from daemon.report.metrics import day_ends, sharpe_with_interval
from daemon.report.run_record import RunRecord

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

SCHEMA: Final = 1
ONE_WAY_BPS: Final = (3, 5, 7, 10, 15)
CHARGED_BPS_MIN: Final = 1e-6  # below this there is nothing to scale
CASH_TIMES: Final = (1, 3, 10, 30, 100, 300)
YEAR_DAYS: Final = 365.0
PAIRED_DAYS_MIN: Final = 3
CAPACITY_SHARE: Final = 0.1  # of a bar's volume, where settings know no limit
CAPACITY_IMPACT_BPS: Final = 30.0  # and where they know no impact
CAPACITY_MEANS: Final = (
    "Two measures of capacity. The capacity arms run the strategy again with more cash: it sees "
    "the higher costs and trades less, and what the volume limit leaves unfilled waits. The "
    "capacity by fills takes an arm's own fills, makes each so many times larger by the law of "
    "impact, counts what is not filled as lost, and says at which equity half of the gain is gone. "
    "Both take volumes as they were: nobody answers to the larger orders."
)
TERCILES: Final = ("low", "middle", "high")


# ---- arms ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Account:
    """Hold what an arm may change of the paper account; units as in the settings' [paper]."""

    cash: Decimal
    fee_bps: float
    half_spread_bps: float
    impact_bps: float
    latency_bps: float
    participation_share: float  # 0: no limit

    @property
    def one_way_bps(self) -> float:
        """Give the cost of a fill without its impact."""
        return self.fee_bps + self.half_spread_bps + self.latency_bps


@dataclass(frozen=True, slots=True)
class StressArm:
    """Name one run of the campaign."""

    group: str
    name: str
    account: Account


def stress_arms(base: Account) -> list[StressArm]:
    """Give the arms, the base first; raises ConfigurationError where the costs leave no room."""
    return [StressArm("base", "as configured", base), *_others(base)]


def _others(base: Account) -> Iterator[StressArm]:
    for bps in ONE_WAY_BPS:
        yield StressArm("cost", f"{bps} bps", at_cost(base, float(bps)))
    doubled = replace(base, latency_bps=2.0 * base.latency_bps)
    yield StressArm("latency", "charge doubled", doubled)
    limited = base.participation_share or CAPACITY_SHARE
    halved = replace(base, participation_share=limited / 2.0)
    yield StressArm("participation", "share halved", halved)
    sized = replace(
        base, participation_share=limited, impact_bps=base.impact_bps or CAPACITY_IMPACT_BPS
    )
    for times in CASH_TIMES:
        yield StressArm("capacity", f"cash x {times}", replace(sized, cash=base.cash * times))


def at_cost(base: Account, one_way_bps: float) -> Account:
    """Scale fee and half spread by one factor so that with the latency charge they cost so much.

    Impact and latency charge stay. Without any to scale, or where the fee is a rebate, all of it
    becomes fee.
    """
    rest = one_way_bps - base.latency_bps
    if rest < 0:
        raise ConfigurationError(
            f"paper.latency_bps = {base.latency_bps}: must be at most the cheapest cost arm, "
            f"{min(ONE_WAY_BPS)} bps"
        )
    charged = base.fee_bps + base.half_spread_bps
    if base.fee_bps < 0 or charged < CHARGED_BPS_MIN:
        return replace(base, fee_bps=rest, half_spread_bps=0.0)
    times = rest / charged
    return replace(base, fee_bps=base.fee_bps * times, half_spread_bps=base.half_spread_bps * times)


# ---- days ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Days:
    """Hold a run by UTC days, (D,) each, without its first day, before which nothing had closed.

    returns, market: fractions. traded, costs: quote currency; equity: before the day. volatility,
    dispersion: of the market, fractions a day, NaN where not known. gross: of equity at the end.
    lengths: in days; the first and the last may be shorter than one.
    """

    days: Ints
    returns: Floats
    market: Floats
    traded: Floats
    costs: Floats
    equity: Floats
    gross: Floats
    volatility: Floats
    dispersion: Floats
    lengths: Floats


def days_of(record: RunRecord) -> Days:
    """Cut a run's record into days; raises InvariantViolated where nothing follows its opening."""
    days, last = day_ends(record.times_ms)  # (D + 1,), the opening first
    require(len(last) >= 2, "a run with no close after its opening cannot be stressed")
    at_end = {name: record.column(name)[last] for name in ("equity", "market", "turnover", "gross")}
    charged = (record.column("fees") + record.column("shortfall"))[last]
    equity, market = at_end["equity"], at_end["market"]
    return Days(
        days=days[1:],
        returns=equity[1:] / equity[:-1] - 1.0,
        market=market[1:] / market[:-1] - 1.0,
        traded=np.diff(at_end["turnover"]),
        costs=np.diff(charged),
        equity=equity[:-1],
        gross=at_end["gross"][1:] / equity[1:],
        volatility=_volatility(record.column("market"), last),
        dispersion=_dispersion(record.marks[last]),
        lengths=np.diff(np.asarray(record.times_ms, dtype=np.int64)[last]) / DAY_MS,
    )


def _volatility(market: Floats, last: Ints) -> Floats:
    """Give the root of the summed squared bar returns of each day after the first, (D,)."""
    squares = np.concatenate(([0.0], (market[1:] / market[:-1] - 1.0) ** 2))
    through = np.cumsum(squares)[last]
    return np.asarray(np.sqrt(np.diff(through)))


def _dispersion(marks: Floats) -> Floats:
    """Give the deviation over instruments of their returns from row to row, NaN below two, (D,)."""
    moves = marks[1:] / marks[:-1] - 1.0
    known = np.isfinite(moves)
    counts = known.sum(axis=1)
    enough = np.maximum(counts, 2)
    moves = np.where(known, moves, 0.0)
    means = moves.sum(axis=1) / np.maximum(counts, 1)
    squares = np.where(known, (moves - means[:, None]) ** 2, 0.0).sum(axis=1)
    return np.where(counts >= 2, np.sqrt(squares / (enough - 1)), np.nan)


# ---- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    """Hold the figures of a run or of a part of it; NaN where one is not defined."""

    days: int
    total_return: float
    sharpe: float
    sharpe_low: float
    sharpe_high: float
    drawdown_max: float
    turnover_per_year: float
    cost_bps: float
    cost_return: float  # sum of daily costs / equity
    cost_share: float  # of the profit before costs
    gross_mean: float
    correlation_market: float


def figures_of(days: Days, among: Flags | None = None) -> Figures:
    """Measure the days that `among` (D,) marks, all of them without it."""
    chosen = np.ones(len(days.days), dtype=bool) if among is None else among
    r, equity = days.returns[chosen], days.equity[chosen]
    traded, costs = days.traded[chosen], days.costs[chosen]
    ratio, low, high = sharpe_with_interval(r)
    charged = float((costs / equity).sum())
    span = float(days.lengths[chosen].sum())
    before = float(r.sum()) + charged
    grown = np.concatenate(([1.0], np.cumprod(1.0 + r)))
    return Figures(
        days=len(r),
        total_return=float(grown[-1] - 1.0),
        sharpe=ratio,
        sharpe_low=low,
        sharpe_high=high,
        drawdown_max=float((grown / np.maximum.accumulate(grown) - 1.0).min()),
        turnover_per_year=float((traded / equity).sum()) * YEAR_DAYS / span if span else 0.0,
        cost_bps=float(costs.sum() / traded.sum()) * 1e4 if traded.sum() > 0 else math.nan,
        cost_return=charged,
        cost_share=charged / before if before > 0 else math.nan,
        gross_mean=float(days.gross[chosen].mean()) if len(r) else math.nan,
        correlation_market=_correlation(r, days.market[chosen]),
    )


def _correlation(left: Floats, right: Floats) -> float:
    if len(left) < PAIRED_DAYS_MIN or not np.ptp(left) > 0 or not np.ptp(right) > 0:
        return math.nan
    return float(np.corrcoef(left, right)[0, 1])


# ---- slices --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slice:
    """Hold a part of the base run."""

    group: str
    name: str
    figures: Figures


@dataclass(frozen=True, slots=True)
class Parts:
    """Hold the base run in parts; boundaries: by regime, where its classes meet."""

    slices: tuple[Slice, ...]
    boundaries: Mapping[str, tuple[float, ...]]


def parts_of(days: Days) -> Parts:
    """Cut a run by years, quarters and regimes; parts without a day are left out."""
    months = days.days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    years, quarters = months // 12 + 1970, months % 12 // 3 + 1
    slices = [_slice(days, "year", str(y), years == y) for y in np.unique(years).tolist()]
    for both in np.unique(years * 10 + quarters).tolist():
        year, quarter = divmod(both, 10)
        among = (years == year) & (quarters == quarter)
        slices.append(_slice(days, "quarter", f"{year}-Q{quarter}", among))
    slices.append(_slice(days, "market", "up", days.market > 0))
    slices.append(_slice(days, "market", "down", days.market <= 0))
    boundaries: dict[str, tuple[float, ...]] = {"market": (0.0,)}
    for group, values in (("volatility", days.volatility), ("dispersion", days.dispersion)):
        known = values[np.isfinite(values)]
        if len(known):
            low, high = (float(q) for q in np.quantile(known, [1 / 3, 2 / 3]))
            boundaries[group] = (low, high)
            classes = (values <= low, (values > low) & (values <= high), values > high)
            named = zip(TERCILES, classes, strict=True)
            slices += [_slice(days, group, name, among) for name, among in named]
    return Parts(tuple(one for one in slices if one.figures.days), boundaries)


def _slice(days: Days, group: str, name: str, among: Flags) -> Slice:
    return Slice(group, name, figures_of(days, among))


# ---- what is written -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ArmResult:
    """Hold what one arm brought; twin: the arm with the same account that ran in its place."""

    arm: StressArm
    figures: Figures
    fills: int
    capacity: Capacity = UNMEASURED  # by the arm's own fills
    twin: str = ""


@dataclass(frozen=True, slots=True)
class StressReport:
    """Hold the whole campaign; nothing in it depends on when, where or how it was run."""

    strategy: str
    first_ms: int
    last_ms: int
    symbols: tuple[str, ...]
    data_fingerprint: str
    configuration: Mapping[str, object]
    caveats: tuple[str, ...]
    arms: tuple[ArmResult, ...]
    parts: Parts


def stress_values(report: StressReport) -> dict[str, object]:
    """Give the report as plain values in a fixed order; what is not defined is None."""
    return {
        "schema": SCHEMA,
        "strategy": report.strategy,
        "period": {"first": iso(report.first_ms), "last": iso(report.last_ms)},
        "symbols": list(report.symbols),
        "data_fingerprint": report.data_fingerprint,
        "configuration": report.configuration,
        "caveats": list(report.caveats),
        "capacity_means": CAPACITY_MEANS,
        "arms": [
            {
                "group": one.arm.group,
                "name": one.arm.name,
                "one_way_bps": one.arm.account.one_way_bps,
                "account": {**asdict(one.arm.account), "cash": str(one.arm.account.cash)},
                "same_as": one.twin or None,
                "fills": one.fills,
                "capacity": _room(one.capacity),
                "figures": _plain(one.figures),
            }
            for one in report.arms
        ],
        "slices": [
            {"group": one.group, "name": one.name, "figures": _plain(one.figures)}
            for one in report.parts.slices
        ],
        "boundaries": {name: list(at) for name, at in sorted(report.parts.boundaries.items())},
    }


def stress_json(report: StressReport) -> str:
    """Write the report as JSON text; equal campaigns give equal bytes."""
    return json.dumps(stress_values(report), indent=1, allow_nan=False) + "\n"


def stress_csv(report: StressReport) -> str:
    """Write a row for every arm and slice; a figure that is not defined is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [field.name for field in fields(Figures)]
    writer.writerow(["part", "group", "name", *names])
    rows: Sequence[tuple[str, str, str, Figures]] = [
        *(("arm", one.arm.group, one.arm.name, one.figures) for one in report.arms),
        *(("slice", one.group, one.name, one.figures) for one in report.parts.slices),
    ]
    for part, group, name, figures in rows:
        plain = _plain(figures)
        writer.writerow([part, group, name, *(_cell(plain[one]) for one in names)])
    return out.getvalue()


def _room(found: Capacity) -> dict[str, float | str | None]:
    numbers = {"equity": found.equity, "unfilled": found.unfilled, "impact": found.impact}
    known = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
    return {**known, "why": found.why}


def _plain(figures: Figures) -> dict[str, float | int | None]:
    return {name: value if math.isfinite(value) else None for name, value in _named(figures)}


def _named(figures: Figures) -> Iterator[tuple[str, float | int]]:
    for field in fields(Figures):
        yield field.name, getattr(figures, field.name)


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)
