"""Race strategies and rebalance policies under identical conditions, at several costs.

Every arm is the configured backtest with another strategy or another policy: same bars, same
instruments, same gross, caps, limits and paper account. The table says what forecasts add over
conventional market-neutral rules, and what adaptive bands add over the others.

    blend       mean of the daily returns of the conventional arms: an account for each, of equal
                size. Costs are those that each of them paid.
    tuned       the fixed band with the best net Sharpe ratio over the first half of the days at
                JUDGED_BPS; it is judged on the second half, and at other costs as it is.

Verdicts, by rules that were fixed before any run; differences are of annual net Sharpe ratios with
the interval of Ledoit and Wolf (2008), paired by day:

H1  forecasts earn more than conventional rules: *support* where the interval of (the forecasting
    strategy less the blend) at JUDGED_BPS lies above 0, *refuted* where it ends below WORTH;
    otherwise *no evidence*.
H4  adaptive bands are as good as the tuned fixed one, and need no tuning: *support* where over the
    second half the interval of (cube root less tuned) begins above -WORTH at every cost, *refuted*
    where it ends below 0 at JUDGED_BPS, however little is traded; otherwise *no evidence*.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from daemon.domain.units import DAY_MS, iso
from daemon.report.market_links import MarketLink, market_link
from daemon.report.metrics import YEAR_DAYS, sharpe_with_interval
from daemon.research.stress import Days, Figures
from daemon.statistics.multiple_comparison import model_confidence_set
from daemon.statistics.sharpe_inference import SharpeDifference, sharpe_difference

Floats = npt.NDArray[np.float64]

SCHEMA: Final = 2
COSTS_BPS: Final = (3.0, 5.0, 7.0, 10.0)
JUDGED_BPS: Final = 7.0
WORTH: Final = 0.2  # of an annual Sharpe ratio: less is not worth the trouble
CONFIDENCE: Final = 0.90  # of the set of the best
BLEND: Final = "blend"
PAID_BPS: Final = "paid_bps"  # of traded notional, impact and all, beside nominal_bps


class Role(StrEnum):
    """Say what an arm is there for."""

    FORECASTS = "forecasts"  # strategies that trade on a model's forecasts
    CONVENTIONAL = "conventional"
    POLICY = "policy"  # other ways to rebalance the first strategy of FORECASTS
    FIXED = "fixed"  # fixed bands, from which the tuned one is chosen


@dataclass(frozen=True)
class RaceArm:
    """Name a strategy with parameters that lie on top of the configured ones."""

    name: str
    role: Role
    strategy: str
    parameters: Mapping[str, object] = field(default_factory=dict)
    needs_forecasts: bool = False
    needs_funding: bool = False


@dataclass(frozen=True)
class Absent:
    """Name an arm that cannot be run here, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class Lap:
    """Hold what one arm brought at one cost.

    nominal_bps: one-way, before impact, as the account is set; figures.cost_bps is what was paid.
    """

    arm: RaceArm
    nominal_bps: float
    days: Days
    figures: Figures
    fills: int
    btc: MarketLink


@dataclass(frozen=True)
class Verdict:
    """Hold the finding on one claim and why, in plain words."""

    claim: str
    text: str
    finding: str
    why: str


@dataclass(frozen=True)
class Race:
    """Hold the whole campaign; nothing in it depends on when, where or how fast it was run."""

    first_ms: int
    last_ms: int
    symbols: tuple[str, ...]
    data_fingerprint: str
    forecasts: str
    caveats: tuple[str, ...]
    laps: tuple[Lap, ...]
    absent: tuple[Absent, ...]
    seed: int


def returns_of(race: Race, name: str, cost_bps: float) -> Floats | None:
    """Give the daily net returns (D,) of an arm at a cost, those of the blend as well."""
    if name == BLEND:
        rows = [
            lap.days.returns
            for lap in race.laps
            if lap.arm.role is Role.CONVENTIONAL and lap.nominal_bps == cost_bps
        ]
        return np.asarray(np.mean(rows, axis=0)) if rows else None
    for lap in race.laps:
        if lap.arm.name == name and lap.nominal_bps == cost_bps:
            return lap.days.returns
    return None


def blend_link(race: Race, cost_bps: float, btc: Floats) -> MarketLink | None:
    """Link the blend to bitcoin as every arm is; btc: its daily returns (D,)."""
    returns = returns_of(race, BLEND, cost_bps)
    return None if returns is None else market_link("BTC", returns, btc)


def tuned_band(race: Race) -> str | None:
    """Name the fixed band that was best over the first half at JUDGED_BPS; None without any."""
    ratios: dict[str, float] = {}
    for lap in race.laps:
        if lap.arm.role is Role.FIXED and lap.nominal_bps == JUDGED_BPS:
            half = lap.days.returns[: len(lap.days.returns) // 2]
            ratios[lap.arm.name] = sharpe_with_interval(half)[0]
    known = {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}
    return max(known, key=lambda name: known[name]) if known else None


def difference(
    race: Race, first: str, second: str, cost_bps: float, *, second_half: bool = False
) -> SharpeDifference | None:
    """Compare two arms' net Sharpe ratios, per day; None where one of them is not there."""
    a, b = returns_of(race, first, cost_bps), returns_of(race, second, cost_bps)
    if a is None or b is None:
        return None
    if second_half:
        a, b = a[len(a) // 2 :], b[len(b) // 2 :]
    found = sharpe_difference(a, b, seed=race.seed)
    return None if math.isnan(found.difference) else found


def beside_first(race: Race) -> list[dict[str, object]]:
    """Give each other arm, and the blend, less the first of FORECASTS at each cost.

    Differences of annual net Sharpe ratios with 95 % intervals; what is not defined is absent.
    """
    names = list(dict.fromkeys(lap.arm.name for lap in race.laps))
    first = next((lap.arm.name for lap in race.laps if lap.arm.role is Role.FORECASTS), None)
    rows: list[dict[str, object]] = []
    for bps in race_costs(race) if first is not None else ():
        for name in (*(one for one in names if one != first), BLEND):
            found = difference(race, name, str(first), bps)
            if found is not None:
                year = _year()
                low, high = found.low * year, found.high * year
                about = {"arm": name, "less": first, "nominal_bps": bps}
                rows.append({**about, "sharpe": found.difference * year, "low": low, "high": high})
    return rows


def verdicts(race: Race) -> tuple[Verdict, ...]:
    """Judge the claims by the rules of the module."""
    return (_h1(race), _h4(race))


def in_the_set(race: Race, cost_bps: float) -> tuple[str, ...]:
    """Name the arms of the model confidence set of minus the daily net return at a cost.

    Returns are scaled to one volatility first, so that a small book is not taken for a safe one.
    """
    names, rows = [], []
    for lap in race.laps:
        spread = float(lap.days.returns.std())
        if lap.nominal_bps == cost_bps and spread > 0:
            names.append(lap.arm.name)
            rows.append(-lap.days.returns / spread)
    if len(rows) < 2:
        return tuple(names)
    found = model_confidence_set(np.column_stack(rows), seed=race.seed)
    return tuple(names[k] for k in found.members(1.0 - CONFIDENCE))


def _h1(race: Race) -> Verdict:
    claim, text = "H1", "forecasts earn more than conventional market-neutral rules"
    first = next((lap.arm.name for lap in race.laps if lap.arm.role is Role.FORECASTS), None)
    found = None if first is None else difference(race, first, BLEND, JUDGED_BPS)
    if found is None:
        return Verdict(claim, text, "not tested", "no forecasts, or no conventional arm, traded")
    said = f"{first} less the blend at {JUDGED_BPS:g} bps: {_annual(found)}"
    if found.low > 0:
        return Verdict(claim, text, "support", said)
    if found.high * _year() < WORTH:
        return Verdict(claim, text, "refuted", said)
    return Verdict(claim, text, "no evidence", said)


def _h4(race: Race) -> Verdict:
    claim, text = "H4", "adaptive bands do as well as a tuned fixed one, at any cost, untuned"
    adaptive = next((lap.arm.name for lap in race.laps if lap.arm.role is Role.FORECASTS), None)
    tuned = tuned_band(race)
    if adaptive is None or tuned is None:
        return Verdict(claim, text, "not tested", "no forecasts, or no fixed band, traded")
    found = {
        bps: difference(race, adaptive, tuned, bps, second_half=True) for bps in race_costs(race)
    }
    known = {bps: one for bps, one in found.items() if one is not None}
    if JUDGED_BPS not in known:
        return Verdict(claim, text, "not tested", f"{tuned} or {adaptive} did not trade")
    said = f"{adaptive} less {tuned}, second half: " + "; ".join(
        f"{bps:g} bps {_annual(one)}" for bps, one in known.items()
    )
    if known[JUDGED_BPS].high < 0:
        return Verdict(claim, text, "refuted", said)
    if len(known) == len(found) and all(one.low * _year() > -WORTH for one in known.values()):
        return Verdict(claim, text, "support", said)
    return Verdict(claim, text, "no evidence", said)


def race_costs(race: Race) -> list[float]:
    """List the costs of the race, rising."""
    return sorted({lap.nominal_bps for lap in race.laps})


def _annual(found: SharpeDifference) -> str:
    year = _year()
    return f"{found.difference * year:+.2f} ({found.low * year:+.2f} to {found.high * year:+.2f})"


def _year() -> float:
    return math.sqrt(YEAR_DAYS)


# ---- what is written -----------------------------------------------------------------------------


def race_values(race: Race) -> dict[str, object]:
    """Give the race as plain values in a fixed order; what is not defined is None."""
    blends = []
    for bps in race_costs(race):
        returns = returns_of(race, BLEND, bps)
        if returns is not None:
            ratio, low, high = sharpe_with_interval(returns)
            blends.append(
                {
                    "nominal_bps": bps,
                    "sharpe": _known(ratio),
                    "low": _known(low),
                    "high": _known(high),
                }
            )
    return {
        "schema": SCHEMA,
        "period": {"first": iso(race.first_ms), "last": iso(race.last_ms)},
        "symbols": list(race.symbols),
        "data_fingerprint": race.data_fingerprint,
        "forecasts": race.forecasts,
        "caveats": list(race.caveats),
        "laps": [
            {
                "arm": lap.arm.name,
                "role": str(lap.arm.role),
                "strategy": lap.arm.strategy,
                "parameters": dict(lap.arm.parameters),
                "nominal_bps": lap.nominal_bps,
                "fills": lap.fills,
                **{name: _known(value) for name, value in _figures(lap)},
            }
            for lap in race.laps
        ],
        BLEND: blends,
        "beside": beside_first(race),
        "confidence_sets": {f"{bps:g}": list(in_the_set(race, bps)) for bps in race_costs(race)},
        "tuned": tuned_band(race),
        "verdicts": [asdict(verdict) for verdict in verdicts(race)],
        "absent": [asdict(one) for one in race.absent],
    }


def race_json(race: Race) -> str:
    """Write the race as JSON text; equal races give equal bytes."""
    return json.dumps(race_values(race), indent=1, allow_nan=False) + "\n"


def race_csv(race: Race) -> str:
    """Write a row for every arm and cost; a figure that is not defined is an empty field."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    heads: Sequence[str] = ()
    for lap in race.laps:
        named = _figures(lap)
        if not heads:
            heads = ["arm", "role", "nominal_bps", "fills", *(name for name, _ in named)]
            writer.writerow(heads)
        cells = ("" if _known(value) is None else repr(value) for _, value in named)
        writer.writerow([lap.arm.name, str(lap.arm.role), lap.nominal_bps, lap.fills, *cells])
    return out.getvalue()


def race_days_csv(race: Race) -> str:
    """Write a row for every UTC day of the race: the net return of each arm at each cost.

    Of all laps, which have the same days; columns are called `arm @ bps`.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["day", *(f"{lap.arm.name} @ {lap.nominal_bps:g}" for lap in race.laps)])
    for at, day in enumerate(race.laps[0].days.days.tolist()):
        named = iso(day * DAY_MS)[:10]
        writer.writerow([named, *(repr(float(lap.days.returns[at])) for lap in race.laps)])
    return out.getvalue()


def _figures(lap: Lap) -> list[tuple[str, float]]:
    beta, down = lap.btc.beta, lap.btc.beta_down
    return [
        *(
            (
                PAID_BPS if one.name == "cost_bps" else one.name,
                float(getattr(lap.figures, one.name)),
            )
            for one in fields(lap.figures)
        ),
        ("correlation_btc", lap.btc.correlation),
        ("beta_btc", beta.beta),
        ("beta_btc_low", beta.low),
        ("beta_btc_high", beta.high),
        ("beta_btc_down", down.beta),
        ("beta_btc_down_low", down.low),
        ("beta_btc_down_high", down.high),
    ]


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
