"""Settings of the exchanges: which they are, and the bounds of their feeds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from daemon.settings.fields import Accepts, Section, Symbols, setting

_CREDENTIALS = {"apikey", "secret", "password", "privatekey", "walletaddress", "token", "twofa"}


def _without_credentials(options: dict[str, Any]) -> dict[str, Any]:
    found = [name for name in options if name.lower() in _CREDENTIALS]
    if found:
        raise ValueError(f"{found[0]} is a credential and must not stand in settings")
    return options


Options = Annotated[
    dict[str, Any],
    AfterValidator(_without_credentials),
    Accepts("a table of ccxt constructor options, without credentials", is_text=False),
]


class OtherExchange(Section):
    """Name a further venue whose perpetuals the same book trades."""

    id: str = setting(..., "A ccxt exchange id.", pattern=r"^[a-z0-9_]{1,40}$")
    symbols: Symbols = setting(
        ..., "Unified or venue symbols there, or top:N; their columns follow those before."
    )
    spare: int = setting(
        0,
        "Columns that a new book keeps free for contracts listed there later.",
        unit="columns",
        ge=0,
        le=64,
    )
    options: Options = setting({}, "Passed to the ccxt constructor as it is.")


class ExchangeSettings(Section):
    """Say which exchange is spoken to, through ccxt."""

    id: str = setting("binanceusdm", "A ccxt exchange id.", pattern=r"^[a-z0-9_]{1,40}$")
    options: Options = setting(
        {}, "Passed to the ccxt constructor as it is: urls, proxies, options, timeout..."
    )
    market_time: Literal["venue", "system", "lockstep"] = setting(
        "venue", "Where market time comes from: the venue's server time, this machine, lock-step."
    )
    lockstep_url: str = setting(
        "",
        "Address of the lock-step of a rehearsal exchange; needed for market_time lockstep.",
        pattern=r"^$|^https?://",
    )
    others: tuple[OtherExchange, ...] = setting(
        (), "Further venues of the same book, each with an account, sockets and budget of its own."
    )
    streams: bool = setting(True, "Use WebSocket streams; without them bars are asked for by REST.")
    stream_patience_s: float = setting(
        3.0,
        "Bars that the stream did not prove so long after their close are read by REST.",
        unit="seconds",
        gt=0,
        le=3600,
    )
    stream_silence_s: float = setting(
        120.0,
        "Sockets that say nothing for so long, in wall and market time, are replaced.",
        unit="seconds",
        ge=5,
        le=3600,
    )
    stream_deadline_bars: int = setting(
        2,
        "A stream that fails to show so many bars in a row of one traded instrument is replaced.",
        unit="source bars",
        ge=1,
        le=20,
    )
    reread_patience_s: float = setting(
        3.0,
        "An answer of REST that hangs for so long no longer holds the other bars back.",
        unit="seconds",
        gt=0,
        le=60,
    )
    socket_age_max_h: float = setting(
        12.0,
        "Sockets are replaced at this age, in the middle of a bar.",
        unit="hours",
        gt=0,
        le=720,
    )
    breaks_per_hour_max: int = setting(
        20, "More broken connections within an hour raise an alert.", unit="breaks", ge=1, le=3600
    )
    venue_down_s: float = setting(
        30.0, "A venue that does not answer for so long raises an alert.", unit="seconds", gt=0
    )
    clock_offset_max_ms: float = setting(
        1000.0,
        "While this machine's clock is further from the venue's, no risk is opened there; 0 never "
        "asks. A rehearsal, whose time is its own, is not asked.",
        unit="ms",
        ge=0,
        le=600_000,
    )
    clock_offset_every_s: float = setting(
        60.0,
        "How often that is measured; five times as long without an answer, and no risk is opened.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    standstill_s: float = setting(
        20.0,
        "A gap in this machine's clocks that means that it slept: sockets are replaced.",
        unit="seconds",
        ge=5,
        le=3600,
    )
    recheck_s: float = setting(
        5.0,
        "How often bars that the venue said it does not have are asked for again.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    late_max_h: float = setting(
        6.0, "For how long that is done, in market time.", unit="hours", gt=0, le=24
    )
    audit_every_bars: int = setting(
        8,
        "How often the newest final bars are read again to find revisions; 0 never.",
        unit="source bars",
        ge=0,
        le=1000,
    )
    audit_bars: int = setting(
        48, "How many bars an audit reads again.", unit="source bars", ge=1, le=500
    )
    markets_every_min: float = setting(
        15.0,
        "How often trading rules, halts and announced ends are read, in market time; 0 never.",
        unit="minutes",
        ge=0,
        le=1440,
    )
    generated: bool = setting(
        False, "The venue's market is generated, so that models trained on one may trade here."
    )
