"""Settings that bound the book and every order. 0 switches a limit off where it says so."""

from __future__ import annotations

from daemon.settings.fields import Section, setting


class RiskSettings(Section):
    """Bound the book; every order is checked against this before it leaves."""

    gross_weight_max: float = setting(
        2.0, "Sum of absolute weights.", unit="fraction of equity", gt=0, le=20
    )
    net_weight_max: float = setting(
        0.05,
        "Absolute net weight, counting open orders at their worst case.",
        unit="fraction of equity",
        gt=0,
        le=20,
    )
    name_weight_max: float = setting(
        0.5, "Absolute weight of one instrument.", unit="fraction of equity", gt=0, le=20
    )
    order_weight_max: float = setting(
        0.10, "Largest single order.", unit="fraction of equity", gt=0, le=20
    )
    orders_open_max: int = setting(
        500, "Orders that may be open at once.", unit="orders", ge=1, le=10_000
    )
    uncertain_queries_max: int = setting(
        5, "Questions about an unanswered order before trading halts.", unit="queries", ge=1, le=100
    )
    mark_age_bars_max: int = setting(
        8,
        "An instrument whose price is older is not traded.",
        unit="source bars",
        ge=1,
        le=1000,
    )
    stale_decisions_max: int = setting(
        2,
        "Decisions in a row without a usable forecast after which the book only reduces, until one "
        "comes.",
        unit="decisions",
        ge=0,
        le=1000,
    )
    beta_weight_max: float = setting(
        0.0,
        "Absolute sum of weight times beta to the equal-weight market, counting open orders at "
        "their worst case; 0 knows no bound. It suits strategies that build beta-neutral books.",
        unit="fraction of equity",
        ge=0,
        le=20,
    )
    venue_weight_max: float = setting(
        0.0,
        "Sum of absolute weights at one venue, counting open orders at their worst case; 0 knows "
        "no bound.",
        unit="fraction of equity",
        ge=0,
        le=20,
    )
    collar_bps: float = setting(
        0.0,
        "No order leaves whose limit or reference price is further from the mark; 0 knows no "
        "bound.",
        unit="bps of price",
        ge=0,
        le=10_000,
    )
    orders_minute_max: int = setting(
        0,
        "Orders that may leave within any minute of market time, the others wait; 0 knows no "
        "bound. A backtest has no time between bars, so that they wait there for the next one.",
        unit="orders",
        ge=0,
        le=100_000,
    )
    day_loss_max: float = setting(
        0.0,
        "A loss since the start of the UTC day beyond which nothing is opened until the next day "
        "or a resume; 0 knows no bound.",
        unit="fraction of equity",
        ge=0,
        lt=1,
    )
    drawdown_max: float = setting(
        0.0,
        "A loss from the highest equity at which trading halts until a resume, which measures "
        "anew; 0 knows no bound.",
        unit="fraction of equity",
        ge=0,
        lt=1,
    )
    margin_ratio_max: float = setting(
        0.0,
        "Maintenance margin over margin balance at a venue, as it last told, beyond which nothing "
        "is opened there; 0 knows no bound.",
        unit="ratio",
        ge=0,
        le=1,
    )
