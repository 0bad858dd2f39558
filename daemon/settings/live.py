"""Settings of live trading: real orders on a real account."""

from __future__ import annotations

from typing import Literal

from daemon.settings.fields import Section, setting


class LiveSettings(Section):
    """Say how orders with real money are sent; only `trade --live` reads this."""

    account: str = setting(
        "",
        "Name of the account that the key must open; a start without it says the name.",
        pattern=r"^$|^[a-z0-9]+-[0-9a-f]{12}$",
    )
    key_file: str = setting(
        "",
        "Private file (0600) with api_key and secret, JSON or TOML; empty takes the environment: "
        "EQUIPOISE_<VENUE>_API_KEY, ..._SECRET, ..._PASSPHRASE.",
    )
    leverage: int = setting(
        5, "Leverage that is set and verified for every contract.", unit="times", ge=1, le=125
    )
    receive_window_ms: int = setting(
        5_000,
        "A signed request that reaches the venue later is refused there; so long an unanswered "
        "order may still arrive.",
        unit="ms",
        ge=100,
        le=60_000,
    )
    parallel_orders: int = setting(
        4, "Orders that are being sent at once.", unit="orders", ge=1, le=50
    )
    follow_up_s: float = setting(
        5.0,
        "An order whose end was not told so long after its last news is asked about by REST.",
        unit="seconds",
        gt=0,
        le=3600,
    )
    reconcile_s: float = setting(
        300.0,
        "The account is read by REST and compared with the book so often.",
        unit="seconds",
        ge=5,
        le=86_400,
    )
    unread_max_s: float = setting(
        600.0,
        "An account that cannot be read for so long halts trading; until then it is asked again "
        "and nothing is opened.",
        unit="seconds of market time",
        ge=5,
        le=86_400,
    )
    stream_silence_s: float = setting(
        900.0,
        "After so much silence the private stream is dialled anew and the account is read.",
        unit="seconds",
        ge=5,
        le=3600,
    )
    listen_key_s: float = setting(
        1200.0,
        "The key of the private stream is renewed so often, where the venue has one.",
        unit="seconds",
        ge=1,
        le=3000,
    )
    clock_every_s: float = setting(
        60.0,
        "The venue's clock, with which requests are signed, is measured so often.",
        unit="seconds",
        ge=1,
        le=3600,
    )
    dead_man_s: float = setting(
        120.0,
        "Timer at the venue that cancels what rests once the daemon was silent for so long; "
        "renewed at half of it; 0 is off. It takes orders of the owner with it.",
        unit="seconds",
        ge=0,
        le=86_400,
    )
    open_orders: Literal["cancel_ours", "cancel_all", "count", "refuse"] = setting(
        "cancel_ours",
        "Orders that rest at the start and are not in the journal: cancel those with our names and "
        "refuse to start beside others, cancel all, cancel ours and start beside others, which "
        "count in the exposure, or refuse to start.",
    )
    foreign: Literal["adopt", "flatten", "halt"] = setting(
        "halt",
        "What the account holds and the daemon did not bring about, at a start, after a reconnect "
        "or while trading: trade on from it, close what was added and cancel orders that are not "
        "ours, or halt until a resume.",
    )
