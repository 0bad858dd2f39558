"""Settings of how a decision's orders meet the market."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator

from daemon.settings.fields import Accepts, Section, setting


def _bases(names: tuple[str, ...]) -> tuple[str, ...]:
    wrong = [name for name in names if not name.isalnum() or name != name.upper()]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no base currency")
    if len(set(names)) != len(names):
        raise ValueError("a base currency is named twice")
    return names


Bases = Annotated[
    tuple[str, ...],
    AfterValidator(_bases),
    Accepts('a list of base currencies in capitals, as ["BTC"]', is_text=False),
]


class ExecutionSettings(Section):
    """Say how the orders of a decision meet the market."""

    style: Literal["cross", "passive"] = setting(
        "cross", "Market orders at once, or post-only limits first and market orders for the rest."
    )
    passive_s: float = setting(
        60.0,
        "How long a passive order rests, in market time, before the rest of it crosses. A backtest "
        "has no time between bars: there it is the next one.",
        unit="seconds",
        ge=1,
        le=86_400,
    )
    passive_offset_bps: float = setting(
        0.0,
        "Distance of a passive order from the reference price, on our own side.",
        unit="bps of price",
        ge=0,
        le=1000,
    )
    twap_window_s: float = setting(
        0.0,
        "Time over which a decision is spread, in market time; needs twap_slices_n.",
        unit="seconds",
        ge=0,
        le=86_400,
    )
    twap_slices_n: int = setting(
        1, "Slices in that time; 1 sends all at once.", unit="slices", ge=1, le=1000
    )
    hedge_symbols: Bases = setting(
        ("BTC", "ETH"),
        "Bases, most liquid first, that hedge what the partners of a refused leg cannot give back.",
    )
    mends_max: int = setting(
        3,
        "How often a decision may add orders because a leg was refused for good; 0 never hedges.",
        unit="times",
        ge=0,
        le=20,
    )
    cost_feedback: bool = setting(
        False, "Show strategies the measured cost of fills, once there are enough, in their bands."
    )
